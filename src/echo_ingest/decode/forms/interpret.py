"""Make the records of a message that is in a form, and tell which message it is. Pure."""

import msgspec
from msgspec import Struct

from echo_ingest.decode.base64_clip import from_base64
from echo_ingest.decode.errors import DecodeError
from echo_ingest.decode.forms.documents import ROWS, refuse_repeated_keys
from echo_ingest.decode.forms.form import Form
from echo_ingest.decode.forms.match import Fit
from echo_ingest.decode.forms.paths import Given, Scope
from echo_ingest.decode.forms.patterns import PatternBudget
from echo_ingest.decode.forms.records import RECORDS_MAX, Made, Maker, has_list, items
from echo_ingest.decode.rules import Rules
from echo_ingest.decode.times import EPOCH
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import AnyRecord, Detection, Identity, Ignored, Message, Rejected, kinds


class DecodedByForm(Struct, frozen=True):
    """What a form makes of a message."""

    form: Form
    records: tuple[AnyRecord, ...]
    """At least one."""
    identity: Identity
    """Which message it is, as a whole."""


def interpret(
    fit: Fit, message: Message, rules: Rules, *, hashed: bool
) -> DecodedByForm | Rejected | Ignored:
    """Make the records of a message; `hashed` as in `audio.describe`. Never raises."""
    form = fit.form
    if fit.unreadable is not None:
        return fit.unreadable
    if form.ignore:
        return Ignored(form.name)
    try:
        made, message_id = _made(fit, message, rules, hashed=hashed)
    except DecodeError as error:
        return error.rejected
    if not made:
        return _without_records(fit, message)
    records = tuple(each.record for each in made)
    first = records[0]
    identity = Identity(
        kind=kinds(records),
        seconds=next((each.seconds for each in made if each.seconds), 0),
        message_id=message_id or _only(records),
        sensor_id=None if form.is_unique_in_form else first.sensor_id or first.node,
        has_audio=any(getattr(record, "clip", None) is not None for record in records),
        scope=form.name if form.is_unique_in_form and message_id is not None else None,
        form=form,
        node=first.node if len({record.node for record in records}) == 1 else None,
    )
    return DecodedByForm(form, records, identity)


def differ_only_in_time(one: DecodedByForm, other: DecodedByForm) -> bool:
    """Return whether two messages under the same id say the same, but for the times they give.

    What no field reads does not count: each gateway adds its own to a frame that it has heard.
    """
    return _without_times(one) == _without_times(other)


def _without_times(decoded: DecodedByForm) -> list[AnyRecord]:
    return [
        msgspec.structs.replace(
            record,
            observed_at=EPOCH,
            time_source="device",
            time_problem=None,
            device_time=None,
            **({"ends_at": None} if isinstance(record, Detection) else {}),
        )
        for record in decoded.records
    ]


def clip_bytes(fit: Fit, message: Message, rules: Rules, index: int) -> bytes | None:
    """Return the audio of one record of a message; None where it has none."""
    if fit.unreadable is not None or not any("clip" in each.fields for each in fit.form.records):
        return None
    try:
        made, _ = _made(fit, message, rules, hashed=False)
        if index >= len(made):
            return None
        field = made[index].spec.fields.get("clip")
        encoded = None if field is None else field.base64(made[index].item)
        return None if encoded is None else from_base64(encoded, "clip")
    except DecodeError:
        return None


def top_scope(fit: Fit, message: Message) -> Scope:
    """Return what the paths of a form begin at; raise `DecodeError` where its bytes do not fit."""
    given = Given(fit.captures, message.node, message.received_at_ms, {}, PatternBudget())
    scope = Scope(fit.document, given)
    layout = fit.form.layout
    if layout is None:
        return scope
    fixed = layout.read(scope, message.payload)
    return Scope(fit.document, msgspec.structs.replace(given, fixed=fixed))


def _made(
    fit: Fit, message: Message, rules: Rules, *, hashed: bool
) -> tuple[list[Made], str | None]:
    form = fit.form
    if form.match.payload == "json":
        refuse_repeated_keys(message.payload, fit.document)
    elif form.match.payload == "list":
        refuse_repeated_keys(message.payload, fit.document[ROWS])
    top = top_scope(fit, message)
    message_id = None if form.message_id is None else form.message_id.text(top)
    maker = Maker(form.name, message, rules, hashed, message_id)
    made: list[Made] = []
    for spec in form.records:
        for each in maker.make(spec, top):
            made.append(each)
            if len(made) > RECORDS_MAX:
                raise DecodeError(
                    ReasonCode.TOO_COMPLEX,
                    f"the message holds more than {RECORDS_MAX:,} records",
                )
    return made, message_id


def _without_records(fit: Fit, message: Message) -> Ignored | Rejected:
    """Tell a list with nothing in it, which says that nothing was heard, from a form that misses.

    What a form should have read and did not find must not be lost without a word.
    """
    form = fit.form
    try:
        top = top_scope(fit, message)
    except DecodeError as error:
        return error.rejected
    is_empty = not any(True for spec in form.records for _ in items(spec, top))
    if is_empty and any(has_list(spec, top) for spec in form.records):
        return Ignored(form.name)
    return Rejected(
        ReasonCode.NO_RECORD,
        f"the message is in the form {form.name}, which finds no record in it",
    )


def _only(records: tuple[AnyRecord, ...]) -> str | None:
    """Return the id of the only record: it is that of its message too."""
    return records[0].message_id if len(records) == 1 else None
