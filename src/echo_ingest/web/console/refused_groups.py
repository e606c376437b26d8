"""The groups of refused messages: by which parameters an address or a form means one of them."""

from collections.abc import Mapping

from litestar.exceptions import NotFoundException

from echo_ingest.almanac import Almanac, RefusedGroup
from echo_ingest.almanac.refusals import ReasonKey
from echo_ingest.web.console.rendering import query

NUMBER_DIGITS_MAX = 15
GONE = (
    "No messages are refused for that reason any more: they were replayed, or the reason changed."
)


def group_fields(sink: str | None, key: ReasonKey, node: str | None) -> dict[str, str | None]:
    """Return the parameters of a group, for an address and for a form."""
    return {
        "sink": sink,
        "code": key.code or None,
        "field": key.field or None,
        "reason": key.text or None,
        "node": node,
    }


def group_address(
    sink: str | None, key: ReasonKey, node: str | None, before: int | None = None
) -> str:
    """Return the address of a group's page, of the messages `before` a number."""
    return query("/console/refused/group", {**group_fields(sink, key, node), "before": before})


def make_form_address(key: ReasonKey, node: str | None, shown: int | None = None) -> str:
    """Return where a form is made for a group of dead letters, beginning with one of them."""
    return query("/console/make-form", {**group_fields(None, key, node), "show": shown})


def key_of(parameters: Mapping[str, str]) -> ReasonKey:
    """Read a group's key from the parameters that `group_fields` gives."""
    code = parameters.get("code", "")
    if code:
        return ReasonKey(code=code, field=parameters.get("field", ""))
    return ReasonKey(text=parameters.get("reason", ""))


def find_group(
    almanac: Almanac, sink: str | None, key: ReasonKey, node: str | None
) -> RefusedGroup:
    """Return the group as it is now; raise `NotFoundException` where there is none."""
    for group in almanac.refused(node):
        if (group.sink, group.key) == (sink, key):
            return group
    raise NotFoundException(GONE)


def is_number(text: str) -> bool:
    """Return whether a parameter is a whole number that the journal may have."""
    return text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX
