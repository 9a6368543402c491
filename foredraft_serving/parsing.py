"""Parses a request, and names the field that is wrong if it cannot.

gRPC's own parsing would end a call as INTERNAL without saying where. Protobuf keeps fields that it
does not know, so that a newer client's wish would be ignored in silence. This module knows nothing
of what fields mean.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from foredraft.wire.limits import MAX_MESSAGE_BYTES, MAX_MESSAGE_IDS, MAX_MESSAGE_PARTS
from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.worker_pool import breathe

_BREATH_PARTS = 256  # that are looked at between two breaths
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_GROUPS = (3, 4)  # the begin and the end of one; protobuf still reads them, as unknown fields
_NOT_LAST = bytes(range(0x80, 0x100))  # the bytes of a number that others follow


def parser(kind: type[Message]) -> Callable[[bytes], Message]:
    """Returns a function that parses messages of one kind.

    It raises InvalidFieldError if a message is too large or has too many parts, is no message of
    this kind, has text that is not UTF-8, or has fields that this service does not know.
    """

    def parse(raw: bytes) -> Message:
        if len(raw) > MAX_MESSAGE_BYTES:
            raise InvalidFieldError(
                _largest(raw, kind.DESCRIPTOR),
                f"makes a message of {len(raw)} bytes; the limit is {MAX_MESSAGE_BYTES}",
            )
        _check_parts(raw, kind.DESCRIPTOR)
        try:
            message = kind.FromString(raw)
        except DecodeError as error:
            if (path := _not_utf8(raw, kind.DESCRIPTOR)) is not None:
                raise InvalidFieldError(path, "is not valid UTF-8") from error
            raise InvalidFieldError("message", f"is no {kind.DESCRIPTOR.name}") from error
        if (path := _unknown(message)) is not None:
            raise InvalidFieldError(
                path, "is not known to this service, which may be older than its caller"
            )
        return message

    return parse


def has_few_parts(raw: bytes, descriptor: Any, most: int) -> bool:
    """Returns whether a message of a kind has at most `most` parts. Looks at no more of them."""
    return sum(1 for _ in islice(_parts(memoryview(raw), descriptor), most + 1)) <= most


def _check_parts(raw: bytes, descriptor: Any) -> None:
    """Refuses what takes few bytes on the wire and many once it is parsed: a part of two bytes
    becomes an object of fifty.
    """
    ids = 0
    for count, (name, packed_ids) in enumerate(_parts(memoryview(raw), descriptor), 1):
        ids += packed_ids
        if count > MAX_MESSAGE_PARTS:
            raise InvalidFieldError(name, f"makes a message of over {MAX_MESSAGE_PARTS} parts")
        if ids > MAX_MESSAGE_IDS:
            raise InvalidFieldError(name, f"makes a message of over {MAX_MESSAGE_IDS} token ids")
        if count % _BREATH_PARTS == 0:
            breathe()


def _parts(raw: memoryview, descriptor: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Yields the dotted name of every part of a message, and how many numbers it has in one list.

    A part is a value or a message, at any depth.
    """
    for number, value in _fields(raw):
        field = descriptor.fields_by_number.get(number)
        name = f"{path}{field.name}" if field is not None else path.rstrip(".") or "message"
        is_text = field is None or field.type in (
            FieldDescriptor.TYPE_STRING,
            FieldDescriptor.TYPE_BYTES,
        )
        if value is None or is_text:
            yield name, 0
        elif field.message_type is None:
            # The last byte of a number, and no other, is less than 0x80.
            yield name, len(bytes(value).translate(None, _NOT_LAST))
        else:
            yield name, 0
            yield from _parts(value, field.message_type, f"{name}.")


def _unknown(message: Message) -> str | None:
    """Returns the first field that the message's type does not have, None if there is none."""
    if extra := UnknownFieldSet(message):
        return f"{message.DESCRIPTOR.name} field number {extra[0].field_number}"
    for field, value in message.ListFields():
        breathe()
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in value if _repeated(field) else (value,):
            if (path := _unknown(part)) is not None:
                return path
    return None


def _not_utf8(raw: bytes | memoryview, descriptor: Any) -> str | None:
    """Returns the dotted name of the first text that is not UTF-8, None if there is none."""
    for number, value in _delimited(raw):
        breathe()
        field = descriptor.fields_by_number.get(number)
        if field is None:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            try:
                bytes(value).decode()
            except UnicodeDecodeError:
                return str(field.name)
        elif (
            field.message_type is not None
            and (path := _not_utf8(value, field.message_type)) is not None
        ):
            return f"{field.name}.{path}"
    return None


def _largest(raw: bytes, descriptor: Any) -> str:
    """Returns the field that takes most of the message."""
    sizes: dict[int, int] = {}
    for number, value in _delimited(raw):
        sizes[number] = sizes.get(number, 0) + len(value)
    field = descriptor.fields_by_number.get(max(sizes, key=sizes.__getitem__, default=0))
    return str(field.name) if field is not None else "message"


def _delimited(raw: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yields number and bytes of every field with a length (text, bytes, messages), until the bytes
    make no sense.
    """
    return ((number, value) for number, value in _fields(memoryview(raw)) if value is not None)


def _fields(raw: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """Yields number and bytes of every field, None for one that is a single number, until the bytes
    make no sense.
    """
    at = 0
    while at < len(raw):
        try:
            tag, at = _varint(raw, at)
            value = None
            if tag & 7 == _DELIMITED:
                length, at = _varint(raw, at)
                value = raw[at : at + length]
                at += length
            elif tag & 7 == _VARINT:
                _, at = _varint(raw, at)
            elif tag & 7 in (_FIXED64, _FIXED32):
                at += 8 if tag & 7 == _FIXED64 else 4
            elif tag & 7 not in _GROUPS:
                return
        except IndexError:
            return
        yield tag >> 3, value


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError


def _repeated(field: Any) -> bool:
    return (
        bool(field.is_repeated)
        if hasattr(field, "is_repeated")
        else field.label == FieldDescriptor.LABEL_REPEATED
    )
