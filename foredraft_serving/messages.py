"""Protobuf messages that both services read and write, and the values they stand for.

It uses the value types of `foredraft_engine` that need no torch. This module knows nothing of
streams.
"""

import json
from typing import Any

import numpy as np

from foredraft.v1 import draft_pb2, generation_pb2
from foredraft.wire import GENERATION_FIELDS, read
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.proposal import Proposal, SparseRows
from foredraft_engine.sampling import Greenlist, ResponseFormat, Rule, Sampling, SynthId, Watermark
from foredraft_engine.vocabulary import Vocabulary

RULES = {
    Rule.GREEDY: generation_pb2.SAMPLING_RULE_UNSPECIFIED,
    Rule.REJECTION: generation_pb2.SAMPLING_RULE_REJECTION,
    Rule.COUPLED: generation_pb2.SAMPLING_RULE_COUPLED,
}
_KINDS = {
    "none": draft_pb2.DRAFTER_KIND_UNSPECIFIED,
    "model": draft_pb2.DRAFTER_KIND_MODEL,
    "ngram": draft_pb2.DRAFTER_KIND_NGRAM,
    "model+ngram": draft_pb2.DRAFTER_KIND_MODEL_AND_NGRAM,
}
_KINDS_BACK = {int(number): kind for kind, number in _KINDS.items()}


class MessageError(ValueError):
    """A proposal of a draft that makes no sense."""


def sampling_from(
    config: generation_pb2.GenerationConfig,
    *,
    rule: Rule,
    seed: int,
    sequence_index: int,
    prompt_length: int,
) -> Sampling:
    """Returns the sampling parameters of a sequence from a config with all defaults filled in.

    Both services call this on the same message, and so sample by the same law.
    """
    values: dict[str, Any] = {
        field.name: read(field.name, getattr(config, field.name))
        for field in GENERATION_FIELDS.values()
        if field.in_sampling and config.HasField(field.name)
    }
    if config.HasField("watermarking_config"):
        values["watermark"] = watermark_from(config.watermarking_config)
    if config.HasField("response_format"):
        values["response_format"] = format_from(config.response_format)
    if config.num_beams > 1:
        values["min_tokens_to_keep"] = 1 + max(1, len(config.eos_token_id.ids))
    return Sampling(
        rule=rule,
        seed=seed,
        sequence_index=sequence_index,
        prompt_length=prompt_length,
        **values,
    )


def watermark_from(message: generation_pb2.WatermarkingConfig) -> Watermark | None:
    """Returns a watermark with transformers' defaults where the message sets nothing.

    It is None if the message has no scheme.
    """
    scheme = message.WhichOneof("scheme")
    if scheme is None:
        return None
    values = {field.name: value for field, value in getattr(message, scheme).ListFields()}
    if scheme == "synth_id":
        return SynthId(**{**values, "keys": tuple(message.synth_id.keys)})
    return Greenlist(**values)


def format_from(message: generation_pb2.ResponseFormat) -> ResponseFormat | None:
    """Returns what a text has to be; None if it may be anything."""
    kind = message.WhichOneof("format")
    value = getattr(message, kind) if kind else ""
    match value:
        case generation_pb2.Strings():
            text = json.dumps(list(value.values))
        case generation_pb2.StructuralTag() if value.format:
            text = json.dumps({"format": value.format})
        case generation_pb2.StructuralTag():
            structures = [
                {"begin": one.begin, "schema": one.schema, "end": one.end}
                for one in value.structures
            ]
            text = json.dumps({"structures": structures, "triggers": list(value.triggers)})
        case _:
            text = value if isinstance(value, str) else ""
    return ResponseFormat(kind, text) if kind else None


def rule_from(number: int) -> Rule:
    """Returns the rule of a number in a message; UNSPECIFIED is greedy.

    Raises:
        InvalidFieldError: there is no such rule.
    """
    rule = {int(wire): rule for rule, wire in RULES.items()}.get(number)
    if rule is None:
        raise InvalidFieldError("sampling_rule", f"there is no rule {number}")
    return rule


def kind_message(kind: str) -> draft_pb2.DrafterKind:
    """Returns the protobuf name of a drafter."""
    return _KINDS[kind]


def kind_from(number: int) -> str:
    """Returns the name of a drafter; an unknown one of a newer draft service is a model."""
    return _KINDS_BACK.get(number, "model")


def vocabulary_message(vocabulary: Vocabulary) -> draft_pb2.Vocabulary:
    """Returns the protobuf message of a vocabulary."""
    return draft_pb2.Vocabulary(fingerprint=vocabulary.fingerprint, size=vocabulary.size)


def vocabulary_from(message: draft_pb2.Vocabulary) -> Vocabulary:
    """Returns the vocabulary that a message describes."""
    return Vocabulary(message.fingerprint, message.size)


def proposal_message(proposal: Proposal) -> draft_pb2.Proposal:
    """Returns the protobuf message of a proposal."""
    message = draft_pb2.Proposal(ids=proposal.ids, kind=_KINDS[proposal.made_by])
    message.alternatives.extend(
        draft_pb2.Alternative(at=at, id=token) for at, token in proposal.alternatives
    )
    if proposal.q is not None:
        message.q.ids = proposal.q.ids.astype("<u4").tobytes()
        message.q.probabilities = proposal.q.probabilities.astype("<f4").tobytes()
        message.q.counts.extend(proposal.q.counts)
    return message


def proposal_from(message: draft_pb2.Proposal, vocabulary_size: int) -> Proposal:
    """Returns the proposal that a message holds, checked: a draft's mistake must not become the
    target's output.

    Raises:
        MessageError: an id is outside the vocabulary, or rows of q are no distributions over their
            ids.
    """
    ids = tuple(message.ids)
    if any(i >= vocabulary_size for i in ids):
        raise MessageError("a proposed id is outside the vocabulary")
    beside = tuple((a.at, a.id) for a in message.alternatives)
    if any(at >= len(ids) or token >= vocabulary_size for at, token in beside):
        raise MessageError("an alternative to no proposed id, or outside the vocabulary")
    q = _rows_from(message.q, len(ids), vocabulary_size) if message.HasField("q") else None
    return Proposal(ids, q, kind_from(message.kind), beside)


def _rows_from(message: draft_pb2.SparseRows, rows: int, vocabulary_size: int) -> SparseRows:
    if len(message.ids) % 4 or len(message.ids) != len(message.probabilities):
        raise MessageError("rows of q whose ids and probabilities differ in number")
    ids, q = np.frombuffer(message.ids, "<u4"), np.frombuffer(message.probabilities, "<f4")
    counts = tuple(message.counts)
    if len(counts) != rows or sum(counts) != len(ids) or 0 in counts:
        raise MessageError(
            f"{len(counts)} rows of q with {sum(counts)} entries, for {rows} ids with {len(ids)}"
        )
    if len(ids) and (ids.max() >= vocabulary_size or not np.isfinite(q).all() or q.min() < 0):
        raise MessageError("rows of q with an id outside the vocabulary, or what is no probability")
    sums = np.add.reduceat(q, np.cumsum([0, *counts[:-1]])) if rows else np.ones(0)
    if np.abs(sums - 1.0).max(initial=0.0) > 1e-3:
        raise MessageError("a row of q that does not add up to 1")
    return SparseRows(ids, q, counts)
