"""Topic filters: which topics are ingested, and who speaks on them."""

RECEIPTS_PREFIX = "iotreceipts"
"""Below it this service tells a device that asked that its message is on disk."""
PROBE_PREFIX = "iotprobe"
"""Below it this service sends messages to itself."""

FILTER_BYTES_MAX = 65_535  # [MQTT-4.7.3-3]


def parse_topics(text: str) -> tuple[str, ...]:
    """The topic filters of a comma-separated list, as `effective_filter` makes them.

    Raises `ValueError` with the remedy in its text.
    """
    filters: list[str] = []
    for typed in text.split(","):
        added = effective_filter(typed.strip())
        for known in filters:
            if known != added and overlap(known, added):
                # [MQTT-3.3.4] a broker may send a copy for each
                raise ValueError(
                    f"{known} and {added} have topics in common, and what arrives there would "
                    "arrive twice: leave one out"
                )
        if added not in filters:
            filters.append(added)
    return tuple(filters)


def effective_filter(text: str) -> str:
    """The filter to subscribe: one without a wildcard means that topic and all below it.

    Raises `ValueError` with the remedy in its text.
    """
    levels = text.split("/")
    effective = text if "+" in text or "#" in text else f"{text}/#"
    if not text or not text.isprintable() or len(effective.encode()) > FILTER_BYTES_MAX:
        raise ValueError("type topics with a comma between, such as iotingestion/#")
    if text.startswith("$"):  # [MQTT-4.7.2-1]
        raise ValueError(f"leave out {text}: what begins with $ is the broker's own")
    if "#" in text[:-1] or any(len(level) > 1 and set(level) & {"+", "#"} for level in levels):
        # [MQTT-4.7.1-1] and [MQTT-4.7.1-2]
        raise ValueError(f"in {text} each + must fill a level, and # the last one")
    if levels[-1] == "":
        raise ValueError(f"{text} ends with /: type {text.rstrip('/') or 'iotingestion'}/#")
    for own in (RECEIPTS_PREFIX, PROBE_PREFIX):
        if overlap(effective, f"{own}/#"):
            raise ValueError(
                f"{text} takes in {own}/, where this service itself speaks: begin with the level "
                "that the devices publish below, such as iotingestion/#"
            )
    return effective


def overlap(one: str, other: str) -> bool:
    """Is there a topic that both filters match? [MQTT-4.7.1]"""
    ours, theirs = one.split("/"), other.split("/")
    for our, their in zip(ours, theirs, strict=False):
        if "#" in (our, their):
            return True
        if our != their and "+" not in (our, their):
            return False
    rest = ours[len(theirs) :] or theirs[len(ours) :]
    return rest in ([], ["#"])  # a/# matches a as well [MQTT-4.7.1.2]


def prefixes(filters: tuple[str, ...]) -> tuple[str, ...]:
    """The levels before the first wildcard of each filter, the longest first."""
    found = set()
    for topic_filter in filters:
        levels = topic_filter.split("/")
        wildcards = (index for index, level in enumerate(levels) if level in ("+", "#"))
        found.add("/".join(levels[: next(wildcards, len(levels))]))
    return tuple(sorted(found, key=lambda prefix: (-len(prefix), prefix)))


def node_of(topic: str, prefixes: tuple[str, ...]) -> str | None:
    """Who sent a message: the topic level after the first prefix that fits, if there is one."""
    for prefix in prefixes:
        if topic.startswith(f"{prefix}/"):
            return topic[len(prefix) + 1 :].partition("/")[0] or None
    return None
