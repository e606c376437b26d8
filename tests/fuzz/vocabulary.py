"""What the inputs are made of: values, words and topics, each of which has hurt some program."""

from echo_ingest.decode.fields import Fields

NAMES = Fields.__struct_fields__
INNER = ("lat", "lon", "latitude", "longitude", "altitude", "label", "confidence", "cpu", "uptime")
PROPERTIES = (
    *("id", "sensor_id", "recorded_at", "timestamp", "latitude", "longitude", "altitude"),
    "file_name",
)
OPENINGS = (b"{", b"[", b'"', b"RIFF", b"OggS\0", b"fLaC", b"ID3", b"\xff\xfb", b"\xef\xbb\xbf{")

NUMBERS = (
    *("0", "-0", "-0.0", "1", "-1", "63.64", "100", "100.00001", "1e2", "1E+2", "-90.5", "180.1"),
    *("5e-324", "1e-400", "1e308", "1e309", "-1e400", "1e999999999"),
    *("01", "1.", ".5", "+1", "0x10", "1_000", "1e", "-", "NaN", "Infinity", "-Infinity"),
    *("9007199254740993", "9223372036854775808", "18446744073709551616", "-9223372036854775809"),
    *("1789364712", "1789364712250", "1789364712.25", "4294967296", "99999999999", "100000000000"),
)
"""JSON's numbers, and what looks like one."""

WORDS = (
    *("20260914_054512.WAV", "20260914T054512+1000_x.flac", "5BE1A6F0.WAV", "20260231_254512-02"),
    *("real", "simulator", "online", "prediction", "Animal_Mode", "Litoria ewingii", "n1"),
    *("2026-09-14T05:45:12Z", "2026-09-14 05:45:12.123456789", "20260914T054512+2359"),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-02-30T00:00:00"),
    *("20261127", "202611270545", "20261127_0545", "2026-11-27T23:59:60Z", "2026-11-26T24:00:00Z"),
    *("1789364712000000", "1789364712000000000", "946684805", "2036-02-07T06:28:16Z", "46353.24"),
    *("1789364712", "1e9", "inf", "nan", "²", "٣", "", " ", "\t", "\0", "\x1b[31m"),
    *("\u202etxt", "\ufeff", "\U0001f438", "e\u0301" * 30, "\uffff"),
    *("a" * 255, "a" * 256, "a" * 257, "9" * 64, "9" * 65),
    *("../../etc/passwd", "%s%n{0}{}", "';--", "clip.wav", "https://example.org/c.wav"),
    *("data:audio/wav;base64,UklGRg==", "//uQxAAA", "UklGR"),
)

LIKELY = (
    *("null", "0", "1", "17", "63.64", "99.99", "16000", "1789364712", "1789364712250", '"n1"'),
    *('""', '"online"', '"real"', '"prediction"', '"Crinia signifera"', '"2026-09-14T05:45:12Z"'),
    *("[0, 0, 0]", "[-38.77, 143.5]", "[-38.77, 143.5, 112]", '{"lat": -38.77, "lon": 143.5}'),
    *('{"latitude": 0, "longitude": 0, "altitude": 0}', '{"cpu": 3, "uptime": 1789364712}', "[]"),
    *('[{"label": "Crinia signifera", "confidence": 12}]', '"clip.wav"', "-5", "1e300", "{}"),
)
"""JSON values as some device might really send them."""

ESCAPES = (r"\u0000", r"\ud800", r"\udc00\ud800", r"\uD83D\uDC38", r"\x41", r"\u12", r"\/", "\\")

PREFIXES = ("iotingestion", "a")
"""The second is shorter than that of receipts: what is long below it is longer there."""
TOPICS = tuple(
    prefix + rest
    for prefix in PREFIXES
    for rest in (
        *(
            "",
            "/",
            "//",
            "/ ",
            "/ridge-01",
            "/ridge-01/a/b/c",
            "/$share/g/x",
            "/$SYS",
            "/..",
            "/%2f",
        ),
        *("/\u202ex", "/\ufeff", "/e\u0301", "/\U0001f438/x", "/\u00ad", "/ridge\u2044-01"),
        *("/" * 190, "/x" * 150, "/" + "x" * (65_534 - len(prefix)), "/" + "é" * 32_000),
    )
)
"""Topics that MQTT allows [MQTT-4.7.3]."""
RESPONSE_TOPICS = (
    *("iotreceipts", "iotreceipts/", "iotreceipts/ridge-01", "iotreceipts/ridge-01/x", "$SYS/x"),
    *("iotreceipts/ridge-01/" + "x" * 65_000, "iotingestion/ridge-01", "iotreceipts/x/\U0001f438"),
)

FORM_VALUES = (
    *("0.8712", "87.12", "-1", "101", "255", "1791145812", "1791145812000", "-378810000", "1e400"),
    *('"2026-10-05T07:30:12"', '"2026-10-05T07:30:12+11:00"', '"07:30:12"', '"2026-10-05"'),
    *('"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59-23:59"', '"20261005_073012.wav"'),
    *('"Europe/Berlin"', '"Mars/Olympus"', '"../UTC"', '"telemetry"', '"position"', '"F"'),
    *('"Menura novaehollandiae"', '"3,5"', '"NaN"', '"AQIDBA=="', '"UklGRg=="', '"!aabbccdd"'),
)
"""Values that fields of shipped forms have, or nearly."""
FORM_LEVELS = (
    "",
    "+",
    "#",
    "$SYS",
    "a",
    "pond",
    "é\u0301",
    "\u202ex",
    "x" * 257,
    "x" * 1_100,
    "event",
)
"""Levels of a topic."""
