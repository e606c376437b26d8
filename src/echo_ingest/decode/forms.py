"""The table of payload forms: what they are called and how they are told apart.

docs/forms.md has one heading for each; a test holds the two together.
"""

from msgspec import Struct


class Form(Struct, frozen=True):
    """One way in which devices say something."""

    name: str
    """A stable name: `Record.form`, and the heading in docs/forms.md."""
    kind: str
    """What it becomes: one of `record.KINDS`."""
    examples: tuple[str, ...]
    """Numbers of the example payloads in the wire contract."""
    required: tuple[str, ...]
    """Fields without which a message is not of this form."""
    bites: str
    """What surprises people who meet it."""


FORMS = (
    Form(
        name="engine-audio",
        kind="recording",
        examples=("01", "02", "03", "15"),
        required=("audioClip",),
        bites="[0, 0, 0] means unknown; audioFile may hold a mode word instead of a file name",
    ),
    Form(
        name="engine-audio-objects",
        kind="recording",
        examples=("16",),
        required=("audioClip", "sourceType or microphoneLLA as an object"),
        bites="an unknown animal is null, and species too",
    ),
    Form(
        name="node-audio",
        kind="recording",
        examples=("07", "08", "09"),
        required=("audio_file",),
        bites="no time of its own; uptime is a boot time or a duration, told apart by its size",
    ),
    Form(
        name="edge-prediction",
        kind="detection",
        examples=("10",),
        required=("species", "confidence", "sensor_id"),
        bites="confidence is 0 to 100; the time is in whole seconds, so two can be identical",
    ),
    Form(
        name="detection",
        kind="detection",
        examples=("17",),
        required=("species", "source_model"),
        bites="audioClip is base64 or only a reference to audio kept elsewhere",
    ),
    Form(
        name="movement",
        kind="movement",
        examples=("05", "19"),
        required=("species", "animalId", "animalTrueLLA"),
        bites="the time is a decimal epoch in one program and ISO text in the other",
    ),
    Form(
        name="sensor-health",
        kind="telemetry",
        examples=("20",),
        required=("sensorId", "status or a health value"),
        bites="values are flat, not under health_data as beside audio",
    ),
    Form(
        name="node-status",
        kind="telemetry",
        examples=("21",),
        required=("nodeId or the topic's node", "status or a health value"),
        bites='{"status":"online"} has neither id nor time: two of them are two reports',
    ),
    Form(
        name="audio-file",
        kind="recording",
        examples=(),
        required=("WAV, FLAC, MP3 or Ogg bytes",),
        bites="what is known beside the sound is in user properties or the file's own header",
    ),
)
