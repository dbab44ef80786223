"""The manifests as data, and the schemas that they are held against."""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = ROOT / "cluster"
KUBERNETES = sorted((CLUSTER / "kubernetes").glob("*.yaml"))
SCHEMAS = Path(__file__).parent / "schemas"
Data = dict[str, Any]

COMPOSE = CLUSTER / "compose.yaml"
COMPOSE_GPU = CLUSTER / "compose.gpu.yaml"
LAUNCHER = CLUSTER / "ray-cluster.yaml"
OF_KUSTOMIZE = {"kustomization.yaml", "fields.yaml"}
"""Which kustomize itself reads, and checks, and Kubernetes never sees."""


def load(path: Path) -> list[Data]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@cache
def schema(name: str) -> Data:
    with gzip.open(SCHEMAS / f"{name}.json.gz") as file:
        found: Data = json.load(file)
    return found


@cache
def launcher_schema() -> Data:
    import ray.autoscaler

    found: Data = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    return found


def closed(node: Any) -> Any:
    """A schema of Kubernetes' API where no field but the known ones may be: the API server would drop them silently."""
    if isinstance(node, list):
        return [closed(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    made = {name: closed(inner) for name, inner in node.items()}
    known = isinstance(node.get("properties"), dict) and node.get("type") == "object"
    if known and not node.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@cache
def validator(kind: str) -> Any:
    if kind == "compose":
        return jsonschema.Draft7Validator(schema("compose"))
    if kind == "launcher":
        return jsonschema.Draft7Validator(launcher_schema())
    if kind in ("RayCluster", "RayJob"):
        return jsonschema.Draft202012Validator(closed(schema(f"kuberay-{kind.lower()}s")))
    kubernetes = schema("kubernetes")
    return jsonschema.Draft202012Validator({**kubernetes["kinds"][kind], "$defs": kubernetes["$defs"]})


def complaints(kind: str, document: Data) -> list[str]:
    """What the schema of that kind has against a document."""
    return [f"{error.json_path}: {error.message}" for error in validator(kind).iter_errors(document)]


def kind_of(path: Path, document: Data) -> str:
    if path in (COMPOSE, COMPOSE_GPU):
        return "compose"
    return "launcher" if path == LAUNCHER else str(document["kind"])


def changed(document: Data, place: str, value: object) -> Data:
    """A copy with another value at a place such as `spec.containers.0.image`; None takes it away."""
    made = deepcopy(document)
    *way, last = place.split(".")
    node: Any = made
    for step in way:
        node = node[int(step)] if isinstance(node, list) else node[step]
    if isinstance(node, list):
        node[int(last)] = value
    elif value is None:
        del node[last]
    else:
        node[last] = value
    return made


@cache
def rendered(folder: Path = CLUSTER / "kubernetes") -> list[Data]:
    """What kustomize makes of the folder; where kubectl is not installed, the files as they are."""
    if shutil.which("kubectl"):
        run = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        return list(yaml.safe_load_all(run.stdout))
    listed = load(folder / "kustomization.yaml")[0]["resources"]
    return [document for name in listed for document in load(folder / name)]


def pods(documents: list[Data]) -> Iterator[tuple[str, Data]]:
    """Name -> specification of every pod that these objects ask for."""
    for document in documents:
        name, spec = f"{document['kind']} {document['metadata']['name']}", document.get("spec", {})
        groups = {"": spec, " head": spec.get("headGroupSpec", {})}
        groups |= {f" {group['groupName']}": group for group in spec.get("workerGroupSpecs", ())}
        for label, group in groups.items():
            if "template" in group:
                yield name + label, group["template"]["spec"]


def snippets(document: str) -> list[tuple[str, str]]:
    """The fenced blocks of a text, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
