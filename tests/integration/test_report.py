"""The page of `foredraft generate --report`: it tells what happened, and a browser shows it."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from foredraft.cli import main
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import draft_service, target_service
from tests.page import Page, check_self_contained
from tests.premises import begins_again, in_time

VOCAB = 12
TABLE = random_table(VOCAB, 2)
POOR = TABLE + 0.5 * random_table(VOCAB, 7)
FLAGS = ["--max-new-tokens", "120", "--do-sample", "--top-k", "0", "--seed", "4", "--json"]


async def _report(file: Path, *flags: str) -> None:
    """Writes the report of a call that a draft model with alternatives assists."""
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(POOR), model, ngram="off") as draft,
        target_service(SlowRows(TABLE, 0.01), model, draft.address) as target,
    ):
        command = ["generate", "bcd", "--address", target.address, "--report", str(file)]
        assert await asyncio.to_thread(main, [*command, *FLAGS, *flags]) == 0


@begins_again
async def test_the_page_tells_what_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.html"
    await _report(file, "--num-return-sequences", "2")
    page = Page(file)
    check_self_contained(page)
    results: list[dict[str, Any]] = [
        json.loads(line) for line in capsys.readouterr().out.splitlines()
    ]
    rounds = sum(result["stats"]["rounds"] for result in results)
    assert page.text_in("answer") == "".join(result["text"] for result in results)
    assert page.count("section") == page.count("svg") == len(results) == 2
    assert page.count("g", "round") == page.count("tr") - len(results) == rounds
    for origin in ("alternative", "ngram"):
        tokens = sum(result["origins"].count(origin) for result in results)
        assert page.count("rect", origin) == tokens
    ahead = sum(result["stats"]["pushed"] for result in results)
    assert page.text_in("tbody").count("drafted ahead") == ahead
    in_time(ahead > 0, results)
    wasted = [
        token
        for result in results
        for one in _rounds(result)
        for token in one["proposed_ids"][one["in_text"] :]
    ]
    assert page.count("rect", "wasted") == len(wasted) > 0
    letters = "".join(chr(ord("a") + token) for token in wasted)
    within = [text for around, text in page.texts if "wasted" in around and "tbody" in around]
    assert "".join(within) == letters


def _rounds(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the rounds of a result, with the number of proposed tokens that are in the text."""
    at, rounds = 0, result["rounds"]
    for one in rounds:
        one["in_text"] = 0
        while at < len(result["origins"]) and result["origins"][at] in ("draft_model", "ngram"):
            at, one["in_text"] = at + 1, one["in_text"] + 1
        at += 2 if result["origins"][at : at + 1] == ["alternative"] else 1
    return list(rounds)


@pytest.mark.tool("chromium-headless-shell")
async def test_a_browser_shows_it(tool: str, tmp_path: Path) -> None:
    file, picture, log = (tmp_path / name for name in ("report.html", "page.png", "net.json"))
    await _report(file)
    command = [tool, "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    flags = [f"--screenshot={picture}", "--window-size=1200,1600", f"--log-net-log={log}"]
    command += [*flags, "--dump-dom", file.as_uri()]
    shown = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, timeout=120, check=True
    )
    events = json.loads(log.read_text())["events"]
    asked = {event["params"]["url"] for event in events if "url" in event.get("params", {})}
    assert asked == set(), "a page of its own requests nothing"
    assert picture.stat().st_size > 20_000, "an empty page is smaller"
    rendered = tmp_path / "rendered.html"
    rendered.write_bytes(shown.stdout)
    page, given = Page(rendered), Page(file)
    assert page.elements == given.elements, "the browser repaired nothing"
    assert page.text_in("answer") == given.text_in("answer")
