"""TLS in deployments: each file is where a setting looks, and each name is one that is called."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from foredraft_serving.server import LIVENESS, READINESS
from foredraft_serving.settings import read
from tests.deploy.rendered import (
    CHECKS,
    OVERLAYS,
    SERVICES,
    SETTINGS,
    Manifest,
    container,
    environment_of,
    of_kind,
    render,
)
from tests.integration.processes import ROOT
from tests.tools import find

_FILES = ("tls_cert", "tls_key", "client_ca", "draft_cert", "draft_key", "draft_ca")
_TOKENS = "api-tokens"
overlays = pytest.mark.parametrize("overlay", OVERLAYS)
services = pytest.mark.parametrize("service", SERVICES)


def _settings(service: str, environment: dict[str, str]) -> Any:
    return read(SETTINGS[service], f"FOREDRAFT_{service.upper()}_", [], environment)


def _paths(settings: Any) -> dict[str, Path]:
    """Returns the certificates that a service is told of, by setting."""
    return {name: Path(getattr(settings, name)) for name in _FILES if hasattr(settings, name)}


def _port(listen: str) -> int:
    return int(listen.rpartition(":")[2])


@services
@overlays
def test_secrets_are_mounted_where_settings_look(overlay: str, service: str) -> None:
    manifests = render(overlay, ("tls",))
    given = container(manifests, service)
    pod = of_kind(manifests, "Deployment")[service]["spec"]["template"]["spec"]
    secrets = {v["name"]: v["secret"] for v in pod["volumes"] if "secret" in v}
    mounts = {Path(m["mountPath"]): secrets.get(m["name"]) for m in given["volumeMounts"]}
    issued = {c["spec"]["secretName"] for c in of_kind(manifests, "Certificate").values()}
    settings = _settings(service, environment_of(manifests, service))
    CHECKS[service](settings)  # it starts with them, and needs no permission for that
    assert not settings.insecure
    paths = _paths(settings)
    assert all(path.name for path in paths.values()), "each setting has a file"
    for name, path in paths.items():
        secret = mounts[path.parent]
        assert secret is not None
        assert secret["secretName"] in issued
        assert secret["defaultMode"] == 0o440
        kind = name.rpartition("_")[2]
        assert path.name == {"cert": "tls.crt", "key": "tls.key", "ca": "ca.crt"}[kind]


def _certificate(manifests: list[Manifest], secret: str) -> Any:
    specs = [c["spec"] for c in of_kind(manifests, "Certificate").values()]
    return next(spec for spec in specs if spec["secretName"] == secret)


@overlays
def test_certificates_have_the_names_that_are_called_and_the_cas_that_are_trusted(
    overlay: str,
) -> None:
    manifests = render(overlay, ("tls",))
    issuers = of_kind(manifests, "Issuer")
    for service in SERVICES:
        spec = _certificate(manifests, f"{service}-tls")
        assert set(of_kind(manifests, "Service")) >= {service}
        names = {f"{service}{rest}" for rest in ("", ".foredraft", ".foredraft.svc")}
        assert names <= set(spec["dnsNames"])
        assert spec["usages"] == ["server auth"]
    (draft,) = _settings("target", environment_of(manifests, "target")).draft_addresses
    called = draft.removeprefix("dns:///").partition(":")[0]
    assert called in _certificate(manifests, "draft-tls")["dnsNames"]
    (name,) = _certificate(manifests, "draft-link-tls")["dnsNames"]
    assert _settings("draft", environment_of(manifests, "draft")).client_names == name
    # What a target shows comes from the CA of drafts, what a caller shows from that of targets.
    for shown, seen in (("draft-link-tls", "draft-tls"), ("caller-tls", "target-tls")):
        spec = _certificate(manifests, shown)
        assert spec["usages"] == ["client auth"]
        assert spec["issuerRef"] == _certificate(manifests, seen)["issuerRef"]
        ca = issuers[spec["issuerRef"]["name"]]["spec"]["ca"]["secretName"]
        assert _certificate(manifests, ca)["isCA"]
    assert _certificate(manifests, "draft-tls") != _certificate(manifests, "target-tls")


@services
@overlays
def test_probes_ask_at_the_port_for_health(overlay: str, service: str) -> None:
    manifests = render(overlay, ("tls",))
    given = container(manifests, service)
    settings = _settings(service, environment_of(manifests, service))
    assert settings.health_listen.startswith("0.0.0.0:")
    for probe, name in (
        ("startupProbe", READINESS),
        ("readinessProbe", READINESS),
        ("livenessProbe", LIVENESS),
    ):
        assert given[probe]["grpc"] == {"port": _port(settings.health_listen), "service": name}
    listens = {settings.listen, settings.metrics_listen, settings.health_listen}
    assert {p["containerPort"] for p in given["ports"]} == {_port(listen) for listen in listens}
    # Nobody but the node reaches it: the Service and the policies do not have it.
    served = of_kind(manifests, "Service")[service]["spec"]["ports"]
    assert {p["port"] for p in served} == {
        _port(settings.listen),
        _port(settings.metrics_listen),
    }
    assert not any("appProtocol" in p for p in served)


@services
def test_the_compose_overlay(service: str) -> None:
    base, over = (
        yaml.safe_load((ROOT / "deploy" / name).read_text())["services"][service]
        for name in ("compose.yaml", "compose.tls.yaml")
    )
    settings = _settings(service, {**base["environment"], **over["environment"]})
    CHECKS[service](settings)
    assert not settings.insecure
    assert over["volumes"] == [f"./tls/{service}:/tls:ro"]
    paths = _paths(settings)
    assert {path.parent for path in paths.values()} == {Path("/tls")}
    own = {f"{service}.crt", f"{service}.key", "ca.pem"}
    assert {path.name for path in paths.values()} == own
    assert over["healthcheck"]["test"] == [
        *base["healthcheck"]["test"][:-1],
        settings.health_listen,
    ]
    assert set(over) == {"environment", "volumes", "healthcheck"}


@overlays
def test_the_file_of_tokens_is_mounted_where_the_target_looks(overlay: str) -> None:
    manifests = render(overlay, ("tls", "tokens"))
    settings = _settings("target", environment_of(manifests, "target"))
    CHECKS["target"](settings)
    pod = of_kind(manifests, "Deployment")["target"]["spec"]["template"]["spec"]
    (name,) = [
        v["name"] for v in pod["volumes"] if v.get("secret", {}).get("secretName") == _TOKENS
    ]
    (path,) = [
        m["mountPath"] for m in container(manifests, "target")["volumeMounts"] if m["name"] == name
    ]
    text = (ROOT / "docs" / "security.md").read_text()
    file = Path(settings.api_tokens)
    assert str(file.parent) == path
    assert f"kubectl -n foredraft create secret generic {_TOKENS} --from-file={file.name}" in text


def test_the_documentation_shows_both() -> None:
    find("kubectl")
    text = (ROOT / "docs" / "security.md").read_text()
    assert "compose.tls.yaml" in text
    assert "components/tls" in text
    for manifest in render("cpu-demo", ("tls",)):
        if manifest["kind"] in ("Certificate", "Issuer"):
            assert f"`{manifest['metadata']['name']}`" in text
