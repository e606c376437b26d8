"""Time expansion: a recorder for ultrasound may write its sound more slowly than it was."""

import re

from msgspec.structs import replace

from echo_ingest.decode.audio.sound import SAMPLE_RATE_HZ_MAX, AudioMeasure

_FACTOR = re.compile(r"(\d{1,4})(?:[.,]0*)?", re.ASCII)


def factor(metadata: dict[str, str]) -> int:
    """Return how many times longer the file lasts than what was heard (GUANO and wamd: `TE`).

    It is 1 where the file does not say so, or says what no recorder does.
    """
    match = _FACTOR.fullmatch(metadata.get("TE", ""))
    return max(int(match[1]), 1) if match else 1


def as_heard(sound: AudioMeasure) -> AudioMeasure:
    """Return the measures of what was heard: the file's, with its time expansion undone."""
    expansion = factor(sound.metadata)
    if expansion == 1 or sound.sample_rate_hz * expansion > SAMPLE_RATE_HZ_MAX:
        return sound
    return replace(
        sound,
        sample_rate_hz=sound.sample_rate_hz * expansion,
        duration_seconds=sound.duration_seconds / expansion,
    )
