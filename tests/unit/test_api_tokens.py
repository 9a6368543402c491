"""The file of API tokens, what each has in use, and who is reached without them."""

import re
from dataclasses import replace
from typing import Any

import pytest

from draft_service.settings import DraftSettings
from draft_service.settings import check as check_draft
from foredraft.wire.addresses import is_loopback
from foredraft.wire.api_tokens import TOKEN_LIMITS, new_token, token_digest, token_table
from foredraft_serving.access import quotas
from foredraft_serving.access.account import Account
from foredraft_serving.access.api_tokens import Limits, parse_tokens
from foredraft_serving.access.exposure import log_exposure
from foredraft_serving.access.quotas import Quotas, TokenBucket
from foredraft_serving.overload import LimitError
from foredraft_serving.settings import SettingsError
from target_service.drafting.draft_channel import draft_credentials
from target_service.request.identity import identify
from target_service.settings import TargetSettings
from target_service.settings import check as check_target

DIGEST = "0" * 64


def test_what_the_command_line_makes_is_what_a_service_reads() -> None:
    limits = {name: number for number, name in enumerate(TOKEN_LIMITS, 1)}
    token, other = new_token(), new_token()
    text = token_table("alice", token, limits) + token_table("bob-2", other, {})
    alice, bob = parse_tokens(text, TOKEN_LIMITS)
    assert (alice.name, alice.digest, alice.limits) == (
        "alice",
        token_digest(token),
        Limits(**limits),
    )
    assert (bob.name, bob.limits) == ("bob-2", Limits())
    assert token not in text
    assert alice.digest not in repr(alice)
    assert parse_tokens("", TOKEN_LIMITS) == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a", "Expected ']'"),
        ("a = 1", "a is no table"),
        (f'["a b"]\nsha256 = "{DIGEST}"', "'a b' is no name"),
        ("[a]", "a: sha256 has to be 64 hexadecimal digits"),
        ('[a]\nsha256 = "secret"', "a: sha256 has to be"),
        (f'[a]\nsha256 = "{DIGEST}"\nmax_sequence = 1', "a: there is no max_sequence here"),
        (f'[a]\nsha256 = "{DIGEST}"\nmax_new_tokens = 1', "limits are max_sequences"),
        (f'[a]\nsha256 = "{DIGEST}"\nmax_sequences = 0', "a whole number from 1 on"),
        (f'[a]\nsha256 = "{DIGEST}"\nmax_sequences = true', "a whole number from 1 on"),
        (f'[a]\nsha256 = "{DIGEST}"\n[a]', "Cannot declare"),
        (f'[a]\nsha256 = "{DIGEST}"\n[b]\nsha256 = "{DIGEST}"', "a and b have the same sha256"),
    ],
)
def test_a_file_that_is_none_says_where(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as refused:
        parse_tokens(text, ("max_sequences",))
    assert "secret" not in str(refused.value)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(quotas, "time", made := Clock())
    return made


def test_a_bucket_allows_a_minute_at_once_and_then_what_comes_back(clock: Clock) -> None:
    bucket = TokenBucket()
    bucket.use(59, 60)
    assert bucket.wait_s(60) == 0
    bucket.use(100, 60)  # an answer is not cut
    assert bucket.wait_s(60) == pytest.approx(100)
    clock.now += 98.5
    assert bucket.wait_s(60) == pytest.approx(1.5)
    clock.now += 1.5
    assert bucket.wait_s(60) == 0
    clock.now += 1e6
    bucket.use(59, 60)
    assert bucket.wait_s(60) == 0, "what was not used is not saved beyond a minute's worth"
    bucket.use(1, 60)
    assert bucket.wait_s(60) > 0
    assert bucket.wait_s(120) == 0, "a limit that is raised is so at once"


def test_quotas_are_given_back_however_a_call_ends(clock: Clock) -> None:
    refused: list[str] = []
    both = Quotas(refused.append)
    alice = Account("alice", Limits(max_sequences=3, tokens_per_minute=60))
    with both.enter(alice) as first:
        first.hold(2)
        with pytest.raises(LimitError, match="2 sequences of this token"), both.enter(alice) as one:
            one.hold(2)
        with both.enter(Account("bob", alice.limits)) as other:
            other.hold(3)
        with pytest.raises(KeyError), both.enter(alice):
            raise KeyError
        with pytest.raises(LimitError) as never, both.enter(alice) as third:
            third.hold(4, ("prompts",))
        assert never.value.fields == ("prompts",)
    with both.enter(alice) as alone:
        alone.hold(3)
        alone.use(200)
    with pytest.raises(LimitError) as later, both.enter(alice):
        pass
    assert later.value.retry_after_s == pytest.approx(141)
    assert refused == ["max_sequences", "max_sequences", "tokens_per_minute"]


@pytest.mark.parametrize(
    ("address", "is_here"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("dns:///localhost:1", True),
        ("unix:/tmp/socket", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.com:1", False),
        ("dns://10.0.0.1/localhost:1", False),
        ("ipv4:10.0.0.1:1,127.0.0.1:1", False),
        ("example.com:1", False),
    ],
)
def test_an_address_of_this_machine(address: str, is_here: bool) -> None:
    assert is_loopback(address) == is_here


_TLS, _CA = {"tls_cert": "c", "tls_key": "k"}, {"client_ca": "a"}
_TOKENS, _NAMES = {"api_tokens": "t"}, {"client_names": "n"}
_OPEN = "0.0.0.0:1"


@pytest.mark.parametrize("service", [TargetSettings, DraftSettings])
@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ({}, ("plain text", "everybody is served")),
        (_TOKENS, ("plain text",)),
        (_TLS, ("everybody is served",)),
        (_TLS | _TOKENS, ()),
        (_TLS | _CA, ()),
        (_TLS | _CA | _NAMES | _TOKENS, ()),
    ],
)
def test_other_machines_are_served_behind_tls_and_a_credential(
    service: Any,
    flags: dict[str, str],
    missing: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    check: Any = check_target if service is TargetSettings else check_draft
    caplog.set_level("INFO")
    here = replace(service(), model="m", **flags)
    check(here)
    log_exposure(here, here.listen)
    assert caplog.records[-1].levelname == "INFO"
    assert "on this machine alone" in caplog.text
    elsewhere = replace(here, listen=_OPEN)
    if missing:
        with pytest.raises(SettingsError) as refused:
            check(elsewhere)
        assert all(part in str(refused.value) for part in missing)
        assert "--insecure" in str(refused.value)
    else:
        check(elsewhere)
    insists = replace(elsewhere, insecure=True)
    check(insists)
    log_exposure(insists, _OPEN)
    assert caplog.records[-1].levelname == ("WARNING" if missing else "INFO")
    assert caplog.messages[-1].startswith("--insecure: " if missing else _OPEN)
    assert ("can read and change" in caplog.messages[-1]) == ("plain text" in missing)
    assert ("everybody" in caplog.messages[-1]) == ("everybody is served" in missing)


def test_names_are_in_certificates() -> None:
    with pytest.raises(SettingsError, match="--client-names does nothing without --client-ca"):
        check_draft(replace(DraftSettings(), client_names="target"))


def test_the_token_for_drafts_stays_off_an_open_network(tmp_path: Any) -> None:
    (file := tmp_path / "token").write_text("secret\n")
    settings = replace(TargetSettings(), draft="10.0.0.5:1", draft_token=str(file))
    with pytest.raises(SettingsError, match=r"would go to 10\.0\.0\.5:1 in plain text"):
        draft_credentials(settings)
    allowed = draft_credentials(replace(settings, insecure=True))
    assert allowed.metadata == (("authorization", "Bearer secret"),)
    assert draft_credentials(replace(settings, draft="127.0.0.1:1")).metadata == allowed.metadata
    for text in ("", "two words", "a\nb"):
        file.write_text(text)
        with pytest.raises(SettingsError, match="it has to hold one token"):
            draft_credentials(replace(settings, insecure=True))


def test_a_token_is_one_caller_however_its_header_is_written() -> None:
    def owner(header: str, account: Account) -> str:
        identity = identify([("authorization", header)], {}, False, account)
        assert identity.scope == identity.owner
        return identity.owner

    alice, bob = (Account(name, token_digest=token_digest(name)) for name in ("alice", "bob"))
    assert owner("Bearer secret", alice) == owner("bearer  secret", alice)
    assert owner("Bearer secret", alice) != owner("Bearer secret", bob)
