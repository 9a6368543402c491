"""Starts a service, or says in one line what the operator has to mend.

`pip install foredraft` is the SDK, and brings the services' code without what they run on. This
module imports nothing of that: a missing package is one line and no traceback, and a wrong flag is
told at once instead of after torch was imported.
"""

import gc
import importlib
import logging
import os
import sys

from foredraft_engine.model.read_ahead import read_ahead
from foredraft_engine.unused_packages import unused_packages_hidden
from foredraft_serving.logs import adopt, fields, seconds_since_start, set_up
from foredraft_serving.settings import SettingsError, read

log = logging.getLogger(__name__)

_OURS = frozenset(
    ["foredraft", "foredraft_engine", "foredraft_serving", "draft_service", "target_service"]
)


def start(service: str) -> int:
    """Runs a service until it ends; returns the exit code. service: "draft" or "target"."""
    try:
        module = importlib.import_module(f"{service}_service.settings")
        prefix = f"FOREDRAFT_{service.upper()}_"
        settings = read(module.SETTINGS, prefix, sys.argv[1:], os.environ)
        module.check(settings)
        set_up(service, settings.log_level, settings.log_format)
        if settings.log_format == "json" or not sys.stderr.isatty():
            os.environ.setdefault("TQDM_DISABLE", "1")  # bars of whatever loads weights
        read_ahead(settings.model or "")
        # What is imported stays: looking for garbage in it took a sixth of the imports' time.
        gc.disable()
        with unused_packages_hidden():
            module = importlib.import_module(f"{service}_service.serve")
        gc.freeze()
        gc.enable()
        adopt("huggingface_hub", "transformers")
        log.info(
            "torch and transformers are imported",
            extra=fields(phase="import", seconds=round(seconds_since_start(), 3)),
        )
    except SettingsError as error:
        return _refused(service, str(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        return _refused(service, f'{error.name} is not installed; pip install "foredraft[server]"')
    return int(module.main(settings))


def _refused(service: str, reason: str) -> int:
    print(f"{service} service: {reason}", file=sys.stderr)
    return 1
