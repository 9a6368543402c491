"""Fuzzes decoding and validation, guided by coverage: `make fuzz`.

It begins with the honest messages of the tests and with the corpus in `tests/hostile/corpus`, one
input in hexadecimal digits a line. What reaches more of the code than they do goes to `build/fuzz`,
from where `--keep` takes the shortest inputs into the corpus.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris

_INSTRUMENTED = ["foredraft_serving", "draft_service", "target_service", "foredraft.wire"]
_INSTRUMENTED += ["tests.hostile.validation"]
with atheris.instrument_imports(include=_INSTRUMENTED):
    from foredraft.v1 import draft_pb2, target_pb2
    from tests.hostile.messages import HONEST
    from tests.hostile.validation import doors, requests_of

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "tests" / "hostile" / "corpus"
_FOUND = ROOT / "build" / "fuzz"
_MOST_INPUT_BYTES, _MOST_KEPT = 4096, 120
_LIMITS = ["-timeout=20", "-rss_limit_mb=3000", f"-max_len={_MOST_INPUT_BYTES}"]
_MODULES = {"target": target_pb2, "draft": draft_pb2}


def seeds(door: str) -> Iterator[bytes]:
    """Yields the inputs to begin with."""
    if door in _MODULES:
        for number, kind in enumerate(requests_of(_MODULES[door])):
            for message in HONEST.get(kind, [kind()]):
                yield bytes([number]) + message.SerializeToString()
    else:
        yield from (answer.SerializeToString() for answer in HONEST[draft_pb2.DraftResponse])
    kept = CORPUS / f"{door}.txt"
    if kept.exists():
        yield from map(bytes.fromhex, kept.read_text().split())


def keep(door: str) -> None:
    """Takes what was found into the corpus."""
    found = {file.read_bytes() for file in (_FOUND / door).iterdir()}
    kept = sorted(found, key=lambda raw: (len(raw), raw))[:_MOST_KEPT]
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{door}.txt").write_text("".join(f"{raw.hex()}\n" for raw in kept if raw))


def main() -> None:
    """Fuzzes one door; ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("door", choices=["target", "draft", "answers"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true", help="take what was found, and fuzz nothing")
    given = parser.parse_args()
    if given.keep:
        keep(given.door)
        return
    found = _FOUND / given.door
    found.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(given.door)):
        (found / f"seed-{number}").write_bytes(seed)
    flags = [f"-max_total_time={given.seconds}", "-print_final_stats=1", "-verbosity=1"]
    flags += [f"-artifact_prefix={found.parent}/failed-{given.door}-", str(found)]
    with tempfile.TemporaryDirectory() as folder:
        enter = doors(Path(folder))[given.door]
        atheris.Setup([sys.argv[0], *_LIMITS, *flags], enter)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
