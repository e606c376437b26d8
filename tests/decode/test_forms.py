"""docs/forms.md and the table of forms say the same."""

import re
from pathlib import Path

from echo_ingest.decode import FORMS
from echo_ingest.decode.audio_file import PROPERTIES
from echo_ingest.record import KINDS

TEXT = (Path(__file__).parents[2] / "docs" / "forms.md").read_text()
SECTIONS = dict(re.findall(r"^### `([a-z-]+)`\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))


def test_every_form_has_its_heading_and_every_heading_its_form() -> None:
    assert sorted(SECTIONS) == sorted(form.name for form in FORMS)


def test_each_section_names_what_it_becomes_and_what_it_needs() -> None:
    for form in FORMS:
        section = SECTIONS[form.name]
        assert form.kind in KINDS
        assert f"Becomes a {form.kind}." in section, form.name
        assert f"Needs: {', '.join(form.required)}." in section.replace("`", ""), form.name
        assert f"Pitfall: {form.pitfall}." in section.replace("`", ""), form.name
        assert all(number in section for number in form.examples), form.name


def test_every_user_property_that_is_read_is_told() -> None:
    for name in PROPERTIES:
        assert f"| `{name}` |" in SECTIONS["audio-file"]
