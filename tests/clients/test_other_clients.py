"""Programs that speak the OpenAI API, each once, unmodified, through a real gateway."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("smg", reason="`make test-clients` runs these tests")

from foredraft import Result
from tests.clients.conftest import Served
from tests.clients.services import PATIENCE_S, PYTHON, ROOT, paths

PROMPT = "def main("
TALK = [{"role": "user", "content": PROMPT}]
_QUESTIONS = [PROMPT, "import "]
_TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: {metric}}}]
"""
_GREEDY = 'generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 8, temperature: 0}\n'


def _program(name: str, folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program of the environment, which reaches nothing but the gateway."""
    kept = {"HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [str(Path(sys.executable).parent / name), *flags],
        cwd=folder,
        env={**os.environ, **kept},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def _wanted(served: Served, inputs: Any, tokens: int) -> str:
    found = served.sdk.generate(inputs, max_new_tokens=tokens)
    assert isinstance(found, Result)
    return found.text


def test_langchain(served: Served) -> None:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        base_url=f"{served.url}/v1",
        api_key="any",
        model=served.model,
        temperature=0,
        max_tokens=12,
        timeout=PATIENCE_S,
    )
    want = _wanted(served, TALK, 12)
    answer = model.invoke(PROMPT)
    assert answer.content == want
    assert answer.usage_metadata["output_tokens"] == 12
    assert "".join(str(chunk.content) for chunk in model.stream(PROMPT)) == want


def test_litellm(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch a list of prices
    import litellm

    asked: dict[str, Any] = {"model": f"hosted_vllm/{served.model}", "api_base": f"{served.url}/v1"}
    asked |= {"messages": TALK, "temperature": 0, "max_tokens": 12, "timeout": PATIENCE_S}
    want = _wanted(served, TALK, 12)
    answer = litellm.completion(**asked)
    assert (answer.choices[0].message.content, answer.usage.completion_tokens) == (want, 12)
    pieces = [event.choices[0].delta.content for event in litellm.completion(**asked, stream=True)]
    assert "".join(piece or "" for piece in pieces) == want


def _evaluated(served: Served, folder: Path, kind: str) -> "subprocess.CompletedProcess[str]":
    data, name = folder / "words.jsonl", f"words_{kind}"
    rows = [
        {"question": question, "answer": _wanted(served, question, 8)} for question in _QUESTIONS
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    generates = kind == "generate_until"
    metric = "exact_match" if generates else "acc"
    task = _TASK.format(name=name, data=data, kind=kind, metric=metric)
    (folder / "words.yaml").write_text(task + (_GREEDY if generates else ""))
    called = f"model={served.model},base_url={served.url}/v1/completions,max_retries=1"
    called += ",tokenizer_backend=huggingface,tokenized_requests=False"
    asked = ["run", "--model", "local-completions", "--model_args", called, "--tasks", name]
    return _program("lm_eval", folder, *asked, "--include_path", ".", "--output_path", "told.json")


def test_lm_eval_generates(served: Served, tmp_path: Path) -> None:
    """The answers are those of the SDK: all of them match."""
    done = _evaluated(served, tmp_path, "generate_until")
    (told,) = tmp_path.rglob("told*.json")
    results = json.loads(told.read_text())["results"]["words_generate_until"]
    assert results["exact_match,none"] == 1, done.stderr


def test_lm_eval_has_no_likelihoods(served: Served, tmp_path: Path) -> None:
    """The gateway tells no log-probabilities of completions: the program ends, and never scores."""
    done = _evaluated(served, tmp_path, "loglikelihood")
    assert done.returncode
    assert "KeyError: 'logprobs'" in done.stderr


def test_guidellm(served: Served, tmp_path: Path) -> None:
    asked = ["run", "--backend", f"kind=openai_http,target={served.url},model={served.model}"]
    asked += ["--profile", "kind=synchronous", "--constraint", "kind=max_requests,count=3"]
    asked += ["--data", "kind=synthetic_text,prompt_tokens=16,output_tokens=8"]
    asked += ["--tokenizer", f"kind=huggingface_auto,model={served.model}"]
    asked += ["--output", f"kind=json,path={tmp_path / 'told.json'}", "--disable-console"]
    # It loads its data with torch, which the project's environment has.
    packages = next(PYTHON.parent.parent.glob("lib/python*/site-packages"))
    start = f"import sys; sys.path.append({str(packages)!r}); from guidellm.__main__ import cli"
    done = _program("python", tmp_path, "-W", "ignore", "-c", f"{start}; cli()", *asked)
    assert done.returncode == 0, done.stderr
    counts = json.loads((tmp_path / "told.json").read_text())["benchmarks"][0]["metrics"]
    totals = counts["request_totals"]
    # It may end its run while it waits for the last of three, which counts as incomplete then.
    assert totals["successful"] >= 2, totals
    assert totals["errored"] == 0, totals


def test_the_demonstration(tmp_path: Path) -> None:
    """`make demo-openai` with the small pair: it answers, and ends everything that it started."""
    smg = Path(sys.executable).parent / "smg"
    command = [str(PYTHON), "-m", "demo.openai_api", "--bundled", "--smg", str(smg)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=paths(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "curl --no-buffer http://127.0.0.1:" in done.stdout
    usage = json.loads(done.stdout.splitlines()[-1])
    assert usage["completion_tokens"] > 0
