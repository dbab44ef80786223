"""What is asked of the manifests beyond their schemas. A rule returns what it has against a document."""

import re
from collections.abc import Iterator
from typing import Any

from tests.cluster.static.manifests import Data, pods

SECRET = re.compile(r"(password|passwd|token|secret|secret_?key|access_?key|api_?key)$", re.IGNORECASE)
LONG = re.compile(r"\b[0-9a-f]{32,}\b|\b(?=\w*\d)(?=\w*[A-Z])[\w+/]{40,}\b|://[^/\s:@]+:[^/\s@]+@")
"""What looks like a token, or is an address with a password in it."""


def _pairs(node: Any) -> Iterator[tuple[str, Any]]:
    """Every NAME: VALUE, NAME=VALUE and {name: NAME, value: VALUE} in a document."""
    if isinstance(node, dict):
        if isinstance(node.get("name"), str) and "value" in node:
            yield node["name"], node["value"]
        for name, inner in node.items():
            yield str(name), inner
            yield from _pairs(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _pairs(inner)
    elif isinstance(node, str):
        yield from re.findall(r"(\w+)=(\S*)", node)
        yield "", node


def literal_secrets(document: Any) -> list[str]:
    """Secrets have to come from elsewhere: no variable of such a name has a value here, and no value looks like one."""
    found = [f"{name} has a value" for name, value in _pairs(document) if SECRET.search(name) and _literal(value)]
    return found + [
        f"{name}: {value}" for name, value in _pairs(document) if isinstance(value, str) and LONG.search(value)
    ]


def _literal(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""


def unpinned(image: str) -> list[str]:
    """An image needs a tag that says which version it is."""
    tag = image.rpartition("/")[2].partition(":")[2]
    return [] if re.search(r"\d+\.\d+", tag) else [f"{image}: which version?"]


def compose(document: Data) -> list[str]:
    """Ports on loopback, limits, health checks, restarts, no privileges."""
    found = []
    for name, service in document["services"].items():
        found += [
            f"{name}: {p} beyond loopback" for p in service.get("ports", ()) if not str(p).startswith("127.0.0.1:")
        ]
        found += [f"{name}: no limit of {what}" for what in ("cpus", "memory") if what not in _limits(service)]
        found += [
            f"{name}: no {what}" for what in ("healthcheck", "restart", "stop_grace_period") if what not in service
        ]
        found += unpinned(service["image"])
        if service.get("privileged") or service.get("cap_drop") != ["ALL"] or service.get("network_mode"):
            found.append(f"{name}: privileges")
        if "no-new-privileges:true" not in service.get("security_opt", ()):
            found.append(f"{name}: may get new privileges")
        if "build" not in service and service.get("user", "0").split(":")[0] in ("0", "root"):
            found.append(f"{name}: runs as root")  # our own images: see the Dockerfile
    return found


def _limits(service: Data) -> Data:
    limits: Data = service.get("deploy", {}).get("resources", {}).get("limits", {})
    return limits


def kubernetes(documents: list[Data]) -> list[str]:
    """The same, and what the Pod Security Standard "restricted" asks for."""
    found = []
    for document in documents:
        if document["kind"] == "Service" and document["spec"].get("type", "ClusterIP") != "ClusterIP":
            found.append(f"{document['metadata']['name']}: reached from outside")
        if document["kind"] == "RayCluster" and document["spec"].get("authOptions", {}).get("mode") != "token":
            found.append("Ray asks for no token")
    for name, pod in pods(documents):
        context = pod.get("securityContext", {})
        if not context.get("runAsNonRoot") or not context.get("runAsUser"):
            found.append(f"{name}: may run as root")
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            found.append(f"{name}: any system call")
        if any(pod.get(what) for what in ("hostNetwork", "hostPID", "hostIPC")):
            found.append(f"{name}: shares the host's")
        for container in pod["containers"]:
            found += [f"{name}: {complaint}" for complaint in _container(container, by_kuberay="RayCluster" in name)]
    return found


def _container(container: Data, by_kuberay: bool) -> Iterator[str]:
    resources = container.get("resources", {})
    for part in ("requests", "limits"):
        yield from (f"no {part} of {w}" for w in ("cpu", "memory") if w not in resources.get(part, {}))
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities") != {"drop": ["ALL"]}:
        yield "privileges"
    if not by_kuberay and not {"livenessProbe", "readinessProbe"} <= container.keys():
        yield "no probe"  # KubeRay gives probes to containers without any
    if any("hostPort" in port for port in container.get("ports", ())):
        yield "a port of the host"
    yield from unpinned(container["image"])


def launcher(document: Data) -> list[str]:
    """Machines without public addresses, in a security group that is named, and Ray with its token."""
    found = [] if document["provider"].get("use_internal_ips") else ["public addresses"]
    for name, node in document["available_node_types"].items():
        config = node["node_config"]
        missing = {"SecurityGroupIds", "SubnetIds", "IamInstanceProfile"} - config.keys()
        found += [f"{name}: no {what}" for what in sorted(missing)]
        if config.get("MetadataOptions", {}).get("HttpTokens") != "required":
            found.append(f"{name}: metadata without a token")
        if not all(disk["Ebs"].get("Encrypted") for disk in config["BlockDeviceMappings"]):
            found.append(f"{name}: a disk in the clear")
    options = " ".join(document["docker"]["run_options"])
    found += [f"no {what}" for what in ("RAY_AUTH_MODE=token", "--cap-drop ALL") if what not in options]
    found += [f"no {what}" for what in ("RAY_AUTH_TOKEN_PATH=", "no-new-privileges") if what not in options]
    if "--dashboard-host=127.0.0.1" not in " ".join(document["head_start_ray_commands"]):
        found.append("the dashboard beyond loopback")
    for image in ("head_image", "worker_image"):
        found += unpinned(document["docker"][image])
    return found
