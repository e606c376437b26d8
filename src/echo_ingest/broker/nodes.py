"""The nodes that have credentials of their own: one JSON object a line, in one file.

    {"name":"ridge-07","made_at":"2026-09-14T05:45:12Z","hash":"$7$1$…$…"}
    {"name":"creek-02","made_at":"2026-09-14T05:45:12Z","hash":null,"disabled":true}

`hash` is null for a node that comes with a certificate alone. Whoever writes the file replaces it
at once; a running broker takes the change over within seconds. A file that holds anything else is
refused whole: half of it would lock somebody out without a word.
"""

import base64
import binascii
import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from echo_ingest.broker.program import BrokerError
from echo_ingest.settings.secrets import write_private

NODES_MAX = 10_000
FILE_BYTES_MAX = 4 * 1024 * 1024
PASSWORD_BYTES = 18
SALT_BYTES = 12
DIGEST_BYTES = 64
HASH_ROUNDS_MAX = 10_000

# A generated password is 144 random bits: nobody guesses it from its hash, however quick that is to
# make. More rounds would only hold up mosquitto: it checks passwords on its one thread, and again
# those of everybody who is connected whenever a node is added.
GENERATED_HASH_ROUNDS = 1

NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
NAME_RULE = "1 to 64 letters, digits, dots, hyphens or underscores, the first a letter or digit"
OWN_ACCOUNTS = ("echopub", "echosub", "echo-ingest")
HASH = re.compile(r"\$7\$([1-9]\d{0,5})\$([0-9A-Za-z+/=]+)\$([0-9A-Za-z+/=]+)")


class NodesUnusable(BrokerError):
    """The file of nodes cannot be read or written; the text says where and what to do."""


class NodeAccount(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A device with credentials of its own."""

    name: str
    """What it logs in as, and the level of the topic that is its own."""
    made_at: datetime
    hash: str | None
    """Of its password, in mosquitto's form; None: it comes with a certificate alone."""
    disabled: bool = False


def check_name(name: str) -> str:
    """`name`, if a node may have it; raises `ValueError` with the remedy in its text."""
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r:.80} is no name for a node: type {NAME_RULE}")
    if name in OWN_ACCOUNTS:
        raise ValueError(f"{name} is an account of the broker itself: choose another name")
    return name


def own_filters(topic_filters: tuple[str, ...], prefixes: tuple[str, ...], name: str) -> list[str]:
    """What a node may publish to: of each filter, that part in which its name says who speaks.

    `iotingestion/#` becomes `iotingestion/<name>/#`, and `reserve/+/audio` `reserve/<name>/audio`.
    Where a longer prefix would read another name out of the topic, there is none.
    """
    own = []
    for topic_filter in topic_filters:
        levels = topic_filter.split("/")
        place = next(index for index, level in enumerate(levels) if level in ("+", "#"))
        below = "/".join((*levels[:place], name))
        if not any(f"{prefix}/".startswith(f"{below}/") for prefix in prefixes):
            own.append(
                "/".join(
                    (below, *(levels[place:] if levels[place] == "#" else levels[place + 1 :]))
                )
            )
    return own


def new_password() -> tuple[str, str]:
    """A password for a node, and its hash."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    return password, hash_of(password, secrets.token_bytes(SALT_BYTES), GENERATED_HASH_ROUNDS)


def hash_of(password: str, salt: bytes, rounds: int) -> str:
    """PBKDF2 with SHA-512, in mosquitto's form `$7$`."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


# ---------------------------------------------------------------------- the file


def read_nodes(path: Path) -> tuple[NodeAccount, ...]:
    """The nodes in `path`, by name; none if it is not there. Raises `NodesUnusable`."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise NodesUnusable(
            f"{path} cannot be read ({error.strerror}): it must be a file of the user that runs "
            "the broker"
        ) from error
    if len(text) > FILE_BYTES_MAX:
        raise NodesUnusable(f"{path} is larger than {FILE_BYTES_MAX:,} bytes: remove nodes from it")
    nodes: dict[str, NodeAccount] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            node = _checked(msgspec.json.decode(line, type=NodeAccount))
            if node.name in nodes:
                raise ValueError(f"{node.name} is there twice: leave one out")
        except (msgspec.DecodeError, ValueError) as error:
            raise NodesUnusable(f"{path} line {number}: {error}") from None
        nodes[node.name] = node
    if len(nodes) > NODES_MAX:
        raise NodesUnusable(f"{path} has more than {NODES_MAX:,} nodes: remove some")
    return tuple(nodes[name] for name in sorted(nodes))


def _checked(node: NodeAccount) -> NodeAccount:
    """A hash that is none would end mosquitto 2.1."""
    check_name(node.name)
    if node.made_at.tzinfo is None:
        raise ValueError("made_at has no zone: write it as 2026-09-14T05:45:12Z")
    if node.hash is not None:
        found = HASH.fullmatch(node.hash)
        try:
            sizes = (
                [len(base64.b64decode(each, validate=True)) for each in found.groups()[1:]]
                if found
                else []
            )
        except binascii.Error:
            sizes = []
        if found is None or sizes != [SALT_BYTES, DIGEST_BYTES] or int(found[1]) > HASH_ROUNDS_MAX:
            raise ValueError(
                "hash is no hash of a password: type `echo-ingest nodes rotate` for one"
            )
    return node


def change_nodes(path: Path, change: Callable[[dict[str, NodeAccount]], None]) -> None:
    """Have `change` alter the nodes by name, and write them; one process at a time.

    Raises `NodesUnusable`, and what `change` raises; then nothing is written.
    """
    if path.is_symlink():
        raise NodesUnusable(
            f"{path} is a symbolic link, as Kubernetes mounts secrets: change the secret itself, "
            "with a file made elsewhere by IOT_NODES_FILE=FILE echo-ingest nodes …"
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.parent):
            nodes = {node.name: node for node in read_nodes(path)}
            change(nodes)
            if len(nodes) > NODES_MAX:
                raise NodesUnusable(f"{path} has {NODES_MAX:,} nodes already: remove some first")
            owner = (path if path.exists() else path.parent).stat()
            lines = [msgspec.json.encode(nodes[name]).decode() for name in sorted(nodes)]
            write_private(path, "".join(f"{line}\n" for line in lines), owner)
    except OSError as error:
        raise NodesUnusable(
            f"{path} cannot be written ({error.strerror}): do this as the user that runs the "
            "broker; where the file is mounted for reading only, change what it is mounted from"
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep out whoever else would change something in `folder` by this way."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def now() -> datetime:
    """To the second, as the file has it."""
    return datetime.now(UTC).replace(microsecond=0)
