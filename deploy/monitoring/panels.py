"""A panel of the dashboard, and the expressions that many panels have.

This module knows nothing of Grafana's JSON.
"""

from dataclasses import dataclass

RATE = "$__rate_interval"
JOB = 'namespace=~"$namespace",job=~"$job"'
BY_JOB = "{{job}}"  # a legend


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: a graph, unless `kind` says otherwise. `queries` are pairs of expression and
    legend.
    """

    title: str
    unit: str
    meaning: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


def rate(name: str, by: str = "job", labels: str = "") -> str:
    """Returns the expression of events per second, summed."""
    return f"sum by ({by}) (rate(foredraft_{name}{{{JOB}{labels}}}[{RATE}]))"


def quantiles(name: str, labels: str = "") -> tuple[tuple[str, str], ...]:
    """Returns the quantiles of a histogram, with their legends."""
    buckets = f"sum by (le) (rate(foredraft_{name}_bucket{{{JOB}{labels}}}[{RATE}]))"
    return tuple((f"histogram_quantile({q}, {buckets})", f"p{q * 100:g}") for q in (0.5, 0.9, 0.99))


def gauge(name: str, by: str = "job") -> str:
    """Returns the expression of a gauge, summed."""
    return f"sum by ({by}) (foredraft_{name}{{{JOB}}})"


def record(name: str) -> str:
    """Returns a record of rules.yml over five minutes."""
    return f"foredraft:{name}:5m{{{JOB}}}"


def times(title: str, name: str, meaning: str, labels: str = "") -> Panel:
    """Returns a graph of the quantiles of a time."""
    return Panel(title, "s", meaning, quantiles(f"{name}_seconds", labels))
