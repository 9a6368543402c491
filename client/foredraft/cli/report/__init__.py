"""The report of one call: a page that shows its rounds on a time line.

It is one HTML file, without scripts, that requests nothing from anywhere.
"""

from foredraft.cli.report.page import Call, page
from foredraft.cli.report.rounds import rounds_of, texts_of_ids

__all__ = ["Call", "page", "rounds_of", "texts_of_ids"]
