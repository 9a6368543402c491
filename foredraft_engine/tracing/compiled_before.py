"""Whether the layers of a model were compiled before, so that a start finds them on disk.

Torch keeps what it compiled in a directory, and does not say what is in it without tracing a model
anew. So an empty file is put there for each model, by the name of all that compiled layers depend
on: whoever deletes the directory deletes both.

This module knows nothing of layers.
"""

import hashlib
import os
import runpy
import stat
from contextlib import suppress
from pathlib import Path

import torch
import transformers

_FOLDER = "foredraft"


def owned_by_others() -> str:
    """Returns the directory of what is compiled if others can put files there, which a start would
    run; empty if they cannot. Its usual place is in /tmp, by a name that anybody can take first.
    """
    place = _directory()
    with suppress(OSError):  # then torch cannot write to it either, and says so
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not place.exists():
        return ""
    found = (place.lstat(), place.stat())  # of a link, and of what it leads to
    own = all(status.st_uid in (0, os.geteuid()) for status in found)
    return "" if own and not found[1].st_mode & stat.S_IWOTH else str(place)


def was_compiled(model: str) -> bool:
    """Returns whether the layers of a model were compiled here. model: see `_file`."""
    return _file(model).is_file()


def note_compiled(model: str) -> None:
    """Notes that the layers of a model were compiled here."""
    file = _file(model)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def _file(model: str) -> Path:
    """Returns the file of a model.

    Args:
        model: everything that its compiled layers depend on, beside versions and the machine.
    """
    cpu = torch.backends.cpu.get_cpu_capability()
    parts = (torch.__version__, transformers.__version__, cpu, model)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return _directory() / _FOLDER / digest


def _directory() -> Path:
    if chosen := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        return Path(chosen)
    # The file alone: as a module of torch's it would import the compiler, which takes two seconds.
    own = runpy.run_path(f"{torch.__path__[0]}/_inductor/runtime/cache_dir_utils.py")
    return Path(own["default_cache_dir"]())
