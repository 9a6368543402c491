"""What the dashboard shows, row by row.

Expressions name metrics of `foredraft.catalog` and records of rules.yml; `$namespace` and `$job`
choose what is shown.
"""

from deploy.monitoring.panels import Panel
from deploy.monitoring.rows import clients, drafts, engine, latency, speculation, summary

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Summary", summary.PANELS),
    ("Latency", latency.PANELS),
    ("Speculation", speculation.PANELS),
    ("Engine", engine.PANELS),
    ("Drafts", drafts.PANELS),
    ("Clients", clients.PANELS),
)
