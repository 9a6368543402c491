"""Nothing that ships runs what it reads: no pickle, no eval, no shell, no code of a model.

Every Python file of the repository outside of its tests is searched, so that later files join by
themselves. What is called is told by the file's own imports, whatever name it gives to a module.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
    cwd=ROOT, check=True, capture_output=True, text=True,
).stdout.split()  # fmt: skip
FILES = [name for name in _LISTED if not name.startswith("tests/") and (ROOT / name).exists()]

# Modules that turn bytes or text into objects by running what they say.
MODULES = {"cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve"}
# Functions that run text, a shell, or pickled data.
CALLS = {"__import__", "compile", "eval", "exec"}
CALLS |= {"asyncio.create_subprocess_shell", "os.popen", "os.system", "subprocess.getoutput"}
CALLS |= {"numpy.load", "torch.hub.load", "torch.load", "yaml.load", "yaml.unsafe_load"}
# Arguments that switch such a thing on.
SWITCHES = {
    ("allow_pickle", True),
    ("shell", True),
    ("trust_remote_code", True),
    ("use_safetensors", False),
    ("weights_only", False),
}
# What a file needs all the same, and why.
ALLOWED = {
    "demo/train_draft.py": {"torch.load": "its own checkpoint, with which a training goes on"},
}


def found_in(source: str) -> Iterator[str]:
    """Yields what the source of a file has of all this."""
    tree = ast.parse(source)
    names = dict(_imported(tree))
    yield from sorted({origin for origin in names.values() if origin.split(".")[0] in MODULES})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = _dotted(node.func, names)
            if called in CALLS:
                yield called
            for keyword in node.keywords:
                value = keyword.value
                if isinstance(value, ast.Constant) and (keyword.arg, value.value) in SWITCHES:
                    yield f"{keyword.arg}={value.value!r}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _defaults(node.args)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from _assigned(node)


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yields each name that an import makes, and what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Returns the full name of what is called; empty if it has none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value, names)):
        return f"{owner}.{node.attr}"
    return ""


def _defaults(arguments: ast.arguments) -> Iterator[str]:
    positional = arguments.posonlyargs + arguments.args
    pairs = [
        *zip(positional[::-1], arguments.defaults[::-1], strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        if isinstance(default, ast.Constant) and (argument.arg, default.value) in SWITCHES:
            yield f"{argument.arg}={default.value!r}"


def _assigned(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    """Yields a switch that is set by its name, also as the default of a setting."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = node.value
    if isinstance(value, ast.Call) and value.args:  # setting(False, ...)
        value = value.args[0]
    for target in targets:
        named = getattr(target, "id", getattr(target, "attr", ""))
        if isinstance(value, ast.Constant) and (named, value.value) in SWITCHES:
            yield f"{named}={value.value!r}"


def test_nothing_runs_what_it_reads() -> None:
    assert len(FILES) > 200
    found = {name: set(found_in((ROOT / name).read_text())) for name in FILES}
    allowed = {name: set(reasons) for name, reasons in ALLOWED.items()}
    assert {name: what for name, what in found.items() if what} == allowed


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pickle as p\np.loads(b'')", "pickle"),
        ("from pickle import loads", "pickle.loads"),
        ("eval('1')", "eval"),
        ("from os import system as run\nrun('ls')", "os.system"),
        ("import subprocess as s\ns.run('ls', shell=True)", "shell=True"),
        ("import numpy as np\nnp.load('x')", "numpy.load"),
        ("from torch import load\nload('x')", "torch.load"),
        ("import torch.hub\ntorch.hub.load('x', 'y')", "torch.hub.load"),
        ("import yaml\nyaml.load('x', Loader=yaml.Loader)", "yaml.load"),
        ("def load(name, *, trust_remote_code=True): ...", "trust_remote_code=True"),
        ("def load(name, trust_remote_code=True): ...", "trust_remote_code=True"),
        ("class S:\n    trust_remote_code: bool = setting(True, 'x')", "trust_remote_code=True"),
        ("read(use_safetensors=False)", "use_safetensors=False"),
    ],
)
def test_the_search_finds(source: str, expected: str) -> None:
    assert list(found_in(source)) == [expected]
