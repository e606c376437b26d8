"""Bytes of a fixed layout, as nodes send them over LoRaWAN: a number for each name."""

import struct
from binascii import Error as BrokenBase64
from binascii import a2b_base64
from math import isfinite

from msgspec import Struct

from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.forms.paths import Path, Scope
from echo_ingest.reasons import ReasonCode

LAYOUT_BYTES_MAX = 1_024
SIZES = {
    **{"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u24": 3, "i24": 3, "u32": 4, "i32": 4},
    **{"u64": 8, "i64": 8, "f32": 4, "f64": 8},
}
"""Type of number → how many bytes it takes."""
ENCODINGS = ("base64", "hex")
ORDERS = ("big", "little")
SKIPPED = "_"


class LayoutItem(Struct, frozen=True):
    """A number in the bytes."""

    name: str
    number_type: str
    start: int


class Layout(Struct, frozen=True):
    """Where the bytes are, and what they hold."""

    path: Path | None
    """None: the payload itself."""
    encoding: str
    order: str
    items: tuple[LayoutItem, ...]
    size: int

    def read(self, scope: Scope, payload: bytes) -> dict[str, object]:
        """Return the numbers by name; raise `DecodeError` where the bytes do not fit."""
        data = payload
        label = None
        if self.path is not None:
            label = self.path.label or "layout.from"
            data = self._bytes_of(self.path.find(scope), label)
        if len(data) != self.size:
            raise DecodeError(
                ReasonCode.WRONG_TYPE,
                f"{len(data):,} bytes came, and the layout of the form has {self.size:,}",
                label,
            )
        return {
            item.name: _number(data, item, self.order)
            for item in self.items
            if item.name != SKIPPED
        }

    def _bytes_of(self, text: object, label: str) -> bytes:
        if not isinstance(text, str):
            raise DecodeError(ReasonCode.MISSING_FIELD, "this text is missing", label)
        if len(text) > 2 * LAYOUT_BYTES_MAX:
            raise DecodeError(
                ReasonCode.WRONG_TYPE, f"{len(text):,} characters are no fixed layout", label
            )
        try:
            return (
                bytes.fromhex(text)
                if self.encoding == "hex"
                else a2b_base64(text.encode(), strict_mode=True)
            )
        except (ValueError, BrokenBase64):
            raise DecodeError(
                ReasonCode.WRONG_TYPE, f"the text is not {self.encoding}", label
            ) from None


def _number(data: bytes, item: LayoutItem, order: str) -> float | None:
    """Return a number; None for a float that is none, which devices send for what is unknown."""
    part = data[item.start : item.start + SIZES[item.number_type]]
    if item.number_type.startswith("f"):
        sign = ">" if order == "big" else "<"
        code = "f" if item.number_type == "f32" else "d"
        number = float(struct.unpack(sign + code, part)[0])
        return number if isfinite(number) else None
    is_big = order == "big"
    return int.from_bytes(
        part, "big" if is_big else "little", signed=item.number_type.startswith("i")
    )
