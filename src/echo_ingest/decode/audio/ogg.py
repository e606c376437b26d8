"""Ogg (RFC 3533) with Vorbis, Opus (RFC 7845) or FLAC (RFC 9639, 10.1).

Checked: every page is whole up to the end of the file, and the granule positions advance by as much
as the packets hold. Page CRCs are not. Read: sample rate, channels, and the duration from the
first sound to the last: the positions of a recording that was cut out of a longer one do not begin
at 0.
"""

from collections.abc import Iterator
from struct import Struct as Layout
from typing import NamedTuple

from echo_ingest.decode.audio.ogg_codecs import OggCodec, codec
from echo_ingest.decode.audio.sound import AudioMeasure, joined, measured
from echo_ingest.decode.errors import DecodeError
from echo_ingest.quality import ClipProblem
from echo_ingest.reasons import ReasonCode

PAGES_MAX = 100_000
FILES_MAX = 100
GRANULE_MAX = 2**63 - 1
CONTINUES, BEGINS, ENDS = 1, 2, 4
OPENING = b"OggS\0"
_HEAD = Layout("<5sBQI8xB")
PACKETS_MAX = 75_000
"""As many packets are counted, which are 25 minutes; from there on, positions are believed."""
HEADER_BYTES_MAX = 1_000_000
PACKET_BYTES = 16
"""What is kept of a packet of sound."""


class OggPage(NamedTuple):
    """A page of the stream."""

    flags: int
    granule: int
    stream: int
    lacing: bytes
    body_at: int


class OggLink:
    """One stream, from its header to its last page."""

    def __init__(self, stream: int, packets_left: int) -> None:
        self.stream = stream
        self.packets_left = packets_left
        self.codec: OggCodec | None = None
        self.has_sound = False
        self.is_ended = False
        self._samples = 0
        """Of all packets so far."""
        self._first: tuple[int, int] | None = None
        """The first granule position, and the samples up to there."""
        self._last = (0, 0)
        self._last_page_samples = 0
        self._packet = b""
        """The beginning of a packet that goes on."""
        self._is_open = False

    def add(self, data: bytes, page: OggPage) -> None:
        """Count the packets that end on this page."""
        self.is_ended = bool(page.flags & ENDS)
        if self.packets_left <= 0:
            self._note_granule(page.granule, 0)
            return
        self.packets_left -= len(page.lacing)
        before = self._samples
        if not page.flags & CONTINUES:
            self._packet, self._is_open = b"", False
        skips = bool(page.flags & CONTINUES) and not self._is_open
        at = page.body_at
        size = 0
        ended = False
        for length in page.lacing:
            size += length
            if length < 255:
                if not skips:
                    self._end(data, at, size)
                    ended = True
                skips = False
                self._packet, self._is_open = b"", False
                at += size
                size = 0
        if size and not skips:
            if len(self._packet) < (PACKET_BYTES if self.has_sound else HEADER_BYTES_MAX):
                self._packet += data[at : at + size]
            self._is_open = True
        if ended and self._samples > before:
            self._note_granule(page.granule, self._samples - before)

    def measure(self) -> AudioMeasure:
        """Return how long the stream lasts."""
        if self.codec is None:
            raise _unknown()
        by_packets = self._samples
        if self._first is None:
            length, problem = by_packets, None
            if by_packets:
                problem = ClipProblem.HEADER_DISAGREES
        else:
            length, problem = self._by_granules()
        if problem is None and not self.is_ended:
            problem = ClipProblem.LENGTH_NOT_ANNOUNCED
        length = max(length - self.codec.skipped_granules, 0)
        announced = self.codec.announced_samples
        if announced not in (0, length):
            if length < announced and not self.is_ended:
                raise DecodeError(
                    ReasonCode.AUDIO_CUT_OFF,
                    f"the Ogg file is cut off: its header announces {announced:,} samples, and"
                    f" its pages hold {length:,}",
                )
            problem = ClipProblem.HEADER_DISAGREES
        rate = self.codec.granules_hz
        return measured(
            self.codec.sample_rate_hz, self.codec.channels, length / max(rate, 1), {}, problem
        )

    def _by_granules(self) -> tuple[int, ClipProblem | None]:
        assert self._first is not None
        (first_granule, first_samples), (granule, samples) = self._first, self._last
        if self.packets_left <= 0:
            return granule - max(first_granule - first_samples, 0), None
        rest = self._samples - samples
        # The encoder may leave out the end of the last page, and nothing else.
        trimmed = (samples - first_samples) - (granule - first_granule)
        if self._first == self._last:
            trimmed = max(samples - granule, 0)
        if not 0 <= trimmed <= self._last_page_samples:
            return self._samples, ClipProblem.HEADER_DISAGREES
        start = max(first_granule - first_samples, 0)
        return granule - start + rest, ClipProblem.HEADER_DISAGREES if rest else None

    def _end(self, data: bytes, at: int, size: int) -> None:
        """Read the packet that ends with these bytes."""
        packet = data[at : at + (min(size, PACKET_BYTES) if self.has_sound else size)]
        if self._packet:
            packet = self._packet + packet
        if self.codec is None:
            self.codec = codec(packet)
            if self.codec is None:
                raise _unknown()
            return
        try:
            samples = self.codec.samples(packet)
        except ValueError:
            raise DecodeError(
                ReasonCode.AUDIO_BROKEN,
                "the Ogg file is broken: the Vorbis header that says how to count its sound is"
                " missing or cannot be read",
            ) from None
        if samples is not None:
            self.has_sound = True
            self._samples += samples

    def _note_granule(self, granule: int, page_samples: int) -> None:
        """Take a position; 0 and negative ones mean nothing behind sound."""
        if 0 < granule <= GRANULE_MAX:
            self._last = granule, self._samples
            self._last_page_samples = page_samples
            self._first = self._first or self._last


def measure(data: bytes) -> AudioMeasure:
    """Measure an Ogg file; raise `DecodeError` where it is broken, cut off or empty."""
    links: list[OggLink] = []
    others: set[int] = set()
    for page in _pages(data):
        link = links[-1] if links else None
        if link is None or (page.flags & BEGINS and link.has_sound):
            if len(links) == FILES_MAX:
                raise DecodeError(
                    ReasonCode.SEVERAL_RECORDINGS,
                    f"the clip is more than {FILES_MAX} Ogg streams; send one recording per"
                    " message",
                )
            link = OggLink(page.stream, link.packets_left if link else PACKETS_MAX)
            links.append(link)
        if page.stream != link.stream:
            if page.flags & BEGINS and not _is_sound(data, page):
                others.add(page.stream)
            elif page.stream not in others:
                raise DecodeError(
                    ReasonCode.SEVERAL_RECORDINGS,
                    "the Ogg file holds more than one stream at a time; send one recording per"
                    " message",
                )
            continue
        link.add(data, page)
    return joined([link.measure() for link in links])


def _unknown() -> DecodeError:
    return DecodeError(
        ReasonCode.UNKNOWN_AUDIO_FORMAT, "the Ogg file holds neither Vorbis nor Opus nor FLAC"
    )


def _is_sound(data: bytes, page: OggPage) -> bool:
    """Return whether a stream that begins with this page is one of sound."""
    return codec(data[page.body_at : page.body_at + sum(page.lacing)]) is not None


def _pages(data: bytes) -> Iterator[OggPage]:
    at = 0
    is_ended = False
    for _ in range(PAGES_MAX):
        if at == len(data):
            return
        lacing_at = at + _HEAD.size
        if lacing_at <= len(data):
            opening, flags, granule, stream, segments = _HEAD.unpack_from(data, at)
        else:
            opening, segments = data[at : at + len(OPENING)], 0
        if not OPENING.startswith(opening):
            if is_ended and data.find(b"OggS", at) < 0:
                return  # zeros, a tag or rubbish behind the last page
            raise DecodeError(
                ReasonCode.AUDIO_BROKEN,
                f"the Ogg file is broken: no page begins at byte {at:,}",
            )
        body_at = lacing_at + segments
        lacing = data[lacing_at:body_at]
        behind = body_at + sum(lacing)
        if behind > len(data):
            raise DecodeError(
                ReasonCode.AUDIO_CUT_OFF,
                f"the Ogg file is cut off: only {len(data) - at:,} bytes of its last page arrived",
            )
        yield OggPage(flags, granule, stream, lacing, body_at)
        is_ended = bool(flags & ENDS)
        at = behind
    raise DecodeError(ReasonCode.AUDIO_BROKEN, f"the Ogg file has more than {PAGES_MAX:,} pages")
