"""Make a form: a message as a tree, the form in an editor, what it makes, and saving it.

The page is the same without scripts: a button tries the form. With them, it is tried as a person
types, and a click on a value puts its path into the form.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
from litestar import Response, get, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect
from msgspec import Struct

from echo_ingest.admin import ActionError
from echo_ingest.admin.form_making import (
    DraftTrial,
    NameTaken,
    draft_of,
    save_form,
    try_draft,
)
from echo_ingest.admin.form_outlook import KeptEntry
from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import Form
from echo_ingest.decode.forms.reading import FORM_BYTES_MAX
from echo_ingest.journal.reader import JournalReader
from echo_ingest.payload_view import readable
from echo_ingest.record import Message
from echo_ingest.settings import Settings
from echo_ingest.site_decoder import apply_forms, errors_of, forms_of
from echo_ingest.web.console.auth import acting_form
from echo_ingest.web.console.context import ConsoleContext
from echo_ingest.web.console.make_form.chosen import (
    UNCLAIMED,
    ChosenMessages,
    chosen_by,
    kept_now,
    read_kept,
    shown_of,
)
from echo_ingest.web.console.make_form.payload_tree import TreeValue, tree_of
from echo_ingest.web.console.make_form.tried import TriedPart, TriedView, tried_view
from echo_ingest.web.console.rendering import AnyRequest, query, zone_of
from echo_ingest.web.reader import trials_in_turn
from echo_ingest.web.same_origin import is_by_tls

PAGE = "/console/make-form"
BODY_BYTES_MAX = 4 * FORM_BYTES_MAX
"""A form takes up to three times as much as its text, and there are a few other fields."""

log = structlog.get_logger("web")


class SaveProblem(Struct, frozen=True):
    """Why a form was not saved."""

    words: str
    replaced: str | None = None
    """The digest of what would be replaced, if a person may agree to that."""


class Editor(Struct, frozen=True, kw_only=True):
    """What a person has typed, and what became of saving it."""

    source: str | None = None
    """The text of the form; None: it is to be drafted."""
    replaces: str | None = None
    """The digest of the version that is edited here, which saving replaces without asking."""
    problem: SaveProblem | None = None


class MakeFormView(Struct, frozen=True, kw_only=True):
    """What `make_form.html` shows."""

    in_common: str
    """What the messages have in common."""
    topic: str | None
    """The unclaimed topic; None for dead letters."""
    total: int
    back: str
    address: str
    fields: dict[str, str | None]
    """What names the messages, in a form."""
    number: int
    """Of the message that is shown."""
    newer: int | None
    older: int | None
    message: Message
    tree: Sequence[TreeValue]
    payload: str | None
    """The payload as text, where it is no tree."""
    source: str
    remark: str | None
    """Why nothing was drafted."""
    replaces: str | None
    problem: SaveProblem | None
    saved: str | None
    """The name of the form, if what is shown is in use."""
    tried: TriedView


def routes(sources: ConsoleContext) -> list[HTTPRouteHandler]:
    """Return the page, what tries a form, and what saves one."""
    settings, decoder = sources.settings, sources.journal.decoder
    threads = ThreadPoolExecutor(1, thread_name_prefix="save-form")
    in_turn = [trials_in_turn()]

    async def page(
        request: AnyRequest, chosen: ChosenMessages, editor: Editor, status_code: int = 200
    ) -> Response[bytes]:
        kept = await kept_now(sources, chosen)

        def view(reader: JournalReader) -> MakeFormView:
            entries = read_kept(reader, chosen, kept)
            entry, newer, older = shown_of(entries, chosen)
            source, remark = editor.source, None
            if source is None:
                assert decoder.forms is not None
                drafted = draft_of(entry.message, decoder.rules, decoder.forms)
                source, remark = drafted.text, drafted.remark
            tried = _try(source, entry.message, entries, sources)
            tree = tree_of(entry.message.payload)
            in_use = _in_use(tried.trial.form if tried.trial else None, decoder)
            return MakeFormView(
                in_common=kept.in_common,
                topic=chosen.topic,
                total=kept.total,
                back=chosen.back,
                address=query(PAGE, dict(chosen.fields)),
                fields=chosen.fields,
                number=entry.id,
                newer=newer,
                older=older,
                message=entry.message,
                tree=tree,
                payload=None if tree else readable(entry.message.payload),
                source=source,
                remark=remark,
                replaces=editor.replaces,
                problem=editor.problem,
                saved=in_use,
                tried=tried_view(tried, kept.total),
            )

        shown = await sources.journal.ask(view)
        return sources.pages.page(request, "make_form.html", shown, status_code=status_code)

    @get("/make-form", middleware=in_turn)
    async def make_form(request: AnyRequest) -> Response[bytes]:
        """Show a message with the first draft of a form, or with `form`, one of the site's."""
        editor = _saved(request.query_params.get("form"), decoder, settings)
        return await page(request, chosen_by(request.query_params), editor)

    @post("/make-form", status_code=200, middleware=in_turn, request_max_body_size=BODY_BYTES_MAX)
    async def look_again(request: AnyRequest) -> Response[bytes]:
        """Try the form that was typed, and show the page again, perhaps with another message."""
        fields = await acting_form(request, BODY_BYTES_MAX)
        return await page(request, chosen_by(fields), _typed(fields))

    @post(
        "/make-form/try", status_code=200, middleware=in_turn, request_max_body_size=BODY_BYTES_MAX
    )
    async def try_typed(request: AnyRequest) -> Response[str]:
        """Try the form that was typed, and send what it makes, as a part of the page."""
        fields = await acting_form(request, BODY_BYTES_MAX)
        chosen = chosen_by(fields)
        kept = await kept_now(sources, chosen)

        def tried(reader: JournalReader) -> DraftTrial:
            entries = read_kept(reader, chosen, kept)
            entry, _, _ = shown_of(entries, chosen)
            return _try(_typed(fields).source or "", entry.message, entries, sources)

        view = TriedPart(tried_view(await sources.journal.ask(tried), kept.total))
        html = sources.pages.fragment("make_form_tried.html", view, zone_of(request))
        return Response(html, media_type="text/html")

    @post("/make-form/save", status_code=303, request_max_body_size=BODY_BYTES_MAX)
    async def save(request: AnyRequest) -> Response[bytes] | Redirect:
        """Save the form for the site; ask before it replaces another."""
        fields = await acting_form(request, BODY_BYTES_MAX)
        chosen, typed = chosen_by(fields), _typed(fields)
        source = (typed.source or "").encode()
        agreed = fields.get("agreed") or typed.replaces
        try:
            form = await asyncio.get_running_loop().run_in_executor(
                threads, lambda: _save(settings, decoder, source, agreed)
            )
        except NameTaken as taken:
            problem = SaveProblem(str(taken), taken.digest)
            return await page(request, chosen, _with(typed, problem), 409)
        except ActionError as error:
            return await page(request, chosen, _with(typed, SaveProblem(str(error))), 400)
        log.info("operator acts", action="save form", form=form.name, digest=form.digest)
        cookie = sources.pages.flash.keep(
            _saved_words(form, decoder, chosen, settings), by_tls=is_by_tls(request.headers)
        )
        onward = UNCLAIMED
        if chosen.topic is None:
            onward = query(PAGE, {**chosen.fields, "form": form.name, "show": chosen.shown})
        return Redirect(onward, status_code=303, cookies=[cookie])

    return [make_form, look_again, try_typed, save]


def _saved(name: str | None, decoder: Decoder, settings: Settings) -> Editor:
    """Return a form of the site as it is in use, to be edited; nothing typed where it is none."""
    forms = decoder.forms
    form = None if name is None or forms is None else forms.named(name)
    if form is None or forms is None:
        return Editor()
    if not Path(forms.files[form.name]).is_relative_to(settings.forms_path):
        return Editor()  # to replace one that we ship, a person has to agree
    return Editor(source=form.source.decode("utf-8-sig"), replaces=form.digest)


def _typed(fields: dict[str, str]) -> Editor:
    """Return what was typed, with the ends of lines as a file has them, not as a browser does."""
    text = fields.get("source", "").replace("\r\n", "\n").rstrip()
    if len(text) > FORM_BYTES_MAX:
        raise HTTPException(f"a form may have {FORM_BYTES_MAX // 1024} KiB", status_code=413)
    return Editor(source=f"{text}\n", replaces=fields.get("replaces") or None)


def _with(typed: Editor, problem: SaveProblem) -> Editor:
    return Editor(source=typed.source, replaces=typed.replaces, problem=problem)


def _try(
    source: str, shown: Message, entries: Sequence[KeptEntry], sources: ConsoleContext
) -> DraftTrial:
    decoder = sources.journal.decoder
    return try_draft(
        source.encode(),
        shown,
        entries,
        decoder.rules,
        decoder.forms,
        sources.settings.forms_path,
    )


def _save(settings: Settings, decoder: Decoder, source: bytes, agreed: str | None) -> Form:
    """Save a form, and take it over at once: a replay that follows would not wait for it."""
    form = save_form(settings, source, agreed)
    assert decoder.forms is not None
    apply_forms(settings.forms_path, decoder.forms)
    return form


def _in_use(form: Form | None, decoder: Decoder) -> str | None:
    """Return the name of a form if this very version is in use."""
    if form is None or decoder.forms is None:
        return None
    known = decoder.forms.named(form.name)
    return form.name if known is not None and known.digest == form.digest else None


def _saved_words(form: Form, decoder: Decoder, chosen: ChosenMessages, settings: Settings) -> str:
    if _in_use(form, decoder) is None:
        reasons = "; ".join(errors_of(forms_of(settings)))
        return f"The form {form.name} is saved, but not in use until this is mended: {reasons}"
    if chosen.topic is not None:
        return (
            f"The form {form.name} is saved and in use. What is kept of {chosen.topic} and fits it"
            " is read within seconds."
        )
    return f"The form {form.name} is saved and in use. Retry the messages to have them read by it."
