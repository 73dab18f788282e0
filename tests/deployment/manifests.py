"""The Kubernetes manifests as objects, and what in them belongs to what."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "docs/kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((DIRECTORY / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    found
    for name in KUSTOMIZATION["resources"]
    for found in yaml.safe_load_all((DIRECTORY / name).read_text())
]


def of_kind(*kinds: str) -> dict[str, dict[str, Any]]:
    """Return the objects of these kinds by name."""
    return {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] in kinds}


WORKLOADS = of_kind("Deployment", "StatefulSet")


def pod(workload: Mapping[str, Any]) -> dict[str, Any]:
    return workload["spec"]["template"]["spec"]


def container(workload: Mapping[str, Any]) -> dict[str, Any]:
    [only] = pod(workload)["containers"]
    return only


def matched(selector: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the workloads whose pods a selector chooses."""
    return [each for each in WORKLOADS.values() if _matches(selector, _labels(each))]


def probes(workload: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        yield container(workload)[kind]


def environment(workload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a container's variables; those of secrets as they are written there."""
    found: dict[str, Any] = {}
    for source in container(workload).get("envFrom", []):
        found |= of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"]
    for variable in container(workload).get("env", []):
        found[variable["name"]] = variable.get("value") or secret(**_reference(variable))
    return found


def secret(name: str, key: str) -> str:
    return of_kind("Secret")[name]["stringData"][key]


def _reference(variable: Mapping[str, Any]) -> dict[str, str]:
    return variable["valueFrom"]["secretKeyRef"]


def _labels(workload: Mapping[str, Any]) -> dict[str, str]:
    return workload["spec"]["template"]["metadata"]["labels"]


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    for wish in selector.get("matchExpressions", []):
        assert wish["operator"] == "In"
        if labels.get(wish["key"]) not in wish["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()
