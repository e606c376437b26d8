"""Messages of radio networks and of sensors at home and in the field, each with its truth."""

import struct
from collections.abc import Mapping
from datetime import timedelta

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from tests.forms.wire_format import data, double, fixed, single, whole
from tests.fuzz import true_times
from tests.fuzz.form_truths import (
    FormTruth,
    Letter,
    as_json,
    fraction,
    local_or_zoned,
    named,
    place,
    unix_second,
    zoned_moment,
)
from tests.fuzz.truths import EPOCH, Draft, PlaceTruth, WhenTruth

PUBLIC_KEY = bytes.fromhex("d4f1bb3a20290759f0bcffabcf4e6901")
RECEIPT = WhenTruth()
"""No time comes with the message: that of its receipt counts."""
CELSIUS, PERCENT, VOLTS, HPA = "°C", "%", "V", "hPa"
EXTERNAL_POWER = 101


def number(draft: Draft, low: float, high: float) -> float:
    """Return what a sensor measures, as it writes it."""
    value = round(draft.rng.uniform(low, high), draft.rng.choice((0, 1, 2, 3)))
    return draft.rng.choice((value, value, value, int(value)))


def measured(
    when: WhenTruth,
    shared: Mapping[str, object],
    *values: tuple[str, float | None, str | None],
) -> list[FormTruth]:
    """Return a measurement for each value that there is."""
    return [
        FormTruth(
            kind="measurement",
            when=when,
            values={**shared, "name": name, "value": value}
            | ({} if unit is None else {"unit": unit}),
        )
        for name, value, unit in values
        if value is not None
    ]


def _battery(draft: Draft) -> tuple[float, dict[str, object]]:
    value = draft.rng.choice((0, 1, 64, 77.2, 100, EXTERNAL_POWER))
    if value == EXTERNAL_POWER:
        return value, {"external_power": True}
    return value, {"battery_percent": float(value)}


# ------------------------------------------------------------------ LoRaWAN


def things_stack(draft: Draft) -> Letter:
    """Write an uplink of The Things Stack, with a detection, telemetry and a voltage, or some."""
    rng = draft.rng
    text, when = zoned_moment(draft)
    counter, session = rng.randrange(1, 70_000), f"AZNx{rng.randrange(10**6)}"
    latitude, longitude, where = place(draft, with_altitude=True)
    user: dict[str, object] = {"latitude": latitude, "longitude": longitude}
    if where is not None:
        user["altitude"] = where.altitude_metres
    seen: dict[str, object] = {}
    truths = []
    shared: dict[str, object] = {
        "node": "frog-12",
        "sensor_id": "frog-12",
        "message_id": f"70B3-{session}-{counter}",
    }
    if draft.chance(0.7):
        written, fields = named(draft)
        confidence = fraction(draft)
        seen |= {"species": written, "confidence": confidence}
        fields |= {"confidence": confidence, **shared}
        truths.append(FormTruth(kind="detection", when=when, place=where, values=fields))
    health: dict[str, object] = {}
    uplink: dict[str, object] = {"f_cnt": counter, "session_key_id": session}
    if draft.chance(0.5):
        battery, health = _battery(draft)
        uplink["last_battery_percentage"] = {"value": battery}
    if draft.chance(0.5):
        seen["temperature"] = health["temperature_celsius"] = number(draft, -20, 50)
    if health or where is not None:
        truths.append(
            FormTruth(kind="telemetry", when=when, place=where, health=health, values=shared)
        )
    volts = number(draft, 2, 5)
    seen["battery"] = volts
    truths += measured(when, shared, ("battery_volts", volts, VOLTS))
    gateway = {"latitude": 1.5, "longitude": 2.5, "altitude": 510}
    received = f"{draft.received_at:%Y-%m-%dT%H:%M:%S.%f}123Z"
    if draft.chance(0.6):
        uplink["rx_metadata"] = [{"time": text, "rssi": -109, "location": gateway}]
        uplink["received_at"] = received
    else:  # a gateway without a clock
        uplink["rx_metadata"] = [{"rssi": -109, "location": gateway}]
        uplink["received_at"] = text
    uplink |= {"decoded_payload": seen, "locations": {"user": user}}
    document: dict[str, object] = {
        "end_device_ids": {"device_id": "frog-12", "dev_eui": "70B3"},
        "received_at": received,
        "uplink_message": uplink,
    }
    topic = "v3/reserve@ttn/devices/frog-12/up"
    return Letter("things-stack-uplink", topic, as_json(draft, document), truths)


def _lorawan(draft: Draft) -> tuple[dict[str, float | str], dict[str, object], dict[str, object]]:
    """Return what a codec of ChirpStack decodes, the detection in it, and the health."""
    written, fields = named(draft)
    percent = draft.rng.choice((0, 64, 99.5, 100, round(draft.rng.random() * 100, 2)))
    battery, health = _battery(draft)
    seen: dict[str, float | str] = {"species": written, "confidence": percent, "battery": battery}
    fields["confidence"] = percent / 100
    if draft.chance(0.5):
        degrees = number(draft, -20, 50)
        seen["temperature"] = health["temperature_celsius"] = degrees
    return seen, fields, health


def _chirpstack(
    draft: Draft,
    form: str,
    payload: bytes,
    when: WhenTruth,
    message_id: str,
    fields: dict[str, object],
    health: dict[str, object],
) -> Letter:
    shared = {"node": "a84041ffff180b21", "sensor_id": "a84041ffff180b21", "message_id": message_id}
    truths = [
        FormTruth(kind="detection", when=when, values={**fields, **shared}),
        FormTruth(kind="telemetry", when=when, health=health, values=shared),
    ]
    return Letter(form, "application/11/device/a84041ffff180b21/event/up", payload, truths)


def chirpstack(draft: Draft) -> Letter:
    """Write an uplink of ChirpStack as JSON."""
    text, when = zoned_moment(draft)
    seen, fields, health = _lorawan(draft)
    message_id = f"{draft.rng.getrandbits(64):x}-4000"
    document: dict[str, object] = {
        "deduplicationId": message_id,
        "time": text,
        "deviceInfo": {"deviceName": "pond-3", "devEui": "a84041ffff180b21"},
        "fCnt": 207,
        "data": "A1dA",
        "object": seen,
    }
    payload = as_json(draft, document)
    return _chirpstack(draft, "chirpstack-uplink", payload, when, message_id, fields, health)


def chirpstack_protobuf(draft: Draft) -> Letter:
    """Write an uplink of ChirpStack as protobuf."""
    moment = true_times.believed_moment(draft)
    seen, fields, health = _lorawan(draft)
    message_id = f"{draft.rng.getrandbits(64):x}-4000"
    whole_seconds, rest = divmod((moment - EPOCH) // timedelta(microseconds=1), 1_000_000)
    device = data(7, "pond-3") + data(8, "a84041ffff180b21") + data(9, data(1, "a") + data(2, "b"))
    inside = b"".join(
        data(
            1,
            data(1, key) + data(2, data(3, value) if isinstance(value, str) else double(2, value)),
        )
        for key, value in seen.items()
    )
    payload = data(1, message_id) + data(2, whole(1, whole_seconds) + whole(2, rest * 1000))
    payload += data(3, device) + whole(7, 207) + data(10, b"\x03\x57") + data(11, inside)
    form, when = "chirpstack-protobuf-uplink", WhenTruth(moment)
    return _chirpstack(draft, form, payload, when, message_id, fields, health)


# ------------------------------------------------------------------ Meshtastic


def _node(draft: Draft) -> tuple[int, int, dict[str, object]]:
    """Return the number of a node and of a packet, and what a record has of them."""
    node, packet = draft.rng.getrandbits(32) or 1, draft.rng.getrandbits(32) or 1
    name = f"!{node:08x}"
    return node, packet, {"node": name, "sensor_id": name, "message_id": f"{node}-{packet}"}


def _meshtastic_json(
    draft: Draft, form: str, what: str, inside: dict[str, object], node: int, packet: int, at: int
) -> tuple[str, str, bytes]:
    document: dict[str, object] = {
        "from": node,
        "id": packet,
        "payload": inside,
        "sender": "!a1b2c3d4",
        "timestamp": at,
        "to": 4_294_967_295,
        "type": what,
    }
    return form, "msh/ANZ/2/json/LongFast/!a1b2c3d4", as_json(draft, document)


def meshtastic_telemetry(draft: Draft) -> Letter:
    """Write the state of a node as JSON."""
    at, when = unix_second(draft)
    node, packet, shared = _node(draft)
    battery, health = _battery(draft)
    inside: dict[str, object] = {
        "battery_level": battery,
        "voltage": 3.871,
        "uptime_seconds": 40_231,
    }
    health["uptime_seconds"] = 40_231.0
    use, humid = number(draft, 0, 100), number(draft, 0, 100) if draft.chance(0.5) else None
    inside["channel_utilization"] = use
    if humid is not None:
        inside["relative_humidity"] = humid
    truths = [FormTruth(kind="telemetry", when=when, health=health, values=shared)]
    truths += measured(
        when,
        shared,
        ("battery_volts", 3.871, VOLTS),
        ("humidity_percent", humid, PERCENT),
        ("channel_use_percent", use, PERCENT),
    )
    return Letter(
        *_meshtastic_json(draft, "meshtastic-telemetry", "telemetry", inside, node, packet, at),
        truths,
    )


def _degrees(draft: Draft) -> tuple[int, int, PlaceTruth]:
    """Return a place in ten-millionths of a degree."""
    latitude = draft.rng.randint(-899_999_999, 899_999_999)
    longitude = draft.rng.randint(1_000_000, 1_799_999_999) * draft.rng.choice((1, -1))
    return latitude, longitude, PlaceTruth(latitude / 10**7, longitude / 10**7, 284.0)


def meshtastic_position(draft: Draft) -> Letter:
    """Write where a node is as JSON: the time of the fix counts before that of the packet."""
    at, when = unix_second(draft)
    node, packet, shared = _node(draft)
    latitude, longitude, where = _degrees(draft)
    inside: dict[str, object] = {"latitude_i": latitude, "longitude_i": longitude, "altitude": 284}
    sent_at = at
    if draft.chance(0.6):
        inside["time"] = at
        sent_at = at + draft.rng.choice((0, 1, 12))
    truth = FormTruth(kind="telemetry", when=when, place=where, values=shared)
    return Letter(
        *_meshtastic_json(draft, "meshtastic-position", "position", inside, node, packet, sent_at),
        [truth],
    )


def meshtastic_detection(draft: Draft) -> Letter:
    """Write a species in a text message as JSON."""
    at, when = unix_second(draft)
    node, packet, shared = _node(draft)
    written, fields = named(draft)
    confidence = fraction(draft)
    inside: dict[str, object] = {"species": written, "confidence": confidence, "node": "pond-9"}
    fields |= {**shared, "sensor_id": "pond-9", "confidence": confidence}
    truth = FormTruth(kind="detection", when=when, values=fields)
    return Letter(
        *_meshtastic_json(draft, "meshtastic-detection", "text", inside, node, packet, at),
        [truth],
    )


def _packet(draft: Draft, port: int, inside: bytes, node: int, packet: int, at: int) -> bytes:
    """Return a packet as a gateway publishes it, decrypted or as it was on the air."""
    content = whole(1, port) + data(2, inside)
    if draft.chance(0.5):
        draft.label("encrypted with the public key")
        encryptor = Cipher(AES(PUBLIC_KEY), CTR(struct.pack("<QII", packet, node, 0))).encryptor()
        content = data(5, encryptor.update(content) + encryptor.finalize())
        channel = 8  # what the firmware makes of the name LongFast and the public key
    else:
        content, channel = data(4, content), 0
    heard = fixed(1, node) + fixed(2, 0xFFFFFFFF) + whole(3, channel) + content
    heard += fixed(6, packet) + fixed(7, at) + single(8, 6.5) + whole(12, -91)
    return data(1, heard) + data(2, "LongFast") + data(3, "!a1b2c3d4")


def meshtastic_protobuf(draft: Draft) -> Letter:
    """Write the state of a node, where it is, or what it has heard, as protobuf."""
    at, when = unix_second(draft)
    node, packet, shared = _node(draft)
    topic = "msh/ANZ/2/e/LongFast/!a1b2c3d4"
    match draft.rng.randrange(3):
        case 0:
            latitude, longitude, where = _degrees(draft)
            inside = fixed(1, latitude) + fixed(2, longitude) + whole(3, 284) + fixed(4, at)
            form, port = "meshtastic-protobuf-position", 3
            truths = [FormTruth(kind="telemetry", when=when, place=where, values=shared)]
        case 1:
            battery = draft.rng.choice((1, 68, 100, EXTERNAL_POWER))
            health: dict[str, object] = {"uptime_seconds": 40_231.0}
            if battery == EXTERNAL_POWER:
                health["external_power"] = True
            else:
                health["battery_percent"] = float(battery)
            volts, use = number(draft, 3, 5), number(draft, 1, 99)
            metrics = whole(1, battery) + single(2, volts) + single(3, use) + whole(5, 40_231)
            inside = fixed(1, at) + data(2, metrics)
            form, port = "meshtastic-protobuf-telemetry", 67
            truths = [FormTruth(kind="telemetry", when=when, health=health, values=shared)]
            values = (("battery_volts", volts, VOLTS), ("channel_use_percent", use, PERCENT))
            truths += measured(when, shared, *values)
        case _:
            written, fields = named(draft)
            confidence = round(fraction(draft), 3)
            text = {"species": written, "confidence": confidence, "node": "pond-9"}
            inside = as_json(draft, dict(text))
            form, port = "meshtastic-protobuf-detection", 1
            fields |= {**shared, "sensor_id": "pond-9", "confidence": confidence}
            truths = [FormTruth(kind="detection", when=when, values=fields)]
    return Letter(form, topic, _packet(draft, port, inside, node, packet, at), truths)


# ------------------------------------------------------------------ sensors and stations


def tasmota_sensor(draft: Draft) -> Letter:
    """Write the sensors of Tasmota, in the degrees that it is set to."""
    text, when = local_or_zoned(draft)
    fahrenheit = draft.chance(0.4)
    document: dict[str, object] = {"Time": text}
    truths: list[FormTruth] = []
    for name in draft.rng.sample(
        ("AM2301", "MJ_HT_V1-1f2e3d", "BME280-76"), draft.rng.randint(1, 3)
    ):
        celsius, humid = number(draft, -20, 50), number(draft, 0, 100)
        battery = draft.rng.randrange(101) if draft.chance(0.4) else None
        shown = celsius * 9 / 5 + 32 if fahrenheit else celsius
        document[name] = {"Temperature": shown, "Humidity": humid, "DewPoint": 1.5}
        if battery is not None:
            document[name] = {**document[name], "Battery": battery}  # type: ignore[dict-item]
        truths += measured(
            when,
            {"node": "pond", "sensor_id": f"pond/{name}"},
            ("temperature_celsius", celsius, CELSIUS),
            ("humidity_percent", humid, PERCENT),
            ("battery_percent", battery, PERCENT),
        )
    document["TempUnit"] = "F" if fahrenheit else "C"
    form = "tasmota-sensor-fahrenheit" if fahrenheit else "tasmota-sensor"
    payload = as_json(draft, document)
    if b"firmware" in payload:  # a sensor without values is none, but the order of sensors counts
        draft.label("Tasmota with more fields")
    names = [name for name in _names(payload) if name in document]
    truths.sort(key=lambda truth: names.index(str(truth.values["sensor_id"]).split("/")[1]))
    return Letter(form, "tele/pond/SENSOR", payload, truths)


def _names(payload: bytes) -> list[str]:
    text = payload.decode()
    return sorted(
        ("AM2301", "MJ_HT_V1-1f2e3d", "BME280-76"), key=lambda name: text.find(f'"{name}"')
    )


def tasmota_state(draft: Draft) -> Letter:
    """Write how a node with Tasmota is."""
    text, when = local_or_zoned(draft)
    uptime, signal = draft.rng.randrange(10_000_000), draft.rng.randrange(-100, 0)
    document: dict[str, object] = {
        "Time": text,
        "UptimeSec": uptime,
        "Wifi": {"RSSI": 64, "Signal": signal},
    }
    shared = {"node": "pond", "sensor_id": "pond"}
    health = {"uptime_seconds": float(uptime)}
    truths = [FormTruth(kind="telemetry", when=when, health=health, values=shared)]
    truths += measured(when, shared, ("wifi_signal_dbm", signal, "dBm"))
    return Letter("tasmota-state", "tele/pond/STATE", as_json(draft, document), truths)


def esphome(draft: Draft) -> Letter:
    """Write the value of a sensor of ESPHome, or whether its node is there."""
    shared = {"node": "pond", "sensor_id": "pond"}
    if draft.chance(0.3):
        status = draft.rng.choice(("online", "offline"))
        health = {"status": status}
        truth = FormTruth(kind="telemetry", when=RECEIPT, health=health, values=shared)
        return Letter("esphome-status", "pond/status", status.encode(), [truth])
    value, name = number(draft, -50, 5_000), draft.rng.choice(("water_temperature", "lux"))
    text = draft.rng.choice((f"{value}", f"{value}\n", f"{float(value)}"))
    truths = measured(RECEIPT, shared, (name, value, None))
    return Letter("esphome-sensor", f"pond/sensor/{name}/state", text.encode(), truths)


def zigbee2mqtt(draft: Draft) -> Letter:
    """Write the values of a sensor as Zigbee2MQTT does."""
    shared = {"node": "0x0015", "sensor_id": "0x0015"}
    battery, health = _battery(draft)
    warm, volts = number(draft, 1, 40), draft.rng.randrange(2_000, 3_300)
    document: dict[str, object] = {"temperature": warm, "voltage": volts, "linkquality": 112}
    truths = []
    if draft.chance(0.7):
        document["battery"] = battery
        truths.append(FormTruth(kind="telemetry", when=RECEIPT, health=health, values=shared))
    values = (("temperature_celsius", warm, CELSIUS), ("battery_millivolts", volts, "mV"))
    truths += measured(RECEIPT, shared, *values)
    return Letter("zigbee2mqtt-device", "zigbee2mqtt/0x0015", as_json(draft, document), truths)


def cellular_modem(draft: Draft) -> Letter:
    """Write what a sketch for cellular modems sends."""
    at, when = unix_second(draft)
    battery, health = _battery(draft)
    warm, humid = number(draft, -20, 50), number(draft, 0, 100)
    document: dict[str, object] = {
        "TimeStamp": at,
        "DeviceId": "POND-4G-07",
        "Battery": battery,
        "Temperature": warm,
        "Humidity": humid,
        "Timezone": "AEDT+11:00",
    }
    shared = {"sensor_id": "POND-4G-07"}
    health["temperature_celsius"] = warm
    truths = [FormTruth(kind="telemetry", when=when, health=health, values=shared)]
    truths += measured(when, shared, ("humidity_percent", humid, PERCENT))
    return Letter("cellular-modem", "pond/07", as_json(draft, document), truths)


def sparkplug(draft: Draft) -> Letter:
    """Write what an edge node of Sparkplug B measures, each value at a time of its own."""
    metrics = b""
    truths = []
    for name in draft.rng.sample(("Supply/Voltage", "Enclosure/Temperature", "Door"), 2):
        moment = true_times.believed_moment(draft)
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        milliseconds = (moment - EPOCH) // timedelta(milliseconds=1)
        value: float
        match draft.rng.randrange(3):
            case 0:
                value, written, datatype = number(draft, -40, 40), b"", 10
                written = double(13, value)
            case 1:
                value = draft.rng.randrange(-40, 40)
                written, datatype = whole(10, int(value) & 0xFFFFFFFF), 3
            case _:
                value = draft.rng.randrange(2)
                written, datatype = whole(14, int(value)), 11
        head = data(1, name) + whole(3, milliseconds) + whole(4, datatype)
        metrics += data(2, head + written)
        truths += measured(WhenTruth(moment), {"node": "box"}, (name, value, None))
    payload = whole(1, 1_700_000_000_000) + metrics + whole(3, 9)
    return Letter("sparkplug-node", "spBv1.0/Reserve/NDATA/box", payload, truths)


def birdnet_go_levels(draft: Draft) -> Letter:
    """Write sound levels as BirdNET-Go does."""
    text, when = zoned_moment(draft)
    shared: dict[str, object] = {"sensor_id": "Ferny/rtsp_1"}
    bands: dict[str, object] = {}
    truths: list[FormTruth] = []
    for band in ("25.0_Hz", "1.0_kHz", "16.0_kHz")[: draft.rng.randint(1, 3)]:
        level = number(draft, -110, -10)
        bands[band] = {"f": 25, "n": level - 9, "x": level + 9, "m": level}
        truths += measured(when, shared, (f"sound_level_{band}", level, "dB"))
    document: dict[str, object] = {
        "ts": text,
        "node": "Ferny",
        "src": "rtsp_1",
        "dur": 10,
        "b": bands,
    }
    payload = as_json(draft, document)
    return Letter("birdnet-go-sound-level", "birdnet/soundlevel", payload, truths)


def birdnet_pi_health(draft: Draft) -> Letter:
    """Write how a station with BirdNET-Pi is."""
    text, when = local_or_zoned(draft)
    cpu, memory, disk, warm = (number(draft, 0, 100) for _ in range(4))
    document: dict[str, object] = {
        "timestamp": text,
        "cpu_percent": cpu,
        "memory_percent": memory,
        "disk_percent": disk,
        "temperature": warm,
    }
    health = {"cpu_percent": cpu, "memory_percent": memory, "disk_percent": disk}
    truth = FormTruth(kind="telemetry", when=when, health={**health, "temperature_celsius": warm})
    return Letter("birdnet-pi-health", "birdnet/health", as_json(draft, document), [truth])


def acoupi_heartbeat(draft: Draft) -> Letter:
    """Write how a Raspberry Pi with acoupi is."""
    text, when = zoned_moment(draft)
    free = draft.rng.randrange(10**10)
    document: dict[str, object] = {
        "sent_on": text,
        "device_id": "pi-3",
        "status": "ok",
        "metrics": [{"name": "other", "value": 3}, {"name": "free_memory", "value": free}],
    }
    shared = {"sensor_id": "pi-3"}
    truths = [FormTruth(kind="telemetry", when=when, health={"status": "ok"}, values=shared)]
    truths += measured(when, shared, ("free_memory_bytes", free, "B"))
    return Letter("acoupi-heartbeat", "acoupi/heartbeat", as_json(draft, document), truths)


MAKERS = {
    things_stack: 4,
    chirpstack: 2,
    chirpstack_protobuf: 3,
    meshtastic_telemetry: 2,
    meshtastic_position: 2,
    meshtastic_detection: 2,
    meshtastic_protobuf: 4,
    tasmota_sensor: 3,
    tasmota_state: 1,
    esphome: 2,
    zigbee2mqtt: 1,
    cellular_modem: 1,
    sparkplug: 2,
    birdnet_go_levels: 1,
    birdnet_pi_health: 1,
    acoupi_heartbeat: 1,
}
