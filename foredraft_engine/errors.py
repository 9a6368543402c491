"""What can go wrong here, as exceptions of the domain. Services turn them into gRPC status."""


class ModelError(Exception):
    """A model that cannot be loaded or served, with the reason and the way out in one line."""


class InvalidFieldError(ValueError):
    """A request whose field cannot be honoured, or that contradicts others:

    all of them are named.
    """

    def __init__(self, field: str, reason: str, *others: str) -> None:
        super().__init__(f"{' and '.join((field, *others))}: {reason}")
        self.field = field
        self.fields = (field, *others)
        self.reason = reason
