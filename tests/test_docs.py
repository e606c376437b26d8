"""The documents say what the code does, and their links lead somewhere."""

import re
import shlex
import sys
from pathlib import Path
from typing import cast

import pytest

from echo_ingest import web
from echo_ingest.columns import TABLES
from echo_ingest.export.camtrap.project import read
from echo_ingest.export.tables import COLUMNS
from echo_ingest.metrics import DELIVERY, REGISTRY
from echo_ingest.settings import Settings
from tests.harness import TOKENS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAPERS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def sections(document: str) -> dict[str, str]:
    """Heading → what stands below it, up to the next heading."""
    parts = HEADING.split((DOCS / document).read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def anchor(heading: str) -> str:
    """As GitHub makes it: lower case, without punctuation, with dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(paper: Path) -> set[str]:
    return {anchor(heading) for heading in HEADING.findall(FENCE.sub("", paper.read_text()))}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(ROOT)))
def test_links_lead_somewhere(paper: Path) -> None:
    for link in LINK.findall(FENCE.sub("", paper.read_text())):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, fragment = link.partition("#")
        target = (paper.parent / path).resolve() if path else paper
        assert target.exists(), link
        assert not fragment or fragment in anchors(target), link


OURS = re.compile(
    r"\b(journal|sink|ledger|backlog|almanac|cursor|broker|MQTT|dead letter|parked|offset|"
    r"payload|topic|record|replay|retention|settle|ingest\w*)s?\b",
    re.IGNORECASE,
)


def test_the_tour_of_the_console_has_no_word_of_our_internals() -> None:
    tour = (DOCS / "console.md").read_text()
    assert OURS.findall(re.sub(r"\]\([^)]*\)|Echo Ingest", "", tour)) == []
    assert len(tour.split()) < 900
    shown = re.findall(r'(?:src|srcset)="(console/[^"]+)"', tour)
    assert {name.removesuffix("-light.png").removesuffix("-dark.png") for name in shown} == {
        f"console/{page}" for page in ("overview", "nodes", "node", "calls", "call", "refused")
    }


def test_the_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((ROOT / "README.md").read_text())}
    assert {str(paper.relative_to(ROOT)) for paper in PAPERS} - linked == {"README.md"}


def test_each_metric_has_its_heading_type_and_labels() -> None:
    described = {
        name: text
        for name, text in sections("metrics.md").items()
        if name.startswith(("echo_ingest_", "process_"))
    }
    exposed: dict[str, str] = {}
    for family in (*REGISTRY.collect(), *DELIVERY.collect()):
        kind = {"info": "gauge"}.get(family.type, family.type)
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        exposed[family.name + suffix] = kind
        assert described[family.name + suffix].strip().startswith(kind.capitalize())
        for label in {label for sample in family.samples for label in sample.labels} - {"le"}:
            assert f"`{label}`" in described[family.name + suffix], label
    if sys.platform == "linux":
        assert described.keys() == exposed.keys()


def test_each_address_has_its_heading_and_each_parameter_its_row(tmp_path: Path) -> None:
    unasked = cast(web.Service, None)
    app = web.create_app(unasked, Settings(data_dir=tmp_path), TOKENS)
    paths = app.openapi_schema.to_schema()["paths"]
    described = {name: text for name, text in sections("http.md").items() if name[0] == "/"}
    assert described.keys() == paths.keys()
    for path, text in described.items():
        firsts = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text, re.MULTILINE)
        rows = {name for first in firsts for name in re.findall(r"\w+", first)}
        parameters = paths[path]["get"].get("parameters", [])
        assert rows == {p["name"] for p in parameters if p["in"] == "query"}, path


def test_each_column_of_an_export_has_its_row() -> None:
    rows = re.findall(
        r"^\| (`.+?) \| ([a-z, ]+) \|", sections("export.md")["Columns"], re.MULTILINE
    )
    described = {
        (table, name)
        for names, tables in rows
        for name in re.findall(r"`(\w+)`", names)
        for table in (TABLES.values() if tables == "all" else tables.split(", "))
    }
    assert described == {
        (TABLES[of_kind], column.name) for of_kind, columns in COLUMNS.items() for column in columns
    }


def test_the_project_file_shown_is_one(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", (DOCS / "export.md").read_text(), re.DOTALL)
    file = tmp_path / "otways.toml"
    file.write_text(shown)
    assert read(file).locations.keys() == {"swamp-03"}


def test_the_commands_that_show_a_promise_find_their_tests() -> None:
    commands = re.findall(r"`T ([^`]+)`", (ROOT / "README.md").read_text())
    assert commands
    for command in commands:
        words = shlex.split(command)
        files = [file for word in words if word.startswith("tests/") for file in _tests_in(word)]
        assert files, command
        if "-k" in words:
            names = [str(file.relative_to(ROOT)) for file in files]
            for file in files:
                names += re.findall(r"def (test_\w+)", file.read_text())
            for wanted in words[words.index("-k") + 1].split(" or "):
                assert wanted in " ".join(names), f"{command}: nothing is called {wanted}"


def _tests_in(path: str) -> list[Path]:
    found = ROOT / path
    return sorted(found.rglob("test_*.py")) if found.is_dir() else [found]
