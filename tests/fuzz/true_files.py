"""What is common to the audio files that are built here: a file, its truth, and how it may fail."""

from typing import NamedTuple

from tests.fuzz.truths import NOTHING, SoundTruth

NOT_ANNOUNCED, DISAGREES, SEVERAL = "length_not_announced", "header_disagrees", "several_files"
NONE = ""
"""Stands for no problem where several outcomes are right."""
CUT_OFF, EMPTY, BROKEN = "audio_cut_off", "audio_empty", "audio_broken"
UNKNOWN_FORMAT = "unknown_audio_format"
RATES_HZ = (8_000, 8_000, 16_000, 11_025)
EVERY_PROBLEM = frozenset({NONE, NOT_ANNOUNCED, DISAGREES, SEVERAL})


class File(NamedTuple):
    """A file, what is true of it, and how it may be rejected."""

    label: str
    sound: SoundTruth
    refused: frozenset[str] = NOTHING
    must: bool = False
