"""Runs and images on object stores: real servers in processes of their own, reached over real sockets."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pyarrow.csv
import pyarrow.fs as pafs
import pytest
from helpers import make_run, manifest, plan, rows
from processes import EXTREMAL, run_command, start, wait_for_a_shard
from runs import SETTINGS, compute, timeless
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.jobs.options import assemble
from extremal.pipeline.aggregates.comparison import compare, make_columns
from extremal.pipeline.aggregates.pointing import Rule, pointing
from extremal.pipeline.config import build_config, merge, method_trees, stored_tree
from extremal.pipeline.datasets.imagenet import imagenet_wnids
from extremal.pipeline.datasets.open import open_dataset
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.errors import DatasetError
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.storage import Run, RunError, kinds
from extremal.storage.files import open_filesystem
from extremal.storage.folder import FileFault, open_root
from extremal.storage.scores import write_scores
from extremal.storage.verify import sweep, verify
from extremal.workers.config import RunConfig
from extremal.workers.shard.worker import Worker

KEY, SECRET = "AKIDEXAMPLE", "s3cr3t/with+signs"
BUCKET = "bucket"
VOC = "VOCdevkit/VOC2007"

At = Callable[[str], str]  # the URI of a path

PAIRS, SHARDS = 12, 6


@contextmanager
def serve(*command: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A server on a free port, which the command's PORT stands for; gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [str(port) if part == "PORT" else part for part in command]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
            time.sleep(0.1)
        yield process, port
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def s3_uri(port: int, path: str, **more: object) -> str:
    query = "".join(f"&{name}={value}" for name, value in more.items())
    address = f"scheme=http&endpoint_override=127.0.0.1%3A{port}&region=us-east-1"
    return f"s3://{KEY}:{quote(SECRET, safe='')}@{path}?{address}{query}"


@contextmanager
def moto() -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    with serve(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "PORT") as server:
        filesystem, path = open_filesystem(s3_uri(server[1], BUCKET, allow_bucket_creation="true"))
        filesystem.create_dir(path)
        yield server


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with moto() as (_, port):
        yield port


@pytest.fixture
def s3(port: int) -> At:
    return lambda path: s3_uri(port, f"{BUCKET}/{path}")


@pytest.fixture(scope="module")
def gs() -> Iterator[At]:
    emulator = str(Path(sys.executable).with_name("gcp-storage-emulator"))
    options = ("--host=127.0.0.1", "--in-memory", f"--default-bucket={BUCKET}")
    with serve(emulator, "start", "--port", "PORT", *options) as (_, port):
        address = f"scheme=http&endpoint_override=127.0.0.1%3A{port}&retry_limit_seconds=5"
        yield lambda path: f"gs://anonymous@{BUCKET}/{path}?{address}"


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> At:
    found: At = request.getfixturevalue(request.param)
    return found


def upload(folder: Path, uri: str) -> None:
    filesystem, path = open_filesystem(uri)
    pafs.copy_files(
        str(folder), path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=filesystem
    )


def contents(uri: str) -> dict[str, bytes]:
    """Every object below a URI."""
    filesystem, root = open_filesystem(uri)
    found = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    paths = [info.path for info in found if info.type == pafs.FileType.File]
    return {path: filesystem.open_input_stream(path).read() for path in paths}


def assert_no_secret(*texts: str | bytes) -> None:
    for text in texts:
        raw = text if isinstance(text, bytes) else text.encode()
        for secret in (KEY, SECRET, quote(SECRET, safe=""), SECRET.split("/", maxsplit=1)[0]):
            assert secret.encode() not in raw


# ---- runs -----------------------------------------------------------------------------------------


def test_a_run_is_made_resumed_and_scored(store: At) -> None:
    uri = store("runs/a%20b/first")
    assert Run.find(uri) is None
    run = Run.create(uri, manifest(kinds.SPATIAL), plan([0, 0, 1, 2]))
    spatial = {"class_name": "dog", "areas": [0.1], "score_preserve": [1.0]}
    point = {"method": "spatial", "class_name": "dog", "distance2": 4}
    for shard, pair in ((2, 3), (0, 0)):
        tables = {kinds.SPATIAL: rows(kinds.SPATIAL, {"pair": pair, **spatial})}
        run.commit(shard, tables | {kinds.POINTS: rows(kinds.POINTS, {"pair": pair, **point})})
    again = Run.open(uri)
    assert again.manifest == run.manifest
    assert again.plan().equals(plan([0, 0, 1, 2]))
    assert (again.committed(), again.missing(), again.is_committed(1)) == ([0, 2], [1], False)
    again.commit(1, {kinds.SPATIAL: rows(kinds.SPATIAL, {"pair": 2, **spatial})})
    sweep(again)
    assert run.missing() == []
    assert run.table(kinds.SPATIAL, ["pair"])["pair"].to_pylist() == [0, 2, 3]
    scores = pointing(run)
    place = write_scores(run, "pointing", scores)
    assert place.replace("://***@", f"://{KEY}:{quote(SECRET, safe='')}@").startswith(uri.split("?")[0])
    filesystem, root = open_filesystem(uri)
    table = pyarrow.csv.read_csv(filesystem.open_input_stream(f"{root}/scores/pointing.csv"))
    assert table["hits"].to_pylist() == scores["hits"].to_pylist() == [2, 0]
    assert_no_secret(*contents(uri).values(), place)


def test_endpoint_and_credentials_may_come_from_the_environment(
    port: int, s3: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(s3("environment"), kinds.SPATIAL, {0: {}})
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    run = Run.open(f"s3://{BUCKET}/environment")
    assert run.committed() == [0]
    assert run.place("points") == f"s3://{BUCKET}/environment/points"


def test_a_bucket_that_is_not_there_is_named(port: int) -> None:
    with pytest.raises(RunError, match=r"Cannot write the run directory s3://\*\*\*@nowhere/run.*nowhere"):
        make_run(s3_uri(port, "nowhere/run"), kinds.SPATIAL, {})
    make_run(s3_uri(port, "new-bucket/run", allow_bucket_creation="true"), kinds.SPATIAL, {})
    with pytest.raises(DatasetError, match=r"s3://\*\*\*@nowhere/images\?.*no such folder"):
        open_dataset("folder", s3_uri(port, "nowhere/images"))


def test_a_bucket_that_refuses_us_is_named(port: int, s3: At) -> None:
    def after(requests: str) -> None:
        """Moto checks credentials after so many requests, and ours are unknown to it."""
        address, kind = f"http://127.0.0.1:{port}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(address, requests.encode(), kind)).close()

    upload_one(s3("refused/a.png"))
    run = make_run(s3("refused-run"), kinds.SPATIAL, {})
    after("0")
    try:
        with pytest.raises(RunError, match=r"s3://\*\*\*@bucket/refused\?.*cannot be reached.*ACCESS_DENIED"):
            Run.find(s3("refused"))
        with pytest.raises(RunError, match=r"Cannot write the run directory s3://\*\*\*@bucket/refused\?"):
            make_run(s3("refused"), kinds.SPATIAL, {})
        with pytest.raises(RunError, match="Cannot list the shards of"):
            run.missing()
        with pytest.raises(OSError, match="AWS Error"):
            run.commit(0, {kinds.SPATIAL: rows(kinds.SPATIAL)})
        with pytest.raises(DatasetError, match=r"refused\?.* cannot be read: .*ACCESS_DENIED"):
            open_dataset("folder", s3("refused"))
    finally:
        after("inf")
    assert run.committed() == []


# ---- images ---------------------------------------------------------------------------------------


def upload_one(uri: str) -> None:
    filesystem, path = open_filesystem(uri)
    with filesystem.open_output_stream(path) as stream:
        stream.write(b"something")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """voc/, imagenet/ (class folders), labelled/ (a flat folder with labels.csv) and coco/."""
    root = tmp_path_factory.mktemp("trees")
    make_shapes(root / "voc", train=1, test=3)
    images = sorted((root / "voc" / VOC / "JPEGImages").iterdir())
    for wnid, image in zip(imagenet_wnids(), images, strict=False):
        (root / "imagenet/val" / wnid).mkdir(parents=True)
        (root / "imagenet/val" / wnid / f"{wnid} 1.jpg").write_bytes(image.read_bytes())
    for folder in ("labelled/images", "coco/val", "coco/annotations"):
        (root / folder).mkdir(parents=True)
        for image in images:
            (root / folder / image.name).write_bytes(image.read_bytes())
    names = [image.name for image in images]
    lines = [f"{name},{label}" for label, name in enumerate([*names, "gone.jpg"])]
    (root / "labelled/labels.csv").write_text("\n".join(["file,label", *lines]))
    corners = [[1, 1, 9, 1, 9, 9, 1, 9]]
    sizes = {"width": 128, "height": 128}
    annotation = {"category_id": 1, "bbox": [1, 1, 8, 8], "segmentation": corners, "iscrowd": 0}
    tree = {
        "images": [{"id": i, "file_name": name, **sizes} for i, name in enumerate(names)],
        "annotations": [annotation | {"id": i, "image_id": i} for i in range(len(names))],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (root / "coco/annotations/instances_val.json").write_text(json.dumps(tree))
    return root


@pytest.mark.parametrize(
    ("name", "path", "split"),
    [
        ("voc", "voc", "2007:test"),
        ("voc", f"voc/{VOC}", "test"),
        ("imagenet", "imagenet", "val"),
        ("imagenet", "labelled", None),
        ("coco", "coco", "val"),
        ("folder", "", None),
    ],
)
def test_pairs_are_those_of_the_local_folder(
    store: At, trees: Path, name: str, path: str, split: str | None
) -> None:
    if not open_root(store("trees")).is_dir():
        upload(trees, store("trees"))
    local = open_dataset(name, str(trees / path), split)
    there = open_dataset(name, store(f"trees/{path}"), split)
    assert (there.name, there.classes, there.vocabulary) == (local.name, local.classes, local.vocabulary)
    pairs = list(there.pairs())
    assert pairs == list(local.pairs())
    assert len(pairs) >= 4


def test_labels_may_lie_elsewhere(s3: At, trees: Path) -> None:
    upload(trees / "labelled", s3("labels%20here"))
    labels = s3("labels%20here/labels.csv")
    root = str(trees / "labelled")
    assert list(open_dataset("imagenet", root, labels=labels).pairs()) == list(
        open_dataset("imagenet", root).pairs()
    )
    identity = stored_tree(settings_of("imagenet", root, labels=labels))
    assert identity["dataset"]["labels"] == "labels.csv"
    with pytest.raises(DatasetError, match=r"cannot read s3://\*\*\*@bucket/none\.csv\?.*no such file"):
        open_dataset("imagenet", root, labels=s3("none.csv"))


def test_files_and_folders(store: At, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / "sub/%41 ü.txt").write_bytes(b"u")
    upload(tmp_path, store("files"))
    for folder in (open_root(str(tmp_path)), open_root(store("files"))):
        assert folder.names() == (["a.txt"], ["sub"])
        assert folder.names("none") == ([], [])
        assert list(folder.walk()) == [("", ["a.txt"]), ("sub", ["%41 ü.txt"])]
        assert folder.read("sub//%41 ü.txt") == b"u"
        found = [folder.is_file(name) for name in ("a.txt", "sub", "b.txt", "sub/%41 ü.txt")]
        assert found == [True, False, False, True]
        assert [folder.is_dir(name) for name in ("", "sub", "a.txt", "none")] == [True, True, False, False]
        for name in ("none", "none/a.txt"):
            with pytest.raises(FileFault, match="no such file"):
                folder.read(name)
            with pytest.raises(FileFault, match="no such file"):
                folder.open(name)
        with folder.open("a.txt") as file:
            assert file.read() == b"a"
        with pytest.raises(FileFault):
            folder.read("sub")


# For every dataset its settings and a network for its classes.
WORK: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "voc": ({"split": "2007:test"}, {}),
    "imagenet": ({"split": "val"}, {"name": "squeezenet1_1", "crop": 64}),
    "folder": ({}, {}),
}


def settings_of(name: str, root: str, **more: str) -> RunConfig:
    dataset, network = WORK[name]
    tree = merge(method_trees("torchray"), SETTINGS)
    tree |= {"dataset": {"name": name, "root": root, **dataset, **more}, "network": tree["network"] | network}
    return build_config(tree)


@pytest.mark.parametrize("name", WORK)
def test_rows_are_those_of_the_local_images(s3: At, trees: Path, tmp_path: Path, name: str) -> None:
    tree = trees / ("labelled" if name == "folder" else name)
    upload(tree, s3(f"work/{name}"))
    local = compute(settings_of(name, str(tree)), tmp_path / "run")
    there = compute(settings_of(name, s3(f"work/{name}")), s3(f"work-runs/{name}"))
    assert local.table(kinds.SPATIAL).num_rows >= 4
    for kind in (kinds.SPATIAL, kinds.POINTS, kinds.FAILURES):
        assert timeless(there, kind).equals(timeless(local, kind))
    assert there.plan().equals(local.plan())
    assert "***" in there.manifest.dataset.root
    assert_no_secret(*contents(s3("work-runs")).values())


def test_missing_and_corrupt_images_are_failures(s3: At, trees: Path) -> None:
    upload(trees / "labelled/images", s3("odd"))
    filesystem, root = open_filesystem(s3("odd"))
    names = open_root(s3("odd")).names()[0]
    settings = settings_of("folder", s3("odd"))
    run, _ = prepare(settings, s3("odd-run"))
    filesystem.delete_file(f"{root}/{names[0]}")
    for name, content in ((names[1], b"no image"), (names[2], b"")):
        with filesystem.open_output_stream(f"{root}/{name}") as stream:
            stream.write(content)
    list(Worker(worker_spec(settings, run, "cpu")).run_shard(0))
    failures = run.table(kinds.FAILURES).to_pylist()
    assert [(row["path"], row["stage"], row["error_type"]) for row in failures] == [
        (name, "decode", "ImageError") for name in names[:3]
    ]
    for row, cause in zip(failures, ("no such file", "not an image", "the file is empty"), strict=True):
        assert f"s3://***@bucket/odd/{row['path']}?" in row["error"]
        assert cause in row["error"]
    assert run.table(kinds.SPATIAL, ["path"])["path"].to_pylist() == names[3:]
    assert_no_secret(*contents(s3("odd-run")).values())


def test_a_store_that_is_gone_fails_the_shard_and_not_its_pairs(trees: Path, tmp_path: Path) -> None:
    with moto() as (process, port):

        def at(path: str) -> str:
            return s3_uri(port, f"{BUCKET}/{path}", connect_timeout=1, request_timeout=1)

        upload(trees / "labelled/images", at("images"))
        settings = settings_of("folder", at("images"))
        run, _ = prepare(settings, str(tmp_path / "run"))
        worker = Worker(worker_spec(settings, run, "cpu"))
        stored = make_run(at("run"), kinds.SPATIAL, {})
        process.send_signal(signal.SIGSTOP)  # it still accepts connections, but says nothing
        start = time.monotonic()
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            list(worker.run_shard(0))
        assert time.monotonic() - start < 60
        process.kill()
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            list(worker.run_shard(0))
        assert run.committed() == []
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            stored.commit(0, {kinds.SPATIAL: rows(kinds.SPATIAL)})
        with pytest.raises(DatasetError, match=r"cannot be read: .*NETWORK_CONNECTION"):
            open_dataset("folder", at("images"))
        with pytest.raises(RunError, match=r"cannot be reached: .*NETWORK_CONNECTION"):
            Run.find(at("run"))


# ---- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        f"s3://{KEY}:{SECRET}@bucket/run",  # its slash should have been written %2F
        f"s3://{KEY}:{quote(SECRET, safe='')}@bucket/run?patience=5",
        f"s3://{KEY}:{quote(SECRET, safe='')}@bucket/run?connect_timeout=long",
        f"s3://bucket/run?secret_key={quote(SECRET, safe='')}",
        f"gs://{KEY}:{SECRET}@bucket/run?patience=5",
        f"nonsense://{KEY}:{SECRET}@bucket/run",
    ],
)
def test_a_wrong_uri_is_refused_without_its_secrets(place: str) -> None:
    what = ["--network", "shapes_cnn", "--weights", "random"]
    for command in (
        ["status", place],
        ["run", "--dataset", "folder", "--root", place, *what],
        ["run", "--dataset", "shapes", "--root", place, *what],
        ["run", "--dataset", "coco", "--labels", place, *what],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2, result.output
        assert "error: " in result.output
        assert_no_secret(result.output)


def test_killed_driver_resumes_on_s3(s3: At, tmp_path: Path) -> None:
    """Images and run on S3, a driver killed midway, the same command again, scores; no secrets anywhere.

    The run compares methods, and its table is to the last digit that of a run that nothing happened to.
    """
    make_shapes(tmp_path / "shapes", train=1, test=PAIRS // 2)
    upload(tmp_path / "shapes", s3("shapes"))
    out = s3("killed-run")
    methods = ["extremal", "grad_cam", "gradient", "rise"]
    toml = tmp_path / "run.toml"
    command = run_command(toml, s3("shapes"), dataset="voc", method=",".join(methods))
    process = start(command, out)
    run = wait_for_a_shard(out, process)
    process.kill()
    first = process.communicate()[0]
    time.sleep(3)  # an orphaned actor may commit one more shard before Ray ends it
    before = {
        shard: run.filesystem.get_file_info(run.shard_path(shard, run.kind)) for shard in run.committed()
    }
    assert 0 < len(before) < SHARDS
    again = start(command, out)
    second = again.communicate(timeout=300)[0]
    assert again.returncode == 0, second
    assert "resuming s3://***@bucket/killed-run?scheme=http" in second
    rows = run.table(kinds.SALIENCY, ["pair", "method"]).to_pylist()
    assert [(row["pair"], row["method"]) for row in rows] == list(product(range(PAIRS), methods))
    assert run.missing() == []
    assert list(verify(run)) == []
    calm = compute(assemble(toml, None, {}, "cpu"), tmp_path / "calm")
    tables = [compare(make_columns([one]), Rule(), intervals=True) for one in (run, calm)]
    assert tables[0].equals(tables[1])
    for shard, info in before.items():
        assert run.filesystem.get_file_info(info.path).mtime == info.mtime, shard
    score = subprocess.run([*EXTREMAL, "score", out], capture_output=True, text=True, timeout=120, check=True)
    assert "scores/pointing.csv?scheme=http" in score.stdout
    assert "killed-run/scores/pointing.csv" in " ".join(contents(out))
    assert_no_secret(first, second, score.stdout, score.stderr, *contents(out).values())
