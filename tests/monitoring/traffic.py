"""Callers of a target service, each a thread that calls again and again until it is stopped."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from foredraft import Client, ForedraftError

Call = Callable[[Client], object]


def mixed(client: Client) -> None:
    """Calls greedily, sampled under both rules, with its own draft length, by n-grams, and without
    a draft.
    """
    client.generate("def main(", max_new_tokens=48, eos_token_id=[])
    client.generate(
        "class Parser:", max_new_tokens=32, do_sample=True, temperature=0.7, seed=1, eos_token_id=[]
    )
    client.generate(
        ["import os", "x = 1"], max_new_tokens=24, do_sample=True, num_assistant_tokens=5
    )
    client.generate("a b a b a b", max_new_tokens=16, prompt_lookup_num_tokens=4)


def fixed(client: Client) -> None:
    """Asks for five drafted tokens in every round, whatever becomes of them."""
    client.generate("def main(", max_new_tokens=48, num_assistant_tokens=5, eos_token_id=[])


def impatient(client: Client) -> None:
    """Gives up long before the end."""
    client.generate("def main(", max_new_tokens=1500, eos_token_id=[], timeout=0.2)


def long(client: Client) -> None:
    """Holds a row for seconds."""
    client.generate("def main(", max_new_tokens=600, num_assistant_tokens=0, eos_token_id=[])


@contextmanager
def callers(
    address: str, call: Call, count: int = 1, registry: CollectorRegistry | None = None
) -> Iterator[None]:
    """Runs callers for the time of the context."""
    over = threading.Event()
    with Client(address, registry=registry or CollectorRegistry()) as client:

        def run() -> None:
            while not over.is_set():
                try:
                    call(client)
                except ForedraftError:
                    over.wait(0.1)

        threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
    for thread in threads:  # the client is closed: what runs has ended
        thread.join()
