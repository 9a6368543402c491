"""Calls that together use every generation field, under every rule that it goes with.

They come from the table of fields, so that a new field is called for without being named here.
"""

from typing import Any

from foredraft.wire import Field, Scope
from tests.unit.test_generation_fields import EXAMPLES

PROMPT = "def main(argv):\n    parser = argparse.Argu"
NEW_TOKENS = 6
EOS = list(range(0, 4096, 16))
# A text by the rejection rule depends on the proposals, whose length is therefore set.
RULES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "rejection": {
        "do_sample": True,
        "sampling_rule": "rejection",
        "seed": 3,
        "num_assistant_tokens": 3,
    },
    "coupled": {"do_sample": True, "sampling_rule": "coupled", "seed": 3},
    "beams": {"num_beams": 3},
    "sampled beams": {"num_beams": 3, "do_sample": True, "seed": 3},
}
# Where the example of a field's kind asks for nothing, or for what is refused.
VALUES: dict[str, Any] = {
    "max_length": 24,
    "max_time": 600.0,
    "min_length": 13,
    "num_beam_groups": 2,
    "guidance_scale": 1.7,
    "repetition_penalty": 1.5,
    "cache_implementation": "quantized",
}
LONG = list(range(40, 76))
# What a field needs beside it.
BESIDE: dict[str, dict[str, Any]] = {
    "max_length": {"max_new_tokens": None},
    "min_length": {"inputs": LONG[:9], "eos_token_id": EOS},
    "min_new_tokens": {"eos_token_id": EOS},
    "exponential_decay_length_penalty": {"eos_token_id": EOS},
    "bad_words_ids": {"eos_token_id": EOS},
    "response_format": {"eos_token_id": EOS},
    "forced_bos_token_id": {"inputs": [5]},
    "do_sample": {"seed": 3},
    "num_return_sequences": {"do_sample": True, "seed": 3},
    "num_beam_groups": {"num_beams": 4, "diversity_penalty": 1.0},
    "diversity_penalty": {"num_beams": 4, "num_beam_groups": 2},
    "pad_token_id": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
    "penalty_alpha": {"top_k": 4},
    "num_assistant_tokens_schedule": {"num_assistant_tokens": 4},
    "assistant_confidence_threshold": {"num_assistant_tokens": 4},
    "max_matching_ngram_size": {"prompt_lookup_num_tokens": 3},
    "cache_config": {"cache_implementation": "quantized"},
}

# Calls that are more than a rule and a field.
GREEN: dict[str, Any] = {"bias": 4.0}
SYNTH_ID: dict[str, Any] = {"ngram_len": 5, "keys": [654, 400, 836]}
SEEDED: dict[str, Any] = {"do_sample": True, "seed": 5}
OTHERS: dict[str, dict[str, Any]] = {
    "prompts with one beginning": {"inputs": [LONG, LONG, LONG[:30]]},
    "sequences of one prompt": {"inputs": LONG, "num_return_sequences": 3, **SEEDED},
    "best of beams": {"num_beams": 4, "num_return_sequences": 4, "early_stopping": True},
    "resumed": {"generated_ids": [9, 17, 5], "repetition_penalty": 1.3},
    "many alternatives": {"num_assistant_tokens": 8, "assistant_confidence_threshold": 0.0},
    "log-probabilities": {"logprobs": 3, "output_scores": True, "output_logits": True},
    "scores of samples": {"output_scores": True, **SEEDED, "top_k": 12, "logprobs": 2},
    "guided": {"guidance_scale": 1.7, "negative_prompt": "import os"},
    "guided samples": {"guidance_scale": 1.7, **SEEDED, "num_assistant_tokens": 3},
    "green list, left": {"watermarking_config": GREEN},
    "green list, self": {"watermarking_config": {**GREEN, "seeding_scheme": "selfhash"}},
    "SynthID": {"watermarking_config": SYNTH_ID, **SEEDED},
    "SynthID, beams": {"watermarking_config": SYNTH_ID, **SEEDED, "num_beams": 3},
    "all warpers": {
        **SEEDED,
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.01,
        "typical_p": 0.9,
        "epsilon_cutoff": 1e-4,
        "eta_cutoff": 1e-4,
        "renormalize_logits": True,
    },
}
# Ways to generate over a quantized cache, whose rows of the CPU's text are long enough for groups.
QUANTIZED: dict[str, dict[str, Any]] = {
    "greedy": {},
    "n-grams": {"prompt_lookup_num_tokens": 3},
    "sequences": {"num_return_sequences": 2, **SEEDED},
    "beams": {"num_beams": 3},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "guided": {"guidance_scale": 1.5, "negative_prompt": [5, 6]},
}


def calls_of(field: Field) -> dict[str, dict[str, Any]]:
    """Returns calls with a field under every rule, if it changes what is drawn from."""
    rules = RULES
    if not field.in_sampling and field.scope is Scope.EVERY_CALL:
        rules = {name: RULES[name] for name in ("greedy", "beams")}
    value = VALUES.get(field.name, EXAMPLES[field.kind])
    beside = BESIDE.get(field.name, {})
    values = field.choices or (value,)
    return {
        f"{rule}, {value}": {**fields, **beside, field.name: value}
        for rule, fields in rules.items()
        for value in values
    }
