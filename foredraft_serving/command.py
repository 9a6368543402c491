"""Starts a service, or says in one line what the operator has to mend.

`pip install foredraft` is the SDK, and brings the services' code without what they run on. This
module imports nothing of that: a missing package is one line and no traceback, and a wrong flag is
told at once instead of after torch was imported.
"""

import importlib
import os
import sys

from foredraft_serving.settings import SettingsError, read

_OURS = frozenset(
    ["foredraft", "foredraft_engine", "foredraft_serving", "draft_service", "target_service"]
)


def start(service: str) -> int:
    """Runs a service until it ends; returns the exit code. service: "draft" or "target"."""
    try:
        kind = importlib.import_module(f"{service}_service.settings").SETTINGS
        settings = read(kind, f"FOREDRAFT_{service.upper()}_", sys.argv[1:], os.environ)
        module = importlib.import_module(f"{service}_service.serve")
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
