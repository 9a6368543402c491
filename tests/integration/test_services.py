"""The two services as real processes: what an operator sees, and what a dying draft costs."""

import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AsyncTextIteratorStreamer, TextIteratorStreamer, TextStreamer

from foredraft import Client
from tests.integration.processes import (
    MODELS,
    ROOT,
    Process,
    environment,
    free_port,
    service,
    until,
)
from tests.models import bundled, stock

DRAFT, TARGET = ["--model", str(MODELS / "draft")], ["--model", str(MODELS / "target")]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def draft(logs: Path) -> Iterator[Process]:
    with service("draft", logs / "draft.log", *DRAFT) as process:
        yield process


@pytest.fixture(scope="module")
def target(logs: Path, draft: Process) -> Iterator[Process]:
    with service("target", logs / "target.log", *TARGET, "--draft", draft.address) as process:
        yield process


@pytest.fixture
def client(target: Process) -> Iterator[Client]:
    with Client(target.address) as client:
        yield client


def metric(process: Process, name: str) -> float:
    text = urllib.request.urlopen(f"http://{process.metrics_address}/metrics").read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


def test_assisted_text_is_plain_text(client: Client, prompts: list[str]) -> None:
    for prompt in prompts[:4]:
        assisted = client.generate(prompt, max_new_tokens=48, num_assistant_tokens=5)
        plain = client.generate(prompt, max_new_tokens=48, num_assistant_tokens=0)
        assert assisted.token_ids == plain.token_ids
        assert assisted.stats.drafter in ("model", "ngram", "model+ngram")
        assert assisted.stats.rounds < plain.stats.rounds == len(plain.token_ids)
        assert plain.stats.drafter == "none"


def test_greedy_text_is_that_of_transformers(client: Client, prompts: list[str]) -> None:
    model, module = (
        bundled("target"),
        stock(bundled("target").module),
    )  # other tests give it rows
    for prompt in prompts[:4]:
        inputs = model.tokenizer(prompt, return_tensors="pt")
        want = module.generate(**inputs, max_new_tokens=48, do_sample=False)  # type: ignore[operator]
        got = client.generate(prompt, max_new_tokens=48, num_assistant_tokens=5)
        assert list(got.token_ids) == want[0, inputs["input_ids"].shape[1] :].tolist()


def test_start_up_says_what_it_does(target: Process, draft: Process) -> None:
    told = target.log.read_text()
    assert "packed rows" in told
    assert draft.address in told
    assert "without them: n-gram lookup" in told
    assert "drafting by model+ngram" in draft.log.read_text()


def test_transformers_own_streamers(
    client: Client, prompts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = bundled("target").tokenizer
    result = client.generate(
        prompts[0], max_new_tokens=24, streamer=TextStreamer(tokenizer, skip_prompt=True)
    )
    assert capsys.readouterr().out == result.text + "\n"
    iterator = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=30)
    thread = threading.Thread(
        target=client.generate,
        args=(prompts[0],),
        kwargs={"max_new_tokens": 24, "streamer": iterator},
    )
    thread.start()
    assert "".join(iterator) == result.text
    thread.join()


async def test_transformers_asynchronous_streamer(target: Process, prompts: list[str]) -> None:
    import asyncio

    from foredraft import AsyncClient

    streamer = AsyncTextIteratorStreamer(bundled("target").tokenizer, skip_prompt=True, timeout=30)
    async with AsyncClient(target.address) as client:
        running = asyncio.create_task(
            client.generate(prompts[0], max_new_tokens=24, streamer=streamer)
        )
        text = "".join([piece async for piece in streamer])
        assert text == (await running).text


def test_leaving_a_stream_frees_both_rows(
    client: Client, target: Process, draft: Process, prompts: list[str]
) -> None:
    with client.stream(prompts[0], max_new_tokens=1500, eos_token_id=[]) as stream:
        next(iter(stream))
        assert metric(target, "foredraft_rows_in_use") == 1
        assert metric(draft, "foredraft_rows_in_use") == 1
    until(
        lambda: (
            metric(target, "foredraft_rows_in_use") == metric(draft, "foredraft_rows_in_use") == 0
        )
    )


def test_logprobs(client: Client, prompts: list[str]) -> None:
    result = client.generate(prompts[0], max_new_tokens=12, logprobs=3)
    assert len(result.logprobs) == 12
    for token, entry in zip(result.token_ids, result.logprobs, strict=True):
        best, logprob = entry.top[0]
        assert best == token
        assert logprob == pytest.approx(entry.logprob)
        assert len(entry.top) == 3
        assert entry.top[0][1] >= entry.top[1][1] >= entry.top[2][1]


def test_a_draft_that_dies_or_hangs_changes_speed_only(logs: Path, prompts: list[str]) -> None:
    """kill -9 and SIGSTOP in mid-generation; the draft comes back and is used again."""
    port = free_port()
    fields: dict[str, Any] = {"max_new_tokens": 120, "num_assistant_tokens": 5, "eos_token_id": []}
    first = Process("draft", logs / "mortal.log", port, *DRAFT)
    second = None
    try:
        first.wait_ready()
        flags = [*TARGET, "--draft", first.address, "--draft-timeout", "0.3"]
        with (
            service("target", logs / "survivor.log", *flags) as target,
            Client(target.address) as client,
        ):
            until(lambda: not client.generate(prompts[0], **fields).stats.fallbacks)
            want = client.generate(prompts[0], **fields)
            for number in (signal.SIGSTOP, signal.SIGKILL):
                got = _with_signal(client, first, number, prompts[0], fields)
                assert got.token_ids == want.token_ids
                assert sum(got.stats.fallbacks.values()) > 0
                if number == signal.SIGSTOP:
                    first.send_signal(signal.SIGCONT)
                    until(lambda: not client.generate(prompts[0], **fields).stats.fallbacks)
            second = Process("draft", logs / "mortal.log", port, *DRAFT)
            second.wait_ready()
            until(lambda: not client.generate(prompts[0], **fields).stats.fallbacks)
    finally:
        for process in (first, second):
            if process:
                process.kill()


def _with_signal(
    client: Client, draft: Process, number: signal.Signals, prompt: str, fields: dict[str, Any]
) -> Any:
    with client.stream(prompt, **fields) as stream:
        for i, _ in enumerate(stream):
            if i == 3:
                draft.send_signal(number)
    return stream.result


def test_a_draft_of_another_language_is_not_used(
    logs: Path, tmp_path: Path, prompts: list[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(MODELS / "draft").save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "draft")
    tokenizer.add_tokens(["<|another|>"])
    tokenizer.save_pretrained(tmp_path)
    with (
        service("draft", logs / "foreign.log", "--model", str(tmp_path)) as draft,
        service("target", logs / "native.log", *TARGET, "--draft", draft.address) as target,
        Client(target.address) as client,
    ):
        result = client.generate(prompts[0], max_new_tokens=16)
        assert (
            result.text
            == client.generate(prompts[0], max_new_tokens=16, num_assistant_tokens=0).text
        )
        assert "vocabulary" in result.stats.draft_unused_reason
        assert "vocabulary" in client.info().drafts[draft.address]
    assert "is not used" in target.log.read_text()


def test_an_ngram_draft_needs_no_model(logs: Path) -> None:
    with (
        service("draft", logs / "ngram.log") as draft,
        service("target", logs / "looked-up.log", *TARGET, "--draft", draft.address) as target,
        Client(target.address) as client,
    ):
        result = client.generate("a = 1\nb = 2\na = 1\nb = 2\na = 1\n", max_new_tokens=24)
        assert result.stats.drafter == "ngram"
        assert draft.stop() == target.stop() == 0


def test_the_command_line(target: Process) -> None:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "foredraft.cli", *args, "--address", target.address]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env=environment(), check=False
        )

    told = run("generate", "def main(", "--max-new-tokens", "8", "--stats")
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip()
    assert "mean_acceptance_length" in told.stderr
    assert '"row_layout": "packed"' in run("info", "--json").stdout
    assert "packed" in run("info").stdout
    wrong = run("generate", "x", "--temperature", "0.5")
    assert wrong.returncode == 1
    assert "set --do-sample or leave it out" in wrong.stderr


def test_a_start_tells_what_it_chose(logs: Path) -> None:
    """The bundled pair is kept in float16, which CPUs only emulate."""
    flags = ("--model", str(MODELS / "target"), "--max-length", "96", "--memory-share", "0.5")
    with (
        service("target", logs / "planned.log", *flags) as target,
        Client(target.address) as client,
    ):
        info = client.info()
    assert (info.dtype, info.rows, info.max_length) == ("float32", 16, 96)
    log = target.log.read_text()
    assert "the checkpoint has float16, but cpu does not compute in it" in log
    assert re.search(r"memory: .* are free on cpu, .* for rows: \d+ tokens of \d+ bytes", log)
    assert "max_length: " not in log
    assert "planned: 16 rows of 96 tokens, together 1536, which take up to" in log
    assert re.search(r"5\.3 M parameters, float32 on cpu, [\d.]+ MiB", log)


def test_a_start_says_what_is_out_of_reach(logs: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    flags = ("--model", str(MODELS / "draft"), "--max-length", "9999", "--draft", nobody)
    with service("target", logs / "reach.log", *flags) as alone:
        until(lambda: "cannot be reached" in alone.log.read_text(), otherwise=alone.log.read_text)
        told = alone.log.read_text()
        assert f"draft {nobody} cannot be reached (" in told
        assert "max_length: 9999 is more than the 2048 tokens that" in told
        with Client(alone.address) as client:
            assert client.info().drafts[nobody].startswith("cannot be reached (")
            assert client.generate("def main(", max_new_tokens=4).token_ids
