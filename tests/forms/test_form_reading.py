"""What is wrong with a form is told at once: each error with its line, and what to type."""

import re
from pathlib import Path

import pytest

from echo_ingest.decode.forms import FORMS_MAX, SHIPPED, Forms
from echo_ingest.decode.forms.form import Form, FormError
from echo_ingest.decode.forms.reading import FORM_BYTES_MAX, read
from echo_ingest.key_lines import key_lines
from tests.forms.trying import DETECTION, HEAD, errors, form

VALID = """name = "try"
[match]
has = ["x"]
[[record]]
kind = "detection"
species = "x"
"""

# A line that is added to the valid form, and words of the error that it makes, on line 7.
WRONG_LINES = [
    ('specis = "y"', "did you mean species?"),
    ('colour = "y"', "this key is not known; there are"),
    ('confidence = "c"', 'it needs its scale: type scale = "fraction"'),
    ('confidence = {from = "c", scale = "permille"}', "type one of fraction, percent, byte"),
    (
        'confidence = {from = "c", scale = "percent", times = 2}',
        "times does not go with this field",
    ),
    ('model = {from = "m", value = "v"}', "type either from (a path) or value"),
    ("model = {}", "type either from"),
    ("model = 5", "{value = 5}"),
    ('model = ""', "type a text in quotes"),
    ("model = []", "0 texts were found"),
    ('model = {from = "m", colour = 1}', "this key is not known"),
    ('model = {from = "m", zone = "UTC"}', "zone does not go with this field"),
    ('model = "a b"', "needs double quotes"),
    ('model = "sort(x)"', "the function sort cannot be used"),
    ('model = "[a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q]"', "it chooses 17 values"),
    ('model = "x[::0]"', "0"),
    ('model = "$topic.name"', "names nothing, and not 'name'"),
    ('model = "$bytes.name"', "[layout] names nothing"),
    ('model = "$key"', "known only within `each`"),
    ('model = "$whatever"', "type $topic.NAME"),
    (f'model = "{"a" * 600}"', "at most 512 are read"),
    (f'model = "a{"[]" * 64}"', "nested too deeply"),
    ('where = "!a.b"', "type !(a.b)"),
    ('where = "!a[?b]"', "type !(a.b)"),
    (f"model = 0x{'f' * 9000}", "a number with too many digits"),
    ('model = {from = "m", pattern = "("}', "is no regular expression"),
    ("model = {from = 'm', pattern = '[[a]]'}", "is no regular expression"),
    ("model = {from = 'm', pattern = '(a+)+'}", "a repeat within a repeat"),
    ("model = {from = 'm', pattern = '(a|b)*'}", "of alternatives"),
    ("model = {from = 'm', pattern = '(a)\\1'}", "a reference to what a group found"),
    ("model = {from = 'm', pattern = '(?=a)'}", "cannot be used in a pattern"),
    ("model = {from = 'm', pattern = '.*.*'}", "stand side by side"),
    ("model = {from = 'm', pattern = 'a*b*c*d*'}", "at most 2 and 8"),
    ("model = {from = 'm', pattern = '(a)(b)'}", "several groups"),
    ("model = {from = 'm', pattern = '(?s)a'}", "(?i) can"),
    ('model = {from = "m", take = 1}', "it needs split"),
    ('model = {from = "m", split = "_", take = "x"}', "type 0 for the first part"),
    ('model = {from = "m", split = ""}', "type a text in quotes"),
    ('model = {from = ["m", "n"], join = 5}', "type a short text"),
    ('model = {from = "m", unknown = [[1]]}', "type a list of texts or numbers"),
    ('model = {from = "m", words = 5}', "a table was expected"),
    ('model = {from = "m", words = {}}', "0 words were found"),
    ('model = {from = "m", words = {a = 5}}', "type a text in quotes"),
    ('model = {from = "m", default = 5}', "type a text in quotes"),
    ('model = {from = "m", format = "%q"}', "such as !%08x"),
    ('model = {from = "m", format = "%s%s"}', "such as !%08x"),
    ('low_hz = {from = "l", times = "2"}', "type a number"),
    ('low_hz = {from = "l", times = 0}', "every value would be 0"),
    ('low_hz = {from = "l", default = "x"}', "type a number"),
    ('observed_at = {from = "t", zone = "Mars/Base"}', "type site, UTC, a name such as"),
    ('observed_at = {from = "t", unit = "days"}', "type one of s, ms, us, ns"),
    ('observed_at = {from = "t", format = "%Q"}', "such as %Y%m%d_%H%M%S"),
    ('observed_at = {from = "t", format = "%Y%Y"}', "such as %Y%m%d_%H%M%S"),
    ('observed_at = {from = "t", format = "%H:%M"}', "has no year or no day"),
    ('observed_at = {from = "t", format = "%Y-%d"}', "has no month"),
    ('observed_at = {from = "t", format = "%Y-%m-%d %I:%M"}', "type %p beside %I, or %H"),
    ('observed_at = {from = "t", format = "%Y%j", unit = "s"}', "type one of them"),
    ('observed_at = {value = "2026-01-01"}', "value does not go with this field"),
    ('offset_seconds = "o"', "it needs observed_at"),
    ('ends_at = "e"', "it needs observed_at"),
    ('latitude = "l"', "it needs longitude beside it"),
    ('animal_longitude = "l"', "it needs animal_latitude beside it"),
    ('altitude_metres = "a"', "it needs latitude and longitude beside it"),
    ('each = "$topic"', "is not known; type $topic.NAME"),
    ("each = 5", "type a text in quotes"),
    ('where = "[?"', "is not JMESPath"),
    ('values = {a_percent = "x"}', 'it goes with kind = "measurement" alone'),
    ('[record.values]\na_percent = "x"', 'it goes with kind = "measurement" alone'),
    ('[identity]\nscope = "form"', "type message_id"),
    ("[layout]\nitems = []", "0 texts were found"),
]


@pytest.mark.parametrize(("added", "words"), WRONG_LINES)
def test_an_error_has_the_line_and_says_what_to_type(added: str, words: str) -> None:
    form(VALID)
    found = errors(VALID + added + "\n")
    assert any(words in error.words for error in found), found
    assert {error.line for error in found} <= {7, 8}, found
    for error in found:
        assert len(error.words) < 500 and "Traceback" not in error.words


WRONG_FORMS = [
    ("", 1, "the form has no name"),
    ("name = 5", 1, "type a text in quotes"),
    ('name = "My Device"', 1, "type small letters, digits and - only"),
    ('name = "a"', 1, "the form has no [match]"),
    ('name = "a"\n[match]\nhas = ["x"]', 1, "the form makes no record"),
    ('name = "a"\nignore = 1\n[match]\nhas = ["x"]', 2, "type true or false"),
    ('name = "a"\nignore = true\n[match]\nhas=["x"]\n[[record]]\nkind="telemetry"', 5, "no record"),
    ('name = "a"\nmatch = 5', 2, "a table was expected"),
    ('name = "a"\n[match]\n', 2, "it would match every message"),
    ('name = "a"\n[match]\npayload = "yaml"', 3, "type one of json"),
    ('name = "a"\n[match]\npayload = "text"\nwhere = "text"', 2, "needs topic, has or opens"),
    ('name = "a"\n[match]\ntopic = "a/#/b"', 3, "cannot be read"),
    ('name = "a"\n[match]\ntopic = "a{b}c"', 3, "to keep it"),
    ('name = "a"\n[match]\ntopic = "{b}/{b}"', 3, "captures a name twice"),
    ('name = "a"\n[match]\nhas = ["x[*]"]', 3, "is no plain path"),
    ('name = "a"\n[match]\npayload = "text"\nhas = ["x"]', 4, "type opens"),
    ('name = "a"\n[match]\nhas=["x"]\ncolumns = ["a"]', 4, 'payload = "lines" alone'),
    ('name = "a"\n[match]\ntopic="a"\npayload="lines"\nseparator=";"', 2, "names of the columns"),
    ('name = "a"\n[match]\ntopic="a"\npayload="lines"\nseparator=";;"', 5, "at most 1"),
    ('name = "a"\n[match]\ntopic="a"\npayload="lines"\ncolumns=["a"]', 5, "what separates them"),
    (HEAD + "[[record]]\n", 4, "it has no kind"),
    (HEAD + '[[record]]\nkind = "song"', 5, "type one of detection, recording"),
    (HEAD + '[[record]]\nkind = "detection"', 4, "a detection needs species"),
    (HEAD + '[[record]]\nkind = "movement"\nspecies = "x"', 4, "needs animal_id"),
    (HEAD + '[[record]]\nkind = "measurement"', 4, "it has no value"),
    (HEAD + '[[record]]\nkind = "measurement"\n[record.values]\nheat = "x"', 7, "it has no unit"),
    (HEAD + '[[record]]\nkind="measurement"\n[record.values]\nT = "x"', 7, "small letters"),
    (
        HEAD + '[[record]]\nkind="measurement"\n[record.values]\na_volts = {from="x", unit="mV"}',
        7,
        "the name says V, and unit says mV",
    ),
    (HEAD + "[record]\n", 4, "with two brackets"),
    (HEAD + '[layout]\nitems = ["a:u8"]', 4, "type from (where the bytes are)"),
    (HEAD + '[layout]\nfrom = "x"\nitems = ["a:u7"]', 6, "such as battery:u16"),
    (HEAD + '[layout]\nfrom = "x"\nitems = ["a:u8", "a:u8"]', 6, "a name stands twice"),
    ('name = "a"\nname = "b"', 2, "the TOML is broken"),
    ("name = ", 1, "the TOML is broken"),
    ('name = "a"\n[match]\nhas = [\n  "x",\n', 5, "the TOML is broken"),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG_FORMS)
def test_a_form_that_is_none_says_why(text: str, line: int, words: str) -> None:
    found = errors(text)
    assert any(error.line == line and words in error.words for error in found), found


def test_in_each_only_plain_paths_lead_up() -> None:
    within = DETECTION + 'each = "list"\n'
    form(within + 'model = "parent.name"')
    for path, words in (
        ("parent.list[?a]", "only a plain path"),
        ("[?a == parent.b]", "must be plain"),
        ("parent.parent.x", "it goes up 2 levels, but is within 1"),
    ):
        (error,) = errors(within + f'model = "{path}"')
        assert error.line == 8 and words in error.words
    (error,) = errors(DETECTION + 'each = ["list", "parent.list"]')
    assert "in the item itself" in error.words
    (error,) = errors(HEAD + '[[record]]\nkind = "recording"\neach = "l"\nclip = "parent.audio"\n')
    assert error.line == 7 and "the audio of all items is the same" in error.words


def test_all_errors_are_told_at_once_in_order() -> None:
    text = """name = "Bad Name"
about = 5

[match]
has = ["x"]
topc = "a"

[[record]]
kind = "detection"
species = "x"
# a comment = with "signs"
confidence = [
  "a",   # several
  "b",
]

[[record]]
kind = "telemetry"
battery_percent = {from = "b", scale = "percent"}
status = '''
two
lines'''
"""
    assert [error.line for error in errors(text)] == [1, 2, 6, 12, 19, 20]


def test_the_lines_of_keys_are_found_whatever_stands_around_them() -> None:
    text = '''# [no.table]
a = """
b = 1
""" # c = 2
"quoted.key" = { d = 1, e = "]" }
f.g = [1,
  2] # [
[[list]]
[list.inner]
h = '# no comment'
[[list]]
i = "\\""
'''
    assert key_lines(text) == {
        ("a",): 2,
        ("quoted.key",): 5,
        ("f",): 6,
        ("f", "g"): 6,
        ("list",): 8,
        ("list", 0): 8,
        ("list", 0, "inner"): 9,
        ("list", 0, "inner", "h"): 10,
        ("list", 1): 11,
        ("list", 1, "i"): 12,
    }


def test_a_file_is_read_whatever_editor_wrote_it() -> None:
    made = read(b"\xef\xbb\xbf" + VALID.replace("\n", "\r\n").encode())
    assert isinstance(made, Form) and made.records[0].kind == "detection"
    (error,) = read((VALID + "model = 5\n").replace("\n", "\r\n").encode())  # type: ignore[misc]
    assert error.line == 7
    (error,) = read(VALID.encode() + b"# \xff\n")  # type: ignore[misc]
    assert error == FormError(7, "the file is not UTF-8; save it as UTF-8")
    (error,) = read(b"#" * (FORM_BYTES_MAX + 1))  # type: ignore[misc]
    assert "65,537 bytes" in error.words


def test_the_digest_tells_versions_apart() -> None:
    one, other = form(VALID), form(VALID + "# changed\n")
    assert re.fullmatch(r"[0-9a-f]{16}", one.digest) and one.digest != other.digest
    assert one.digest == form(VALID).digest


def test_the_forms_of_the_site_go_first_and_take_the_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / "zzz.toml").write_text(VALID)
    (tmp_path / "tasmota-state").mkdir()
    own = VALID.replace('"try"', '"tasmota-state"')
    (tmp_path / "tasmota-state" / "form.toml").write_text(own)
    (tmp_path / "broken.toml").write_text("name = ")
    (tmp_path / "notes.txt").write_text("no form")
    made = Forms.of_folder(SHIPPED, tmp_path)
    names = [each.name for each in made.forms]
    assert names[:2] == ["tasmota-state", "try"] and len(names) == len(set(names))
    assert len(names) == len(list(SHIPPED.iterdir())) + 1
    found = made.named("tasmota-state")
    assert found is not None and found.digest == form(own).digest
    assert {Path(path).name for path in made.errors} == {"broken.toml"}
    assert Forms.of_folder(SHIPPED, tmp_path / "none").errors == {}


def test_a_name_that_two_files_of_the_site_give_is_told(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(VALID)
    ((path, (error,)),) = Forms.of_folder(SHIPPED, tmp_path).errors.items()
    assert Path(path).name == "two.toml"
    assert "'try' is the name of" in error.words and "one.toml too" in error.words


def test_no_more_forms_are_read_than_there_may_be() -> None:
    texts = ((f"{n}", VALID.replace("try", f"try-{n}").encode()) for n in range(FORMS_MAX + 5))
    made = Forms.of_sources(texts)
    assert len(made.forms) == FORMS_MAX and len(made.errors) == 1
