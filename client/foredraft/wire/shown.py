"""Values as errors show them."""

import reprlib

_REPR = reprlib.Repr()
_REPR.maxlevel = 6
_REPR.maxdict = _REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = 20
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200


def shown(value: object) -> str:
    """Returns the `repr` of a value, with dots for what is too long or too deep to be read."""
    return _REPR.repr(value)
