"""The table of what other programs call the parameters of generation: OpenAI's API, vLLM, TGI,
llama.cpp.

Nothing is taken under another name, since the values often differ as well: a refusal says what to
write. This module knows nothing of requests.
"""

_FORMAT = "is response_format here, as OpenAI has it: {'type': 'json_schema', 'json_schema': ...}"
_GRAMMAR = "is response_format={'type': 'grammar', 'grammar': ...} here"
_NO_CALLS = "is not offered: the model chooses, and its calls are in the text of the result"
_TEMPLATE = "is a variable of chat templates: chat_template_kwargs={name: value}"
_FIRST = "is the first argument here: client.generate(prompt, ...)"

HINTS = {
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "n_predict"), "is max_new_tokens here"),
    **dict.fromkeys(("stop", "stop_sequences", "stop_words"), "is stop_strings here"),
    **dict.fromkeys(("repeat_penalty", "repetition"), "is repetition_penalty here"),
    **dict.fromkeys(("beam_width", "use_beam_search", "beams"), "is num_beams here"),
    **dict.fromkeys(("random_seed", "manual_seed", "sampling_seed"), "is seed here"),
    **dict.fromkeys(("top_logprobs", "top_n_tokens", "n_probs"), "is logprobs here"),
    **dict.fromkeys(("structured_outputs", "json_schema", "guided_json"), _FORMAT),
    "guided_regex": "is response_format={'type': 'regex', 'regex': ...} here",
    "guided_choice": "is response_format={'type': 'choice', 'choice': [...]} here",
    **dict.fromkeys(("guided_grammar", "grammar"), _GRAMMAR),
    **dict.fromkeys(("tool_choice", "parallel_tool_calls", "function_call"), _NO_CALLS),
    **dict.fromkeys(("prompt", "prompts", "messages", "text"), _FIRST),
    **dict.fromkeys(("enable_thinking", "reasoning_effort"), _TEMPLATE),
    "functions": "is tools here",
    "suffix": "is not offered: a text goes on at the end of its prompt",
    "echo": "is not offered: a text is what was generated; put the prompt before it",
    "extra_body": "is not needed: what it would hold are arguments of the call",
    "user": "is not offered; Client(metadata=...) sends headers with each call",
    "n": "is num_return_sequences here",
    "min_tokens": "is min_new_tokens here",
    "stop_token_ids": "is eos_token_id here",
    "ignore_eos": "is eos_token_id=[] here: no token ends the text then",
    "bad_words": "is bad_words_ids here: lists of token ids",
    "typical": "is typical_p here",
    "num_speculative_tokens": "is num_assistant_tokens here",
    "best_of": "is num_return_sequences here; rank the results by their logprobs",
    "stream": "is a call of its own here: client.stream(prompt, ...)",
    "model": "is what the service has loaded; client.info().model names it",
    "add_generation_prompt": "is always so here, unless continue_final_message=True",
    "skip_special_tokens": "is always so in generated text; client.decode(ids) shows them",
}
"""What to write here in place of a parameter's name elsewhere."""
