"""How long a topic may be, and the name of a node in it; what is rejected is kept all the same."""

import json
from collections.abc import Iterator
from random import Random

from echo_ingest.decode import Decoder
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import Identity, Message, Rejected
from echo_ingest.settings import Settings
from tests.several_records import only

PAYLOAD = json.dumps(
    {"sensor_id": "ridge-07", "species": "Litoria ewingii", "confidence": 50, "id": "7"}
).encode()
DECODER = Decoder(1_000_000)
SETTINGS = Settings(topic="iotingestion/#,reserve/+/audio")


def arrived(topic: str) -> Message:
    return Message(topic, PAYLOAD, 1_790_000_100_000, SETTINGS.node_of(topic))


def topics() -> Iterator[tuple[str, bool]]:
    """Yield topics, and whether each is short enough."""
    rng = Random(14)
    for number in range(600):
        letter = rng.choice("aé日🐸\u202e ")
        characters = rng.choice((1, 63, 64, 65, 66, 100, 200, 1_000, 60_000))
        node = letter * characters
        if number % 3 == 0:
            topic = f"reserve/{node}/audio"
        elif number % 3 == 1:
            topic = f"iotingestion/{node}"
        else:
            topic = f"iotingestion/{node}/{letter * rng.choice((1, 65, 170))}"
        yield topic, characters <= 64 and len(topic) <= 256


def test_a_topic_is_read_up_to_its_limit_and_no_node_has_a_longer_name() -> None:
    for topic, is_short in topics():
        message = arrived(topic)
        outcome = DECODER.identify(message)
        if is_short:
            assert isinstance(outcome, Identity)
            assert message.node == topic.split("/")[1]
        else:
            assert isinstance(outcome, Rejected)
            assert outcome.code is ReasonCode.TOPIC_TOO_LONG
            assert len(outcome.render()) <= 200
            assert message.node is None or len(message.node) <= 64


def test_a_message_that_was_stored_before_there_was_a_limit_is_still_read() -> None:
    stored = Message("iotingestion/" + "n" * 300, PAYLOAD, 1_790_000_100_000, "n" * 300)
    assert not isinstance(only(DECODER.decode(stored)), Rejected)


def test_no_record_loses_its_node_to_the_limit() -> None:
    """A name that is too long is no name; the message must not be stored as one without a node."""
    for characters in range(1, 260):
        message = arrived("iotingestion/" + "n" * characters)
        if isinstance(DECODER.identify(message), Identity):
            assert message.node == "n" * characters
