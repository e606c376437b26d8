"""Why a message or a record was not taken: codes, each with a summary and advice for people.

`decode` gives a code to every message that it rejects, and the sinks to every record that they
refuse by a rule of our own. What another system says in its own words has no code.
"""

from echo_ingest.advised_code import AdvisedCode

FORMS = "docs/forms.md shows every form that can be read, with an example."


class ReasonCode(AdvisedCode):
    """A kind of reason. Its value is stored, so it never changes; its texts may."""

    @property
    def phrase(self) -> str:
        """The summary as part of a longer sentence: it begins small and has no full stop."""
        return self.summary[:1].lower() + self.summary[1:].rstrip(".")

    # ------------------------------------------------------------------ the message as a whole

    TOO_LARGE = (
        "too_large",
        "The message is larger than this service accepts.",
        "Have the device send shorter clips, or raise IOT_PAYLOAD_BYTES_MAX, restart the service"
        " and retry these messages: they are kept whole.",
    )
    TOPIC_TOO_LONG = (
        "topic_too_long",
        "The topic, or the name of the node in it, is too long.",
        "Give the device a name of at most 64 characters and a topic of at most 256. If you do not"
        " know the device, somebody else may have its password.",
    )
    PROPERTIES_TOO_LARGE = (
        "properties_too_large",
        "The MQTT properties of the message are larger than 64 KiB.",
        "Only the payload is kept: a few messages with such properties would fill the memory. Have"
        " the maker of the device send what is large in the payload, and as user properties only"
        " what docs/forms.md names. A retry does not help, but the payload can be published again"
        " with the properties that it needs.",
    )
    DAMAGED = (
        "damaged",
        "The disk returned other bytes than were stored.",
        "What the device sent cannot be recovered. Check the disk soon; `echo-ingest verify`"
        " and docs/reliability.md say more.",
    )
    EMPTY_MESSAGE = (
        "empty_message",
        "The message is empty: this is also how a retained message is cleared.",
        "If somebody has cleared a retained message, nothing needs to be done. If a device sends"
        " empty messages, it may have nothing to send: have it send nothing, or a status, instead.",
    )
    NEITHER_JSON_NOR_AUDIO = (
        "neither_json_nor_audio",
        "The message is neither JSON nor an audio file.",
        "If another program sends it, have that program publish on another topic. If it is one"
        f" of your devices, look at what it sends. {FORMS}",
    )
    NOT_UTF8 = (
        "not_utf8",
        "The text is not encoded as UTF-8.",
        "Have the device write its JSON as UTF-8. On Windows and in old versions of Python, the"
        " program has to ask for that where it opens or encodes the text.",
    )
    JSON_CUT_OFF = (
        "json_cut_off",
        "The JSON ends in the middle.",
        "A buffer in the device or its modem is probably smaller than the message (PubSubClient"
        " for Arduino holds 256 bytes by default): make it larger. The missing end"
        " cannot be recovered, so a retry does not help.",
    )
    NOT_A_NUMBER = (
        "not_a_number",
        "JSON has no NaN and no infinity.",
        "Probably a sensor could not be read, and the device wrote that as NaN or inf. Have it send"
        " null instead.",
    )
    BROKEN_JSON = (
        "broken_json",
        "The JSON has a syntax error.",
        "A comma, a quote or a bracket is missing or wrong near the marked place, or the end of the"
        " message is missing. Have the device build its JSON with a library instead of joining"
        " text.",
    )
    TOO_COMPLEX = (
        "too_complex",
        "The message is nested more deeply, or holds more values, than any device sends.",
        "If the device gathers several readings, have it send each as a message of its own."
        " Otherwise look at the program that sends it.",
    )
    NOT_AN_OBJECT = (
        "not_an_object",
        "The message is JSON, but not a JSON object.",
        f"Have the device send one JSON object in each message. {FORMS}",
    )
    AMBIGUOUS_KEY = (
        "ambiguous_key",
        "A key stands twice in the JSON object.",
        "It is not known which value is right. Have the device build its JSON with a library"
        " instead of joining text, and send each key once.",
    )
    UNKNOWN_FORM = (
        "unknown_form",
        "The fields of the message fit no known form.",
        "If it is one of your devices, compare its fields with the forms. If another program"
        f" sends it, have that program publish on another topic. {FORMS}",
    )

    ID_REUSED = (
        "id_reused",
        "The device used the id of an earlier message for a different one.",
        "If the device starts counting again after a restart, have it make ids that never repeat."
        " If it sends the same message again, nothing in it may change but its time: a count of"
        " attempts, for example, makes it a different one.",
    )

    NODE_NOT_CLAIMED = (
        "node_not_claimed",
        "The message names a node for which its gateway may not speak.",
        "If the gateway may speak for that node, say so with `echo-ingest nodes set GATEWAY"
        " --speaks-for 'PATTERN'` and retry these messages. If not, somebody may have the gateway's"
        " password.",
    )

    # ------------------------------------------------------------------ a field of the message

    MISSING_FIELD = (
        "missing_field",
        "A required field is missing.",
        f"Have the device send the field as the form shows it. {FORMS}",
    )
    WRONG_TYPE = (
        "wrong_type",
        "The field holds another type of value than its form requires.",
        "Have the device send the marked field as the form shows it. In JSON, a number has no"
        f" quotes around it, and its decimal sign is a point. {FORMS}",
    )
    IMPOSSIBLE_VALUE = (
        "impossible_value",
        "The value is not possible.",
        "The reason says what is wrong with the marked field, and docs/forms.md what can be right."
        " Have the device send that, or leave the field out where its form does not need it.",
    )
    UNREADABLE_TIME = (
        "unreadable_time",
        "The time is not written in a way that has one meaning.",
        "Have the device send a time like 2026-09-14T05:45:12Z, or seconds since 1970. A device"
        " whose clock is not set may leave the time out: then the time of receipt counts.",
    )
    IMPOSSIBLE_PLACE = (
        "impossible_place",
        "The position cannot be right.",
        "Have the device send degrees, latitude first, and null or nothing where it has no position"
        ". If a number is off the planet, the two may be swapped, or be millionths of a degree.",
    )
    CONFIDENCE_OUT_OF_RANGE = (
        "confidence_out_of_range",
        "The confidence is out of range.",
        "Have the device send a percentage from 0 to 100, such as 63.6.",
    )
    CONFIDENCE_NOT_A_FRACTION = (
        "confidence_not_a_fraction",
        "The nodes file says that the node sends fractions, and this confidence is none.",
        "If the node sends percent, type `echo-ingest nodes set NAME --confidence percent` and"
        " retry these messages. Otherwise have the device send a fraction from 0 to 1.",
    )
    SPECIES_WITHOUT_SOURCE = (
        "species_without_source",
        "The message names a species, but fits neither of the two forms for that.",
        "Have the device send source_model; or sensor_id and confidence, with no type or with the"
        f" type prediction. {FORMS}",
    )
    STATUS_WITHOUT_NODE = (
        "status_without_node",
        "The status does not say which node it is about.",
        "Have the device publish below its own name (iotingestion/NAME), or send sensorId.",
    )
    INCOMPLETE_MOVEMENT = (
        "incomplete_movement",
        "A movement needs an animal and a position.",
        "Have the sender add what is missing, or send no movement where the position is unknown.",
    )
    PROPERTY_GIVEN_TWICE = (
        "property_given_twice",
        "An MQTT user property came twice, with different values.",
        "It is not known which value is right. Have the device send it once.",
    )

    # ------------------------------------------------------------------ a form in a file

    NO_RECORD = (
        "no_record",
        "The form in a file that the message fits makes no record of it.",
        "Compare the paths of the form with the message. Correct them, or narrow what the form"
        " matches, and retry these messages. For bytes that no codec has decoded, make a form with"
        " [layout]. docs/form-files.md shows how.",
    )
    ZONE_MISSING = (
        "zone_missing",
        "The time names no zone, and neither does the form.",
        'Add the zone to the time in the form, such as zone = "site" or zone = "UTC", and retry'
        " these messages. docs/form-files.md shows how.",
    )
    CONFIDENCE_OFF_SCALE = (
        "confidence_off_scale",
        "The confidence does not lie on the scale that the form names.",
        "Correct the scale in the form (fraction, percent or byte) and retry these messages, or"
        " have the device send what the form says.",
    )

    # ------------------------------------------------------------------ a payload of bytes

    NO_KEY = (
        "no_key",
        "The message is encrypted, and its key is not known here.",
        "If it is of your channel, add the channel's key to IOT_PAYLOAD_KEYS, restart the service"
        " and retry these messages. Messages of strangers can be passed over by a form of your own:"
        " docs/form-files.md shows how.",
    )
    PAYLOAD_READER_FAILED = (
        "payload_reader_failed",
        "The program that reads this kind of payload has a fault.",
        "The message is kept whole. The reason says which reader it is and how it failed. Update"
        " the package that has it, restart the service and retry these messages.",
    )

    # ------------------------------------------------------------------ the audio

    BROKEN_BASE64 = (
        "broken_base64",
        "The clip is not valid base64.",
        "The clip was changed or cut off on its way into the message, or something stands before"
        " it. Have the device send plain base64 (RFC 4648, with + and / and with = at the end) of"
        " the whole file.",
    )
    UNKNOWN_AUDIO_FORMAT = (
        "unknown_audio_format",
        "The clip is in an audio format that cannot be read.",
        "Have the device record WAV or FLAC, MP3 with a fixed or variable bit rate, or Ogg with"
        " Vorbis, Opus or FLAC in it. Raw samples need a WAV header.",
    )
    AUDIO_CUT_OFF = (
        "audio_cut_off",
        "The clip stops before its end.",
        "The device may have published the file before it was complete, or run out of battery or"
        " memory. Have it close the file first. If the file on the device is whole, the message was"
        " cut on its way, or the program that writes the file announces too much.",
    )
    AUDIO_EMPTY = (
        "audio_empty",
        "The clip holds no sound.",
        "The device published a clip into which nothing had been recorded. Have it close the file"
        " first. If the file on the device is empty too, look at what it recorded from.",
    )
    SEVERAL_RECORDINGS = (
        "several_recordings",
        "The clip is several recordings that cannot be taken as one.",
        "Have the device send each recording as a message of its own.",
    )
    AUDIO_BROKEN = (
        "audio_broken",
        "The clip is damaged, or contradicts itself.",
        "If the reason is about the header, update or configure the program that writes the file."
        " Otherwise compare it with the file on the device: a failing memory card damages files.",
    )

    # ------------------------------------------------------------------ what a sink cannot take

    UNREADABLE_NOW = (
        "unreadable_now",
        "The record cannot be decoded any more, by this version and its settings.",
        "The message is kept whole. If the reason is about a setting (such as IOT_FIRST_DAY or"
        " IOT_PAYLOAD_BYTES_MAX) or about the nodes file, correct that, and then retry these"
        " records. Otherwise this version reads that form differently.",
    )
    CLIP_NOT_STORED = (
        "clip_not_stored",
        "The audio storage does not have the clip of this record.",
        "Retry the clip at the audio storage first, and then this record.",
    )
    CLIP_OLDER_THAN_STORAGE = (
        "clip_older_than_storage",
        "The audio storage has never had the clip, since it began after this record.",
        "Set IOT_AUDIO=embedded, restart the service and retry these records. Then set it back.",
    )
    NODE_UNKNOWN_TO_SINK = (
        "node_unknown_to_sink",
        "The sink does not know the node.",
        "Register the node there, and then retry these records.",
    )
    NOT_SUPPORTED_BY_SINK = (
        "not_supported_by_sink",
        "The sink has no place for this record.",
        "The record is kept here, and the other sinks get it all the same. If the reason says what"
        " the device could send instead, change that. Otherwise nothing needs to be done, unless"
        " that sink learns to take it.",
    )
    NODE_ID_MISSING = (
        "node_id_missing",
        "The record names no node that the sink can use.",
        "Have the device publish below its own name (iotingestion/NAME), or send sensor_id. A"
        " stored message does not change: export it, and publish it again below its node's name.",
    )
    TOO_LARGE_FOR_SINK = (
        "too_large_for_sink",
        "The clip is larger than the sink accepts.",
        "Have the recorder make shorter clips, or let the sink accept larger ones and retry these"
        " records. If the sink is not the audio storage itself, audio can be kept there"
        " (IOT_OBJECTS_URL and IOT_AUDIO=reference).",
    )
    NAME_TAKEN_AT_SINK = (
        "name_taken_at_sink",
        "Something else has the name there that belongs to this record.",
        "Find out who wrote it, move it away, and then retry these records.",
    )
    ENDS_DELIVERY = (
        "ends_delivery",
        "The process that delivers ends each time it offers this record to the sink.",
        "The record is kept, and the others are delivered. The log says how the process ended. If"
        " it was killed, it may need more memory for this record than there is. Give it more, or"
        " update the service, and then retry the record; if it ends again, it is parked again.",
    )
    FAILS_AT_SINK = (
        "fails_at_sink",
        "The sink fails each time it gets this record.",
        "Look into the log of that sink. Once the fault is corrected, retry these records.",
    )


_BY_VALUE = {code.value: code for code in ReasonCode}


def code_of(stored: str | None) -> ReasonCode | None:
    """Return the code with this stored value; None for none, and for one of a later version."""
    return _BY_VALUE.get(stored or "")
