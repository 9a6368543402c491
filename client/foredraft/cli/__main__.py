"""`python -m foredraft.cli` is the command line."""

import sys

from foredraft.cli import main

if __name__ == "__main__":
    sys.exit(main())
