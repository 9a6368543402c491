"""The names that metrics have in vLLM."""

from collections.abc import Mapping
from types import MappingProxyType

VLLM: Mapping[str, str] = MappingProxyType(
    {
        "foredraft_kv_cache_usage_ratio": "vllm:kv_cache_usage_perc",
        "foredraft_step_tokens": "vllm:iteration_tokens_total",
        **{
            f"foredraft_{name}": f"vllm:{name}"
            for name in (
                "num_requests_running",
                "num_requests_waiting",
                "request_success_total",
                "prompt_tokens_total",
                "generation_tokens_total",
                "prefix_cache_queries_total",
                "prefix_cache_hits_total",
                "request_prompt_tokens",
                "request_generation_tokens",
                "request_queue_time_seconds",
                "request_prefill_time_seconds",
                "request_decode_time_seconds",
                "time_to_first_token_seconds",
                "inter_token_latency_seconds",
                "e2e_request_latency_seconds",
                "spec_decode_num_drafts_total",
                "spec_decode_num_draft_tokens_total",
                "spec_decode_num_accepted_tokens_total",
                "spec_decode_num_accepted_tokens_per_pos_total",
            )
        },
    }
)
"""The names of vLLM by ours, where vLLM has the signal, for people who bring their dashboards."""

_COUNTED_OTHERWISE = frozenset(
    (
        "foredraft_num_requests_running",  # whole calls, those among them that wait
        "foredraft_request_success_total",  # has reasons of its own
        "foredraft_inter_token_latency_seconds",  # a token's share; vLLM times whole outputs
    )
)

VLLM_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        **{ours: theirs for ours, theirs in VLLM.items() if ours not in _COUNTED_OTHERWISE},
        "foredraft_rows_in_use": "vllm:num_requests_running",
        "foredraft_inter_chunk_seconds": "vllm:inter_token_latency_seconds",
    }
)
"""The names of vLLM by ours, where both count the same, for programs that know vLLM's alone."""
