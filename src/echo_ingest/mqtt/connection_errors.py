"""Why a connection ended or a message was not accepted, in words that name the remedy."""

import mqtt5
from msgspec import Struct

from echo_ingest.settings import Endpoint, LocalEndpoint
from echo_ingest.settings.certificates import why_untrusted

FAILURE = 0x80  # reason codes from here on are failures [MQTT-2.4.0]; the codec's have no order


class OptionNames(Struct, frozen=True, kw_only=True):
    """What people call the options of a session, in remedies."""

    login: str = "IOT_USER and IOT_PASSWORD"
    client_id: str = "IOT_CLIENT_ID"
    other_client_id: str = (
        "let it accept client ids that begin with IOT_CLIENT_ID and a hyphen, or set IOT_CLIENT_ID "
        "to another one"
    )
    """What to do where the broker does not take our client id."""
    tls_ca_file: str = "IOT_TLS_CA_FILE"
    older: str = 'name it in a file for IOT_ENDPOINTS instead, with version = "3.1.1"'
    """What to do where the broker speaks 3.1.1 only."""

    @property
    def taken_over(self) -> str:
        """Return why a session was taken over, with the remedy."""
        return (
            "another client uses our client id and has taken over the session: stop that client, "
            f"or give this one another {self.client_id}"
        )


class ConnectionLost(Exception):
    """The connection ended; the text says why, in words."""


class ConnectionClosed(ConnectionLost):
    """The broker closed the connection without giving a reason."""


class LoginRefused(ConnectionLost):
    """The broker does not accept our name and password."""


class SessionTakenOver(ConnectionLost):
    """Another client with our client id connected [MQTT-3.1.4-3]."""


class PublishRefused(Exception):
    """The broker does not accept this message; the text says why."""


class PublishDenied(PublishRefused):
    """Our account may not publish on this topic."""


class PublishTooLarge(PublishRefused):
    """The broker takes no message of this size."""


def describe(
    packet: mqtt5.ConnAckPacket | mqtt5.PubAckPacket | mqtt5.DisconnectPacket,
    client_id: str,
    names: OptionNames,
) -> str:
    """Return the reason code of a packet in words, with the remedy where there is a known one.

    The broker's own words may contain our client id, which is a secret: it is left out.
    """
    code = packet.reason_code
    if code == mqtt5.ConnAckReasonCode.CLIENT_ID_NOT_VALID:
        return f"it does not take the name of our session: {names.other_client_id}"
    if code == mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
        return f"it does not speak this version of MQTT; {names.older}"
    text = packet.reason_str or code.name.lower().replace("_", " ")
    text = text.replace(client_id, "…") if client_id else text
    if code == mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD or (
        isinstance(packet, mqtt5.ConnAckPacket) and code == mqtt5.ConnAckReasonCode.NOT_AUTHORIZED
    ):
        return f"{text}; check {names.login}"
    return text


def why_disconnected(
    error: Exception, endpoint: Endpoint | LocalEndpoint, names: OptionNames
) -> str:
    """Return why there is no connection to `endpoint`."""
    if isinstance(error, ConnectionLost):
        return str(error)
    trust = (
        f"set {names.tls_ca_file} to the certificate of the authority that signed it, as a PEM file"
    )
    if untrusted := why_untrusted(error, trust):
        return f"{endpoint} cannot be trusted ({untrusted})"
    cause = error.strerror if isinstance(error, OSError) else None
    return (
        f"{endpoint} cannot be reached ({cause or error or type(error).__name__}): is it running?"
    )
