"""The code keeps its order: which imports and names are allowed, how long a file may be."""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "echo_ingest"

LAYERS = (
    ("advised_code",),
    ("reasons", "quality"),
    ("record", "backoff", "metrics", "gauges", "formatting", "key_lines", "process"),
    ("settings", "decode", "columns", "payload_view", "night"),
    ("mqtt", "journal", "sinks", "broker"),
    ("site_decoder",),
    ("admin", "almanac", "pipeline", "ipc", "export", "monitoring", "simulator"),
    ("web", "proxy"),
    ("service",),
    ("cli",),
)
REGISTRIES = re.compile(
    "|".join(
        rf"\b{name}\.{end}\b"
        for name, end in (
            *(("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com")),
            *(
                ("crates", "io"),
                ("docker", "io"),
                ("docker", "com"),
                ("ghcr", "io"),
                ("quay", "io"),
            ),
        )
    )
)
LINES_MAX = 600
STEM_PACKAGES_MAX = 2
PAGES = ("overview", "calls", "nodes", "refused", "unclaimed", "make_form")
"""Packages of the console's pages; what they share lies beside them."""


def complaints(path: Path, text: str) -> Iterator[str]:
    """Yield what is wrong with a Python file, by its path below the root and its text."""
    in_source = path.parts[:2] == ("src", "echo_ingest")
    if in_source and text.count("\n") > LINES_MAX:
        yield f"more than {LINES_MAX} lines"
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr="sleep") if not in_source:
                yield f"line {node.lineno}: sleeps; poll for what is awaited, with a deadline"
            case ast.ImportFrom(module="time", names=[*names]) if not in_source:
                if "sleep" in {each.name for each in names}:
                    yield f"line {node.lineno}: sleeps; poll for what is awaited, with a deadline"
            case ast.ExceptHandler(type=caught) if catches_all(caught):
                if not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                    yield f"line {node.lineno}: catches everything and goes on"
            case ast.Call(func=ast.Attribute(attr="suppress"), args=args):
                if any(catches_all(each) for each in args):
                    yield f"line {node.lineno}: catches everything and goes on"
            case ast.Import() | ast.ImportFrom() if in_source:
                yield from upward(path.parts[2].removesuffix(".py"), node)
                yield from sideways(path, node)


def catches_all(caught: ast.expr | None) -> bool:
    each = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(
        one is None or (isinstance(one, ast.Name) and one.id in ("Exception", "BaseException"))
        for one in each
    )


def upward(room: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield imports that do not go down: a package may use itself and the layers below its own."""
    modules = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        modules = [f"{node.module}.{each}" for each in modules]
    rooms = {name for layer in LAYERS for name in layer}
    for module in modules:
        package, _, rest = module.partition(".")
        other = rest.partition(".")[0]
        if package != "echo_ingest" or other in ("", "__version__", room):
            continue
        if not {room, other} <= rooms:
            yield f"{room} imports {other}: one of them has no layer in tests/test_tidy.py"
        elif layer_of(other) >= layer_of(room):
            yield f"{room} imports {other}, which is not below it"


def sideways(path: Path, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield imports of one page of the console by another."""
    page = path.parts[4] if path.parts[2:4] == ("web", "console") else None
    if page not in PAGES:
        return
    modules = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        modules = [f"{node.module}.{each}" for each in modules]
    for module in modules:
        other = f"{module}.".removeprefix("echo_ingest.web.console.").partition(".")[0]
        if other in PAGES and other != page:
            yield f"the page {page} imports the page {other}"


def class_names_used_twice(sources: Mapping[Path, str]) -> Iterator[str]:
    """Yield each class name that stands in two files; a leading underscore makes no difference."""
    places = defaultdict(set)
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].add(path)
    for name, paths in places.items():
        if len(paths) > 1:
            yield f"the class {name} stands in {', '.join(map(str, sorted(paths)))}"


def stems_used_often(paths: Iterable[Path]) -> Iterator[str]:
    """Yield each file name that stands in more than `STEM_PACKAGES_MAX` packages."""
    places = defaultdict(set)
    for path in paths:
        if not path.stem.startswith("__"):
            places[path.stem].add(path.parent)
    for stem, packages in places.items():
        if len(packages) > STEM_PACKAGES_MAX:
            yield f"{stem}.py stands in {', '.join(map(str, sorted(packages)))}"


def circles(sources: Mapping[str, str]) -> Iterator[str]:
    """Yield modules that import each other, by way of others too; `sources` is by module name."""
    imports = {module: set(imported(text, sources)) for module, text in sources.items()}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        yield " imports ".join(reversed(error.args[1]))


def imported(text: str, modules: Container[str]) -> Iterator[str]:
    """Yield which of `modules` a file imports at its top level."""
    for node in ast.parse(text).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names = [name if name in modules else str(node.module) for name in inner]
        yield from (name for name in names if name in modules)


def layer_of(room: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if room in layer)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_every_file_keeps_the_order() -> None:
    bench = ROOT / "bench"
    files = [*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    files += [*bench.glob("*.py"), *bench.glob("*/*.py")]
    assert len(files) > 20
    all_complaints = [
        f"{path.relative_to(ROOT)}: {complaint}"
        for path in files
        for complaint in complaints(path.relative_to(ROOT), path.read_text())
    ]
    assert not all_complaints, "\n" + "\n".join(all_complaints)


def test_no_class_name_stands_in_two_files() -> None:
    sources = {path.relative_to(SOURCE): path.read_text() for path in SOURCE.rglob("*.py")}
    assert list(class_names_used_twice(sources)) == []
    twice = {Path("a.py"): "class Room: ...", Path("b.py"): "def f():\n    class _Room: ...\n"}
    assert list(class_names_used_twice(twice)) == ["the class Room stands in a.py, b.py"]


def test_no_file_name_stands_in_more_than_two_packages() -> None:
    paths = [path.relative_to(SOURCE) for path in SOURCE.rglob("*.py")]
    assert list(stems_used_often(paths)) == []
    assert list(stems_used_often([Path("a/x.py"), Path("b/x.py"), Path("c/x.py")])) == [
        "x.py stands in a, b, c"
    ]


def test_no_modules_import_each_other() -> None:
    sources = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        sources[".".join(parts).removesuffix(".__init__")] = path.read_text()
    assert list(circles(sources)) == []
    assert list(circles({"a": "import b", "b": "from c import d", "c": "from a import e"}))
    assert not list(circles({"a": "import b", "b": "from c import d", "c": ""}))


def test_the_map_shows_every_room_and_the_layers_as_they_are() -> None:
    paper = (ROOT / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| (`.+?) \|", paper, re.MULTILINE)
    shown = {name for row in rows for name in re.findall(r"`(\w+)(?:\.py|/)`", row)}
    there = {
        path.stem
        for path in SOURCE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert shown == there - {"__init__"}
    layers = " ← ".join(f"`{', '.join(layer)}`" for layer in LAYERS)
    assert layers in " ".join(paper.split())


def test_no_file_names_a_package_registry() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: which files belong to it is not known")
    named = [path for path in tracked() if REGISTRIES.search(path.read_text(errors="replace"))]
    assert named == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src/echo_ingest/record.py", "from echo_ingest.settings import load\n"),
        ("src/echo_ingest/mqtt/link.py", "from echo_ingest import journal\n"),
        ("src/echo_ingest/deliver.py", "import echo_ingest.service\n"),
        ("src/echo_ingest/attic.py", "from echo_ingest.record import Message\n"),
        (
            "src/echo_ingest/web/console/nodes/detail.py",
            "from echo_ingest.web.console.overview.summary import Clause\n",
        ),
        (
            "src/echo_ingest/web/console/calls/rows.py",
            "from echo_ingest.web.console import nodes\n",
        ),
        ("src/echo_ingest/record.py", "\n" * (LINES_MAX + 1)),
        ("tests/test_it.py", "import time\ntime.sleep(1)\n"),
        ("tests/test_it.py", "from time import monotonic, sleep\n"),
        ("tests/test_it.py", "try: ...\nexcept (OSError, Exception): ...\n"),
        ("tests/test_it.py", "try: ...\nexcept: ...\n"),
        ("tests/test_it.py", "with contextlib.suppress(Exception): ...\n"),
    ],
)
def test_disorder_is_found(path: str, text: str) -> None:
    assert list(complaints(Path(path), text))


def test_order_is_left_alone() -> None:
    text = "from echo_ingest.record import Message\ntry: ...\nexcept Exception: raise\n"
    assert list(complaints(Path("src/echo_ingest/decode/echo.py"), text)) == []
    shared = "from echo_ingest.web.console.call_rows import of_calls\n"
    assert list(complaints(Path("src/echo_ingest/web/console/nodes/detail.py"), shared)) == []
    assert REGISTRIES.search("https://example.org") is None
