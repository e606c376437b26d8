"""The decoder of a site, by its settings, its nodes and its forms; it follows what changes there.

Every process that decodes makes its own. What a stored message was decoded by is in the journal, so
it does not matter which of them has noticed a change already.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from echo_ingest.broker.node_accounts import read_node_rules, read_rights
from echo_ingest.broker.node_rules import POLL_SECONDS, follow_node_rules
from echo_ingest.broker.reload import FileState, file_state
from echo_ingest.decode import Decoder, Rules
from echo_ingest.decode.forms import SHIPPED, Forms, form_files
from echo_ingest.decode.payloads import Payloads
from echo_ingest.decode.rules import NOT_ANIMALS
from echo_ingest.journal.pinned_forms import loader_of
from echo_ingest.settings import Settings
from echo_ingest.settings.site import parse_not_animals

FolderState = dict[Path, FileState]

log = structlog.get_logger("forms")


def decoder_of(settings: Settings) -> Decoder:
    """Return a decoder for this site, its nodes and its forms. Raises `NodesUnusable`."""
    rules = Rules(
        zone=None if settings.zone is None else ZoneInfo(settings.zone),
        first_day=settings.first_day,
        not_animals={**NOT_ANIMALS, **parse_not_animals(settings.not_animals)},
        nodes=read_node_rules(settings.nodes_path),
        accounts=read_rights(settings.nodes_path),
    )
    return Decoder(settings.payload_bytes_max, rules, forms_of(settings))


def forms_of(settings: Settings) -> Forms:
    """Return the forms of this site and those that we ship; `errors_of` says what is wrong."""
    return Forms.of_folder(
        SHIPPED,
        settings.forms_path,
        loader_of(settings.journal_path),
        Payloads(settings.keys_of_payloads),
    )


def errors_of(forms: Forms) -> Iterator[str]:
    """Yield in words all that is wrong with forms that cannot be used."""
    for file, errors in forms.errors.items():
        for error in errors:
            yield f"{file}, line {error.line}: {error.words}"


async def follow_site(settings: Settings, decoder: Decoder) -> None:
    """Bring the rules of nodes and the forms up to date in place, until cancelled."""
    assert decoder.forms is not None
    await asyncio.gather(
        follow_node_rules(settings.nodes_path, decoder.rules),
        follow_forms(settings.forms_path, decoder.forms),
    )


async def follow_forms(folder: Path, forms: Forms, poll_seconds: float = POLL_SECONDS) -> None:
    """Bring `forms` up to date in place whenever a file in `folder` changes, until cancelled.

    While a form that was used has an error, all forms stay as they were, and that is logged once.
    """
    previous = applied = None  # so a change since the forms were read is not missed
    problem: str | None = None
    while True:
        await asyncio.sleep(poll_seconds)
        try:
            state = _state_of(folder)
            # The same state twice: a program that writes a file in place, or removes it first, is
            # done.
            if state == previous and state != applied:
                await asyncio.to_thread(apply_forms, folder, forms)
                applied = state
        except OSError as error:  # strangers may have opened as many connections as there are files
            if problem is None:
                problem = error.strerror or str(error)
                log.error("forms cannot be looked at", reason=problem)
        else:
            previous, problem = state, None


def apply_forms(folder: Path, forms: Forms) -> None:
    """Read the forms of the site again; take them over unless one that was used has an error."""
    changed = Forms.of_folder(SHIPPED, folder, payloads=forms.payloads)
    for words in errors_of(changed):
        log.error("a form cannot be used", reason=words)
    if changed.errors.keys() - forms.errors.keys():
        log.error("forms not changed", meaning="all forms stay as they were, until it is mended")
    elif changed.digests != forms.digests:
        forms.become(changed)
        log.info("forms changed", forms=len(changed.forms))


def _state_of(folder: Path) -> FolderState:
    return {path: file_state(path) for path in form_files(folder)}
