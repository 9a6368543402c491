"""Lets the model call a function: its calls are read out of its text, as Qwen writes them."""

import json
import os
import re
from typing import Any

from foredraft import Client

NUMBERS = {"a": {"type": "integer"}, "b": {"type": "integer"}}
SCHEMA = {"name": "multiply", "parameters": {"type": "object", "properties": NUMBERS}}
TOOLS = {"multiply": lambda a, b: a * b}
CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)

talk: list[dict[str, Any]] = [{"role": "user", "content": "What is 17 times 23?"}]
with Client(os.environ.get("FOREDRAFT_ADDRESS", "127.0.0.1:50052")) as client:
    client.wait_until_ready(60)
    for _ in range(4):
        tools = [{"type": "function", "function": SCHEMA}]
        text = client.generate(talk, tools=tools, max_new_tokens=128).text
        print(text)
        calls = [json.loads(call) for call in CALL.findall(text)]
        if not calls:
            break
        talk += [{"role": "assistant", "tool_calls": [{"function": call} for call in calls]}]
        for call in calls:
            answer = TOOLS[call["name"]](**call["arguments"])
            talk += [{"role": "tool", "name": call["name"], "content": json.dumps(answer)}]
