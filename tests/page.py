"""Reads the page of a report as a browser's parser would, and refuses what is not well formed."""

from html.parser import HTMLParser
from pathlib import Path

_EMPTY = {"meta"}  # elements without an end


class Page(HTMLParser):
    """The elements and the texts of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        """Each element with its attributes, in the order of their beginnings."""
        self.texts: list[tuple[tuple[str, ...], str]] = []
        """Each text, with the classes and names of the elements around it."""
        self._open: list[tuple[str, str]] = []
        self.feed(file.read_text(encoding="utf-8"))
        self.close()
        assert not self._open, f"not ended: {self._open}"

    def count(self, name: str, kind: str = "") -> int:
        """Returns the number of elements of a name, and of a class."""
        return sum(n == name and kind in ("", a.get("class")) for n, a in self.elements)

    def text_in(self, kind: str) -> str:
        """Returns the text within elements of a class or a name."""
        return "".join(text for around, text in self.texts if kind in around)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in _EMPTY:
            self._open.append((tag, attributes.get("class", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag, f"</{tag}> ends another element"

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(part for one in self._open for part in one), data))


def check_self_contained(page: Page) -> None:
    """Refuses scripts, and everything that a browser would request."""
    policies = [a["content"] for n, a in page.elements if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    for name, attributes in page.elements:
        assert name not in ("script", "link", "img", "iframe", "object", "embed", "base")
        asking = {"src", "href", "srcset", "action", "data", "background", "style"}
        assert not asking & attributes.keys()
        assert not any(attribute.startswith("on") for attribute in attributes)
    style = page.text_in("style")
    assert "url(" not in style
    assert "@import" not in style
