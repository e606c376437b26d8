"""No cell of a CSV begins as a formula, however it is split, and what was there can be told."""

import csv
import io
import json
import re
import unicodedata
from random import Random

import pytest

from echo_ingest.export import formulas
from echo_ingest.export.writers import TableColumn, write_csv

CODE_POINTS = tuple(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
RUN = "=+-@"
"""What a spreadsheet runs."""
MINUS = "\N{MINUS SIGN}"


def looks_like(sign: str) -> str:
    """Return what a character becomes where its width and its height are taken away."""
    return unicodedata.normalize("NFKC", sign)[:1]


SIGNS = [
    sign
    for sign in CODE_POINTS
    if looks_like(sign) in (*RUN, MINUS) or unicodedata.category(sign) == "Pd"
]
UNSEEN = [
    letter for letter in CODE_POINTS
    if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp", "Zs")
]  # fmt: skip
SEPARATORS = re.compile(r"[\t;]|" + "|".join(("\r\n", *"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")))
PLAIN = (
    "Litoria ewingii", "Crinia signifera-group", "a+b", "x=1", "user@example.org", "'Akepa",
    "ridge-07", "3-4 calls; then none", "’Apapane", "é", "", "'", "''", "12", "(−38.7)",
)  # fmt: skip


def is_formula(cell: str) -> bool:
    """Tell whether a spreadsheet could run a cell: by its first character that is seen."""
    seen = cell.lstrip("".join(UNSEEN))
    return bool(seen) and (
        looks_like(seen) in (*RUN, MINUS) or unicodedata.category(seen[0]) == "Pd"
    )


def attacks(count: int) -> list[str]:
    """Return texts of signs, blanks, separators, quotes and letters in any order."""
    rng = Random(13)
    parts = [
        *SIGNS[:40],
        *"=+-@＝＋－＠",
        *rng.sample(UNSEEN, 40),
        *"\t\r\n;,|'\"",
        "cmd()",
        "é",
        "1",
    ]
    return ["".join(rng.choices(parts, k=rng.randint(1, 8))) for _ in range(count)]


def in_csv(text: str) -> str:
    file = io.BytesIO()
    write_csv(file, [TableColumn("species", "text")], [(text,)])
    (_, (cell,)) = csv.reader(io.StringIO(file.getvalue().decode(), newline=""))
    return cell


def test_the_signs_and_the_blanks_are_all_that_unicode_has() -> None:
    assert set("＝＋－＠−﹣⁻–") <= set(SIGNS)
    assert [s for s in SIGNS if not re.match(f"[{formulas.SIGNS}]", s)] == []
    known = f"[{formulas.BLANKS}{formulas.BREAKS}]"
    assert [hex(ord(c)) for c in UNSEEN if not re.match(known, c)] == []
    assert not re.match(known, "a")
    assert not re.match(f"[{formulas.SIGNS}]", "'")


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_left_alone(text: str) -> None:
    assert formulas.escaped(text) == formulas.unescaped(text) == text


def test_every_sign_behind_every_blank_gets_an_apostrophe() -> None:
    for sign in SIGNS:
        assert in_csv(f"{sign}1+1") == f"'{sign}1+1"
    for blank in UNSEEN:
        if not SEPARATORS.match(blank):
            assert in_csv(f"{blank}=1+1") == f"'{blank}=1+1", hex(ord(blank))


def test_no_cell_begins_as_a_formula_however_a_program_splits_the_file() -> None:
    tried = [*attacks(3_000), "x;=cmd()", "x\n＝cmd()", "\r\n-1", "a\t@b", "a; \u200b+1"]
    dangerous = 0
    for text in tried:
        cell = in_csv(text)
        dangerous += any(map(is_formula, SEPARATORS.split(text)))
        assert not any(map(is_formula, SEPARATORS.split(cell))), (text, cell)
        assert not cell.startswith(("\t", "\r", "\n"))
    assert dangerous > 1_000


def test_what_was_there_can_be_told() -> None:
    for text in [*attacks(3_000), *PLAIN, "'=x", "''=x", "'\t", "\n\n=x", ";;'=;="]:
        assert formulas.unescaped(formulas.escaped(text)) == text
    assert len({formulas.escaped(text) for text in ("=x", "'=x", "''=x")}) == 3


def test_json_in_a_cell_means_the_same_and_no_part_of_it_is_a_formula() -> None:
    for text in attacks(2_000):
        value = {"Note": f"x;{text}", "numbers": [1, -2, {"a": -3}]}
        safe = formulas.in_json(json.dumps(value, ensure_ascii=False))
        assert json.loads(safe) == value
        assert not any(map(is_formula, safe.split(";")[1:])), safe


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    for part in ("\n", ";", "'", " ", "\u200b", "\t'"):
        assert formulas.unescaped(formulas.escaped(part * 200_000)) == part * 200_000
