"""Settings: flag over environment over default; what is unknown, or does nothing, is refused."""

from dataclasses import Field, dataclass, fields, replace
from typing import Any

import pytest

from draft_service import serve as draft_serve
from draft_service.settings import DraftSettings
from draft_service.settings import check as check_draft
from foredraft_serving.foreign_flags import refused_flag
from foredraft_serving.server import Server
from foredraft_serving.settings import SettingsError, read, setting
from target_service import serve as target_serve
from target_service.settings import TargetSettings
from target_service.settings import check as check_target
from tests.loopback import ANY_PORT


@dataclass(frozen=True)
class Example:
    """An example."""

    listen: str = setting("here", "where")
    rows: int = setting(4, "how many")
    model: str | None = setting(None, "which")
    fast: bool = setting(False, "whether")
    colour: str = setting("red", "which colour", ("red", "blue"))
    wait: float = setting(1.0, "how long", at_least=0)
    width: int = setting(1, "how wide", at_least=0, at_most=8)


def test_flag_over_environment_over_default() -> None:
    environ = {"X_ROWS": "7", "X_LISTEN": "there", "X_FAST": "true", "OTHER": "1"}
    assert read(Example, "X_", ["--rows", "9"], environ) == Example("there", 9, None, True)
    assert read(Example, "X_", [], {}) == Example()
    assert read(Example, "X_", ["--model", "m", "--no-fast"], environ).model == "m"


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        ([], {"X_ROW": "7"}),
        ([], {"X_ROWS": "many"}),
        ([], {"X_FAST": "perhaps"}),
        (["--colour", "green"], {}),
        (["--wait", "-1"], {}),
        (["--width", "9"], {}),
        (["--wait", "nan"], {}),
        ([], {"X_WAIT": "inf"}),
    ],
)
def test_what_is_unknown_or_wrong_is_refused(argv: list[str], environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as refused:
        read(Example, "X_", argv, environ)
    wrong = argv[0] if argv else next(iter(environ))
    assert str(refused.value).startswith(f"{wrong}: ")  # by the name that somebody wrote


@pytest.mark.parametrize("kind", [DraftSettings, TargetSettings])
def test_no_flag_of_ours_is_taken_for_one_of_another_server(kind: type) -> None:
    for field in fields(kind):
        assert not refused_flag([f"--{field.name}", "1"])


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8GiB", 8 << 30),
        ("1.5 gib", 3 << 29),
        ("512Mi", 512 << 20),
        ("2GB", 2_000_000_000),
        ("3k", 3000),
        ("100", 100),
    ],
)
@pytest.mark.parametrize("kind", [DraftSettings, TargetSettings])
def test_memory_has_a_unit(kind: type, text: str, size_bytes: int) -> None:
    assert read(kind, "X_", ["--memory", text], {}).memory == size_bytes
    assert read(kind, "X_", [], {"X_MEMORY": text}).memory == size_bytes


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "8 apples", "1iB", "GiB"])
def test_memory_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"X_MEMORY: .* is no size such as 8GiB"):
        read(DraftSettings, "X_", [], {"X_MEMORY": text})


@pytest.mark.parametrize("argv", [["--row", "3"], ["--unknown"], ["--rows", "many"]])
def test_bad_flags_end_with_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(Example, "FOREDRAFT_X_", argv, {})
    told = capsys.readouterr().err
    assert "usage: foredraft-x" in told
    assert "invalid" not in told


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--modle", "m"], "there is no --modle; did you mean --model?"),
        (["--colours=red"], "there is no --colours; did you mean --colour?"),
        (["--rows", "x"], "--rows: 'x' is no whole number"),
        (["--wait", "x"], "--wait: 'x' is no number"),
        (["m"], "there is no m"),
    ],
)
def test_a_wrong_flag_is_answered_with_the_right_one(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read(Example, "FOREDRAFT_X_", argv, {})
    assert told in capsys.readouterr().err


_DEPENDENT = [
    (kind, field, needed)
    for kind in (DraftSettings, TargetSettings)
    for field in fields(kind)
    for needed in field.metadata["needs"]
    if (kind, needed) != (TargetSettings, "model")  # which is refused without a model anyway
]


@pytest.mark.parametrize(
    ("kind", "field", "needed"),
    _DEPENDENT,
    ids=[f"{kind.__name__}-{field.name}-{needed}" for kind, field, needed in _DEPENDENT],
)
def test_what_does_nothing_without_another_setting_is_refused(
    kind: type, field: "Field[Any]", needed: str
) -> None:
    values: dict[str, Any] = {"outcomes": 0} if needed == "outcomes" else {}
    if kind is TargetSettings:
        values |= {"model": "m", "draft": "" if needed == "draft" else "10.0.0.5:50051"}
    settings = kind(**values)
    check = check_draft if kind is DraftSettings else check_target
    check(settings)
    flag, other = (f"--{name.replace('_', '-')}" for name in (field.name, needed))
    with pytest.raises(SettingsError, match=f"{flag} does nothing without {other}"):
        check(replace(settings, **{field.name: _another(field)}))


def _another(field: "Field[Any]") -> Any:
    """Returns a value that a setting can have and does not have by default."""
    if choices := field.metadata["choices"]:
        return next(choice for choice in choices if choice != field.default)
    if isinstance(field.default, bool):
        return not field.default
    if field.metadata["at_least"] is not None:
        return (field.default or 0.5) / 2 if isinstance(field.default, float | None) else 1
    return "x"


# Read as a process starts, for each call, or for each sequence.
_ELSEWHERE = frozenset({"insecure", "log_level", "log_format", "tracing"})
_LATER = {
    DraftSettings: {"rows", "max_waiting", "ngram", "ngram_min_match", "q_width"},
    TargetSettings: {"log_texts", "share_anonymous"},
}


@pytest.mark.parametrize(
    ("module", "kind", "given"),
    [
        (draft_serve, DraftSettings, {}),
        (draft_serve, DraftSettings, {"model": "demo/models/draft"}),
        (target_serve, TargetSettings, {"model": "demo/models/target"}),
        (target_serve, TargetSettings, {"model": "demo/models/target", "draft": "127.0.0.1:9"}),
    ],
    ids=["draft", "draft-model", "target", "target-draft"],
)
async def test_what_a_start_never_reads_needs_what_is_not_given(
    module: Any, kind: type, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that is added later is here by itself: it is read, or it is refused."""
    read_names: set[str] = set()

    class Watched(kind):
        def __getattribute__(self, name: str) -> Any:
            read_names.add(name)
            return super().__getattribute__(name)

    async def ended(server: Server, grace_s: float) -> None:
        pass

    monkeypatch.setattr(Server, "run", ended)
    monkeypatch.setattr(module, "check", lambda settings: None)
    settings = Watched(listen=ANY_PORT, metrics_listen=ANY_PORT, **given)
    await module.serve(settings)
    unread = [f for f in fields(kind) if f.name not in read_names | _ELSEWHERE | _LATER[kind]]
    ignored = {f.name for f in unread if all(getattr(settings, n) for n in f.metadata["needs"])}
    assert ignored == set()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"draft": ","}, "--draft: ',' holds no address"),
        ({"share_anonymous": True, "api_tokens": "f"}, "--share-anonymous does nothing where"),
    ],
)
def test_what_a_target_would_ignore_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        check_target(replace(TargetSettings(model="m"), **given))
