"""What transformers 5.23 gets wrong (the reference's list), as far as it is a strategy's business;
each is a test here.

1, 2 and 7 (stop strings with a draft, ends inside an accepted block, draft length on the call):
tests/exactness. 3 (SynthID under assistance): test_watermarks. 5 (a quantized cache under
assistance): test_quantized.
"""

import asyncio
import copy
from typing import Any

from transformers import TextIteratorStreamer

from foredraft import AsyncClient, Client
from tests.loopback import draft_service, target_service
from tests.models import bundled, rows_of


async def test_a_second_turn_on_kept_rows_is_right(prompts: list[str]) -> None:
    """Assisted generation in transformers says something else with a cache that is kept between
    calls.
    """
    for drafts in ("model", "lookup"):
        fields: dict[str, Any] = (
            {"num_assistant_tokens": 5} if drafts == "model" else {"prompt_lookup_num_tokens": 5}
        )
        async with (
            draft_service(rows_of(bundled("draft").module), bundled("draft")) as draft,
            target_service(
                rows_of(bundled("target").module), bundled("target"), draft.address
            ) as kept,
            AsyncClient(kept.address, metadata={"authorization": "Bearer x"}) as client,
        ):
            for prompt in prompts[:4]:
                ids = list(await client.tokenize(prompt))
                first = await client.generate(ids, max_new_tokens=20, **fields)
                fed = kept.value("foredraft_step_tokens_sum")
                turn = [*ids, *first.token_ids, *ids[:6]]
                second = await client.generate(turn, max_new_tokens=20, **fields)
                # The row is reused: what is fed is the end of the text and the rounds, and not the
                # whole text.
                assert kept.value("foredraft_step_tokens_sum") - fed < len(turn) + 60
                plain = await client.generate(
                    [*turn, *second.token_ids[:5]], max_new_tokens=15, num_assistant_tokens=0
                )
                assert second.token_ids[5:] == plain.token_ids


async def test_a_streamer_of_beam_sampling_ends() -> None:
    """The streamer of transformers gets the prompt alone, and its reader waits for ever."""
    model = bundled("target")
    async with target_service(rows_of(copy.deepcopy(model.module)), model) as target:

        def read() -> tuple[str, str]:
            streamer = TextIteratorStreamer(model.tokenizer, skip_prompt=True, timeout=20)
            with Client(target.address) as client:
                result = client.generate(
                    "def main(",
                    streamer=streamer,
                    num_beams=3,
                    do_sample=True,
                    seed=1,
                    max_new_tokens=12,
                )
            return "".join(streamer), result.text

        streamed, text = await asyncio.to_thread(read)
    assert streamed == text
