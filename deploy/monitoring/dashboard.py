"""The panels as a Grafana dashboard.

This module knows nothing of what panels show.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.monitoring.panels import Panel
from deploy.monitoring.rows import ROWS

# A variable and no entry of `__inputs`: those are filled in by hand-made imports, but not where
# files are provisioned.
_SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
_WIDTH = 24
_SIZES = {"stat": (4, 4), "table": (12, 7), "timeseries": (8, 7)}  # width, height


def dashboard() -> str:
    """Returns Grafana's JSON, of version 10 or later."""
    whole = {
        "title": "foredraft",
        "uid": "foredraft",
        "tags": ["foredraft"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source_variable(), _variable("namespace"), _variable("job")]},
        "annotations": {"list": []},
        "panels": list(_placed()),
    }
    return json.dumps(whole, indent=1) + "\n"


def _source_variable() -> Mapping[str, Any]:
    return {
        "name": "DS_PROMETHEUS",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }


def _variable(label: str) -> Mapping[str, Any]:
    """Returns a variable with the values of a label; all of them are chosen at first."""
    metrics = '{__name__=~"foredraft_(rows|client_tokens_total)"}'
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values({metrics}, {label})", "refId": label},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed() -> Iterator[Mapping[str, Any]]:
    """Yields the rows with their panels, from left to right."""
    number = y = 0
    for title, panels in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": _at(0, y, _WIDTH, 1),
        }
        x, y, tallest = 0, y + 1, 0
        for panel in panels:
            width, height = _SIZES[panel.kind]
            if x + width > _WIDTH:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            yield {"id": number, "gridPos": _at(x, y, width, height), **_panel(panel)}
            x, tallest = x + width, max(tallest, height)
        y += tallest


def _at(x: int, y: int, width: int, height: int) -> Mapping[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> Mapping[str, Any]:
    custom = {"fillOpacity": 10, "showPoints": "never"} if panel.kind == "timeseries" else {}
    defaults: dict[str, Any] = {"unit": panel.unit, "custom": custom}
    if panel.unit == "percentunit":
        defaults |= {"min": 0, "max": 1}
    legends = {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return {
        "title": panel.title,
        "description": panel.meaning,
        "type": panel.kind,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": legends if panel.kind == "timeseries" else {},
        "targets": [_target(i, panel, *query) for i, query in enumerate(panel.queries)],
    }


def _target(index: int, panel: Panel, expression: str, legend: str) -> Mapping[str, Any]:
    as_table = {"instant": True, "format": "table"} if panel.kind == "table" else {}
    return {
        "refId": chr(ord("A") + index),
        "datasource": _SOURCE,
        "expr": expression,
        "legendFormat": legend or "__auto",
        **as_table,
    }
