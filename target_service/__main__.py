"""Runs the target service: `foredraft-target`, or `python -m target_service`."""

import sys

from foredraft_serving.command import start


def main() -> int:
    """Starts the service; returns the exit code."""
    return start("target")


if __name__ == "__main__":
    sys.exit(main())
