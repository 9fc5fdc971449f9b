"""`extremal run` as a job of a Ray cluster: submitted, followed, and submitted again to resume.

The job is an ordinary `extremal run` on the head node. Its id is the name of the run and the attempt;
what belongs to the same run is told by the job's metadata, so that two attempts never work at once.
"""

import asyncio
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

import yaml
from ray.exceptions import RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from extremal.storage.errors import UserError
from extremal.storage.files import printable

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
RUN_KEY = "extremal_run"
POLL_S = 1.0
# gitignore rules, the last one that matches decides. Code travels; data, weights and secrets cannot.
EXCLUDES = (".?*", "?*.*", *(f"!*.{end}" for end in ("py", "typed", "toml", "csv", "txt")), "/runs")
SECRET_NAME = re.compile(
    r"^(AWS|GOOGLE|AZURE)_(?!.*(REGION|ENDPOINT))|KEY(_|$)"
    r"|(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|AUTH)S?(_|$)",
    re.IGNORECASE,
)
TOKEN_IN_URL = re.compile(r"https?://[^/\s@]+@")
NO_SECRETS = (
    "Ray shows it to everybody who reads the job. Give credentials to the cluster's nodes instead: "
    "an instance role, a service account or a mounted secret."
)


class SubmitError(UserError):
    """Nothing was submitted; the message says why and what to do."""


def connect(address: str | None) -> JobSubmissionClient:
    """A client of the cluster whose dashboard is at the address.

    Args:
        address: http://HEAD:8265; None = $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS or this machine.

    Raises:
        SubmitError: no such head, no permission, no job server.
    """
    if address:
        # Ray prefers this variable to the client's argument; what was typed must win.
        os.environ["RAY_API_SERVER_ADDRESS"] = address if "://" in address else f"http://{address}"
    environment = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    wanted = environment or DEFAULT_ADDRESS
    if _holds_secret(wanted):
        raise SubmitError("The address of the cluster holds a password. Use RAY_AUTH_TOKEN or a tunnel.")
    for handler in logging.getLogger("ray").handlers:
        handler.setLevel(logging.WARNING)  # every upload and socket is reported otherwise
    with _explained(wanted):
        return JobSubmissionClient(wanted)


def submit(
    client: JobSubmissionClient,
    arguments: Sequence[str],
    out: str,
    name: str | None,
    runtime_env: dict[str, Any],
) -> str:
    """Submit `extremal run` with these arguments.

    Args:
        out: the --out among the arguments.
        name: first part of the job's id; None = the last part of `out`.
        runtime_env: from `read_runtime_env`.

    Returns:
        The id of the job: the name, or name-2 and so on for later attempts.

    Raises:
        SubmitError: the run is being computed already, a secret would be published, Ray refuses.
    """
    _check_out(out)
    command = shlex.join(["python", "-m", "extremal.jobs.cli", "run", *arguments])
    _refuse_secrets(command, runtime_env)
    run = out.rstrip("/")
    with _explained(client.get_address()):
        jobs = [job for job in client.list_jobs() if job.submission_id]
        for job in jobs:
            if (job.metadata or {}).get(RUN_KEY) == run and not job.status.is_terminal():
                raise SubmitError(
                    f"{job.submission_id} is {job.status} and works on {run} already.\n"
                    + commands(client, str(job.submission_id))
                )
        taken = [str(job.submission_id) for job in jobs]
        return client.submit_job(
            entrypoint=command,
            submission_id=job_id(name or run.rpartition("/")[2], taken),
            runtime_env=runtime_env,
            metadata={RUN_KEY: run},
        )


def follow(client: JobSubmissionClient, job: str, write: Callable[[str], None]) -> JobDetails:
    """Write the job's log until it ends.

    Returns:
        The job at its end.

    Raises:
        SubmitError: contact is lost; the job goes on.
    """
    try:
        asyncio.run(_tail(client, job, write))
        # The log may end a moment before the job.
        while not (details := client.get_job_info(job)).status.is_terminal():
            time.sleep(POLL_S)
    except Exception as error:  # of the network, aiohttp, requests or Ray: none of them harms the job
        raise SubmitError(
            f"Lost contact with {job}, which goes on: {_line(error)}\n{commands(client, job)}"
        ) from error
    return details


async def _tail(client: JobSubmissionClient, job: str, write: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(job):
        write(lines)


def verdict(details: JobDetails) -> tuple[int, str]:
    """Exit code of a job that has ended, the driver's own where Ray knows it, and a sentence about it."""
    job, code = details.submission_id, details.driver_exit_code
    if details.status is JobStatus.SUCCEEDED:
        return 0, f"{job} succeeded"
    if details.status is JobStatus.STOPPED:
        return 1, f"{job} was stopped. Committed shards are safe; submit the same command to resume."
    if code:
        # Popen counts signals below zero, shells above 128.
        return code if code > 0 else 128 - code, f"{job} failed with exit code {code}"
    return 1, f"{job} failed before it ran: {details.message}"


def commands(client: JobSubmissionClient, job: str) -> str:
    """How to follow and to stop a job."""
    where = f"--address {shlex.quote(client.get_address())} {job}"
    return f"follow it: ray job logs --follow {where}\nstop it:   ray job stop {where}"


def job_id(name: str, taken: Collection[str]) -> str:
    """The name in letters that Ray takes, and the number of the attempt if it is not the first."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
    return next(i for i in chain([clean], (f"{clean}-{n}" for n in count(2))) if i not in taken)


def read_runtime_env(file: Path | None, working_dir: Path | None) -> dict[str, Any]:
    """Ray's runtime environment: that of a YAML file, and a folder of code without its data.

    Raises:
        SubmitError: the file or the folder cannot be used.
    """
    environment = {} if file is None else _read_yaml(file)
    if working_dir is not None:
        if not working_dir.is_dir():
            raise SubmitError(f"--working-dir {working_dir}: no such folder.")
        environment["working_dir"] = str(working_dir)
    if environment.keys() & {"working_dir", "py_modules"}:
        environment["excludes"] = [*EXCLUDES, *(environment.get("excludes") or [])]
    return environment


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SubmitError(f"--runtime-env {file}: {_line(error)}") from error
    if not isinstance(content, dict):
        raise SubmitError(f"--runtime-env {file}: expected the keys of a Ray runtime environment.")
    return content


def _check_out(out: str) -> None:
    """A relative folder would lie in the job's temporary files and vanish with them."""
    if "://" not in out and not out.startswith("/"):
        raise SubmitError(
            f"--out {out}: give a URI (s3://bucket/run) or an absolute path that all nodes share."
        )


def _refuse_secrets(command: str, runtime_env: dict[str, Any]) -> None:
    for name in runtime_env.get("env_vars") or {}:
        if SECRET_NAME.search(str(name)):
            raise SubmitError(f"env_vars.{name} looks like a secret. {NO_SECRETS}")
    if any(_holds_secret(text) for text in (command, yaml.safe_dump(runtime_env))):
        raise SubmitError(f"A URL holds a password. {NO_SECRETS}")


def _holds_secret(text: str) -> bool:
    return printable(text) != text or TOKEN_IN_URL.search(text) is not None


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn what the client raises into one SubmitError."""
    try:
        yield
    except (RayError, RuntimeError, OSError, ValueError, TypeError) as error:
        raise SubmitError(_advice(error, address)) from error


def _advice(error: Exception, address: str) -> str:
    text = _line(error)
    if type(error).__name__ == "AuthenticationError" or "status code 401" in text:  # Ray < 2.52 has no class
        return (
            f"{address} wants the cluster's token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
            "(or RAY_AUTH_TOKEN_PATH)."
        )
    if isinstance(error, ConnectionError):
        return (
            f"No Ray dashboard answers at {address}. Does the head run with ray[default], "
            "and is its port 8265 reachable (ray dashboard, kubectl port-forward)?"
        )
    if "status code 413" in text or "maximum size" in text:
        return "The working dir is too large: it should hold code only. Data and weights stay with the nodes."
    if "ray[default]" in text:
        return "Submitting needs more of Ray than is installed: pip install 'ray[default]'."
    return f"{address} refused: {text}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
