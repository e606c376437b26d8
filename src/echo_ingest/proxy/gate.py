"""The gate: holds back what devices publish while the broker's memory is short."""

from typing import Protocol


class HeldDevice(Protocol):
    """What the gate needs of a connection."""

    def pass_on(self) -> None:
        """Pass on what was held back, and read again."""


class Gate:
    """One gate for all devices. A connection that meets it closed stops reading, and waits.

    Only a connection that publishes meets it: acknowledgements, pings and log-ins go through, so
    that who reads can go on emptying queues. But behind a message that waits, pings wait too: a
    gate that stays closed for longer than a device's keep-alive costs that device its connection.
    """

    def __init__(self) -> None:
        self.is_open = True
        self._waiting: dict[HeldDevice, None] = {}

    def close(self) -> None:
        """Let no PUBLISH through from now on."""
        self.is_open = False

    def open(self) -> None:
        """Let everything through; those who wait go first, in order."""
        self.is_open = True
        waiting, self._waiting = self._waiting, {}
        for device in waiting:
            device.pass_on()

    def wait(self, device: HeldDevice) -> None:
        """Call `pass_on` of `device` when the gate opens."""
        self._waiting[device] = None

    def forget(self, device: HeldDevice) -> None:
        """Do not call it any more."""
        self._waiting.pop(device, None)

    @property
    def waiting(self) -> int:
        """How many devices wait."""
        return len(self._waiting)
