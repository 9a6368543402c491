"""The training of the real model's draft, on next to nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from demo import acceptance, conversations, corpus, train, train_draft
from demo.batch_decoder import BatchDecoder
from demo.conversations import Conversations
from foredraft_engine.model.loading import load
from tests.models import random_model

_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{{ m['content'] + '<|im_end|>\\n' }}{% endfor %}"
)
_SIZES = "--files 2 --known 300 --layers 0 2 --steps 5 --batch 160 --places 90"


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a tiny target that has turns, and says nothing of sense."""
    tokenizer = corpus.train_tokenizer([corpus.modules()["queue.py"]], 400)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = _TEMPLATE
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("target")
    train.model(64, 3, 2, 1, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "SHAPES", ((4, 90), (3, 80)))
    monkeypatch.setattr(conversations, "_LONGEST_ANSWER", 9)
    monkeypatch.setattr(conversations, "_LONGEST_QUESTION", 5)


def _train(target: Path, folder: Path, *flags: str) -> bytes:
    places = ["--target", str(target), "--work", str(folder), "--out", str(folder / "draft")]
    train_draft.main([*places, *_SIZES.split(), *flags])
    return (folder / "draft" / "model.safetensors").read_bytes()


def test_a_seed_repeats_itself_and_what_comes_of_it_is_served(
    chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _train(chat_model, tmp_path / "first")
    assert _train(chat_model, tmp_path / "again") == first
    assert _train(chat_model, tmp_path / "other", "--seed", "1") != first
    told = capsys.readouterr().out
    for words in ("in answers", "300 tokens are known", "step 5: KL", "mean acceptance length"):
        assert words in told
    loaded = load(str(tmp_path / "first" / "draft"))
    assert loaded.draft_vocabulary is not None
    known = loaded.draft_vocabulary.target_ids.tolist()
    assert len(known) == 300
    assert set(loaded.tokenizer.all_special_ids) <= set(known)


def test_a_run_that_was_stopped_goes_on(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _train(chat_model, tmp_path / "whole")
    batch: Any = train_draft._batch

    def stops(texts: Any, course: Any, step: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return batch(texts, course, step)

    monkeypatch.setattr(train_draft, "_KEPT_EVERY", 1)
    monkeypatch.setattr(train_draft, "_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        _train(chat_model, tmp_path / "stopped")
    monkeypatch.setattr(train_draft, "_batch", batch)
    assert _train(chat_model, tmp_path / "stopped") == whole


def test_the_decoder_of_batches_is_the_model() -> None:
    torch.manual_seed(0)
    model = train.model(64, 3, 2, 1, 400)
    for weight in model.parameters():
        weight.data.mul_(2)
    ids = torch.randint(2, 400, (3, 12), generator=torch.Generator().manual_seed(0))
    decoder = BatchDecoder(model, 3, 12)
    with torch.no_grad():
        got = torch.stack([decoder.logits(decoder.feed(ids[:, at])) for at in range(12)], 1)
        expected = model(ids).logits
    assert (got - expected).abs().max() < 0.05 * expected.abs().max()


def test_answers_are_what_the_model_said(chat_model: Path) -> None:
    """A question that is given comes word for word, and a greedy answer follows it."""
    model = LlamaForCausalLM.from_pretrained(chat_model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    text = conversations.answers_to(model, tokenizer, ["def get(self", "import time"], 80, 0)
    assert tokenizer.decode(text.ids[1]).startswith(
        "<|im_start|>user\nimport time<|im_end|>\n<|im_start|>assistant\n"
    )
    with torch.no_grad():
        said = model(text.ids.long()).logits[:, :-1].topk(2)
    is_clear = said.values[..., 0] - said.values[..., 1] > 0.05
    asked = text.answers[:, 1:] & is_clear
    assert asked.any(1).all()
    assert (said.indices[..., 0] == text.ids[:, 1:])[asked].all()


def test_mean_lengths_are_those_of_rounds() -> None:
    right = [[True, True, False, True], [False, False]]
    assert acceptance.mean_length(right, 1) == pytest.approx(6 / 5)  # 2, 1, 1; 1, 1
    assert acceptance.mean_length(right, 2) == pytest.approx(6 / 4)  # 3, 1; 1, 1
    assert acceptance.mean_length([[True] * 8], 3) == pytest.approx(8 / 2)


def test_a_draft_that_is_its_target_foresees_everything() -> None:
    model: Any = random_model("llama")
    ids = torch.tensor([[5, 9, 17, 300, 2]])
    for _ in range(20):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    answers = torch.zeros_like(ids, dtype=torch.bool)
    answers[:, 5:] = True
    text = Conversations(ids, torch.zeros(1, ids.shape[1], 1), answers)
    every = torch.arange(4096)
    assert "20 tokens of greedy answers, 100.0% of them" in acceptance.report(
        model, every, every, text
    )
