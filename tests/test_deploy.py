"""The cluster files: fields that KubeRay and Ray's launcher know, and commands that our parser takes."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from extremal.jobs.cli.submit import run_parameters

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
TEXTS = {str: str}  # any keys

# The part of KubeRay's ray.io/v1 API that we use (rayjob_types.go, raycluster_types.go), by its JSON names.
POD = {
    "spec": {
        "serviceAccountName": str,
        "nodeSelector": TEXTS,
        "tolerations": [{"key": str, "operator": str, "value": str, "effect": str}],
        "containers": [
            {
                "name": str,
                "image": str,
                "resources": {"requests": TEXTS, "limits": TEXTS},
                "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
            }
        ],
        "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str, "readOnly": bool}}],
    }
}
RAY_JOB = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str},
    "spec": {
        "entrypoint": str,
        "backoffLimit": int,
        "activeDeadlineSeconds": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "rayClusterSpec": {
            "rayVersion": str,
            "authOptions": {"mode": str},
            "enableInTreeAutoscaling": bool,
            "autoscalerOptions": {"idleTimeoutSeconds": int},
            "headGroupSpec": {"rayStartParams": TEXTS, "template": POD},
            "workerGroupSpecs": [
                {
                    "groupName": str,
                    "replicas": int,
                    "minReplicas": int,
                    "maxReplicas": int,
                    "rayStartParams": TEXTS,
                    "template": POD,
                }
            ],
        },
    },
}


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def mistakes(value: Any, allowed: Any, where: str = "") -> list[str]:
    """What a value has that its table does not allow."""
    if isinstance(allowed, list):
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [m for i, item in enumerate(value) for m in mistakes(item, allowed[0], f"{where}[{i}]")]
    if not isinstance(allowed, dict):
        return [] if type(value) is allowed else [f"{where}: {value!r} is no {allowed.__name__}"]
    if not isinstance(value, dict):
        return [f"{where} is no mapping"]
    if str in allowed:
        return [m for key, item in value.items() for m in mistakes(item, allowed[str], f"{where}.{key}")]
    unknown = [f"{where}.{key} is unknown" for key in value.keys() - allowed.keys()]
    known = value.keys() & allowed.keys()
    return unknown + [m for key in known for m in mistakes(value[key], allowed[key], f"{where}.{key}")]


def test_rayjob_has_only_fields_of_the_api_with_their_types() -> None:
    job = load("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert mistakes(job, RAY_JOB) == []
    job["spec"]["backofLimit"] = 5
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert mistakes(job, RAY_JOB) == [
        ".spec.backofLimit is unknown",
        ".spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus: 0 is no str",
    ]


def test_rayjob_keeps_its_head_off_spot_and_its_gpus_on_demand() -> None:
    spec = load("rayjob.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    head, (gpu,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert "tolerations" not in head["template"]["spec"]
    assert (gpu["minReplicas"], cluster["enableInTreeAutoscaling"]) == (0, True)
    assert any("spot" in toleration["key"] for toleration in gpu["template"]["spec"]["tolerations"])
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"]


def test_cluster_has_rays_own_schema() -> None:
    cluster = load("cluster.yaml")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    gpu = cluster["available_node_types"]["gpu"]
    assert gpu["min_workers"] == 0
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert cluster["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_all_nodes_run_one_image_whose_ray_is_the_one_named() -> None:
    spec = load("rayjob.yaml")["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    assert images == {load("cluster.yaml")["docker"]["image"]}
    assert images.pop().endswith(f"-ray{spec['rayVersion']}")


def rayjob_arguments() -> list[str]:
    program, command, *arguments = shlex.split(load("rayjob.yaml")["spec"]["entrypoint"])
    assert (program, command) == ("extremal", "run")
    return arguments


def submit_arguments() -> list[str]:
    """Of the command that cluster.yaml tells to type."""
    text = (DEPLOY / "cluster.yaml").read_text().replace("\\\n#", "")
    (line,) = re.findall(r"^# +extremal submit -- (.*)$", text, re.MULTILINE)
    return shlex.split(line)


@pytest.mark.parametrize("arguments", [rayjob_arguments(), submit_arguments()], ids=["rayjob", "cluster"])
def test_commands_have_options_of_extremal_run(arguments: list[str]) -> None:
    parameters = run_parameters(arguments)
    assert parameters["out"].startswith("s3://")
    # A cluster that has no GPU yet must be asked for them: nothing can be counted.
    assert parameters["device"] == "cuda"
    largest = load("rayjob.yaml")["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"]
    assert parameters["actors"] <= min(largest, load("cluster.yaml")["max_workers"])
