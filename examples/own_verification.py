"""Verifies the proposals of a draft service with a model of one's own: the text is the model's."""

import os
import queue

import grpc
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from foredraft.v1 import draft_pb2, draft_pb2_grpc, generation_pb2

MODEL = "demo/models/target"  # with the vocabulary of the draft model
tokenizer, model = AutoTokenizer.from_pretrained(MODEL), AutoModelForCausalLM.from_pretrained(MODEL)
tokens = tokenizer("def main(")["input_ids"]
most, greedy = len(tokens) + 48, generation_pb2.GenerationConfig(do_sample=False)
opening = draft_pb2.Open(prompt_ids=tokens, sampling=greedy, max_length=most + 8, k=4)
say: queue.SimpleQueue[draft_pb2.DraftRequest] = queue.SimpleQueue()
with grpc.insecure_channel(os.environ.get("FOREDRAFT_DRAFT", "127.0.0.1:50051")) as channel:
    answers = draft_pb2_grpc.DraftServiceStub(channel).Draft(iter(say.get, None), timeout=60)
    say.put(draft_pb2.DraftRequest(open=opening))
    next(answers)  # says what drafts
    while len(tokens) < most:
        proposed = list(next(answers).block.outcomes[0].proposal.ids)
        logits = model(torch.tensor([tokens + proposed])).logits[0, len(tokens) - 1 :]
        own = logits.argmax(-1).tolist()  # one token after each of them, and one more
        n = next((i for i, token in enumerate(proposed) if token != own[i]), len(proposed))
        commit = draft_pb2.Commit(base_len=len(tokens), accepted_ids=own[:n], next_id=own[n], k=4)
        tokens += own[: n + 1]
        say.put(draft_pb2.DraftRequest(commit=commit))
    print(tokenizer.decode(tokens[:most]))
