"""Settings: flag over environment over default; unknown keys are refused."""

from dataclasses import dataclass

import pytest

from foredraft_serving.settings import SettingsError, read, setting


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
    with pytest.raises(SettingsError):
        read(Example, "X_", argv, environ)


@pytest.mark.parametrize("argv", [["--row", "3"], ["--unknown"], ["--rows", "many"]])
def test_bad_flags_end_with_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(Example, "X_", argv, {})
    assert "usage" in capsys.readouterr().err
