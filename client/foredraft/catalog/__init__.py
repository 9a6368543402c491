"""Every metric of both services and the SDK: name, type, unit, labels, meaning.

This is the one place that names them, and docs/metrics.md is made from it. Stems are vLLM's where
vLLM has the signal. Labels have few values, which are written here, and never carry what a request
holds. The package knows nothing of when a metric moves.
"""

from foredraft.catalog.assistance import ASSISTANCE
from foredraft.catalog.client import CLIENT_CALLS
from foredraft.catalog.draft import DRAFTING
from foredraft.catalog.engine import ENGINE
from foredraft.catalog.metric import DRAFT_STATES, MAX_POSITION, POSITIONS, Metric, Part
from foredraft.catalog.requests import REQUESTS
from foredraft.catalog.vllm import VLLM, VLLM_ALIASES

__all__ = [
    "DRAFT_STATES",
    "MAX_POSITION",
    "METRICS",
    "POSITIONS",
    "VLLM",
    "VLLM_ALIASES",
    "Metric",
    "Part",
]

METRICS = (*ENGINE, *REQUESTS, *ASSISTANCE, *DRAFTING, *CLIENT_CALLS)
"""All metrics, in the order in which docs/metrics.md lists them."""
