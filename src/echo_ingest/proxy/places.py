"""How much connections may take: places at a port, memory before the log-in, and what stays.

Strangers, which have not logged in, never keep a device out. If there is no place, one of them
loses its own to the newcomer; if they hold too much, the one that holds the most is closed.
"""

import socket
import time
from typing import Protocol

KEPT_BYTES_MAX, KEPT_BYTES_PER_SECOND = 64 * 1024 * 1024, 128 * 1024
KEPT_OF_HELD = 0.75
SUBNET_BYTES = 8
"""An IPv6 host usually has all addresses that begin with the same eight bytes."""


class Occupant(Protocol):
    """What this module needs of a connection."""

    def evict(self, label: str, words: str) -> None:
        """End at once."""

    def shut_down(self) -> None:
        """End in order, because the service ends."""


class Places:
    """The places at one port."""

    def __init__(self, places_max: int) -> None:
        self._places_max = places_max
        self._devices: dict[Occupant, None] = {}
        self._strangers: dict[Occupant, str] = {}
        """Connections that have not logged in, oldest first, with where they come from."""
        self._by_origin: dict[str, dict[Occupant, None]] = {}

    def __len__(self) -> int:
        return len(self._devices) + len(self._strangers)

    @property
    def occupants(self) -> list[Occupant]:
        """All connections at this port."""
        return [*self._devices, *self._strangers]

    def enter(self, stranger: Occupant, address: str) -> bool:
        """Give a place to a new connection; return False if devices have them all.

        If there is none left, the oldest connection that has not logged in makes room: one of the
        origin from which most of them come, so that a flood hits itself and not a slow device.
        """
        if len(self) >= self._places_max:
            if not self._strangers:
                return False
            most = max(self._by_origin.values(), key=len)
            oldest = next(iter(most))
            self.leave(oldest)
            oldest.evict("full", "it had not logged in, and its place was needed")
        origin = origin_of(address)
        self._strangers[stranger] = origin
        self._by_origin.setdefault(origin, {})[stranger] = None
        return True

    def log_in(self, stranger: Occupant) -> None:
        """Note that it has logged in: nobody can take its place now."""
        if self._forget_stranger(stranger):
            self._devices[stranger] = None

    def leave(self, occupant: Occupant) -> None:
        """Note that it has gone, or is about to."""
        self._devices.pop(occupant, None)
        self._forget_stranger(occupant)

    def _forget_stranger(self, stranger: Occupant) -> bool:
        origin = self._strangers.pop(stranger, None)
        if origin is None:
            return False
        same = self._by_origin[origin]
        del same[stranger]
        if not same:
            del self._by_origin[origin]
        return True


def origin_of(address: str) -> str:
    """Return an address without what one host can choose at will."""
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    return packed[:SUBNET_BYTES].hex() if not packed.startswith(bytes(8)) else packed.hex()


class HeldBytes:
    """What connections hold before their log-in, all together."""

    def __init__(self, bytes_max: int) -> None:
        self.total = 0
        self._bytes_max = bytes_max
        self._held: dict[Occupant, int] = {}

    def hold(self, occupant: Occupant, size: int) -> None:
        """Note that it holds `size` bytes now.

        If that is too much, those that hold the most are closed, which may be itself: what a
        device sends to log in is small.
        """
        self.total += size - self._held.get(occupant, 0)
        self._held[occupant] = size
        if self.total <= self._bytes_max:
            return
        # Many at once, because to sort 10,000 of them takes milliseconds.
        for largest in sorted(self._held, key=self._held.__getitem__, reverse=True):
            if self.total <= self._bytes_max * KEPT_OF_HELD:
                break
            self.release(largest)
            largest.evict("memory", "it held the most memory of all that had not logged in")

    def release(self, occupant: Occupant) -> None:
        """Note that it holds nothing."""
        self.total -= self._held.pop(occupant, 0)


class KeptBytes:
    """What accounts let the broker keep: subscriptions, retained messages with deep topics, and
    sessions whose client has gone.

    We do not learn when it lets them go. So each account may add so much at once, and then so much
    a second.
    """

    def __init__(self) -> None:
        self._full_at: dict[bytes | None, float] = {}
        """When an account may add all at once again."""

    def allows(self, account: bytes | None, size: int) -> bool:
        """Tell whether an account may add so much."""
        debt_seconds = self._full_at.get(account, 0.0) - time.monotonic()
        return max(debt_seconds, 0.0) * KEPT_BYTES_PER_SECOND + size <= KEPT_BYTES_MAX

    def add(self, account: bytes | None, size: int) -> None:
        """Note that an account has added so much."""
        since = max(self._full_at.get(account, 0.0), time.monotonic())
        self._full_at[account] = since + size / KEPT_BYTES_PER_SECOND
