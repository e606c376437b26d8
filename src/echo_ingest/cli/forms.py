"""`forms`: list the forms, try one with a message, test a folder, draft one, and read again."""

import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
import typer
from msgspec import Struct
from rich.text import Text

from echo_ingest.admin import journal_of
from echo_ingest.admin.form_rereading import FormRereading, Rereading
from echo_ingest.cli.options import open_reader, settings_of
from echo_ingest.cli.output import cells, fail, moment, out, print_table, progress, say, table
from echo_ingest.decode import FORMS, Decoder
from echo_ingest.decode.forms import SHIPPED, Form, Forms
from echo_ingest.decode.forms.examples import Tested, error_words, try_examples
from echo_ingest.decode.forms.interpret import DecodedByForm
from echo_ingest.decode.forms.reading import read
from echo_ingest.decode.forms.suggest import NoSuggestion, suggest
from echo_ingest.decode.forms.trial import Trial, expectation, topic_like, try_form, try_forms
from echo_ingest.decode.rules import Rules
from echo_ingest.formatting import counted, utc
from echo_ingest.journal.reader import JournalReader
from echo_ingest.payload_view import printable, readable
from echo_ingest.record import Ignored, Message, Rejected
from echo_ingest.settings import Settings
from echo_ingest.sinks.registry import sinks_of
from echo_ingest.site_decoder import decoder_of, forms_of

OWN_NAMES = frozenset(form.name for form in FORMS)
PIPE = "-"
NO_TOPIC = "try"
UNREAD_SHOWN_MAX = 40
REASONS_SHOWN_MAX = 20

app = typer.Typer(
    help="List forms of other devices, try, test, draft them, and read by them again."
)

OfFile = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="A file with one message; [b]-[/] for standard input."),
]
OfDeadLetter = Annotated[
    int | None,
    typer.Option("--dead-letter", metavar="ID", help="A dead letter instead of a file."),
]
OfUnclaimed = Annotated[
    str | None,
    typer.Option(
        "--unclaimed", metavar="TOPIC", help="The newest message of an unclaimed topic instead."
    ),
]
WithForm = Annotated[
    str | None,
    typer.Option(
        "--form", metavar="FORM", help="Only this form: a file, or the name of one that is in use."
    ),
]
OnTopic = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help="The topic that the file came on.")
]
InZone = Annotated[
    str | None,
    typer.Option(
        "--zone", metavar="ZONE", help="The zone of the site, such as [b]Australia/Melbourne[/]."
    ),
]


class Tryable(Struct, frozen=True):
    """A message that is to be tried, and the rules of the site."""

    message: Message
    rules: Rules
    remark: str | None = None
    """What was assumed about the message."""


@app.command("list")
def list_forms(context: typer.Context) -> None:
    """List the forms in use in the order in which they are tried, and errors in others."""
    settings = settings_of(context)
    forms = forms_of(settings)
    folder = settings.forms_path
    shown = table("form", "from", "version", "devices+")
    for form in forms.forms:
        file = Path(forms.files[form.name])
        is_shipped = file.is_relative_to(SHIPPED)
        origin = "shipped" if is_shipped else str(file.relative_to(folder))
        about = f"{form.about} (ignored)" if form.ignore else form.about
        shown.add_row(*cells(form.name, origin, form.digest[:8], about))
    print_table(shown)
    for file_name, errors in forms.errors.items():
        say(f"{file_name} is not in use:")
        for error in errors:
            say(f"  {error_words(error)}")
    if forms.errors:
        say(
            "until this is corrected, a running service keeps all forms as they were, and one that"
            " starts goes without that file"
        )
    say(f"{counted(len(forms.forms), 'forms')}; your own are in {folder}")
    if forms.errors:
        raise typer.Exit(1)


@app.command("try")
def try_message(
    context: typer.Context,
    file: OfFile = None,
    dead_letter: OfDeadLetter = None,
    unclaimed: OfUnclaimed = None,
    form: WithForm = None,
    topic: OnTopic = None,
    zone: InZone = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what belongs into [b]expected.json[/].")
    ] = False,
) -> None:
    """Show what a message becomes, which of its fields nobody reads, and what is odd about it."""
    settings = settings_of(context)
    forms = forms_of(settings)
    chosen = None if form is None else form_called(forms, form)
    tryable = _tryable(settings, (file, dead_letter, unclaimed), topic, zone, chosen)
    message, rules = tryable.message, tryable.rules
    trial = try_forms(forms, message, rules) if chosen is None else try_form(chosen, message, rules)
    became = trial.became
    if chosen is None:
        # What our own forms know goes before the forms that we ship, as when it arrives.
        became = Decoder(settings.payload_bytes_max, rules, forms).decode(message)
        if isinstance(became, tuple) and became[0].form in OWN_NAMES:
            trial = Trial(None, None)
    if as_json:
        shown = expectation(message, rules.zone, became)
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode() + "\n")
    else:
        _show(trial, became, tryable)
    if became is None or isinstance(became, Rejected):
        raise typer.Exit(1)


@app.command("test")
def test_folder(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, file_okay=False, help="A folder of forms, or of one form."
        ),
    ],
) -> None:
    """Test each form of a folder with the examples beside it.

    A form is [b]NAME/form.toml[/]; beside it, [b]example.*[/] is a message, and
    [b]expected.json[/] says what becomes of it.
    """
    tested = failed = 0
    for each in try_examples(folder):
        tested += 1
        failed += not each.is_as_expected
        _show_tested(each)
    if not tested:
        fail(f"there are no forms in {folder}: a form is NAME.toml or NAME/form.toml")
    say(f"{counted(tested, 'examples')}, {failed:,} not as expected")
    if failed:
        raise typer.Exit(1)


@app.command("suggest")
def suggest_form(
    context: typer.Context,
    file: OfFile = None,
    dead_letter: OfDeadLetter = None,
    unclaimed: OfUnclaimed = None,
    topic: OnTopic = None,
    zone: InZone = None,
) -> None:
    """Print the first draft of a form for a message: a guess, which you check and correct."""
    settings = settings_of(context)
    tryable = _tryable(
        settings, (file, dead_letter, unclaimed), topic, zone, None, assumed_topic=""
    )
    try:
        draft = suggest(tryable.message, tryable.rules)
    except NoSuggestion as error:
        fail(str(error))
    typer.echo(draft.text, nl=False)
    say("this is a guess: check each line, above all scales, units and zones")


@app.command()
def reread(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a form in use.")],
    own: Annotated[
        bool,
        typer.Option(
            "--own",
            help="Also messages that Project Echo's forms have read, if this form would today.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
) -> None:
    """Read stored messages by the present version of their form, where it can.

    Those that it cannot read keep the version that they were stored with. What
    sinks have stays as it is. The service may be running; after an
    interruption, type the command again.
    """
    settings = settings_of(context)
    decoder = decoder_of(settings)
    assert decoder.forms is not None, "a site has forms"
    form = decoder.forms.named(name)
    if form is None:
        fail(f"there is no form {name!r:.80} in use: `echo-ingest forms list` shows those")
    rereading = FormRereading(settings, decoder, form, own=own)
    with ExitStack() as stack:
        reader = stack.enter_context(closing(open_reader(settings)))
        journal = None if dry_run else stack.enter_context(closing(journal_of(settings)))
        advance = stack.enter_context(progress(reader.last_offset(), "reading"))
        for passed in rereading.steps(reader, journal):
            advance(passed)
        delivered = _delivered_to(reader, rereading.found.first_offset)
    _show_rereading(rereading.found, form, dry_run=dry_run)
    if delivered and not dry_run:
        _say_what_sinks_have(settings, rereading.found, delivered)


def _show_rereading(found: Rereading, form: Form, *, dry_run: bool) -> None:
    keep = "would keep" if dry_run else "keep"
    are = "would be" if dry_run else "is" if found.read == 1 else "are"
    say(
        f"{counted(found.read, 'messages')} {are} read by {form.name}, version {form.digest[:8]};"
        f" {found.kept.total():,} {keep} their form" + ("; nothing was changed" * dry_run)
    )
    if found.moved:
        say(f"{found.moved:,} {'would' if dry_run else 'now'} belong to another node")
    if found.fewer:
        say(f"{found.fewer:,} {'would' if dry_run else 'now'} have fewer records")
    if found.kept:
        shown = table("messages>", f"{keep} their form, because+")
        for why, count in found.kept.most_common(REASONS_SHOWN_MAX):
            shown.add_row(*cells(f"{count:,}", why))
        print_table(shown)


def _delivered_to(reader: JournalReader, first_offset: int | None) -> list[str]:
    """Return the sinks that have settled the message at this offset, or passed it."""
    if first_offset is None:
        return []
    return [name for name in reader.ledger().sinks if (reader.cursor(name) or 0) >= first_offset]


def _say_what_sinks_have(settings: Settings, found: Rereading, delivered: list[str]) -> None:
    assert found.first_received_at_ms is not None
    since = utc(found.first_received_at_ms).isoformat(timespec="seconds")
    say("sinks keep what they have; these messages are delivered again by:")
    for sink in sinks_of(settings):
        if sink.name not in delivered:
            continue
        command = f"  echo-ingest sinks backfill {sink.name} --from {since}"
        if sink.is_idempotent:
            say(f"{command}\n    what is there already stays as it is: remove it there first")
        else:
            say(f"{command} --accept-duplicates\n    what is there already will be there twice")


# ---------------------------------------------------------------------- what is tried


def form_called(forms: Forms, name: str) -> Form:
    """Return the form of that name, or that a file holds; fail with all that is wrong with it."""
    known = forms.named(name)
    if known is not None:
        return known
    file = Path(name)
    if not file.is_file():
        fail(f"there is no form {name!r:.80}: type a name of `echo-ingest forms list`, or a file")
    form = read(file.read_bytes(), forms.payloads)
    if isinstance(form, Form):
        return form
    errors = "\n".join(f"  {error_words(error)}" for error in form)
    fail(f"{file} is no form:\n{errors}")


def _tryable(
    settings: Settings,
    origin: tuple[Path | None, int | None, str | None],
    topic: str | None,
    zone: str | None,
    form: Form | None,
    *,
    assumed_topic: str = NO_TOPIC,
) -> Tryable:
    """Return the message that is chosen by a file, a dead letter, or an unclaimed topic."""
    file, dead_letter, unclaimed = origin
    if sum(each is not None for each in origin) != 1:
        fail("choose one message: a file, --dead-letter ID or --unclaimed TOPIC", 2)
    rules = decoder_of(settings).rules
    if zone is not None:
        rules = msgspec.structs.replace(rules, zone=_zone(zone))
    if file is None:
        message = _kept(settings, dead_letter, unclaimed)
        if topic is not None:
            message = msgspec.structs.replace(message, topic=topic, node=settings.node_of(topic))
        return Tryable(message, rules)
    payload, received_at_ms = _content(file)
    remark = None
    if topic is None:
        topic = (topic_like(form) if form is not None else None) or assumed_topic
        if form is None and assumed_topic:
            remark = "no topic was given, so no form was tried that goes by topic; type --topic"
        elif form is not None and form.match.topics:
            remark = f"the topic is taken to be {topic}; type --topic for another"
    node = settings.node_of(topic)
    return Tryable(Message(topic, payload, received_at_ms, node), rules, remark)


def _kept(settings: Settings, dead_letter: int | None, unclaimed: str | None) -> Message:
    """Return a message that the journal keeps, though it is no record."""
    reader = open_reader(settings)
    if dead_letter is not None:
        kept = reader.dead_letter(dead_letter)
        if kept is None:
            fail(f"there is no dead letter {dead_letter:,}; a replay may have stored it")
        return kept.message
    assert unclaimed is not None
    newest = reader.newest_unclaimed(unclaimed, 1)
    if not newest:
        fail(f"nothing is kept of {unclaimed}: `echo-ingest unclaimed list` shows all topics")
    return newest[0].message


def _content(file: Path) -> tuple[bytes, int]:
    """Return a message, and when it was received: when its file was last changed."""
    if str(file) == PIPE:
        return sys.stdin.buffer.read(), time.time_ns() // 1_000_000
    if not file.is_file():
        fail(f"there is no file {file}")
    return file.read_bytes(), file.stat().st_mtime_ns // 1_000_000


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        fail(f"{name!r:.60} is no zone; type a name such as Australia/Melbourne", 2)


# ---------------------------------------------------------------------- how it is shown


def _show(trial: Trial, became: object, tryable: Tryable) -> None:
    about = table("~", "+", header=False)
    message = tryable.message
    rows: list[tuple[str, object]] = [("topic", message.topic)]
    rows.append(("received", moment(message.received_at_ms)))
    if trial.form is not None:
        rows.append(("form", f"{trial.form.name}, version {trial.form.digest[:8]}"))
    elif isinstance(became, tuple):
        rows.append(("form", f"{became[0].form}, one of Project Echo's own"))
    else:
        rows.append(("form", "none fits"))
    if trial.misfit is not None:
        rows.append(("not in it", trial.misfit))
    if isinstance(became, Rejected):
        rows.append(("rejected", became.render()))
    elif isinstance(became, Ignored):
        rows.append(("becomes", "nothing: such messages are ignored"))
    elif isinstance(became, tuple):
        rows.append(("becomes", counted(len(became), "records")))
    for name, value in rows:
        about.add_row(*cells(name, value))
    print_table(about)
    if isinstance(became, tuple):
        for number, record in enumerate(became, 1):
            out.print(Text(f"\nrecord {number}", style="bold"))
            out.print(Text(readable(msgspec.json.encode(record))))
    if isinstance(trial.outcome, DecodedByForm):
        _show_unread(trial.unread)
    for warning in trial.warnings:
        out.print(Text.assemble(("\nwarning: ", "bold yellow"), printable(warning)))
    if tryable.remark is not None:
        say(tryable.remark)


def _show_unread(unread: tuple[str, ...]) -> None:
    if not unread:
        out.print(Text("\nEvery field is read."))
        return
    out.print(Text("\nFields that nobody reads:", style="bold"))
    for path in unread[:UNREAD_SHOWN_MAX]:
        out.print(Text(f"  {printable(path)}"))
    if len(unread) > UNREAD_SHOWN_MAX:
        out.print(Text(f"  and {counted(len(unread) - UNREAD_SHOWN_MAX, 'more')}"))


def _show_tested(tested: Tested) -> None:
    mark, style = ("✓", "green") if tested.is_as_expected else ("✗", "bold red")
    name = " ".join(filter(None, (tested.form, tested.example)))
    out.print(Text.assemble((mark, style), f" {name}"))
    if tested.problem is not None:
        out.print(Text(f"  {printable(tested.problem)}"))
    for line in tested.difference:
        colour = {"-": "red", "+": "green", "@": "cyan"}.get(line[:1], "")
        out.print(Text(f"  {printable(line)}", style=colour))
