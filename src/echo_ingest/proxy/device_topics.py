"""What the names that a device uses become at the broker: topics, and its client id.

docs/access.md says why. `broker.topic_rights` decides; mosquitto, which has the same rules in its
access file, denies what is denied.
"""

import asyncio
import time
from collections import Counter
from pathlib import Path

import structlog

from echo_ingest import metrics
from echo_ingest.broker import PUBLISHER, SERVICE, SUBSCRIBER
from echo_ingest.broker.node_accounts import NodesUnusable, read_rights
from echo_ingest.broker.reload import FileState, file_state
from echo_ingest.broker.topic_rights import TopicRights, Verdict
from echo_ingest.gauges import DeniedMessages
from echo_ingest.proxy.activity import shown
from echo_ingest.record import ACCOUNTS

SHARED = (PUBLISHER, SUBSCRIBER, SERVICE)
TOPICS_REMEMBERED, REMEMBERED_BYTES_MAX = 20, 128
"""For each device, of which there may be thousands: so many topics, none of them longer."""
PAIRS_MAX, TOPICS_OF_ACCOUNT_MAX = 200, 20
"""How many pairs of account and topic are told apart where messages are denied, and how many topics
of one account: none of them can hide what others do."""
OTHERS = "others"
POLL_SECONDS = 0.5

log = structlog.get_logger("proxy")


class Denials:
    """Counts what mosquitto denies: it does not log that, nor tell a device of MQTT 3.1.1."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], DeniedMessages] = {}
        self._topics: Counter[str] = Counter()
        """How many each account has."""

    @property
    def all(self) -> tuple[DeniedMessages, ...]:
        """Return all that were counted since the start of the process."""
        return tuple(self._pairs.values())

    def note(self, account: bytes, topic: bytes) -> None:
        """Count a message, and log it if it is the first of its kind, the tenth, and so on."""
        pair = shown(account), shown(topic)
        if pair not in self._pairs and self._topics[pair[0]] >= TOPICS_OF_ACCOUNT_MAX:
            pair = pair[0], OTHERS
        if pair not in self._pairs and len(self._pairs) >= PAIRS_MAX:
            pair = OTHERS, OTHERS
        if pair not in self._pairs:
            self._topics[pair[0]] += 1
        denied = self._pairs.setdefault(pair, DeniedMessages(*pair))
        denied.messages += 1
        denied.last_at_ms = time.time_ns() // 1_000_000
        metrics.DENIED_MESSAGES.labels(*pair).inc()
        if str(denied.messages).rstrip("0") == "1":
            log.warning(
                "message denied",
                account=denied.account,
                topic=denied.topic,
                messages=denied.messages,
                meaning="the account may not publish on that topic, so the broker discards the "
                "message; a client of MQTT 3.1.1 is not told",
            )


class DeviceTopics:
    """The names that one device uses, by its account."""

    def __init__(self, rights: TopicRights, denials: Denials, user: bytes | None) -> None:
        self._rights = rights
        self._denials = denials
        self._user = user or b""
        self._account = self._user.decode(errors="replace")
        self._prefix = b"%b/%b/" % (ACCOUNTS.encode(), self._user)
        self._known: dict[bytes, tuple[Verdict, bytes | None]] = {}
        self._known_with = rights.speaks_for

    def client_id(self, sent: bytes) -> bytes | None:
        """Return the client id at the broker; None: the one that the device sent.

        Two nodes with one client id would throw each other out. Who sends none is given one. Who
        shares an account is told from a node by the colon, which is in no name of a node.
        """
        is_own = self._account in SHARED and (b":" not in sent or self._account == SERVICE)
        if not sent or is_own:
            return None
        return b"%b:%b" % (self._user, sent)

    def will_topic(self, topic: bytes | None) -> bytes | None:
        """Return the topic of a last will at the broker; None: as the device sent it."""
        return None if topic is None else self._verdict(topic)[1]

    def note_will(self, topic: bytes | None) -> None:
        """Count a last will that will be denied, once its device has logged in."""
        if topic is not None:
            self.topic_at_broker(topic)

    def topic_at_broker(self, topic: bytes) -> bytes | None:
        """Return the topic of a message at the broker; None: the device's own, now and later."""
        verdict, other = self._verdict(topic)
        if verdict is Verdict.DENIED:
            self._denials.note(self._user, topic)
            return topic
        return other

    def _verdict(self, topic: bytes) -> tuple[Verdict, bytes | None]:
        if self._known_with is not self._rights.speaks_for or len(self._known) >= TOPICS_REMEMBERED:
            self._known, self._known_with = {}, self._rights.speaks_for
        known = self._known.get(topic)
        if known is None:
            # mosquitto sees to topics that are none: empty ones, and those that are not UTF-8.
            verdict = self._rights.verdict(self._account, topic.decode(errors="replace"))
            other = None
            if verdict is Verdict.WITH_ACCOUNT and topic:
                other = self._prefix + topic
            elif verdict is Verdict.AS_IT_IS and topic.startswith(self._prefix):
                other = topic  # a gateway may lose the right: it is to be asked for each time
            known = verdict, other
            if len(topic) <= REMEMBERED_BYTES_MAX:
                self._known[topic] = known
        return known


def apply_rights(path: Path, rights: TopicRights) -> FileState:
    """Read for whom gateways may speak; return the state of the file that was read."""
    state = file_state(path)
    try:
        changed = read_rights(path)
    except NodesUnusable as error:
        log.error("rights of gateways not applied", reason=str(error))
    else:
        rights.speaks_for = {name: each for name, each in changed.items() if each}
    return state


async def follow_rights(
    path: Path, rights: TopicRights, applied: FileState, poll_seconds: float = POLL_SECONDS
) -> None:
    """Apply the rights again whenever the nodes file changes from the state `applied`."""
    previous = applied
    while True:
        await asyncio.sleep(poll_seconds)
        state = file_state(path)
        # The same state twice: a program that writes a file in place, or removes it first, is done.
        if state == previous and state != applied:
            applied = await asyncio.to_thread(apply_rights, path, rights)
        previous = state
