"""Plans as the service would make them, for tests that run a strategy without the wire."""

from collections.abc import Sequence
from typing import Any

from foredraft.v1 import target_pb2
from foredraft.wire import write
from foredraft_engine.sampling import Rule
from foredraft_serving.messages import sampling_from
from target_service.request.defaults import Config, fill
from target_service.request.identity import Identity
from target_service.request.plan import Plan, Request
from target_service.request.planner import Planner


def plan(
    tokens: Sequence[int],
    new_tokens: int,
    *,
    rule: Rule = Rule.GREEDY,
    seed: int = 0,
    **fields: Any,
) -> Plan:
    """Returns a plan for one sequence; fields are those of GenerationConfig."""
    asked = Config()
    for name, value in fields.items():
        write(asked, name, value)
    config = fill(asked, Config())
    config.max_length = len(tokens) + new_tokens
    sampling = sampling_from(
        config, rule=rule, seed=seed, sequence_index=0, prompt_length=len(tokens)
    )
    return Plan(0, tuple(tokens), sampling, config, Identity("", ""), None)


def planned(planner: Planner, message: target_pb2.GenerateRequest) -> Request:
    """Plans a request by all stages but token healing."""
    checked = planner.checked(message, Identity("", ""))
    return planner.planned(checked, checked.parsed.prompts)
