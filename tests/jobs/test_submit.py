"""Submitting: ids, quoting, refusals and messages with a client of paper, and one real cluster."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import pytest
import yaml
from distributions import FLOORS, ROOT, Installed, checkout, make_foreign_code
from processes import below
from ray._private.runtime_env.packaging import create_package
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient, JobType
from typer.testing import CliRunner

from extremal.jobs import submit as cluster
from extremal.jobs.cli.app import app
from extremal.jobs.submit import EXCLUDES, RUN_KEY, SubmitError, job_id, read_runtime_env, verdict
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.storage import Run, kinds

ADDRESS = "http://head:8265"
OUT = "s3://bucket/voc"
ARGUMENTS = ["--dataset", "voc", "--root", "/data", "--out", OUT]
runner = CliRunner()


def job(name: str, status: str, run: str | None = OUT, **fields: Any) -> JobDetails:
    metadata = {} if run is None else {RUN_KEY: run}
    return JobDetails(
        type=JobType.SUBMISSION,
        submission_id=name,
        status=JobStatus(status),
        entrypoint="",
        metadata=metadata,
        **fields,
    )


class PaperClient:
    """Stands for JobSubmissionClient: jobs that are there, and what was submitted."""

    def __init__(self, jobs: Sequence[JobDetails] = (), end: BaseException | None = None) -> None:
        self.jobs = list(jobs)
        self.end = end
        self.submitted: list[dict[str, Any]] = []

    def get_address(self) -> str:
        return ADDRESS

    def list_jobs(self) -> list[JobDetails]:
        return self.jobs

    def submit_job(self, **job: Any) -> str:
        self.submitted.append(job)
        return str(job["submission_id"])

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        yield f"log of {name}\n"
        if self.end is not None:
            raise self.end

    def get_job_info(self, name: str) -> JobDetails:
        return job(name, "SUCCEEDED", driver_exit_code=0)


def submit(client: PaperClient, arguments: Sequence[str] = ARGUMENTS, **changes: Any) -> str:
    settings: dict[str, Any] = {"out": OUT, "name": None, "runtime_env": {}}
    return cluster.submit(cast(JobSubmissionClient, client), arguments, **{**settings, **changes})


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> PaperClient:
    """The client that the command line gets."""
    client = PaperClient()
    monkeypatch.setattr(cluster, "connect", lambda address: client)
    return client


# ---- ids and attempts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "taken", "expected"),
    [
        ("voc", [], "voc"),
        ("voc", ["other"], "voc"),
        ("voc", ["voc"], "voc-2"),
        ("voc", ["voc", "voc-2", "voc-3"], "voc-4"),
        ("voc 2007:test", [], "voc-2007-test"),
        ("../..", [], "run"),
    ],
)
def test_an_id_is_the_runs_name_and_its_attempt(name: str, taken: list[str], expected: str) -> None:
    assert job_id(name, taken) == expected


def test_resubmission_gets_the_next_id() -> None:
    client = PaperClient([job("voc", "STOPPED"), job("coco", "RUNNING", "s3://bucket/coco")])
    assert submit(client) == "voc-2"
    assert client.submitted[0]["metadata"] == {RUN_KEY: OUT}
    assert submit(client, out=OUT + "/", name="again") == "again"
    assert client.submitted[1]["metadata"] == {RUN_KEY: OUT}


def test_runs_of_the_same_name_do_not_hinder_each_other() -> None:
    assert submit(PaperClient([job("voc", "RUNNING", "s3://elsewhere/voc")])) == "voc-2"
    assert submit(PaperClient([job("voc", "RUNNING", run=None)])) == "voc-2"


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_run_that_is_being_computed_is_refused(status: str) -> None:
    client = PaperClient([job("voc", "FAILED"), job("voc-2", status)])
    with pytest.raises(SubmitError) as caught:
        submit(client)
    message = str(caught.value)
    assert f"voc-2 is {status}" in message
    assert f"ray job logs --follow --address {ADDRESS} voc-2" in message
    assert f"ray job stop --address {ADDRESS} voc-2" in message
    assert not client.submitted


def test_the_entrypoint_keeps_every_argument_whole() -> None:
    client = PaperClient()
    arguments = [*ARGUMENTS, "--labels", "a file.csv", "--areas", "0.1,0.2", "--layer", "$(rm -rf ~); 'x'"]
    submit(client, arguments)
    expected = ["python", "-m", "extremal.jobs.cli", "run", *arguments]
    assert shlex.split(client.submitted[0]["entrypoint"]) == expected


# ---- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "voc"], "Give --out"),
        (["--out", "runs/voc"], "absolute path that all nodes share"),
        (["--out", "s3://KEY:hunter2@bucket/voc"], "A URL holds a password"),
        (["--out", OUT, "--stepz", "3"], "No such option"),
        (["--out", OUT, "--actors", "0"], "--actors"),
    ],
)
def test_bad_arguments_are_refused_before_the_cluster_sees_them(
    paper: PaperClient, arguments: list[str], message: str
) -> None:
    result = runner.invoke(app, ["submit", "--", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.output
    assert "hunter2" not in result.output
    assert not paper.submitted


@pytest.mark.parametrize(
    "name", ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS", "HF_TOKEN", "my_apikey"]
)
def test_secrets_do_not_enter_the_runtime_env(paper: PaperClient, tmp_path: Path, name: str) -> None:
    file = tmp_path / "env.yaml"
    file.write_text(yaml.safe_dump({"env_vars": {"OMP_NUM_THREADS": "1", name: "hunter2"}}))
    result = runner.invoke(app, ["submit", "--runtime-env", str(file), "--", *ARGUMENTS])
    assert result.exit_code == 2
    assert f"env_vars.{name} looks like a secret" in result.output
    assert "instance role" in result.output
    assert "hunter2" not in result.output
    assert not paper.submitted


def test_harmless_variables_and_urls_pass() -> None:
    names = ["AWS_REGION", "AWS_ENDPOINT_URL", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS"]
    environment = {"env_vars": dict.fromkeys(names, "1"), "pip": ["x @ git+ssh://git@host/x"]}
    client = PaperClient()
    submit(client, runtime_env=environment)
    assert client.submitted[0]["runtime_env"] == environment
    with pytest.raises(SubmitError, match="password"):
        submit(client, runtime_env={"pip": ["x @ git+https://hunter2@host/x"]})
    for out in ("s3://KEY:SEC/RET@bucket/run", "s3://bucket/run?secret_key=hunter2"):
        with pytest.raises(SubmitError, match="password"):
            submit(client, ["--out", out], out=out)


def test_runtime_env_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "env.yaml"
    with pytest.raises(SubmitError, match=r"env\.yaml"):
        read_runtime_env(file, None)
    file.write_text("- a list")
    with pytest.raises(SubmitError, match="expected the keys"):
        read_runtime_env(file, None)
    with pytest.raises(SubmitError, match="no such folder"):
        read_runtime_env(None, tmp_path / "nowhere")


def test_code_travels_and_data_stays(tmp_path: Path) -> None:
    code = [
        "jobs/cli/app.py",
        "jobs/py.typed",
        "pipeline/datasets/data/synsets.csv",
        "pyproject.toml",
        "own/net.py",
    ]
    data = ["net.pth", "data/a.jpg", "data/notes.json", "runs/voc/plan.parquet", "runs/voc/scores/p.csv"]
    hidden = [".env", ".git/config", ".aws/credentials", ".venv/x.py", "x.egg-info/top_level.txt", "key.pem"]
    folder = tmp_path / "folder.v1"  # its own name is no reason to leave it out
    for name in [*code, *data, *hidden]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    file = tmp_path / "env.yaml"
    file.write_text("excludes: ['!notes.json']")
    for environment, extra in [(None, []), (file, ["data/notes.json"])]:
        excludes = read_runtime_env(environment, folder)["excludes"]
        target = tmp_path / f"{len(extra)}.zip"  # one that exists is not made again
        create_package(str(folder), target, include_gitignore=True, excludes=excludes)
        with ZipFile(target) as package:
            names = {name for name in package.namelist() if not name.endswith("/")}
        assert names == {*code, *extra}
    assert "excludes" not in read_runtime_env(None, None)
    assert EXCLUDES[-1] == "/runs"


def test_a_checkout_travels_with_its_links_resolved(installed: Installed, tmp_path: Path) -> None:
    """`--working-dir .` of this project: the job runs the checkout's code, not that of its node."""
    source = checkout(tmp_path / "checkout")
    target, folder = tmp_path / "package.zip", tmp_path / "job"
    excludes = read_runtime_env(None, source)["excludes"]
    create_package(str(source), target, include_gitignore=True, excludes=excludes)
    with ZipFile(target) as package:
        package.extractall(folder)  # as Ray does, into the job's current folder
    modules = ("extremal.jobs.run", "extremal.pipeline.prepare", "extremal.workers.shard.worker")
    code = f"import {', '.join(modules)}\n" + "\n".join(f"print({name}.__file__)" for name in modules)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=installed.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [Path(line) for line in done.stdout.split()] == [
        folder / f"{name.replace('.', '/')}.py" for name in modules
    ]
    data = {path.relative_to(ROOT) for floor in FLOORS for path in (ROOT / floor).glob("**/data/*")}
    assert data
    assert all((folder / "extremal" / path).is_file() for path in data)


# ---- messages -------------------------------------------------------------------------------------


@pytest.fixture
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, "")  # and restored, as connecting may set it


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:  # all open at once, or one could come twice
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]


@pytest.mark.usefixtures("no_address")
def test_a_head_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:8265")  # what is typed wins
    result = runner.invoke(app, ["submit", "--address", address, "--", *ARGUMENTS])
    assert result.exit_code == 2
    assert f"No Ray dashboard answers at http://{address}" in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.usefixtures("no_address")
@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, "Unauthorized: Missing authentication token", "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"),
        (403, "Forbidden: Invalid authentication token", "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"),
        (404, "", "refused: Version check returned 404"),
        (200, '{"ray_version": "1.8.0"}', "refused: Ray version 1.8.0 is running on the cluster"),
        (200, "<html>", "refused"),
        (502, "", "refused: 502"),
    ],
)
def test_a_head_that_refuses(status: int, body: str, message: str) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        result = runner.invoke(
            app, ["submit", "--address", f"http://127.0.0.1:{server.server_port}", "--", *ARGUMENTS]
        )
        server.shutdown()
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Request failed with status code 413: Maximum request body size exceeded", "should hold code only"),
        ("The Ray jobs CLI & SDK require the ray[default] installation", r"pip install 'ray\[default\]'"),
        ("Job with submission_id voc already exists", f"{ADDRESS} refused: .*already exists"),
    ],
)
def test_a_submission_that_fails(text: str, message: str) -> None:
    class Refusing(PaperClient):
        def submit_job(self, **job: Any) -> str:
            raise RuntimeError(text)

    with pytest.raises(SubmitError, match=message):
        submit(Refusing())


def test_a_password_in_the_address_is_not_shown(no_address: None) -> None:
    with pytest.raises(SubmitError, match="holds a password") as caught:
        cluster.connect("http://me:hunter2@head:8265")
    assert "hunter2" not in str(caught.value)


# ---- following ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("details", "code", "sentence"),
    [
        (job("voc", "SUCCEEDED", driver_exit_code=0), 0, "voc succeeded"),
        (job("voc", "FAILED", driver_exit_code=2), 2, "exit code 2"),
        (job("voc", "FAILED", driver_exit_code=-9), 137, "failed"),
        (job("voc", "FAILED", message="runtime_env: no such package"), 1, "no such package"),
        (job("voc", "STOPPED"), 1, "same command to resume"),
    ],
)
def test_the_exit_code_is_the_jobs(details: JobDetails, code: int, sentence: str) -> None:
    assert verdict(details)[0] == code
    assert sentence in verdict(details)[1]


def test_following_shows_the_log(paper: PaperClient) -> None:
    result = runner.invoke(app, ["submit", "--", *ARGUMENTS])
    assert result.exit_code == 0
    assert result.stdout == "log of voc\n"
    assert f"submitted voc to {ADDRESS}" in result.stderr


@pytest.mark.parametrize(
    ("end", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "voc goes on without you"),
        (RuntimeError("WebSocket closed"), 1, "Lost contact with voc, which goes on"),
    ],
)
def test_a_follower_that_goes_leaves_the_job_and_says_how_to_return(
    paper: PaperClient, end: BaseException, code: int, sentence: str
) -> None:
    paper.end = end
    result = runner.invoke(app, ["submit", "--", *ARGUMENTS])
    assert result.exit_code == code
    assert sentence in result.stderr
    assert f"ray job logs --follow --address {ADDRESS} voc" in result.stderr
    assert f"ray job stop --address {ADDRESS} voc" in result.stderr


def test_no_wait_prints_the_commands(paper: PaperClient) -> None:
    result = runner.invoke(app, ["submit", "--no-wait", "--name", "mine", "--", *ARGUMENTS])
    assert result.exit_code == 0
    assert f"ray job logs --follow --address {ADDRESS} mine" in result.stdout
    assert "log of" not in result.output


# ---- a real cluster -------------------------------------------------------------------------------

PAIRS, SHARDS = 12, 6


@pytest.fixture
def head(installed: Installed, tmp_path: Path) -> Iterator[str]:
    """Address of the dashboard of a Ray of our own, whose nodes have the wheel; it ends with the test."""
    ports = iter(free_ports(6))
    dashboard = next(ports)
    names = ("port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port")
    options = [f"--{name}={next(ports)}" for name in (*names, "ray-client-server-port")]
    options += ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-port={dashboard}"]
    options += ["--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    binaries = Path(sys.executable).parent
    environment = {
        **installed.environment,
        "PATH": f"{binaries}:{os.environ['PATH']}",  # of `python` in the job
        "OMP_NUM_THREADS": "1",
    }
    # Sockets lie in its folder, and their paths must be short.
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as temp,
        (tmp_path / "head.log").open("w") as log,
    ):
        command = [str(binaries / "ray"), "start", "--head", "--block", *options, f"--temp-dir={temp}"]
        command.append("--object-store-memory=100000000")
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop `ray start --block`, which stops its processes, and what is left of them."""
    ours = below(process.pid)
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    time.sleep(1)  # for workers to notice
    for pid in ours.keys() - {process.pid}:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def wait_for_client(address: str) -> tuple[JobSubmissionClient, str]:
    """A client, and the id of a first job that fails: the dashboard answers before jobs are taken."""
    deadline = time.monotonic() + 120
    while True:
        try:
            client = cluster.connect(address)
            return client, client.submit_job(entrypoint="exit 7")
        except (SubmitError, RuntimeError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def stop_after_a_shard(client: JobSubmissionClient, job: str, out: Path, over: threading.Event) -> str:
    """Stop the job when something is committed; what a second submission was told before."""
    wait_until(lambda: Run.find(str(out)) is not None, over)
    with pytest.raises(SubmitError) as refusal:
        cluster.submit(client, ["--out", str(out)], str(out), None, {})
    wait_until(lambda: bool(Run.open(str(out)).committed()), over)
    client.stop_job(job)
    return str(refusal.value)


def wait_until(condition: Callable[[], bool], over: threading.Event) -> None:
    while not condition():
        assert not over.wait(0.05), "the job ended before"


@pytest.mark.filterwarnings("ignore:ssl=None")  # Ray's
@pytest.mark.usefixtures("no_address")
def test_a_stopped_job_is_resumed_by_the_same_command(head: str, tmp_path: Path) -> None:
    """From a working directory that holds the user's own `pipeline`, `jobs`, ..., which nobody imports."""
    make_shapes(tmp_path / "shapes", train=1, test=PAIRS // 2)
    code, out = tmp_path / "code", tmp_path / "results" / "my run"
    make_foreign_code(code)
    (code / "run.toml").write_text(
        f"batch = 2\nshard_size = 2\n[dataset]\nname = 'shapes'\nroot = '{tmp_path / 'shapes'}'\n"
        "split = 'test'\n[network]\nname = 'shapes_cnn'\nweights = 'random'\nresize = 64\n"
        "[spatial]\nareas = [0.1, 0.3]\n[spatial.mask]\nstep = 8\nsigma = 8.0\n"
        "[spatial.schedule]\nsteps = 300\n"
    )
    client, mistaken = wait_for_client(head)
    assert verdict(cluster.follow(client, mistaken, print))[0] == 7
    command = ["submit", "--address", head, "--working-dir", str(code), "--name", "my run", "--"]
    arguments = ["--config", "run.toml", "--actors", "1", "--out", str(out)]

    over = threading.Event()
    with ThreadPoolExecutor() as pool:
        stopping = pool.submit(stop_after_a_shard, client, "my-run", out, over)
        first = runner.invoke(app, [*command, *arguments])
        over.set()
    assert first.exit_code == 1, first.output
    assert "my-run is RUNNING" in stopping.result()
    assert "submitted my-run to" in first.stderr
    assert "0/6 shards" in first.stdout
    assert "my-run was stopped" in first.stderr
    committed = len(Run.open(str(out)).committed())
    assert 0 < committed < SHARDS

    second = runner.invoke(app, [*command, *arguments])
    assert second.exit_code == 0, second.output
    assert "submitted my-run-2 to" in second.stderr
    assert "resuming" in second.stdout
    run = Run.open(str(out))
    assert run.table(run.kind, ["pair"])["pair"].to_pylist() == list(range(PAIRS))
    assert run.table(kinds.FAILURES).num_rows == 0
