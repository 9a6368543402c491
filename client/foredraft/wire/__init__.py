"""What the SDK and the services share: generation fields, their values on the wire, and limits.

It needs neither torch nor transformers.
"""

from foredraft.wire.config import config_from, config_message
from foredraft.wire.field import Applier, Field, Kind, Range, Scope
from foredraft.wire.generation_fields import GENERATION_FIELDS
from foredraft.wire.unsupported_fields import UNSUPPORTED_FIELDS, UnsupportedField
from foredraft.wire.values import read, read_early_stopping, write, write_watermark

__all__ = [
    "GENERATION_FIELDS",
    "UNSUPPORTED_FIELDS",
    "Applier",
    "Field",
    "Kind",
    "Range",
    "Scope",
    "UnsupportedField",
    "config_from",
    "config_message",
    "read",
    "read_early_stopping",
    "write",
    "write_watermark",
]
