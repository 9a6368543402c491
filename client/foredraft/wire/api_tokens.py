"""API tokens: how one is made, what a service keeps of it, and which limits it can have."""

import hashlib
import re
import secrets
from collections.abc import Mapping

TOKEN_LIMITS = {
    "max_sequences": "sequences of its calls that wait or run at the same time",
    "tokens_per_minute": "tokens of prompts and answers in a minute",
    "max_prompt_tokens": "tokens of a prompt",
    "max_new_tokens": "tokens of an answer",
}
"""What a token can be limited in; a limit that is not set is none."""
TOKEN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what TOML takes for a key without quotes

_SECRET_BYTES = 32


def new_token() -> str:
    """Returns a token that nobody can guess. Its beginning lets scanners for secrets find it."""
    return f"foredraft-{secrets.token_urlsafe(_SECRET_BYTES)}"


def token_digest(token: str) -> str:
    """Returns what is stored of a token.

    One round of SHA-256 is enough: slow hashes with salts are for passwords, which can be guessed,
    and nobody tries 2**256 tokens.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def token_table(name: str, token: str, limits: Mapping[str, int]) -> str:
    """Returns the lines for a token in the file of `--api-tokens`."""
    lines = [f"[{name}]", f'sha256 = "{token_digest(token)}"']
    return "\n".join([*lines, *(f"{limit} = {most}" for limit, most in limits.items())]) + "\n"
