"""What to do about what was refused, in words for whoever looks after the devices. Pure.

By what reasons have in common (`almanac.refusals.alike`), the first that fits. Whoever adds a
reason to `decode` adds what to do about it here; a test holds the two together.
"""

import re

FORMS = "docs/forms.md shows every form that can be read, with an example."

LETTERS: tuple[tuple[str, str], ...] = (
    (
        r"^too large: ",
        "It is larger than this service takes. Have the device send shorter clips, or raise "
        "IOT_PAYLOAD_BYTES_MAX, start again, and try these once more: they are kept whole.",
    ),
    (
        r"^damaged: ",
        "The disk gave back other bytes than were stored, so nobody knows what the device "
        "said. Look after the disk soon; echo-ingest verify and docs/reliability.md say more.",
    ),
    (
        r"the message is empty",
        "Somebody publishes nothing at all: often a program that clears a retained message, "
        "or a sensor that could not be read. Have it send nothing, or a status, instead.",
    ),
    (
        r"neither a JSON object nor",
        "This is not one of the forms of a device. If it is another program, have it publish "
        f"elsewhere; if it is a device of yours, look at what it sends. {FORMS}",
    ),
    (
        r"UTF-8|UTF-16",
        "The text is in another encoding. Have the device write its JSON as UTF-8; on Windows"
        " and in old Python, that has to be said where the text is made.",
    ),
    (
        r"JSON is cut off",
        "The end is missing, mostly because a buffer in the device or its modem is smaller "
        "than the message (PubSubClient for Arduino takes 256 bytes unless told otherwise). "
        "Make it larger. What is missing cannot be made up, so trying again does not help.",
    ),
    (
        r"NaN and infinity",
        "A sensor could not be read, and the device wrote that as NaN. Have it send null instead.",
    ),
    (
        r"^broken JSON",
        "Somewhere near the marked place a comma, a quote or a bracket is wrong. Have the "
        "device make its JSON with a library rather than by putting text together.",
    ),
    (
        r"too deep|too many values",
        "It is nested or long as no device’s message is: look at what that program does.",
    ),
    (
        r"one JSON object per message|none of the forms",
        "The names of its fields are those of no form that can be read. If it is a device of "
        "yours, compare with the forms; if it is another program’s, have it publish "
        f"elsewhere. {FORMS}",
    ),
    (
        r"no model and no node answers for",
        "A species alone is not enough: it takes who heard it, or which model named it. Have "
        "the device send sensor_id and confidence, or source_model.",
    ),
    (
        r"a status that does not say whose",
        "Have the device publish below its own name (iotingestion/NAME), or send sensorId.",
    ),
    (
        r"^a movement needs",
        "A movement is an animal at a place. Have the sender fill in what is missing, or send"
        " no movement where the place is not known.",
    ),
    (
        r"cannot be read as a time|is no time between",
        "The device writes its time as nobody else does. Have it send one like "
        "2026-09-14T05:45:12Z, or seconds since 1970. One whose clock is not set may leave "
        "the time out: then the time of receipt counts.",
    ),
    (
        r"off the planet|latitude|longitude|its uncertainty",
        "The place cannot be right. Often latitude and longitude are swapped, or whole "
        "numbers were meant as millionths of a degree. Have the device send degrees, latitude"
        " first; null where it does not know.",
    ),
    (
        r"^confidence: .* out of range",
        "Confidence is a percentage, 0 to 100. A model that gives a fraction has to multiply "
        "by 100.",
    ),
    (
        r"broken base64|send the base64 alone",
        "The clip was damaged on its way into the message: cut off, or with something before "
        "it. Have the device send plain base64 of the whole file.",
    ),
    (
        r"the clip is not WAV",
        "The clip is in a format that cannot be read. Have the device record WAV or FLAC, or "
        "MP3 or Ogg; raw samples need a WAV header before them.",
    ),
    (
        r"cut off|says …|arrived",
        "The recording stops before its end: the device published it before it was written, "
        "or its battery or memory ended. Have it close the file first.",
    ),
    (
        r"the clip is empty|is empty: a header|and no sound",
        "There is no sound in the recording: the microphone or the card gave none. Look at "
        "the device.",
    ),
    (
        r"^the (?:WAV|FLAC|MP3|Ogg)|the header says|FLAC",
        "The recording is damaged or not as its header says. Listen to the file on the "
        "device; another memory card is the first thing to try.",
    ),
    (
        r"^sampleRate: ",
        "No recorder takes so many samples. Have the device send the sample rate in hertz, or"
        " leave it out: the clip itself says it.",
    ),
    (
        r"^sourceType: ",
        "It takes one of two words, real or simulator; or leave it out.",
    ),
    (
        r"was given twice, with different values",
        "An MQTT user property came twice, and nobody can tell which is right. Have it sent once.",
    ),
    (
        r"was used (?:before|already)|same id|another message",
        "The device gives its messages ids and has used one again for something else, as "
        "after a restart that begins to count anew. Have it make ids that never come again.",
    ),
    (
        r"was expected, found|expected, found|is missing|cannot be read",
        "The marked field is of another kind than the form has it, such as a number in "
        f"quotes. Have the device send it as the form shows. {FORMS}",
    ),
    (
        r"characters; |holds characters|: is empty$|entries; |number is too large|less than …",
        "The marked field holds what cannot be meant. Have the device send a value that can "
        "be, or leave the field out.",
    ),
)

SINKS: tuple[tuple[str, str], ...] = (
    (
        r": damaged: |does not decode it any more",
        "This record cannot be read any more: its bytes changed on the disk, or this version "
        "reads that form differently. docs/reliability.md says what is kept.",
    ),
    (
        r"(?:unknown node|not found|no such node)|no node id",
        "The Echo API does not know that node. Make it known there, and then try these again.",
    ),
    (
        r"the Echo API takes|which the Echo API",
        "The Echo API has no place for this. It is kept here and in the other stores; nothing"
        " needs to be done, unless the API learns to take it.",
    ),
    (
        r"^echo_api: ",
        "The Echo API has rules of its own and says which one. Where the device is at fault, "
        "mend it there: what was refused stays as it is. Where the API has changed its rules "
        "since, try these again.",
    ),
    (
        r"^postgres: ",
        "A rule of your database says no: a constraint or a trigger that was added there, or "
        "a value that it cannot hold. Mend the rule, and then try these again.",
    ),
    (
        r"^mongodb: ",
        "A rule of your database says no: a validator or an index that was added there, or a "
        "document that is too large. Mend the rule, and then try these again.",
    ),
    (
        r"^objects: ",
        "The store for audio will not take this clip under its name. Look at its rules "
        "(retention, locks, sizes), and then try these again.",
    ),
)

OTHERWISE = "The words above are all that is known. Once the cause is mended, try these again."


def advice(sink: str | None, reason: str) -> str:
    """What to do about a reason of `sink`, or, of none, of messages that could not be read."""
    given = reason if sink is None else f"{sink}: {reason}"
    for pattern, words in LETTERS if sink is None else SINKS:
        if re.search(pattern, given):
            return words
    return OTHERWISE
