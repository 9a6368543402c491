"""The exceptions of the engine. Services turn them into gRPC status codes."""


class ModelError(Exception):
    """A model cannot be loaded or served. The message names the reason and the way out."""


class InvalidFieldError(ValueError):
    """A field of a request cannot be honoured, or contradicts other fields.

    Attributes:
        field: name of the field.
        fields: names of that field and of those it contradicts.
        reason: what is wrong, and the way out.
    """

    def __init__(self, field: str, reason: str, *others: str) -> None:
        super().__init__(f"{' and '.join((field, *others))}: {reason}")
        self.field = field
        self.fields = (field, *others)
        self.reason = reason


class BrokenLogitsError(Exception):
    """The model's own logits are no numbers that a token can be chosen by."""


class DeviceMemoryError(Exception):
    """The device has too little memory for what one sequence asks of it."""


class DeviceLostError(Exception):
    """The device, or the thread that uses it, is gone; the process has to start anew."""


class LateStartError(Exception):
    """A sequence got its turn when its caller had too little time left for it."""
