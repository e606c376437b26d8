"""The memory of the broker: how much it takes, and what is done before it takes too much.

mosquitto keeps all that waits in memory, and knows no limit at which it would slow devices down. So
the proxy does: above the soft limit no PUBLISH begins any more, above the hard limit nothing of one
goes on, and if that does not help, those that hold memory with an unfinished PUBLISH are
disconnected.

What counts is the memory of the process, since that is what a system counts that ends it. But much
of what it took for small messages it never gives back. So it counts as free if too little waits in
mosquitto to fill it: by its own figure of its heap, which on 2.0 grows with each MQTT 5 property
that passes and never falls again, or by the number of its messages and the most that one can take.

What waits for a reader that is away takes more when that returns, since mosquitto copies what it
sends: so devices are also held back where that would take it above the hard limit.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

import structlog
from msgspec import Struct

from echo_ingest import metrics
from echo_ingest.process.memory import resident_bytes
from echo_ingest.proxy.gate import Gate
from echo_ingest.proxy.packets import COPIES, PROPERTY_FACTOR, PacketWalker

SOFT_SHARE, RAISED_SHARE = 0.7, 0.85
"""The soft limit, as a share of the hard one; and where to wait for memory was in vain."""
TICKS_PER_SECOND = 10
TICK_SECONDS = 1 / TICKS_PER_SECOND
ROOM_BYTES_MIN = 1024 * 1024
"""After so much we look at the latest."""
MESSAGE_BYTES = 1_000
"""What a message takes beside its payload and its properties."""
FEW_MESSAGES = 100
"""mosquitto itself keeps about fifty."""
TICKS_SHUT = 3
"""What was passed on has arrived in mosquitto by then, or nothing has: then one is cut."""
SECONDS_QUIET_MAX, SECONDS_CLOSED_MAX = 3, 10
"""From then on, those are cut that keep the gate closed: first where nothing comes, then others.
Where there are none, the soft limit rises until few messages are left: what waits may stay for
days, and take less than it could."""
PACE_SECONDS = 8
LINE_SECONDS = 1.0
"""What lasts no longer is worth no line in the log."""

log = structlog.get_logger("proxy")


class Publisher(Protocol):
    """What this module needs of a connection."""

    def cut(self, words: str) -> None:
        """Disconnect it."""


class Unfinished(Struct):
    """A PUBLISH whose end is still to come."""

    size: int = 0
    """How much mosquitto has."""
    earlier: int = 0
    """How much it had a second ago."""
    pace: float = 0.0
    """Bytes in a second, of late."""
    quiet_seconds: int = 0
    """For how long nothing has come."""

    def note_second(self) -> None:
        """Note how much came within a second."""
        came, self.earlier = self.size - self.earlier, self.size
        self.pace += (came - self.pace) / PACE_SECONDS
        self.quiet_seconds = 0 if came else self.quiet_seconds + 1

    def order(self, average: float) -> tuple[bool, float]:
        """Return when its turn is to be cut: the least goes first."""
        return self.size < average, self.pace


class BrokerMemory:
    """Watches what mosquitto takes, and opens, closes and shuts the gate."""

    def __init__(
        self,
        gate: Gate,
        hard_bytes: int,
        copied_bytes_max: int,
        pid: int,
        statistics: Callable[[], Mapping[str, float]],
    ) -> None:
        """`statistics` returns those of mosquitto, as far as they are known."""
        self._gate, self._pid, self._statistics = gate, pid, statistics
        self._hard_bytes, self._copied_bytes_max = hard_bytes, copied_bytes_max
        self._set_soft_limit(SOFT_SHARE)
        self._unfinished: dict[Publisher, Unfinished] = {}
        self._coming = self._came = 0
        """What was passed on in this tick and in the one before: mosquitto may not have it yet."""
        self._look_at = 0
        """How much may come in this tick before we look again."""
        self._held = (math.inf, 0.0, math.inf)
        """Number and payload bytes of the messages in mosquitto, and its heap, as it last said."""
        self._since_held = 0
        """What came to an end since then."""
        self._largest_overhead = 0
        """The most that was no payload in a message, since there were few messages."""
        self._used = self._over = 0.0
        self._ticks = self._ticks_shut = 0
        self._is_held_back = self._is_told = False
        self._changed_at = self._told_at = time.monotonic()

    def _set_soft_limit(self, share: float) -> None:
        self._soft_bytes = int(share * self._hard_bytes)
        metrics.BROKER_MEMORY_LIMIT_BYTES.set(self._soft_bytes)

    def note(self, device: Publisher, size: int, walker: PacketWalker) -> None:
        """Note that so much of a device was passed on, and where in a PUBLISH it stands."""
        self._coming += size + walker.cost
        self._since_held += walker.cost
        walker.cost = 0
        if walker.unfinished:
            unfinished = self._unfinished.get(device)
            if unfinished is None or unfinished.size > walker.unfinished:
                self._unfinished[device] = unfinished = Unfinished()
            unfinished.size = walker.unfinished
        else:
            self._unfinished.pop(device, None)
        if walker.largest_overhead > self._largest_overhead:
            self._largest_overhead = walker.largest_overhead
        if self._coming > self._look_at:
            self._look()

    def forget(self, device: Publisher) -> None:
        """Note that the connection of a device has ended."""
        self._unfinished.pop(device, None)

    async def run(self) -> NoReturn:
        """Look ten times a second, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._came, self._coming = self._coming, 0
            self._look()
            self._ticks += 1
            if self._ticks % TICKS_PER_SECOND == 0 and not self._gate.is_shut:
                for each in self._unfinished.values():
                    each.note_second()
            self._tell()
            self._make_room()

    def _look(self) -> None:
        """Measure, and set the gate."""
        coming = self._came + self._coming
        unfinished = self._unfinished_bytes()
        in_use = self._in_use(unfinished)
        resident = resident_bytes(self._pid)
        if resident is None:  # not Linux
            resident = 0 if math.isinf(in_use) else int(in_use)
        self._used = min(in_use, resident)
        self._over = resident + coming - self._hard_bytes
        over_soft = max(
            self._used + coming - self._soft_bytes,
            self._bytes_with_copies() + coming - self._hard_bytes,
        )
        # What neither waits nor could be freed was taken once and not given back.
        is_real = in_use + coming > self._hard_bytes or unfinished >= self._over
        room = -self._over if over_soft > 0 else min(-self._over, -over_soft)
        self._look_at = self._coming + max(int(room), ROOM_BYTES_MIN)
        # What this lets through comes back to us.
        if self._over > 0 and is_real:
            self._gate.shut()
        elif over_soft > 0:
            self._gate.close()
        else:
            self._gate.open()

    def _in_use(self, unfinished: int) -> float:
        """Return how much is in use at most, by what mosquitto says of the messages in it."""
        values = self._statistics()
        with contextlib.suppress(KeyError):
            held = (
                values[metrics.BROKER_HELD_MESSAGES],
                values[metrics.BROKER_HELD_BYTES],
                values.get(metrics.BROKER_HEAP_BYTES, math.inf),
            )
            if held != self._held:
                self._held, self._since_held = held, 0
                if held[0] <= FEW_MESSAGES:
                    self._largest_overhead = 0
                    self._set_soft_limit(SOFT_SHARE)
        messages, payload_bytes, heap_bytes = self._held
        each = MESSAGE_BYTES + PROPERTY_FACTOR * self._largest_overhead
        waiting = min(messages * each + COPIES * payload_bytes, heap_bytes)
        return waiting + self._since_held + unfinished

    def _bytes_with_copies(self) -> float:
        """Return how much is in use, at least, when a reader returns to whom it is copied."""
        payload_bytes = self._held[1]
        return payload_bytes + min(payload_bytes, self._copied_bytes_max) + self._since_held

    def _unfinished_bytes(self) -> int:
        return sum([each.size for each in self._unfinished.values()])

    def _make_room(self) -> None:
        """Disconnect those that hold memory, where waiting has not helped."""
        self._ticks_shut = self._ticks_shut + 1 if self._gate.is_shut else 0
        if self._ticks_shut == TICKS_SHUT:
            self._ticks_shut = 0
            self._cut(self._over, 0)
        elif self._is_held_back and self._ticks % TICKS_PER_SECOND == 0:
            closed_seconds = time.monotonic() - self._changed_at
            over_soft = self._used - self._soft_bytes
            if over_soft > self._unfinished_bytes():  # to cut them would be in vain
                if closed_seconds > SECONDS_CLOSED_MAX:
                    self._set_soft_limit(RAISED_SHARE)
            elif closed_seconds > SECONDS_CLOSED_MAX:
                self._cut(over_soft, 0)
            elif closed_seconds > SECONDS_QUIET_MAX:
                self._cut(over_soft + self._soft_bytes / 2, SECONDS_QUIET_MAX)

    def _cut(self, wanted: float, quiet_seconds: int) -> None:
        """Disconnect one after the other that has been quiet until so many bytes come free.

        Of those that hold at least the average, the slowest goes first: if it were the largest, it
        would be the one that is about to end.
        """
        average = self._unfinished_bytes() / max(len(self._unfinished), 1)
        order = sorted(self._unfinished.items(), key=lambda each: each[1].order(average))
        for device, its in order:
            if wanted > 0 and its.quiet_seconds >= quiet_seconds:
                wanted -= its.size
                metrics.DEVICES_CUT.inc()
                device.cut(
                    f"the broker's memory is short, and its unfinished message held {its.size:,} "
                    "bytes"
                )

    def _tell(self) -> None:
        """Log when it holds devices back and when no longer, unless that is over at once."""
        now, is_held_back = time.monotonic(), not self._gate.is_open
        metrics.BROKER_MEMORY_BYTES.set(self._used)
        metrics.HELD_BACK.set(is_held_back)
        metrics.DEVICES_WAITING.set(self._gate.waiting)
        if is_held_back:
            metrics.HELD_BACK_SECONDS.inc(TICK_SECONDS)
        if is_held_back != self._is_held_back:
            self._is_held_back, self._changed_at = is_held_back, now
        if is_held_back == self._is_told or now - self._changed_at < LINE_SECONDS:
            return
        if is_held_back:
            log.warning(
                "devices held back",
                reason="the broker's memory is short: no message begins until it has come free",
                broker_bytes=int(self._used),
                limit_bytes=self._soft_bytes,
                with_copies_bytes=int(self._bytes_with_copies()),
                with_copies_limit_bytes=self._hard_bytes,
                unfinished_bytes=self._unfinished_bytes(),
                waiting=self._gate.waiting,
            )
        else:
            log.info("devices go on", after_seconds=round(now - self._told_at, 1))
        self._is_told, self._told_at = is_held_back, now
