"""The settings of a service: a frozen dataclass, filled once from flags, environment and defaults.

Each field of the dataclass is a flag (`--metrics-listen`) and an environment variable
(`FOREDRAFT_TARGET_METRICS_LISTEN`). A flag goes before the environment, the environment before the
default. Names that are no field are refused, so that a typing error does not run a service with a
default. This module knows nothing of what settings mean.
"""

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

S = TypeVar("S")


class SettingsError(Exception):
    """A setting that is unknown or does not parse."""


def setting(
    default: Any,
    help: str,
    choices: Sequence[str] = (),
    at_least: float | None = None,
    at_most: float = math.inf,
) -> Any:
    """Declares a field of a settings dataclass.

    Args:
        help: the text of `--help`.
        at_least, at_most: the smallest and the largest value of a number.
    """
    allowed = {"choices": tuple(choices), "at_least": at_least, "at_most": at_most}
    return dataclasses.field(default=default, metadata={"help": help, **allowed})


def read(kind: type[S], prefix: str, argv: Sequence[str], environ: Mapping[str, str]) -> S:
    """Builds the settings.

    Args:
        prefix: the prefix of the environment variables, such as "FOREDRAFT_TARGET_".

    Raises:
        SettingsError: a variable with the prefix is no setting, or a value makes no sense.
        SystemExit: argparse refuses a flag, or shows the help.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types_ = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, text in environ.items():
        if name.startswith(prefix):
            key = name.removeprefix(prefix).lower()
            if key not in fields:
                raise SettingsError(
                    f"{name}: no such setting; settings are {', '.join(sorted(fields))}"
                )
            values[key] = _parse(name, types_[key], text)
    values |= vars(_parser(kind, prefix, fields, types_).parse_args(argv))
    for key, value in values.items():
        if (choices := fields[key].metadata.get("choices")) and value not in choices:
            raise SettingsError(f"{key}: {value!r} is not one of {', '.join(choices)}")
        least, most = (fields[key].metadata.get(end) for end in ("at_least", "at_most"))
        # The comparison is written so that it refuses NaN, too.
        if least is not None and not (least <= value < math.inf and value <= most):
            end = "on" if most == math.inf else f"to {most:g}"
            raise SettingsError(f"{key}: {value!r} is not a number from {least:g} {end}")
    return kind(**values)


def _parser(
    kind: type, prefix: str, fields: Mapping[str, Any], types_: Mapping[str, Any]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=kind.__doc__,
        epilog="Every flag is also an environment variable: --metrics-listen is "
        f"{prefix}METRICS_LISTEN.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for name, field in fields.items():
        flag = "--" + name.replace("_", "-")
        help_text = f"{field.metadata['help']} (default: {field.default!r})".replace("%", "%%")
        if types_[name] is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=help_text)
        else:
            parser.add_argument(
                flag,
                type=_type(types_[name]),
                metavar=name.rsplit("_", 1)[-1].upper(),
                help=help_text,
            )
    return parser


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
        return plain(text)
    except ValueError as error:
        raise SettingsError(f"{name}: {text!r} is not {plain.__name__}") from error
