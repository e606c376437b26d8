"""Receipts: a device that asks is told what became of its message, once the message is on disk.

A device on MQTT 5 asks with a Response Topic below `iotreceipts/<node>`, and gets its Correlation
Data back. A device on MQTT 3.1.1 asks by putting an `id` into its JSON, and gets the receipt on
`iotreceipts/<node>`. A message whose topic names no node gets no receipt.

Receipts have QoS 0 and are dropped when the broker does not take them fast enough: they must not
slow down the messages they answer. A device that misses one sends its message again and gets
another receipt, which then says `duplicate`.
"""

from typing import Literal

import mqtt5
import msgspec
from msgspec import Struct

from echo_ingest.decode import message_id
from echo_ingest.record import (
    DeadLetter,
    Duplicate,
    Identity,
    Ignored,
    Message,
    Outcome,
    Rejected,
    Stored,
    Unclaimed,
)
from echo_ingest.settings import RECEIPTS_PREFIX
from echo_ingest.settings.topics import SEPARATORS_MAX

TOPIC_BYTES_MAX = 65_535  # [MQTT-1.5.4]


class Receipt(Struct, frozen=True, omit_defaults=True):
    """The payload of a receipt, as JSON."""

    outcome: Literal["stored", "duplicate", "rejected", "ignored", "unclaimed"]
    id: str | None = None
    """The device's own id of the message, where it has one."""
    offset: int | None = None
    """Where the record is in the journal; of a duplicate, where the first one is, if known."""
    reason: str | None = None
    """Why it was rejected."""


def receipt(
    message: Message, decoded: Identity | Rejected | Ignored | Unclaimed, outcome: Outcome
) -> bytes | None:
    """Return the PUBLISH packet that answers `message`.

    None if the device did not ask for a receipt, or may not have it on that topic.
    """
    if message.node is None:
        return None
    known_id = decoded.message_id if type(decoded) is Identity else message_id(message)
    if message.response_topic is None and known_id is None:
        return None
    own = f"{RECEIPTS_PREFIX}/{message.receipts_to or message.node}"
    topic = own if message.response_topic is None else message.response_topic
    # A device must not make us publish to another node's receipts, or to any other topic.
    if topic != own and not topic.startswith(f"{own}/"):
        return None
    if "+" in topic or "#" in topic:
        return None  # [MQTT-3.3.2-14]
    if len(topic.encode()) > TOPIC_BYTES_MAX or topic.count("/") > SEPARATORS_MAX:
        return None
    match outcome:
        case Stored(offset):
            answer = Receipt("stored", known_id, offset)
        case Duplicate(offset):
            answer = Receipt("duplicate", known_id, offset)
        case DeadLetter(rejected):
            answer = Receipt("rejected", known_id, reason=rejected.render())
        case Ignored():
            answer = Receipt("ignored", known_id)
        case Unclaimed():
            answer = Receipt("unclaimed", known_id)
    return mqtt5.PublishPacket(
        topic, msgspec.json.encode(answer), correlation_data=message.correlation_data
    ).write()
