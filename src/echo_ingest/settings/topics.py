"""Topic filters: which topics are ingested, and which node publishes on them."""

from echo_ingest.record import ACCOUNTS, NODE_CHARACTERS_MAX

RECEIPTS_PREFIX = "iotreceipts"
"""Below this topic the service confirms to a device that asked that its message is on disk."""
LOOPBACK_PREFIX = "iotprobe"
"""Below this topic the service sends messages to itself, for the loopback check."""

FILTER_BYTES_MAX = 65_535  # [MQTT-4.7.3-3]
SEPARATORS_MAX = 200
"""Of the levels of a topic: mosquitto ends the connection on which one with more is published."""


def parse_topics(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of topics into filters, each made by `effective_filter`.

    Raises `ValueError` with the remedy in its text.
    """
    filters: list[str] = []
    for part in text.split(","):
        new = effective_filter(part.strip())
        for earlier in filters:
            if earlier != new and overlap(earlier, new):
                # [MQTT-3.3.4] a broker may send one copy for each filter
                raise ValueError(
                    f"{earlier} and {new} have topics in common, and messages on those would "
                    "arrive twice: leave one of them out"
                )
        if new not in filters:
            filters.append(new)
    return tuple(filters)


def effective_filter(text: str) -> str:
    """Return the filter to subscribe to: without a wildcard, a topic includes all below it.

    Raises `ValueError` with the remedy in its text.
    """
    levels = text.split("/")
    effective = text if "+" in text or "#" in text else f"{text}/#"
    if not text or not text.isprintable() or len(effective.encode()) > FILTER_BYTES_MAX:
        raise ValueError("type topics separated by commas, such as iotingestion/#")
    if text.startswith("$"):  # [MQTT-4.7.2-1]
        raise ValueError(f"leave out {text}: topics that begin with $ belong to the broker")
    if "#" in text[:-1] or any(len(level) > 1 and set(level) & {"+", "#"} for level in levels):
        # [MQTT-4.7.1-1] and [MQTT-4.7.1-2]
        raise ValueError(f"in {text} each + must fill a whole level, and # the whole last level")
    if levels[-1] == "":
        raise ValueError(f"{text} ends with /: type {text.rstrip('/') or 'iotingestion'}/#")
    for reserved in (RECEIPTS_PREFIX, LOOPBACK_PREFIX, ACCOUNTS):
        if overlap(effective, f"{reserved}/#"):
            raise ValueError(
                f"{text} includes {reserved}/, where this service itself publishes: begin with the "
                "level below which the devices publish, such as iotingestion/#"
            )
    return effective


def overlap(one: str, other: str) -> bool:
    """Return whether there is a topic that both filters match. [MQTT-4.7.1]"""
    first, second = one.split("/"), other.split("/")
    for level, other_level in zip(first, second, strict=False):
        if "#" in (level, other_level):
            return True
        if level != other_level and "+" not in (level, other_level):
            return False
    rest = first[len(second) :] or second[len(first) :]
    return rest in ([], ["#"])  # a/# matches a as well [MQTT-4.7.1.2]


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether a topic is one of a filter. [MQTT-4.7.1], [MQTT-4.7.2-1]"""
    return not topic.startswith("$") and overlap(topic_filter, topic)


def prefixes(filters: tuple[str, ...]) -> tuple[str, ...]:
    """Return the levels before the first wildcard of each filter, the longest first."""
    fixed_levels = set()
    for topic_filter in filters:
        levels = topic_filter.split("/")
        wildcards = (index for index, level in enumerate(levels) if level in ("+", "#"))
        fixed_levels.add("/".join(levels[: next(wildcards, len(levels))]))
    return tuple(sorted(fixed_levels, key=lambda prefix: (-len(prefix), prefix)))


def node_of(topic: str, prefixes: tuple[str, ...]) -> str | None:
    """Return the node that published: the level after the first prefix that fits, if any.

    No node has a name of more than `NODE_CHARACTERS_MAX` characters.
    """
    for prefix in prefixes:
        if topic.startswith(f"{prefix}/"):
            name = topic[len(prefix) + 1 :].partition("/")[0]
            return name if 0 < len(name) <= NODE_CHARACTERS_MAX else None
    return None
