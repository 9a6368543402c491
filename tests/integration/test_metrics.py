"""The metrics that all three parts expose, and a real Prometheus that scrapes them."""

import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from foredraft import Client, InvalidRequestError, metrics
from foredraft.catalog import METRICS, VLLM, VLLM_ALIASES, Part
from foredraft.instruments import Registrar
from foredraft_serving.metrics import DraftMetrics, TargetMetrics
from foredraft_serving.settings import SettingsError, read
from target_service.settings import TargetSettings
from tests.integration.processes import MODELS, Process, service
from tests.prometheus import prometheus

K = 5


@pytest.mark.parametrize(
    ("part", "make"),
    [("target", TargetMetrics), ("draft", DraftMetrics), ("client", metrics.ClientMetrics)],
)
def test_a_part_exposes_what_the_table_says(part: Part, make: type) -> None:
    registry = CollectorRegistry()
    make(registry)
    exposed = {f.name + ("_total" if f.type == "counter" else "") for f in registry.collect()}
    assert exposed == {m.name for m in METRICS if part in m.parts}


def test_the_table_is_well_formed() -> None:
    for metric in METRICS:
        assert metric.name.startswith("foredraft_")
        assert metric.unit
        assert metric.meaning.endswith(".")
        assert len(metric.labels) <= 1 or not any(metric.labels.values())
        assert metric.name.endswith("_total") == (metric.type is Counter)
    assert set(VLLM) | set(VLLM_ALIASES) <= {m.name for m in METRICS}
    assert len(set(VLLM_ALIASES.values())) == len(VLLM_ALIASES)
    with pytest.raises(KeyError):
        Registrar("draft", CollectorRegistry()).counter("rounds")


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Part, str]]:
    """The addresses of the metrics of all three parts, after some traffic."""
    logs = tmp_path_factory.mktemp("logs")
    registry = CollectorRegistry()
    port = metrics.start_server(0, registry=registry)
    with service(
        "draft", logs / "draft.log", "--model", str(MODELS / "draft"), "--ngram", "off"
    ) as draft:
        flags = ["--model", str(MODELS / "target"), "--draft", draft.address]
        flags += ["--metrics-aliases", "vllm"]
        with (
            service("target", logs / "target.log", *flags) as target,
            # Calls without a credential would not reuse each other's prompts.
            Client(target.address, registry=registry, metadata={"authorization": "one"}) as client,
        ):
            _traffic(client)
            yield _told({"target": target, "draft": draft}) | {"client": f"127.0.0.1:{port}"}


def _told(processes: dict[Part, Process]) -> dict[Part, str]:
    return {part: process.metrics_address for part, process in processes.items()}


def _traffic(client: Client) -> None:
    fields: dict[str, Any] = {
        "num_assistant_tokens": K,
        "assistant_confidence_threshold": 0.0,
        "eos_token_id": [],
    }
    client.generate("def main(", max_new_tokens=64, **fields)
    client.generate(
        ["import os", "class Parser:"], max_new_tokens=32, do_sample=True, temperature=0.7, **fields
    )
    client.generate("x = 1", max_new_tokens=8, num_assistant_tokens=0)
    with pytest.raises(InvalidRequestError):
        client.generate("x", max_new_tokens=10**6)
    with client.stream("def main(", max_new_tokens=1500, **fields) as stream:
        next(iter(stream))


@pytest.mark.tool("promtool")
def test_names_and_help_are_as_prometheus_wants_them(scraped: dict[Part, str], tool: str) -> None:
    for part, address in scraped.items():
        text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
        # `_created` is prometheus_client's own, and of no kind that the tool knows.
        ours = "".join(
            line for line in text.splitlines(True) if "foredraft" in line and "_created" not in line
        )
        told = subprocess.run(
            [tool, "check", "metrics"], input=ours, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, (part, told.stdout + told.stderr)


def test_helps_are_the_tables(scraped: dict[Part, str]) -> None:
    for part, address in scraped.items():
        text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
        helps = {f.name: f.documentation for f in text_string_to_metric_families(text)}
        for metric in METRICS:
            if part in metric.parts:
                assert helps[metric.name.removesuffix("_total")] == metric.meaning


def test_names_of_nobody_are_refused() -> None:
    given = ["--model", "x", "--metrics-aliases", "sglang"]
    with pytest.raises(SettingsError, match="sglang"):
        read(TargetSettings, "FOREDRAFT_TARGET_", given, {})


@pytest.mark.tool("prometheus")
def test_a_real_prometheus_scrapes_all_three(
    scraped: dict[Part, str], tool: str, tmp_path: Path
) -> None:
    with prometheus(tool, tmp_path, {str(part): at for part, at in scraped.items()}) as server:
        for metric in METRICS:
            for part in metric.parts:
                name = metric.name + ("_count" if metric.type is Histogram else "")
                assert server.query(f'{name}{{job="{part}"}}'), (
                    f"{metric.name} of {part} is not there"
                )
        for ours, theirs in VLLM_ALIASES.items():
            kinds = {m.type for m in METRICS if m.name == ours and "target" in m.parts}
            end = "_count" if kinds == {Histogram} else ""
            (own,) = server.query(f'sum({ours}{end}{{job="target"}})')
            (alias,) = server.query(f'sum({theirs}{end}{{engine="0",model_name!=""}})')
            assert alias["value"][1] == own["value"][1], theirs
        _check_values(server.value)


def _check_values(value: Callable[[str], float]) -> None:
    """Checks what the traffic must have left, and figures that must agree between the parts."""
    assert value('foredraft_request_success_total{finished_reason="length"}') == 4
    assert value('foredraft_request_failure_total{reason="invalid"}') == 1
    assert value('foredraft_request_failure_total{reason="cancelled"}') == 1
    assert value('foredraft_client_requests_total{outcome="ok"}') == 3
    assert value('foredraft_client_requests_total{outcome="invalid_argument"}') == 1
    assert value("foredraft_client_tokens_total") >= 64 + 2 * 32 + 8
    assert value("foredraft_generation_tokens_total") >= value("foredraft_client_tokens_total")
    proposed, accepted = (
        value(f"foredraft_spec_decode_num_{x}_tokens_total") for x in ("draft", "accepted")
    )
    assert 0 < accepted < proposed
    assert value("foredraft_spec_decode_num_accepted_tokens_per_pos_total") == accepted
    assert value("foredraft_client_accepted_tokens_total") <= accepted
    assert value("foredraft_client_accepted_tokens_per_pos_total") == value(
        "foredraft_client_accepted_tokens_total"
    )
    assert 0 < value("foredraft_draft_accepted_tokens_total") <= accepted
    assert value("foredraft_draft_tokens_total") >= proposed
    assert (
        0
        < value("foredraft_prefix_cache_hits_total")
        < value("foredraft_prefix_cache_queries_total")
    )
    assert value("foredraft_prefix_cache_queries_total") == value("foredraft_prompt_tokens_total")
    assert value("foredraft_request_generation_tokens_sum") == 64 + 2 * 32 + 8
    assert (
        value("foredraft_request_prompt_tokens_count")
        == value("foredraft_request_decode_time_seconds_count")
        == 4
    )
    assert (
        value("foredraft_request_prefill_time_seconds_count") == 5
    )  # one was left after its first tokens
    assert value("foredraft_rows_in_use") == value("foredraft_num_requests_running") == 0
    for part in ("waiting", "forward", "verification", "drawing"):
        assert value(f'foredraft_step_seconds_sum{{part="{part}"}}') > 0
    for name in (
        "inter_token_latency",
        "client_inter_token_latency",
        "draft_round_trip",
        "propose",
    ):
        assert value(f"foredraft_{name}_seconds_sum") > 0
