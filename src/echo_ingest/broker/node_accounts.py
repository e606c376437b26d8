"""The nodes that we know something of: a file with one JSON object on each line.

    {"name":"ridge-07","made_at":"2026-09-14T05:45:12Z","hash":"$7$1$…$…"}
    {"name":"creek-02","made_at":"2026-09-14T05:45:12Z","hash":null,"disabled":true}
    {"name":"bats-03","made_at":"2026-09-14T05:45:12Z","hash":null,"login":false,
     "confidence":"fraction","clock_ahead_seconds":39600}
    {"name":"gateway-1","made_at":"2026-09-14T05:45:12Z","hash":"$7$1$…$…","speaks_for":["frog-*"]}

A node has credentials of its own, unless `login` is false; `hash` is null where it logs in with a
certificate only. `confidence` and `clock_ahead_seconds` say how its messages are read
(`decode.NodeRules`), and `speaks_for` for which other nodes it may speak. The file
is replaced in one step; the running service applies the change within seconds. If anything in the
file is invalid, all of it is rejected: applying a part would lock out nodes without a word.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from echo_ingest.broker.program import BrokerError
from echo_ingest.decode import NodeRules
from echo_ingest.process.files import atomic_write
from echo_ingest.process.folder_lock import FolderLocked, locked

NODES_MAX = 10_000
FILE_BYTES_MAX = 4 * 1024 * 1024
PASSWORD_BYTES = 18
SALT_BYTES = 12
DIGEST_BYTES = 64
HASH_ROUNDS_MAX = 10_000
CLOCK_AHEAD_SECONDS_MAX = 100 * 365 * 86_400

# A generated password has 144 random bits: nobody can guess it from its hash, however fast that is
# to compute. More rounds would only hold up mosquitto: it checks passwords on its one thread, and
# checks those of all connected clients again whenever a node is added.
GENERATED_HASH_ROUNDS = 1

NAME_BYTES_MAX = 64
NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
PATTERN = re.compile(r"[0-9A-Za-z!*][0-9A-Za-z._*!-]{0,63}")
PATTERNS_MAX = 20
NAME_RULE = (
    "1 to 64 letters, digits, dots, hyphens or underscores, beginning with a letter or digit"
)
OWN_ACCOUNTS = ("echopub", "echosub", "echo-ingest")
HASH = re.compile(r"\$7\$([1-9]\d{0,5})\$([0-9A-Za-z+/=]+)\$([0-9A-Za-z+/=]+)")


class NodesUnusable(BrokerError):
    """The file of nodes cannot be read or written; the text says where, and what to do."""


class NodeAccount(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A line of the file: a node's credentials, and how its messages are read."""

    name: str
    """Its user name, and the level of the topic below which it publishes."""
    made_at: datetime
    hash: str | None
    """The hash of its password, in mosquitto's format; None: it uses a certificate only."""
    disabled: bool = False
    login: bool = True
    """Whether it has credentials of its own."""
    confidence: Literal["percent", "fraction"] = "percent"
    """Whether it sends confidence from 0 to 100, as the forms say, or from 0 to 1."""
    clock_ahead_seconds: float = 0
    """How far its clock is ahead of the true time; negative where it is behind."""
    speaks_for: tuple[str, ...] = ()
    """The nodes for which it may speak as their gateway, as patterns: `frog-*`."""

    @property
    def rules(self) -> NodeRules:
        """How its messages are read."""
        return NodeRules(self.confidence == "fraction", self.clock_ahead_seconds)


def check_name(name: str) -> str:
    """Return `name` if a node may have it; raise `ValueError` with the remedy in its text."""
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r:.80} is not a valid name of a node: type {NAME_RULE}")
    if name in OWN_ACCOUNTS:
        raise ValueError(f"{name} is one of the broker's own accounts: choose another name")
    return name


def check_pattern(pattern: str) -> str:
    """Return `pattern` if it may name nodes; raise `ValueError` with the remedy in its text."""
    if PATTERN.fullmatch(pattern) is None:
        raise ValueError(
            f"{pattern!r:.80} names no nodes: type their names, with * for any characters, such "
            "as frog-*"
        )
    return pattern


def new_password() -> tuple[str, str]:
    """Generate a password for a node; return it with its hash."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    return password, password_hash(password, secrets.token_bytes(SALT_BYTES), GENERATED_HASH_ROUNDS)


def password_hash(password: str, salt: bytes, rounds: int) -> str:
    """Hash a password by PBKDF2 with SHA-512, in mosquitto's format `$7$`."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def node_password(secret: bytes, name: str) -> str:
    """Return the password with which the proxy logs in a node that has proved its name to it.

    Nobody types it: a node with a certificate has no password of its own.
    """
    digest = hmac.digest(secret, name.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


# ---------------------------------------------------------------------- the file


def read_nodes(path: Path) -> tuple[NodeAccount, ...]:
    """Read the nodes with credentials of their own, sorted by name. Raises `NodesUnusable`."""
    return tuple(node for node in _read(path) if node.login)


def read_node_rules(path: Path) -> dict[str, NodeRules]:
    """Read how the messages of nodes are read, where not as usual. Raises `NodesUnusable`."""
    return {node.name: node.rules for node in _read(path) if node.rules != NodeRules()}


def read_rights(path: Path) -> dict[str, tuple[str, ...]]:
    """Read for whom each account may speak beside itself. Raises `NodesUnusable`."""
    return {node.name: node.speaks_for for node in _read(path) if node.login}


def _read(path: Path) -> tuple[NodeAccount, ...]:
    """Read all lines of `path`, sorted by name; none if it is missing. Raises `NodesUnusable`."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise NodesUnusable(
            f"{path} cannot be read ({error.strerror}): it must belong to the user that runs "
            "the broker"
        ) from error
    if len(text) > FILE_BYTES_MAX:
        raise NodesUnusable(f"{path} is larger than {FILE_BYTES_MAX:,} bytes: remove nodes from it")
    nodes: dict[str, NodeAccount] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            node = _validated(msgspec.json.decode(line, type=NodeAccount))
            if node.name in nodes:
                raise ValueError(f"{node.name} is there twice: remove one of the lines")
        except (msgspec.DecodeError, ValueError) as error:
            raise NodesUnusable(f"{path} line {number}: {error}") from None
        nodes[node.name] = node
    if len(nodes) > NODES_MAX:
        raise NodesUnusable(f"{path} has more than {NODES_MAX:,} nodes: remove some")
    return tuple(nodes[name] for name in sorted(nodes))


def _validated(node: NodeAccount) -> NodeAccount:
    """Return the node if its fields are valid: an invalid hash would end mosquitto 2.1."""
    check_name(node.name)
    if node.made_at.tzinfo is None:
        raise ValueError("made_at has no time zone: write it as 2026-09-14T05:45:12Z")
    if not abs(node.clock_ahead_seconds) <= CLOCK_AHEAD_SECONDS_MAX:
        raise ValueError(
            f"clock_ahead_seconds is {node.clock_ahead_seconds:g}: type a number of seconds, "
            f"at most {CLOCK_AHEAD_SECONDS_MAX:,}"
        )
    if len(node.speaks_for) > PATTERNS_MAX:
        raise ValueError(f"speaks_for has more than {PATTERNS_MAX} patterns: use * in them")
    for pattern in node.speaks_for:
        check_pattern(pattern)
    if node.hash is not None:
        parts = HASH.fullmatch(node.hash)
        try:
            sizes = (
                [len(base64.b64decode(each, validate=True)) for each in parts.groups()[1:]]
                if parts
                else []
            )
        except binascii.Error:
            sizes = []
        if parts is None or sizes != [SALT_BYTES, DIGEST_BYTES] or int(parts[1]) > HASH_ROUNDS_MAX:
            raise ValueError(
                "hash is not the hash of a password: make a new one with `echo-ingest nodes rotate`"
            )
    return node


def change_nodes(path: Path, change: Callable[[dict[str, NodeAccount]], None]) -> None:
    """Let `change` modify the nodes by name, and write the file; one process at a time.

    Raises `NodesUnusable`, and whatever `change` raises; then nothing is written.
    """
    if path.is_symlink():
        raise NodesUnusable(
            f"{path} is a symbolic link, as Kubernetes mounts secrets: change the secret itself, "
            "with a file that `IOT_NODES_FILE=FILE echo-ingest nodes …` has written elsewhere"
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(path.parent):
            nodes = {node.name: node for node in _read(path)}
            change(nodes)
            if len(nodes) > NODES_MAX:
                raise NodesUnusable(f"{path} has {NODES_MAX:,} nodes already: remove some first")
            owner = (path if path.exists() else path.parent).stat()
            lines = [msgspec.json.encode(nodes[name]).decode() for name in sorted(nodes)]
            atomic_write(path, "".join(f"{line}\n" for line in lines).encode(), owner=owner)
    except FolderLocked as error:
        raise NodesUnusable(str(error)) from error
    except OSError as error:
        raise NodesUnusable(
            f"{path} cannot be written ({error.strerror}): do this as the user that runs the "
            "broker; where the file is mounted read-only, change the original"
        ) from error


def now() -> datetime:
    """Return the time to the second, as the file has it."""
    return datetime.now(UTC).replace(microsecond=0)
