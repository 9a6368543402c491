"""The model's named generation configs: files in the JSON that transformers writes and reads.

The config `translation` is the file `translation.json` in the model's directory, or in a directory
that the operator names. This module knows nothing of calls, nor of what a config may ask for: the
planner does.
"""

import difflib
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from foredraft.wire import config_message
from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.settings import SettingsError
from target_service.request.config_files import (
    MAX_BYTES,
    ConfigPlaceError,
    clear_leftovers,
    in_place,
    is_config,
    to_json,
    write_whole,
)
from target_service.request.defaults import Config
from target_service.settings import TargetSettings

log = logging.getLogger(__name__)

MAX_CONFIGS = 256
_FIELD = "generation_config"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# transformers reads these files as something else, whatever they hold. The second is the model's
# own config.
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
# These say something about the config itself, or ask for an object, which a Result is anyway.
_NOTES = frozenset(["transformers_version", "return_dict_in_generate"])


class SavingNotAllowedError(Exception):
    """The operator does not allow callers to save configs."""


class NamedConfigs:
    """Reads and writes the named configs of a model; threads may share it."""

    def __init__(
        self, places: Sequence[Path], check: Callable[[Config], None], saving: bool = False
    ) -> None:
        """Looks for configs in directories.

        Args:
            places: the directories; the first goes before the others and is written to.
            check: raises InvalidFieldError for a config with which no call could be made.
            saving: whether callers may save configs.
        """
        self._places, self._check, self._saving = tuple(places), check, saving
        self._lock = threading.Lock()
        if saving:
            for name in clear_leftovers(self._places[0]):
                log.warning("removed %s, which a save left that was killed", name)

    def names(self) -> list[str]:
        """Returns all names in alphabetical order.

        Broken files are among them: using one tells what is wrong with it.
        """
        return sorted(name for name, file in self._files().items() if is_config(file))

    def get(self, name: str) -> Config:
        """Returns what a config sets.

        Raises:
            InvalidFieldError: there is no config of this name, it cannot be read, or it sets a
                field that is not supported.
        """
        file = self._files().get(name)
        if file is None or not is_config(file):
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
        ) as error:  # broken JSON, broken UTF-8, or a field that is refused
            field = getattr(error, "field", None)
            raise InvalidFieldError(
                _FIELD, f"{name!r} cannot be used: {error}", *([field] if field else [])
            ) from error

    def over(self, name: str, config: Config) -> Config:
        """Returns a call's own config over a named one; without a name, the call's own.

        Raises:
            InvalidFieldError: the named config cannot be used, see `get`.
        """
        if not name:
            return config
        merged = self.get(name)
        for field, _ in config.ListFields():
            merged.ClearField(field.name)  # a list replaces the named config's list
        merged.MergeFrom(config)
        return merged

    def save(self, name: str, config: Config) -> None:
        """Writes a config, in place of one of the same name; whole or not at all.

        Raises:
            SavingNotAllowedError: the operator does not allow it.
            InvalidFieldError: the name is none, the config is too large, there are too many, or no
                call could be made with it.
            ConfigPlaceError: the directory cannot be read or written, or is full.
        """
        if not self._saving:
            raise SavingNotAllowedError(
                "the operator of this service does not allow it; it is "
                "--save-generation-configs that does"
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
            if name in files and not is_config(files[name]):
                raise InvalidFieldError(
                    "name", f"{name}.json is there, and it is no generation config"
                )
            if name not in files and len(self.names()) >= MAX_CONFIGS:
                raise InvalidFieldError(
                    "name", f"there are {MAX_CONFIGS} configs, which is the limit; save over one"
                )
            with in_place(self._places[0], "written to"):
                write_whole(self._places[0], f"{name}.json", text)
        log.info("generation config %s is saved in %s", name, self._places[0])

    def _files(self) -> dict[str, Path]:
        """Returns the files whose names could be a config's.

        A name is looked up among these and never made into a path. A directory that is gone hides
        its own configs only.

        Raises:
            ConfigPlaceError: no directory can be read.
        """
        found: dict[str, Path] = {}
        unread: list[ConfigPlaceError] = []
        for place in reversed(self._places):
            try:
                with in_place(place, "read"):
                    found |= _files_in(place)
            except ConfigPlaceError as error:
                log.warning("%s: %s", place, error)
                unread.append(error)
        if unread and len(unread) == len(self._places):
            raise unread[-1]
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


def _files_in(place: Path) -> dict[str, Path]:
    with os.scandir(place) as entries:
        parts = {entry.path: entry.name.partition(".") for entry in entries if entry.is_file()}
    return {
        name: Path(path)
        for path, (name, dot, kind) in parts.items()
        if dot + kind == ".json" and _NAME.fullmatch(name)
    }


def places(settings: TargetSettings) -> tuple[Path, ...]:
    """Returns the directories of configs: the operator's, then the model's own or its snapshot in
    the hub's cache.

    Raises:
        SettingsError: a directory does not exist, or configs are to be saved and there is no place.
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
                "--save-generation-configs: the model is no directory; give "
                "--generation-configs DIR"
            )
        if not os.access(place := (*named, model)[0], os.W_OK | os.X_OK):
            raise SettingsError(f"--save-generation-configs: {str(place)!r} cannot be written to")
    if model.is_dir():
        return (*named, model)
    try:
        kept = try_to_load_from_cache(settings.model, "config.json", revision=settings.revision)
    except ValueError:  # the name is no hub id either, which is told where the model is loaded
        kept = None
    return (*named, Path(kept).parent) if isinstance(kept, str) else named
