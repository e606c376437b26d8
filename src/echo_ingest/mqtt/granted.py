"""What a broker has granted, compared with what the promise needs.

The promise needs a session that is kept while we are away, with messages at QoS 1 in it. A broker
may grant less of each, and says so in CONNACK [MQTT-3.2.2.3] and SUBACK [MQTT-3.9.3]. Messages that
arrive nevertheless are taken, but nobody may rely on those that do not.

Retained messages are not needed. What a broker limits without a word cannot be seen here: mosquitto
does not say that `persistent_client_expiration` ends our session earlier than we asked for.
"""

from collections.abc import Sequence

import mqtt5

from echo_ingest.mqtt.connection_errors import FAILURE, ConnectionLost
from echo_ingest.settings import PACKET_OVERHEAD_BYTES

EXPIRY_SECONDS_MIN = 60  # of IOT_SESSION_EXPIRY_SECONDS
QOS_0 = mqtt5.QoS.AT_MOST_ONCE


def require_wildcards(connack: mqtt5.ConnAckPacket, filters: Sequence[mqtt5.TopicFilter]) -> None:
    """Raise `ConnectionLost` if the broker takes no wildcards and `filters` have some."""
    with_wildcards = [each.pattern for each in filters if set(each.pattern) & {"+", "#"}]
    if with_wildcards and not connack.wildcard_subscription_available:
        raise ConnectionLost(
            f"the broker takes no subscription with wildcards, such as {with_wildcards[0]}: allow "
            "them at the broker"
        )


def keep_alive_seconds(connack: mqtt5.ConnAckPacket, ours: float) -> float:
    """Return how long the connection may be silent: the broker may set less [MQTT-3.1.2-21]."""
    return min(ours, connack.server_keep_alive or ours)


def shortfalls(
    connack: mqtt5.ConnAckPacket,
    *,
    client_id: str,
    expiry_seconds: int,
    payload_bytes_max: int | None,
) -> list[str]:
    """Return in words where CONNACK grants less than a durable session needs, with the remedies.

    `payload_bytes_max` is the size of messages that somebody has asked for; None if nobody has.
    """
    found = []
    if connack.assigned_client_id not in (None, client_id):
        found.append(
            "it has replaced the client id of our session, so messages may wait where we do not "
            "find them: let it accept the client ids of its clients (mosquitto: "
            "use_username_as_clientid false)"
        )
    granted_seconds = connack.session_expiry_interval
    if granted_seconds is not None and granted_seconds < expiry_seconds:
        remedy = "let it keep sessions longer"
        if granted_seconds >= EXPIRY_SECONDS_MIN:
            remedy += f", or set IOT_SESSION_EXPIRY_SECONDS={granted_seconds}"
        found.append(
            f"while we are away it keeps messages for {granted_seconds:,} s, and not for "
            f"{expiry_seconds:,} s: {remedy}"
        )
    if connack.max_qos == QOS_0:
        found.append(
            "it knows QoS 0 only, so it keeps nothing for us while we are away: allow QoS 1 "
            "(mosquitto: max_qos 1)"
        )
    packet_bytes_max = connack.max_packet_size
    if packet_bytes_max is not None:
        if packet_bytes_max < PACKET_OVERHEAD_BYTES:
            found.append(
                f"it takes packets of at most {packet_bytes_max:,} bytes, and a receipt may need "
                f"{PACKET_OVERHEAD_BYTES:,}: raise that limit (mosquitto: max_packet_size)"
            )
        elif payload_bytes_max is not None and packet_bytes_max < payload_bytes_max:
            found.append(
                f"it takes packets of at most {packet_bytes_max:,} bytes, so no device can send "
                f"the {payload_bytes_max:,} of IOT_PAYLOAD_BYTES_MAX: raise that limit (mosquitto: "
                f"max_packet_size), or set IOT_PAYLOAD_BYTES_MAX={packet_bytes_max}"
            )
    return found


def granted_qos_0(
    suback: mqtt5.SubAckPacket, filters: Sequence[mqtt5.TopicFilter], user: str | None
) -> list[str]:
    """Return in words which of the filters that were asked for at QoS 1 have less.

    Raises `ConnectionLost` if one is refused.
    """
    if len(suback.reason_codes) != len(filters):
        raise ConnectionLost(
            f"the broker answered {len(suback.reason_codes)} of our {len(filters)} subscriptions: "
            "it does not keep to MQTT; use another broker"
        )
    lower = []
    for topic_filter, code in zip(filters, suback.reason_codes, strict=True):
        if int(code) >= FAILURE:
            raise ConnectionLost(
                f"the broker refused the subscription to {topic_filter.pattern}: "
                f"{code.name.lower().replace('_', ' ')}; allow user {user!r} to read it"
            )
        if int(code) < int(topic_filter.max_qos):
            lower.append(topic_filter.pattern)
    if not lower:
        return []
    return [
        f"it has granted {', '.join(lower)} at QoS 0 only, so it keeps nothing of that for us "
        "while we are away: allow QoS 1"
    ]
