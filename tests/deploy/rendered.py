"""The manifests as `kubectl kustomize` renders them, and what is in them."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from draft_service.settings import DraftSettings
from draft_service.settings import check as check_draft
from target_service.settings import TargetSettings
from target_service.settings import check as check_target
from tests.integration.processes import ROOT
from tests.tools import find

HERE = ROOT / "deploy" / "kubernetes"
OVERLAYS = tuple(sorted(folder.name for folder in (HERE / "overlays").iterdir()))
COMPONENTS = (
    (),
    ("monitoring",),
    ("monitoring", "autoscaling"),
    ("monitoring", "autoscaling-keda"),
    ("monitoring", "tls"),
    ("tls", "tokens"),
    ("gateway",),
    ("monitoring", "gateway", "inference-pool"),
)
SERVICES = ("target", "draft")
SETTINGS: dict[str, Any] = {"target": TargetSettings, "draft": DraftSettings}
CHECKS: dict[str, Any] = {"target": check_target, "draft": check_draft}

Manifest = dict[str, Any]


def own_components(overlay: str) -> set[str]:
    """Returns the components that an overlay has by itself."""
    its = yaml.safe_load((HERE / "overlays" / overlay / "kustomization.yaml").read_text())
    return {Path(component).name for component in its.get("components", ())}


@cache
def _text(overlay: str, components: Sequence[str]) -> str:
    with TemporaryDirectory() as folder:
        # Kustomize takes relative paths alone, and from the real folder, wherever a link leads.
        away = Path(os.path.relpath(HERE, Path(folder).resolve()))
        chosen = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "foredraft",
            "resources": [str(away / "overlays" / overlay)],
            "components": [
                str(away / "components" / component)
                for component in components
                if component not in own_components(overlay)
            ],
        }
        (Path(folder) / "kustomization.yaml").write_text(json.dumps(chosen))
        command = [find("kubectl"), "kustomize", folder]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def render(overlay: str, components: Sequence[str] = ()) -> list[Manifest]:
    """Returns all objects of an overlay with components."""
    return [m for m in yaml.safe_load_all(_text(overlay, tuple(components))) if m]


def of_kind(manifests: Sequence[Manifest], kind: str) -> dict[str, Manifest]:
    """Returns the objects of a kind, by name."""
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def pods(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Returns the pod templates of Deployments and Jobs, by the name of these."""
    for kind in ("Deployment", "Job"):
        for name, manifest in of_kind(manifests, kind).items():
            yield name, manifest["spec"]["template"]


def container(manifests: Sequence[Manifest], service: str) -> Manifest:
    """The container of a service."""
    (found,) = of_kind(manifests, "Deployment")[service]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment_of(manifests: Sequence[Manifest], service: str) -> dict[str, str]:
    """The environment that a service is given."""
    return environment_in(manifests, container(manifests, service))


def environment_in(manifests: Sequence[Manifest], given: Manifest) -> dict[str, str]:
    """The environment that a container is given."""
    maps = of_kind(manifests, "ConfigMap")
    found: dict[str, str] = {}
    for source in given.get("envFrom", ()):
        found |= maps[source["configMapRef"]["name"]]["data"]
    return found | {entry["name"]: entry["value"] for entry in given.get("env", ())}


def service_links(services: Mapping[str, Manifest]) -> dict[str, str]:
    """The variables that Kubernetes adds for Services with an address, unless told to leave it."""
    links = {}
    for name, service in services.items():
        stem = name.upper().replace("-", "_")
        ports = service["spec"]["ports"]
        links[f"{stem}_SERVICE_HOST"] = "10.0.0.1"
        links |= {f"{stem}_SERVICE_PORT_{p['name'].upper()}": str(p["port"]) for p in ports}
        links |= {f"{stem}{kind}_PORT": f"{ports[0]['port']}" for kind in ("", "_SERVICE")}
        for port in (p["port"] for p in ports):
            links[f"{stem}_PORT_{port}_TCP"] = f"tcp://10.0.0.1:{port}"
            links |= {f"{stem}_PORT_{port}_TCP_{part}": "x" for part in ("PROTO", "PORT", "ADDR")}
    return links


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Returns whether a label selector takes these labels."""
    for wanted in selector.get("matchExpressions", ()):
        assert wanted["operator"] == "In"
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
