"""`nodes`: give devices their own credentials, block them, and say how their messages are read."""

import contextlib
import io
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import segno
import typer
from msgspec import Struct

from echo_ingest.admin import nodes as admin
from echo_ingest.broker.node_accounts import (
    NodeAccount,
    new_password,
    read_node_rules,
    read_nodes,
)
from echo_ingest.cli.options import open_reader, settings_of
from echo_ingest.cli.output import cells, day, fail, moment, print_table, say, table
from echo_ingest.decode import NodeRules
from echo_ingest.formatting import counted, duration, utc
from echo_ingest.journal import JournalUnusable
from echo_ingest.journal.node_days import NodeContact
from echo_ingest.settings import Settings

app = typer.Typer(help="Manage individual devices: their credentials, and how they are read.")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the node.", show_default=False)
]
Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The address where devices reach the broker, such as wss://iot.example.org/mqtt.",
    ),
]
EnvFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the credentials to a new file instead of the screen."),
]
Qr = Annotated[bool, typer.Option("--qr", help="Show the credentials as a QR code too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with times in UTC.")]


class ListedNode(Struct, frozen=True):
    """One row of `nodes list`."""

    node: str
    state: str
    certificate_only: bool
    made_at: datetime
    last_heard_at: datetime | None
    received_today: int


@app.command()
def add(
    context: typer.Context,
    name: Name,
    url: Url = None,
    env_file: EnvFile = None,
    qr: Qr = False,
    certificate: Annotated[
        bool,
        typer.Option(
            "--certificate", help="Make no password: the node connects with a certificate."
        ),
    ] = False,
) -> None:
    """Create credentials for a device. They are shown only once.

    The device may then publish below [b]iotingestion/NAME[/] and read
    [b]iotreceipts/NAME[/].
    """
    settings = settings_of(context)
    admin.check_name_and_topic(settings, name)
    if certificate and (env_file is not None or qr):
        fail("with --certificate there is no password to write; leave out --env-file and --qr", 2)
    address = _address(url, settings)
    password, hashed = (None, None) if certificate else new_password()
    with _issued(env_file, name, password, address, settings) as credentials:
        admin.add(settings, name, hashed)
    _show(credentials, env_file, qr)
    if password is None:
        say(
            f"{name} can connect to IOT_TLS_PORT with a certificate that has {name} as its "
            "common name"
        )
    _say_when(settings)


@app.command()
def rotate(
    context: typer.Context, name: Name, url: Url = None, env_file: EnvFile = None, qr: Qr = False
) -> None:
    """Give a node a new password, and disconnect it if it uses the old one."""
    settings = settings_of(context)
    address = _address(url, settings)
    password, hashed = new_password()
    with _issued(env_file, name, password, address, settings) as credentials:
        admin.rotate(settings, name, hashed)
    _show(credentials, env_file, qr)
    _say_when(settings)


@app.command()
def disable(context: typer.Context, name: Name) -> None:
    """Block a node until it is enabled again. Its credentials are kept."""
    _set_disabled(settings_of(context), name, True)


@app.command()
def enable(context: typer.Context, name: Name) -> None:
    """Unblock a node. Its credentials are the same as before."""
    _set_disabled(settings_of(context), name, False)


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Delete a node's credentials. Its records are kept."""
    settings = settings_of(context)
    admin.remove(settings, name)
    say(f"the credentials of {name} are deleted")
    _say_when(settings)


@app.command("set")
def set_rules(
    context: typer.Context,
    name: Name,
    confidence: Annotated[
        Literal["percent", "fraction"] | None,
        typer.Option(help="Whether it sends confidence from 0 to 100, or from 0 to 1."),
    ] = None,
    clock_ahead: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="How far its clock is ahead, such as 11h or 90s; -90s if it is behind, 0 if it "
            "is right.",
        ),
    ] = None,
    speaks_for: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERNS",
            help="The nodes for which it may speak as their gateway, such as 'frog-*,bats-03'; "
            "'' for none. It must have credentials.",
        ),
    ] = None,
) -> None:
    """Say how the messages of a node are read, and for whom it may speak.

    A corrected time is marked as corrected, and the time that the device wrote is kept beside it.
    """
    settings = settings_of(context)
    admin.check_name_and_topic(settings, name)
    if confidence is None and clock_ahead is None and speaks_for is None:
        fail("say what to change: --confidence, --clock-ahead or --speaks-for", 2)
    if speaks_for is not None:
        patterns = tuple(each.strip() for each in speaks_for.split(",") if each.strip())
        admin.set_speaks_for(settings, name, patterns)
        say(f"{name} speaks for {', '.join(('itself', *patterns))}")
    if confidence is not None or clock_ahead is not None:
        ahead_seconds = None if clock_ahead is None else admin.parse_span(clock_ahead)
        say(_in_words(name, admin.set_rules(settings, name, confidence, ahead_seconds)))
    say(
        f"saved in {settings.nodes_path}; it holds for all that is read from now on, within two"
        " seconds"
    )


@app.command("list")
def list_nodes(context: typer.Context, as_json: AsJson = False) -> None:
    """List the nodes that have their own credentials, and when each was last heard."""
    settings = settings_of(context)
    contacts = _contacts(settings)
    listed = [_listed(node, contacts.get(node.name)) for node in read_nodes(settings.nodes_path)]
    if as_json:
        typer.echo(msgspec.json.encode(listed))
        return
    shown = table("node~", "state~", "created", "last heard", "ago>", "today>")
    now_at = datetime.now(UTC)
    for each in listed:
        last, ago = "never", None
        if each.last_heard_at is not None:
            last = moment(each.last_heard_at)
            ago = duration(max(0.0, (now_at - each.last_heard_at).total_seconds()))
        state = f"{each.state}, certificate" if each.certificate_only else each.state
        shown.add_row(
            *cells(each.node, state, day(each.made_at), last, ago, f"{each.received_today:,}")
        )
    if listed:
        print_table(shown)
    have = "has credentials of its own" if len(listed) == 1 else "have credentials of their own"
    say(f"{counted(len(listed), 'nodes')} {have}; today is {now_at.date()} (UTC)")
    for name, rules in sorted(read_node_rules(settings.nodes_path).items()):
        say(_in_words(name, rules))
    others = len(contacts.keys() - {each.node for each in listed} - {""})
    if others:
        say(f"{counted(others, 'other nodes')} sent messages; see `echo-ingest status --by-node`")


def _in_words(name: str, rules: NodeRules) -> str:
    """Say how the messages of a node are read."""
    unit = "as fractions, 0 to 1" if rules.confidence_is_fraction else "in percent"
    ahead = rules.clock_ahead_seconds
    if not ahead:
        return f"{name} sends confidence {unit}; its clock is taken as it is"
    side = "ahead" if ahead > 0 else "behind"
    return f"{name} sends confidence {unit}; its clock is {duration(abs(ahead))} {side}"


def _set_disabled(settings: Settings, name: str, disabled: bool) -> None:
    admin.set_disabled(settings, name, disabled)
    say(f"{name} is {'disabled' if disabled else 'enabled'}")
    _say_when(settings)


def _say_when(settings: Settings) -> None:
    say(f"saved in {settings.nodes_path}; a running broker applies it within two seconds")


# ---------------------------------------------------------------------- handing out credentials


def _address(url: str | None, settings: Settings) -> str:
    address = admin.broker_url(settings, url)
    if url is None:
        say(f"the credentials say {address}; if devices need another address, give it with --url")
    return address


@contextlib.contextmanager
def _issued(
    env_file: Path | None, name: str, password: str | None, url: str, settings: Settings
) -> Iterator[admin.NodeCredentials | None]:
    """Make the credentials, and write them to `env_file`, if any; an error removes the file.

    The file is written before the password is valid: a valid password that nobody can read would be
    useless.
    """
    if password is None:
        yield None
        return
    credentials = admin.credentials_for(settings, name, password, url)
    if env_file is None:
        yield credentials
        return
    try:
        descriptor = os.open(env_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        fail(f"{env_file} already exists; name another file")
    with os.fdopen(descriptor, "w") as file:
        file.write(
            f"IOT_ENDPOINT={credentials.url}\nIOT_USER={credentials.user}\nIOT_PASSWORD={credentials.password}\n"
            f"IOT_CLIENT_ID={credentials.client_id}\nIOT_TOPIC={credentials.topic}\n"
        )
    try:
        yield credentials
    except BaseException:
        env_file.unlink()
        raise


def _show(credentials: admin.NodeCredentials | None, env_file: Path | None, qr: bool) -> None:
    if credentials is None:
        return
    if env_file is not None:
        say(
            f"{env_file}: the credentials of {credentials.user}; the password is not kept "
            "anywhere else"
        )
    else:
        shown = table("", "+", header=False)
        for name, value in msgspec.structs.asdict(credentials).items():
            shown.add_row(*cells(name.replace("_", " "), value))
        print_table(shown)
        say("the password is not shown again; the broker keeps only a hash of it")
    if qr:
        code = io.StringIO()
        segno.make(msgspec.json.encode(credentials), micro=False).terminal(code, compact=True)
        typer.echo(code.getvalue())


# ---------------------------------------------------------------------- when nodes were heard


def _contacts(settings: Settings) -> dict[str, NodeContact]:
    try:
        with contextlib.closing(open_reader(settings)) as reader:
            return reader.last_heard(time.time_ns() // 1_000_000)
    except JournalUnusable:
        say("there is no journal yet, so it is not known when nodes were heard")
        return {}


def _listed(node: NodeAccount, contact: NodeContact | None) -> ListedNode:
    return ListedNode(
        node=node.name,
        state="disabled" if node.disabled else "enabled",
        certificate_only=node.hash is None,
        made_at=node.made_at,
        last_heard_at=utc(contact.last_heard_at_ms) if contact else None,
        received_today=contact.received_today if contact else 0,
    )
