"""Which form a message is in: by its topic, its keys, its content, and how it begins."""

import json

import pytest

from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import SHIPPED, Form, Forms
from echo_ingest.decode.forms.documents import DEPTH_MAX, ROWS_MAX
from echo_ingest.decode.forms.interpret import DecodedByForm
from echo_ingest.decode.forms.reading import read
from echo_ingest.decode.forms.trial import try_forms
from echo_ingest.reasons import ReasonCode as Code
from echo_ingest.record import Detection, Ignored, Measurement, Message, Rejected, message_key
from tests.forms.binary_examples import encrypted
from tests.forms.trying import DETECTION, HEAD, NO_ZONE, RECEIVED_AT_MS, forms, message, outcome

RECORD = '[[record]]\nkind = "measurement"\n[record.values]\na_count = "{path}"\n'


def matched(match: str, payload: object, topic: str = "a/b") -> str | None:
    """Return which form fits: the first one has `match`, the second one takes anything."""
    text = f'name = "first"\nignore = true\n[match]\n{match}\n'
    rest = 'name = "rest"\nignore = true\n[match]\ntopic = "#"\npayload = "any"\n'
    made = forms(text, rest).decode(message(payload, topic), NO_ZONE)
    assert isinstance(made, Ignored)
    return made.form


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b", "a", False),
        ("a/+", "a/b", True),
        ("a/+", "a/", True),
        ("a/{node}", "a/", False),
        ("a/{node}", "a/b", True),
        ("{node}/b", "a/b", True),
        ("+/b", "a/b", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "b/b/c", False),
        ("#", "x", True),
        ("a/+/c/#", "a/b/c", True),
        ("a/+/c/#", "a/b/d", False),
    ],
)
def test_a_topic_fits_as_in_mqtt(pattern: str, topic: str, fits: bool) -> None:
    text = f'topic = "{pattern}"\npayload = "any"'
    assert matched(text, b"", topic) == ("first" if fits else "rest")
    several = f'topic = ["none/of/them", "{pattern}"]\npayload = "any"'
    assert matched(several, b"", topic) == ("first" if fits else "rest")


@pytest.mark.parametrize(
    ("match", "payload", "fits"),
    [
        ('has = ["x", "y.z"]', {"x": None, "y": {"z": 0}}, True),
        ('has = ["x", "y.z"]', {"x": None, "y": {}}, False),
        ('has = ["x", "y.z"]', {"x": None, "y": 5}, False),
        ('has = ["x"]', [{"x": 1}], False),
        ('has = ["x"]', b'{"x": ', False),
        ('has = ["x[1].y"]', {"x": [0, {"y": 1}]}, True),
        ('has = ["x"]\nwhere = "x > `1`"', {"x": 2}, True),
        ('has = ["x"]\nwhere = "x > `1`"', {"x": 1}, False),
        ('has = ["x"]\nwhere = "x > `1`"', {"x": "text"}, False),
        ("where = \"x == 'y'\"", {"x": "y"}, True),
        ('payload = "list"\nhas = ["x"]', [{"x": 1}], True),
        ('payload = "list"\nhas = ["x"]', [], False),
        ('payload = "list"\nhas = ["x"]', {"x": 1}, False),
        ('payload = "ndjson"\nhas = ["x"]', b'{"x": 1}\n\n{"x": 2}\n', True),
        ('payload = "ndjson"\nhas = ["x"]', b'{"x": 1}\n{"x"', False),
        ('payload = "csv"\nhas = ["x"]', b"y,x\n1,2\n", True),
        ('payload = "csv"\nhas = ["x"]', b"y,x\n", True),
        ('payload = "csv"\nhas = ["x"]', b"y,z\n1,2\n", False),
        ('payload = "csv"\nhas = ["x"]', b"", False),
        ('payload = "tsv"\nhas = ["x"]', b"\xef\xbb\xbfx\ty\r\n1\t2\r\n", True),
        ("payload = \"text\"\nopens = 'on|off'", b"online", True),
        ("payload = \"text\"\nopens = 'on|off'", b"is online", False),
        ("payload = \"text\"\nopens = 'on'", b"on\xff", False),
        ("payload = \"text\"\nopens = '(?i)ON'", b"on", True),
        ("payload = \"bytes\"\nopens = 'on'", b"on\xff", True),
        ("payload = \"lines\"\nopens = 'a'", b"a\nb", True),
        ('payload = "empty"', b" \r\n", True),
        ('payload = "empty"', b"0", False),
    ],
)
def test_the_content_decides(match: str, payload: object, fits: bool) -> None:
    assert matched(match, payload) == ("first" if fits else "rest")


def test_the_first_form_that_fits_is_taken_whatever_tells_them_apart() -> None:
    by_key = 'name = "key"\nignore = true\n[match]\nhas = ["x"]\n'
    by_topic = 'name = "topic"\nignore = true\n[match]\ntopic = "a/b"\n'
    by_content = 'name = "content"\nignore = true\n[match]\nwhere = "x"\n'
    sources = [by_key, by_topic, by_content]
    for first in range(3):
        order = sources[first:] + sources[:first]
        made = forms(*order).decode(message({"x": 1}, "a/b"), NO_ZONE)
        assert made == Ignored(order[0].split('"')[1])


def test_a_form_that_reads_a_message_goes_before_one_that_cannot() -> None:
    packet = encrypted(10, b"door open", channel="Frogs", key=bytes(range(16)))
    cannot = 'name = "cannot"\n[match]\ntopic = "#"\npayload = "meshtastic"\n'
    cannot += RECORD.format(path="id")
    reads = 'name = "reads"\nignore = true\n[match]\ntopic = "#"\npayload = "any"\n'
    for own, shipped in ((cannot, reads), (reads, cannot)):
        both = Forms.of_sources([("own.toml", own.encode())], [("ours.toml", shipped.encode())])
        assert not both.errors
        decoder = Decoder(10_000, forms=both)
        arrived = message(packet, "msh/ANZ/2/e/Frogs/!00000001")
        assert decoder.decode(arrived) == decoder.identify(arrived) == Ignored("reads")
    alone = Decoder(10_000, forms=Forms.of_sources([("own.toml", cannot.encode())]))
    unreadable = alone.decode(arrived)
    assert isinstance(unreadable, Rejected) and "no key here" in unreadable.render()


def test_a_message_that_fits_none_is_in_no_form() -> None:
    shipped = Forms.of_folder(SHIPPED)
    for payload in (b"", b"{}", b"[]", b"{", b"text", b"\xff", b'{"species": "x"}'):
        arrived = message(payload, "some/where")
        made = shipped.decode(arrived, NO_ZONE)
        assert made is None or (payload == b"" and made == Ignored("empty-message"))
        assert made == shipped.identify(arrived, NO_ZONE)


def test_a_message_that_fits_none_of_many_forms_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [
        f'name = "f-{n}"\nignore = true\n[match]\nhas = ["key_{n}", "x"]\n' for n in range(150)
    ]
    made = forms(*texts)
    fit_of_calls = 0

    class Counted(dict[str, object]):
        def __contains__(self, key: object) -> bool:
            nonlocal fit_of_calls
            fit_of_calls += 1
            return super().__contains__(key)

    from echo_ingest.decode.forms import match

    monkeypatch.setattr(match, "of_json", lambda payload: Counted(json.loads(payload)))
    assert made.fit(message({"y": 1, "z": 2, "x": 3})) is None
    assert fit_of_calls <= 3
    assert made.fit(message({"key_7": 1, "x": 3})) is not None


def test_rows_become_records_whatever_they_are_written_as() -> None:
    head = 'name = "try"\n[match]\npayload = "{payload}"\ntopic = "t/one"\n'
    tail = '[[record]]\nkind = "detection"\neach = "rows"\nspecies = "name"\n'
    rows: list[tuple[str, str, object]] = [
        ("list", "", [{"name": "Frog"}, {"name": "Toad"}]),
        ("ndjson", "", b'{"name": "Frog"}\n{"name": "Toad"}'),
        ("csv", "", b'name,more\n"Frog",1\nToad\n'),
        ("tsv", "", b"more\tname\n1\tFrog\n\n2\t Toad \n"),
        ("lines", 'separator = ";"\ncolumns = ["name", "more"]\n', b"Frog;1\nToad;2;3\n"),
    ]
    for payload, more, sent in rows:
        made = outcome(head.format(payload=payload) + more + tail, message(sent))
        assert isinstance(made, tuple), (payload, made)
        assert [each.species for each in made if isinstance(each, Detection)] == ["Frog", "Toad"]
    lines = head.format(payload="lines") + tail.replace('"name"', '"line"')
    made = outcome(lines, message(b"Frog\n\n Toad"))
    assert isinstance(made, tuple) and len(made) == 2


def test_what_no_device_sends_is_in_no_form_or_rejected() -> None:
    text = HEAD + RECORD.format(path="x")
    deep: object = 1
    for _ in range(DEPTH_MAX + 1):
        deep = [deep]
    assert outcome(text, message({"x": 1, "y": deep})) is None
    assert outcome(text, message({"x": [0] * 100_002})) is None
    twice = outcome(text, message(b'{"x": 1, "y": {"a": 1, "a": 2}}'))
    assert isinstance(twice, Rejected) and twice.code == Code.AMBIGUOUS_KEY
    assert twice.field == "y.a"
    twice = outcome(text, message(b'{"x": 1, "x": "\\u003a"}'))
    assert isinstance(twice, Rejected) and twice.code == Code.AMBIGUOUS_KEY
    many = HEAD + '[[record]]\nkind = "detection"\neach = "x"\nspecies = "@"\n'
    made = outcome(many, message({"x": ["Frog"] * 1_000}))
    assert isinstance(made, tuple) and len(made) == 1_000
    made = outcome(many, message({"x": ["Frog"] * 1_001}))
    assert isinstance(made, Rejected) and made.code == Code.TOO_COMPLEX
    table = 'name = "try"\n[match]\npayload = "csv"\ntopic = "#"\n' + RECORD.format(path="x")
    assert outcome(table, message(b"x\n" + b"1\n" * (ROWS_MAX + 1))) is None
    assert outcome(table, message(b"x,,y,\n1,2,3,4\n")) is not None
    assert outcome(table, message(b"x,y,x\n1,2,3\n")) is None


def test_the_key_of_a_message_in_a_form_goes_by_its_scope() -> None:
    heard_by = 'sensor_id = "sender"\n'
    text = DETECTION + heard_by + '[identity]\nmessage_id = "id"\nscope = "{scope}"\n'

    def key(scope: str, topic: str, number: int) -> bytes:
        arrived = message({"x": "Frog", "id": number, "sender": topic}, topic)
        identity = forms(text.format(scope=scope)).identify(arrived, NO_ZONE)
        assert identity is not None and not isinstance(identity, Rejected | Ignored)
        return message_key(arrived, identity, b"digest", 1)

    assert key("form", "gateway/1", 5) == key("form", "gateway/2", 5)
    assert key("node", "gateway/1", 5) != key("node", "gateway/2", 5)
    assert key("form", "gateway/1", 5) != key("form", "gateway/1", 6)
    assert key("form", "try", 5) != key("node", "try", 5)


def test_the_identity_of_a_message_is_that_of_all_its_records() -> None:
    text = HEAD + '[[record]]\nkind = "detection"\neach = "x"\nspecies = "s"\nmessage_id = "id"\n'
    made = forms(text)

    def identity(payload: object) -> object:
        return made.identify(message(payload), NO_ZONE)

    one = {"s": "Frog", "id": "a"}
    assert getattr(identity({"x": [one]}), "message_id", None) == "a"
    assert getattr(identity({"x": [one, one]}), "message_id", "") is None
    timed = text + 'observed_at = "t"\n'
    late = [{"s": "Frog"}, {"s": "Frog", "t": "2026-10-04T20:30:00Z"}]
    found = forms(timed).identify(message({"x": late}), NO_ZONE)
    assert getattr(found, "seconds", 0) == 1791145800


def test_a_form_that_is_pinned_reads_what_it_read() -> None:
    old, new = DETECTION, DETECTION.replace('"x"', '"y"')
    made = forms(new)
    arrived = message({"x": "Frog"})
    assert made.fit(arrived) is None
    kept = forms(old).named("try")
    assert kept is not None and kept.source == old.encode()
    pinned = read(kept.source)
    assert isinstance(pinned, Form) and pinned.digest == kept.digest
    decoded = made.decoded_as(pinned, arrived, NO_ZONE, hashed=True)
    assert isinstance(decoded, DecodedByForm) and decoded.form.digest == kept.digest
    assert made.decoded_as(pinned, message({"y": "Frog"}), NO_ZONE, hashed=True) is None


def test_doubtful_scales_are_warned_of() -> None:
    def words(scale: str, *given: float) -> str:
        text = DETECTION.replace('"x"\n', '"s"\n') + (
            f'each = "x"\nconfidence = {{from = "c", scale = "{scale}"}}\n'
        )
        arrived = message({"x": [{"s": "Frog", "c": each} for each in given]}, node="n")
        return " ".join(try_forms(forms(text), arrived, NO_ZONE).warnings)

    assert "is the scale fraction?" in words("percent", 0.93, 0.4)
    assert "is the scale fraction?" in words("byte", 0.93, 1)
    assert "scale" not in words("percent", 0.93, 40)
    assert "scale" not in words("fraction", 0.93)
    assert "the time of receipt counts" in words("fraction", 0.93)


def test_a_measurement_is_no_record_without_a_value() -> None:
    text = HEAD + RECORD.format(path="x")
    made = outcome(text, Message("t", b'{"x": 4}', RECEIVED_AT_MS))
    assert isinstance(made, tuple) and isinstance(made[0], Measurement)
    none = outcome(text, Message("t", b'{"x": null}', RECEIVED_AT_MS))
    assert isinstance(none, Rejected) and none.code == Code.NO_RECORD
