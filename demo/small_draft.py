"""A draft of a few of its target's layers that knows some of its target's tokens."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from foredraft_engine.model.draft_vocabulary import DraftVocabulary


@torch.no_grad()
def begun_from(target: LlamaForCausalLM, known: Tensor, layers: Sequence[int]) -> LlamaForCausalLM:
    """Returns a draft with layers and embeddings of its target, and one row for other tokens.

    Args:
        known: the target's ids that it knows, in rising order, int64 [n].
        layers: which of the target's layers it has.
    """
    config: Any = copy.deepcopy(target.config)
    config.vocab_size, config.num_hidden_layers = len(known) + 1, len(layers)
    config.pad_token_id = None  # ids of its config are the target's, and name no rows of its own
    draft = LlamaForCausalLM(config)
    table = target.model.embed_tokens.weight
    is_other = torch.ones(len(table), dtype=torch.bool)
    is_other[known] = False
    other = table[is_other].mean(0, keepdim=True) if is_other.any() else table.mean(0, keepdim=True)
    draft.model.embed_tokens.weight.copy_(torch.cat([table[known], other]))
    for own, source in zip(draft.model.layers, layers, strict=True):
        own.load_state_dict(target.model.layers[source].state_dict())
    draft.model.norm.load_state_dict(target.model.norm.state_dict())
    return draft


def save(draft: LlamaForCausalLM, folder: Path, known: Tensor, tokenizer: Any) -> None:
    """Saves a draft in bfloat16, with its table and its target's tokenizer; a file is complete
    before it takes its name.
    """
    fresh = folder.with_name(folder.name + ".new")
    kept = draft.state_dict()
    del kept["lm_head.weight"]  # which is that of the embedding
    weights = {name: weight.detach().bfloat16() for name, weight in kept.items()}
    draft.save_pretrained(fresh, state_dict=weights)
    settings = json.loads((fresh / "config.json").read_text()) | {"dtype": "bfloat16"}
    (fresh / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    DraftVocabulary(known.numpy(), len(tokenizer)).save(fresh)
    tokenizer.save_pretrained(fresh)
    folder.mkdir(parents=True, exist_ok=True)
    for file in fresh.iterdir():
        file.replace(folder / file.name)
    fresh.rmdir()
