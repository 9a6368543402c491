"""Keeps transformers from importing what is installed and what no service uses so.

transformers imports it at once where it finds it, which takes two seconds: packages for the sake of
caches, losses and candidates of its own; torch's compiler, to mark functions for it; and torch's
tensors of several processes. A service that needs one, such as hqq for a quantized cache or the
compiler for its own layers, imports it itself. transformers also reads all of its models' files to
list their names, twice and line by line; here once, and only the lines that have them.

This module imports nothing but the standard library, and torch once it is used.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

UNUSED = ("hqq", "scipy", "sklearn")
"""The packages."""
_COMPILER = "torch._dynamo"


@contextmanager
def unused_packages_hidden() -> Iterator[None]:
    """Lets transformers be imported inside as if the packages were not installed."""
    hidden = [name for name in UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # how Python notes an absent module
    try:
        with _compiler_stood_in(), _one_process(), _names_listed_once():
            yield
    finally:
        for name in hidden:
            del sys.modules[name]
        # What transformers has found so far it remembers.
        remembered = sys.modules.get("transformers.utils.import_utils")
        for name in hidden if remembered else ():
            getattr(remembered, f"is_{name}_available").cache_clear()


class _StandIn(ModuleType):
    """A package whose functions mark nothing; its modules are the real ones."""

    def __init__(self, name: str, path: list[str]) -> None:
        super().__init__(name)
        self.__path__ = path
        self.__spec__ = ModuleSpec(name, None, is_package=True)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unmarked


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    """Returns a function as it is; without one, what does so."""
    return _unmarked if function is None else function


@contextmanager
def _compiler_stood_in() -> Iterator[None]:
    """Lets functions be defined inside without the marks that they have for torch's compiler."""
    if _COMPILER in sys.modules:
        yield
        return
    torch = importlib.import_module("torch")
    sys.modules[_COMPILER] = _StandIn(_COMPILER, [f"{torch.__path__[0]}/_dynamo"])
    try:
        yield
        importlib.import_module("transformers.masking_utils")  # marks, too, where a model needs it
    finally:
        del sys.modules[_COMPILER]


@contextmanager
def _one_process() -> Iterator[None]:
    """Lets transformers find that torch is built for one process, which it goes on to believe."""
    distributed = importlib.import_module("torch.distributed")
    is_available = distributed.is_available
    distributed.is_available = lambda: False  # type: ignore[attr-defined]
    try:
        yield
        importlib.import_module("transformers.utils").is_torch_distributed_available()
    finally:
        distributed.is_available = is_available  # type: ignore[attr-defined]


@contextmanager
def _names_listed_once() -> Iterator[None]:
    """Lets transformers list the names in its models' files fast, if it is imported inside."""
    sys.meta_path.insert(0, _ListingFinder)
    try:
        yield
        importlib.import_module("transformers.models")
    finally:
        sys.meta_path.remove(_ListingFinder)


class _ListingFinder:
    """Finds the module of transformers that lists names, and changes it once it is loaded."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "transformers.utils.import_utils":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_change(module: ModuleType) -> None:
                run(module)
                _list_fast(module)

            spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec


def _list_fast(listing: Any) -> None:
    """Changes how names are listed, and not which.

    transformers lists them for itself, by the folder, and for its package of models, by a file of
    the folder. In a file it takes the last `__all__`.
    """
    names_of, names_in = listing.create_import_structure_from_path, listing.fetch__all__
    listing.create_import_structure_from_path = wraps(names_of)(lambda at: names_of(_folder(at)))
    listing.fetch__all__ = lambda text: names_in(text[text.rfind("\n__all__") + 1 :])


def _folder(path: str | Path) -> str | Path:
    """Returns the folder for which transformers keeps the names, a Path as in its own call."""
    return Path(path).parent if str(path).endswith("__init__.py") else path
