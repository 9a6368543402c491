"""Chat templates that behave as those of well-known models, in short.

Each is written for these tests: what it reads of a conversation, what it refuses and what it drops
is what the model's own template does.
"""

CHATML = """{%- for m in messages -%}
{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""

# Roles that it does not know are dropped, reasoning of earlier turns too, and thinking can be off.
QWEN3 = """{%- if tools -%}
<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif -%}
# Tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% elif messages[0].role == 'system' -%}
<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif -%}
{%- for m in messages -%}
{%- set content = m.content if m.content is string else '' -%}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) -%}
{{ '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>' + '\\n' }}
{%- elif m.role == 'assistant' -%}
{{ '<|im_start|>assistant\\n' }}
{%- if loop.last and m.reasoning_content is string -%}
{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}
{%- endif -%}
{{ content }}
{%- for call in m.tool_calls or [] -%}
{%- set call = call.function if call.function else call -%}
{{ '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
{{- call.arguments if call.arguments is string else call.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>' + '\\n' }}
{%- elif m.role == 'tool' -%}
{{ '<|im_start|>user\\n<tool_response>\\n' + content + '\\n</tool_response><|im_end|>' + '\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{ '<think>\\n\\n</think>\\n\\n' }}
{%- endif -%}
{%- endif -%}"""

# Any role is a header; contents are stripped; one call of a tool at a time.
LLAMA3 = """{%- set tools_shown = tools is defined and tools is not none -%}
{{ bos_token }}
{%- if tools_shown -%}
{{ '<|start_header_id|>system<|end_header_id|>\\n\\nEnvironment: ipython\\n' }}
{%- for tool in tools -%}{{ tool | tojson(indent=4) + '\\n\\n' }}{%- endfor -%}
{{ '<|eot_id|>' }}
{%- endif -%}
{%- for m in messages -%}
{%- if 'tool_calls' in m -%}
{%- if m.tool_calls | length != 1 -%}
{{ raise_exception('This model only supports single tool-calls at once!') }}
{%- endif -%}
{%- set call = m.tool_calls[0].function -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", ' }}
{{- '"parameters": ' + (call.arguments | tojson) + '}<|eot_id|>' }}
{%- elif m.role == 'tool' or m.role == 'ipython' -%}
{{ '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}
{{- m.content | tojson if m.content is mapping or m.content is iterable and m.content is not string
    else m.content }}
{{- '<|eot_id|>' }}
{%- else -%}
{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif -%}"""

# User and assistant take turns, or it raises; the system message joins the last user's; ids of
# calls have nine letters.
MISTRAL = """{%- set talk = messages[1:] if messages[0].role == 'system' else messages -%}
{{ bos_token }}
{%- for m in talk -%}
{%- if m.role == 'user' -%}
{%- if loop.index0 and talk[loop.index0 - 1].role == 'user' -%}
{{ raise_exception('conversation roles must alternate user/assistant') }}
{%- endif -%}
{%- if tools and loop.last -%}
{{ '[AVAILABLE_TOOLS] [' }}
{%- for tool in tools -%}
{{ '{"type": "function", "function": ' + tool.function | tojson + '}' }}
{{- ', ' if not loop.last }}
{%- endfor -%}
{{ '][/AVAILABLE_TOOLS]' }}
{%- endif -%}
{{ '[INST] ' }}
{%- if loop.last and messages[0].role == 'system' -%}
{{ messages[0].content + '\\n\\n' }}
{%- endif -%}
{{ m.content + '[/INST]' }}
{%- elif m.tool_calls -%}
{{ '[TOOL_CALLS] [' }}
{%- for call in m.tool_calls -%}
{%- if call.id is not defined or call.id | length != 9 -%}
{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}
{%- endif -%}
{%- set out = call.function | tojson -%}
{{ out[:-1] + ', "id": "' + call.id + '"}' }}{{ ', ' if not loop.last }}
{%- endfor -%}
{{ ']' + eos_token }}
{%- elif m.role == 'assistant' -%}{{ ' ' + m.content | trim + eos_token }}
{%- elif m.role == 'tool' -%}
{{ '[TOOL_RESULTS] {"content": ' + m.content | string + ', "call_id": "' + m.tool_call_id + '"}' }}
{{- '[/TOOL_RESULTS]' }}
{%- else -%}
{{ raise_exception('Only user and assistant roles are supported') }}
{%- endif -%}
{%- endfor -%}"""

# Contents are text or parts, as for models that also see; who speaks may have a name.
PARTS = """{%- for m in messages -%}
{{ '<|' + m.role + '|>' + (m.name + ': ' if m.name else '') }}
{%- if m.content is string -%}{{ m.content }}
{%- else -%}
{%- for part in m.content -%}{{ '[' + part.text + ']' }}{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"""

TEMPLATES = {
    "ChatML": CHATML,
    "Qwen3": QWEN3,
    "Llama 3": LLAMA3,
    "Mistral": MISTRAL,
    "parts": PARTS,
}
