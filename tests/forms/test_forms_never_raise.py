"""Whatever a form says and whatever arrives: errors of the form, or records, or a reason."""

import json
import sys
from collections.abc import Callable
from functools import partial
from time import process_time
from types import FrameType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_ingest.decode.forms import SHIPPED, Form, Forms
from echo_ingest.decode.forms.documents import PAYLOADS
from echo_ingest.decode.forms.fields import MODIFIERS
from echo_ingest.decode.forms.interpret import DecodedByForm
from echo_ingest.decode.forms.patterns import compile_pattern
from echo_ingest.decode.forms.reading import read
from echo_ingest.decode.forms.record_spec import FIELDS
from echo_ingest.decode.forms.tracing import unread
from echo_ingest.decode.forms.trial import try_forms
from echo_ingest.record import Message, Rejected
from tests.forms.trying import HEAD, MELBOURNE, RECEIVED_AT_MS, forms, message

TEXTS = [folder.joinpath("form.toml").read_text() for folder in sorted(SHIPPED.iterdir())]
EXAMPLES = [
    (json.loads((folder / "expected.json").read_text())["topic"], file.read_bytes())
    for folder in sorted(SHIPPED.iterdir())
    for file in folder.glob("example.*")
]
SHIPPED_FORMS = Forms.of_folder(SHIPPED)
MODIFIER_NAMES = sorted({name for names in MODIFIERS.values() for name in names})

KEYS = st.sampled_from(["x", "y", "id", "a b", "parent", "rows", "text", "é", ""])
PATHS = st.sampled_from(
    [
        *("x", "y.x", "@", "x[0]", "x[-1].y", '"a b"', "parent.x", "parent.parent.y", "rows"),
        *("x[?y]", "*.x | [0]", "x[].y", "length(x)", "to_number(x)", "contains(x, y)", "[x, y]"),
        *("$node", "$received", "$key", "$topic.n", "max_by(x, &y)", "x[::2]", "{a: x}", "a..b"),
        *("keys(x)", "values(@)", "join('', x)", "to_string(@)", "x == y", "!x", "x || y", "text"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        [
            *("2026-10-04T20:30:00Z", "2026-10-04 20:30", "1791145800", 1791145800, 1e300, 0, -1),
            *(
                "n/a",
                "12,5",
                "Australia/Melbourne",
                "../etc",
                "Frog",
                "A" * 300,
                10**30,
                "UklGRg==",
            ),
        ]
    )
)
PAYLOAD_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
TOML_VALUES = st.recursive(
    st.booleans()
    | st.integers(-1000, 1000)
    | st.floats(allow_nan=False)
    | st.sampled_from(
        [
            *("fraction", "percent", "site", "UTC", "s", "ms", "%Y%m%d", "%s", "%08x", "form", "x"),
            *(
                r"(\d+)",
                "(a+)+",
                ".*",
                "[a-z]+",
                "_",
                ";",
                "base64",
                "a:u8",
                "Europe/Paris",
                "a/{n}",
            ),
        ]
    )
    | PATHS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*MODIFIER_NAMES, "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)
MODIFIED = st.fixed_dictionaries(
    {"from": PATHS},
    optional={
        "scale": st.sampled_from(["fraction", "percent", "byte"]),
        "zone": st.sampled_from(["site", "UTC", "Asia/Tokyo"]),
        "zone_from": PATHS,
        "unit": st.sampled_from(["s", "ms", "us", "ns"]),
        "times": st.sampled_from([1e-7, 1000, -1]),
        "plus": st.sampled_from([-273.15, 1e300]),
        "words": st.just({"x": "y"}),
        "split": st.sampled_from(["_", " "]),
        "pattern": st.sampled_from([r"(\d+)", "[^_]+_(.*)", "x?y?z?", ".*"]),
        "unknown": st.just([0, "n/a"]),
        "default": st.sampled_from(["Frog", 5, True]),
        "format": st.sampled_from(["%s", "!%08x", "%Y-%m-%d"]),
        "join": st.just("-"),
    },
)


@st.composite
def form_texts(draw: st.DrawFn) -> str:
    """Return forms of which many can be read: tables of names that exist, with values at random."""
    kind = draw(st.sampled_from(sorted(FIELDS)))
    record: dict[str, object] = {"kind": kind}
    names = draw(st.lists(st.sampled_from(sorted(FIELDS[kind])), max_size=6, unique=True))
    values = PATHS | MODIFIED | draw(st.sampled_from([PATHS, TOML_VALUES]))
    record |= {name: draw(values) for name in names}
    for name in draw(st.sampled_from([[], ["each"], ["where"], ["each", "where"]])):
        record[name] = draw(PATHS)
    for required in ("species", "clip", "animal_id", "name", "value"):
        if required in FIELDS[kind] and required not in record:
            record[required] = draw(PATHS)
    match = {"payload": draw(st.sampled_from(sorted(PAYLOADS))), "topic": "t/#"}
    table: dict[str, object] = {"name": "try", "match": match, "record": [record]}
    if draw(st.booleans()):
        table["identity"] = {"message_id": draw(PATHS), "scope": "form"}
    return toml(table)


def toml(table: dict[str, object]) -> str:
    """Write a table whose values are inline: JSON is nearly that."""
    return "".join(f"{json.dumps(key)} = {inline(value)}\n" for key, value in table.items())


def inline(value: object) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(str(key))} = {inline(inner)}" for key, inner in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    return str(value).lower()


def check(made: Forms, arrived: Message) -> None:
    """Decode, identify and trace a message: each answers, and they agree."""
    decoded = made.decoded(arrived, MELBOURNE, hashed=True)
    identity = made.identify(arrived, MELBOURNE)
    if isinstance(decoded, DecodedByForm):
        assert decoded.identity == identity
        assert 0 < len(decoded.records) <= 1_000
        msgspec.json.encode(decoded.records)
        assert made.decode(arrived, MELBOURNE) == decoded.records
        for index in range(2):
            made.clip_bytes(arrived, MELBOURNE, index)
        for words in try_forms(made, arrived, MELBOURNE).warnings:
            assert words.isprintable()
    else:
        assert decoded == identity
        if isinstance(decoded, Rejected):
            assert len(decoded.render()) <= 200, decoded
            assert decoded.detail.isprintable()
            assert decoded.field is None or len(decoded.field) <= 60
    fit = made.fit(arrived)
    assert (fit is None) == (decoded is None)
    if fit is not None:
        unread(fit, arrived, MELBOURNE)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


@settings(max_examples=600, deadline=None)
@given(form_texts(), PAYLOAD_VALUES, st.binary(max_size=60), st.dictionaries(KEYS, PAYLOAD_VALUES))
def test_generated_forms_answer_to_generated_payloads(
    text: str, value: object, binary: bytes, fields: dict[str, object]
) -> None:
    result = read(text.encode())
    if not isinstance(result, Form):
        for error in result:
            assert 1 <= error.line <= text.count("\n") + 1
            assert len(error.words) < 900
        return
    made = forms(text)
    lines = b"\n".join(map(encoded, [fields, {"x": value}]))
    table = b"x,y,id\n" + b"\n".join([binary.replace(b"\0", b""), b"1,2,3"])
    for payload in (
        encoded(fields),
        encoded({"x": value, "y": fields}),
        encoded([fields]),
        lines,
        table,
        binary,
    ):
        check(made, message(payload, "t/n", node="n"))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(EXAMPLES),
    st.lists(st.tuples(st.integers(0, 2_000), PAYLOAD_VALUES), min_size=1, max_size=3),
)
def test_shipped_forms_answer_to_examples_whose_values_are_others(
    example: tuple[str, bytes], changes: list[tuple[int, object]]
) -> None:
    topic, payload = example
    try:
        document = json.loads(payload)
        document = document if isinstance(document, dict) else None
    except ValueError:
        document = None
    for number, value in changes:
        if document is None:
            at = number % (len(payload) + 1)
            payload = payload[:at] + str(value).encode(errors="replace") + payload[at + 2 :]
        else:
            places = list(containers(document))
            inner, key = places[number % len(places)]
            inner[key] = value
            payload = encoded(document)
    check(SHIPPED_FORMS, Message(topic, payload, RECEIVED_AT_MS))


def containers(value: object) -> list[tuple[dict[object, object], object]]:
    """Return each place of a document: what holds it, and its key or index."""
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = list(enumerate(value)) if isinstance(value, list) else []
    found = [(value, key) for key, _ in pairs]
    for _, inner in pairs:
        found += containers(inner)
    return found  # type: ignore[return-value]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(TEXTS),
    st.lists(
        st.tuples(st.integers(0, 3_000), st.text(alphabet='"[]{}=.#\n\\ax1\0é', max_size=3)),
        min_size=1,
        max_size=4,
    ),
)
def test_damaged_forms_are_read_or_their_errors_told(
    text: str, changes: list[tuple[int, str]]
) -> None:
    for number, added in changes:
        at = number % (len(text) + 1)
        text = text[:at] + added + text[at + len(added) :]
    result = read(text.encode())
    if not isinstance(result, Form):
        assert result
        assert all(1 <= error.line <= text.count("\n") + 1 for error in result)


# ---------------------------------------------------------------------- linear time


def steps(work: Callable[[], object]) -> int:
    """Count the lines of Python that some work takes, and its calls of functions in C."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        count += 1
        return trace

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "c_call"

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        sys.settrace(before)
    return count


MANY = HEAD + (
    '[[record]]\nkind = "detection"\neach = ["x", "calls"]\nspecies = "s"\n'
    'where = "c && !(c == `5`)"\n'
    'confidence = {from = ["n", "tags[?k==\'c\'] | [0].v"], scale = "fraction"}\n'
    'observed_at = {from = "parent.parent.t", zone = "site"}\noffset_seconds = "$index"\n'
    "clip_reference = {from = \"parent.file\", pattern = '[^/]+$'}\n"
    'model = {from = ["parent.parent.m.a", "$topic.none"], join = "-", default = "d"}\n'
)
LINEAR = [
    MANY.replace(', "$topic.none"', ', "s"'),
    HEAD + '[[record]]\nkind = "measurement"\neach = "x[].calls[]"\nname = "s"\nvalue = "c"\n',
    HEAD + '[[record]]\nkind = "detection"\nspecies = "max_by(x[].calls[], &c).s"\n',
    HEAD + '[[record]]\nkind = "detection"\nwhere = "x[?calls[?s==\'Frog\']]"\nspecies = "m.a"\n',
]


def calls(count: int) -> Message:
    items = [
        {
            "file": f"/a/{number}.wav",
            "calls": [{"s": "Frog", "c": 1, "tags": [{"k": "c", "v": 0.5}]} for _ in range(4)],
        }
        for number in range(count)
    ]
    return message({"x": items, "t": "2026-10-05T07:30:00", "m": {"a": "model"}})


@pytest.mark.parametrize("text", LINEAR)
def test_the_steps_grow_as_the_payload_does(text: str) -> None:
    made = forms(text)

    def decode(arrived: Message) -> int:
        result = made.decode(arrived, MELBOURNE)
        assert isinstance(result, tuple), result
        return steps(lambda: made.decode(arrived, MELBOURNE))

    few, many = decode(calls(25)), decode(calls(200))
    assert few > 200
    assert many <= 8.2 * few


def test_what_each_item_reads_above_it_costs_the_same_however_long_it_is() -> None:
    text = HEAD + (
        '[[record]]\nkind = "detection"\neach = "x"\nspecies = "@"\n'
        "model = {from = \"parent.long\", pattern = '^(a{3})'}\n"
        'low_hz = {from = "parent.number", unknown = ["?"], default = 7}\n'
    )
    made = forms(text)

    def sent(long: str) -> Message:
        return message({"x": ["Frog"] * 500, "long": long, "number": None})

    short, long = (sent("a" * length + "_b") for length in (300, 3_000_000))
    counts = [steps(partial(made.decode, each, MELBOURNE)) for each in (short, long)]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
    assert isinstance(made.decode(long, MELBOURNE), tuple)
    for field, code in (
        ('sensor_id = "parent.long"', "impossible_value"),
        ('sensor_id = {from = ["parent.long", "@"], join = ""}', "impossible_value"),
        ('sensor_id = {from = "parent.long", split = "_", take = -1}', "impossible_value"),
        ('high_hz = "parent.long"', "wrong_type"),
    ):
        result = forms(text + field).decode(long, MELBOURNE)
        assert isinstance(result, Rejected) and result.code == code


def test_patterns_look_at_so_much_text_and_no_more() -> None:
    text = HEAD + (
        '[[record]]\nkind = "detection"\neach = "x"\nspecies = "@"\n'
        "model = {from = '@', pattern = 'g.*z', default = 'none'}\n"
    )
    same = forms(text).decode(message({"x": ["Frog " * 40] * 1_000}), MELBOURNE)
    assert isinstance(same, tuple)
    others = [f"{number:04} " + "frog " * 45 for number in range(1_000)]
    for sent, pattern in ((others, "g.*z"), (others[:40], "g.*y.*z")):
        this = forms(text.replace("g.*z", pattern))
        result = this.decode(message({"x": sent}), MELBOURNE)
        assert isinstance(result, Rejected) and result.code == "too_complex"
        assert isinstance(this.decode(message({"x": sent[:10]}), MELBOURNE), tuple)


@pytest.mark.parametrize("pattern", ["a.*b.*c", "^.*a.*b.*d", "a?a?a?a?a?a?b", "[a-z]+1?[a-z]+2"])
def test_a_pattern_that_can_be_used_takes_a_bounded_time(pattern: str) -> None:
    compiled = compile_pattern(pattern).compiled
    started = process_time()
    for text in ("ab" * 128, "a" * 256, "abc" * 85):
        compiled.search(text[:256])
    assert process_time() - started < 2
