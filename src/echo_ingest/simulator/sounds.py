"""Animal calls made of sine waves, for the demonstration and for tests."""

import array
import math
import struct
from random import Random

from msgspec import Struct

VOLUME = 9_000
NOISE = 120


class SpeciesSound(Struct, frozen=True):
    """The call of a species, simplified to one tone in pulses."""

    species: str
    start_hz: float
    end_hz: float
    pulses_per_second: float
    """Notes per second; the tone glides from start to end within each note."""
    duty: float
    """The share of a note during which it sounds, 0 to 1."""


CALLS = (
    SpeciesSound("Litoria ewingii", 2_400, 2_700, 7.0, 0.5),
    SpeciesSound("Crinia signifera", 2_900, 3_100, 4.0, 0.25),
    SpeciesSound("Dacelo novaeguineae", 600, 1_500, 5.0, 0.8),
    SpeciesSound("Uperoleia mimula", 2_000, 2_200, 12.0, 0.4),
    SpeciesSound("Sus scrofa", 180, 140, 2.0, 0.6),
    SpeciesSound("Limnodynastes dumerilii", 560, 480, 0.9, 0.2),
    SpeciesSound("Geocrinia victoriana", 2_600, 2_400, 10.0, 0.5),
    SpeciesSound("Ninox boobook", 880, 720, 1.4, 0.5),
    SpeciesSound("Ninox strenua", 420, 370, 0.8, 0.6),
    SpeciesSound("Eopsaltria australis", 3_500, 2_600, 3.0, 0.3),
    SpeciesSound("Strepera graculina", 900, 1_900, 1.2, 0.5),
)


def wav(
    call: SpeciesSound, seconds: float, sample_rate_hz: int, rng: Random, guano: str = ""
) -> bytes:
    """Return a WAV file of the call in quiet noise; see `wav_file`."""
    return wav_file(sound(call, seconds, sample_rate_hz, rng), sample_rate_hz, guano)


def sound(call: SpeciesSound, seconds: float, sample_rate_hz: int, rng: Random) -> bytes:
    """Return the call in quiet noise as 16-bit samples, low byte first."""
    samples = array.array("h")
    phase = 0.0
    for index in range(int(seconds * sample_rate_hz)):
        note = (index / sample_rate_hz * call.pulses_per_second) % 1.0
        progress = note / call.duty
        loudness = math.sin(math.pi * progress) if progress < 1 else 0.0
        frequency_hz = call.start_hz + (call.end_hz - call.start_hz) * min(progress, 1.0)
        phase += 2 * math.pi * frequency_hz / sample_rate_hz
        samples.append(int(VOLUME * loudness * math.sin(phase) + rng.gauss(0, NOISE)))
    return samples.tobytes()


def wav_file(data: bytes, sample_rate_hz: int, guano: str = "") -> bytes:
    """Return a mono 16-bit WAV file of these samples, with a GUANO chunk if there is text.

    Source for the chunk: the GUANO specification 1.0, chunk id `guan`, UTF-8 lines `Key: value`.
    """
    text = guano.encode()
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)
    chunks += b"data" + struct.pack("<I", len(data)) + data
    if text:
        chunks += b"guan" + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
