"""Messages in protobuf as plain values: what the fields are stands in tables. Pure.

Only what we read is in a table: all other fields are skipped. Time and memory are linear in the
bytes, which are few: the library stops where messages are nested more than a hundred deep, and we
do where they hold more values than any device sends.
"""

import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError as NotProtobuf
from google.protobuf.message_factory import GetMessageClass

from echo_ingest.decode.errors import DecodeError
from echo_ingest.reasons import ReasonCode

MESSAGE_BYTES_MAX = 524_288
VALUES_MAX = 50_000

Plain = dict[str, Any]
"""A message by the names of its fields. Bytes stay bytes."""
Plainer = Callable[[Plain], object]
"""Makes of a message what stands for it: a time as text, for example."""

_FIELD = re.compile(r"(\d+) (\w+) (\w+)([?*]|\{\})?")
_SINGLE_FLOAT = struct.Struct("<f")
_SIGNIFICANT_DIGITS = (6, 7, 8, 9)
"""With nine digits, every number of 32 bits is the same again."""


class Schema:
    """Some kinds of messages that refer to one another.

    A field is given as `NUMBER NAME TYPE`. After its type, `?` stands for one that may be missing,
    `*` for a list, and `{}` for a map whose keys are texts. A field without such a mark is 0, false
    or empty where it is missing, as proto3 has it; a message is left out.
    """

    def __init__(
        self, messages: Mapping[str, Sequence[str]], plainers: Mapping[str, Plainer] | None = None
    ) -> None:
        """Take the fields of each kind of message, and what makes some of them plainer."""
        file = FileDescriptorProto(name="tables", syntax="proto2")
        for name, fields in messages.items():
            described = file.message_type.add(name=name)
            for text in fields:
                _describe(described, text, messages)
        pool = DescriptorPool()
        pool.AddSerializedFile(file.SerializeToString())
        self._classes = {
            name: GetMessageClass(pool.FindMessageTypeByName(name)) for name in messages
        }
        self._fields = {
            name: [_parts(text) for text in fields] for name, fields in messages.items()
        }
        self._plainers = dict(plainers or {})

    def read(self, name: str, data: bytes) -> Plain | None:
        """Return a message as plain values; None where the bytes are none of that kind.

        Raise `DecodeError` where they hold more than any device sends.
        """
        if len(data) > MESSAGE_BYTES_MAX:
            raise DecodeError(
                ReasonCode.TOO_COMPLEX,
                f"the message has {len(data):,} bytes of protobuf; at most {MESSAGE_BYTES_MAX:,}",
            )
        try:
            message = self._classes[name].FromString(data)
            return self._plain(name, message, _Budget())
        except NotProtobuf:
            return None

    def _plain(self, name: str, message: Any, budget: "_Budget") -> Plain:
        plain: Plain = {}
        for _, field, kind, mark in self._fields[name]:
            value: object
            if mark in ("*", "{}"):
                entries = getattr(message, field)
                budget.spend(len(entries) + 1)
                value = (
                    [self._value(kind, each, budget) for each in entries]
                    if mark == "*"
                    else {
                        self._value("string", each.key, budget): self._value(
                            kind, each.value, budget
                        )
                        for each in entries
                    }
                )
            elif (mark == "?" or kind in self._fields) and not message.HasField(field):
                continue
            else:
                budget.spend(1)
                value = self._value(kind, getattr(message, field), budget)
            plain[field] = value
        return plain

    def _value(self, kind: str, value: Any, budget: "_Budget") -> object:
        if kind in self._fields:
            plain = self._plain(kind, value, budget)
            plainer = self._plainers.get(kind)
            return plain if plainer is None else plainer(plain)
        if kind == "string" and not isinstance(value, str):
            raise NotProtobuf("a text is not UTF-8")
        if kind == "float":
            return _shortest(value)
        if kind == "double":
            return value if math.isfinite(value) else None
        return value


class _Budget:
    """How many values a message may still hold."""

    def __init__(self) -> None:
        self._left = VALUES_MAX

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise DecodeError(
                ReasonCode.TOO_COMPLEX, f"the message holds more than {VALUES_MAX:,} values"
            )


def _parts(text: str) -> tuple[int, str, str, str]:
    match = _FIELD.fullmatch(text)
    assert match is not None, text
    return int(match[1]), match[2], match[3], match[4] or ""


def _describe(described: DescriptorProto, text: str, messages: Mapping[str, object]) -> None:
    number, name, kind, mark = _parts(text)
    field = described.field.add(
        name=name,
        number=number,
        label=FieldDescriptorProto.LABEL_REPEATED
        if mark in ("*", "{}")
        else FieldDescriptorProto.LABEL_OPTIONAL,
    )
    if mark == "{}":
        # The entries are read as messages: a map of the library would have to be copied as well.
        entry = described.nested_type.add(name=f"{name}Entry")
        _describe(entry, "1 key string", messages)
        _describe(entry, f"2 value {kind}", messages)
        field.type, field.type_name = (
            FieldDescriptorProto.TYPE_MESSAGE,
            f".{described.name}.{entry.name}",
        )
    elif kind in messages:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


def _shortest(number: float) -> float | None:
    """Return a number of 32 bits with as few digits as tell it: 3.871, not 3.871000051498413."""
    if not math.isfinite(number):
        return None
    for digits in _SIGNIFICANT_DIGITS:
        shorter = float(f"{number:.{digits}g}")
        if abs(shorter) < 3.4e38 and _SINGLE_FLOAT.unpack(_SINGLE_FLOAT.pack(shorter))[0] == number:
            return shorter
    return number
