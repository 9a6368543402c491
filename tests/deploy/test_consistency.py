"""What the manifests say of the services is what the services do."""

import re
from collections.abc import Sequence
from string import Template
from typing import Any

import pytest

from foredraft.wire.limits import DEFAULT_TIMEOUT_S
from foredraft_serving.server import LIVENESS, READINESS
from foredraft_serving.settings import SettingsError, read
from tests.deploy.rendered import (
    CHECKS,
    OVERLAYS,
    SERVICES,
    SETTINGS,
    Manifest,
    container,
    environment_in,
    environment_of,
    of_kind,
    pods,
    render,
    selects,
    service_links,
)

overlays = pytest.mark.parametrize("overlay", OVERLAYS)
services = pytest.mark.parametrize("service", SERVICES)


def settings_of(manifests: Sequence[Manifest], service: str) -> Any:
    """Returns the settings that a service makes of what it is given."""
    given = container(manifests, service).get("args", [])
    return read(
        SETTINGS[service],
        f"FOREDRAFT_{service.upper()}_",
        given,
        environment_of(manifests, service),
    )


@services
@overlays
def test_settings_and_ports(overlay: str, service: str) -> None:
    manifests = render(overlay)
    settings, given = settings_of(manifests, service), container(manifests, service)
    listens = [int(a.rpartition(":")[2]) for a in (settings.listen, settings.metrics_listen)]
    assert all(a.startswith("0.0.0.0:") for a in (settings.listen, settings.metrics_listen))
    CHECKS[service](settings)  # it starts with them
    assert settings.insecure
    assert [p["containerPort"] for p in given["ports"]] == listens
    served = of_kind(manifests, "Service")[service]["spec"]
    assert served["clusterIP"] == "None"
    assert [(p["port"], p["targetPort"]) for p in served["ports"]] == [
        (port, port) for port in listens
    ]
    for probe, name in (
        ("startupProbe", READINESS),
        ("readinessProbe", READINESS),
        ("livenessProbe", LIVENESS),
    ):
        assert given[probe]["grpc"] == {"port": listens[0], "service": name}


@overlays
def test_the_target_finds_the_draft(overlay: str) -> None:
    manifests = render(overlay)
    (port, _) = (p["port"] for p in of_kind(manifests, "Service")["draft"]["spec"]["ports"])
    assert settings_of(manifests, "target").draft_addresses == (f"dns:///draft:{port}",)


@services
@overlays
def test_the_grace_is_longer_than_the_longest_generation(overlay: str, service: str) -> None:
    manifests = render(overlay)
    pod = of_kind(manifests, "Deployment")[service]["spec"]["template"]["spec"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = settings_of(manifests, service).grace
    assert grace >= DEFAULT_TIMEOUT_S
    assert pod["terminationGracePeriodSeconds"] >= before + grace + 10


@services
@overlays
def test_a_rollout_has_not_failed_while_one_pod_drains_and_the_next_loads(
    overlay: str, service: str
) -> None:
    deployment = of_kind(render(overlay), "Deployment")[service]["spec"]
    pod = deployment["template"]["spec"]
    probe = pod["containers"][0]["startupProbe"]
    drains_and_loads = (
        pod["terminationGracePeriodSeconds"] + probe["periodSeconds"] * probe["failureThreshold"]
    )
    assert deployment["progressDeadlineSeconds"] >= drains_and_loads + 120  # to pull an image


@services
def test_a_service_of_another_name_would_add_settings_that_there_are_not(service: str) -> None:
    manifests, prefix = render("gpu"), f"FOREDRAFT_{service.upper()}_"
    here = of_kind(manifests, "Service")
    assert not any(name.startswith("FOREDRAFT_") for name in service_links(here))
    # A Service that is added, with a prefix of our names or for an address, would set such a
    # variable; so service links are off.
    with pytest.raises(SettingsError, match="no such setting"):
        read(SETTINGS[service], prefix, [], service_links({f"foredraft-{service}": here[service]}))
    assert (
        of_kind(manifests, "Deployment")[service]["spec"]["template"]["spec"]["enableServiceLinks"]
        is False
    )


@overlays
def test_selectors_take_the_pods_they_mean(overlay: str) -> None:
    manifests = render(overlay, ("monitoring",))
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests)}
    for service in SERVICES:
        deployment = of_kind(manifests, "Deployment")[service]["spec"]
        budget = of_kind(manifests, "PodDisruptionBudget")[service]["spec"]
        plain = {"matchLabels": of_kind(manifests, "Service")[service]["spec"]["selector"]}
        for selector in (deployment["selector"], budget["selector"], plain):
            assert [name for name, its in labels.items() if selects(selector, its)] == [service]
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert (
            of_kind(manifests, "ServiceAccount")[service]["automountServiceAccountToken"] is False
        )
    monitored = of_kind(manifests, "PodMonitor")["foredraft"]["spec"]
    assert [name for name, its in labels.items() if selects(monitored["selector"], its)] == sorted(
        SERVICES
    )
    (endpoint,) = monitored["podMetricsEndpoints"]
    for service in SERVICES:
        assert endpoint["port"] in [port["name"] for port in container(manifests, service)["ports"]]
        assert monitored["jobLabel"] in labels[service]


def _peers(manifests: Sequence[Manifest], peers: Sequence[Any]) -> str:
    """Returns the peers of a policy's rule."""
    if not peers:
        return "anybody"
    (peer,) = peers
    space = (
        peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
    )
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    if "namespaceSelector" not in peer:
        (name,) = [
            n
            for n, pod in pods(manifests)
            if selects(peer["podSelector"], pod["metadata"]["labels"])
        ]
        return name
    if labels == {"foredraft.io/client": "true"}:
        return "clients"
    return f"{space}/{labels.get('k8s-app', '*')}"


@overlays
def test_network_policies_are_the_links_that_there_are(overlay: str) -> None:
    manifests = render(overlay, ("monitoring",))
    policies = of_kind(manifests, "NetworkPolicy")
    denied = policies.pop("default-deny")["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    edges = set()
    for name, policy in policies.items():
        spec = policy["spec"]
        chosen = {
            n
            for n, pod in pods(manifests)
            if selects(spec["podSelector"], pod["metadata"]["labels"])
        }
        assert chosen == ({name} if name in SERVICES else {"target-download", "draft-download"})
        for rule in spec.get("ingress") or ():
            edges |= {(_peers(manifests, rule["from"]), name, p["port"]) for p in rule["ports"]}
        for rule in spec.get("egress") or ():
            edges |= {
                (name, _peers(manifests, rule.get("to", ())), p["port"]) for p in rule["ports"]
            }
    dns = "kube-system/kube-dns"
    wanted = {("clients", "target", 50052), ("target", "draft", 50051), ("target", dns, 53)}
    wanted |= {("monitoring/*", "target", 9102), ("monitoring/*", "draft", 9101)}
    if of_kind(manifests, "Job"):
        wanted |= {("download", dns, 53), ("download", "anybody", 443)}
    assert edges == wanted


@pytest.mark.parametrize("overlay", [o for o in OVERLAYS if o != "cpu-demo"])
def test_real_models_are_read_only_pinned_and_offline(overlay: str) -> None:
    manifests = render(overlay)
    claims = of_kind(manifests, "PersistentVolumeClaim")
    for service in SERVICES:
        pod = of_kind(manifests, "Deployment")[service]["spec"]["template"]["spec"]
        (volume,) = [v["persistentVolumeClaim"] for v in pod["volumes"] if v["name"] == "models"]
        assert volume["readOnly"]
        assert volume["claimName"] in claims
        assert {
            k: v for k, v in pod["containers"][0]["resources"]["limits"].items() if "gpu" in k
        } == {"nvidia.com/gpu": 1}
        assert pod["nodeSelector"]
        assert pod["tolerations"]
        assert environment_of(manifests, service)["HF_HUB_OFFLINE"] == "1"
        job = of_kind(manifests, "Job")[f"{service}-download"]["spec"]["template"]["spec"]
        (download,) = job["containers"]
        names = environment_in(manifests, download)
        # Kubernetes puts variables of the container in the place of $(NAME).
        model, revision, folder = (
            Template(argument.replace("$(", "${").replace(")", "}")).substitute(names)
            for argument in (download["command"][2], download["args"][1], download["args"][3])
        )
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", model)
        assert len(revision) == 40
        assert int(revision, 16)
        assert folder == settings_of(manifests, service).model
        assert [v["persistentVolumeClaim"] for v in job["volumes"] if v["name"] == "models"] == [
            {"claimName": volume["claimName"]}
        ]
        assert download["image"] == pod["containers"][0]["image"]
