"""One file of a model, which a model may lack.

This module knows nothing of what is in files.
"""

from pathlib import Path

from transformers.utils import cached_file


def model_file(name: str, file: str, revision: str | None = None) -> Path | None:
    """Returns where a file of a model is; None if the model has none, or if the hub cannot be
    asked, which loading the weights tells.

    Args:
        name: the model directory or hub id.
        file: the name of the file.
        revision: the revision on the hub.
    """
    try:
        found = cached_file(
            name, file, revision=revision, _raise_exceptions_for_missing_entries=False
        )
    except OSError:
        return None
    return Path(found) if found else None
