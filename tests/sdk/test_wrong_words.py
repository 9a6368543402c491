"""Words that the command line does not take are answered with the right ones, and in flags."""

import re
from collections.abc import Callable

import pytest

from foredraft.cli import main
from foredraft.wire.other_names import HINTS
from tests.sdk.fake_target import FakeTarget

Target = Callable[..., FakeTarget]
Capture = pytest.CaptureFixture[str]


def _refused(argv: list[str], capsys: Capture) -> str:
    with pytest.raises(SystemExit):
        main(argv)
    return capsys.readouterr().err.splitlines()[-1].partition("error: ")[2]


@pytest.mark.parametrize("name", HINTS)
def test_a_flag_of_elsewhere_is_told_in_flags(name: str, capsys: Capture) -> None:
    told = _refused(["generate", "a", "--" + name.replace("_", "-"), "1"], capsys)
    assert told.startswith("there is no --")
    assert not re.search(r"client\.|\w_\w|\{", told)
    for flag in re.findall(r"it is (--[\w-]+)", told):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main(["generate", "--help"])
        assert f"{flag} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-tokens", "3"], "there is no --max-tokens: it is --max-new-tokens here"),
        (["--stop=x"], "there is no --stop: it is --stop-strings here"),
        (["--ignore-eos"], "there is no --ignore-eos: it is --eos-token-id=[] here"),
        (["--port", "1"], "there is no --port: it is --address HOST:PORT here"),
        (["--max-new-token", "3"], "there is no --max-new-token; did you mean --max-new-tokens?"),
        (["--temprature", "3"], "there is no --temprature; did you mean --temperature?"),
        (["b"], "'b' is one argument too many; a text of several words takes quotes"),
        (["--timeout", "0"], "argument --timeout: takes more than 0 seconds, and not 0"),
        (["--address", "a"], 'argument --address: "a" has no port; it is HOST:PORT, as in'),
        (["--report", "/"], 'argument --report: "/" is a folder; give the name of a file'),
        (["--report", "/no/x.html"], 'argument --report: there is no folder "/no"'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_word_is_told_with_the_right_one(
    words: list[str], told: str, capsys: Capture
) -> None:
    message = _refused(["generate", "a", *words], capsys)
    assert told in message


def test_a_report_that_cannot_be_written_is_named(target: Target, capsys: Capture) -> None:
    name = "/proc/report.html"
    assert main(["generate", "a", "--report", name, "--address", target().address]) == 1
    assert f"foredraft: cannot write {name}: " in capsys.readouterr().err
