"""The file of API tokens: a table of TOML for each, with the token's hash and its limits.

    [alice]
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    max_sequences = 4

This module knows nothing of calls.
"""

import hmac
import re
import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from foredraft.wire.api_tokens import TOKEN_LIMITS, TOKEN_NAME, token_digest
from foredraft_serving.access.watched_file import watched_file

UNLIMITED = sys.maxsize
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may take at most, under the names of `TOKEN_LIMITS`."""

    max_sequences: int = UNLIMITED
    tokens_per_minute: int = UNLIMITED
    max_prompt_tokens: int = UNLIMITED
    max_new_tokens: int = UNLIMITED


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What a service knows of a token."""

    name: str
    digest: str = field(repr=False)
    limits: Limits = NO_LIMITS


class ApiTokens:
    """The tokens of a file, which is read again while the service runs."""

    def __init__(self, path: str, limits: Collection[str] = frozenset(TOKEN_LIMITS)) -> None:
        """Reads the file.

        Args:
            limits: those that the service keeps to; others are refused.

        Raises:
            SettingsError: the file cannot be used.
        """
        parse = partial(parse_tokens, limits=limits)
        self._file = watched_file("--api-tokens", path, parse)

    def find(self, shown: str) -> ApiToken | None:
        """Returns the token that a caller shows, None if there is none like it."""
        digest, found = token_digest(shown), None
        # Each one is compared, and in constant time, so that time tells nothing of any.
        for token in self._file.current():
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def parse_tokens(text: str, limits: Collection[str]) -> tuple[ApiToken, ...]:
    """Returns the tokens that a text holds; an empty one holds none, and nobody is served.

    Args:
        limits: those that a token may have.

    Raises:
        ValueError: the text is not of this form; the message says where.
    """
    tokens = tuple(_token(name, table, limits) for name, table in tomllib.loads(text).items())
    names: dict[str, str] = {}
    for token in tokens:
        if (other := names.setdefault(token.digest, token.name)) != token.name:
            raise ValueError(f"{other} and {token.name} have the same sha256")
    return tokens


def _token(name: str, table: Any, limits: Collection[str]) -> ApiToken:
    if not TOKEN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: it has letters, digits, - and _, 64 at most")
    if not isinstance(table, Mapping):
        raise ValueError(f"{name} is no table: each token has one, [{name}] with its sha256")
    digest, given = table.get("sha256"), {n: v for n, v in table.items() if n != "sha256"}
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{name}: sha256 has to be 64 hexadecimal digits in lower case")
    for limit, most in given.items():
        if limit not in limits:
            raise ValueError(f"{name}: there is no {limit} here; limits are {', '.join(limits)}")
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise ValueError(f"{name}: {limit} has to be a whole number from 1 on")
    return ApiToken(name, digest, Limits(**given))
