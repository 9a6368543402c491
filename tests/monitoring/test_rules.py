"""Rules, alerts and dashboard as files: fresh, well formed, and right by Prometheus' own tests."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.monitoring.generate import ROOT, RULES, generated
from deploy.monitoring.rows import ROWS
from foredraft.catalog import METRICS, VLLM

# The dashboard leaves these to those who look for them.
_NOT_SHOWN = {
    "foredraft_client_accepted_tokens_per_pos_total",
    "foredraft_client_inter_chunk_seconds",
    "foredraft_client_rounds_total",
    "foredraft_draft_accepted_tokens_per_pos_total",
    "foredraft_draft_accepted_tokens_total",
    "foredraft_draft_outcomes_total",
}
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def test_what_is_generated_is_fresh() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"{path.name} is stale: make generated"


def test_names_of_vllm_become_ours_as_the_documentation_says() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    told = re.findall(r"-e '(s/.*?/g)'", page)
    command = ["sed", *(word for expression in told for word in ("-e", expression))]
    theirs = "\n".join(VLLM.values())
    ours = subprocess.run(command, input=theirs, capture_output=True, text=True, check=True).stdout
    assert ours.split() == list(VLLM)


@pytest.mark.tool("promtool")
def test_promtool_takes_the_rules(tool: str) -> None:
    told = subprocess.run(
        [tool, "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.tool("promtool")
def test_the_rules_tests(tool: str) -> None:
    tests = Path(__file__).parent / "rules_test.yml"
    told = subprocess.run(
        [tool, "test", "rules", tests],
        capture_output=True,
        text=True,
        check=False,
        cwd=RULES.parent,
    )
    assert told.returncode == 0, told.stdout + told.stderr


def _rules() -> list[dict[str, object]]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def test_every_alert_has_its_paragraph() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    alerts = [rule for rule in _rules() if "alert" in rule]
    assert alerts
    for rule in alerts:
        runbook = rule["annotations"]["runbook"]  # type: ignore[index]
        title = re.search(rf"### ({runbook.partition('#')[2]})\n\n\w", page, re.IGNORECASE)
        assert title, rule["alert"]
        assert str(rule["alert"]).startswith(title[1])
        assert rule["labels"]["severity"] in ("warning", "critical")  # type: ignore[index]


def test_only_metrics_and_records_that_exist() -> None:
    known = {m.name for m in METRICS} | {
        str(rule["record"]) for rule in _rules() if "record" in rule
    }
    expressions = [str(rule["expr"]) for rule in _rules()]
    expressions += [
        expression for _, panels in ROWS for panel in panels for expression, _ in panel.queries
    ]
    used = set()
    for expression in expressions:
        for name in re.findall(r"foredraft[_:][a-z0-9_:]+", expression):
            assert {name, _SUFFIX.sub("", name)} & known, f"{name} in {expression}"
            used.add(_SUFFIX.sub("", name))
    assert {m.name for m in METRICS} - used == _NOT_SHOWN


def test_the_dashboard_fits_its_grid() -> None:
    board = json.loads((ROOT / "deploy" / "monitoring" / "dashboard.json").read_text())
    assert [p["title"] for p in board["panels"] if p["type"] == "row"] == [
        *("Summary", "Latency", "Speculation", "Engine", "Drafts", "Clients")
    ]
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
