"""What a form makes of messages, as the page shows it. Pure."""

from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from echo_ingest.admin.form_making import DraftTrial
from echo_ingest.decode.forms.form import FormError
from echo_ingest.payload_view import readable
from echo_ingest.record import AnyRecord, Ignored, Rejected

RECORDS_SHOWN_MAX = 10
UNREAD_SHOWN_MAX = 60
REASONS_SHOWN_MAX = 8
WARNINGS_SHOWN_MAX = 10


class TriedRecord(Struct, frozen=True):
    """A record that the message becomes."""

    kind: str
    text: str


class TriedView(Struct, frozen=True, kw_only=True):
    """What a form makes of the message that is shown, and of all."""

    errors: Sequence[FormError]
    """What is wrong with the form; then there is nothing else."""
    records: Sequence[TriedRecord]
    records_left: int
    """How many more the message becomes."""
    rejected: str | None
    ignored: bool
    misfit: str | None
    """Why the message is not in the form."""
    unread: Sequence[str]
    unread_left: int
    is_read: bool
    """Whether the message becomes records, so that it is known what was read."""
    warnings: Sequence[str]
    tried: int
    total: int
    """How many messages there are; the newest of them were tried."""
    stored: int
    kinds: Sequence[tuple[str, int]]
    """How many records of each kind."""
    ignored_messages: int
    rejections: Sequence[tuple[str, int]]
    misfits: Sequence[tuple[str, int]]
    taken_before: Sequence[tuple[str, int]]


class TriedPart(Struct, frozen=True):
    """What `make_form_tried.html` shows: a part of the page that is sent again."""

    tried: TriedView


def tried_view(tried: DraftTrial, total: int) -> TriedView:
    """Return what the page shows of an attempt with a form."""
    trial, found = tried.trial, tried.outlook
    records = trial.records if trial is not None else ()
    outcome = trial.outcome if trial is not None else None
    unread = trial.unread if trial is not None else ()
    rejected = Counter[str]()
    for why, count in found.rejected.items():
        rejected[why.render()] += count
    return TriedView(
        errors=tried.errors,
        records=[_record(each) for each in records[:RECORDS_SHOWN_MAX]],
        records_left=max(0, len(records) - RECORDS_SHOWN_MAX),
        rejected=outcome.render() if isinstance(outcome, Rejected) else None,
        ignored=isinstance(outcome, Ignored),
        misfit=trial.misfit if trial is not None else None,
        unread=unread[:UNREAD_SHOWN_MAX],
        unread_left=max(0, len(unread) - UNREAD_SHOWN_MAX),
        is_read=bool(records),
        warnings=trial.warnings[:WARNINGS_SHOWN_MAX] if trial is not None else (),
        tried=found.tried + sum(count for _, count in tried.taken_before),
        total=total,
        stored=found.messages,
        kinds=found.records.most_common(),
        ignored_messages=found.ignored,
        rejections=rejected.most_common(REASONS_SHOWN_MAX),
        misfits=found.misfits.most_common(REASONS_SHOWN_MAX),
        taken_before=tried.taken_before,
    )


def _record(record: AnyRecord) -> TriedRecord:
    kind = str(type(record).__struct_config__.tag)
    return TriedRecord(kind, readable(msgspec.json.encode(record)))
