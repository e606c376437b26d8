"""The documents agree with the code, and their links lead somewhere."""

import ast
import contextlib
import importlib
import io
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from echo_ingest import web
from echo_ingest.broker import LINES_PER_SECOND_MAX
from echo_ingest.broker.node_accounts import NODES_MAX
from echo_ingest.columns import TABLES
from echo_ingest.export.camtrap.project import read
from echo_ingest.export.writers import COLUMNS
from echo_ingest.metrics import DELIVERY, DEVICE_CONNECTIONS, DEVICES_ACCEPTED, PROXY, REGISTRY
from echo_ingest.settings import PACKET_OVERHEAD_BYTES, Settings
from echo_ingest.web import connections, posting
from echo_ingest.web.console.sessions import SESSION_SECONDS
from echo_ingest.web.failed_attempts import FAILED_MAX, FORGIVEN_PER_SECOND
from echo_ingest.web.form_body import BODY_BYTES_MAX, BODY_SECONDS_MAX, FIELDS_MAX
from echo_ingest.web.posting import bodies, node_sessions
from tests.harness import TOKENS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "echo_ingest"
PAPERS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def sections(document: str) -> dict[str, str]:
    """Return the text below each heading, up to the next heading."""
    parts = HEADING.split((DOCS / document).read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def anchor(heading: str) -> str:
    """Return the anchor as GitHub makes it: lower case, no punctuation, dashes for spaces."""
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
    r"\b(journal|sink|backlog|almanac|cursor|broker|MQTT|dead letter|parked|offset|"
    r"payload|topic|record|replay|retention|settle|ingest\w*)s?\b",
    re.IGNORECASE,
)


def test_the_tour_of_the_console_has_no_word_of_our_internals() -> None:
    tour = (DOCS / "console.md").read_text()
    assert OURS.findall(re.sub(r"\]\([^)]*\)|Echo Ingest", "", tour)) == []
    assert len(tour.split()) < 1_050
    shown = re.findall(r'(?:src|srcset)="(console/[^"]+)"', tour)
    assert {name.removesuffix("-light.png").removesuffix("-dark.png") for name in shown} == {
        f"console/{page}" for page in ("overview", "nodes", "node", "calls", "call", "refused")
    }


def test_the_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((ROOT / "README.md").read_text())}
    assert {str(paper.relative_to(ROOT)) for paper in PAPERS} - linked == {"README.md"}


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, set[str]]]:
    """Return the columns of each table, for each of our two databases."""
    schemas = {
        "journal.db": sorted((SOURCE / "journal").glob("schema_*.sql")),
        "almanac.db": [SOURCE / "almanac" / "schema.sql"],
    }
    columns: dict[str, dict[str, set[str]]] = {}
    for name, files in schemas.items():
        with contextlib.closing(apsw.Connection(":memory:")) as db:
            for file in files:
                db.execute(file.read_text())
            rows = db.execute(
                "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c"
                " WHERE m.type = 'table'"
            )
            columns[name] = {}
            for table, column in rows:
                columns[name].setdefault(table, set()).add(column)
    return columns


def exists(name: str, tables: dict[str, dict[str, set[str]]]) -> bool:
    """Tell whether the tree has what an entry of the glossary names.

    That is `journal.db: table`, perhaps with `.column`, or a dotted name below `echo_ingest`.
    """
    database, colon, rest = name.partition(": ")
    if colon:
        table, _, column = rest.partition(".")
        columns = tables[database].get(table)
        return columns is not None and (not column or column in columns)
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            target: Any = importlib.import_module(".".join(["echo_ingest", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            target = getattr(target, part, None)
        return target is not None
    return False


def test_each_term_of_the_glossary_exists_in_the_tree(
    tables: dict[str, dict[str, set[str]]],
) -> None:
    entries = sections("glossary.md")
    entries.pop("Glossary")
    assert 20 <= len(entries) <= 40
    assert list(entries) == sorted(entries)
    for term, entry in entries.items():
        text, _, places = entry.partition("In the code: ")
        names = re.findall(r"`([^`]+)`", places)
        assert text.strip() and names, term
        assert [name for name in names if not exists(name, tables)] == [], term


def test_a_name_that_is_gone_is_noticed(tables: dict[str, dict[str, set[str]]]) -> None:
    for gone in (
        "record.Stonred",
        "recod.Stored",
        "record.Message.nod",
        "journal.db: recod",
        "journal.db: record.of",
        "almanac.db: parked",
    ):
        assert not exists(gone, tables), gone
    assert "Nothing" not in names_in(SOURCE / "record.py")


def names_in(file: Path) -> set[str]:
    """Return the classes, functions and constants of a file, and `Class.method`."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name, body=body):
                names.add(name)
                names |= {
                    f"{name}.{each.name}"
                    for each in body
                    if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                }
            case ast.Assign(targets=targets):
                names |= {each.id for each in targets if isinstance(each, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def test_the_tour_names_only_what_is_there() -> None:
    tour = (DOCS / "design.md").read_text()
    places = re.findall(r"`([\w/]+\.py): ([\w.]+)`", tour)
    assert len(places) > 40
    assert [
        f"{file}: {name}"
        for file, name in places
        if not (SOURCE / file).is_file() or name not in names_in(SOURCE / file)
    ] == []


def test_the_tour_quotes_the_code_as_it_is() -> None:
    blocks = re.findall(
        r"```python\n# (\S+\.py)\n(.*?)```", (DOCS / "design.md").read_text(), re.DOTALL
    )
    assert blocks
    for file, quoted in blocks:
        lines = (SOURCE / file).read_text().splitlines(keepends=True)
        length = len(quoted.splitlines())
        passages = ("".join(lines[at : at + length]) for at in range(len(lines)))
        assert quoted in map(textwrap.dedent, passages), file


def test_the_example_of_the_tour_prints_what_it_says() -> None:
    example = sections("design.md")["Try it without a broker"]
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", example, re.DOTALL)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, {})  # noqa: S102
    assert output.getvalue() == printed


def test_each_metric_has_its_heading_type_and_labels() -> None:
    described = {
        name: text
        for name, text in sections("metrics.md").items()
        if name.startswith(("echo_ingest_", "process_"))
    }
    exposed: dict[str, str] = {}
    DEVICE_CONNECTIONS.labels("1883")
    DEVICES_ACCEPTED.labels("1883")
    for family in (*REGISTRY.collect(), *DELIVERY.collect(), *PROXY.collect()):
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
        (operation,) = [each for name, each in paths[path].items() if name in ("get", "post")]
        parameters = operation.get("parameters", [])
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


def test_the_limits_that_a_page_names_are_those_of_the_code() -> None:
    page = " ".join((DOCS / "access.md").read_text().split())
    settings = Settings()
    guesses = f"{FAILED_MAX} from one address, then {60 * FORGIVEN_PER_SECOND:.0f} a minute"
    form = f"{BODY_BYTES_MAX // 1024} KiB, {FIELDS_MAX} fields, {BODY_SECONDS_MAX:g} s"
    reader_days = SESSION_SECONDS["reader"] // 86_400
    operator_hours = SESSION_SECONDS["operator"] // 3_600
    payload_mib, overhead_kib = settings.payload_bytes_max >> 20, PACKET_OVERHEAD_BYTES >> 10
    for phrase in (
        f"| wrong tokens over HTTP, the console included | {guesses} |",
        f"| a form sent to the console | {form} |",
        f"{reader_days} days for a reader and {operator_hours} hours for an operator",
        f"| nodes | {NODES_MAX:,} |",
        f"| connections | {settings.connections_max:,} at each port |",
        f"| a message | {payload_mib} MiB, and {overhead_kib} KiB for topic and properties |",
        f"The log takes at most {LINES_PER_SECOND_MAX} lines a second",
    ):
        assert phrase in page, phrase


def test_the_limits_of_posted_messages_are_those_of_the_code() -> None:
    page = " ".join((DOCS / "http.md").read_text().split())
    pace = f"{connections.BODY_PACE_BYTES_PER_SECOND // 1024} KiB/s"
    for phrase in (
        f"{pace}, measured over {connections.PACE_SECONDS} s, and {bodies.BODY_SECONDS_MAX:g} s",
        f"{posting.ADDRESS_AT_ONCE:,} at once, then {posting.ADDRESS_PER_SECOND} a second · "
        f"{posting.NODE_AT_ONCE:,} at once, then {posting.NODE_PER_SECOND} a second",
        f"| {bodies.UNDER_WAY_MAX} · {bodies.UNDER_WAY_OF_NODE_MAX} |",
        f"bodies of more than {bodies.SMALL_BYTES_MAX // 1024} KiB",
        f"{bodies.HELD_BYTES_MAX // 1024**2} MiB together",
        f"waits up to {bodies.TURN_SECONDS_MAX:g} s, then 503",
        f"within {node_sessions.RECEIPT_SECONDS_MAX:g} s",
        f"{node_sessions.SESSIONS_MAX} of them at most",
        f"waits for the broker's answer | {node_sessions.LOGINS_WAITING_MAX} | 503",
    ):
        assert phrase in page, phrase


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
    place = ROOT / path
    return sorted(place.rglob("test_*.py")) if place.is_dir() else [place]
