"""A gateway and an endpoint picker find the targets, read what they measure, and may no more."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client import Gauge

from foredraft.catalog import METRICS
from foredraft_serving.settings import read
from target_service.settings import TargetSettings
from tests.deploy.rendered import (
    OVERLAYS,
    Manifest,
    container,
    environment_of,
    of_kind,
    pods,
    render,
    selects,
)
from tests.integration.processes import ROOT

_DEPLOY = ROOT / "deploy"
_POOL = yaml.safe_load((Path(__file__).parent / "inferencepool.yaml").read_text())
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def _closed(schema: Any) -> Any:
    """Returns a schema that lets no other key pass, which Kubernetes would drop."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return {**closed, "additionalProperties": False} if "properties" in schema else closed


def _settings(manifests: Sequence[Manifest]) -> TargetSettings:
    return read(TargetSettings, "FOREDRAFT_TARGET_", [], environment_of(manifests, "target"))


def _port(listen: str) -> int:
    return int(listen.rpartition(":")[2])


def _flags(manifests: Sequence[Manifest], deployment: str) -> dict[str, str]:
    pairs = (argument.partition("=") for argument in container(manifests, deployment)["args"])
    return {name: value for name, _, value in pairs}


@overlays
def test_the_pool_is_valid_and_has_the_targets(overlay: str) -> None:
    manifests = render(overlay, ("inference-pool",))
    spec = of_kind(manifests, "InferencePool")["target"]["spec"]
    jsonschema.validate(spec, _closed(_POOL))
    chosen = [n for n, pod in pods(manifests) if selects(spec["selector"], _labels(pod))]
    assert chosen == ["target"]
    (port,) = spec["targetPorts"]
    assert port["number"] == _port(_settings(manifests).listen)
    (served, *_) = of_kind(manifests, "Service")["target"]["spec"]["ports"]
    assert (served["port"], served["appProtocol"]) == (port["number"], spec["appProtocol"])
    picker = spec["endpointPickerRef"]
    ports = of_kind(manifests, "Service")[picker["name"]]["spec"]["ports"]
    assert [p["port"] for p in ports] == [picker["port"]["number"]]


def _labels(pod: Manifest) -> dict[str, str]:
    return dict(pod["metadata"]["labels"])


@pytest.mark.parametrize(
    ("key", "value"), [("targetPorts", [{"numbr": 1}]), ("appProtocol", "grpc"), ("slector", {})]
)
def test_a_broken_pool_is_found(key: str, value: Any) -> None:
    spec = copy.deepcopy(of_kind(render("gpu", ("inference-pool",)), "InferencePool")["target"])
    spec["spec"][key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec["spec"], _closed(_POOL))


@overlays
def test_the_picker_reads_gauges_of_the_target(overlay: str) -> None:
    manifests = render(overlay, ("inference-pool",))
    flags = _flags(manifests, "endpoint-picker")
    assert flags["--model-server-metrics-port"] == str(_port(_settings(manifests).metrics_listen))
    assert flags["--pool-name"] in of_kind(manifests, "InferencePool")
    (file,) = (m["data"] for n, m in of_kind(manifests, "ConfigMap").items() if "picker" in n)
    assert f"/config/{next(iter(file))}" == flags["--config-file"]
    config = yaml.safe_load(next(iter(file.values())))
    plugins = {plugin["type"]: plugin.get("parameters", {}) for plugin in config["plugins"]}
    (profile,) = config["schedulingProfiles"]
    used = {plugin["pluginRef"] for plugin in profile["plugins"]} | {config["parser"]["pluginRef"]}
    assert used <= plugins.keys()
    extractor = plugins["core-metrics-extractor"]
    (engine,) = extractor["engineConfigs"]
    target = dict(pods(manifests))["target"]
    label = _labels(target)["inference.networking.k8s.io/engine-type"]
    assert engine.pop("name") == extractor["defaultEngine"] == label
    gauges = {m.name for m in METRICS if m.type is Gauge and "target" in m.parts and not m.labels}
    assert set(engine) == {"queuedRequestsSpec", "runningRequestsSpec", "kvUsageSpec"}
    assert set(engine.values()) <= gauges


@overlays
def test_the_gateway_finds_the_targets(overlay: str) -> None:
    manifests = render(overlay, ("gateway",))
    flags = _flags(manifests, "gateway")
    assert flags["--service-discovery-namespace"] == "foredraft"
    assert flags["--service-discovery-port"] == str(_port(_settings(manifests).listen))
    key, _, value = flags["--selector"].partition("=")
    found = [
        n for n, pod in pods(manifests) if selects({"matchLabels": {key: value}}, _labels(pod))
    ]
    assert found == ["target"]
    ports = [port["containerPort"] for port in container(manifests, "gateway")["ports"]]
    assert [str(port) for port in ports] == [flags["--port"], flags["--prometheus-port"]]
    assert flags["--request-timeout-secs"] == flags["--shutdown-grace-period-secs"]
    pod = dict(pods(manifests))["gateway"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= int(flags["--request-timeout-secs"]) + 20


@pytest.mark.parametrize("component", ["gateway", "inference-pool"])
def test_what_asks_kubernetes_may_read_and_nothing_else(component: str) -> None:
    manifests = render("gpu", (component,))
    (name,) = of_kind(manifests, "RoleBinding")
    assert dict(pods(manifests))[name]["spec"]["serviceAccountName"] == name
    for rule in of_kind(manifests, "Role")[name]["rules"]:
        assert rule["verbs"] == ["get", "list", "watch"]
        assert "secrets" not in rule["resources"]


@overlays
def test_links_are_open_at_both_ends(overlay: str) -> None:
    """Where one pod may call another one, that one lets it in."""
    manifests = render(overlay, ("gateway", "inference-pool"))
    labels = {name: _labels(pod) for name, pod in pods(manifests)}
    policies = [policy["spec"] for policy in of_kind(manifests, "NetworkPolicy").values()]
    ends: dict[str, set[tuple[str, str, int]]] = {"ingress": set(), "egress": set()}
    for side, peers in (("ingress", "from"), ("egress", "to")):
        for policy in policies:
            own = {n for n, its in labels.items() if selects(policy["podSelector"], its)}
            for rule in policy.get(side) or ():
                others = {
                    n
                    for peer in rule.get(peers, ())
                    for n, its in labels.items()
                    if selects(peer.get("podSelector", {"matchLabels": {"none": ""}}), its)
                }
                for port in (p["port"] for p in rule["ports"]):
                    pairs = {(o, m) if side == "ingress" else (m, o) for o in others for m in own}
                    ends[side] |= {(*pair, port) for pair in pairs}
    links = {("gateway", "target", 50052), ("target", "draft", 50051)}
    links |= {("endpoint-picker", "target", 9102)}
    assert ends["egress"] == links
    # A gateway is a client, and so it may call itself and the picker, which it never does.
    assert ends["ingress"] - links == {
        ("gateway", "gateway", 8000),
        ("gateway", "endpoint-picker", 9002),
    }


def test_the_compose_file_of_the_gateway() -> None:
    others = yaml.safe_load((_DEPLOY / "compose.yaml").read_text())["services"]
    (given,) = yaml.safe_load((_DEPLOY / "compose.gateway.yaml").read_text())["services"].values()
    flags = dict(zip(given["command"][::2], given["command"][1::2], strict=True))
    listen = others["target"]["environment"]["FOREDRAFT_TARGET_LISTEN"]
    assert flags["--worker-urls"] == f"grpc://target:{_port(listen)}"
    assert given["ports"] == [f"127.0.0.1:{flags['--port']}:{flags['--port']}"]
    assert f":{flags['--port']}/" in given["healthcheck"]["test"][-1]
    for key in ("read_only", "tmpfs", "cap_drop", "security_opt", "restart"):
        assert given[key] == others["target"][key]
    images = {container(render("gpu", ("gateway",)), "gateway")["image"]}
    assert images == {given["image"]}


def test_the_image_of_the_gateway_is_pinned() -> None:
    base = re.compile(r"^ARG BASE=.*", re.MULTILINE)
    own = (_DEPLOY / "gateway" / "Dockerfile").read_text()
    assert base.findall(own) == base.findall((_DEPLOY / "Dockerfile").read_text())
    lines = (_DEPLOY / "gateway" / "requirements.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert "!deploy/gateway" in (ROOT / ".dockerignore").read_text().split()
