"""Lets the system read a model's weights from its disk while torch is imported.

Weights are mapped, so a file that is not in memory yet is read where a page is missing, piece by
piece. This module imports nothing but the standard library.
"""

import os
from contextlib import suppress
from pathlib import Path
from threading import Thread

_WEIGHTS = ("*.safetensors", "*.gguf")
# Linux reads no more for one request than a disk takes at once; the least usual size is this.
_PIECE_BYTES = 128 << 10


def read_ahead(model: str) -> Thread:
    """Asks for the weights of a model on this machine; what cannot be read is told by its loading.

    Args:
        model: a directory or a file; a hub id or nothing asks for nothing.

    Returns:
        The thread that asks, which may wait for the disk and ends by itself.
    """
    asking = Thread(target=_ask, args=(Path(model or os.devnull),), name="read-ahead", daemon=True)
    asking.start()
    return asking


def _ask(place: Path) -> None:
    with suppress(OSError):
        files = [place] if place.is_file() else [f for end in _WEIGHTS for f in place.glob(end)]
        for file in files if hasattr(os, "posix_fadvise") else ():
            with file.open("rb") as weights:
                for at in range(0, os.fstat(weights.fileno()).st_size, _PIECE_BYTES):
                    os.posix_fadvise(weights.fileno(), at, _PIECE_BYTES, os.POSIX_FADV_WILLNEED)
