"""The gate: holds back what devices publish while the broker's memory is short."""

from typing import Protocol


class HeldDevice(Protocol):
    """What the gate needs of a connection."""

    def pass_on(self) -> None:
        """Pass on what was held back, as far as the gate allows it now, and read again."""


class Gate:
    """One gate for all devices. A connection that may not go on stops reading, and waits.

    Where it is closed, no PUBLISH begins; one that has begun goes on, for else the memory that it
    holds would never come free. Where it is shut, which is meant for a moment, that waits too. All
    else goes through: acknowledgements, pings and log-ins, so that who reads can go on emptying
    queues. But behind a message that waits, pings wait too: a gate that stays closed for longer
    than a device's keep-alive costs that device its connection.
    """

    def __init__(self) -> None:
        self.is_open, self.is_shut = True, False
        self._waiting: dict[HeldDevice, None] = {}

    def open(self) -> None:
        """Let everything through."""
        self._set(is_open=True, is_shut=False)

    def close(self) -> None:
        """Let no PUBLISH begin from now on."""
        self._set(is_open=False, is_shut=False)

    def shut(self) -> None:
        """Let nothing of a PUBLISH through from now on."""
        self._set(is_open=False, is_shut=True)

    def _set(self, *, is_open: bool, is_shut: bool) -> None:
        lets_more = (is_open and not self.is_open) or (self.is_shut and not is_shut)
        self.is_open, self.is_shut = is_open, is_shut
        if lets_more:
            # Those who wait go on in order. What they pass on may close it again: then they wait
            # again, in the same order.
            waiting, self._waiting = self._waiting, {}
            for device in waiting:
                device.pass_on()

    def wait(self, device: HeldDevice) -> None:
        """Call `pass_on` of `device` when the gate lets more through."""
        self._waiting[device] = None

    def forget(self, device: HeldDevice) -> None:
        """Do not call it any more."""
        self._waiting.pop(device, None)

    @property
    def waiting(self) -> int:
        """How many devices wait."""
        return len(self._waiting)
