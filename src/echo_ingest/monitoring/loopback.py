"""A message to ourselves, through the broker and back, every two seconds.

It takes the way that a device's message takes to us: into the broker, past its access rules and
out of our subscription. It ends at the session; whether the journal has room is not its business.
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
ECHO_AGE_SECONDS_MAX = 8.0


class LoopbackCheck:
    """Sends probes and knows the newest that came back."""

    def __init__(self, client_id: str) -> None:
        self.topic = f"{LOOPBACK_PREFIX}/{client_id}"
        """Where probes go; the session subscribes to it as its `echo_topic`."""
        self._token = secrets.token_hex(8).encode()
        self._newest_sent_at = -math.inf

    @property
    def age_seconds(self) -> float:
        """How long ago the newest probe that came back was sent; infinite before the first.

        Its sending counts and not its return: a broker that is a minute behind is not well,
        however regularly the probes come.
        """
        return time.monotonic() - self._newest_sent_at

    def problems(self) -> dict[str, str]:
        """What is wrong if messages do not come back in time; empty if they do."""
        age_seconds = self.age_seconds
        if math.isinf(age_seconds):
            return {"echo": "no message to ourselves has come back through the broker yet"}
        if age_seconds > ECHO_AGE_SECONDS_MAX:
            newest = "the newest message to ourselves that came back was sent"
            return {"echo": f"{newest} {age_seconds:.0f} s ago"}
        return {}

    async def run(self, session: Session) -> None:
        """Send probes until cancelled, at QoS 0: one that waits somewhere proves nothing."""
        while True:
            await session.wait_connected()
            probe = b"%b %r" % (self._token, time.monotonic())
            with contextlib.suppress(ConnectionLost):  # the session connects again by itself
                await session.publish(self.topic, probe, qos=QOS_0)
            await asyncio.sleep(PERIOD_SECONDS)

    def on_echo(self, payload: bytes) -> None:
        """Note a probe that came back. What this process did not send does not count."""
        token, _, sent = payload.partition(b" ")
        with contextlib.suppress(ValueError):
            sent_at = float(sent)
            if token == self._token and self._newest_sent_at < sent_at <= time.monotonic():
                self._newest_sent_at = sent_at
