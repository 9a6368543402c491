"""Asks the model hub once whether it answers, since each file that it is asked for in vain takes
half a minute of retries.

This module knows nothing of what a repository holds.
"""

import logging
from pathlib import Path

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    is_offline_mode,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from foredraft_engine.errors import ModelError

log = logging.getLogger(__name__)

_ANSWER_S = 10.0


def hub_place(name: str, file: str, revision: str | None = None) -> str:
    """Returns what to load a repository from: its hub id, or the directory of an earlier download
    if the hub does not answer.

    Args:
        name: the hub id.
        file: the name of a file that the repository has to have.
        revision: the revision on the hub.

    Raises:
        ModelError: the hub does not answer, and nothing was downloaded before.
    """
    if not (reason := _silence(name, file, revision)):
        return name
    kept = try_to_load_from_cache(name, file, revision=revision)
    if not isinstance(kept, str):
        raise ModelError(
            f"cannot load {name!r}: {reason}, and no earlier download is here; give a directory, "
            "or a network to download by"
        )
    log.info("%s: %s; taken is an earlier download", name, reason)
    return str(Path(kept).parent)


def _silence(name: str, file: str, revision: str | None) -> str:
    """Returns why the hub does not answer; empty if it does, or if the name is no hub id."""
    if is_offline_mode():
        return "HF_HUB_OFFLINE keeps the model hub from being asked"
    hub = constants.ENDPOINT
    try:
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision), timeout=_ANSWER_S)
    except HFValidationError:
        return ""
    except HfHubHTTPError as error:
        return f"the model hub {hub} says {error.response.status_code}" if _is_down(error) else ""
    except Exception as error:  # the client of HTTP has errors of its own for each step
        return f"the model hub {hub} does not answer ({error})"
    return ""


def _is_down(error: HfHubHTTPError) -> bool:
    return error.response is not None and error.response.status_code >= 500
