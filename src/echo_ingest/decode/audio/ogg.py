"""Ogg (RFC 3533) with one stream of Vorbis, Opus (RFC 7845) or FLAC (RFC 9639, 10.1).

Checked: every page is whole up to the end of the file. Page CRCs are not. Read: sample rate,
channels, and the duration by the last page's granule position.
"""

from collections.abc import Iterator
from typing import NamedTuple

from echo_ingest.decode.audio.flac import STREAMINFO_BYTES, streaminfo
from echo_ingest.decode.audio.sound import U16, U32, U64, AudioMeasure, measured
from echo_ingest.decode.errors import DecodeError
from echo_ingest.reasons import ReasonCode

PAGES_MAX = 100_000
OPUS_GRANULES_HZ = 48_000
NO_PACKET_ENDS = 2**64 - 1


class OggPage(NamedTuple):
    """A page of the stream."""

    granule: int
    stream: int
    body_at: int
    body_bytes: int


def measure(data: bytes) -> AudioMeasure:
    """Measure an Ogg file; raise `DecodeError` where it is broken, cut off or empty."""
    first: OggPage | None = None
    last_granule = 0
    for page in _pages(data):
        first = first or page
        if page.stream != first.stream:
            raise DecodeError(
                ReasonCode.AUDIO_BROKEN,
                "the Ogg file holds more than one stream; send one recording per message",
            )
        if page.granule != NO_PACKET_ENDS:
            last_granule = page.granule
    if first is None:
        raise DecodeError(ReasonCode.AUDIO_EMPTY, "the Ogg file is empty")
    rate, channels, granules_hz, skipped = _identify(
        data[first.body_at : first.body_at + first.body_bytes]
    )
    duration = max(last_granule - skipped, 0) / max(granules_hz, 1)
    return measured(rate, channels, duration, {})


def _pages(data: bytes) -> Iterator[OggPage]:
    at = 0
    for _ in range(PAGES_MAX):
        if at == len(data):
            return
        head = data[at : at + 27]
        if not head.startswith(b"OggS\0"[: len(head)]):
            raise DecodeError(
                ReasonCode.AUDIO_BROKEN,
                f"the Ogg file is broken: no page begins at byte {at:,}",
            )
        body_at = at + 27 + head[26] if len(head) == 27 else len(data) + 1
        size = sum(data[at + 27 : body_at])
        if body_at + size > len(data):
            raise DecodeError(
                ReasonCode.AUDIO_CUT_OFF,
                f"the Ogg file is cut off: only {len(data) - at:,} bytes of its last page arrived",
            )
        yield OggPage(
            U64.unpack_from(data, at + 6)[0], U32.unpack_from(data, at + 14)[0], body_at, size
        )
        at = body_at + size
    raise DecodeError(ReasonCode.AUDIO_BROKEN, f"the Ogg file has more than {PAGES_MAX:,} pages")


def _identify(packet: bytes) -> tuple[int, int, int, int]:
    """Read sample rate, channels, granules a second and granules to skip from the first packet."""
    if packet.startswith(b"\x01vorbis") and len(packet) >= 16:
        (rate,) = U32.unpack_from(packet, 12)
        return rate, packet[11], rate, 0
    if packet.startswith(b"OpusHead") and len(packet) >= 16:
        (rate,) = U32.unpack_from(packet, 12)
        (skipped,) = U16.unpack_from(packet, 10)
        return rate or OPUS_GRANULES_HZ, packet[9], OPUS_GRANULES_HZ, skipped
    if packet.startswith(b"\x7fFLAC") and len(packet) >= 17 + STREAMINFO_BYTES:
        rate, channels, _ = streaminfo(packet[17:])
        return rate, channels, rate, 0
    raise DecodeError(
        ReasonCode.UNKNOWN_AUDIO_FORMAT, "the Ogg file holds neither Vorbis nor Opus nor FLAC"
    )
