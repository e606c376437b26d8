"""Attacks by what a message says: every value that is hostile to a parser, a page or a terminal."""

import json

from tests.siege.attackers import Attacker
from tests.siege.attackers.accounts import ask
from tests.siege.link import publish, text, user_property

GOOD = {
    "sensor_id": "evil",
    "species": "Litoria ewingii",
    "confidence": 50,
    "timestamp": "2026-11-28T05:45:12Z",
}
MARKUP = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}{% include '/etc/passwd' %}",
    "=cmd|' /C calc'!A1",
    "@SUM(1+1)",
    "-2+3+cmd",
    "\t=1+1",
    "'; DROP TABLE record; --",
    "$(reboot)`reboot`",
    "../../../../etc/passwd",
    "..\\..\\windows",
    "%2e%2e%2f%00",
    "\x1b[2J\x1b]0;owned\x07\x1b[31m",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe\N{LEFT-TO-RIGHT ISOLATE}",
    "\N{LINE SEPARATOR}alert(1)\N{PARAGRAPH SEPARATOR}",
    "\N{ZERO WIDTH SPACE}" * 100,
    "e\N{COMBINING ACUTE ACCENT}" + "\N{COMBINING ACUTE ACCENT}" * 5_000,
    "\0nul",
    "CON.wav",
    "x" * 300,
)
RAW_JSON = (
    b'{"species": "nul\\u0000x", "sensorId": "e", "confidence": 50}',
    b'{"species": "lone\\ud800x", "sensorId": "\\udfff", "confidence": 50}',
    b'{"species": "x", "confidence": 1e999, "id": 1}',
    b'{"species": "x", "confidence": -1e-999}',
    b'{"species": "x", "confidence": NaN}',
    b'{"species": "x", "confidence": 50, "id": ' + b"9" * 100_000 + b"}",
    b'{"species": "x", "confidence": ' + b"0." + b"3" * 100_000 + b"}",
    b'{"species": "x", "species": "y", "confidence": 1, "confidence": 2}',
    b'{"a":' * 50_000,
    b"[" * 200_000 + b"]" * 200_000,
    b'{"species": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b"{" + b",".join(b'"k%d": {}' % n for n in range(50_000)) + b"}",
    b'"' + b"\\ud83d" * 50_000 + b'"',
    b"\xff\xfe{\0}\0",
    b"\xef\xbb\xbf{}",
    b"{}" * 10_000,
    b"null",
    b"",
    b"\0" * 100_000,
    b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff",
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    b"data\xff\xff\xff\xff",
    b"fLaC\0\0\0\x22" + b"\xff" * 100,
    b"OggS" + b"\xff" * 1_000,
    b"ID3\x04\0\xff\x7f\x7f\x7f\x7f" + bytes(1_000),
)
FIELDS: tuple[dict[str, object], ...] = (
    {"timestamp": "0001-01-01T00:00:00Z"},
    {"timestamp": "9999-12-31T23:59:59.999999999Z"},
    {"timestamp": "2026-11-28T23:59:60Z"},
    {"timestamp": 1e308},
    {"timestamp": -1},
    {"timestamp": 4_294_967_296_000},
    {"timestamp": "2106-02-07T06:28:16Z"},
    {"timestamp": "1969-12-31T23:59:59Z"},
    {"timestamp": "2026-11-28T05:45:12+99:99"},
    {"confidence": -0.0},
    {"confidence": "NaN"},
    {"confidence": 10**30},
    {"confidence": [50]},
    {"latitude": 1e308, "longitude": -1e308},
    {"animalTrueLLA": [[[]]], "microphoneLLA": {"latitude": {}}},
    {"id": 10**400},
    {"id": {"a": 1}},
    {"id": ""},
    {"id": "x" * 100_000},
    {"species": ""},
    {"species": "y" * 100_000},
    {"status": "x", "battery": 10**40, "temperature": "hot"},
    {"audioClip": "UklGR" + "A" * 100_000},
    {"audioClip": "data:audio/wav;base64,AAAA"},
    {"audio_file": 7},
)


async def hostile_contents(attacker: Attacker) -> None:
    """Publish each hostile value where it may hurt."""
    messages = [*_in_json(), *((text_, None) for text_ in RAW_JSON)]
    start = attacker.rng.randrange(1_000_000)

    async def publish_one(number: int) -> str:
        payload, markup = messages[number]
        level = (markup or "contents").translate(dict.fromkeys(map(ord, "\0#+/")))[:60]
        topic = f"iotingestion/{level}" if number % 2 else f"iotingestion/hostile/{level}"
        properties = b"" if markup is None else user_property(level, level)
        properties += b"\x03" + text(level) if number % 3 == 0 else b""
        payload = payload.replace(b"RUN", str(start).encode())
        link = await attacker.login()
        return await ask(link, publish(topic, payload, properties=properties))

    await attacker.each(len(messages), 2, publish_one)


def _in_json() -> list[tuple[bytes, str | None]]:
    """Return messages with hostile values in their fields, and the value if it is text."""
    messages: list[tuple[bytes, str | None]] = []
    for number, value in enumerate(MARKUP):
        everywhere = {
            **GOOD,
            "sensor_id": value,
            "species": value,
            "model": value,
            "id": f"{value}-{number}-RUN",
            value: value,
        }
        messages += [
            (json.dumps(everywhere).encode(), value),
            (
                json.dumps({"status": value, "sensorId": value, "id": f"{number}-RUN"}).encode(),
                value,
            ),
            (json.dumps({"bogus": value, value: 1}).encode(), value),
            (value.encode(), value),
        ]
    for number, fields in enumerate(FIELDS):
        message = json.dumps({**GOOD, "id": f"field-{number}-RUN", **fields})
        messages.append((message.encode(), None))
    return messages
