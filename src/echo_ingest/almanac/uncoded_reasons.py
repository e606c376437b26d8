"""Reasons that are text alone: the one place where a reason is read as words.

Two kinds of reasons have no code: those that a journal of schema 1 stored, which older versions of
this service wrote, and those that another system gives, such as the Echo API's replies. Their text
has to tell what they have in common, and for the former also which code they would have today.
Reasons with a code never come here.
"""

import re

from echo_ingest.reasons import ReasonCode

ALIKE_CHARACTERS_MAX = 200

_HTTP_STATUS = re.compile(r"[1-5]\d\d\b")
_QUOTED_TO_THE_END = re.compile(r'\b(near|found|text) ".*"$')
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_BYTES = re.compile(r"\b[0-9a-f]{2}(?: [0-9a-f]{2}){2,}\b")
_NUMBER = re.compile(r"(?<![\w.])(?<!UTF-)-?\d+(?:[.,]\d+)*(?!\w)")
_HEX = re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{2,}(?:-[0-9a-f]{2,})*\b", re.IGNORECASE)
_SEVERAL = re.compile(r"…(?:[ ,-]+…)+")

_DEAD_LETTERS = (
    (r"^too large: ", ReasonCode.TOO_LARGE),
    (r"^damaged: ", ReasonCode.DAMAGED),
    (r"the message is empty", ReasonCode.EMPTY_MESSAGE),
    (r"neither a JSON object nor", ReasonCode.NEITHER_JSON_NOR_AUDIO),
    (r"UTF-8|UTF-16", ReasonCode.NOT_UTF8),
    (r"JSON is cut off", ReasonCode.JSON_CUT_OFF),
    (r"NaN and infinity", ReasonCode.NOT_A_NUMBER),
    (r"^broken JSON", ReasonCode.BROKEN_JSON),
    (r"too deep|too many values", ReasonCode.TOO_COMPLEX),
    (r"one JSON object per message", ReasonCode.NOT_AN_OBJECT),
    (r"none of the forms", ReasonCode.UNKNOWN_FORM),
    (r"no model and no node answers for", ReasonCode.SPECIES_WITHOUT_SOURCE),
    (r"a status that does not say whose", ReasonCode.STATUS_WITHOUT_NODE),
    (r"^a movement needs", ReasonCode.INCOMPLETE_MOVEMENT),
    (r"cannot be read as a time|is no time between", ReasonCode.UNREADABLE_TIME),
    (r"its uncertainty", ReasonCode.IMPOSSIBLE_VALUE),
    (r"off the planet|latitude|longitude", ReasonCode.IMPOSSIBLE_PLACE),
    (r"^confidence: .* out of range", ReasonCode.CONFIDENCE_OUT_OF_RANGE),
    (r"broken base64|send the base64 alone", ReasonCode.BROKEN_BASE64),
    (r"the clip is not WAV|neither Vorbis nor Opus", ReasonCode.UNKNOWN_AUDIO_FORMAT),
    (r"one recording per message", ReasonCode.SEVERAL_RECORDINGS),
    (r"cut off|arrived", ReasonCode.AUDIO_CUT_OFF),
    (r"the clip is empty|is empty: a header|and no sound", ReasonCode.AUDIO_EMPTY),
    (r"^the (?:WAV|FLAC|MP3|Ogg)|the header says|FLAC", ReasonCode.AUDIO_BROKEN),
    (r"^(?:sampleRate|sourceType): ", ReasonCode.IMPOSSIBLE_VALUE),
    (r"was given twice, with different values", ReasonCode.PROPERTY_GIVEN_TWICE),
    (r"was used (?:before|already)|same id|another message", ReasonCode.ID_REUSED),
    (r" is missing$", ReasonCode.MISSING_FIELD),
    (r"was expected, found|expected, found|cannot be read", ReasonCode.WRONG_TYPE),
    (
        r"characters; |holds characters|: is empty$|entries; |number is too large|less than …",
        ReasonCode.IMPOSSIBLE_VALUE,
    ),
)
"""What older versions wrote as the reason of a dead letter; the first pattern that fits counts."""

_PARKED = (
    (r"^damaged: ", ReasonCode.DAMAGED),
    (r"does not decode it any more", ReasonCode.UNREADABLE_NOW),
    (r"no node id", ReasonCode.NODE_ID_MISSING),
    (r"unknown node|not found|no such node", ReasonCode.NODE_UNKNOWN_TO_SINK),
    (r"the Echo API takes|which the Echo API", ReasonCode.NOT_SUPPORTED_BY_SINK),
)
"""What older versions and the Echo API say of a parked record."""


def alike(reason: str) -> str:
    """Return what is left of a reason without what differs from message to message.

    An HTTP status at its beginning stays.
    """
    status = _HTTP_STATUS.match(reason)
    start = status.end() if status is not None else 0
    text = _QUOTED_TO_THE_END.sub(r"\1 …", reason[start:])
    for differing in (_QUOTED, _BYTES, _NUMBER, _HEX, _SEVERAL):
        text = differing.sub("…", text)
    return (reason[:start] + text)[:ALIKE_CHARACTERS_MAX]


def code_of_text(sink: str | None, text: str) -> ReasonCode | None:
    """Return the code that a reason would have today, given as `alike` makes it; None if unknown.

    `sink` is None for the reason of a dead letter.
    """
    for pattern, code in _DEAD_LETTERS if sink is None else _PARKED:
        if re.search(pattern, text):
            return code
    return None
