"""TLS from callers to targets and from targets to drafts: who is let in, and what others are told.

Certificates are renewed, and CAs changed, in the middle of streams.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from foredraft import AsyncClient, UnavailableError, tls
from foredraft.cli import main
from target_service.drafting.draft_pool import DraftPool
from tests.certificates import Authority, Files, trust
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import LoopbackTarget, draft_service, target_service
from tests.premises import begins_again, in_time

VOCAB = 10
TABLE = random_table(VOCAB, 0)
PROMPT = [1, 2, 3]
LENGTH, SHORT = 100, 8
CALL: dict[str, Any] = {"num_assistant_tokens": 3, "eos_token_id": []}


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "theirs")


def of_server(files: Files, client_ca: str = "") -> dict[str, Any]:
    return {"tls_cert": files.cert, "tls_key": files.key, "client_ca": client_ca}


def of_target(ca: str, files: Files | None = None) -> dict[str, Any]:
    """The flags of a target for its drafts."""
    shown = {"draft_cert": files.cert, "draft_key": files.key} if files else {}
    return {"draft_ca": ca, **shown}


def shows(ca: str, files: Files | None = None) -> grpc.ChannelCredentials:
    return tls(ca=ca, cert=files.cert, key=files.key) if files else tls(ca=ca)


@asynccontextmanager
async def target(step_s: float = 0.0, **settings: Any) -> AsyncIterator[LoopbackTarget]:
    rows = SlowRows(TABLE, step_s) if step_s else TableRows(TABLE)
    async with target_service(rows, table_model(VOCAB), **settings) as running:
        yield running


async def ids(
    address: str, credentials: grpc.ChannelCredentials | None = None, length: int = SHORT
) -> list[int]:
    async with AsyncClient(address, credentials=credentials, max_retries=0) as client:
        result = await client.generate(PROMPT, max_new_tokens=length, **CALL)
        return list(result.token_ids)


async def refusal(address: str, credentials: grpc.ChannelCredentials) -> str:
    """Returns why a caller gets no connection; empty if it gets one."""
    try:
        await ids(address, credentials)
    except UnavailableError as error:
        return str(error)
    return ""


@pytest.fixture
async def plain() -> list[int]:
    """The text without TLS and without a draft."""
    async with target() as running:
        return await ids(running.address, length=LENGTH)


async def test_the_text_is_the_same_by_tls_and_by_mutual_tls(
    ours: Authority, theirs: Authority, plain: list[int]
) -> None:
    async with target(**of_server(ours.issue())) as running:
        assert await ids(running.address, shows(ours.ca)) == plain[:SHORT]
        # A certificate that nobody asks for does no harm.
        assert await ids(running.address, shows(ours.ca, theirs.issue("caller"))) == plain[:SHORT]
    async with target(**of_server(ours.issue(), theirs.ca)) as running:
        assert await ids(running.address, shows(ours.ca, theirs.issue("caller"))) == plain[:SHORT]


Wrong = Callable[[Authority, Authority], tuple[dict[str, Any], list[str]]]
_CLOSES = "it closes each new connection; does it want TLS, or a certificate from its CA"


def _flags(ca: str, files: Files | None = None) -> list[str]:
    shown = ["--cert", files.cert, "--key", files.key] if files else []
    return ["--ca", ca, *shown]


_WRONG: dict[str, tuple[Wrong, str]] = {
    "a service of another CA": (
        lambda ours, theirs: (of_server(theirs.issue()), _flags(ours.ca)),
        "the certificate that it shows is not from a CA that is trusted here; give its CA",
    ),
    "a service without a known CA": (
        lambda ours, theirs: (of_server(ours.issue()), ["--tls"]),
        "the certificate that it shows is not from a CA that is trusted here; give its CA",
    ),
    "a service of another name": (
        lambda ours, theirs: (of_server(ours.issue("elsewhere")), _flags(ours.ca)),
        "the certificate that it shows is for another name",
    ),
    "a service without TLS": (
        lambda ours, theirs: ({}, _flags(ours.ca)),
        "it speaks plain text and no TLS",
    ),
    "a caller without TLS": (lambda ours, theirs: (of_server(ours.issue()), []), _CLOSES),
    "a caller without a certificate": (
        lambda ours, theirs: (of_server(ours.issue(), ours.ca), _flags(ours.ca)),
        _CLOSES,
    ),
    "a caller of another CA": (
        lambda ours, theirs: (
            of_server(ours.issue(), ours.ca),
            _flags(ours.ca, theirs.issue("caller")),
        ),
        _CLOSES,
    ),
    "a caller whose certificate has expired": (
        lambda ours, theirs: (
            of_server(ours.issue(), ours.ca),
            _flags(ours.ca, ours.issue("caller", timedelta(seconds=-9))),
        ),
        _CLOSES,
    ),
}


@pytest.mark.parametrize("wrong", _WRONG)
@begins_again
async def test_the_sdk_and_the_command_line_say_what_is_wrong(
    ours: Authority, theirs: Authority, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, told = _WRONG[wrong]
    settings, flags = make(ours, theirs)
    files = {
        name.removeprefix("--"): path for name, path in zip(flags[::2], flags[1::2], strict=False)
    }
    async with target(**settings) as running:
        with pytest.raises(UnavailableError) as refused:
            await ids(running.address, tls(**files) if flags else None)
        assert told in str(refused.value)
        command = ["info", "--address", running.address, *flags]
        assert await asyncio.to_thread(main, command) == 1
        shown = capsys.readouterr()
        assert f"foredraft: no connection to the service: {told}" in shown.err
        assert shown.out == ""
        # Who waits for it is told, too.
        async with AsyncClient(
            running.address, credentials=tls(**files) if flags else None
        ) as client:
            with pytest.raises(TimeoutError) as late:
                await client.wait_until_ready(timeout=1)
        in_time(told in str(late.value), late.value)


async def test_a_certificate_that_expires_while_the_service_runs(ours: Authority) -> None:
    files = ours.issue(lasts=timedelta(seconds=2))
    async with target(**of_server(files)) as running:
        async with asyncio.timeout(60):
            while not (told := await refusal(running.address, shows(ours.ca))):
                pass
        assert "the certificate that it shows has expired" in told
        files.replace(ours.issue())
        assert await ids(running.address, shows(ours.ca))


async def _with_a_change_in_the_middle(
    running: LoopbackTarget,
    credentials: grpc.ChannelCredentials | None,
    change: Callable[[], Awaitable[None]],
) -> list[int]:
    """Returns the token ids of a stream in the middle of which something changes."""
    has_changed = False
    async with (
        AsyncClient(running.address, credentials=credentials, max_retries=0) as client,
        client.stream(PROMPT, max_new_tokens=LENGTH, **CALL) as stream,
    ):
        async for chunk in stream:
            if chunk.token_ids and not has_changed:
                await change()
                in_time(running.engine.pool.in_use > 0, "the stream has ended before")
                has_changed = True
        assert has_changed
        return list(stream.result.token_ids)


@begins_again
async def test_certificate_and_ca_of_a_service_change_in_the_middle_of_a_stream(
    ours: Authority, theirs: Authority, plain: list[int]
) -> None:
    files = ours.issue()
    async with target(0.03, **of_server(files)) as running:

        async def change() -> None:
            files.replace(theirs.issue())
            assert await ids(running.address, shows(theirs.ca)) == plain[:SHORT]
            refused = await refusal(running.address, shows(ours.ca))
            assert "not from a CA that is trusted" in refused

        credentials = shows(ours.ca)
        assert await _with_a_change_in_the_middle(running, credentials, change) == plain


@begins_again
async def test_the_ca_of_callers_changes_in_the_middle_of_a_stream(
    ours: Authority, theirs: Authority, tmp_path: Path, plain: list[int]
) -> None:
    trusted = tmp_path / "trusted.pem"
    trust(trusted, ours)
    old, new = (shows(ours.ca, ca.issue("caller")) for ca in (ours, theirs))
    async with target(0.03, **of_server(ours.issue(), str(trusted))) as running:

        async def change() -> None:
            trust(trusted, ours, theirs)
            assert await ids(running.address, old) == plain[:SHORT]
            assert await ids(running.address, new) == plain[:SHORT]
            trust(trusted, theirs)
            assert await ids(running.address, new) == plain[:SHORT]
            assert _CLOSES in await refusal(running.address, old)

        assert await _with_a_change_in_the_middle(running, old, change) == plain


def _draft(rows: Any, settings: dict[str, Any]) -> Any:
    return draft_service(rows, table_model(VOCAB), ngram="off", **settings)


async def test_a_draft_with_mutual_tls_speeds_its_target(ours: Authority, plain: list[int]) -> None:
    async with (
        _draft(TableRows(TABLE), of_server(ours.issue(), ours.ca)) as draft,
        target(drafts=draft.address, **of_target(ours.ca, ours.issue("target"))) as running,
        AsyncClient(running.address) as client,
    ):
        result = await client.generate(PROMPT, max_new_tokens=SHORT, **CALL)
        assert list(result.token_ids) == plain[:SHORT]
        assert result.stats.accepted > 0
        assert (await client.info()).drafts == {draft.address: "ready"}


@pytest.mark.parametrize("link", ["no certificate", "another CA's certificate", "no TLS"])
async def test_a_draft_that_refuses_its_target_costs_speed_and_says_why(
    ours: Authority,
    theirs: Authority,
    plain: list[int],
    link: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    its = {
        "no certificate": of_target(ours.ca),
        "another CA's certificate": of_target(ours.ca, theirs.issue("target")),
        "no TLS": {},
    }[link]
    caplog.set_level(logging.INFO)
    async with (
        _draft(TableRows(TABLE), of_server(ours.issue(), ours.ca)) as draft,
        target(0.01, drafts=draft.address, fallback="none", **its) as running,
        AsyncClient(running.address) as client,
    ):
        result = await client.generate(PROMPT, max_new_tokens=SHORT, **CALL)
        assert list(result.token_ids) == plain[:SHORT]
        assert result.stats.accepted == 0
        assert _CLOSES in (await client.info()).drafts[draft.address]
        assert running.value("foredraft_fallback_rounds_total", reason="lost") > 0
        assert running.value("foredraft_drafts", state="down") == 1
        assert any(
            f"draft {draft.address}: UNAVAILABLE: {_CLOSES}" in line for line in caplog.messages
        )


async def test_a_target_says_at_its_start_why_a_draft_cannot_be_reached(
    ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with _draft(TableRows(TABLE), of_server(ours.issue(), ours.ca)) as draft:
        pool = DraftPool([draft.address], table_model(VOCAB).vocabulary)
        await pool.look()
        await pool.close()
    assert f"draft {draft.address} cannot be reached (UNAVAILABLE: {_CLOSES}" in caplog.text


@begins_again
async def test_certificates_of_the_draft_link_change_in_the_middle_of_a_stream(
    ours: Authority, theirs: Authority, tmp_path: Path, plain: list[int]
) -> None:
    """Both ends move to another CA; the stream that runs stays on its connection."""
    draft_files, target_files = ours.issue(), ours.issue("target")
    draft_ca, target_ca = tmp_path / "of-drafts.pem", tmp_path / "of-targets.pem"
    for trusted in (draft_ca, target_ca):
        trust(trusted, ours)
    settings = of_target(str(draft_ca), target_files)
    async with (
        _draft(TableRows(TABLE), of_server(draft_files, str(target_ca))) as draft,
        target(0.03, drafts=draft.address, fallback="none", **settings) as running,
        AsyncClient(running.address) as client,
    ):

        async def change() -> None:
            for files in (draft_files, target_files):
                files.replace(theirs.issue())
            for trusted in (draft_ca, target_ca):
                trust(trusted, theirs)
            again = await client.generate(PROMPT, max_new_tokens=SHORT, **CALL)
            assert list(again.token_ids) == plain[:SHORT]
            assert again.stats.accepted > 0
            assert draft.value("foredraft_draft_sessions") >= 1  # that of the stream

        assert await _with_a_change_in_the_middle(running, None, change) == plain
        assert running.value("foredraft_fallback_rounds_total", reason="lost") == 0
