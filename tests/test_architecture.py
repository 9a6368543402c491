"""The imports between rooms, the levels inside a room, and the sizes of files and functions."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "foredraft_engine": ROOT / "foredraft_engine",
    "foredraft_serving": ROOT / "foredraft_serving",
    "draft_service": ROOT / "draft_service",
    "target_service": ROOT / "target_service",
    "foredraft": ROOT / "client" / "foredraft",
    "benchmarks": ROOT / "benchmarks",
}
# What a room may import of the other rooms.
MAY_IMPORT = {
    "foredraft_engine": set(),
    "foredraft_serving": {"foredraft", "foredraft_engine"},
    "draft_service": {"foredraft", "foredraft_engine", "foredraft_serving"},
    "target_service": {"foredraft", "foredraft_engine", "foredraft_serving"},
    "foredraft": set(),
    "benchmarks": {"foredraft", "foredraft_engine"},
}
NEVER = {
    "foredraft_engine": {"grpc", "foredraft", "prometheus_client"},
    "foredraft_serving": {"torch", "transformers"},
}
# Levels inside a room, the lowest first: a module imports from its own level and lower ones only.
# A level is a folder or a file; "" stands for all other files of the room.
LEVELS = {
    "foredraft_engine": (
        "",
        "cache",
        "capture",
        "tracing",
        "model",
        "logits",
        "speculation",
        "scheduling",
        "search",
    ),
    "target_service": ("settings", "request", "drafting", "output", "strategies", ""),
}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 260, 48


def _files(room: str) -> list[Path]:
    return [f for f in sorted(ROOMS[room].rglob("*.py")) if "v1" not in f.parts]


def _imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    for file in _files(room):
        imported = _imports(file)
        others = imported & (set(ROOMS) - {room})
        assert others <= MAY_IMPORT[room], f"{file.name} imports {others - MAY_IMPORT[room]}"
        assert not imported & NEVER.get(room, set()), (
            f"{file.name} imports {imported & NEVER[room]}"
        )


def test_the_private_modules_of_the_sdk_are_private() -> None:
    """What services share with the SDK is `foredraft.wire`; its own tests look inside."""
    inside = [ROOT / "client", ROOT / "tests" / "sdk"]
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.split():
        file = ROOT / name
        if any(file.is_relative_to(folder) for folder in inside) or not file.exists():
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            modules = []
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module or ''}.{a.name}" for a in node.names]
            modules += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            private = [m for m in modules if re.match(r"foredraft\._(?!_)", m)]
            assert not private, f"{name} imports {private}"


@pytest.mark.parametrize("room", LEVELS)
def test_levels_import_downwards(room: str) -> None:
    levels = LEVELS[room]

    def level(name: str) -> int:
        return levels.index(name if name in levels else "")

    for file in _files(room):
        own = level(file.relative_to(ROOMS[room]).with_suffix("").parts[0])
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            for module in modules:
                top, _, rest = module.partition(".")
                assert top != room or level(rest.partition(".")[0]) <= own, (
                    f"{file.name} imports {module} from a higher level"
                )


def _loaded_by(code: str) -> set[str]:
    code += "; import sys; print(' '.join(m for m in sys.modules if '.' not in m))"
    path = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'client')!r}]; "
    return set(
        subprocess.run(
            [sys.executable, "-c", path + code], check=True, capture_output=True, text=True
        ).stdout.split()
    )


def test_the_sdk_and_the_shell_do_without_torch() -> None:
    shell = (
        "import foredraft_serving.server, foredraft_serving.messages, "
        "foredraft_serving.metrics, foredraft_serving.settings, foredraft_serving.status"
    )
    assert not _loaded_by("import foredraft, foredraft.cli") & {"torch", "transformers", "numpy"}
    assert not _loaded_by(shell) & {"torch", "transformers"}


@pytest.mark.parametrize("room", ROOMS)
def test_files_and_functions_stay_small(room: str) -> None:
    for file in _files(room):
        text = file.read_text()
        assert text.count("\n") <= MAX_FILE_LINES, f"{file} has become a drawer"
        tree = ast.parse(text)
        assert ast.get_docstring(tree) or not text.strip(), f"{file} does not say what it is"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                assert lines <= MAX_FUNCTION_LINES, f"{file.name}: {node.name} has {lines} lines"


@pytest.mark.parametrize("room", ROOMS)
def test_no_drawers(room: str) -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
    assert not {f.stem.strip("_") for f in _files(room)} & drawers
