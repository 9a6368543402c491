"""The account that a call is made for, as far as the caller has proved it.

This module knows nothing of how that is proved.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from foredraft_serving.access.api_tokens import NO_LIMITS, Limits


@dataclass(frozen=True, slots=True)
class Account:
    """One whose calls count together."""

    name: str = ""
    """The name of a token, or in a certificate; empty where the service asks for neither."""
    limits: Limits = NO_LIMITS
    token_digest: str = ""
    """The hash of the token; empty if none was asked for."""


ACCOUNT: ContextVar[Account] = ContextVar("account")
_NOBODY = Account()


def account() -> Account:
    """Returns the account of the call that is being handled."""
    return ACCOUNT.get(_NOBODY)
