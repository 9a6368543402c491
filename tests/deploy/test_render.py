"""Every overlay with every component renders, and is valid where it is to be applied."""

import json
import re
import shutil
import subprocess
import textwrap
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
    Manifest,
    environment_of,
    of_kind,
    render,
)
from tests.integration.processes import ROOT
from tests.tools import find

OLDEST, NEWEST = "1.32", "1.37"  # Kubernetes that is supported; docs/deploy.md says so
_CUSTOM = {"PodMonitor", "PrometheusRule", "ScaledObject"}
_MODULES = ROOT / ".tools" / "node_modules"
combinations = pytest.mark.parametrize("components", COMPONENTS, ids="+".join)
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def test_the_documentation_names_the_versions() -> None:
    assert f"Kubernetes {OLDEST} to {NEWEST}" in (ROOT / "docs" / "deploy.md").read_text()


def test_the_kustomization_of_the_documentation_renders(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    (written,) = re.findall(r"# production/kustomization.yaml\n(.*?)\n\n", text, re.DOTALL)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    (tmp_path / "production").mkdir()
    (tmp_path / "production" / "kustomization.yaml").write_text(textwrap.dedent(written))
    command = [find("kubectl"), "kustomize", str(tmp_path / "production")]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert list(yaml.safe_load_all(shown)) == render("gpu", ("monitoring", "autoscaling"))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@combinations
@overlays
def test_valid_for_kubernetes(overlay: str, components: Sequence[str], version: str) -> None:
    for manifest in render(overlay, components):
        if manifest["kind"] not in _CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validation_is_strict() -> None:
    manifest = of_kind(render("cpu-demo"), "Deployment")["target"]
    manifest["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["grpc"]["port"] = "grpc"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


def _complaints(manifests: Sequence[Manifest]) -> list[str]:
    command = [find("node"), str(Path(__file__).parent / "crds.mjs"), str(_MODULES)]
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
    assert {m["kind"] for m in custom} == (
        {"PodMonitor", "PrometheusRule"} if components else set()
    ) | ({"ScaledObject"} if "autoscaling-keda" in components else set())
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
    )
    borrowed = ("@kubernetes-models/apimachinery/apis/meta", "kubernetes-models/autoscaling/v2")
    files = [file for place in packages + borrowed for file in (_MODULES / place).rglob("*.d.ts")]
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
