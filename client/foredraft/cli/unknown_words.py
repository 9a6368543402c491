"""What to tell about words of the command line that mean nothing here.

This module knows nothing of what flags do.
"""

import argparse
import difflib
import re
from collections.abc import Sequence

from foredraft.cli.flags import flag_of, is_generation_flag
from foredraft.wire.other_names import HINTS

_ADDRESS = "it is --address HOST:PORT here"
_PROMPT = "the prompt is the first argument of generate"
_HINTS = {
    **dict.fromkeys(("host", "port", "url", "base-url", "api-base", "server"), _ADDRESS),
    **dict.fromkeys(("prompt", "prompts", "messages", "text"), _PROMPT),
    "stream": "texts are streamed, unless --no-stream is given",
    "model": "a target service has one model, which foredraft info names",
    "verbose": "it is --show or --stats here",
    "logit-bias": "it is --sequence-bias here",
}


def told_of(words: Sequence[str], usage: argparse.ArgumentParser) -> str:
    """Returns what to tell about words that a command does not take."""
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    if not flags:
        return f"{words[0]!r} is one argument too many; a text of several words takes quotes"
    flag = flags[0]
    name = flag.lstrip("-").replace("_", "-")
    if hint := _HINTS.get(name) or _hint_of_elsewhere(name):
        return f"there is no {flag}: {hint}"
    known = sorted(set(re.findall(r"--[a-z][a-z-]*[a-z]", usage.format_help())))
    near = difflib.get_close_matches(flag, known, n=1)
    return f"there is no {flag}" + (f"; did you mean {near[0]}?" if near else "")


def _hint_of_elsewhere(name: str) -> str:
    """Returns what a parameter of another program is called here, if that is a flag."""
    hint = HINTS.get(name.replace("-", "_"), "")
    if hint.startswith("is not offered"):
        return "it " + re.sub(r"\w+_\w+", _flag_or_word, hint)
    called = re.match(r"is (\w+)(=\S+)? here", hint)
    if called and is_generation_flag(called[1]):
        return f"it is {flag_of(called[1])}{called[2] or ''} here"
    return ""


def _flag_or_word(word: re.Match[str]) -> str:
    return flag_of(word[0]) if is_generation_flag(word[0]) else word[0]
