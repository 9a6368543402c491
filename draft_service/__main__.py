"""Runs the draft service: `foredraft-draft`, or `python -m draft_service`."""

import sys

from foredraft_serving.command import start


def main() -> int:
    """Starts the service; returns the exit code."""
    return start("draft")


if __name__ == "__main__":
    sys.exit(main())
