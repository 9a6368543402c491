"""The page of `foredraft generate --report`, for texts that try to be more than texts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from foredraft.cli import main
from foredraft.v1 import target_pb2
from tests.page import Page, check_self_contained
from tests.sdk.fake_target import FakeTarget, finished, started

Target = Callable[..., FakeTarget]
TEXT = "<script>alert(1)</script>&amp;\n"


def _nasty(request: Any, context: Any) -> Iterator[target_pb2.GenerateResponse]:
    """Answers with one round: three tokens proposed, one of which is in the text."""
    assert request.return_rounds
    yield started(request)
    told = target_pb2.Round(
        proposed_ids=[1, 8, 9],
        proposed_by=target_pb2.TOKEN_ORIGIN_DRAFT_MODEL,
        began_s=0.010,
        waited_s=0.002,
        ended_s=0.030,
        drafting_began_s=0.004,
        drafting_ended_s=0.012,
        drafted_ahead=True,
    )
    origins = [target_pb2.TOKEN_ORIGIN_DRAFT_MODEL, target_pb2.TOKEN_ORIGIN_TARGET]
    chunk = target_pb2.Chunk(
        token_ids=[1, 2], text=TEXT, num_accepted=1, text_offsets=[0, 8], origins=origins
    )
    chunk.round.CopyFrom(told)
    yield target_pb2.GenerateResponse(chunk=chunk)
    yield finished(1)


def test_texts_stay_texts(target: Target, tmp_path: Path) -> None:
    file, prompt = tmp_path / "report.html", "</pre><img src=x onerror=alert(1)>"
    assert (
        main(["generate", prompt, "--address", target(_nasty).address, "--report", str(file)]) == 0
    )
    page = Page(file)
    check_self_contained(page)
    assert page.text_in("pre") == prompt
    assert page.text_in("answer") == TEXT
    assert (page.count("g", "round"), page.count("rect", "wasted")) == (1, 2)
    assert page.count("rect", "hidden") == 1
    assert [text for around, text in page.texts if "title" in around][1:] == [
        "waiting for a row, and prompt",
        "round 1: the proposal took 8.0 ms, hidden",
        "round 1: the proposal took 8.0 ms, waited for",
        "round 1: waited 2.0 ms",
        "round 1: verified 3 tokens in 18.0 ms, 1 accepted",
    ]
    assert "draft model, 3 tokens, drafted ahead" in page.text_in("td")
    assert "1 round, 3 tokens proposed: 1 in the text, 2 wasted." in page.text_in("section")
    assert "t8 t9" in page.text_in("tbody")


class _Older(FakeTarget):
    """A service that does not tell the text of tokens."""

    def Detokenize(self, request: Any, context: Any) -> target_pb2.DetokenizeResponse:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        raise AssertionError("abort raises")


def test_wasted_tokens_without_their_text(tmp_path: Path) -> None:
    file, fake = tmp_path / "report.html", _Older(_nasty).start()
    try:
        assert main(["generate", "a", "--address", fake.address, "--report", str(file)]) == 0
    finally:
        fake.stop()
    assert "#8 #9" in Page(file).text_in("tbody")


def test_a_service_that_tells_no_rounds(target: Target, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert main(["generate", "a", "--address", target().address, "--report", str(file)]) == 0
    page = Page(file)
    check_self_contained(page)
    assert "The service tells no rounds." in page.text_in("section")


def test_a_file_that_cannot_be(target: Target, tmp_path: Path) -> None:
    fake = target()
    for wrong in (tmp_path, tmp_path / "none" / "report.html"):
        with pytest.raises(SystemExit):
            main(["generate", "a", "--address", fake.address, "--report", str(wrong)])
    assert not fake.requests
