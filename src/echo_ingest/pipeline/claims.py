"""Whether anything claims a message that came on a topic of its device's own choice.

The topics of `IOT_TOPIC` are claimed, and those that a person has taken in. On any other topic a
message is claimed by the form in a file that it is in, or by a form of our own that nothing else
looks like: not by a report of a device's state that names no device, since `{"status":"online"}`
may be about anything.
"""

import asyncio
import contextlib
from pathlib import Path

import structlog

from echo_ingest.broker.reload import file_state
from echo_ingest.broker.taken_topics import TakenTopicsUnusable, read_taken_topics
from echo_ingest.broker.topic_rights import TopicRights
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal, JournalFull, JournalGone
from echo_ingest.record import Identity, Ignored, Message, Rejected, Unclaimed
from echo_ingest.settings.topics import matches

POLL_SECONDS = 1.0
SLICE_MESSAGES = 50
SLICE_PAUSE_SECONDS = 0.05
STATE = "telemetry"

log = structlog.get_logger("claims")


class Claims:
    """Tells what a message is, by its topic and by its content."""

    def __init__(self, rights: TopicRights, decoder: Decoder) -> None:
        self._rights = rights
        self._decoder = decoder
        self._identify = decoder.identify
        self.taken: tuple[str, ...] = ()
        """The topics that a person has taken in."""

    def arrived(self, message: Message) -> Message:
        """Return a message as it was published."""
        return self._rights.arrived(message)

    def identify(self, message: Message) -> Identity | Rejected | Ignored | Unclaimed:
        """Return which message it is, or why it becomes no record."""
        decoded = self._identify(message)
        if message.account is None or type(decoded) is Ignored or self._is_taken(message):
            return decoded
        if type(decoded) is Identity:
            is_clear = decoded.kind != STATE or decoded.sensor_id is not None
            return decoded if is_clear or decoded.form is not None else Unclaimed()
        forms = self._decoder.forms
        if forms is not None and not message.properties_cut and forms.fit(message) is not None:
            return decoded
        return Unclaimed()

    def _is_taken(self, message: Message) -> bool:
        if self._rights.claims(message):
            return True
        return any(matches(each, message.topic) for each in self.taken)

    @property
    def version(self) -> object:
        """What changes when other messages are claimed."""
        forms = self._decoder.forms
        return self.taken, None if forms is None else forms.digests


async def follow_claims(
    path: Path, claims: Claims, journal: Journal, poll_seconds: float = POLL_SECONDS
) -> None:
    """Keep up with what a person takes in, and with forms, until cancelled.

    What is kept of what nothing claimed then goes through the line. A file that cannot be used is
    logged once; what was taken in before stays so.
    """
    applied: object = None
    read: object = None
    while True:
        if (state := (file_state(path),)) != read:
            read = state
            try:
                claims.taken = read_taken_topics(path)
            except TakenTopicsUnusable as error:
                log.error("topics not taken in", reason=str(error))
        if claims.version != applied:
            version = claims.version
            with contextlib.suppress(JournalFull, JournalGone):  # the next attempt goes on
                await _claim_kept(claims, journal)
                applied = version
        await asyncio.sleep(poll_seconds)


async def _claim_kept(claims: Claims, journal: Journal) -> None:
    last = claimed = 0
    while entries := journal.unclaimed(last, SLICE_MESSAGES):
        for entry in entries:
            last = entry.id
            if entry.damaged:
                continue
            decoded = claims.identify(entry.message)
            if type(decoded) is not Unclaimed:
                with contextlib.suppress(KeyError):  # a person has discarded it meanwhile
                    journal.claim(entry, decoded)
                    claimed += 1
        await asyncio.sleep(SLICE_PAUSE_SECONDS)
    if claimed:
        log.info("kept messages taken in", messages=claimed)
