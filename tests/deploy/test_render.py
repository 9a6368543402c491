"""Every overlay with every component renders, and is valid where it is to be applied."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.monitoring.generate import RULES
from foredraft.catalog import METRICS
from tests.deploy.rendered import (
    COMPONENTS,
    HERE,
    OVERLAYS,
    SERVICES,
    Manifest,
    container,
    environment_of,
    of_kind,
    own_components,
    render,
)
from tests.integration.processes import ROOT
from tests.tools import MODULES, find

OLDEST, NEWEST = "1.32", "1.37"  # Kubernetes that is supported; docs/deploy.md says so
_CUSTOM = {"Certificate", "Issuer", "PodMonitor", "PrometheusRule", "ScaledObject"}
_OTHERS = {*_CUSTOM, "InferencePool"}  # test_gateways.py has its schema
combinations = pytest.mark.parametrize("components", COMPONENTS, ids="+".join)
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def test_the_documentation_names_the_versions() -> None:
    assert f"Kubernetes {OLDEST} to {NEWEST}" in (ROOT / "docs" / "deploy.md").read_text()


def test_a_copy_of_the_sample_beside_the_tree_renders_and_has_its_own_models(
    tmp_path: Path,
) -> None:
    """The documentation's step: copy the folder, correct the paths, change what is your own."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    own = tmp_path / "production"
    (tmp_path / "deploy" / "kubernetes" / "overlays" / "production").rename(own)
    for step in _commands_of_the_documentation("production/kustomization.yaml"):
        subprocess.run(step, shell=True, check=True, cwd=tmp_path)
    models = (own / "models.env").read_text()
    (own / "models.env").write_text(models.replace("Qwen/Qwen3-32B", "our/model"))
    command = [find("kubectl"), "kustomize", str(own)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Qwen3-32B" not in shown
    changed = list(yaml.safe_load_all(shown.replace("our/model", "Qwen/Qwen3-32B")))
    # The hash in the name of the ConfigMap is of its content.
    hashes = re.compile(r"\bmodels-\w{10}\b")
    here = yaml.safe_dump_all(render("production"))
    assert hashes.sub("models", yaml.safe_dump_all(changed)) == hashes.sub("models", here)


def _commands_of_the_documentation(about: str) -> list[str]:
    """Returns the `sed` commands of docs/deploy.md that change a file."""
    lines = (ROOT / "docs" / "deploy.md").read_text().splitlines()
    commands = [line.strip() for line in lines if line.strip().startswith("sed -i")]
    return [command for command in commands if command.endswith(about)]


def test_the_sample_differs_from_the_overlay_in_what_it_is_for() -> None:
    """What is your own is in the sample: images, models, GPUs, storage and a registry's Secret."""
    gpu, own = (
        {(m["kind"], m["metadata"]["name"]): m for m in render(overlay, ("monitoring",))}
        for overlay in ("gpu", "production")
    )
    assert gpu.keys() == own.keys()
    for service in SERVICES:
        image = container(list(own.values()), service)["image"]
        assert image.startswith("registry.example.com/foredraft/")
        account = own["ServiceAccount", service]
        assert account["imagePullSecrets"] == [{"name": "registry"}]
        claim = own["PersistentVolumeClaim", f"{service}-model"]["spec"]
        assert claim["storageClassName"]
        assert own["Deployment", service]["spec"]["template"]["spec"]["nodeSelector"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@combinations
@overlays
def test_valid_for_kubernetes(overlay: str, components: Sequence[str], version: str) -> None:
    for manifest in render(overlay, components):
        if manifest["kind"] not in _OTHERS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validation_is_strict() -> None:
    manifest = of_kind(render("cpu-demo"), "Deployment")["target"]
    manifest["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["grpc"]["port"] = "grpc"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


def _complaints(manifests: Sequence[Manifest]) -> list[str]:
    command = [find("node"), str(Path(__file__).parent / "crds.mjs"), str(MODULES)]
    told = subprocess.run(
        command, input=json.dumps(manifests), capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    return list(json.loads(told.stdout))


@combinations
@overlays
def test_custom_resources_by_their_own_schemas(overlay: str, components: Sequence[str]) -> None:
    find("buf")  # installed with the schemas
    custom = [m for m in render(overlay, components) if m["kind"] in _CUSTOM]
    used = {*components, *own_components(overlay)}
    assert {m["kind"] for m in custom} == (
        {"PodMonitor", "PrometheusRule"} if "monitoring" in used else set()
    ) | ({"ScaledObject"} if "autoscaling-keda" in components else set()) | (
        {"Certificate", "Issuer"} if "tls" in used else set()
    )
    assert not any(_complaints(custom))
    assert {key for manifest in custom for key in _keys(manifest["spec"])} <= _known()


@cache
def _known() -> set[str]:
    """Returns the keys of the custom resources, and of the types that they borrow.

    The schemas themselves let every other key pass.
    """
    packages = (
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
        "@kubernetes-models/keda/keda.sh",
        "@kubernetes-models/cert-manager/cert-manager.io/v1",
    )
    borrowed = ("@kubernetes-models/apimachinery/apis/meta", "kubernetes-models/autoscaling/v2")
    files = [file for place in packages + borrowed for file in (MODULES / place).rglob("*.d.ts")]
    return {
        key
        for file in files
        for key in re.findall(r'^ +"(\w+)"\??:', file.read_text(), re.MULTILINE)
    }


def _keys(value: Any) -> Iterator[str]:
    """Returns the keys of an object and of what is in it, except for maps whose keys are free."""
    if isinstance(value, list):
        for item in value:
            yield from _keys(item)
    elif isinstance(value, dict):
        yield from value
        for key, inner in value.items():
            if key not in ("annotations", "labels", "matchLabels", "metadata"):
                yield from _keys(inner)


def test_a_broken_custom_resource_is_found() -> None:
    find("buf")
    custom = of_kind(render("cpu-demo", ("monitoring",)), "PodMonitor")["foredraft"]
    custom["spec"]["podMetricsEndpoints"][0]["interval"] = 15
    assert "interval" in _complaints([custom])[0]
    custom["spec"]["podMetricsEndpoints"][0] = {"port": "metrics", "intervall": "15s"}
    assert set(_keys(custom["spec"])) - _known() == {"intervall"}


def test_the_rules_and_the_dashboard_are_those_of_the_monitoring() -> None:
    manifests = render("gpu", ("monitoring",))
    rules = yaml.safe_load(RULES.read_text())
    assert of_kind(manifests, "PrometheusRule")["foredraft"]["spec"] == rules
    dashboard = of_kind(manifests, "ConfigMap")["foredraft-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["dashboard.json"])["uid"] == "foredraft"


def test_the_adapter_has_the_metric_of_the_autoscaler() -> None:
    values = yaml.safe_load(
        (HERE / "components" / "autoscaling" / "adapter-values.yaml").read_text()
    )
    (rule,) = values["rules"]["custom"]
    metrics = of_kind(render("gpu", ("autoscaling",)), "HorizontalPodAutoscaler")["target"]["spec"][
        "metrics"
    ]
    names = [metric["pods"]["metric"]["name"] for metric in metrics]
    assert names[0] == "foredraft_num_requests_waiting"
    served = re.search(r'__name__=~"([^"]+)"', rule["seriesQuery"])
    assert served
    assert all(re.fullmatch(served[1], name) for name in names)
    assert set(names) <= {metric.name for metric in METRICS}


@overlays
def test_pods_are_added_before_their_rows_are_used_up(overlay: str) -> None:
    manifests = render(overlay, ("autoscaling",))
    rows = int(environment_of(manifests, "target")["FOREDRAFT_TARGET_ROWS"])
    in_use = of_kind(manifests, "HorizontalPodAutoscaler")["target"]["spec"]["metrics"][1]["pods"]
    triggers = of_kind(render(overlay, ("autoscaling-keda",)), "ScaledObject")["target"]["spec"][
        "triggers"
    ]
    assert rows / 2 < int(in_use["target"]["averageValue"]) < rows
    assert triggers[1]["metadata"]["threshold"] == in_use["target"]["averageValue"]


@pytest.mark.parametrize("component", ["autoscaling", "autoscaling-keda"])
@overlays
def test_the_autoscaler_has_the_number_of_pods_to_itself(overlay: str, component: str) -> None:
    deployments = of_kind(render(overlay, (component,)), "Deployment")
    assert "replicas" not in deployments["target"]["spec"]
    assert deployments["draft"]["spec"]["replicas"] == 1
