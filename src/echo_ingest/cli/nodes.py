"""`nodes`: give a device credentials of its own, see who has been heard, and shut one out."""

import contextlib
import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import segno
import typer
from msgspec import Struct

from echo_ingest.admin import nodes as decided
from echo_ingest.broker.node_accounts import NodeAccount, new_password, read_nodes
from echo_ingest.cli.options import archive_of, settings_of
from echo_ingest.cli.output import cells, duration, fail, moment, out, say, table
from echo_ingest.formatting import counted, utc
from echo_ingest.journal import JournalUnusable
from echo_ingest.journal.node_days import NodeContact
from echo_ingest.settings import Settings

app = typer.Typer(help="Credentials of their own for devices.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The node.", show_default=False)]
Url = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where devices reach the broker: wss://iot.example.org/mqtt."),
]
EnvFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write them to a new file instead of the screen."),
]
Qr = Annotated[bool, typer.Option("--qr", help="Show them as a QR code, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, times in UTC.")]


class Listed(Struct, frozen=True):
    """One line of `nodes list`."""

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
        typer.Option("--certificate", help="No password: it comes with a certificate of its name."),
    ] = False,
) -> None:
    """Make credentials for a device; they are shown this once.

    It may then publish below [b]iotingestion/NAME[/] and read [b]iotreceipts/NAME[/].
    """
    settings = settings_of(context)
    decided.check_name_and_topic(settings, name)
    if certificate and (env_file is not None or qr):
        fail("--certificate makes no password: leave out --env-file and --qr", 2)
    place = _place(url, settings)
    password, hashed = (None, None) if certificate else new_password()
    with _written(env_file, name, password, place, settings) as given:
        decided.add(settings, name, hashed)
    _show(given, env_file, qr)
    if password is None:
        say(f"{name} may come with a certificate of that common name, at IOT_TLS_PORT")
    _say_when(settings)


@app.command()
def rotate(
    context: typer.Context, name: Name, url: Url = None, env_file: EnvFile = None, qr: Qr = False
) -> None:
    """Give a node another password; whoever is connected with the old one is cut off."""
    settings = settings_of(context)
    place = _place(url, settings)
    password, hashed = new_password()
    with _written(env_file, name, password, place, settings) as given:
        decided.rotate(settings, name, hashed)
    _show(given, env_file, qr)
    _say_when(settings)


@app.command()
def disable(context: typer.Context, name: Name) -> None:
    """Shut a node out until it is enabled again; its credentials stay as they are."""
    _set_disabled(settings_of(context), name, True)


@app.command()
def enable(context: typer.Context, name: Name) -> None:
    """Let a node in again, with the credentials it had."""
    _set_disabled(settings_of(context), name, False)


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Forget a node's credentials; what it has sent stays."""
    settings = settings_of(context)
    decided.remove(settings, name)
    say(f"{name} is removed")
    _say_when(settings)


@app.command("list")
def list_nodes(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the nodes that have credentials, and when each was last heard."""
    settings = settings_of(context)
    heard = _heard(settings)
    listed = [_listed(node, heard.get(node.name)) for node in read_nodes(settings.nodes_path)]
    if as_json:
        typer.echo(msgspec.json.encode(listed))
        return
    shown = table("node", "state", "made", "last heard", "ago>", "today>")
    now_at = datetime.now(UTC)
    for each in listed:
        last, ago = "never", None
        if each.last_heard_at is not None:
            last = moment(each.last_heard_at)
            ago = duration(max(0.0, (now_at - each.last_heard_at).total_seconds()))
        state = f"{each.state}, certificate" if each.certificate_only else each.state
        shown.add_row(
            *cells(each.node, state, moment(each.made_at), last, ago, f"{each.received_today:,}")
        )
    if listed:
        out.print(shown)
    own = counted(len(listed), "nodes")
    say(f"{own} with credentials of their own; today is {now_at.date()} (UTC)")
    others = len(heard.keys() - {each.node for each in listed} - {""})
    if others:
        say(f"{others:,} more were heard: `echo-ingest status --by-node` has them")


def _set_disabled(settings: Settings, name: str, disabled: bool) -> None:
    decided.set_disabled(settings, name, disabled)
    say(f"{name} is {'disabled' if disabled else 'enabled'}")
    _say_when(settings)


def _say_when(settings: Settings) -> None:
    say(f"in {settings.nodes_path}; a broker that runs takes it over within two seconds")


# ---------------------------------------------------------------------- what a device is given


def _place(url: str | None, settings: Settings) -> str:
    place = decided.broker_url(settings, url)
    if url is None:
        say(f"devices are told to come to {place}; if they must come elsewhere, say so with --url")
    return place


@contextlib.contextmanager
def _written(
    env_file: Path | None, name: str, password: str | None, url: str, settings: Settings
) -> Iterator[decided.NodeCredentials | None]:
    """What the device is given; in a new file, if one is named, that stays only if all went well.

    The file comes first: a password that is in force and nowhere to be read would help nobody.
    """
    if password is None:
        yield None
        return
    given = decided.credentials_for(settings, name, password, url)
    if env_file is None:
        yield given
        return
    try:
        descriptor = os.open(env_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        fail(f"{env_file} exists already; name another file")
    with os.fdopen(descriptor, "w") as file:
        file.write(
            f"IOT_ENDPOINT={given.url}\nIOT_USER={given.user}\nIOT_PASSWORD={given.password}\n"
            f"IOT_CLIENT_ID={given.client_id}\nIOT_TOPIC={given.topic}\n"
        )
    try:
        yield given
    except BaseException:
        env_file.unlink()
        raise


def _show(given: decided.NodeCredentials | None, env_file: Path | None, qr: bool) -> None:
    if given is None:
        return
    if env_file is not None:
        say(f"{env_file}: for {given.user}; it holds the password, which is kept nowhere else")
    else:
        shown = table("", "+", header=False)
        for name, value in msgspec.structs.asdict(given).items():
            shown.add_row(*cells(name.replace("_", " "), value))
        out.print(shown)
        say("the password is shown this once; the broker knows only its hash")
    if qr:
        drawn = io.StringIO()
        segno.make(msgspec.json.encode(given), micro=False).terminal(drawn, compact=True)
        typer.echo(drawn.getvalue())


# ---------------------------------------------------------------------- what was heard of them


def _heard(settings: Settings) -> dict[str, NodeContact]:
    try:
        with contextlib.closing(archive_of(settings)) as archive:
            return archive.last_heard(datetime.now(UTC).date())
    except JournalUnusable:
        say("there is no journal to say when they were heard")
        return {}


def _listed(node: NodeAccount, heard: NodeContact | None) -> Listed:
    return Listed(
        node.name,
        "disabled" if node.disabled else "enabled",
        node.hash is None,
        node.made_at,
        utc(heard.last_heard_at_ms) if heard else None,
        heard.received_today if heard else 0,
    )
