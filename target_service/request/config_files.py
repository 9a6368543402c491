"""Files of generation configs: recognised, made and written.

This module knows nothing of names, nor of what a config may ask for.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from transformers import GenerationConfig as Upstream
from transformers import __version__ as upstream_version

from foredraft.wire import read
from target_service.request.defaults import Config

MAX_BYTES = 256 << 10
"""The largest file of a config."""
_UPSTREAM = frozenset(name for name in Upstream().to_dict() if not name.startswith("_"))


def to_json(config: Config) -> bytes:
    """Returns the file of a config, as transformers writes it."""
    values: dict[str, Any] = {
        field.name: read(field.name, value) for field, value in config.ListFields()
    }
    return (
        json.dumps(values | {"transformers_version": upstream_version}, indent=2, sort_keys=True)
        + "\n"
    ).encode()


def is_config(file: Path) -> bool:
    """Returns whether a file is a generation config.

    It is one if half or more of its keys are fields, or if it should be JSON and is not. So a
    model's other files are none, and a config with a typing error is one.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            return False
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return True
    if not isinstance(values, dict) or not values:
        return False
    return 2 * len(values.keys() & _UPSTREAM) >= len(values)


def write_whole(place: Path, name: str, text: bytes) -> None:
    """Writes a file so that readers, also after a crash, find the old file or the new one whole."""
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=place)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fchmod(handle, 0o644)
            os.fsync(handle)
        os.replace(temporary, place / name)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(place, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
