"""The metrics of a target under the names that they have in vLLM, beside their own.

Programs that know vLLM's metrics read a target's then: benchmarks, dashboards, endpoint pickers. An
alias is the metric itself, read at the same scrape. This module knows nothing of when metrics move.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from foredraft.catalog import VLLM_ALIASES

_TOTAL = "_total"


class VllmAliases(Collector):
    """The aliases of the metrics of a registry, which another registry has."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        """Keeps the registry.

        Args:
            model: what the label `model_name` says, which vLLM's metrics have.
        """
        self._registry = registry
        self._labels: Mapping[str, str] = {"model_name": model, "engine": "0"}

    def describe(self) -> Iterable[Metric]:
        """Returns nothing: no other collector has these names."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Returns the aliases as they stand."""
        for family in self._registry.collect():
            suffix = _TOTAL if family.type == "counter" else ""
            if theirs := VLLM_ALIASES.get(family.name + suffix):
                yield self._alias(family, theirs.removesuffix(suffix))

    def _alias(self, family: Metric, name: str) -> Metric:
        alias = Metric(name, family.documentation, family.type)
        for sample in family.samples:
            own = sample.name.removeprefix(family.name)
            labels = {**self._labels, **sample.labels}
            alias.samples.append(Sample(name + own, labels, *sample[2:]))
        return alias
