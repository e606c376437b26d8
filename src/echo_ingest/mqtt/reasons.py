"""Why a connection ended or a message was not taken, in words that name the remedy."""

import mqtt5

from echo_ingest.settings import Endpoint, LocalEndpoint

FAILURE = 0x80  # reason codes from here on say no [MQTT-2.4.0]; the codec's cannot be ordered
TAKEN_OVER = (
    "another client uses our client id and has taken the session over: stop the other one, or "
    "give this one its own IOT_CLIENT_ID"
)


class ConnectionLost(Exception):
    """The connection ended; the text says why, in words."""


class ConnectionClosed(ConnectionLost):
    """The broker closed the connection without a word."""


class SessionTakenOver(ConnectionLost):
    """Another client with our client id connected [MQTT-3.1.4-3]."""


class PublishRefused(Exception):
    """The broker does not take this message; the text says why."""


def words(packet: mqtt5.ConnAckPacket | mqtt5.PubAckPacket | mqtt5.DisconnectPacket) -> str:
    """A reason code as a person would say it, with what to do where that is known."""
    code = packet.reason_code
    text = packet.reason_str or code.name.lower().replace("_", " ")
    if code == mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD or (
        isinstance(packet, mqtt5.ConnAckPacket) and code == mqtt5.ConnAckReasonCode.NOT_AUTHORIZED
    ):
        return f"{text}; check IOT_USER and IOT_PASSWORD"
    return text


def reason(error: Exception, endpoint: Endpoint | LocalEndpoint) -> str:
    """Why there is no connection to `endpoint`."""
    if isinstance(error, ConnectionLost):
        return str(error)
    why = error.strerror if isinstance(error, OSError) else None
    return f"{endpoint} cannot be reached ({why or error or type(error).__name__}): does it run?"
