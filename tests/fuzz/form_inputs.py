"""What an unlucky broker could hand us of other makers' devices: from the shipped forms' examples.

Bytes are damaged, values at any place are replaced, lists and tables become long, and topics lose
levels or get others. Most of it still is in the form that it was made from.
"""

import json
import re
from copy import deepcopy
from random import Random
from typing import Any

from echo_ingest.record import Message
from tests.fuzz.damage import damaged, value
from tests.fuzz.shipped_examples import EXAMPLES, ShippedExample
from tests.fuzz.vocabulary import FORM_LEVELS, FORM_VALUES, LIKELY, NUMBERS, WORDS

PAYLOADS = tuple(each.payload for each in EXAMPLES)
LONG_PAYLOAD_BYTES_MAX = 200_000
"""To save time."""
MARK = "\x00{}\x00"
MARKED = re.compile(r'"\\u0000(\d+)\\u0000"')
NAME = re.compile(r'"[^"]+": ')
CELL = re.compile(r"[^;,|\t\n]+")
STATIONS = (None, None, "station-1")
"""Whose account the broker knows, where the topic does not name the node."""


def form_message(rng: Random) -> Message:
    """Return a message that is, or nearly is, in one of the shipped forms."""
    example = rng.choice(EXAMPLES)
    make = rng.choices(
        (_as_it_is, _damaged, _replaced, _replaced, _long), weights=(3, 17, 35, 35, 10)
    )[0]
    topic = example.topic if rng.random() < 0.8 else _wrong_topic(rng, example.topic)
    return Message(topic, make(rng, example), example.received_at_ms, node=rng.choice(STATIONS))


def _as_it_is(_rng: Random, example: ShippedExample) -> bytes:
    return example.payload


def _damaged(rng: Random, example: ShippedExample) -> bytes:
    return damaged(rng, example.payload, PAYLOADS)


def _replaced(rng: Random, example: ShippedExample) -> bytes:
    """Return the example with values replaced: of JSON at any path, of text in any cell."""
    if example.document is None:
        return _cells_replaced(rng, example.payload)
    document = [deepcopy(example.document)]
    contents: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        container, key = rng.choice(list(_places(document)))
        match rng.choice((0, 0, 0, 0, 1, 2, 3)):
            case 0:
                contents.append(_content(rng))
                container[key] = MARK.format(len(contents) - 1)
            case 1 if len(container) > 1:
                del container[key]
            case 2 if isinstance(container, dict):
                container[rng.choice(WORDS)] = container.pop(key)
            case _:
                container[key] = [container[key]] * rng.randrange(4)
    text = json.dumps(document[0] if document else None, ensure_ascii=rng.random() < 0.5)
    text = MARKED.sub(lambda found: contents[int(found[1])], text)
    if rng.random() < 0.05:
        again = rng.choice(LIKELY)
        text = NAME.sub(lambda name: f"{name[0]}{again}, {name[0]}", text, count=1)
    return text.encode("utf-8", "surrogatepass")


def _cells_replaced(rng: Random, payload: bytes) -> bytes:
    text = payload.decode("utf-8", "surrogateescape")
    cells = list(CELL.finditer(text))
    for cell in sorted(rng.sample(cells, min(len(cells), rng.choice((1, 1, 2, 5)))), key=_last):
        content = rng.choice((*NUMBERS, *WORDS, *FORM_VALUES)).strip('"')
        text = text[: cell.start()] + content + text[cell.end() :]
    return text.encode("utf-8", "surrogateescape")


def _last(cell: re.Match[str]) -> int:
    return -cell.start()


def _long(rng: Random, example: ShippedExample) -> bytes:
    """Return the example with a list, an object or a table made long."""
    times = rng.choice((2, 50, 999, 1_001, 5_000))
    if example.document is None:
        head, line, rest = example.payload.partition(b"\n")
        part = rest or example.payload
        return head + line + part * min(times, LONG_PAYLOAD_BYTES_MAX // max(len(part), 1))
    document = [deepcopy(example.document)]
    holders = [
        holder[key] for holder, key in _places(document) if holder[key] and _is_many(holder[key])
    ]
    many = rng.choice(holders)
    size = max(len(json.dumps(many)), 1)
    times = min(times, max(LONG_PAYLOAD_BYTES_MAX // size, 2))
    if isinstance(many, list):
        many *= times
    else:
        first = next(iter(many.values()))
        many |= {f"{key} {number}": first for number, key in enumerate(list(many) * times)}
    return json.dumps(document[0]).encode()


def _is_many(value: object) -> bool:
    return isinstance(value, list | dict)


def _places(container: Any) -> "list[tuple[Any, Any]]":
    """Return each place in a document: what holds it, and its key or index there."""
    found: list[tuple[Any, Any]] = []
    for key, inside in list(
        container.items() if isinstance(container, dict) else enumerate(container)
    ):
        found.append((container, key))
        if isinstance(inside, list | dict):
            found += _places(inside)
    return found


def _content(rng: Random) -> str:
    match rng.randrange(3):
        case 0:
            return rng.choice(FORM_VALUES)
        case 1:
            return rng.choice(LIKELY)
    return value(rng)


def _wrong_topic(rng: Random, topic: str) -> str:
    levels = topic.split("/")
    at = rng.randrange(len(levels))
    match rng.randrange(5):
        case 0 if len(levels) > 1:
            del levels[at]
        case 1:
            levels.insert(at, rng.choice(FORM_LEVELS))
        case 2:
            levels[at] = rng.choice(FORM_LEVELS)
        case 3:
            levels += levels * rng.randrange(20)
        case _:
            return rng.choice(EXAMPLES).topic
    return "/".join(levels)
