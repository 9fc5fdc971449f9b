"""Ablation of a class's channels: closed forms, brute force, and nulls that are null."""

import csv
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import make_run
from PIL import Image
from rich.console import Console
from runs import compute, config
from torch import Tensor, nn
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.jobs.tables.printed import cell
from extremal.pipeline.ablate import AblationSettings, Channels, _outputs, _rows, ablate_run
from extremal.pipeline.aggregates.ablation import ABLATION_PAIRS, Ablation, ablation_table
from extremal.pipeline.aggregates.class_channels import class_sums
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.progress import ProgressReport
from extremal.storage import Run, kinds
from extremal.storage.folder import open_root
from extremal.workers.extremal.ablation import (
    STRATA,
    Ablated,
    Subject,
    ablate,
    channel_energies,
    matched_sets,
    random_sets,
)
from extremal.workers.images import Preprocess
from extremal.workers.networks.cut import split_network
from extremal.workers.networks.network import Network, load_network

CHANNELS, CLASSES = 6, 4
NO_OTHERS = np.zeros(0, np.int64)


class Wired(nn.Module):
    """Channels of 1x1 filters, means over space, then a layer of given weights (classes, channels)."""

    def __init__(self, weights: Tensor, nonlinear: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.features = nn.Conv2d(3, weights.shape[1], 1)
        self.fc = nn.Linear(weights.shape[1], len(weights))
        self.fc.weight.data.copy_(weights)
        self.nonlinear = nonlinear

    def of_features(self, features: Tensor) -> Tensor:
        means = features.mean((2, 3))
        return self.fc(means.sigmoid() if self.nonlinear else means)

    def forward(self, x: Tensor) -> Tensor:
        return self.of_features(self.features(x))


def network(module: nn.Module) -> Network:
    preprocess = Preprocess(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Network("wired", module.eval().requires_grad_(False), preprocess, None, "f" * 64)


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def subject(target: int = 0, seed: int = 0, k: int = 2, others: Any = (1, 2, 3), **chosen: Any) -> Subject:
    sets = {name: np.array(channels) for name, channels in chosen.items()} or {"raw": np.arange(k)}
    return Subject(target, np.array(others, np.int64), sets, seed)


def run_kernel(module: Wired, x: Tensor, subjects: list[Subject], draws: int = 8) -> list[Ablated]:
    return ablate(split_network(network(module), "features"), x, subjects, draws)


# ---- the kernel -------------------------------------------------------------------------------


def test_a_class_wired_to_a_channel_loses_exactly_what_it_brings() -> None:
    """Logit of class c = 2 (c + 1) x the mean of channel c: its removal takes that, and nothing of others."""
    weights = torch.zeros(CLASSES, CHANNELS)
    weights[range(CLASSES), range(CLASSES)] = 2.0 * torch.arange(1, CLASSES + 1)
    module, x = Wired(weights), images(CLASSES)
    others = [[d for d in range(CLASSES) if d != c] for c in range(CLASSES)]
    subjects = [subject(c, others=others[c], raw=[c], specific=[5]) for c in range(CLASSES)]
    means = module.features(x).mean((2, 3))
    for c, one in enumerate(run_kernel(module, x, subjects)):
        brought = (2.0 * (c + 1) * means[c, c]).item()
        assert one.chosen["raw"].own.tolist() == pytest.approx([brought], abs=1e-5)
        assert one.chosen["raw"].others.tolist() == pytest.approx([0], abs=1e-5)
        assert one.chosen["specific"].own.tolist() == pytest.approx([0], abs=1e-5)
        assert one.full == pytest.approx(module(x)[c, c].item(), abs=1e-5)


def test_drops_are_those_of_activations_set_to_zero_by_hand() -> None:
    module, x = Wired(torch.randn(CLASSES, CHANNELS), nonlinear=True), images(3)
    features, full = module.features(x), module(x)
    drops: dict[int, dict[tuple[int, ...], tuple[float, float]]] = {}
    for i in range(3):
        drops[i] = {}
        for gone in combinations(range(CHANNELS), 2):
            without = features[i : i + 1].clone()
            without[:, gone] = 0
            drop = full[i] - module.of_features(without)[0]
            drops[i][gone] = drop[i].item(), drop[[j for j in range(CLASSES) if j != i]].mean().item()
    others = [[j for j in range(CLASSES) if j != i] for i in range(3)]
    subjects = [subject(i, seed=i, others=others[i], raw=[4, 1], specific=[0, 5]) for i in range(3)]
    for i, one in enumerate(run_kernel(module, x, subjects, draws=200)):
        for name, gone in (("raw", (1, 4)), ("specific", (0, 5))):
            found = one.chosen[name]
            assert (found.own[0], found.others[0]) == pytest.approx(drops[i][gone], abs=1e-5)
        # Each random set is one of the fifteen, own and others of the same; 200 draws meet them all.
        possible = np.array(list(drops[i].values()))
        drawn = np.stack([one.random.own, one.random.others], 1)
        distance = np.abs(drawn[:, None] - possible).max(2)
        assert distance.min(1).max() < 1e-5
        assert len(set(distance.argmin(1))) == len(possible)


def test_eight_together_are_eight_alone_and_the_seed_decides() -> None:
    module, x = Wired(torch.randn(CLASSES, CHANNELS), nonlinear=True), images(8)
    subjects = [subject(i % CLASSES, seed=i, raw=[i % 5, 5], specific=[0, 1]) for i in range(8)]
    together = run_kernel(module, x, subjects)
    alone = [run_kernel(module, x[i : i + 1], [one])[0] for i, one in enumerate(subjects)]
    again = run_kernel(module, x, subjects)
    other = run_kernel(module, x, [replace(one, seed=one.seed + 100) for one in subjects])
    for one, single, same, else_ in zip(together, alone, again, other, strict=True):
        pairs = [(one.random, single.random)]
        pairs += [(one.chosen[name], single.chosen[name]) for name in ("raw", "specific")]
        pairs += [(one.matched[name], single.matched[name]) for name in ("raw", "specific")]
        for a, b in pairs:
            np.testing.assert_allclose(a.own, b.own, atol=1e-6)
            np.testing.assert_allclose(a.others, b.others, atol=1e-6)
        np.testing.assert_array_equal(one.random.own, same.random.own)
        np.testing.assert_array_equal(one.matched["raw"].others, same.matched["raw"].others)
        assert (one.random.own != else_.random.own).any()
        np.testing.assert_allclose(one.chosen["raw"].own, else_.chosen["raw"].own, atol=1e-6)


def test_random_sets_are_distinct_channels_each_as_likely() -> None:
    sets = random_sets(10, 3, 6000, np.random.default_rng(0))
    assert sets.shape == (6000, 3)
    assert (np.sort(sets, 1)[:, 1:] != np.sort(sets, 1)[:, :-1]).all()
    # A channel is in 1800 of them, give or take 36 (binomial).
    assert np.abs(np.bincount(sets.ravel(), minlength=10) - 1800).max() < 5 * 36


def test_matched_sets_have_the_strata_of_the_chosen_ones() -> None:
    rng = np.random.default_rng(0)
    energy = rng.permutation(50) * 1.0
    chosen = np.flatnonzero(energy >= 43)[:4]
    chosen = np.append(chosen, np.flatnonzero(energy == 2))
    stratum = (energy // (50 / STRATA)).astype(int)
    sets = matched_sets(energy, chosen, 300, rng)
    wanted = np.bincount(stratum[chosen], minlength=STRATA)
    for one in sets:
        assert len(set(one)) == len(chosen)
        np.testing.assert_array_equal(np.bincount(stratum[one], minlength=STRATA), wanted)
    assert set(sets.ravel()) == set(np.flatnonzero(np.isin(stratum, stratum[chosen])))


def test_energies_whatever_the_place_of_the_channels() -> None:
    value = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = (value**2).sum((2, 3))
    torch.testing.assert_close(channel_energies(value, 1), expected)
    torch.testing.assert_close(channel_energies(value.permute(0, 2, 3, 1), 3), expected)


def test_without_other_classes_there_is_no_other_drop() -> None:
    (one,) = run_kernel(Wired(torch.randn(CLASSES, CHANNELS)), images(1), [subject(others=NO_OTHERS)])
    assert np.isnan(one.chosen["raw"].others).all()
    assert np.isfinite(one.random.own).all()


def test_as_many_channels_as_there_are_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        run_kernel(Wired(torch.randn(CLASSES, CHANNELS)), images(1), [subject(k=CHANNELS)])


# ---- nulls that are null ----------------------------------------------------------------------


def table_of(results: list[Ablated], draws: int) -> dict[str, Any]:
    """The row of all pairs for the choice `raw`."""
    rows = [
        {
            "pair": i, "image_id": f"image{i}", "class_id": 0, "class_name": "c", "target": 0,
            "choice": "raw", "channels": [0], "score_full": one.full, "n_others": 3,
            "drop_own": one.chosen["raw"].own[0],
            "drop_others": one.chosen["raw"].others[0], "random_own": one.random.own,
            "random_others": one.random.others, "matched_own": one.matched["raw"].own,
            "matched_others": one.matched["raw"].others,
        }
        for i, one in enumerate(results)
    ]  # fmt: skip
    found = Ablation(pa.Table.from_pylist(rows, schema=ABLATION_PAIRS))
    return dict(ablation_table(found, 2, draws).to_pylist()[0])


def test_on_a_symmetric_network_every_set_is_as_good() -> None:
    """Equal channels with equal weights: the draws all tie with the chosen ones, so p is 1."""
    module = Wired(torch.ones(CLASSES, CHANNELS))
    module.features.weight.data[:] = module.features.weight.data[:1].clone()
    module.features.bias.data[:] = 1.0
    row = table_of(run_kernel(module, images(5), [subject(seed=i) for i in range(5)], 19), 19)
    assert row["excess"] == pytest.approx(0, abs=1e-5)
    for null in ("random", "matched"):
        assert row[f"{null}_own"] == pytest.approx(row["drop_own"], rel=1e-5)
        assert (row[f"{null}_own_count"], row[f"{null}_own_p"]) == (19, 1.0)
        assert row[f"{null}_excess_p"] == 1.0


def test_p_is_uniform_for_channels_chosen_at_random() -> None:
    rng = np.random.default_rng(0)
    module = Wired(torch.randn(CLASSES, 40), nonlinear=True)
    chosen = [rng.permutation(40)[:3] for _ in range(200)]
    subjects = [subject(seed=1000 + i, raw=one) for i, one in enumerate(chosen)]
    results = run_kernel(module, images(200), subjects, draws=19)
    for null in ("random", "matched"):
        p = []
        for one in results:
            drawn = one.random if null == "random" else one.matched["raw"]
            p.append((1 + (drawn.own >= one.chosen["raw"].own[0] - 1e-9).sum()) / 20)
        # Uniform on 1/20 ... 1: mean 0.525, sd of the mean of 200 is 0.0204; matched sets tie now and then.
        assert np.mean(p) == pytest.approx(0.525, abs=0.08)
        assert np.mean(np.array(p) <= 0.1) < 0.18


def test_active_channels_beat_random_ones_but_not_ones_as_active() -> None:
    """All channels have one weight, so a drop is activity: the matched null sees it, the random one not."""
    module = Wired(torch.ones(CLASSES, 40))
    module.features.weight.data.zero_()
    module.features.bias.data.copy_(torch.arange(40) // 4 + 1.0)  # ten levels of activity: the strata
    results = run_kernel(module, images(4), [subject(seed=i, raw=[36, 37]) for i in range(4)], 99)
    row = table_of(results, 99)
    assert row["drop_own"] == pytest.approx(20, abs=1e-4)
    assert row["random_own_p"] == 0.01
    assert row["matched_own_p"] == 1.0


# ---- choosing and the table -------------------------------------------------------------------

COUNTS = [1, 3]


def channel_row(pair: int, class_id: int, masks: Any, a_star: int | None, **values: Any) -> dict[str, Any]:
    return {
        "pair": pair, "image_id": f"image{pair}", "path": f"{pair}.png", "class_id": class_id,
        "class_name": f"class {class_id}", "target": class_id, "seed": pair, "layer": "features",
        "counts": COUNTS, "masks_shape": [2, CHANNELS], "masks": np.asarray(masks, np.float16).ravel(),
        "a_star": a_star, **values,
    }  # fmt: skip


def made_rows() -> list[dict[str, Any]]:
    """Classes 0 (5 pairs, one without a*), 1 (4 pairs), 2 (1 pair)."""
    rng = np.random.default_rng(3)
    of_class, stars = [0, 1, 0, 1, 0, 2, 0, 1, 0, 1], [1, 3, 3, 1, None, 1, 1, 1, 3, 3]
    pairs = enumerate(zip(of_class, stars, strict=True))
    return [channel_row(i, c, rng.random((2, CHANNELS)), star) for i, (c, star) in pairs]


def made_run(path: Path) -> Run:
    """Shards of one pair, as make_run plans them."""
    return make_run(path, kinds.CHANNEL, {i: {kinds.CHANNEL: [row]} for i, row in enumerate(made_rows())})


def brute_force(pair: int, k: int) -> dict[str, list[int]]:
    """The channels of a pair's class from scratch, from the masks of all other pairs."""
    masks: dict[int, list[Any]] = {}
    mine = made_rows()[pair]
    for row in made_rows():
        if row["a_star"] is not None and row["pair"] != pair:
            mask = row["masks"].reshape(2, -1)[COUNTS.index(row["a_star"])].astype(np.float64)
            masks.setdefault(row["class_id"], []).append(mask)
    if mine["class_id"] not in masks:
        return {}
    means = {c: np.mean(m, axis=0) for c, m in masks.items()}
    mean = means[mine["class_id"]]
    specific = mean - np.mean(list(means.values()), axis=0)
    return {name: np.argsort(-v)[:k].tolist() for name, v in (("raw", mean), ("specific", specific))}


@pytest.mark.parametrize("k", [1, 2, 4])
def test_channels_are_chosen_without_the_pair(tmp_path: Path, k: int) -> None:
    run = made_run(tmp_path)
    sums = class_sums(run)
    channels = Channels(sums, _outputs(run), k)
    changed = 0
    for pair in range(10):
        table = run.shard_table(pair, kinds.CHANNEL)
        (row,) = _rows(table, sums, run.shard_plan(pair).to_pylist())
        found = {name: list(of) for name, of in channels.chosen(row["key"], row["own"]).items()}
        assert found == brute_force(row["pair"], k)
        changed += found != {name: list(of) for name, of in channels.chosen(row["key"], None).items()}
    assert changed  # the pair's own mask would have decided some
    assert channels.others((0, "class 0")).tolist() == [1, 2]


def test_with_one_class_nothing_is_specific(tmp_path: Path) -> None:
    made = [row for row in made_rows() if row["class_id"] == 0]
    run = make_run(tmp_path, kinds.CHANNEL, {0: {kinds.CHANNEL: made}})
    channels = Channels(class_sums(run), _outputs(run), 2)
    assert set(channels.chosen((0, "class 0"), None)) == {"raw"}
    assert len(channels.others((0, "class 0"))) == 0


def ablated_run(path: Path, draws: int = 9) -> tuple[Run, Network, Ablation]:
    rng = np.random.default_rng(0)
    (path / "images").mkdir(parents=True)
    for i in range(10):
        pixels = rng.integers(256, size=(8, 8 + 2 * (i % 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / "images" / f"{i}.png")
    (path / "images" / "3.png").write_bytes(b"no image")
    run = made_run(path / "run")
    torch.manual_seed(0)
    net = network(Wired(torch.randn(CLASSES, CHANNELS), nonlinear=True))
    split, folder = split_network(net, "features"), open_root(str(path / "images"))
    progress = ProgressReport(10, 0, Console(quiet=True))
    found = ablate_run(run, net, split, folder, AblationSettings(2, draws), progress)
    assert (progress.done, progress.failed) == (10, 1)
    return run, net, found


def test_every_pair_is_ablated_and_what_is_not_is_counted(tmp_path: Path) -> None:
    _, net, found = ablated_run(tmp_path)
    assert found.alone == {(2, "class 2"): 1}
    assert found.failed == {(1, "class 1"): 1}
    assert len(found.errors) == 1
    assert "3.png" in found.errors[0]
    rows = found.pairs.to_pylist()
    assert [row["pair"] for row in rows] == [i for i in (0, 1, 2, 4, 6, 7, 8, 9) for _ in range(2)]
    module: Any = net.module
    for row in rows:
        image = Image.open(tmp_path / "images" / f"{row['pair']}.png").convert("RGB")
        features = module.features(net.preprocess(image)[None])
        full = module.of_features(features)[0]
        assert row["channels"] == brute_force(row["pair"], 2)[row["choice"]]
        features[:, row["channels"]] = 0
        drop = full - module.of_features(features)[0]
        others = [c for c in (0, 1, 2) if c != row["class_id"]]
        assert row["n_others"] == 2
        assert row["drop_own"] == pytest.approx(drop[row["class_id"]].item(), abs=1e-5)
        assert row["drop_others"] == pytest.approx(drop[others].mean().item(), abs=1e-5)
        assert len(row["random_own"]) == len(row["matched_others"]) == 9


def test_the_table_is_means_over_the_pairs(tmp_path: Path) -> None:
    _, _, found = ablated_run(tmp_path)
    pairs = found.pairs.to_pylist()
    table = ablation_table(found, 2, 9).to_pylist()
    names = [(row["class_id"], row["choice"]) for row in table]
    assert names == [(c, choice) for c in (None, 0, 1, 2) for choice in ("raw", "specific")]
    assert [row["n"] for row in table[::2]] == [8, 5, 3, 0]
    assert [row["n_alone"] for row in table[::2]] == [1, 0, 0, 1]
    assert [row["n_failed"] for row in table[::2]] == [1, 0, 1, 0]
    for row in table[:6]:
        mine = [p for p in pairs if p["choice"] == row["choice"] and row["class_id"] in (None, p["class_id"])]
        own = np.array([p["drop_own"] for p in mine])
        excess = own - [p["drop_others"] for p in mine]
        assert row["drop_own"] == pytest.approx(own.mean())
        assert row["excess"] == pytest.approx(excess.mean())
        assert excess.min() <= row["excess_low"] <= row["excess"] <= row["excess_high"] <= excess.max()
        for null in ("random", "matched"):
            drawn = np.mean([p[f"{null}_own"] for p in mine], axis=0)
            over = drawn - np.mean([p[f"{null}_others"] for p in mine], axis=0)
            for name, observed, values in (("own", own, drawn), ("excess", excess, over)):
                mean = observed.mean()
                count = int((values >= mean - 1e-5 * max(1, abs(mean))).sum())  # up to rounding
                assert row[f"{null}_{name}"] == pytest.approx(values.mean())
                assert row[f"{null}_{name}_low"] == pytest.approx(np.percentile(values, 2.5))
                assert row[f"{null}_{name}_count"] == count
                assert row[f"{null}_{name}_p"] == pytest.approx((1 + count) / 10)
    assert table[6]["drop_own"] is None
    assert cell(table[6], "drop_own") == "-"
    assert cell(table[0], "drop_own").endswith("(8)")
    assert cell(table[0], "random_own_p").endswith(f"({table[0]['random_own_count']}/9)")
    assert cell(table[0], "excess").endswith("] (8)")


def test_the_interval_resamples_images_not_pairs() -> None:
    """Two pairs of each of two images, equal within an image: the mean is 0, 1/2 or 1, never between."""
    one = {"class_id": 0, "class_name": "c", "target": 0, "choice": "raw", "channels": [0], "n_others": 1}
    one |= {"score_full": 1.0, "drop_others": 0.0}
    one |= {name: [0.0] for name in ("random_own", "random_others", "matched_own", "matched_others")}
    rows = [{**one, "pair": i, "image_id": "ab"[i // 2], "drop_own": float(i // 2)} for i in range(4)]
    found = Ablation(pa.Table.from_pylist(rows, schema=ABLATION_PAIRS))
    row = ablation_table(found, 1, 1).to_pylist()[0]
    assert (row["excess_low"], row["excess"], row["excess_high"]) == (0, 0.5, 1)


@pytest.mark.parametrize("drop", [0.5, 8.0])
def test_a_draw_counts_up_to_rounding_and_no_further(drop: float) -> None:
    """Rounding is a hundred-thousandth of the drop, or of one logit."""
    one = {"class_id": 0, "class_name": "c", "target": 0, "choice": "raw", "channels": [0], "n_others": 1}
    one |= {"score_full": 1.0, "drop_own": drop, "drop_others": 0.0, "pair": 0, "image_id": "a"}
    slack = 1e-5 * max(1, drop)
    drawn = [drop + slack, drop, drop - 0.9 * slack, drop - 1.1 * slack, 0.0]
    one |= {
        "random_own": drawn,
        "matched_own": drawn,
        "random_others": [0.0] * 5,
        "matched_others": [0.0] * 5,
    }
    row = ablation_table(Ablation(pa.Table.from_pylist([one], schema=ABLATION_PAIRS)), 1, 5).to_pylist()[0]
    assert [row[f"{name}_count"] for name in ("random_own", "random_excess", "matched_excess")] == [3, 3, 3]
    assert row["matched_excess_p"] == pytest.approx(4 / 6)


def test_nothing_ablated_is_a_table_of_counts() -> None:
    found = Ablation(ABLATION_PAIRS.empty_table())
    found.alone[0, "c"] = 2
    table = ablation_table(found, 5, 3).to_pylist()
    assert [(row["n"], row["n_alone"], row["drop_own"]) for row in table] == [(0, 2, None)] * 4


# ---- the command ------------------------------------------------------------------------------

runner = CliRunner()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(root, train=1, test=5)
    made = {"channel": compute(config(root, method="channel"), tmp_path_factory.mktemp("runs") / "channel")}
    made["spatial"] = make_run(tmp_path_factory.mktemp("runs") / "spatial", kinds.SPATIAL, {})
    return made


def test_the_command_writes_both_tables(runs: dict[str, Run]) -> None:
    run = runs["channel"]
    result = runner.invoke(app, ["ablate", run.uri, "--k", "4", "--draws", "3", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    folder = Path(run.root) / "scores"
    with (folder / "ablation.csv").open() as f:
        rows = list(csv.DictReader(f))
    pairs = pq.read_table(folder / "ablation_pairs.parquet").to_pylist()
    whole = [row for row in rows if row["class_name"] == "all classes"]
    assert [int(row["n"]) + int(row["n_alone"]) for row in whole] == [10, 10]
    assert sum(row["choice"] == "raw" for row in pairs) == int(whole[0]["n"]) > 0
    assert all(len(row["channels"]) == 4 and len(row["random_own"]) == 3 for row in pairs)
    scores = {row["pair"]: row["score_full"] for row in run.table(kinds.CHANNEL).to_pylist()}
    for row in pairs:  # the stage shows the network the image that the run showed it
        assert row["score_full"] == pytest.approx(scores[row["pair"]], abs=1e-4)
    if int(whole[0]["n_alone"]):
        assert "left out" in result.output


def test_mistakes_get_one_message(runs: dict[str, Run], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    channel = runs["channel"]
    weights = tmp_path / "other.pth"
    module = load_network("shapes_cnn", "random").module
    torch.save({k: v + 1 if k == "fc.bias" else v for k, v in module.state_dict().items()}, weights)
    cases = [
        (["/nowhere"], "No run at /nowhere"),
        ([runs["spatial"].uri], "needs a channel run"),
        ([channel.uri, "--k", "128"], "has 128 channels"),
        ([channel.uri, "--device", "cuda"], "no GPU"),
        ([channel.uri, "--device", "abacus"], "cpu, cuda or cuda:N"),
        ([channel.uri, "--weights", str(weights)], "other weights"),
        ([channel.uri, "--root", "/nowhere"], "/nowhere"),
    ]
    for arguments, message in cases:
        result = runner.invoke(app, ["ablate", *arguments])
        assert result.exit_code == 2, (arguments, result.output)
        assert message in result.output
        assert "Traceback" not in result.output


def test_help_teaches_with_examples() -> None:
    result = runner.invoke(app, ["ablate", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "extremal ablate runs/channels" in result.output


def test_classes_adds_the_similarity(runs: dict[str, Run]) -> None:
    run = runs["channel"]
    result = runner.invoke(app, ["classes", run.uri])
    assert result.exit_code == 0, result.output
    folder = Path(run.root) / "scores"
    classes = pq.read_table(folder / "classes.parquet").num_rows
    assert pq.read_table(folder / "similarity.parquet").num_rows == classes * (classes - 1) // 2
    assert (folder / "similarity.csv").is_file()
    with Image.open(folder / "similarity.png") as picture:
        assert min(picture.size) > 300
    assert json.loads((Path(run.root) / "run.json").read_text())["study"] == "channel"
