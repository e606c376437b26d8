"""The client id of the session in which devices' messages wait for us.

A client with any account that knows the id of a session can take it over, or discard it with all
messages that wait in it. So the id ends with a part that nobody can guess. It is kept in the data
folder, and what waits is found again under it.

- At the broker beside us the part is random (`secrets/session`), and the folder has the queues too.
- At a broker elsewhere the session outlasts this folder. So the part is derived from our password
  there, if we have one, and comes out the same in a new folder; and it is kept
  (`secrets/session-<IOT_CLIENT_ID>`), so that a new password does not change it.
- At a broker of `IOT_ENDPOINTS` the part is derived or random in the same way, for each of them,
  and kept (`secrets/session-endpoint-<name>`); or the person has given the whole name.
- Earlier versions used `IOT_CLIENT_ID` alone at a broker elsewhere. Where the journal knows such
  a session, it stays in use: messages may wait in it.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable

from msgspec import Struct

from echo_ingest.broker.configuration import SERVICE
from echo_ingest.settings import (
    Endpoint,
    EndpointEntry,
    LocalEndpoint,
    Settings,
    load_or_create_secret,
    parse_endpoint,
)

DERIVED_CHARACTERS = 24
RANDOM_CHARACTERS_MIN = 10
CHANGE_OVER = (
    "to change over without losing a message, set IOT_CLIENT_ID to another name and start the "
    "service until it is ready; set it back and start it once more, to get what came in between; "
    "then set the other name for good"
)


class SessionName(Struct, frozen=True, kw_only=True):
    """The name of our session at a broker."""

    client_id: str
    remembered_as: str
    """Its name in the journal, which does not contain what nobody may know."""
    can_be_guessed: bool = False

    def __repr__(self) -> str:
        return f"SessionName({self.remembered_as!r})"


def session_name(
    settings: Settings, endpoint: Endpoint | LocalEndpoint, remembered: Iterable[str]
) -> SessionName:
    """Return the name of our session; the part that nobody can guess is made if it is missing.

    `remembered` are the names that the journal knows.
    """
    if isinstance(endpoint, LocalEndpoint):
        part, _ = load_or_create_secret(settings.data_dir, "session")
        return SessionName(
            client_id=f"{settings.client_id}-{part}",
            remembered_as=f"{settings.client_id}@{endpoint}",
        )
    if (earlier := earlier_name(settings, endpoint, remembered)) is not None:
        return earlier
    part, _ = load_or_create_secret(
        settings.data_dir,
        f"session-{settings.client_id}",
        make=lambda: _derived(
            settings.password.get_secret_value() if settings.password else None, settings.client_id
        ),
    )
    return SessionName(
        client_id=f"{settings.client_id}-{part}",
        remembered_as=f"{settings.client_id}-*@{endpoint}",
    )


def endpoint_session_name(settings: Settings, entry: EndpointEntry) -> SessionName:
    """Return the name of our session at a broker of `IOT_ENDPOINTS`."""
    # The name comes first: what begins with `IOT_CLIENT_ID` may be a session of `IOT_ENDPOINT`.
    remembered_as = f"endpoint {entry.name}@{entry.url}"
    if entry.client_id is not None:
        return SessionName(client_id=entry.client_id, remembered_as=remembered_as)
    beginning = f"{settings.client_id}-{entry.name}"
    part, _ = load_or_create_secret(
        settings.data_dir,
        f"session-endpoint-{entry.name}",
        make=lambda: _derived(entry.password, beginning),
    )
    return SessionName(client_id=f"{beginning}-{part}", remembered_as=remembered_as)


def earlier_name(
    settings: Settings, endpoint: Endpoint | LocalEndpoint, remembered: Iterable[str]
) -> SessionName | None:
    """Return the name that an earlier version gave to our session at that broker, if it did."""
    if isinstance(endpoint, LocalEndpoint):
        return None
    for name in remembered:
        client_id, _, address = name.partition("@")
        if client_id == settings.client_id and _host(address) == endpoint.host:
            return SessionName(
                client_id=client_id, remembered_as=name, can_be_guessed=can_be_guessed(client_id)
            )
    return None


def can_be_guessed(client_id: str) -> bool:
    """Return whether a client id has no part that looks random: letters and digits, mixed."""
    return not any(
        len(part) >= RANDOM_CHARACTERS_MIN
        and re.search("[0-9]", part)
        and re.search("[^0-9]", part)
        for part in re.split("[._-]", client_id)
    )


def without_session_names(line: str, client_id: str) -> str:
    """Return a line of mosquitto's log without what nobody may know: the names of our sessions.

    The broker does not know what a service on another machine calls its session. So all that looks
    like such a name is left out.
    """
    beginnings = "|".join(re.escape(each) for each in {SERVICE, client_id})
    line = re.sub(rf"(?<![\w.-])({beginnings})-[\w.-]*\w", r"\1-…", line)
    return re.sub(r"(?<![^\W_])[0-9a-f]{16,}(?![^\W_])", "…", line)


def _derived(password: str | None, client_id: str) -> str | None:
    """Return a part that only someone with the password can find again; None without one."""
    if password is None:
        return None
    return hmac.new(password.encode(), client_id.encode(), hashlib.sha256).hexdigest()[
        :DERIVED_CHARACTERS
    ]


def _host(address: str) -> str | None:
    try:
        return parse_endpoint(address).host
    except ValueError:  # the socket of a broker beside us
        return None
