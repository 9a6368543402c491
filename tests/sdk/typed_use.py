"""The SDK as a type checker sees it from a user's side: checked by `make types`, never run."""

from typing import assert_type

import numpy as np
import torch
import transformers

from foredraft import AsyncClient, Client, GenerationConfig, Result, WatermarkDetection


def blocking(client: Client) -> None:
    chat = [{"role": "user", "content": "Hello"}]
    calls: list[dict[str, object]] = [{"role": "assistant", "tool_calls": [{"name": "f"}]}]
    tokenizer = transformers.AutoTokenizer.from_pretrained("a")
    assert_type(client.generate("a"), Result)
    assert_type(client.generate([1, 2, 3], max_new_tokens=3), Result)
    assert_type(client.generate(chat, do_sample=True, temperature=0.7, seed=1), Result)
    assert_type(client.generate("a", num_return_sequences=1), Result)
    assert_type(client.generate("a", num_return_sequences=3, do_sample=True), list[Result])
    assert_type(client.generate(["a", "b"]), list[Result])
    assert_type(client.generate([[1, 2], [3]]), list[Result])
    assert_type(client.generate([chat, chat]), list[Result])
    assert_type(client.generate(torch.tensor([1, 2])), Result | list[Result])
    assert_type(client.generate(np.array([[1], [2]])), Result | list[Result])
    assert_type(client.generate("a", GenerationConfig(top_k=3), stop_strings=["\n"]), Result)
    assert_type(client.generate("a", transformers.GenerationConfig(), timeout=3.0), Result)
    assert_type(client.generate("a", "named", logprobs=2, generated_ids=[4, 5]), Result)
    assert_type(client.generate(input_ids=[1, 2]), Result | list[Result])
    assert_type(client.generate({"input_ids": [1]}), Result | list[Result])
    client.generate(**tokenizer("a", return_tensors="pt"), max_new_tokens=3)
    assert_type(client.generate(chat, chat_template_kwargs={"enable_thinking": False}), Result)
    assert_type(client.generate(calls, tools=[blocking], continue_final_message=True), Result)
    assert_type(client.tokenize("a"), list[int])
    assert_type(client.tokenize(["a", "b"]), list[list[int]])
    assert_type(client.tokenize(chat, tools=[{"name": "f"}]), list[int])
    assert_type(client.decode([1, 2]), str)
    assert_type(client.decode([[1, 2], [3]], skip_special_tokens=True), list[str])
    with client.stream("a", max_new_tokens=3) as stream:
        assert_type(stream.result, Result)
    with client.stream(["a", "b"]) as several:
        assert_type(several.result, list[Result])
    assert_type(client.detect_watermark("a", z_threshold=2.0), WatermarkDetection)
    assert_type(client.detect_watermark(["a", "b"]), list[WatermarkDetection])
    assert_type(client.detect_watermark(client.generate("a")), WatermarkDetection)
    assert_type(client.detect_watermark(client.generate(["a"])), list[WatermarkDetection])


async def asynchronous(client: AsyncClient) -> None:
    assert_type(await client.generate("a"), Result)
    assert_type(await client.generate(["a", "b"], num_return_sequences=2), list[Result])
    async with client.stream("a", num_return_sequences=2, do_sample=True) as stream:
        assert_type(stream.result, list[Result])


def refused(client: Client) -> None:
    client.generate("a", max_new_token=3)  # type: ignore[call-overload]
    client.generate("a", temperature="hot")  # type: ignore[call-overload]
    GenerationConfig(max_new_token=3)  # type: ignore[call-arg]
    client.generate("a", chat_template_kwargs=3)  # type: ignore[call-overload]
