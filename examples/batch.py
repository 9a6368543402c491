"""Samples two texts for each of several prompts in one call, and repeats them by their seed."""

import os

from foredraft import Client, GenerationConfig

PROMPTS = ["def main(", "class Stack:\n", "import os\n"]
CONFIG = GenerationConfig(do_sample=True, temperature=0.7, top_p=0.9, max_new_tokens=32)

with Client(os.environ.get("FOREDRAFT_ADDRESS", "127.0.0.1:50052")) as client:
    client.wait_until_ready(60)
    results = client.generate(PROMPTS, CONFIG, num_return_sequences=2, seed=1)
    for result in results:  # prompt by prompt
        print(f"--- {result.sequence_index}, ended by {result.finish_reason}")
        print(PROMPTS[result.sequence_index // 2] + result.text)
    again = client.generate(PROMPTS, CONFIG, num_return_sequences=2, seed=1)
    assert [result.text for result in again] == [result.text for result in results]
