"""Makes the blocking client from the asynchronous one: `make generated`.

    python client/generate_blocking.py            writes the files
    python client/generate_blocking.py --check    fails if one is not what its twin says

What the two do differently is in `foredraft._connections`.
"""

import re
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parent / "foredraft"
TWINS = {
    "_async_client.py": "_client.py",
    "_async_service.py": "_service.py",
    "_async_stream.py": "_stream.py",
    "_async_texts.py": "_texts.py",
}

_NOTE = "`make generated` makes this file from `{}`; do not edit it."
_SUBSTITUTIONS = [
    (r"^ *asyncio\.CancelledError: .*\n", ""),
    (r"\basynchronous\b", "blocking"),
    (r"as it comes, asynchronously\.", "as it comes, blocking."),
    (r"It belongs to the event loop of its first call\.", "Threads may share it."),
    (r"\b_async_(stream|client|service|texts)\b", r"_\1"),
    (r"\basync_(read|sleep)\b", r"\1"),
    (r"\bAsync(Client|Service|Stream|Texts|Connections)\b", r"\1"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\b__a(iter|next|enter|exit)__\b", r"__\1__"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
]


def blocking(text: str, source: str) -> str:
    """Returns the blocking twin of a module."""
    for pattern, replacement in _SUBSTITUTIONS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    first, rest = text.split("\n", 1)
    return f"{first}\n\n{_NOTE.format(source)}\n{rest}"


def _formatted(text: str, name: str) -> str:
    ruff = [sys.executable, "-m", "ruff"]
    for arguments in (["check", "--fix-only", "--select", "I"], ["format"]):
        done = subprocess.run(
            [*ruff, *arguments, "--quiet", "--stdin-filename", str(SDK / name), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        text = done.stdout
    return text


def main() -> int:
    """Writes or checks the files; returns the exit code."""
    stale = False
    for source, name in TWINS.items():
        text = _formatted(blocking((SDK / source).read_text(), source), name)
        file = SDK / name
        if file.exists() and file.read_text() == text:
            continue
        if "--check" in sys.argv[1:]:
            print(f"client/foredraft/{name} is not what {source} says: make generated")
            stale = True
        else:
            file.write_text(text)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
