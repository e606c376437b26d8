"""The JSON Schemas of all forms in use, for programs that check what devices send."""

from typing import Any

from litestar import Router, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from msgspec import Struct

from echo_ingest.decode import FORMS, Decoder, echo_schemas
from echo_ingest.decode.forms import Forms
from echo_ingest.decode.forms.json_schema import schema_of


class FormEntry(Struct, frozen=True):
    """A form whose schema is at `/api/schemas/<name>`."""

    name: str
    about: str
    """Which devices send it, or what it becomes."""
    topics: list[str]
    """The topics that it is for; empty where its content tells."""
    version: str | None
    """The digest of its file; null for Project Echo's own."""


class FormEntries(Struct, frozen=True):
    """All forms in use, in the order in which they are tried; Project Echo's own come last."""

    schemas: list[FormEntry]


def form_schemas(decoder: Decoder) -> Router:
    """Return the routes with the schemas of the forms that this decoder goes by, at any time."""

    @get("/")
    async def list_schemas() -> FormEntries:
        """List the forms that have a JSON Schema."""
        entries = [
            FormEntry(
                form.name, form.about, ["/".join(topic) for topic in form.match.topics], form.digest
            )
            for form in _forms(decoder).forms
        ]
        ours = [FormEntry(form.name, f"Becomes a {form.kind}", [], None) for form in FORMS]
        return FormEntries(entries + ours)

    @get("/{name:str}", raises=[NotFoundException])
    async def show_schema(name: FromPath[str]) -> dict[str, Any]:
        """Show the JSON Schema of the messages of one form."""
        form = _forms(decoder).named(name)
        if form is not None:
            return schema_of(form)
        schema = echo_schemas.schemas().get(name)
        if schema is None:
            raise NotFoundException(f"there is no form {name!r:.80}; /api/schemas lists all")
        return schema

    return Router("/api/schemas", route_handlers=[list_schemas, show_schema], tags=["forms"])


def _forms(decoder: Decoder) -> Forms:
    return decoder.forms or Forms(())
