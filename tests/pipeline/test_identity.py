"""What identifies a run: what differs from the defaults, whatever settings are added later."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import TypeAdapter
from runs import SETTINGS

from extremal.pipeline import config as config_module
from extremal.pipeline import identity
from extremal.pipeline.config import build_config, default_tree, merge, method_trees, stored_tree
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.identity import (
    Change,
    config_settings,
    differences,
    run_settings,
)
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.pipeline.stored_config import stored_config
from extremal.storage import ConfigMismatch, Run, RunError, manifest
from extremal.storage.trees import flatten, nested
from extremal.workers.config import RunConfig
from extremal.workers.shard.worker import Worker

Tree = dict[str, Any]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(root, train=1, test=2, size=32)
    return root


def settings(root: Path, **changes: Any) -> RunConfig:
    small = merge(merge(method_trees("torchray"), SETTINGS), {"dataset": {"root": str(root)}})
    small = merge(small, {"network": {"resize": 32}, "shard_size": 2})
    return build_config(merge(small, changes))


def begun(root: Path, out: Path, **changes: Any) -> Run:
    """A run of two shards with the first of them computed."""
    chosen = settings(root, **changes)
    run, _ = prepare(chosen, str(out))
    list(Worker(worker_spec(chosen, run, "cpu")).run_shard(0))
    return run


# ---- a setting is added ---------------------------------------------------------------------------


def with_key(of: type, path: tuple[str, ...], default: Any) -> type:
    """A dataclass as it would be with one more setting, at a path below it."""
    name, *rest = path
    if not rest:
        return make_dataclass(of.__name__, [(name, type(default), default)], bases=(of,), frozen=True)
    (old,) = (each for each in fields(of) if each.name == name)
    before = old.default_factory() if callable(old.default_factory) else old.default
    assert before is not None
    section = with_key(type(before), tuple(rest), default)
    same = {each.name: getattr(before, each.name) for each in fields(type(before)) if each.name != rest[0]}
    factory = field(default_factory=lambda: section(**same))
    return make_dataclass(of.__name__, [(name, section, factory)], bases=(of,), frozen=True)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, ...], Any], None]:
    """A later version of the program, which has another setting with this default."""

    def release(path: tuple[str, ...], default: Any) -> None:
        name = {"dataset": "DatasetConfig", "network": "NetworkConfig"}.get(path[0])
        if name is None:
            extended = with_key(config_module.RunConfig, path, default)
        else:  # a section that every configuration has, so that the field has no default
            section = with_key(getattr(config_module, name), path[1:], default)
            monkeypatch.setattr(config_module, name, section)
            extended = make_dataclass("RunConfig", [(path[0], section)], bases=(RunConfig,), frozen=True)
        monkeypatch.setattr(config_module, "RunConfig", extended)
        monkeypatch.setattr(config_module, "_ADAPTER", TypeAdapter(extended))
        default_tree.cache_clear()
        assert flatten(default_tree())[path] == default

    monkeypatch.setattr(config_module, "RunConfig", RunConfig)  # is put back, and then the cache cleared
    yield release  # type: ignore[misc]
    monkeypatch.undo()
    default_tree.cache_clear()


Later = Callable[[tuple[str, ...], Any], None]
SPATIAL = {"method": "spatial"}
METHODS = {"method": "saliency", "saliency": {"methods": ["rise", "gradient"], "rise": {"masks": 8}}}
ADDED = [
    (SPATIAL, ("spatial", "new")),
    (SPATIAL, ("spatial", "schedule", "new")),
    (SPATIAL, ("spatial", "mask", "new")),
    (SPATIAL, ("new",)),
    (SPATIAL, ("dataset", "new")),
    (SPATIAL, ("network", "new")),
    (METHODS, ("saliency", "new")),
    (METHODS, ("saliency", "rise", "new")),
]


@pytest.mark.parametrize(("study", "path"), ADDED, ids=".".join)
def test_a_new_setting_with_a_default_stops_no_run(
    shapes: Path, tmp_path: Path, later: Later, study: Tree, path: tuple[str, ...]
) -> None:
    run = begun(shapes, tmp_path, **study)
    later(path, 0)
    today = settings(shapes, **study)
    continued, existed = prepare(today, run.uri)
    assert existed
    list(Worker(worker_spec(today, continued, "cpu")).run_shard(1))
    assert Run.open(run.uri).missing() == []
    assert stored_config(run, str(shapes), None) == stored_config(continued, str(shapes), None)
    with pytest.raises(ConfigMismatch) as error:
        prepare(settings(shapes, **merge(study, nested({path: 1}))), run.uri)
    lines = [line.strip() for line in str(error.value).splitlines() if ": " in line]
    assert lines == [f"config.{'.'.join(path)}: 0 -> 1"]


@pytest.mark.parametrize("section", ["model", "data"])
def test_a_new_attribute_of_network_or_units_stops_no_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    """An older run.json lacks what a newer version has a default for."""
    run = begun(shapes, tmp_path)
    of = {"model": manifest.Model, "data": manifest.Data}[section]
    extended = make_dataclass(of.__name__, [("new", int, 0)], bases=(of,), frozen=True)
    whole = make_dataclass(
        "Manifest", [(section, extended, field(default=None))], bases=(manifest.Manifest,), frozen=True
    )
    monkeypatch.setattr(manifest, "_ADAPTER", TypeAdapter(whole))
    stored = Run.open(run.uri).manifest
    assert getattr(stored, section).new == 0
    values = {name: getattr(stored, name) for name in ("model", "data")}
    identity.check_identity(Run.open(run.uri), settings(shapes), **values)
    values[section] = replace(values[section], new=1)
    with pytest.raises(ConfigMismatch, match=rf"{section}\.new: 0 -> 1"):
        identity.check_identity(Run.open(run.uri), settings(shapes), **values)


# ---- a default becomes another --------------------------------------------------------------------

TAU = ("spatial", "tau")


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch, later: Later) -> Callable[..., None]:
    """A later version whose defaults are others: (path, before, now), each in a version of its own."""

    def release(*changes: tuple[tuple[str, ...], Any, Any]) -> None:
        numbered = tuple(Change(2 + i, path, before) for i, (path, before, _) in enumerate(changes))
        monkeypatch.setattr(identity, "CHANGES", numbered)
        for module in ("identity", "prepare"):
            monkeypatch.setattr(f"extremal.pipeline.{module}.DEFAULTS_VERSION", 1 + len(changes))
        for path, _, now in changes:
            later(path, now)

    return release


Changed = Callable[..., None]


def implicit(root: Path, **changes: Any) -> RunConfig:
    """A configuration that leaves tau to its default, as `settings` leaves it to its preset."""
    tree = merge(merge(method_trees("torchray"), SETTINGS), {"dataset": {"root": str(root)}})
    del tree["spatial"]["tau"]
    return build_config(merge(merge(tree, {"network": {"resize": 32}, "shard_size": 2}), changes))


def test_a_run_continues_with_the_default_that_it_began_with(
    shapes: Path, tmp_path: Path, changed: Changed
) -> None:
    run, _ = prepare(implicit(shapes), str(tmp_path))
    changed((TAU, 1.0, 0.5))
    with pytest.raises(ConfigMismatch, match=r"config\.spatial\.tau: 1\.0 -> 0\.5"):
        prepare(implicit(shapes), run.uri)
    assert prepare(implicit(shapes, spatial={"tau": 1.0}), run.uri)[1]
    assert stored_config(run, None, None).settings(type(implicit(shapes).spatial)).tau == 1.0


@pytest.mark.parametrize(("explicit", "as_default"), [(0.5, True), (0.8, False)])
def test_what_was_chosen_stays_chosen(
    shapes: Path, tmp_path: Path, changed: Changed, explicit: float, as_default: bool
) -> None:
    run, _ = prepare(implicit(shapes, spatial={"tau": explicit}), str(tmp_path))
    changed((TAU, 1.0, 0.5))
    assert prepare(implicit(shapes, spatial={"tau": explicit}), run.uri)[1]
    if as_default:  # the chosen value is today's default
        assert prepare(implicit(shapes), run.uri)[1]
    else:
        with pytest.raises(ConfigMismatch, match=r"config\.spatial\.tau: 0\.8 -> 0\.5"):
            prepare(implicit(shapes), run.uri)


def test_a_default_that_changed_twice(shapes: Path, tmp_path: Path, changed: Changed) -> None:
    """A run remembers the version that it began with, and the first change after it counts."""
    first, _ = prepare(implicit(shapes), str(tmp_path / "1"))
    changed((TAU, 1.0, 0.5))
    second, _ = prepare(implicit(shapes), str(tmp_path / "2"))
    assert second.manifest.defaults == 2
    changed((TAU, 1.0, 0.5), (TAU, 0.5, 0.7))
    taus = [run_settings(run.manifest)["spatial"]["tau"] for run in (first, second)]
    assert taus == [1.0, 0.5]
    assert prepare(implicit(shapes, spatial={"tau": 0.5}), second.uri)[1]
    for run, tau in ((first, 1.0), (second, 0.5)):
        with pytest.raises(ConfigMismatch, match=rf"config\.spatial\.tau: {tau} -> 0\.7"):
            prepare(implicit(shapes), run.uri)


def test_a_changed_default_of_a_setting_that_the_run_never_had(
    shapes: Path, tmp_path: Path, later: Later, changed: Changed
) -> None:
    """Added with 0 in the run's version, 3 since the next: the run was computed as with 0."""
    run, _ = prepare(settings(shapes), str(tmp_path))
    later(("spatial", "new"), 0)
    assert prepare(settings(shapes), run.uri)[1]
    changed((("spatial", "new"), 0, 3))
    with pytest.raises(ConfigMismatch, match=r"config\.spatial\.new: 0 -> 3"):
        prepare(settings(shapes), run.uri)
    assert prepare(settings(shapes, spatial={"new": 0}), run.uri)[1]
    assert stored_config(run, None, None).own.new == 0


@pytest.mark.parametrize(
    "path", [("channel", "tau"), ("saliency", "maps"), ("inversion", "per_class")], ids=".".join
)
def test_a_changed_default_that_a_run_does_not_read_is_nothing_to_it(
    shapes: Path, tmp_path: Path, changed: Changed, path: tuple[str, ...]
) -> None:
    run, _ = prepare(settings(shapes), str(tmp_path))
    now = flatten(default_tree())[path]
    changed((path, now, now + 1))
    assert prepare(settings(shapes), run.uri)[1]


def test_schema_4_that_chose_todays_default(shapes: Path, tmp_path: Path, changed: Changed) -> None:
    """Their whole configuration is stored: what stands there was so, whatever the defaults are."""
    chosen = implicit(shapes, spatial={"tau": 0.5})
    run, _ = prepare(chosen, str(tmp_path))
    older = replace(run.manifest, settings=None, schema_version=manifest.WHOLE_CONFIG)
    changed((TAU, 1.0, 0.5))
    assert "tau" not in run_settings(older)["spatial"]


def test_a_run_of_later_defaults_is_refused(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extremal.pipeline.prepare.DEFAULTS_VERSION", 7)
    run, _ = prepare(settings(shapes), str(tmp_path))
    with pytest.raises(RunError, match=r"version 7 of the defaults.*or a later one"):
        prepare(settings(shapes), run.uri)


# ---- trees ----------------------------------------------------------------------------------------

NAMES = st.sampled_from("abcd")
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
TREES = st.recursive(VALUES, lambda inner: st.dictionaries(NAMES, inner, min_size=1), max_leaves=12)


@given(st.dictionaries(NAMES, TREES, min_size=1))
def test_flatten_and_nested_are_inverse(tree: Tree) -> None:
    assert nested(flatten(tree)) == tree


@dataclass(frozen=True)
class Setting:
    """A setting of a spatial run and values of it, the default first."""

    path: tuple[str, ...]
    values: tuple[Any, ...]


FREE = (
    Setting(("seed",), (0, 1, 2)),
    Setting(("precision",), ("float32", "bf16")),
    Setting(("slots",), (None, 4)),
    Setting(("dataset", "limit"), (None, 1, 5)),
    Setting(("network", "crop"), (None, 0, 16)),
    Setting(("spatial", "areas"), ((0.05, 0.1, 0.2, 0.4, 0.6, 0.8), (0.1,))),
    Setting(("spatial", "mask", "kernel"), ("torchray", "paper")),
    Setting(("spatial", "schedule", "momentum"), (0.9, 0.5)),
    Setting(("channel", "tau"), (1.0, 0.5)),  # which a spatial run does not read
)
CHOICES = st.tuples(*(st.none() | st.sampled_from(setting.values) for setting in FREE))


def chosen_config(choices: tuple[Any, ...]) -> RunConfig:
    """None leaves a setting to its default."""
    given_ = {s.path: value for s, value in zip(FREE, choices, strict=True) if value is not None}
    places = {("dataset", "name"): "shapes", ("network", "name"): "shapes_cnn"}
    return build_config(merge(default_tree(), nested(given_ | places)))


@effort(deadline=None, max_examples=50)
@given(CHOICES, CHOICES)
def test_two_configurations_are_one_identity_if_and_only_if_they_store_the_same(
    a: tuple[Any, ...], b: tuple[Any, ...]
) -> None:
    first, second = chosen_config(a), chosen_config(b)
    assert (config_settings(first) == config_settings(second)) == (stored_tree(first) == stored_tree(second))
    whole = nested(flatten(default_tree()) | flatten(config_settings(first)))
    assert stored_tree(build_config(whole)) == stored_tree(first)
    assert differences(whole) == config_settings(first)


# ---- run.json -------------------------------------------------------------------------------------

GARBAGE: tuple[Any, ...] = (None, True, 0, -1, 3.5, 10**30, "", "x", "\ud800", [], [None], {}, {"a": {}})


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested mappings and lists."""
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    return [inner for key, value in items for inner in ((*path, key), *places(value, (*path, key)))]


@pytest.mark.parametrize("value", GARBAGE, ids=repr)
def test_a_run_json_with_a_wrong_value_is_refused_in_one_message_or_opens(
    shapes: Path, tmp_path: Path, value: Any
) -> None:
    run, _ = prepare(settings(shapes), str(tmp_path))
    path = tmp_path / "run.json"
    text = path.read_text()
    for place in places(json.loads(text)):
        tree = inner = json.loads(text)
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        path.write_text(json.dumps(tree))
        with suppress(RunError):  # and nothing else
            opened = Run.open(run.uri).manifest
            # Only what is no part of the identity may be edited; it is read as it stands or as its type.
            assert place[0] in ("dataset", "weights", "channels", "versions", "rows_per_unit") or (
                json.loads(text) == tree
            )
            assert opened.config_hash == run.manifest.config_hash
