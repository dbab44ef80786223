"""Every manifest is what its program takes, and keeps the rules; each check is seen to refuse something."""

import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cluster.static import rules
from tests.cluster.static.manifests import (
    CLUSTER,
    COMPOSE,
    COMPOSE_GPU,
    KUBERNETES,
    LAUNCHER,
    OF_KUSTOMIZE,
    Data,
    changed,
    complaints,
    kind_of,
    load,
    pods,
    rendered,
)

VALIDATED = [COMPOSE, COMPOSE_GPU, LAUNCHER, *(path for path in KUBERNETES if path.name not in OF_KUSTOMIZE)]
CONTAINER = "spec.template.spec.containers.0"
HEAD = "spec.headGroupSpec.template.spec"


def only(name: str, kind: str = "") -> Data:
    """The document of a file, or the one of that kind."""
    path = CLUSTER / name
    return next(document for document in load(path) if not kind or kind_of(path, document) == kind)


@pytest.mark.parametrize("path", VALIDATED, ids=lambda path: path.name)
def test_a_manifest_has_the_form_that_its_program_takes(path: Path) -> None:
    for document in load(path):
        assert complaints(kind_of(path, document), document) == []


def test_no_yaml_file_is_left_out() -> None:
    theirs = {CLUSTER / "runtime_env.yaml"}  # of jobs, which the tests with a real cluster read
    found = {path for path in CLUSTER.rglob("*.yaml") if not path.name.endswith(".local.yaml")}
    found = {path for path in found if not any(part.endswith(".local") for part in path.parts)}
    assert found - theirs == {*VALIDATED, *(path for path in KUBERNETES if path.name in OF_KUSTOMIZE)}


@pytest.mark.parametrize(
    ("name", "kind", "place", "value"),
    [
        ("compose.yaml", "", "services.head.healtcheck", {}),
        ("compose.yaml", "", "services.head.deploy.resources.limits.cpu", "1"),
        ("compose.yaml", "", "services.worker.depends_on.head.condition", 7),
        ("compose.yaml", "", "networks.database.intern", True),
        ("compose.gpu.yaml", "", "services.worker.deploy.resources.reservations.device", []),
        ("ray-cluster.yaml", "", "auth.ssh_proxy", "nc"),
        ("ray-cluster.yaml", "", "auth.ssh_proxy_command", None),
        ("ray-cluster.yaml", "", "docker.run_option", []),
        ("ray-cluster.yaml", "", "available_node_types.gpu-spot.min_workers", "none"),
        ("kubernetes/ray-cluster.yaml", "", "spec.authOptions.mode", "tokens"),
        ("kubernetes/ray-cluster.yaml", "", "spec.workerGroupSpecs.0.maxReplica", 3),
        ("kubernetes/ray-cluster.yaml", "", "spec.workerGroupSpecs.0.groupName", None),
        ("kubernetes/ray-cluster.yaml", "", f"{HEAD}.containers.0.securityContext.runAsRoot", False),
        ("kubernetes/ray-cluster.yaml", "", f"{HEAD}.containers.0.resources.limits.cpu", "two"),
        ("kubernetes/rayjob-train.yaml", "", "spec.entryPoint", "python"),
        ("kubernetes/rayjob-tune.yaml", "", "spec.clusterSelector", "arae"),
        ("kubernetes/mlflow.yaml", "Deployment", f"{CONTAINER}.readinessprobe", {}),
        ("kubernetes/mlflow.yaml", "Service", "spec.ports.0.port", "http"),
        ("kubernetes/postgres.yaml", "StatefulSet", "spec.replica", 1),
        ("kubernetes/storage.yaml", "", "spec.accessMode", []),
        ("kubernetes/network-policies.yaml", "", "spec.ingress.0.port", []),
    ],
)
def test_a_manifest_with_a_mistake_is_refused(name: str, kind: str, place: str, value: object) -> None:
    document = only(name, kind)
    assert complaints(kind_of(CLUSTER / name, document), changed(document, place, value))


def test_the_launcher_itself_takes_its_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    document = only("ray-cluster.yaml")
    prepared = prepare_config(document)
    validate_config(prepared)
    assert not prepared["head_setup_commands"], "packages that no lock pins"
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepare_config(changed(document, "head_node_type", "another")))


def test_compose_itself_takes_its_manifests(tmp_path: Path) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("Compose is not installed")
    for files in ([COMPOSE], [COMPOSE, COMPOSE_GPU]):
        names = [word for file in files for word in ("--file", str(file))]
        command = ["docker", "compose", "--env-file", os.devnull, *names, "config", "--quiet"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert (run.returncode, run.stderr) == (0, "")


def test_the_manifests_keep_the_rules() -> None:
    assert rules.compose(only("compose.yaml")) == []
    assert rules.launcher(only("ray-cluster.yaml")) == []
    if shutil.which("kubectl"):  # without kustomize, images have no tags yet
        assert rules.kubernetes(rendered()) == []


@pytest.mark.parametrize("path", [*VALIDATED, *KUBERNETES], ids=lambda path: path.name)
def test_no_manifest_holds_a_secret(path: Path) -> None:
    assert rules.literal_secrets(load(path)) == []


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
    assert rules.literal_secrets(held)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("services.mlflow.ports.0", "5000:5000"),
        ("services.head.ports.0", "0.0.0.0:8265:8265"),
        ("services.postgres.image", "postgres:latest"),
        ("services.postgres.user", None),
        ("services.worker.healthcheck", None),
        ("services.worker.deploy.resources.limits.memory", None),
        ("services.head.cap_drop", None),
        ("services.head.privileged", True),
    ],
)
def test_compose_against_a_rule_is_refused(place: str, value: object) -> None:
    assert rules.compose(changed(only("compose.yaml"), place, value))


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("Service", "spec.type", "LoadBalancer"),
        ("Deployment", "spec.template.spec.securityContext.runAsNonRoot", None),
        ("Deployment", "spec.template.spec.hostNetwork", True),
        ("Deployment", f"{CONTAINER}.livenessProbe", None),
        ("Deployment", f"{CONTAINER}.image", "arae-mlflow"),
        ("StatefulSet", f"{CONTAINER}.resources.limits.memory", None),
        ("StatefulSet", f"{CONTAINER}.securityContext", None),
        ("RayCluster", "spec.authOptions", None),
        ("RayCluster", f"{HEAD}.securityContext.seccompProfile", None),
        ("RayCluster", f"{HEAD}.containers.0.ports.0.hostPort", 6379),
    ],
)
def test_kubernetes_against_a_rule_is_refused(kind: str, place: str, value: object) -> None:
    document = next(document for document in rendered() if document["kind"] == kind)
    before = rules.kubernetes([document])
    assert len(rules.kubernetes([changed(document, place, value)])) > len(before)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("provider.use_internal_ips", False),
        ("available_node_types.head.node_config.SecurityGroupIds", None),
        ("available_node_types.gpu-spot.node_config.MetadataOptions", None),
        ("docker.run_options", []),
        ("head_start_ray_commands", ["ray start --head --dashboard-host=0.0.0.0"]),
    ],
)
def test_a_launcher_against_a_rule_is_refused(place: str, value: object) -> None:
    assert rules.launcher(changed(only("ray-cluster.yaml"), place, value))


def test_there_is_time_to_drain() -> None:
    for name in ("head", "worker"):
        service = only("compose.yaml")["services"][name]
        seconds = int(service["environment"]["ARAE_DRAIN_SECONDS"])
        assert int(service["stop_grace_period"].removesuffix("s")) >= seconds + 20
        assert service["command"][0] == "/opt/arae/cluster/node.sh"
    workers = [(name, pod) for name, pod in pods(rendered()) if "RayCluster" in name and "head" not in name]
    assert len(workers) == 2
    for name, pod in workers:
        container = pod["containers"][0]
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert pod["terminationGracePeriodSeconds"] >= int(environment["ARAE_DRAIN_SECONDS"]) + 20, name
        assert container["lifecycle"]["preStop"]["exec"]["command"] == ["/opt/arae/cluster/drain.sh"]


def test_kuberay_gives_probes_that_ask_for_no_program_of_the_image() -> None:
    asked = only("kubernetes/ray-cluster.yaml")["spec"]["rayVersion"]
    assert asked == version("ray")  # from 2.53 on by HTTP, before by wget, which a slim image has not


def test_every_pod_is_behind_a_network_policy() -> None:
    policies = [document["spec"] for document in rendered() if document["kind"] == "NetworkPolicy"]
    assert all("Ingress" in policy["policyTypes"] for policy in policies)
    covered = [policy["podSelector"]["matchLabels"] for policy in policies]
    for document in rendered():
        name = document["metadata"]["name"]
        if document["kind"] in ("Deployment", "StatefulSet"):
            labels = document["spec"]["template"]["metadata"]["labels"]
            assert any(selector.items() <= labels.items() for selector in covered), name
        if document["kind"] == "RayCluster":
            assert {"ray.io/cluster": name} in covered


def test_jobs_run_on_the_cluster_that_is_there() -> None:
    name = only("kubernetes/ray-cluster.yaml")["metadata"]["name"]
    for path in (path for path in KUBERNETES if path.name.startswith("rayjob")):
        spec = load(path)[0]["spec"]
        assert spec["clusterSelector"] == {"ray.io/cluster": name}
        assert "backoffLimit" not in spec, "which KubeRay refuses beside a clusterSelector"
        assert re.search(r" --run-name \S+", spec["entrypoint"]), "without a name it would not go on"
