"""One line a record on stderr. Never prompts or outputs. Knows nothing of the services."""

import logging
import sys


def set_up(service: str) -> None:
    """Logs to stderr, with the service's name in every line."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s {service} %(name)s: %(message)s",
    )
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.WARNING)
