"""The laws of what strategies sample, and the counts of texts over the wire."""

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

from foredraft import AsyncClient
from tests.fakes import TableRows


def guided_law(
    rows: TableRows, prompt: Sequence[int], away: Sequence[int], scale: float, length: int
) -> dict[tuple[int, ...], float]:
    """Returns the law of texts under guidance, by the formula."""
    vocab = rows.table.shape[-1]
    law = {}
    for text in product(range(vocab), repeat=length):
        probability = 1.0
        for i, token in enumerate(text):
            own = rows._logits([*prompt, *text[:i]]).double().log_softmax(-1)
            other = rows._logits([*away, *text[:i]]).double().log_softmax(-1)
            probability *= (scale * (own - other) + other).softmax(-1)[token].item()
        law[text] = probability
    return law


async def texts_of(
    client: AsyncClient, prompt: Sequence[int], count: int, **fields: Any
) -> Counter[tuple[int, ...]]:
    """Returns sampled texts, counted; from the whole distribution unless fields say otherwise."""
    counts: Counter[tuple[int, ...]] = Counter()
    options: dict[str, Any] = {
        "do_sample": True,
        "top_k": 0,
        "num_assistant_tokens": 2,
        "num_return_sequences": 50,
    } | fields
    while counts.total() < count:
        found = await client.generate(list(prompt), **options)
        results = found if isinstance(found, list) else [found]
        counts.update(result.token_ids for result in results)
    return counts
