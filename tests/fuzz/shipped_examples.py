"""The example beside each shipped form, and a decoder that knows these forms, as a service has."""

import json
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from echo_ingest.decode.forms import SHIPPED, Forms

FORMS = Forms.of_folder(SHIPPED)
"""Read once: the same forms for each message."""


class ShippedExample(Struct, frozen=True):
    """A message that a device of some maker sends."""

    form: str
    topic: str
    payload: bytes
    received_at_ms: int
    document: object
    """What stands in the payload, if it is JSON."""


def _read(folder: Path) -> ShippedExample:
    expected = json.loads((folder / "expected.json").read_text())
    (file,) = folder.glob("example.*")
    payload = file.read_bytes()
    document = json.loads(payload) if file.suffix == ".json" else None
    received_at = datetime.fromisoformat(expected["received_at"])
    return ShippedExample(
        folder.name, expected["topic"], payload, int(received_at.timestamp() * 1000), document
    )


EXAMPLES = tuple(map(_read, sorted(SHIPPED.iterdir())))
