"""Every manifest is what its program takes, and keeps the policy; every check is seen to refuse something."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.cluster.static import manifests
from tests.cluster.static.manifests import (
    CLUSTER,
    COMPOSE,
    COMPOSE_GPU,
    KUBERNETES,
    Data,
    load,
    policy_errors,
    rendered,
)

VALIDATED = [path for path in manifests.YAML if path.name not in manifests.KUSTOMIZE]
SHORT = {"C": "spec.template.spec.containers.0", "HEAD": "spec.headGroupSpec.template.spec", "S": "services"}
FREE = re.compile(
    r"x-[\w-]+|options|environment|args|labels|matchLabels|nodeSelector|requests|limits|rayStartParams|metadata|provider|"
    r"available_node_types|file_mounts"
)
"""Keys of mappings that take any field, by our choice or by that of the schema."""
AGAINST_THE_POLICY = """
compose S.mlflow.ports.0: 5000:5000
compose S.head.ports.0: 0.0.0.0:8265:8265
compose S.postgres.image: postgres:latest
compose S.postgres.user: null
compose S.worker.healthcheck: null
compose S.worker.deploy.resources.limits.memory: null
compose S.head.cap_drop: null
compose S.head.privileged: true
Service spec.type: LoadBalancer
Deployment spec.template.spec.securityContext.runAsNonRoot: null
Deployment spec.template.spec.hostNetwork: true
Deployment C.livenessProbe: null
Deployment C.image: arae-mlflow
StatefulSet C.resources.limits.memory: null
StatefulSet C.securityContext: null
RayCluster spec.authOptions: null
RayCluster HEAD.securityContext.seccompProfile: null
RayCluster HEAD.containers.0.ports.0.hostPort: 6379
launcher provider.use_internal_ips: false
launcher available_node_types.head.node_config.SecurityGroupIds: null
launcher available_node_types.gpu-spot.node_config.MetadataOptions: null
launcher docker.run_options: []
launcher head_start_ray_commands: [ray start --head --dashboard-host=0.0.0.0]
"""


def only(name: str, kind: str = "") -> Data:
    """Return the document of a file, or its document of one kind."""
    return next(each for each in load(CLUSTER / name) if not kind or manifests.kind_of(CLUSTER / name, each) == kind)


def mistakes(table: str) -> list[Any]:
    """Read lines of `KIND PLACE: VALUE`; null takes away what is there."""
    found = []
    for line in table.strip().splitlines():
        where, place, value = re.split(r":? ", line, maxsplit=2)
        place = re.sub(r"^[A-Z]+(?=\.)", lambda match: SHORT[match[0]], place)
        found.append(pytest.param(where, place, yaml.safe_load(value), id=line))
    return found


@pytest.mark.parametrize("path", VALIDATED, ids=lambda path: path.name)
def test_a_manifest_has_the_form_that_its_program_takes(path: Path) -> None:
    for document in load(path):
        assert manifests.schema_errors(path, document) == []


def test_every_yaml_file_is_checked() -> None:
    others = {CLUSTER / "runtime_env.yaml"}  # for jobs; the tests with a real cluster read it
    found = {path for path in CLUSTER.rglob("*.yaml") if not re.search(r"\.local(\.yaml)?$|\.local/", str(path))}
    assert found - others == {*VALIDATED, *(path for path in KUBERNETES if path.name in manifests.KUSTOMIZE)}


def mappings(node: Any, place: str = "") -> Iterator[str]:
    """Yield the place of every mapping below a node, with a dot behind it, except those that take any field."""
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node if isinstance(node, list) else ()):
        if not FREE.fullmatch(str(key)):
            yield from [f"{place}{key}."] if isinstance(inner, dict) else []
            yield from mappings(inner, f"{place}{key}.")


@pytest.mark.parametrize("path", VALIDATED, ids=lambda path: path.name)
def test_an_unknown_field_is_refused_at_every_place(path: Path) -> None:
    for document in load(path):
        for place in ("", *mappings(document)):
            assert manifests.schema_errors(path, manifests.changed(document, f"{place}unknown", 7)), place


def test_the_manifests_follow_the_policy() -> None:
    assert policy_errors("compose", only("compose.yaml")) == []
    assert policy_errors("launcher", only("ray-cluster.yaml")) == []
    if shutil.which("kubectl"):  # images get their tags from kustomize
        assert [error for document in rendered() for error in policy_errors(document["kind"], document)] == []


@pytest.mark.parametrize(("kind", "place", "value"), mistakes(AGAINST_THE_POLICY))
def test_a_violation_of_the_policy_is_found(kind: str, place: str, value: object) -> None:
    ours = {"compose": [only("compose.yaml")], "launcher": [only("ray-cluster.yaml")]}
    document = next(each for each in ours.get(kind, rendered()) if kind in ours or each["kind"] == kind)
    assert len(policy_errors(kind, manifests.changed(document, place, value))) > len(policy_errors(kind, document))


@pytest.mark.parametrize("path", [*VALIDATED, *KUBERNETES], ids=lambda path: path.name)
def test_no_manifest_holds_a_secret(path: Path) -> None:
    assert manifests.literal_secrets(load(path)) == []


@pytest.mark.parametrize(
    "held",
    [
        {"environment": {"POSTGRES_PASSWORD": "postgres"}},
        {"environment": ["RAY_AUTH_TOKEN=abc"]},
        {"env": [{"name": "MLFLOW_TRACKING_PASSWORD", "value": "x"}]},
        {"run_options": ["--env MLFLOW_FLASK_SERVER_SECRET_KEY=x"]},
        {"command": ["mlflow", "server", "postgresql://mlflow:mlflow@postgres/mlflow"]},
        {"args": ["0123456789abcdef0123456789abcdef"]},
    ],
)
def test_a_secret_would_be_found(held: Data) -> None:
    assert manifests.literal_secrets(held)


def test_the_launcher_accepts_its_manifest() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    document = only("ray-cluster.yaml")
    prepared = prepare_config(document)
    validate_config(prepared)
    assert not prepared["head_setup_commands"], "would install packages that no lock pins"
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepare_config(manifests.changed(document, "head_node_type", "another")))


@pytest.mark.parametrize("files", [[COMPOSE], [COMPOSE, COMPOSE_GPU]], ids=len)
def test_compose_accepts_its_manifests(files: list[Path], tmp_path: Path) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("Compose is not installed")
    names = [word for file in files for word in ("--file", str(file))]
    command = ["docker", "compose", "--env-file", os.devnull, *names, "config", "--quiet"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")


def test_there_is_time_to_drain() -> None:
    for name in ("head", "worker"):
        service = only("compose.yaml")["services"][name]
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace >= int(service["environment"]["ARAE_DRAIN_SECONDS"]) + 20
        assert service["command"][0] == "/opt/arae/cluster/node.sh"
    workers = [(name, pod) for name, pod in manifests.pods(rendered()) if "RayCluster" in name and "head" not in name]
    assert len(workers) == 2
    for name, pod in workers:
        (container,) = pod["containers"]
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert pod["terminationGracePeriodSeconds"] >= int(environment["ARAE_DRAIN_SECONDS"]) + 20, name
        assert container["lifecycle"]["preStop"]["exec"]["command"] == ["/opt/arae/cluster/drain.sh"]


def test_every_pod_is_behind_a_network_policy() -> None:
    policies = [document["spec"] for document in rendered() if document["kind"] == "NetworkPolicy"]
    assert all("Ingress" in policy["policyTypes"] for policy in policies)
    sources = [source for policy in policies for rule in policy["ingress"] for source in rule["from"]]
    assert all(source["podSelector"]["matchLabels"] for source in sources)
    covered = [policy["podSelector"]["matchLabels"].items() for policy in policies]
    for document in rendered():
        if document["kind"] in ("Deployment", "StatefulSet", "RayCluster"):
            spec, labels = document["spec"], {"ray.io/cluster": document["metadata"]["name"]}
            labels = labels if document["kind"] == "RayCluster" else spec["template"]["metadata"]["labels"]
            assert any(selector <= labels.items() for selector in covered), document["metadata"]["name"]


def test_jobs_run_on_the_cluster_of_the_manifest_and_under_a_name() -> None:
    cluster = only("kubernetes/ray-cluster.yaml")
    assert cluster["spec"]["rayVersion"] == version("ray")  # from 2.53 on KubeRay's probes need no wget in the image
    for path in (path for path in KUBERNETES if path.name.startswith("rayjob")):
        spec = load(path)[0]["spec"]
        assert spec["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
        assert "backoffLimit" not in spec, "KubeRay refuses it beside a clusterSelector"
        assert re.search(r" --run-name \S+", spec["entrypoint"]), "a run without a name cannot resume"
