"""Receipts: telling a device that asked what became of its message, once that is on disk.

A device on MQTT 5 asks with a Response Topic below `iotreceipts/<its node>`, and gets its
Correlation Data back. One on MQTT 3.1.1 asks by putting an `id` into its JSON, and gets the receipt
on `iotreceipts/<its node>`. Without a node in its topic there is nobody to answer.

Receipts are QoS 0 and are dropped where the broker does not take them as fast as they come: they
must not slow down what they are about. A device that misses one sends its message again and gets
another, which then says `duplicate`.
"""

from typing import Literal

import mqtt5
import msgspec
from msgspec import Struct

from echo_ingest.decode import message_id
from echo_ingest.record import DeadLetter, Duplicate, Identity, Message, Outcome, Rejected, Stored
from echo_ingest.settings import RECEIPTS_PREFIX

TOPIC_BYTES_MAX = 65_535  # [MQTT-1.5.4]


class Receipt(Struct, frozen=True, omit_defaults=True):
    """The payload of a receipt, as JSON."""

    outcome: Literal["stored", "duplicate", "rejected"]
    id: str | None = None
    """The device's own id of the message, where it has one."""
    offset: int | None = None
    """Where the record is in the journal; of a duplicate, where the first one is, if known."""
    reason: str | None = None
    """Why it was rejected."""


def receipt(message: Message, decoded: Identity | Rejected, outcome: Outcome) -> bytes | None:
    """Return the PUBLISH packet that answers `message`; None if nobody asked, or may not have it."""
    if message.node is None:
        return None
    known_id = message_id(message) if type(decoded) is Rejected else decoded.message_id
    if message.response_topic is None and known_id is None:
        return None
    own = f"{RECEIPTS_PREFIX}/{message.node}"
    topic = own if message.response_topic is None else message.response_topic
    # Another node's receipts, and anything that is no receipt, are not the device's to have.
    if topic != own and not topic.startswith(f"{own}/"):
        return None
    if "+" in topic or "#" in topic:
        return None  # [MQTT-3.3.2-14]
    if len(topic.encode()) > TOPIC_BYTES_MAX:
        return None
    match outcome:
        case Stored(offset):
            answer = Receipt("stored", known_id, offset)
        case Duplicate(offset):
            answer = Receipt("duplicate", known_id, offset)
        case DeadLetter(rejected):
            answer = Receipt("rejected", known_id, reason=rejected.render())
    return mqtt5.PublishPacket(
        topic, msgspec.json.encode(answer), correlation_data=message.correlation_data
    ).write()
