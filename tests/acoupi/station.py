"""A station of acoupi: `station.py PORT USER PASSWORD`, then a kind of message on each input line.

All of it is acoupi's: the store, the tasks, what builds the messages and what sends them. For each
line it prints one: what acoupi says of sending it. Its first line is what it sends, as JSON. It
runs with the libraries of acoupi, which are not installed beside ours.
"""
# mypy: disable-error-code="import-not-found"

import json
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from acoupi import data
from acoupi.components import (
    DetectionThresholdMessageBuilder,
    MQTTConfig,
    MQTTMessenger,
    SqliteMessageStore,
    SqliteStore,
    StatisticsDetectionsSummariser,
)
from acoupi.devices import get_device_id
from acoupi.devices.metrics import get_free_memory, get_remaining_storage
from acoupi.tasks import (
    generate_heartbeat_task,
    generate_send_messages_task,
    generate_summariser_task,
)


def tag(key: str, value: str, score: float) -> data.PredictedTag:
    """Return what a model says that a sound is."""
    return data.PredictedTag(tag=data.Tag(key=key, value=value), confidence_score=score)


def heard(recorded_at: datetime) -> data.ModelOutput:
    """Return what BatDetect2 makes of one recording: a call, a presence, and one below 0.5."""
    gould, forest = "Chalinolobus gouldii", "Vespadelus darlingtoni"
    return data.ModelOutput(
        name_model="BatDetect2",
        recording=data.Recording(
            path=Path("/home/pi/audio/bats.wav"),
            created_on=recorded_at,
            duration=3,
            samplerate=256_000,
            deployment=data.Deployment(name="creek-bridge-2", latitude=-37.42, longitude=145.31),
        ),
        detections=[
            data.EventDetection(
                location=data.BoundingBox.from_coordinates(1.25, 39_800, 1.5, 58_200),
                detection_score=0.81,
                tags=[tag("event", "Echolocation", 0.81), tag("species", gould, 0.77)],
            ),
            data.PresenceDetection(detection_score=0.62, tags=[tag("species", forest, 0.58)]),
            data.PresenceDetection(detection_score=0.31, tags=[tag("species", forest, 0.29)]),
        ],
    )


def main() -> None:
    port, user, password = sys.argv[1:]
    config = MQTTConfig(
        host="127.0.0.1",
        port=int(port),
        username=user,
        password=password,
        topic="acoupi",
        use_message_type=True,
    )
    messenger = MQTTMessenger.from_config(config)
    recorded_at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    output = heard(recorded_at)
    print(json.dumps({"recorded_at": recorded_at.isoformat(), "device_id": get_device_id(),
                      "ids": [str(each.id) for each in output.detections]}),
          flush=True)  # fmt: skip
    with TemporaryDirectory() as folder:
        store, messages = (
            SqliteStore(Path(folder, "a.db")),
            SqliteMessageStore(Path(folder, "m.db")),
        )
        store.store_deployment(output.recording.deployment)
        store.store_recording(output.recording)
        store.store_model_output(output)
        send = generate_send_messages_task(messages, [messenger])
        summarise = generate_summariser_task([StatisticsDetectionsSummariser(store)], messages)
        metrics = [get_free_memory, partial(get_remaining_storage, Path(folder))]
        beat = generate_heartbeat_task([messenger], metrics)
        for line in sys.stdin:
            kind = line.strip()
            if kind == "heartbeat":
                beat()
            else:
                if kind == "summary":
                    summarise()
                else:
                    message = DetectionThresholdMessageBuilder(0.5).build_message(output)
                    assert message is not None
                    messages.store_message(message)
                send()
            print(f"{kind}: {len(messages.get_unsent_messages())} not sent", flush=True)


if __name__ == "__main__":
    main()
