"""The manifests as data, and everything that they are checked against."""

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
COMPOSE, COMPOSE_GPU = CLUSTER / "compose.yaml", CLUSTER / "compose.gpu.yaml"
LAUNCHER = CLUSTER / "ray-cluster.yaml"
YAML = [COMPOSE, COMPOSE_GPU, LAUNCHER, *KUBERNETES]
KUSTOMIZE = {"kustomization.yaml", "fields.yaml"}
"""Files that kustomize itself reads and checks; Kubernetes never sees them."""
POLICY = yaml.safe_load((Path(__file__).parent / "policy.yaml").read_text())
SECRET = re.compile(r"(password|passwd|token|secret|secret_?key|access_?key|api_?key)$", re.IGNORECASE)
LONG = re.compile(r"\b[0-9a-f]{32,}\b|\b(?=\w*\d)(?=\w*[A-Z])[\w+/]{40,}\b|://[^/\s:@]+:[^/\s@]+@")
"""Values that look like a token, and addresses with a password."""
Data = dict[str, Any]


def load(path: Path) -> list[Data]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def kind_of(path: Path, document: Data) -> str:
    if path in (COMPOSE, COMPOSE_GPU):
        return "compose"
    return "launcher" if path == LAUNCHER else str(document["kind"])


@cache
def schema(kind: str) -> Data:
    """Return the JSON Schema of a kind of manifest; see schemas/README.md."""
    if kind == "launcher":
        import ray.autoscaler

        found: Data = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
        return found
    kuberay = f"kuberay-{kind.lower()}s" if kind in ("RayCluster", "RayJob") else ""
    file = kuberay or ("compose" if kind == "compose" else "kubernetes")
    found = json.loads(gzip.decompress((Path(__file__).parent / "schemas" / f"{file}.json.gz").read_bytes()))
    return {**found["kinds"][kind], "$defs": found["$defs"]} if file == "kubernetes" else found


def errors(rules: Data, document: Any) -> list[str]:
    validator = jsonschema.validators.validator_for(rules, jsonschema.Draft202012Validator)(rules)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def schema_errors(path: Path, document: Data) -> list[str]:
    """Return what the schema of its program has against a document."""
    return errors(schema(kind_of(path, document)), document)


def policy_errors(kind: str, document: Data) -> list[str]:
    """Return what policy.yaml has against a document of this kind and against its pods."""
    found = errors(POLICY.get(kind, {}), document)
    for name, pod in pods([document]) if kind not in ("compose", "launcher") else ():
        rules = {"allOf": [POLICY["pod"], POLICY["probes"] if kind != "RayCluster" else {}]}
        found += [f"{name}: {error}" for error in errors(rules, pod)]
    return found


def changed(document: Data, place: str, value: object) -> Data:
    """Return a copy with another value at a place such as `spec.containers.0.image`, or without it if value is None."""
    made = deepcopy(document)
    *way, last = (int(step) if step.isdecimal() else step for step in place.split("."))
    node: Any = made
    for step in way:
        node = node[step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return made


@cache
def rendered(folder: Path = CLUSTER / "kubernetes") -> list[Data]:
    """Return what kustomize makes of a folder or, without kubectl, its files as they are."""
    if shutil.which("kubectl"):
        run = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        return list(yaml.safe_load_all(run.stdout))
    return [each for name in load(folder / "kustomization.yaml")[0]["resources"] for each in load(folder / name)]


def pods(documents: list[Data]) -> Iterator[tuple[str, Data]]:
    """Yield the name and specification of every pod that these objects ask for."""
    for document in documents:
        name, spec = f"{document['kind']} {document['metadata']['name']}", document.get("spec", {})
        groups = {"": spec, " head": spec.get("headGroupSpec", {})}
        groups |= {f" {group['groupName']}": group for group in spec.get("workerGroupSpecs", ())}
        yield from ((name + label, g["template"]["spec"]) for label, g in groups.items() if "template" in g)


def pairs(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield every NAME: VALUE, NAME=VALUE and {name: NAME, value: VALUE} of a document."""
    if isinstance(node, dict):
        if isinstance(node.get("name"), str) and "value" in node:
            yield node["name"], node["value"]
        yield from ((str(name), inner) for name, inner in node.items())
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from pairs(inner)
    elif isinstance(node, str):
        yield from re.findall(r"(\w+)=(\S*)", node)
        yield "", node


def literal_secrets(document: Any) -> list[str]:
    """Return variables that are named like a secret and have a value, and values that look like one."""
    found = [
        name for name, value in pairs(document) if SECRET.search(name) and type(value) in (str, int) and value != ""
    ]
    return found + [str(value) for _, value in pairs(document) if isinstance(value, str) and LONG.search(value)]


def snippets(document: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a text, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
