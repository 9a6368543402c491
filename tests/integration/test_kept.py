"""What outlives a call: every place that holds a part of its prompt or text is known, with what
keeps others from it, and so is every cache of the whole process.

What is kept in a new place makes these tests fail until somebody says why it is safe.
"""

import ast
import asyncio
import contextvars
import copy
import gc
import json
import random
import sys
import time
import types
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from google.protobuf.message import Message
from torch import nn
from transformers import PreTrainedTokenizerBase

from foredraft import AsyncClient
from tests.loopback import draft_service, target_service
from tests.models import bundled, rows_of
from tests.test_architecture import ROOMS

SERVING = ("foredraft_engine", "foredraft_serving", "draft_service", "target_service", "foredraft")
# Where a prompt or a text may be after its call has ended, and what keeps other callers from it.
KEPT = {
    "_FreeRow.tokens": "a row is compared with sequences of its own scope alone",
    "Feed.ids": "the last step of a device, until the next one; nobody asks for it",
    "Layout.ids": "likewise",
    "ResponseFormat.text": "a compiled grammar is found by calls of its own scope alone",
}
# Caches of the whole process, and why they tell nothing of a prompt or a text.
CACHES = {
    "foredraft/metrics.py: _known": "by the registry that an application has",
    "foredraft_engine/cache/quantizers.py: quantizer": "by the settings of a quantized cache",
    "foredraft_engine/logits/greenlist.py: _table": "by a watermark's key",
    "foredraft_engine/logits/synthid.py: _bits": "by a watermark's seed",
    "target_service/output/token_forms.py: _prefix": "by the vocabulary",
}
_PIECE = 12  # characters that no other text has by chance
_CONTAINERS = {"dict", "list", "set", "deque", "OrderedDict", "Counter", "WeakKeyDictionary"}
_OPAQUE = (
    type,
    types.ModuleType,
    types.CodeType,
    nn.Module,
    PreTrainedTokenizerBase,
    asyncio.AbstractEventLoop,  # it leads to the test itself
    contextvars.Context,
)


class Traces:
    """Where a caller's words are found."""

    def __init__(self, ids: Sequence[int], texts: Sequence[str]) -> None:
        self._pairs = set(pairwise(ids))
        self._texts = texts

    def places(self) -> set[str]:
        """Returns the attributes and globals of the services that lead to a trace."""
        found, seen = set(), set[int]()
        todo = [
            *_globals(),
            *((one, type(one).__name__) for one in gc.get_objects() if _is_ours(one)),
        ]
        while todo:
            value, place = todo.pop()
            if id(value) in seen or isinstance(value, _OPAQUE):
                continue
            seen.add(id(value))
            if self._is_in(value):
                found.add(place)
            todo += _parts(value, place)
        return found

    def _is_in(self, value: Any) -> bool:
        if isinstance(value, str | bytes):
            text = value if isinstance(value, str) else value.decode(errors="replace")
            return any(piece in text for piece in self._texts)
        if isinstance(value, torch.Tensor):
            whole = not value.is_floating_point() and 1 < value.numel() < 1 << 20
            value = value.flatten().tolist() if whole else ()
        if isinstance(value, Sequence):
            return any(
                (a, b) in self._pairs for a, b in pairwise(value) if type(a) is type(b) is int
            )
        return False


def _globals() -> Iterator[tuple[Any, str]]:
    for name, module in list(sys.modules.items()):
        if module is not None and name.partition(".")[0] in SERVING:
            for variable, value in vars(module).items():
                yield value, f"{name}: {variable}"


def _is_ours(value: Any) -> bool:
    return str(type(value).__module__).partition(".")[0] in SERVING


def _parts(value: Any, place: str) -> list[tuple[Any, str]]:
    """Returns what a value leads to, and where that is: an attribute of ours has its own name."""
    if _is_ours(value):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        names = {*getattr(value, "__dict__", ()), *slots} - {"__dict__", "__weakref__"}
        kind = type(value).__name__
        return [(getattr(value, n), f"{kind}.{n}") for n in names if hasattr(value, n)]
    if isinstance(value, Message):
        return [(one, place) for _, one in value.ListFields()]
    if isinstance(value, types.FunctionType):  # which leads to all globals besides
        return [(value.__closure__, place), (value.__defaults__, place)]
    if isinstance(value, types.FrameType):
        return [(value.f_locals, place)]
    return [(one, place) for one in gc.get_referents(value)]


async def _called(address: str, tokenizer: Any) -> Traces:
    """Makes a call; returns the traces that it may have left."""
    ids = random.Random(5).sample(range(300, 4096), 60)
    async with AsyncClient(address) as client:
        result = await client.generate(ids, max_new_tokens=24)
        # The format is as much the caller's own as the prompt.
        words = tokenizer.decode(random.Random(6).sample(range(300, 4096), 20))
        await client.generate(
            ids,
            max_new_tokens=4,
            eos_token_id=tokenizer.eos_token_id,
            response_format={"type": "choice", "choice": [words, "or not"]},
        )
    texts = [tokenizer.decode(ids), result.text, json.dumps(words)]
    pieces = [text[i : i + _PIECE] for text in texts for i in range(0, len(text), _PIECE)]
    whole = [piece for piece in pieces if len(piece) == _PIECE]
    assert whole
    return Traces([*ids, *result.token_ids], whole)


async def _settled(traces: Traces) -> set[str]:
    """Returns where traces are once the call has ended everywhere: its draft hears of it last."""
    deadline = time.monotonic() + 60
    while True:
        gc.collect()
        found = traces.places()
        if found <= set(KEPT) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.2)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what other packages hold
async def test_what_is_kept_of_a_call_is_known() -> None:
    model = bundled("target")
    async with (
        draft_service(rows_of(bundled("draft").module), bundled("draft")) as draft,
        target_service(rows_of(copy.deepcopy(model.module)), model, draft.address) as target,
    ):
        traces = await _called(target.address, model.tokenizer)
        found = await _settled(traces)
    assert {"_FreeRow.tokens", "ResponseFormat.text"} <= found, "the walk sees what is kept"
    assert found <= set(KEPT)


def test_caches_of_the_process_are_known() -> None:
    found = {
        f"{file.relative_to(ROOMS[room].parent)}: {name}"
        for room in SERVING
        for file in ROOMS[room].rglob("*.py")
        for name in _caches(ast.parse(file.read_text()))
    }
    assert found == set(CACHES)


def _caches(module: ast.Module) -> Iterator[str]:
    """Yields the names of functions whose results are kept, and of globals that begin empty."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and "cache" in " ".join(
            map(ast.unparse, node.decorator_list)
        ):
            yield node.name
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            empty = isinstance(node.value, ast.Call) and not (
                node.value.args or node.value.keywords
            )
            made = ast.unparse(node.value).removesuffix("()").split(".")[-1]
            if (empty and made in _CONTAINERS) or ast.unparse(node.value) in ("{}", "[]"):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                yield ast.unparse(target)
