"""docs/form-files.md says what the interpreter knows, and its examples are forms."""

import re
from pathlib import Path

from echo_ingest.decode.forms import FORMS_MAX
from echo_ingest.decode.forms.bytes_layout import SIZES
from echo_ingest.decode.forms.documents import PAYLOADS
from echo_ingest.decode.forms.fields import MODIFIERS, SCALES
from echo_ingest.decode.forms.paths import LINEAR_FUNCTIONS
from echo_ingest.decode.forms.reading import FORM_BYTES_MAX, KEYS, LAYOUT_KEYS, MATCH_KEYS
from echo_ingest.decode.forms.record_spec import FIELDS, REQUIRED
from echo_ingest.decode.forms.records import RECORDS_MAX
from echo_ingest.decode.forms.units import UNITS_BY_END
from echo_ingest.decode.payloads import GROUP, OURS
from echo_ingest.decode.times import UNITS
from echo_ingest.record import Detection
from tests.forms.trying import HEAD, MELBOURNE, form, message, records

PAPER = (Path(__file__).parents[2] / "docs" / "form-files.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAPER, re.MULTILINE | re.DOTALL)
TYPED = set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", PAPER, flags=re.M | re.S)))


def test_every_word_of_the_language_is_explained() -> None:
    words = {*PAYLOADS, *LINEAR_FUNCTIONS, *SIZES, *SCALES, *UNITS, *UNITS_BY_END, *FIELDS}
    words |= set().union(*MODIFIERS.values()) | {*MATCH_KEYS, *OURS}
    for kind, fields in FIELDS.items():
        words |= {name for name in fields if not name.startswith("animal_") or kind == "movement"}
    explained = TYPED | set(re.findall(r"^(\w+) =", "\n".join(EXAMPLES), re.MULTILINE))
    assert words - explained == set()
    for key in (*KEYS, *LAYOUT_KEYS):
        assert re.search(rf"(?:[`\[]|^){key}\b", PAPER, re.MULTILINE), key


def test_required_fields_are_in_bold() -> None:
    for kind, names in REQUIRED.items():
        (row,) = re.findall(rf"^\| `{kind}` \| (.*) \|$", PAPER, re.MULTILINE)
        bold = set(re.findall(r"\*\*`(\w+)`\*\*", row))
        assert bold == set(names) or (kind == "measurement" and bold == {"name", "value"})


def test_the_limits_are_those_of_the_code() -> None:
    assert f"has at most {FORM_BYTES_MAX // 1024} KiB" in PAPER
    assert f"there may be {FORMS_MAX} of them" in PAPER
    assert f"at most {RECORDS_MAX:,} records" in PAPER


def test_the_first_example_does_what_the_page_says() -> None:
    (sent,) = re.findall(r"the message `(\{.*?\})` on the topic", PAPER, re.DOTALL)
    arrived = message(sent.replace("\n", " ").encode(), "pond/north/heard")
    (made,) = records(EXAMPLES[0], arrived, MELBOURNE)
    assert isinstance(made, Detection)
    assert (made.species, made.node, made.confidence) == ("Crinia signifera", "north", 0.64)
    assert made.observed_at.isoformat() == "2026-10-04T20:30:03.500000+00:00"


def test_the_other_examples_are_parts_of_forms() -> None:
    assert len(EXAMPLES) == 6
    for part in EXAMPLES[1:]:
        if part.startswith("name"):
            form(part)
            continue
        if "[project" in part:
            assert f'"{GROUP}"' in part
            continue
        ending = "" if "[[record]]" in part else '[[record]]\nkind = "telemetry"\nstatus = "x"\n'
        form(HEAD + part + ending)
