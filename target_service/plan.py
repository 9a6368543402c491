"""From a request to what is to be done: every field checked, every default filled in, before admission.

Knows nothing of engines or streams.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from decoding.errors import InvalidFieldError
from decoding.loading import LoadedModel
from decoding.quantizers import CacheSpec
from decoding.sampling import Rule, Sampling
from foredraft.v1 import generation_pb2, target_pb2
from serving.messages import rule_from, sampling_from
from serving.ranges import MAX_SEQUENCES, check_ids, check_ranges
from target_service.caching import cache_spec
from target_service.defaults import DEFAULT_NEW_TOKENS, Config, fill

_MAX_LOGPROBS = 100
_MAX_REQUEST_ID = 128
# Fields that mean something under sampling only, and the values by which they are off.
_SAMPLING_ONLY = {
    "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "top_h": None,
    "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
}  # fmt: skip
# Fields that have no effect yet, and the values by which they are off.
_NOT_YET: dict[str, Any] = {
    "num_beams": 1, "length_penalty": 1.0, "early_stopping": 1, "num_beam_groups": 1, "diversity_penalty": 0.0,
    "penalty_alpha": 0.0, "guidance_scale": 1.0, "exponential_decay_length_penalty": None, "token_healing": False,
    "watermarking_config": None, "output_scores": False, "output_logits": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """One sequence that is to be generated."""

    index: int
    tokens: tuple[int, ...]  # prompt and generated_ids
    sampling: Sampling
    config: Config  # every default filled in; what the draft is told
    owner: str
    logprobs: int | None
    cache: CacheSpec | None = None  # how its row is quantized, if it is

    @property
    def max_length(self) -> int:
        """Prompt and generated tokens together."""
        return self.sampling.max_length


@dataclass(frozen=True, slots=True)
class Request:
    """A whole call."""

    seed: int
    rule: Rule
    prompts: tuple[tuple[int, ...], ...]
    plans: tuple[Plan, ...]


class Planner:
    """Turns requests into plans, for one model."""

    def __init__(self, model: LoadedModel, defaults: Config, capacity: int, can_quantize: bool = True) -> None:
        """can_quantize: the rows that sequences will have."""
        self._model, self._defaults, self._capacity = model, defaults, capacity
        self._can_quantize = can_quantize
        self._longest_token = max(map(len, model.tokenizer.get_vocab()), default=1)

    def request(self, message: target_pb2.GenerateRequest, credential: str) -> Request:
        """Checks and resolves a call.

        Raises:
            InvalidFieldError: a field cannot be honoured; it is named.
        """
        if len(message.request_id) > _MAX_REQUEST_ID:
            raise InvalidFieldError("request_id", f"is longer than {_MAX_REQUEST_ID} characters")
        if not message.prompts:
            raise InvalidFieldError("prompts", "there is none")
        if message.HasField("logprobs") and message.logprobs > _MAX_LOGPROBS:
            raise InvalidFieldError("logprobs", f"must be at most {_MAX_LOGPROBS}")
        config = fill(message.config, self._defaults)
        self._check(message.config, config)
        if len(message.prompts) * config.num_return_sequences > MAX_SEQUENCES:
            raise InvalidFieldError("num_return_sequences", f"more than {MAX_SEQUENCES} sequences in all", "prompts")
        cache = cache_spec(message.config, config, self._can_quantize)
        rule = _rule(message, config.do_sample)
        seed = message.seed if message.HasField("seed") else secrets.randbits(63)
        owner = hashlib.sha256(credential.encode()).hexdigest()[:32] if credential else ""
        prompts = tuple(self.prompt_ids(p) for p in message.prompts)
        plans: list[Plan] = []
        for prompt, given in zip(prompts, message.prompts, strict=True):
            tokens = (*prompt, *self._ids("generated_ids", given.generated_ids))
            full = self._with_lengths(config, message.config, len(prompt), len(tokens))
            for _ in range(config.num_return_sequences):
                sampling = sampling_from(
                    full, rule=rule, seed=seed, sequence_index=len(plans), prompt_length=len(prompt)
                )
                logprobs = message.logprobs if message.HasField("logprobs") else None
                plans.append(Plan(len(plans), tokens, sampling, full, owner, logprobs, cache))
        return Request(seed, rule, prompts, tuple(plans))

    def prompt_ids(self, prompt: generation_pb2.Prompt) -> tuple[int, ...]:
        """Token ids of a prompt.

        Raises:
            InvalidFieldError: it is empty, or has ids that are none.
        """
        tokenizer = self._model.tokenizer
        form = prompt.WhichOneof("content")
        ids: Sequence[int]
        if form == "text":
            self._refuse_endless(len(prompt.text))
            ids = tokenizer(prompt.text)["input_ids"]
        elif form == "token_ids":
            ids = prompt.token_ids.ids
        elif form == "chat":
            if not tokenizer.chat_template:
                raise InvalidFieldError("chat", "the model has no chat template; send text or token ids")
            self._refuse_endless(sum(len(m.content) for m in prompt.chat.messages))
            messages = [{"role": m.role, "content": m.content} for m in prompt.chat.messages]
            try:
                ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            except Exception as error:  # templates raise what they like, jinja's errors among them
                raise InvalidFieldError("chat", f"the model's chat template refuses it: {error}") from error
        else:
            raise InvalidFieldError("prompts", "a prompt is text, token ids or a conversation")
        if not ids:
            raise InvalidFieldError("prompts", "a prompt is empty; it takes at least one token")
        return self._ids("prompts", ids)

    def _refuse_endless(self, characters: int) -> None:
        """A text that cannot fit is not worth the time to take it apart."""
        if characters > self._capacity * self._longest_token:
            raise InvalidFieldError("prompts", f"has {characters} characters; the limit is {self._capacity} tokens")

    def _ids(self, field: str, ids: Sequence[int]) -> tuple[int, ...]:
        check_ids(field, ids, self._model.vocabulary.size)
        if len(ids) >= self._capacity:
            raise InvalidFieldError(field, f"has {len(ids)} tokens; with one more they must fit in {self._capacity}")
        return tuple(ids)

    def _check(self, asked: Config, config: Config) -> None:
        check_ranges(config, self._model.vocabulary.size)
        for name, off in _NOT_YET.items():
            if config.HasField(name) and getattr(config, name) != off:
                raise InvalidFieldError(name, "is not served yet; leave it out")
        if not config.do_sample:
            for name, off in _SAMPLING_ONLY.items():
                if asked.HasField(name) and getattr(asked, name) != off:
                    reason = "has no effect with do_sample=False; set do_sample=True or leave it out"
                    raise InvalidFieldError(name, reason, "do_sample")
            if config.num_return_sequences > 1:
                reason = "more than 1 with do_sample=False would all be equal"
                raise InvalidFieldError("num_return_sequences", reason, "do_sample")
        if asked.HasField("prompt_lookup_num_tokens") and asked.HasField("num_assistant_tokens"):
            reason = "asks for n-grams alone and says how many; leave num_assistant_tokens out"
            raise InvalidFieldError("prompt_lookup_num_tokens", reason, "num_assistant_tokens")
        self._check_bans(config)

    def _check_bans(self, config: Config) -> None:
        """A token that is forced and banned would leave none to choose."""
        forced = {
            "forced_bos_token_id": {config.forced_bos_token_id} if config.HasField("forced_bos_token_id") else set(),
            "forced_eos_token_id": set(config.forced_eos_token_id.ids),
        }
        banned = {
            "suppress_tokens": set(config.suppress_tokens.ids),
            "bad_words_ids": {entry.ids[0] for entry in config.bad_words_ids.values if len(entry.ids) == 1},
        }
        for force, ids in forced.items():
            for ban, others in banned.items():
                if ids and ids <= others:
                    raise InvalidFieldError(force, f"forces {sorted(ids)}, which {ban} bans", ban)
        for ban, others in banned.items():
            if len(others) >= self._model.vocabulary.size:
                raise InvalidFieldError(ban, "bans the whole vocabulary")

    def _with_lengths(self, config: Config, asked: Config, prompt: int, tokens: int) -> Config:
        """Lengths as transformers counts them: total, prompt included; 20 new tokens by default."""
        model, limit = self._defaults, self._capacity
        if asked.HasField("max_new_tokens"):
            field, total = "max_new_tokens", prompt + asked.max_new_tokens
        elif asked.HasField("max_length"):
            field, total = "max_length", asked.max_length
        elif model.HasField("max_new_tokens"):
            field, total = "max_new_tokens", min(prompt + model.max_new_tokens, limit)
        elif model.HasField("max_length"):
            field, total = "max_length", min(model.max_length, limit)
        else:
            field, total = "prompts", min(prompt + DEFAULT_NEW_TOKENS, limit)
        if total > limit:
            reason = f"prompt ({prompt}) and new tokens make {total}, the limit is {limit}"
            raise InvalidFieldError(field, reason, *(["prompts"] if field != "prompts" else []))
        if total <= tokens:
            raise InvalidFieldError(field, f"leaves no room: the sequence has {tokens} tokens, the limit is {total}")
        full = Config()
        full.CopyFrom(config)
        full.max_length = total
        full.ClearField("max_new_tokens")
        if not asked.HasField("min_new_tokens") and not asked.HasField("min_length"):
            full.min_new_tokens, full.min_length = model.min_new_tokens, model.min_length
        if max(full.min_length, prompt + full.min_new_tokens if full.min_new_tokens else 0) > total:
            least = "min_new_tokens" if full.min_new_tokens else "min_length"
            most = field if field != "prompts" else "max_new_tokens"
            raise InvalidFieldError(least, "is more than the maximum", most)
        return full


def _rule(message: target_pb2.GenerateRequest, do_sample: bool) -> Rule:
    asked = rule_from(message.sampling_rule)
    if not do_sample:
        if asked is not Rule.GREEDY:
            raise InvalidFieldError("sampling_rule", "has no effect with do_sample=False", "do_sample")
        return Rule.GREEDY
    if asked is not Rule.GREEDY:
        return asked
    return Rule.COUPLED if message.HasField("seed") else Rule.REJECTION


def credential(metadata: Any) -> str:
    """What the caller shows in the `authorization` header; it scopes the reuse of rows."""
    values = [str(value) for name, value in metadata or () if name == "authorization"]
    return values[0] if values else ""
