"""Table 1 from runs made by hand: merging, seeds, denominators, published numbers, and the formats."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import plan, rows
from typer.testing import CliRunner

import extremal.pipeline.aggregates.published
from extremal.jobs.cli.app import app
from extremal.jobs.tables.formats import notes, render
from extremal.pipeline.aggregates.comparison import (
    TITLES,
    compare,
    make_columns,
    run_notes,
)
from extremal.pipeline.aggregates.pointing import Rule, pointing, pointing_summary
from extremal.pipeline.aggregates.published import published_numbers
from extremal.storage import Run, RunError, kinds
from extremal.storage.manifest import Data, Manifest, Model
from extremal.workers.networks.pointing_game import PREPROCESS
from extremal.workers.saliency import METHODS
from extremal.workers.saliency.layer_table import known_layers
from extremal.workers.saliency.settings import RiseConfig

runner = CliRunner()
VOC = {"name": "voc", "split": "2007:test", "limit": None, "difficult_list": None}
Column = tuple[str, dict[str, Any]]  # network, dataset
SHARDS = 2
COCO = {"name": "coco", "split": "val2014", "limit": None, "difficult_list": None}


def make(
    path: Path,
    methods: Sequence[str] = ("rise",),
    *,
    column: Column = ("vgg16_voc", VOC),
    seed: int = 0,
    luck: int | None = None,
    committed: int = SHARDS,
    failures: int = 0,
    **saliency: Any,
) -> Run:
    """A saliency run with 10 images of 2 classes in each shard; `luck` decides hits and misses."""
    network, dataset = column
    settings = {"rise": asdict(RiseConfig()), "layers": asdict(known_layers(network))} | saliency
    manifest = Manifest(
        "saliency",
        {
            "dataset": dataset,
            "seed": seed,
            "precision": "float32",
            "saliency": {"methods": list(methods), **settings},
        },
        Model(network, "00", resize=224, mean=PREPROCESS.mean, std=PREPROCESS.std, antialias=False),
        Data(dataset["name"]),
        weights="weights.pth",
    )
    run = Run.create(str(path), manifest, plan([i // 20 for i in range(20 * SHARDS)]))
    rng = np.random.default_rng(seed if luck is None else luck)
    for shard in range(committed):
        points = [
            {
                "image_id": f"image {shard} {i}",
                "class_id": c,
                "class_name": f"class {c}",
                "method": method,
                "distance2": int(rng.integers(0, 400)) if method != "center" else 10 * i,
                "difficult": i % 2 == 0,
            }
            for i in range(10)
            for c in (0, i % 3 + 1)
            for method in ("center", *methods)
        ]
        failed = [{"pair": 20 * shard, "path": "a.jpg"}] * failures
        tables = {kinds.POINTS: rows(kinds.POINTS, *points), kinds.FAILURES: rows(kinds.FAILURES, *failed)}
        run.commit(shard, {kinds.SALIENCY: rows(kinds.SALIENCY), **tables})
    return run


def cell(table: pa.Table, method: str, subset: str = "all", column: int = 0) -> dict[str, Any]:
    title = list(dict.fromkeys(table["column"].to_pylist()))[column]
    wanted = (title, method, subset)
    (row,) = (r for r in table.to_pylist() if (r["column"], r["method"], r["subset"]) == wanted)
    return dict(row)


def score(run: Run, method: str, subset: str = "all") -> dict[str, Any]:
    summary = pointing_summary(pointing(run)).to_pylist()
    (row,) = (r for r in summary if (r["method"], r["subset"]) == (method, subset))
    return dict(row)


def test_cells_are_the_scores_of_the_runs(tmp_path: Path) -> None:
    one, other = make(tmp_path / "1", ["rise", "grad_cam"]), make(tmp_path / "2", ["occlusion", "gradient"])
    table = compare(make_columns([one, other]))
    methods = list(dict.fromkeys(table["method"].to_pylist()))
    assert methods == ["center", "gradient", "rise", "grad_cam", "occlusion"]
    for run, method in ((one, "rise"), (one, "grad_cam"), (other, "occlusion"), (one, "center")):
        for subset in ("all", "difficult"):
            mine, expected = cell(table, method, subset), score(run, method, subset)
            assert mine["class_mean"] == pytest.approx(expected["class_mean"], abs=1e-12)
            assert mine["pooled"] == pytest.approx(expected["pooled"], abs=1e-12)
            assert mine["n"] == expected["hits"] + expected["misses"] > 0
            assert mine["runs"] == 1
            assert mine["class_mean_low"] is None


def test_seeds_are_averaged_and_the_center_is_counted_once(tmp_path: Path) -> None:
    runs = [make(tmp_path / str(seed), seed=seed) for seed in range(3)]
    table = compare(make_columns(runs), intervals=True)
    rise, center = cell(table, "rise"), cell(table, "center")
    scores = [score(run, "rise")["class_mean"] for run in runs]
    assert len(set(scores)) == 3
    assert rise["class_mean"] == pytest.approx(np.mean(scores), abs=1e-12)
    assert (rise["runs"], rise["n"]) == (3, 120)
    assert (center["runs"], center["n"]) == (1, 40)
    assert rise["class_mean_low"] < rise["class_mean"] < rise["class_mean_high"]
    assert rise["pooled_low"] < rise["pooled"] < rise["pooled_high"]
    # Three draws over the same images say more than one.
    alone = cell(compare(make_columns(runs[:1]), intervals=True), "rise")
    width = rise["class_mean_high"] - rise["class_mean_low"]
    assert width < alone["class_mean_high"] - alone["class_mean_low"]
    assert "(120 in 3 runs)" in render(table, "text")


def test_runs_of_equal_outcomes_have_the_interval_of_one(tmp_path: Path) -> None:
    runs = [make(tmp_path / str(seed), seed=seed, luck=7) for seed in range(2)]
    one = cell(compare(make_columns(runs[:1]), intervals=True), "rise")
    both = cell(compare(make_columns(runs), intervals=True), "rise")
    for name in ("class_mean", "class_mean_low", "class_mean_high", "pooled_low", "pooled_high"):
        assert both[name] == pytest.approx(one[name], abs=1e-12)


def test_other_settings_and_repeated_seeds_are_refused(tmp_path: Path) -> None:
    first = make(tmp_path / "a", rise={"masks": 8000})
    fewer = make(tmp_path / "b", seed=1, rise={"masks": 100})
    with pytest.raises(RunError, match=r"(?s)a and .*b both hold rise.*rise\.masks: 8000 -> 100"):
        compare(make_columns([first, fewer]))
    again = make(tmp_path / "c", rise={"masks": 8000})
    with pytest.raises(RunError, match="both hold rise with seed 0"):
        compare(make_columns([first, again]))
    # Settings of a method that a run does not hold are its own affair.
    other = make(tmp_path / "d", ["occlusion"], rise={"masks": 100})
    assert cell(compare(make_columns([first, other])), "occlusion")["n"] == 40


def test_columns_are_datasets_with_networks_in_the_papers_order(tmp_path: Path) -> None:
    settings: list[tuple[str, dict[str, Any]]] = [
        ("toy", VOC),
        ("vgg16_coco", COCO),
        ("resnet50_voc", VOC),
        ("vgg16_voc", {**VOC, "limit": 40}),
        ("vgg16_voc", VOC),
    ]
    runs = [make(tmp_path / str(i), column=(n, d)) for i, (n, d) in enumerate(settings)]
    titles = [column.title for column in make_columns(runs)]
    assert titles == [
        "VOC07 test (first 40 pairs), vgg16_voc",
        "VOC07 test, vgg16_voc",
        "VOC07 test, resnet50_voc",
        "COCO14 val, vgg16_coco",
        "VOC07 test, toy",
    ]


def test_columns_of_one_title_are_told_apart_by_their_runs(tmp_path: Path) -> None:
    by_list = {**VOC, "difficult_list": "list.txt"}
    runs = [make(tmp_path / "a"), make(tmp_path / "b", column=("vgg16_voc", by_list))]
    columns = make_columns(runs)
    assert [column.title for column in columns] == ["VOC07 test, vgg16_voc", "VOC07 test, vgg16_voc #2"]
    below = notes(compare(columns), columns, Rule())
    assert f"VOC07 test, vgg16_voc #2: {runs[1].place()}" in below


def test_every_method_has_a_title_of_its_own() -> None:
    assert {"center", *METHODS} <= TITLES.keys()
    assert len(set(TITLES.values())) == len(TITLES)


def test_the_papers_numbers_are_whole() -> None:
    """All cells of Table 1; spot checks against the seeds' copy (EP-12, S0)."""
    numbers = published_numbers()
    assert len(numbers) == 9 * 4 * 2
    assert {key[3] for key in numbers} == set(list(TITLES)[:9])
    for key, percent in {
        ("voc", "2007:test", "vgg16_voc", "extremal", "all"): 88.0,
        ("voc", "2007:test", "vgg16_voc", "extremal", "difficult"): 76.1,
        ("voc", "2007:test", "resnet50_voc", "cmwp", "all"): 90.7,
        ("voc", "2007:test", "resnet50_voc", "mwp", "all"): 84.4,
        ("coco", "val2014", "vgg16_coco", "center", "difficult"): 19.5,
        ("coco", "val2014", "resnet50_coco", "grad_cam", "all"): 57.3,
    }.items():
        assert numbers[key].accuracy == pytest.approx(percent / 100)
    # Extremal perturbations lead on VOC with VGG16 alone.
    for column in dict.fromkeys(key[:3] for key in numbers):
        best = max(
            (n.accuracy, key[3]) for key, n in numbers.items() if key[:3] == column and key[4] == "all"
        )
        assert (best[1] == "extremal") == (column == ("voc", "2007:test", "vgg16_voc"))


def test_published_values_stand_only_where_the_setting_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path / "part", ["rise", "occlusion"])
    assert cell(compare(make_columns([run])), "rise")["published"] is None  # 40 of 4952 images
    monkeypatch.setitem(extremal.pipeline.aggregates.published._WHOLE, "voc", 40)
    table = compare(make_columns([run]))
    assert cell(table, "rise")["published"] == pytest.approx(0.869)
    assert cell(table, "rise", "difficult")["published"] == pytest.approx(0.751)
    assert "3 runs" in cell(table, "rise")["source"]
    assert cell(table, "occlusion")["published"] is None
    assert cell(compare(make_columns([run]), Rule(0.0)), "rise")["published"] is None
    shown = notes(table, make_columns([run]), Rule())
    assert any("by the rule" in line for line in shown)
    part = make(tmp_path / "half", ["gradient"], committed=1)
    assert cell(compare(make_columns([run, part])), "gradient")["published"] is None
    fewer = make(tmp_path / "fewer", ["rise", "gradient"], rise=asdict(RiseConfig(masks=100)))
    table = compare(make_columns([fewer]))
    assert cell(table, "rise")["published"] is None
    assert cell(table, "gradient")["published"] == pytest.approx(0.763)
    fewer.manifest.config["precision"] = "bf16"
    assert cell(compare(make_columns([fewer])), "gradient")["published"] is None
    object.__setattr__(run.manifest.model, "randomized", ("fc",))  # the sanity check's
    assert cell(compare(make_columns([run])), "rise")["published"] is None
    other = make(tmp_path / "other", column=("resnet18", VOC))
    assert cell(compare(make_columns([other])), "rise")["published"] is None
    head = render(table, "markdown").splitlines()[0]
    assert head.count("VOC07 test, vgg16_voc paper") == 2
    assert "paper" not in render(compare(make_columns([other])), "markdown")


def test_a_run_without_ground_truth_is_named(tmp_path: Path) -> None:
    run = make(tmp_path / "none", committed=0)
    columns = make_columns([run])
    assert f"no pair with ground truth: {run.place()}" in notes(compare(columns), columns, Rule())


def test_formats_hold_the_same_numbers(tmp_path: Path) -> None:
    one = make(tmp_path / "1", ["rise", "a_b&c|d"])
    two = make(tmp_path / "2", ["grad_cam"], column=("resnet50_coco", COCO))
    table = compare(make_columns([one, two]), intervals=True)
    rise = cell(table, "rise")
    low, high = 100 * rise["class_mean_low"], 100 * rise["class_mean_high"]
    expected = f"{100 * rise['class_mean']:.1f} [{low:.1f}, {high:.1f}] (40)"
    text, markdown, latex = (render(table, form, ["a note"]) for form in ("text", "markdown", "latex"))
    for shown in (text, markdown, latex):
        assert expected in shown
        assert "a note" in shown
        assert "COCO14 val, resnet50" in shown
    lines = markdown.splitlines()
    assert len({line.replace(r"\|", "").count("|") for line in lines[:6]}) == 1
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["Center", "RISE", "Grad-CAM"]
    assert r"a\_b\&c\textbar{}d" in latex
    assert r"\multicolumn{2}{c}{VOC07 test, vgg16\_voc}" in latex
    assert all(line.count("&") == 4 for line in latex.splitlines() if "RISE" in line)
    found = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert len(found) == table.num_rows == 2 * (3 + 2)
    assert float(next(r for r in found if r["method"] == "rise")["class_mean"]) == rise["class_mean"]
    assert all(int(r["n"]) > 0 for r in found)


def test_incomplete_runs_and_failures_are_named_with_their_counts(tmp_path: Path) -> None:
    part = make(tmp_path / "part", committed=1)
    failed = make(tmp_path / "failed", ["gradient"], failures=2)
    columns = make_columns([part, failed])
    assert run_notes(columns) == [
        f"incomplete: {part.place()}: 20 of 40 pairs are not computed yet",
        f"failures: {failed.place()}: 4 of 40 pairs could not be computed",
    ]
    table = compare(columns)
    assert (cell(table, "rise")["n"], cell(table, "gradient")["n"], cell(table, "center")["n"]) == (
        20,
        40,
        40,
    )


def test_a_method_without_pairs_shows_its_count(tmp_path: Path) -> None:
    run = make(tmp_path / "run", committed=0)
    table = compare(make_columns([run]), intervals=True)
    assert table.num_rows == 0
    points = [{"method": "rise", "distance2": 0, "image_id": "a", "class_id": 1}]
    run.commit(0, {kinds.SALIENCY: rows(kinds.SALIENCY), kinds.POINTS: rows(kinds.POINTS, *points)})
    table = compare(make_columns([run]), intervals=True)
    assert cell(table, "rise", "difficult")["class_mean"] is None
    assert "- (0)" in render(table, "text")


def test_score_shows_a_saliency_run_with_intervals_and_energy(tmp_path: Path) -> None:
    run = make(tmp_path / "run", ["rise", "grad_cam"])
    result = runner.invoke(app, ["score", run.uri, "--point", "smooth"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    rise = score(run, "rise")
    assert f"({rise['hits']}/40)" in result.output
    assert "The best method less the others" in result.output
    assert "Monotonicity" not in result.output
    names = {file.name for file in (tmp_path / "run" / "scores").glob("*.csv")}
    assert names == {"pointing.csv", "pointing_summary.csv", "differences.csv"}
    with (tmp_path / "run" / "scores" / "pointing_summary.csv").open() as f:
        (row,) = (r for r in csv.DictReader(f) if (r["method"], r["subset"]) == ("rise", "all"))
    assert float(row["class_mean_low"]) < float(row["class_mean"]) < float(row["class_mean_high"])
    low, high = (100 * float(row[f"class_mean_{end}"]) for end in ("low", "high"))
    assert f"{100 * rise['class_mean']:.1f} % [{low:.1f}, {high:.1f}] (4 classes)" in result.output


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    runs = [make(tmp_path / str(seed), seed=seed) for seed in range(2)]
    uris = [run.uri for run in runs]
    printed = runner.invoke(app, ["table", *uris, "--intervals"])
    assert printed.exit_code == 0, printed.output
    assert "RISE" in printed.output
    assert "(80 in 2 runs)" in printed.output
    assert "tolerance 15 px" in printed.output
    out = tmp_path / "deep" / "table.csv"
    written = runner.invoke(app, ["table", *uris, "--format", "csv", "--out", str(out)])
    assert written.exit_code == 0, written.output
    assert len(out.read_text().splitlines()) == 1 + 2 * 2
    for arguments, message in (
        (["--format", "html"], "text, markdown, latex, csv"),
        (["--out", str(tmp_path)], "Cannot write the table"),
        (["--tolerance", "-1"], "tolerance"),
        (["--region", "circle"], "mask or box"),
        (["--region", "box", "--point", "plain"], "plain point"),
    ):
        refused = runner.invoke(app, ["table", *uris, *arguments])
        assert refused.exit_code == 2, refused.output
        assert message in refused.output
    refused = runner.invoke(app, ["table", *uris, uris[0]])
    assert refused.exit_code == 2
    assert "both hold rise with seed 0" in refused.output
