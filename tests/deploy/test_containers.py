"""Dockerfile and compose file agree with the tree, the services, and one another."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from foredraft_serving.settings import read
from tests.deploy.rendered import CHECKS, SERVICES, SETTINGS
from tests.integration.processes import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def _lines(instruction: str) -> list[str]:
    return [line for line in DOCKERFILE.splitlines() if line.startswith(f"{instruction} ")]


def test_the_only_step_is_the_script() -> None:
    assert [line.split("/source/")[1].split()[0] for line in _lines("RUN")] == ["deploy/install"]
    assert _lines("USER") == ["USER 10001:10001"]
    assert _lines("FROM")[-1] == "FROM runtime", "the image without models is the default"


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_copied_is_there_and_not_ignored(service: str) -> None:
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for line in _lines("COPY"):
        if "--from" not in line:
            for source in line.replace("${SERVICE}", service).split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert any(Path(source).is_relative_to(k) for k in kept), source


@pytest.mark.parametrize("service", SERVICES)
def test_settings_ports_and_health_of_the_compose_file(service: str) -> None:
    given = COMPOSE["services"][service]
    settings = read(SETTINGS[service], f"FOREDRAFT_{service.upper()}_", [], given["environment"])
    CHECKS[service](settings)  # it starts with them
    assert settings.model == f"/models/{service}"
    port = settings.listen.rpartition(":")[2]
    assert given["healthcheck"]["test"][-1] == f"127.0.0.1:{port}"
    assert given["build"]["args"]["SERVICE"] == service
    assert given["build"]["target"] == "demo"
    assert int(given["stop_grace_period"][:-1]) > settings.grace
    assert given["read_only"]
    assert given["cap_drop"] == ["ALL"]
    scraped = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())[
        "scrape_configs"
    ]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    assert targets[service] == [f"{service}:{settings.metrics_listen.rpartition(':')[2]}"]
    if service == "target":
        assert given["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert (
            settings.draft
            == "draft:" + COMPOSE["services"]["draft"]["healthcheck"]["test"][-1].partition(":")[2]
        )


def test_images_of_others_are_pinned_by_their_digest() -> None:
    """Whoever owns a tag can put another image behind it, and nobody behind a digest."""
    named = [given["image"] for given in COMPOSE["services"].values() if "build" not in given]
    stages = {line.split(" AS ")[1] for line in _lines("FROM") if " AS " in line}
    named += [line.split()[1] for line in _lines("FROM") if line.split()[1] not in stages]
    arguments = dict(line.split()[1].split("=", 1) for line in _lines("ARG") if "=" in line)
    for image in named:
        for name, default in arguments.items():
            image = image.replace(f"${{{name}}}", default)
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}", image), image


def test_the_list_of_packages_is_where_the_label_says() -> None:
    (label,) = _lines("LABEL")
    name = label.removeprefix("LABEL foredraft.sbom=/opt/foredraft/")
    assert f'"$prefix/{name}"' in (DEPLOY / "install").read_text()


def test_volumes_and_images() -> None:
    for service in COMPOSE["services"].values():
        assert re.search(r":\d+(\.\d+)+|:v\d", service["image"]), "a version is pinned"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (
                (DEPLOY / source).is_file()
                if source.startswith(".")
                else source in COMPOSE["volumes"]
            )
    datasource = yaml.safe_load(
        (DEPLOY / "monitoring" / "grafana" / "datasources.yml").read_text()
    )["datasources"][0]
    assert datasource["url"] == "http://prometheus:9090"


@pytest.mark.tool("docker-compose")
def test_compose_takes_the_file(tool: str, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    # A project's own name is younger than Debian's docker-compose.
    file.write_text(re.sub(r"(?m)^name: .*$", "", (DEPLOY / "compose.yaml").read_text()))
    command = [tool, "--file", str(file), "--project-directory", str(DEPLOY), "config"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    services = yaml.safe_load(told.stdout)["services"]
    assert {services[service]["build"]["context"] for service in SERVICES} == {str(ROOT)}
    for service in COMPOSE["services"]:
        for volume in services[service].get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or Path(source).is_file(), source


@pytest.mark.tool("promtool")
def test_prometheus_takes_its_configuration(tool: str) -> None:
    config = DEPLOY / "monitoring" / "prometheus.yml"
    told = subprocess.run(
        [tool, "check", "config", config], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
