"""Charts are drawn from the committed results."""

import xml.etree.ElementTree as ElementTree

from benchmarks.chart import Bar, bar_chart, committed
from benchmarks.line_chart import line_chart


def test_the_committed_charts_are_fresh() -> None:
    for path, text in committed().items():
        assert path.read_text() == text, f"{path.name} is stale: make charts"


def test_a_bar_is_as_long_as_its_ratio() -> None:
    root = ElementTree.fromstring(
        bar_chart("Title & more", "note", [Bar("a", 1), Bar("b", 2, 1, 3)])
    )
    widths = [float(rect.attrib["width"]) for rect in root if rect.tag.endswith("rect")]
    assert widths[1] == 2 * widths[0]


def test_what_grows_in_proportion_is_a_straight_line() -> None:
    points = [(9, 10), (99, 100), (999, 1000)]
    root = ElementTree.fromstring(line_chart("Title", "note", {"a": points}))
    circles = [rect.attrib for rect in root if rect.tag.endswith("circle")]
    x, y = ([float(one[name]) for one in circles] for name in ("cx", "cy"))
    assert (x[1] - x[0]) / (y[1] - y[0]) == (x[2] - x[1]) / (y[2] - y[1])
