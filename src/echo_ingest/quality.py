"""Why a value that a device sent was not believed: codes, each with a summary and advice.

A record with such a code is stored all the same, with the value that can be trusted more: the time
of receipt, the duration of the sound itself.
"""

from echo_ingest.advised_code import AdvisedCode


class TimeProblem(AdvisedCode):
    """Why the time of a record is not simply what the device wrote."""

    CLOCK_NOT_SET = (
        "clock_not_set",
        "The time is one that a clock shows which was never set, such as a day in 1970 or 2000.",
        "Have the device set its clock (NTP, GPS or a battery-backed clock) before it records. If"
        " it sends a number, that must count seconds from 1970, and neither days nor the time since"
        " the device was started.",
    )
    OTHER_START = (
        "other_start",
        "The time seems to be a count of seconds from 1900, 1980 or 2000, not from 1970.",
        "Have the device send seconds since 1970, or a time like 2026-09-14T05:45:12Z. GPS counts"
        " from 1980, NTP from 1900, and MicroPython on some boards from 2000.",
    )
    BEFORE_FIRST_DAY = (
        "before_first_day",
        "The time lies before the first day of the project.",
        "If the recording is that old, set IOT_FIRST_DAY. Otherwise set the clock of the device.",
    )
    AFTER_RECEIPT = (
        "after_receipt",
        "The time lies after the message was received.",
        "Set the clock of the device. It may also send local time as if it were UTC, or the zone of"
        " IOT_ZONE or the clock of the computer that receives may be wrong.",
    )
    GPS_WEEK_ROLLOVER = (
        "gps_week_rollover",
        "The time is 1,024 weeks in the past, as an old GPS receiver gives it.",
        "Update the firmware of the GPS receiver, or set the clock in another way.",
    )
    ZONE_UNKNOWN = (
        "zone_unknown",
        "The time names no zone, and the zone of the site is not known.",
        "Set IOT_ZONE to the zone in which the clocks are set, or have the device write its zone,"
        " best UTC with a Z at the end.",
    )
    CORRECTED = (
        "corrected",
        "The time was corrected by what the nodes file says about the clock of the node.",
        "Nothing needs to be done as long as the clock of the device stays that far off.",
    )


class ClipProblem(AdvisedCode):
    """In which way the header of a clip differs from its sound; the sound counts."""

    LENGTH_NOT_ANNOUNCED = (
        "length_not_announced",
        "The file does not say how long the sound is, as where a program writes to a pipe.",
        "Nothing needs to be done: the sound was measured to its end in the message. Whether more"
        " was recorded cannot be told.",
    )
    HEADER_DISAGREES = (
        "header_disagrees",
        "What the file says about the length of its sound differs from the sound itself.",
        "The duration is that of the sound. Update or configure the program that wrote the file.",
    )
    SEVERAL_FILES = (
        "several_files",
        "The clip is several recordings, one after the other.",
        "The duration is that of all of them. Have the device send one recording per message.",
    )
