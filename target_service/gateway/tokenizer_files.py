"""The files of a model's tokenizer as one archive, so that a gateway needs no disk in common.

This module knows nothing of messages.
"""

import asyncio
import hashlib
import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from foredraft_engine.model.loading import LoadedModel

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip file: equal files make equal archives


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip file."""

    data: bytes
    sha256: str
    """The hash of the data, as hexadecimal digits."""


class TokenizerFiles:
    """Makes the archive once, when somebody asks for it."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._lock = asyncio.Lock()
        self._made: Archive | None = None

    async def archive(self) -> Archive:
        """Returns the archive; a thread makes it, since it takes a part of a second."""
        async with self._lock:
            if self._made is None:
                self._made = await asyncio.to_thread(_archive, self._model)
            return self._made


def _archive(model: LoadedModel) -> Archive:
    """Writes what transformers saves of a tokenizer, and the configs beside it."""
    raw = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        model.tokenizer.save_pretrained(folder)
        for config in (getattr(model.module, "config", None), model.generation_config):
            if config is not None:
                config.save_pretrained(folder)
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
                name = zipfile.ZipInfo(str(file.relative_to(folder)), _EPOCH)
                name.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(name, file.read_bytes())
    return Archive(raw.getvalue(), hashlib.sha256(raw.getvalue()).hexdigest())
