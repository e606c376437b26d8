"""The loopback check: a message to ourselves, through the broker and back, every two seconds.

It takes the same way as a device's message: into the broker, past its access rules, and out of our
subscription. It ends at the session; whether the journal has space is checked elsewhere.
"""

import asyncio
import contextlib
import math
import secrets
import time

from echo_ingest.mqtt import ConnectionLost, Session
from echo_ingest.mqtt.session import QOS_0
from echo_ingest.settings import LOOPBACK_PREFIX

PERIOD_SECONDS = 2.0
AGE_SECONDS_MAX = 8.0


class LoopbackCheck:
    """Sends messages to ourselves and remembers the newest that came back."""

    def __init__(self, client_id: str) -> None:
        self.topic = f"{LOOPBACK_PREFIX}/{client_id}"
        """The topic of these messages; the session subscribes to it as its `loopback_topic`."""
        self._token = secrets.token_hex(8).encode()
        self._newest_sent_at = -math.inf

    @property
    def age_seconds(self) -> float:
        """How long ago the newest message that came back was sent; infinite before the first.

        The time when it was sent counts, not when it returned: a broker that is a minute behind is
        not healthy, however regularly the messages arrive.
        """
        return time.monotonic() - self._newest_sent_at

    def problems(self) -> dict[str, str]:
        """Return what is wrong if messages do not come back in time; empty if they do."""
        age_seconds = self.age_seconds
        if math.isinf(age_seconds):
            return {"echo": "no message to ourselves has come back through the broker yet"}
        if age_seconds > AGE_SECONDS_MAX:
            newest = "the newest message to ourselves that came back was sent"
            return {"echo": f"{newest} {age_seconds:.0f} s ago"}
        return {}

    async def run(self, session: Session) -> None:
        """Send messages until cancelled, at QoS 0: one that waits somewhere would prove nothing."""
        while True:
            await session.wait_connected()
            payload = b"%b %r" % (self._token, time.monotonic())
            with contextlib.suppress(ConnectionLost):  # the session reconnects by itself
                await session.publish(self.topic, payload, qos=QOS_0)
            await asyncio.sleep(PERIOD_SECONDS)

    def on_message(self, payload: bytes) -> None:
        """Note a message that came back. Messages that this process did not send do not count."""
        token, _, sent = payload.partition(b" ")
        with contextlib.suppress(ValueError):
            sent_at = float(sent)
            if token == self._token and self._newest_sent_at < sent_at <= time.monotonic():
                self._newest_sent_at = sent_at
