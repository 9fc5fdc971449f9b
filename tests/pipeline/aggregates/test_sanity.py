"""The sanity check: cascading randomization, rank correlation, its runs, table and plot."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from helpers import make_run
from PIL import Image
from rich.console import Console
from runs import compute, config
from scipy.stats import spearmanr
from torch import Tensor, nn
from torchvision import models
from typer.testing import CliRunner

import extremal.jobs.several
from extremal.jobs.cli.app import app
from extremal.jobs.drawing import similarity_curves
from extremal.pipeline.aggregates.sanity import ORIGINAL, SANITY, Depth, sanity_table, similarities, spearman
from extremal.pipeline.config import build_config
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.driving.driver import Pool
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.pipeline.stored_config import stored_config
from extremal.storage import ConfigMismatch, Run, RunError, kinds
from extremal.workers.config import DatasetConfig, NetworkConfig, RunConfig
from extremal.workers.configured_network import configured_network
from extremal.workers.errors import NetworkError
from extremal.workers.images import Preprocess
from extremal.workers.networks.network import Network, load_network
from extremal.workers.networks.randomize import cascade, randomize, weight_layers
from extremal.workers.networks.weights import fingerprint
from extremal.workers.saliency import METHODS, Batch, Card, Maps, Method
from extremal.workers.shard.worker import Worker

X = torch.zeros(1, 3, 64, 64)

# ---- rank correlation -------------------------------------------------------------------------


def randomly(depth: int, seed: int = 0) -> Network:
    return configured_network(NetworkConfig("shapes_cnn", "random", randomized=depth, randomize_seed=seed))


@pytest.mark.parametrize("levels", [0, 3, 20])
def test_the_correlation_is_scipys(levels: int) -> None:
    rng = np.random.default_rng(levels)
    a, b = rng.normal(size=(2, 12, 60))
    b += a * np.linspace(-1, 1, 12)[:, None]
    if levels:  # ties
        a, b = (np.round(values * levels) / levels for values in (a, b))
    expected = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected, atol=1e-12)
    assert (spearman(a, a) == 1).all()
    assert (spearman(a, -a) == -1).all()


def test_the_correlation_of_a_constant_map_is_undefined() -> None:
    a = np.array([[1.0, 2, 3], [0, 0, 0], [1, 2, 3]])
    b = np.array([[1.0, 3, 2], [1, 2, 3], [5, 5, 5]])
    found = spearman(a, b)
    assert found[0] == pytest.approx(0.5)
    assert np.isnan(found[1:]).all()


# ---- randomization ----------------------------------------------------------------------------


class Tangled(nn.Module):
    """Two convolutions and a layer, declared in another order than they run in; `unused` never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 5)
        self.unused = nn.Linear(2, 2)
        self.second = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.first = nn.Conv2d(3, 4, 3)
        self.before = nn.BatchNorm2d(3)
        self.preprocess = Preprocess(resize=64, crop=64, mean=(0.5,) * 3, std=(0.5,) * 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(self.before(x))).relu()
        return self.head(self.second(x).amax(dim=(2, 3)))  # type: ignore[no-any-return]


def tangled() -> nn.Module:
    """Trained, as far as the tests can tell: no weight is what a reset gives."""
    network = Tangled()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.25)
    return network.eval()


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def bare() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    network.scale = nn.Parameter(torch.ones(1))
    network(torch.zeros(1, 3, 224, 224))
    return network


def state(module: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the modules whose state differs, the bookkeeping of batch norm aside."""
    return {
        key.rpartition(".")[0]
        for key in before
        if not key.endswith("num_batches_tracked") and not torch.equal(before[key], after[key])
    }


def test_layers_come_from_the_output_in_the_order_they_run_in(caplog: pytest.LogCaptureFixture) -> None:
    layers = cascade(tangled(), X)
    assert layers == {"head": ["head"], "second": ["second"], "first": ["first", "norm", "before"]}
    assert list(layers) == ["head", "second", "first"]
    assert "without unused" in caplog.text


@pytest.mark.parametrize(
    ("build", "count"),
    [(models.squeezenet1_1, 26), (models.resnet18, 21), (models.mobilenet_v2, 53), (models.alexnet, 8)],
)
def test_torchvisions_networks_run_in_the_order_of_their_names(build: Any, count: int) -> None:
    with torch.device("meta"):
        module = build(weights=None).eval()
    weighted = [name for name, one in module.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    x = torch.zeros(1, 3, 64, 64, device="meta")
    layers = cascade(module, x)
    assert list(layers) == weighted[::-1]
    assert len(layers) == count
    norms = [name for name, one in module.named_modules() if isinstance(one, nn.BatchNorm2d)]
    assert sorted(name for names in layers.values() for name in names[1:]) == sorted(norms)
    if build is models.resnet18:
        assert layers["layer1.0.conv2"] == ["layer1.0.conv2", "layer1.0.bn2"]


def test_vgg16_has_the_papers_sixteen_layers() -> None:
    with torch.device("meta"):
        module = models.vgg16(weights=None).eval()
    layers = cascade(module, torch.zeros(1, 3, 64, 64, device="meta"))
    assert len(layers) == 16
    assert [*layers][:4] == ["classifier.6", "classifier.3", "classifier.0", "features.28"]
    assert [*layers][-1] == "features.0"


def test_a_cascade_changes_its_layers_only_and_each_as_at_any_other_depth() -> None:
    network = tangled()
    original, layers = state(network), cascade(network, X)
    generator = torch.random.get_rng_state()
    deepest = copy.deepcopy(network)
    randomize(deepest, layers, 3, seed=0)
    for depth in (1, 2, 3):
        found = copy.deepcopy(network)
        randomize(found, layers, depth, seed=0)
        random = {name for layer in list(layers)[:depth] for name in layers[layer]}
        assert changed(original, state(found)) == random
        assert changed(state(found), state(deepest)) == {"first", "norm", "before", "second", "head"} - random
        again, other = copy.deepcopy(network), copy.deepcopy(network)
        randomize(again, layers, depth, seed=0)
        randomize(other, layers, depth, seed=1)
        assert changed(state(found), state(again)) == set()
        # A norm has one initial state, whatever the seed.
        assert changed(state(found), state(other)) == random - {"norm", "before"}
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert changed(original, state(network)) == set()


def test_new_weights_are_of_the_layers_own_family() -> None:
    """torch's default for a convolution: uniform in +-1/sqrt(fan in), and not a rescaled trained one."""
    network = nn.Sequential(nn.Conv2d(16, 64, 3), nn.Flatten(), nn.LazyLinear(2))
    x = torch.ones(1, 16, 4, 4)
    network(x)
    network[0].weight.data.fill_(7.0)
    randomize(network, cascade(network, x), 2, seed=0)
    bound = (16 * 9) ** -0.5
    weight = network[0].weight.detach()
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_a_loaded_network_is_random_in_its_last_layers_and_keeps_the_original() -> None:
    plain = load_network("shapes_cnn", "random")
    assert plain.randomized == ()
    assert plain.original is plain
    assert weight_layers(plain) == ("fc", "block4.0", "block3.0", "block2.0", "block1.conv")
    prints = {plain.fingerprint}
    for depth in range(1, 6):
        network = randomly(depth)
        assert network.randomized == weight_layers(plain)[:depth]
        assert network.fingerprint == fingerprint(network.module)
        assert fingerprint(network.original.module) == network.original.fingerprint == plain.fingerprint
        assert network.original.randomized == ()
        assert replace(network, precision="bf16").original.precision == "bf16"
        prints.add(network.fingerprint)
        assert not any(p.requires_grad for p in network.module.parameters())
        assert not network.module.training
        assert network.to("cpu").original.module is network.original.module
    assert len(prints) == 6
    assert randomly(5, 1).fingerprint not in prints
    again = randomly(2)
    assert again.fingerprint in prints


@pytest.mark.parametrize(
    ("name", "depth", "message"),
    [
        ("shapes_cnn", 6, "6 layers cannot be randomized: the network has 5 weight layers"),
        (f"{__name__}:Attends", 1, "attention.*MultiheadAttention"),
        (f"{__name__}:bare", 1, "the network itself"),
        ("torch.nn:Flatten", 1, "nothing to randomize"),
    ],
)
def test_what_cannot_be_randomized_is_refused(name: str, depth: int, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        configured_network(NetworkConfig(name, "random", randomized=depth))


@pytest.mark.parametrize("setting", ["randomized", "randomize_seed"])
def test_negative_settings_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        build_config({"dataset": {"name": "voc"}, "network": {"name": "vgg16", setting: -1}})


# ---- runs -------------------------------------------------------------------------------------


def gradient(batch: Batch) -> Maps:
    """The largest absolute input gradient."""
    inputs = batch.inputs.detach().requires_grad_()
    score = batch.network(inputs).gather(1, batch.targets[:, None]).sum()
    return Maps(torch.autograd.grad(score, inputs)[0].abs().amax(1))


def edge(batch: Batch) -> Maps:
    """Nothing but the image."""
    return Maps(batch.inputs[:, 0] - batch.inputs[:, 1])


GRADIENT, EDGE = Method(gradient), Method(edge)


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry with two methods of this file."""
    cards = [Card(name, name, "this test", f"{__name__}:{name.upper()}") for name in ("gradient", "edge")]
    for card in cards:
        monkeypatch.setitem(METHODS, card.name, card)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(root, train=1, test=4)
    return root


def settings(root: Path, **changes: Any) -> RunConfig:
    chosen = {"methods": ["gradient", "edge"], "maps": 16}
    return config(root, **{"method": "saliency", "saliency": chosen, **changes})


@pytest.mark.usefixtures("methods")
def test_randomization_is_part_of_a_runs_identity(shapes: Path, tmp_path: Path) -> None:
    two = {"limit": 2}
    first = settings(shapes, network={"randomized": 2}, dataset=two)
    run = compute(first, tmp_path)
    assert run.manifest.model.randomized == ("fc", "block4.0")
    assert stored_config(run, None, None).network == first.network
    assert prepare(first, str(tmp_path))[1]
    with pytest.raises(ConfigMismatch, match=r"config.network.randomized: 2 -> 3"):
        prepare(settings(shapes, network={"randomized": 3}, dataset=two), str(tmp_path))
    with pytest.raises(ConfigMismatch, match=r"config.network.randomize_seed: 0 -> 1"):
        prepare(
            settings(shapes, network={"randomized": 2, "randomize_seed": 1}, dataset=two),
            str(tmp_path),
        )
    with pytest.raises(ConfigMismatch, match=r"model.weights_sha256"):
        prepare(settings(shapes, dataset=two), str(tmp_path))
    # A worker without the setting has other weights.
    spec = worker_spec(first, run, "cpu")
    network = replace(spec.config.network, randomized=0)
    with pytest.raises(NetworkError, match="other weights here"):
        Worker(replace(spec, config=replace(spec.config, network=network)))


def top_class(network: Network, path: Path) -> int:
    x = network.preprocess(Image.open(path).convert("RGB"))[None]
    return int(network(x).argmax())


@pytest.mark.usefixtures("methods")
def test_the_output_explained_is_the_original_networks_choice(tmp_path: Path) -> None:
    """A folder of photographs without labels: the network's top-1 is explained."""
    rng = np.random.default_rng(0)
    for i in range(12):
        noise = rng.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(noise).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / f"{i:02d}.png")
    network = {"name": "squeezenet1_1", "resize": 64, "crop": 64, "randomized": 26}
    chosen_by = replace(settings(tmp_path, network=network), dataset=DatasetConfig("folder", str(tmp_path)))
    run = compute(chosen_by, tmp_path / "run")
    plain = load_network("squeezenet1_1", "random", resize=64, crop=64)
    random = configured_network(NetworkConfig("squeezenet1_1", "random", resize=64, crop=64, randomized=26))
    rows = run.table(kinds.SALIENCY, ["path", "target", "score_full"]).to_pylist()
    chosen = [row["target"] for row in rows]
    paths = [tmp_path / row["path"] for row in rows]
    assert chosen == [top_class(plain, path) for path in paths]
    assert chosen != [top_class(random, path) for path in paths]
    x = plain.preprocess(Image.open(paths[0]).convert("RGB"))[None]
    expected = random(x)[0, chosen[0]].item()
    assert rows[0]["score_full"] == pytest.approx(expected, rel=1e-3)  # of the network that is explained


# ---- comparison -------------------------------------------------------------------------------


def saliency(pair: int, values: Any, **changes: Any) -> dict[str, Any]:
    values = np.asarray(values, np.float16)
    row = {"pair": pair, "method": "m", "target": 5, "map_shape": list(values.shape), "score_full": 1.0}
    return {**row, "map": values.ravel().tolist(), "diagnostics": [], **changes}


def made(path: Path, maps: dict[int, list[dict[str, Any]]], depth: int = 0, seed: int = 0) -> Run:
    """A run by hand: shard -> rows of saliency."""
    network = {"randomized": depth, "randomize_seed": seed}
    shards = {shard: {kinds.SALIENCY: rows} for shard, rows in maps.items()}
    run = make_run(path, kinds.SALIENCY, shards, saliency={"maps": 2}, network=network)
    object.__setattr__(run.manifest.model, "randomized", ("fc",)[:depth])
    return run


def test_similarities_of_runs_made_by_hand(tmp_path: Path) -> None:
    up, down = [[1, 2], [3, 4]], [[4, 3], [2, 1]]
    signed = [[-1, 2], [-3, 4]]
    wide = [[1, 2, 3, 4]]
    original = made(
        tmp_path / ORIGINAL,
        {
            0: [saliency(0, up), saliency(1, up), saliency(2, signed)],
            1: [saliency(3, wide), saliency(4, up), saliency(5, up), saliency(6, up)],
            2: [saliency(7, up)],
        },
    )
    random = made(
        tmp_path / "random",
        {
            0: [saliency(0, down, score_full=4.0), saliency(1, up), saliency(2, up)],
            1: [saliency(3, wide), saliency(4, [[0, 0], [0, 0]]), saliency(5, up, target=6)],
        },
        depth=1,
    )
    assert set(similarities(original, original)) == {"m"}
    assert similarities(original, original)["m"].plain == [1.0] * 8
    found = similarities(original, random)["m"]
    rho = spearmanr(np.ravel(signed), np.ravel(up)).statistic
    by_hand = sorted([-1.0, 1.0, rho, 1.0])
    assert sorted(v for v in found.plain if not np.isnan(v)) == pytest.approx(by_hand)
    assert found.missing == 3  # another output explained, a pair not there, a shard not there
    table = sanity_table(original, [Depth(1, "fc", (random,))])
    assert table.schema == SANITY
    first, second = table.to_pylist()
    assert (first["depth"], first["layer"], first["n"], first["mean"], first["abs_mean"]) == (
        0,
        ORIGINAL,
        8,
        1,
        1,
    )
    assert (first["constant"], first["missing"], first["seed_sd"]) == (0, 0, None)
    assert (second["n"], second["constant"], second["missing"], second["seeds"]) == (4, 1, 3, 1)
    assert second["mean"] == pytest.approx(np.mean(by_hand))
    assert second["median"] == pytest.approx(np.median(by_hand))
    assert second["q25"] == pytest.approx(np.quantile(by_hand, 0.25))
    assert second["abs_mean"] == pytest.approx(0.5)  # -1, 1, 1, 1
    assert second["score"] == pytest.approx((4 + 4) / 5)


def test_seeds_are_pooled_and_their_spread_is_told(tmp_path: Path) -> None:
    up, down = [[1, 2], [3, 4]], [[4, 3], [2, 1]]
    original = made(tmp_path / ORIGINAL, {0: [saliency(0, up), saliency(1, up)]})
    other = made(tmp_path / "0", {0: [saliency(0, down), saliency(1, down)]}, depth=1)
    same = made(tmp_path / "1", {0: [saliency(0, up), saliency(1, [[1, 1], [1, 1]])]}, depth=1, seed=1)
    row = sanity_table(original, [Depth(1, "fc", (other, same))]).to_pylist()[1]
    assert (row["seeds"], row["n"], row["constant"]) == (2, 3, 1)
    assert row["mean"] == pytest.approx(-1 / 3)
    assert row["seed_sd"] == pytest.approx(2**0.5)  # means of -1 and 1


def test_a_depth_without_any_correlation_has_no_mean(tmp_path: Path) -> None:
    original = made(tmp_path / ORIGINAL, {0: [saliency(0, [[1, 2]])]})
    flat = made(tmp_path / "0", {0: [saliency(0, [[0, 0]])]}, depth=1)
    row = sanity_table(original, [Depth(1, "fc", (flat,))]).to_pylist()[1]
    assert (row["n"], row["constant"], row["mean"], row["q25"], row["seed_sd"]) == (0, 1, None, None, None)
    picture = similarity_curves([row | {"depth": 0, "layer": ORIGINAL, "mean": 1.0, "abs_mean": 1.0}, row])
    assert picture.startswith(b"\x89PNG")


def test_runs_that_differ_in_more_are_not_compared(tmp_path: Path) -> None:
    original = made(tmp_path / ORIGINAL, {0: [saliency(0, [[1, 2]])]})
    network = {"randomized": 1, "randomize_seed": 0}
    shards = {0: {kinds.SALIENCY: [saliency(0, [[1, 2]])]}}
    other = make_run(tmp_path / "o", kinds.SALIENCY, shards, saliency={"maps": 2}, network=network, seed=1)
    with pytest.raises(RunError, match=r"config.seed: \(absent\) -> 1"):
        similarities(original, other)
    none = make_run(tmp_path / "n", kinds.SALIENCY, shards, saliency={"maps": 0}, network=network)
    with pytest.raises(RunError, match="compares saliency maps"):
        similarities(original, none)
    spatial = make_run(tmp_path / "s", kinds.SPATIAL, {}, network=network)
    with pytest.raises(RunError, match="compares saliency maps"):
        similarities(spatial, other)
    random = made(tmp_path / "r", {0: [saliency(0, [[1, 2]])]}, depth=1)
    with pytest.raises(RunError, match="is randomized itself"):
        similarities(random, original)


# ---- the command ------------------------------------------------------------------------------


@pytest.fixture
def executed(methods: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs computed in this process, where the fake methods are; the places of those computed."""
    places: list[str] = []

    def execute(config: RunConfig, out: str, pool: Pool, console: Console) -> tuple[Run, int]:
        run, existed = prepare(config, out)
        if not existed:
            places.append(out)
        worker = Worker(worker_spec(config, run, "cpu"))
        for shard in run.missing():
            list(worker.run_shard(shard))
        return run, 0

    monkeypatch.setattr(extremal.jobs.several, "execute", execute)
    monkeypatch.setattr(extremal.jobs.several, "start_ray", lambda pool, threads: 1)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    return places


TOML = """
method = "gradient,edge"
batch = 4
[dataset]
name = "shapes"
split = "test"
root = "{root}"
[network]
name = "shapes_cnn"
weights = "random"
resize = 64
[saliency]
maps = {maps}
"""


def write_toml(folder: Path, root: Path, maps: int = 16) -> str:
    path = folder / "sanity.toml"
    path.write_text(TOML.format(root=root, maps=maps))
    return str(path)


def test_the_command_runs_every_depth_and_compares(shapes: Path, tmp_path: Path, executed: list[str]) -> None:
    out = tmp_path / "out"
    command = ["sanity", "--config", write_toml(tmp_path, shapes), "--out", str(out), "--seeds", "2"]
    command += ["--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--layers", "5,1"])
    assert result.exit_code == 0, result.output
    places = ["original", "seed-0/layers-01", "seed-0/layers-05", "seed-1/layers-01", "seed-1/layers-05"]
    assert executed == [str(out / place) for place in places]
    rows = pq.read_table(out / "sanity.parquet").to_pylist()
    assert pyarrow.csv.read_csv(out / "sanity.csv").column_names == SANITY.names
    assert (out / "sanity.png").read_bytes().startswith(b"\x89PNG")
    found = {(row["method"], row["depth"]): row for row in rows}
    assert {depth: found["edge", depth]["layer"] for depth in (0, 1, 5)} == {
        0: ORIGINAL,
        1: "fc",
        5: "block1.conv",
    }
    for method in ("edge", "gradient"):
        assert found[method, 0]["mean"] == found[method, 0]["q25"] == 1
        assert found[method, 0]["abs_mean"] == 1
        assert found[method, 0]["n"] == 8
        assert found[method, 5]["n"] + found[method, 5]["constant"] == 16
    assert found["edge", 5]["mean"] == 1  # a map of the image alone fails the check
    assert found["gradient", 5]["mean"] < 0.9
    # The table is that of the runs on disk, recomputed here without any code of the comparison.
    original, random = (Run.open(str(out / place)).table(kinds.SALIENCY).to_pylist() for place in places[:2])
    other = Run.open(str(out / "seed-1/layers-01")).table(kinds.SALIENCY).to_pylist()
    values = [
        spearmanr(a["map"], b["map"]).statistic
        for rows in (random, other)
        for a, b in zip(original, rows, strict=True)
        if a["method"] == "gradient"
    ]
    assert found["gradient", 1]["mean"] == pytest.approx(np.mean(values))
    executed.clear()
    again = CliRunner().invoke(app, [*command, "--layers", "1,2"])
    assert again.exit_code == 0, again.output
    assert executed == [str(out / "seed-0/layers-02"), str(out / "seed-1/layers-02")]


def test_all_depths_by_default(shapes: Path, tmp_path: Path, executed: list[str]) -> None:
    out = str(tmp_path / "out")
    command = ["sanity", "--config", write_toml(tmp_path, shapes), "--out", out, "--seeds", "1"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert [Path(place).name for place in executed] == ["original", *[f"layers-0{i}" for i in range(1, 6)]]


@pytest.mark.usefixtures("executed")
@pytest.mark.parametrize(
    ("maps", "extra", "message"),
    [
        (0, [], "[saliency] maps = 28"),
        (16, ["--layers", "6"], "from 1 to 5"),
        (16, ["--layers", "0,1"], "the original is always there"),
        (16, ["--layers", "fc"], "--layers takes numbers"),
    ],
)
def test_mistakes_get_one_message(
    shapes: Path, tmp_path: Path, maps: int, extra: list[str], message: str
) -> None:
    out = tmp_path / "out"
    command = ["sanity", "--config", write_toml(tmp_path, shapes, maps), "--out", str(out), *extra]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not out.exists()


def test_help_teaches_with_an_example() -> None:
    result = CliRunner().invoke(app, ["sanity", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "extremal sanity --config" in result.output
