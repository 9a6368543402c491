"""Both services serve what people have: GGUF files, adapters on base models, and quantized
checkpoints.
"""

from pathlib import Path

from transformers import AutoModelForCausalLM

from foredraft import Client
from tests.formats import LENGTH, PROMPT, text_of, write_adapter, write_gguf, write_quantized
from tests.integration.processes import MODELS, service
from tests.models import bundled


def test_texts_are_those_of_the_merged_model(tmp_path: Path) -> None:
    """An adapted target, with a draft from a GGUF file; and the other way round."""
    base, tokenizer = MODELS / "draft", bundled("draft").tokenizer
    merged = write_adapter(base, tmp_path / "adapter")
    file = write_gguf(base, tmp_path / "tiny.gguf")
    adapted = ("--model", str(base), "--adapter", str(tmp_path / "adapter"))
    packed = ("--model", str(file))
    for target_flags, draft_flags, model in (
        (adapted, packed, merged),
        (packed, adapted, bundled("draft").module),
    ):
        with (
            service("draft", tmp_path / "draft.log", *draft_flags) as draft,
            service(
                "target", tmp_path / "target.log", *target_flags, "--draft", draft.address
            ) as target,
            Client(target.address) as client,
        ):
            result = client.generate(PROMPT, max_new_tokens=LENGTH, num_assistant_tokens=3)
            assert result.text == text_of(model, tokenizer)
            assert result.stats.proposed
            assert client.info().dtype == "float32"


def test_texts_are_those_of_the_quantized_model(tmp_path: Path) -> None:
    """Target and draft are one checkpoint, whose texts are not those of the plain model."""
    folder, tokenizer = tmp_path / "quantized", bundled("draft").tokenizer
    write_quantized(MODELS / "draft", folder)
    expected = text_of(AutoModelForCausalLM.from_pretrained(folder), tokenizer)
    assert expected != text_of(bundled("draft").module, tokenizer)
    flags = ("--model", str(folder))
    with (
        service("draft", tmp_path / "draft.log", *flags) as draft,
        service("target", tmp_path / "target.log", *flags, "--draft", draft.address) as target,
        Client(target.address) as client,
    ):
        result = client.generate(PROMPT, max_new_tokens=LENGTH, num_assistant_tokens=3)
    assert result.text == expected
    assert result.stats.accepted
