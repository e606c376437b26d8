"""Which changes of a Python file `mutate.py` can make: each changes the text at one place.

Left alone is what only people and type checkers read: annotations, docstrings, messages, what is
logged, what our own assertions say, and how many seconds something takes (`…_SECONDS`).
"""

import ast
import re
from typing import NamedTuple

Key = tuple[str, str, str]
"""The path of a change, its line before, and after."""

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: (r"\|", "&"),
}


class Change(NamedTuple):
    """One change of a file: its bytes from `start` to `end` become `new`."""

    path: str
    line: int
    start: int
    end: int
    new: bytes
    before: str
    after: str

    @property
    def key(self) -> Key:
        """What the change is, wherever in its file the line has moved to."""
        return self.path, self.before, self.after

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {self.before}  →  {self.after}"


def find_changes(path: str, text: bytes) -> list[Change]:
    """Return every change of the file `path`, whose text is `text`."""
    return _Finder(path, text).changes


class _Finder(ast.NodeVisitor):
    """Collects changes, statement by statement."""

    def __init__(self, path: str, text: bytes) -> None:
        self.changes: list[Change] = []
        self._path = path
        self._text = text
        self._starts = [0]
        for line in text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self.visit(ast.parse(text))

    def _add(self, start: int, end: int, new: str) -> None:
        line = next(n for n, begin in enumerate(self._starts) if begin > start)
        first, last = self._starts[line - 1], self._text.find(b"\n", end)
        changed = self._text[first:start] + new.encode() + self._text[end:last]
        before, after = (" ".join(t.decode().split()) for t in (self._text[first:last], changed))
        self.changes.append(Change(self._path, line, start, end, new.encode(), before, after))

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        """Change the operator that stands between two operands."""
        start, end = self._span(left)[1], self._span(right)[0]
        between = re.sub(rb"#.*", lambda comment: b" " * len(comment[0]), self._text[start:end])
        match = re.search(old.encode(), between)
        assert match is not None
        self._add(start + match.start(), start + match.end(), new)

    def _string(self, node: ast.expr | None) -> None:
        """Change a string that is compared or is a key."""
        if isinstance(node, ast.Tuple | ast.Set | ast.List):
            for each in node.elts:
                self._string(each)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            end = self._span(node)[1]
            if node.lineno == node.end_lineno:
                self._add(end - 1, end - 1, "~")

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            self._between(left, right, *COMPARISONS[type(operator)])
        for each in operands:
            self._string(each)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        text = any(isinstance(n, ast.JoinedStr) or _is_text(n) for n in (node.left, node.right))
        if type(node.op) in ARITHMETIC and not text and not _is_type(node.left):
            self._between(node.left, node.right, *ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in ARITHMETIC:
            self._between(node.target, node.value, *ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between(left, right, old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start = self._span(node)[0]
            self._add(start, start + len("not "), "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        start, end = self._span(node)
        if isinstance(node.value, bool):
            self._add(start, end, str(not node.value))
        elif isinstance(node.value, int | float):
            self._add(start, end, str(node.value + 1))

    def visit_Dict(self, node: ast.Dict) -> None:
        for key in node.keys:
            self._string(key)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not _is_type(node.value):
            self._string(node.slice)
            self.generic_visit(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> None:
        self._string(node.value)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            if not (isinstance(node.value, ast.Constant) and node.value.value is None):
                self._add(*self._span(node.value), "None")
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call) and not _is_log(call):
            self._add(*self._span(node), "pass")
            self.visit(call)

    def visit_Break(self, node: ast.Break) -> None:
        self._add(*self._span(node), "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(*self._span(node), "break")

    # ------------------------------------------------------------------ what is left as it is

    def visit_Assert(self, node: ast.Assert) -> None:
        """Our own invariants: nothing can notice that one became weaker."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Text for people; before Python 3.12 its parts have no positions."""

    def visit_arg(self, node: ast.arg) -> None:
        """Skip an annotation."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        how_long = isinstance(node.value, ast.Constant) and any("_SECONDS" in n for n in names)
        if "__all__" not in names and not how_long:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for each in (node.args, *node.body):
            self.visit(each)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for each in node.body:
            self.visit(each)

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _is_type(node: ast.expr) -> bool:
    """Whether this names a class, as in `A | None` and `list["A"]`."""
    if isinstance(node, ast.BinOp):
        return _is_type(node.left)
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return bool(
        re.fullmatch(r"[A-Z]\w*[a-z]\w*|int|float|str|bytes|bool|list|dict|tuple|set", name)
    )


def _is_log(node: ast.Call) -> bool:
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    return owner is not None and ast.unparse(owner).endswith("log")
