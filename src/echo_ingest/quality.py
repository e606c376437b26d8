"""Why a value that a device sent was not believed: codes, each with a summary and advice.

A record with such a code is stored all the same, with the value that can be trusted more: the time
of receipt, the duration of the sound itself.
"""

from enum import StrEnum
from typing import Self


class _QualityCode(StrEnum):
    """A code whose value is stored, so it never changes; its texts may."""

    summary: str
    """What is wrong, as one sentence that holds for every record with this code."""
    advice: str
    """What to do about it."""

    def __new__(cls, value: str, summary: str, advice: str) -> Self:
        """Make a member of its stored value and its two texts."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.summary = summary
        member.advice = advice
        return member


class TimeProblem(_QualityCode):
    """Why the time of a record is not simply what the device wrote."""

    CLOCK_NOT_SET = (
        "clock_not_set",
        "The clock of the device was not set: it counts from a start value such as 1970 or 2000.",
        "Have the device set its clock (NTP, GPS or a battery-backed clock) before it records.",
    )
    BEFORE_FIRST_DAY = (
        "before_first_day",
        "The time lies before the first day of the project.",
        "Set the clock of the device. If the recording is that old, set IOT_FIRST_DAY.",
    )
    AFTER_RECEIPT = (
        "after_receipt",
        "The time lies after the message was received.",
        "Set the clock of the device; it may send local time as if it were UTC.",
    )
    GPS_WEEK_ROLLOVER = (
        "gps_week_rollover",
        "The time is 1,024 weeks in the past, as an old GPS receiver gives it.",
        "Update the firmware of the GPS receiver, or set the clock in another way.",
    )
    ZONE_UNKNOWN = (
        "zone_unknown",
        "The time names no zone, and none is known for the node.",
        "Have the device send UTC with a Z at the end, or set IOT_ZONE to the zone of its clock.",
    )
    CORRECTED = (
        "corrected",
        "The time was corrected by what the nodes file says about the clock of the node.",
        "Nothing, as long as the clock of the device stays that far off.",
    )


class ClipProblem(_QualityCode):
    """In which way the header of a clip differs from its sound; the sound counts."""

    LENGTH_NOT_ANNOUNCED = (
        "length_not_announced",
        "The header does not say how long the sound is, as where a program writes to a pipe.",
        "Nothing: the sound was measured to the end of the message. Whether its end is missing"
        " cannot be told.",
    )
    HEADER_DISAGREES = (
        "header_disagrees",
        "The header says something else about the length of the sound than the sound itself.",
        "Nothing: the duration was measured. The program that wrote the file should be updated.",
    )
    SEVERAL_FILES = (
        "several_files",
        "The clip is several recordings, one after the other.",
        "Nothing: the duration is that of all of them. Have the device send one file per message.",
    )
