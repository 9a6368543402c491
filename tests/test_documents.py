"""The documentation: links lead somewhere, lines wrap, the tree exists, old words are gone."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LISTED = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
).stdout.split()
DOCUMENTS = [ROOT / name for name in LISTED if (ROOT / name).exists()]
MAX_COLUMNS = 100
# Words of earlier versions that the glossary replaced.
OLD_WORDS = ("errand", "turnout", "foresight", "outlet", "decoding/", "`serving")

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))


def _prose(document: Path) -> Iterator[tuple[int, str]]:
    """Yields lines outside of code blocks and of what benchmarks wrote, with their numbers."""
    fenced = written = False
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif line.startswith("<!--"):
            written = "written by the benchmark" in line
        elif not fenced and not written:
            yield number, line


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@documents
def test_links_lead_somewhere(document: Path) -> None:
    for number, line in _prose(document):
        for link in re.findall(r"\]\(([^)\s]+)\)", line):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            assert target.exists(), f"line {number}: there is no {link}"
            assert not anchor or anchor in _anchors(target), f"line {number}: no anchor {link}"


@documents
def test_lines_wrap(document: Path) -> None:
    if re.search("`make (generated|models)` makes this page", document.read_text()[:400]):
        return  # generated, from texts that wrap where they are written
    for number, line in _prose(document):
        fits = len(line) <= MAX_COLUMNS or line.startswith("|") or " " not in line.strip()
        assert fits, f"line {number} is long"


@documents
def test_old_words_are_gone(document: Path) -> None:
    if document.name in ("CHANGELOG.md", "experiments.md"):
        return  # they tell of earlier versions
    text = document.read_text().lower()
    assert [word for word in OLD_WORDS if word in text] == []


def test_the_tree_of_contributing_exists() -> None:
    folder = ROOT
    tree = (ROOT / "CONTRIBUTING.md").read_text().split("## Where things are")[1]
    for line in re.findall(r"^    ( *\S+) .*$", tree.split("Imports point")[0], re.MULTILINE):
        name = line.strip()
        if not line.startswith(" "):
            folder = ROOT / name
        if "." in name or name.endswith("/"):
            path = folder / name if line.startswith(" ") else ROOT / name
            assert path.exists(), f"there is no {path.relative_to(ROOT)}"


def test_the_readme_is_short_and_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 130
    assert "make demo" in text
    assert "make test" in text


def test_architecture_begins_with_a_short_lifecycle() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    lifecycle = text.split("## Why")[0]
    assert lifecycle.count("\n") <= 60
    assert all(f"    {step}  " in lifecycle for step in range(1, 9))


def test_a_version_tells_each_kind_of_change_once() -> None:
    versions = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    for version in versions:
        kinds = re.findall(r"^### (\w+)", version, flags=re.MULTILINE)
        assert len(kinds) == len(set(kinds)), version.splitlines()[0]
