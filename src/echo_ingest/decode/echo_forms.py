"""The table of Project Echo's own payload forms: their names, and the fields that tell them apart.

docs/forms.md has one heading for each; a test holds the two together.
"""

from msgspec import Struct


class EchoForm(Struct, frozen=True):
    """One way in which devices write a message."""

    name: str
    """A stable name: `Record.form`, and the heading in docs/forms.md."""
    kind: str
    """The kind of record that it becomes: one of `record.KINDS`."""
    examples: tuple[str, ...]
    """Numbers of the example payloads in the wire contract."""
    required: tuple[str, ...]
    """Fields without which a message is not of this form."""
    pitfall: str
    """What surprises people who meet this form."""


FORMS = (
    EchoForm(
        name="engine-audio",
        kind="recording",
        examples=("01", "02", "03", "15"),
        required=("audioClip",),
        pitfall="[0, 0, 0] means unknown; audioFile may hold a mode word instead of a file name",
    ),
    EchoForm(
        name="engine-audio-objects",
        kind="recording",
        examples=("16",),
        required=("audioClip", "sourceType or microphoneLLA as an object"),
        pitfall="an unknown animal is null, and species too",
    ),
    EchoForm(
        name="node-audio",
        kind="recording",
        examples=("07", "08", "09"),
        required=("audio_file",),
        pitfall="no time of its own; uptime is a boot time or a duration, told apart by its size",
    ),
    EchoForm(
        name="edge-prediction",
        kind="detection",
        examples=("10",),
        required=("species", "confidence", "sensor_id"),
        pitfall="confidence is 0 to 100; the time is in whole seconds, so two can be identical",
    ),
    EchoForm(
        name="detection",
        kind="detection",
        examples=("17",),
        required=("species", "source_model"),
        pitfall="audioClip is base64 or only a reference to audio kept elsewhere",
    ),
    EchoForm(
        name="movement",
        kind="movement",
        examples=("05", "19"),
        required=("species", "animalId", "animalTrueLLA"),
        pitfall="the time is a decimal epoch in one program and ISO text in the other",
    ),
    EchoForm(
        name="sensor-health",
        kind="telemetry",
        examples=("20",),
        required=("sensorId", "status or a health value"),
        pitfall="values are flat, not under health_data as beside audio",
    ),
    EchoForm(
        name="node-status",
        kind="telemetry",
        examples=("21",),
        required=("nodeId or the topic's node", "status or a health value"),
        pitfall='{"status":"online"} has neither id nor time: two of them are two reports',
    ),
    EchoForm(
        name="audio-file",
        kind="recording",
        examples=(),
        required=("WAV, FLAC, MP3 or Ogg bytes",),
        pitfall="what is known beside the sound is in user properties or the file's own header",
    ),
)
