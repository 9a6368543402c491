"""The settings of a service: a frozen dataclass, filled once from flags, environment and defaults.

Each field of the dataclass is a flag (`--metrics-listen`) and an environment variable
(`FOREDRAFT_TARGET_METRICS_LISTEN`). A flag goes before the environment, the environment before the
default. Names that are no field are refused, so that a typing error does not run a service with a
default. This module knows nothing of what settings mean.
"""

import argparse
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from foredraft_serving.foreign_flags import refused_flag

S = TypeVar("S")
_KINDS: dict[type, str] = {int: "whole number", float: "number", str: "text"}


class SettingsError(Exception):
    """A setting that is unknown or does not parse."""


def setting(
    default: Any,
    help: str,
    choices: Sequence[str] = (),
    at_least: float | None = None,
    at_most: float = math.inf,
    needs: Sequence[str] = (),
) -> Any:
    """Declares a field of a settings dataclass.

    Args:
        help: the text of `--help`.
        at_least, at_most: the smallest and the largest value of a number.
        needs: the settings without which it does nothing.
    """
    allowed = {"choices": tuple(choices), "at_least": at_least, "at_most": at_most}
    return dataclasses.field(default=default, metadata={"help": help, "needs": needs, **allowed})


def check_needs(settings: Any) -> None:
    """Refuses a setting that does nothing, since another one is not given.

    Raises:
        SettingsError: there is one.
    """
    for field in dataclasses.fields(settings):
        if getattr(settings, field.name) == field.default:
            continue
        for needed in field.metadata["needs"]:
            if not getattr(settings, needed):
                flag, other = _flag(field.name), _flag(needed)
                raise SettingsError(f"{flag} does nothing without {other}: give both, or neither")


def read(kind: type[S], prefix: str, argv: Sequence[str], environ: Mapping[str, str]) -> S:
    """Builds the settings.

    Args:
        prefix: the prefix of the environment variables, such as "FOREDRAFT_TARGET_".

    Raises:
        SettingsError: a variable with the prefix is no setting, or a value makes no sense.
        SystemExit: argparse refuses a flag, or shows the help.
    """
    if foreign := refused_flag(argv):
        raise SettingsError(foreign)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types_ = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    named = {key: _flag(key) for key in fields}
    for name, text in environ.items():
        if name.startswith(prefix):
            key = name.removeprefix(prefix).lower()
            if key not in fields:
                raise SettingsError(
                    f"{name}: no such setting; settings are {', '.join(sorted(fields))}"
                )
            values[key] = _parse(name, types_[key], text)
            named[key] = name
    given = _given(_parser(kind, prefix, fields, types_), argv, list(map(_flag, fields)))
    values |= given
    named |= {key: _flag(key) for key in given}
    for key, value in values.items():
        if (choices := fields[key].metadata.get("choices")) and value not in choices:
            raise SettingsError(f"{named[key]}: {value!r} is not one of {', '.join(choices)}")
        least, most = (fields[key].metadata.get(end) for end in ("at_least", "at_most"))
        # The comparison is written so that it refuses NaN, too.
        if least is not None and not (least <= value < math.inf and value <= most):
            end = "on" if most == math.inf else f"to {most:g}"
            raise SettingsError(f"{named[key]}: {value!r} is not a number from {least:g} {end}")
    return kind(**values)


def _parser(
    kind: type, prefix: str, fields: Mapping[str, Any], types_: Mapping[str, Any]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prefix.strip("_").lower().replace("_", "-"),
        usage="%(prog)s [--FLAG VALUE ...]",
        description=kind.__doc__,
        epilog="Every flag is also an environment variable: --metrics-listen is "
        f"{prefix}METRICS_LISTEN.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for name, group in _groups(kind, parser).items():
        field, flag = fields[name], _flag(name)
        help_text = field.metadata["help"].replace("%", "%%")
        if field.default not in (None, ""):
            help_text += f" (default: {field.default!r})"
        if types_[name] is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=help_text)
        else:
            group.add_argument(
                flag,
                type=_reader(_type(types_[name])),
                metavar=name.rsplit("_", 1)[-1].upper(),
                help=help_text,
            )
    return parser


def _groups(kind: type, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Returns the group of flags of each setting: that of the class that declares it last.

    Those of the service itself come first.
    """
    groups: dict[str, Any] = {}
    for owner in filter(dataclasses.is_dataclass, kind.__mro__):
        group: Any = parser if owner is kind else parser.add_argument_group(owner.__doc__)
        groups |= {name: group for name in owner.__annotations__ if name not in groups}
    return groups


def _given(
    parser: argparse.ArgumentParser, argv: Sequence[str], flags: Sequence[str]
) -> dict[str, Any]:
    """Returns what flags set; what is no flag is answered with the one that is meant."""
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        word = next((one for one in unknown if one.startswith("-")), unknown[0]).partition("=")[0]
        near = difflib.get_close_matches(word, flags, n=1)
        parser.error(f"there is no {word}" + (f"; did you mean {near[0]}?" if near else ""))
    return vars(given)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _type(annotation: Any) -> type:
    """Returns the plain type of `int`, `str | None` and the like."""
    if isinstance(annotation, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    return typing.cast(type, annotation)


def _parse(name: str, annotation: Any, text: str) -> Any:
    plain = _type(annotation)
    if plain is bool:
        if text.lower() not in ("1", "0", "true", "false"):
            raise SettingsError(f"{name}: {text!r} is not true or false")
        return text.lower() in ("1", "true")
    try:
        return _reader(plain)(text)
    except argparse.ArgumentTypeError as error:
        raise SettingsError(f"{name}: {error}") from error


def _reader(plain: type) -> Callable[[str], Any]:
    """Returns what reads a text, and refuses it in words that are not Python's."""

    kind = getattr(plain, "kind", None) or _KINDS[plain]

    def read_text(text: str) -> Any:
        try:
            return plain(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no {kind}") from None

    return read_text
