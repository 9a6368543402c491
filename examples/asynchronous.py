"""Completes many prompts at once, each in a call of its own, and prints them as they end."""

import asyncio
import os

from foredraft import AsyncClient, DeadlineExceededError

PROMPTS = [f"def function_{number}(self" for number in range(12)]
AT_ONCE = asyncio.Semaphore(8)


async def complete(client: AsyncClient, prompt: str) -> str:
    async with AT_ONCE:
        try:
            result = await client.generate(prompt, max_new_tokens=24, timeout=60)
            return prompt + result.text
        except DeadlineExceededError as error:  # what came until then is not lost
            return f"{prompt}{''.join(part.text for part in error.partial)} [{error}]"


async def main() -> None:
    async with AsyncClient(os.environ.get("FOREDRAFT_ADDRESS", "127.0.0.1:50052")) as client:
        await client.wait_until_ready(60)
        for text in asyncio.as_completed([complete(client, prompt) for prompt in PROMPTS]):
            print(repr(await text))


asyncio.run(main())
