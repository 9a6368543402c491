"""Streams a completion, and says how much of it a draft foresaw."""

import os
import sys

from foredraft import Client

PROMPT = sys.argv[1] if len(sys.argv) > 1 else "def main("

with Client(os.environ.get("FOREDRAFT_ADDRESS", "127.0.0.1:50052")) as client:
    client.wait_until_ready(60)
    print(PROMPT, end="")
    with client.stream(PROMPT, max_new_tokens=64) as stream:
        for chunk in stream:
            print(chunk.text, end="", flush=True)
    stats = stream.result.stats
    print(f"\n\n{stats.accepted} of {stats.proposed} drafted tokens were accepted;", end=" ")
    print(f"a forward pass made {stats.mean_acceptance_length:.2f} tokens")
