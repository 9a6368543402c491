"""Finds the device that a service runs on."""

import logging

import torch

from foredraft_engine.errors import ModelError

log = logging.getLogger(__name__)


def device_of(name: str) -> torch.device:
    """Returns a device of torch that can be used.

    Args:
        name: torch's name for it; "auto" for the first GPU, or the CPU if there is none.

    Raises:
        ModelError: it cannot be used, or these are several.
    """
    if "," in name:
        raise ModelError(
            f"device {name!r}: a service runs on one device; give one, and start a target service "
            "for each GPU: clients take several addresses"
        )
    chosen = _best() if name == "auto" else name
    try:
        place = torch.device(chosen)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith("Expected one of"):  # each kind that torch was ever built for
            reason = "torch has no such device"
        raise ModelError(
            f"device {name!r} cannot be used: {reason}; use cpu, or cuda if the machine has a GPU"
        ) from error
    if name == "auto":
        log.info("device: %s, of %d GPUs that torch sees", place, torch.cuda.device_count())
    return place


def _best() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
