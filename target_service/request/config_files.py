"""Files of generation configs: recognised, made and written.

This module knows nothing of names, nor of what a config may ask for.
"""

import errno
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transformers import GenerationConfig as Upstream
from transformers import __version__ as upstream_version

from foredraft.wire import GENERATION_FIELDS, read
from target_service.request.defaults import Config

MAX_BYTES = 256 << 10
"""The largest file of a config."""
# What `write_whole` names its temporary files, and the age at which none is still being written.
_TEMPORARY = re.compile(r"\.[A-Za-z0-9_-]{1,64}\.json\.[a-z0-9_]{8}\.tmp")
_LEFT_AFTER_S = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UPSTREAM = frozenset(name for name in Upstream().to_dict() if not name.startswith("_"))
_FIELDS = _UPSTREAM | GENERATION_FIELDS.keys()


class ConfigPlaceError(Exception):
    """The directory of the configs cannot be read or written."""


class ConfigPlaceFullError(ConfigPlaceError):
    """There is no room for a config."""


@contextmanager
def in_place(place: Path, action: str) -> Iterator[None]:
    """Turns the system's errors into those of the directory. action: "read" or "written to".

    The message names no path: a caller knows nothing of them.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"the directory of generation configs cannot be {action}: {reason}"
        kind = ConfigPlaceFullError if error.errno in _FULL else ConfigPlaceError
        raise kind(message) from error


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
    return 2 * len(values.keys() & _FIELDS) >= len(values)


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
        with suppress(OSError):  # its directory may be gone; the first error is the one that tells
            os.unlink(temporary)
        raise
    directory = os.open(place, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def clear_leftovers(place: Path) -> list[str]:
    """Removes the temporary files of saves that were killed; returns their names.

    A file is one of these by its name, its kind, its owner and its age, so that neither the files
    of others go nor what another service is writing.
    """
    cleared: list[str] = []
    with in_place(place, "read"), os.scandir(place) as entries:
        for entry in entries:
            if not _TEMPORARY.fullmatch(entry.name):
                continue
            found = entry.stat(follow_symlinks=False)
            is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            if is_ours and time.time() - found.st_mtime > _LEFT_AFTER_S:
                os.unlink(entry.path)
                cleared.append(entry.name)
    return cleared
