"""How many samples a packet of an Ogg stream holds, by its first bytes: Vorbis, Opus and FLAC."""

from typing import Protocol

from echo_ingest.decode.audio import flac_frame
from echo_ingest.decode.audio.flac import STREAMINFO_BYTES, streaminfo
from echo_ingest.decode.audio.sound import U16, U32

OPUS_RATE_HZ = 48_000
OPUS_PACKET_SAMPLES_MAX = 5_760
_OPUS_FRAME_SAMPLES = (
    *(480, 960, 1_920, 2_880) * 3,
    *(480, 960) * 2,
    *(120, 240, 480, 960) * 4,
)
"""By the five bits of the configuration (RFC 6716, 3.1), at 48,000 samples a second."""
VORBIS_MODES_MAX = 64
VORBIS_MODE_BITS = 41


class OggCodec(Protocol):
    """Reads the packets of one stream, in their order."""

    sample_rate_hz: int
    channels: int
    granules_hz: int
    skipped_granules: int
    """What is to be left out at the start."""
    announced_samples: int
    """0 where the header does not say."""

    def samples(self, packet: bytes) -> int | None:
        """Return the samples of a packet of sound, or None for a header.

        Of a packet of sound, 16 bytes are enough. Raise `ValueError` where its samples cannot be
        counted.
        """


def codec(packet: bytes) -> OggCodec | None:
    """Return what reads the stream that begins with this packet."""
    if packet.startswith(b"\x01vorbis") and len(packet) >= 29:
        return Vorbis(packet)
    if packet.startswith(b"OpusHead") and len(packet) >= 16:
        return Opus(packet)
    if packet.startswith(b"\x7fFLAC") and len(packet) >= 17 + STREAMINFO_BYTES:
        return Flac(packet)
    return None


class Opus:
    """Opus (RFC 7845)."""

    def __init__(self, packet: bytes) -> None:
        self.sample_rate_hz = U32.unpack_from(packet, 12)[0] or OPUS_RATE_HZ
        self.channels = packet[9]
        self.granules_hz = OPUS_RATE_HZ
        self.skipped_granules: int = U16.unpack_from(packet, 10)[0]
        self.announced_samples = 0

    def samples(self, packet: bytes) -> int | None:
        """Return the samples of a packet of sound, or None for a header."""
        if packet.startswith((b"OpusHead", b"OpusTags")):
            return None
        if not packet:
            return 0
        frame_samples = _OPUS_FRAME_SAMPLES[packet[0] >> 3]
        code = packet[0] & 3
        frames = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
        samples = frames * frame_samples
        return samples if samples <= OPUS_PACKET_SAMPLES_MAX else 0


class Vorbis:
    """Vorbis I. How long a packet is depends on its mode, and on the packet before it."""

    def __init__(self, packet: bytes) -> None:
        self.sample_rate_hz: int = U32.unpack_from(packet, 12)[0]
        self.channels = packet[11]
        self.granules_hz = self.sample_rate_hz
        self.skipped_granules = 0
        self.announced_samples = 0
        self._blocks = 1 << (packet[28] & 15), 1 << (packet[28] >> 4)
        self._modes: list[int] = []
        """The block size of each mode."""
        self._mask = 0
        self._before = 0

    def samples(self, packet: bytes) -> int | None:
        """Return the samples of a packet of sound, or None for a header."""
        if packet[:1] and packet[0] & 1:
            if packet.startswith(b"\x05vorbis"):
                self._modes = [self._blocks[flag] for flag in _vorbis_modes(packet)]
                self._mask = (1 << (len(self._modes) - 1).bit_length()) - 1
            return None
        if not self._modes:
            raise ValueError("no modes")
        if not packet:
            return 0
        mode = packet[0] >> 1 & self._mask
        block = self._modes[mode] if mode < len(self._modes) else 0
        # The first packet only overlaps with the second (Vorbis I, 4.3.8).
        samples = (self._before + block) // 4 if self._before else 0
        self._before = block
        return samples


class Flac:
    """FLAC in Ogg (RFC 9639, 10.1)."""

    def __init__(self, packet: bytes) -> None:
        info = streaminfo(packet[17:])
        self.sample_rate_hz = self.granules_hz = info.sample_rate_hz
        self.channels = info.channels
        self.skipped_granules = 0
        self.announced_samples = info.samples

    def samples(self, packet: bytes) -> int | None:
        """Return the samples of a packet of sound, or None for a header."""
        if packet[:1] != b"\xff":
            return None
        frame = flac_frame.frame(packet[: flac_frame.HEAD_BYTES_MAX])
        return frame.samples if frame else 0


def _vorbis_modes(setup: bytes) -> list[int]:
    """Read the block flags of the modes, which are the end of the setup header (Vorbis I, 4.2.4).

    What stands before them can only be decoded as a whole, so they are read from the end: before
    each there may be another one, or the count of them. The largest count that holds is right.
    """
    bits = int.from_bytes(setup, "little")
    at = bits.bit_length() - 1  # the framing bit is the last one
    flags: list[int] = []
    confirmed: list[int] = []
    while at >= VORBIS_MODE_BITS + 6 and len(flags) < VORBIS_MODES_MAX:
        at -= VORBIS_MODE_BITS
        mode = bits >> at & (1 << VORBIS_MODE_BITS) - 1
        # A flag, 16 bits each of window and transform, which are 0, and the mapping.
        if mode >> 1 & 0xFFFFFFFF or mode >> 33 > 63:
            break
        flags.insert(0, mode & 1)
        if (bits >> at - 6 & 63) + 1 == len(flags):
            confirmed = list(flags)
    return confirmed
