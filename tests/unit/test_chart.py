"""Charts are drawn from the committed results."""

import xml.etree.ElementTree as ElementTree

from benchmarks.chart import Bar, bar_chart, committed


def test_the_committed_charts_are_fresh() -> None:
    for path, text in committed().items():
        assert path.read_text() == text, f"{path.name} is stale: make charts"


def test_a_bar_is_as_long_as_its_ratio() -> None:
    root = ElementTree.fromstring(
        bar_chart("Title & more", "note", [Bar("a", 1), Bar("b", 2, 1, 3)])
    )
    widths = [float(rect.attrib["width"]) for rect in root if rect.tag.endswith("rect")]
    assert widths[1] == 2 * widths[0]
