"""Which topics a message may come by: the names in them are shown, counted and compared."""

from echo_ingest.reasons import ReasonCode
from echo_ingest.record import NODE_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX, Message, Rejected


def too_long(message: Message) -> Rejected | None:
    """Return why a message is rejected for the length of its topic; None if it is short enough.

    A level that is too long to be the name of a node is none (`settings.node_of`), and must not
    make the message one of no node at all.
    """
    topic = message.topic
    if len(topic) > TOPIC_CHARACTERS_MAX:
        detail = f"the topic has {len(topic):,} characters; at most {TOPIC_CHARACTERS_MAX} are read"
        return Rejected(ReasonCode.TOPIC_TOO_LONG, detail)
    longest = max(map(len, topic.split("/")))
    if message.node is None and longest > NODE_CHARACTERS_MAX:
        return Rejected(
            ReasonCode.TOPIC_TOO_LONG,
            f"the node's name in the topic has {longest} characters; a node's name may have "
            f"{NODE_CHARACTERS_MAX}",
        )
    return None
