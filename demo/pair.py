"""The models that a demonstration runs, and what it asks them.

This module knows nothing of services.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from demo.real_model import smollm2

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "demo" / "models"

_PASSAGE = """\
A lighthouse is a tower with a bright lamp at its top. It stands where ships are in danger: on \
rocks, on capes, at the mouths of harbours. In the past a keeper lived in the tower, carried oil \
up the stairs every evening and kept the lamp burning until the morning. Each lighthouse has its \
own rhythm of flashes, so that a sailor who counts them knows which one he sees. Today most lamps \
are electric and switch themselves on, and ships find their way by satellite, but many towers are \
still lit."""
_CODE = '''"""Utilities for reading configuration files."""

import os
import re


class Parser:
    """Parse a configuration file.

    The file is read line by line.
    """

    def __init__(self, filename):
'''


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that is asked."""

    name: str
    """One word for the table."""
    shown: str
    prompt: Any
    """What the SDK takes: text, or messages."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A target, its draft, and questions that suit them."""

    name: str
    target: Path
    draft: Path | None
    """None leaves the target to look up n-grams."""
    questions: tuple[Question, ...]

    def asked(self, prompt: str) -> "Pair":
        """Returns the pair with one question of the user's own."""
        own = _message("yours", prompt) if isinstance(self.questions[0].prompt, list) else None
        return replace(self, questions=(own or Question("yours", prompt, prompt),))


def real_pair(drafted: bool = False) -> Pair:
    """Returns a model that speaks, which is fetched if it is not there.

    Args:
        drafted: whether it has its draft, which wants a core of its own.

    Raises:
        RealModelError: it could not be fetched.
    """
    questions = (
        _message("rewrite", f"Rewrite the following text and correct its spelling:\n\n{_PASSAGE}"),
        _message("summarize", f"Summarize the following text in two sentences:\n\n{_PASSAGE}"),
        _message("explain", "Explain how a lighthouse works."),
    )
    draft = MODELS / "smollm2-draft" if drafted else None
    return Pair("SmolLM2-135M-Instruct", smollm2(), draft, questions)


def bundled_pair() -> Pair:
    """Returns the pair that the repository holds."""
    code = Question("code", _CODE, _CODE)
    return Pair("the bundled pair", MODELS / "target", MODELS / "draft", (code,))


def _message(name: str, text: str) -> Question:
    return Question(name, text, [{"role": "user", "content": text}])
