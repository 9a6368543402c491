"""The model's named generation configs: files in the JSON that transformers writes and reads.

`translation` is the file `translation.json` in the model's directory, or in one that the operator
names. Knows nothing of calls, nor of what a config may ask for: the planner does.
"""

import difflib
import json
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from transformers import GenerationConfig as Upstream
from transformers import __version__ as upstream_version

from foredraft.wire import config_message, read
from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.settings import SettingsError
from target_service.request.defaults import Config
from target_service.settings import TargetSettings

log = logging.getLogger(__name__)

MAX_CONFIGS = 256
MAX_BYTES = 256 << 10
_FIELD = "generation_config"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What transformers reads as something else, whatever is in it. The second is the model's own
# config.
_RESERVED = frozenset(
    [
        "config",
        "generation_config",
        "tokenizer",
        "tokenizer_config",
        "special_tokens_map",
        "added_tokens",
        "vocab",
        "chat_template",
        "preprocessor_config",
        "processor_config",
        "adapter_config",
        "quantize_config",
    ]
)
_UPSTREAM = frozenset(name for name in Upstream().to_dict() if not name.startswith("_"))
# A config's notes about itself, and that it asks for an object: a Result is one.
_NOTES = frozenset(["transformers_version", "return_dict_in_generate"])


class SavingNotAllowedError(Exception):
    """The operator does not allow that configs are saved."""


class NamedConfigs:
    """Reads and writes them; from several threads."""

    def __init__(
        self, places: Sequence[Path], check: Callable[[Config], None], saving: bool = False
    ) -> None:
        """places: directories, the first one goes before the others and is written to.

        check: raises InvalidFieldError for what a call could not ask for. saving: whether it is
            allowed.
        """
        self._places, self._check, self._saving = tuple(places), check, saving
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """All names in alphabetical order;

        also of files that are broken, whose use tells the reason.
        """
        return sorted(name for name, file in self._files().items() if _is_config(file))

    def get(self, name: str) -> Config:
        """What a config sets.

        Raises:
            InvalidFieldError: there is none of this name, it cannot be read, or asks for what does
                not exist here.
        """
        file = self._files().get(name)
        if file is None or not _is_config(file):
            raise InvalidFieldError(_FIELD, self._unknown(name))
        try:
            values = json.loads(file.read_text("utf-8"))
            fields = {
                field: value
                for field, value in values.items()
                if field not in _NOTES and field[:1] != "_"
            }
            return config_message(None, fields)
        except (
            OSError,
            ValueError,
        ) as error:  # broken JSON, broken UTF-8, and fields that are refused
            field = getattr(error, "field", None)
            raise InvalidFieldError(
                _FIELD, f"{name!r} cannot be used: {error}", *([field] if field else [])
            ) from error

    def over(self, name: str, config: Config) -> Config:
        """A call's own config over a named one; with no name the call's own.

        Raises:
            InvalidFieldError: as `get`.
        """
        if not name:
            return config
        merged = self.get(name)
        for field, _ in config.ListFields():
            merged.ClearField(field.name)  # lists are replaced, not joined
        merged.MergeFrom(config)
        return merged

    def save(self, name: str, config: Config) -> None:
        """Writes a config, over one of this name if there is one; at once or not at all.

        Raises:
            SavingNotAllowedError: the operator does not allow it.
            InvalidFieldError: no name, too large, too many, or a call could not ask for it.
        """
        if not self._saving:
            raise SavingNotAllowedError(
                "the operator of this service does not allow it; it is --save-generation-configs that does"
            )
        if not _NAME.fullmatch(name) or name.lower() in _RESERVED:
            reason = (
                f"{name!r} is no name for a config; it takes 1 to 64 letters, digits, '_' and '-'"
            )
            raise InvalidFieldError(
                "name", reason if not _NAME.fullmatch(name) else f"{name}.json is the model's own"
            )
        self._check(config)
        text = to_json(config)
        if len(text) > MAX_BYTES:
            raise InvalidFieldError("config", f"makes {len(text)} bytes; the limit is {MAX_BYTES}")
        with self._lock:
            files = self._files()
            if name in files and not _is_config(files[name]):
                raise InvalidFieldError(
                    "name", f"{name}.json is there, and it is no generation config"
                )
            if name not in files and len(self.names()) >= MAX_CONFIGS:
                raise InvalidFieldError(
                    "name", f"there are {MAX_CONFIGS} configs, which is the limit; save over one"
                )
            _write(self._places[0], f"{name}.json", text)
        log.info("generation config %s is saved in %s", name, self._places[0])

    def _files(self) -> dict[str, Path]:
        """Files whose names could be a config's.

        Names are looked up here, and never made a path.
        """
        found: dict[str, Path] = {}
        for place in reversed(self._places):
            with os.scandir(place) as entries:
                for entry in entries:
                    name, dot, kind = entry.name.partition(".")
                    if dot + kind == ".json" and _NAME.fullmatch(name) and entry.is_file():
                        found[name] = Path(entry.path)
        return {name: file for name, file in found.items() if name.lower() not in _RESERVED}

    def _unknown(self, name: str) -> str:
        if name in self._files():
            return f"{name}.json holds no generation config"
        names = self.names()
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        shown = f"this model's are {', '.join(names)}" if names else "this model has none"
        if name == "generation_config":
            return f"{name!r} is the model's own, which always holds: leave the name out; {shown}"
        return f"there is no config named {name[:64]!r}{hint}; {shown}"


def places(settings: TargetSettings) -> tuple[Path, ...]:
    """Where configs are: the operator's directory, then the model's own, or its snapshot in the
    hub's cache.

    Raises:
        SettingsError: the directory is not there, or configs shall be saved and there is none for
            them.
    """
    named = (Path(settings.generation_configs),) if settings.generation_configs else ()
    for place in named:
        if not place.is_dir():
            raise SettingsError(
                f"--generation-configs: there is no directory {str(place)!r}; make it first"
            )
    model = Path(settings.model)
    if settings.save_generation_configs:
        if not named and not model.is_dir():
            raise SettingsError(
                "--save-generation-configs: the model is no directory; give --generation-configs DIR"
            )
        if not os.access(place := (*named, model)[0], os.W_OK | os.X_OK):
            raise SettingsError(f"--save-generation-configs: {str(place)!r} cannot be written to")
    if model.is_dir():
        return (*named, model)
    try:
        kept = try_to_load_from_cache(settings.model, "config.json", revision=settings.revision)
    except ValueError:  # no hub id either, which is told where the model is loaded
        kept = None
    return (*named, Path(kept).parent) if isinstance(kept, str) else named


def to_json(config: Config) -> bytes:
    """The file of a config, as transformers writes it."""
    values: dict[str, Any] = {
        field.name: read(field.name, value) for field, value in config.ListFields()
    }
    return (
        json.dumps(values | {"transformers_version": upstream_version}, indent=2, sort_keys=True)
        + "\n"
    ).encode()


def _is_config(file: Path) -> bool:
    """Whether half or more of its keys are fields of a generation config; also what should be JSON
    and is not.

    So a model's other files are none, and one that has a typing error is.
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


def _write(place: Path, name: str, text: bytes) -> None:
    """Writes a file so that whoever reads meanwhile, or after a crash, finds the old one or the new
    one whole.
    """
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
