"""Writes docs/metrics.md, the dashboard, and the rules as a PrometheusRule: `make generated`.

A test keeps the files fresh.
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path

from deploy.monitoring.dashboard import dashboard
from foredraft.catalog import METRICS, VLLM, VLLM_ALIASES, Metric, Part

ROOT = Path(__file__).resolve().parent.parent.parent
_HERE = Path(__file__).resolve().parent
RULES = _HERE / "rules.yml"
_TITLES: Mapping[Part, str] = {
    "target": "Target service",
    "draft": "Draft service",
    "client": "SDK",
}

_INTRODUCTION = """\
# Metrics

`make generated` makes this page from `client/foredraft/catalog`. Both services serve their metrics
at `--metrics-listen`. Those of the SDK are in prometheus_client's global registry, or in the one
that a client is given, and `foredraft.metrics.start_server(port)` serves them. Each service is one
process, so that nothing has to be merged. Applications that fork workers use prometheus_client's
multiprocess mode, as they do for their own metrics.

- Times are in seconds. The buckets of their histograms begin at 1 ms, and at 0.1 ms for a token's
  share of a chunk, because tokens that were accepted together arrive together.
- Labels have the values that are listed here, all of them from the start, or values that the
  configuration says. None carries what a request holds.
- Acceptance rate = accepted / proposed. Mean acceptance length = 1 + accepted / rounds. vLLM
  divides by proposals; here rounds without a proposal count, too.
- On an accelerator kernels run after the host has launched them. `forward` is then the time to
  launch them, and the wait for them shows in `verification`.
"""

_MAPPING = """\
## From vLLM's names

Where vLLM has a signal, foredraft has its stem, except for two that do not follow Prometheus'
naming. This command takes a dashboard over that was made for vLLM:

    sed -e 's/vllm:kv_cache_usage_perc/foredraft_kv_cache_usage_ratio/g' \\
        -e 's/vllm:iteration_tokens_total/foredraft_step_tokens/g' \\
        -e 's/vllm:/foredraft_/g' theirs.json

Remove its matchers of `model_name`, or give the scrape job such a label: a process serves one
model, which only `foredraft_info` names. `foredraft_num_requests_waiting` counts sequences, and
`foredraft_request_success_total` has the reasons that are listed above.

| vLLM | foredraft |
| --- | --- |
"""

_ALIASES = """\
## Under vLLM's names

`foredraft-target --metrics-aliases vllm` serves these metrics once more, under the names of vLLM
and with its labels `model_name` and `engine` ("0"), so that a program that knows vLLM reads a
target. What the two count differently has no alias, such as `vllm:request_success_total`, whose
reasons are others.
`vllm:num_requests_running` counts sequences that have a row, and
`vllm:inter_token_latency_seconds` is the time between two outputs of a sequence, as in vLLM.

| vLLM | foredraft |
| --- | --- |
"""

_RULE_HEAD = """\
# Made from deploy/monitoring/rules.yml by `make generated`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: foredraft
  labels:
    app.kubernetes.io/name: foredraft
spec:
"""


def metrics_page() -> str:
    """Returns docs/metrics.md."""
    parts = [_INTRODUCTION]
    for part, title in _TITLES.items():
        rows = "".join(_row(metric) for metric in METRICS if part in metric.parts)
        parts.append(
            f"## {title}\n\n| metric | type | unit | labels | meaning |\n| --- | --- | --- | "
            f"--- | --- |\n{rows}"
        )
    return "\n".join([*parts, _MAPPING + _names(VLLM), _ALIASES + _names(VLLM_ALIASES)])


def _names(theirs: Mapping[str, str]) -> str:
    return "".join(f"| `{name}` | `{ours}` |\n" for ours, name in theirs.items())


def _row(metric: Metric) -> str:
    labels = "; ".join(f"`{name}`{_values(values)}" for name, values in metric.labels.items())
    return (
        f"| `{metric.name}` | {metric.type.__name__.lower()} | {metric.unit} | {labels} | "
        f"{metric.meaning} |\n"
    )


def _values(values: tuple[str, ...]) -> str:
    if not values:
        return ""
    if all(value.isdecimal() for value in values):
        return f": {values[0]} to {values[-1]}"
    return ": " + ", ".join(values)


def rule() -> str:
    """Returns the rules, wrapped for the Prometheus operator."""
    return _RULE_HEAD + textwrap.indent(RULES.read_text(), "  ")


def generated() -> Mapping[Path, str]:
    """Returns the text of every file, by path."""
    return {
        ROOT / "docs" / "metrics.md": metrics_page(),
        _HERE / "dashboard.json": dashboard(),
        _HERE / "prometheusrule.yaml": rule(),
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
