"""The command line: `foredraft generate`, `chat`, `info`, `configs`, `gateway` and
`token`.

It knows nothing that the client does not. With the extra `cli` it shows colours on a terminal.
"""

from foredraft.cli.command import main

__all__ = ["main"]
