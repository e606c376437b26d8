"""What an unlucky broker could hand us: of a seed and a number always the same."""

import base64
import json
from collections.abc import Callable
from random import Random

from echo_ingest.record import Message
from echo_ingest.settings import node_of
from tests.decode.messages import RECEIVED_AT_MS
from tests.fuzz import sounds
from tests.fuzz.damage import damaged, value
from tests.fuzz.form_inputs import form_message
from tests.fuzz.seeds import OBJECTS, REAL
from tests.fuzz.vocabulary import (
    INNER,
    LIKELY,
    NAMES,
    NUMBERS,
    OPENINGS,
    PREFIXES,
    PROPERTIES,
    RESPONSE_TOPICS,
    TOPICS,
    WORDS,
)

FORM_SHARE = 0.5
"""How many of the messages are made from the examples of shipped forms."""


def input_of(seed: int, number: int) -> Message:
    """Return the message; it is the same wherever the same real payloads are at hand."""
    rng = Random(f"form/{seed}/{number}")
    if rng.random() < FORM_SHARE:
        return form_message(rng)
    return own_input_of(seed, number)


def own_input_of(seed: int, number: int) -> Message:
    """Return one in our own dialects, or near them, below the topics of our own."""
    rng = Random(f"{seed}/{number}")
    (make,) = rng.choices(list(KINDS), list(KINDS.values()))
    topic = rng.choice(TOPICS) if rng.random() < 0.2 else f"{PREFIXES[0]}/ridge-0{rng.randrange(9)}"
    asks = rng.random() < 0.2
    return Message(
        topic,
        make(rng),
        RECEIVED_AT_MS,
        node=node_of(topic, PREFIXES),
        properties=_properties(rng) if rng.random() < 0.3 else (),
        redelivered=rng.random() < 0.1,
        response_topic=rng.choice(RESPONSE_TOPICS) if asks else None,
        correlation_data=rng.randbytes(rng.choice((0, 4, 65_535))) if asks else None,
    )


def raw_bytes(rng: Random) -> bytes:
    """Return noise, often behind the first bytes of something valid."""
    opening = rng.choice(OPENINGS) if rng.random() < 0.7 else b""
    return opening + rng.randbytes(int(2 ** rng.uniform(0, 11)) - 1)


def torn(rng: Random) -> bytes:
    """Return a damaged real payload."""
    return damaged(rng, rng.choice(REAL), REAL)


def twisted(rng: Random) -> bytes:
    """Return a real object whose fields are renamed, repeated, left out, or wrong."""
    fields = [(name, json.dumps(value)) for name, value in rng.choice(OBJECTS).items()]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        name = rng.choice(NAMES) if rng.random() < 0.7 else rng.choice((*INNER, *WORDS))
        content = value(rng) if rng.random() < 0.5 else rng.choice(LIKELY)
        match rng.randrange(4):
            case 0 if fields:
                at = rng.randrange(len(fields))
                fields[at] = (fields[at][0], content)
            case 1 if fields:
                del fields[rng.randrange(len(fields))]
            case 2 if fields:
                fields.append((rng.choice(fields)[0], content))
            case _:
                fields.append((name, content))
    if rng.random() < 0.2:
        rng.shuffle(fields)
    space = rng.choice(("", "", " ", "\n\t"))
    text = ",".join(f"{space}{json.dumps(name)}:{space}{content}" for name, content in fields)
    return ("{" + text + space + "}").encode("utf-8", "surrogatepass")


def audio(rng: Random) -> bytes:
    """Return a hostile audio file: as it is, or as base64 in a field."""
    data = sounds.hostile(rng)
    if rng.random() < 0.5:
        return data
    text = base64.b64encode(data).decode()
    if rng.random() < 0.2:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice((r"\r\n", "=", "==", "-", "_", "\u00e9", " ")) + text[at:]
    name = rng.choice(("audio_file", "audioClip"))
    rest = '"species":"Crinia signifera","source_model":"m",' if rng.random() < 0.3 else ""
    return f'{{{rest}"{name}":"{text}"}}'.encode()


def large(rng: Random) -> bytes:
    """Return a payload that is deep, long or has many parts; at most 200 kB, to save time."""
    size = int(2 ** rng.uniform(6, 17))
    inside = rng.choice(
        (
            "[" * size,
            '{"a":' * size,
            "[" * rng.randint(200, 300) + "]" * rng.randint(200, 300),
            "[" + ",".join(rng.choices(NUMBERS[:8], k=min(size, 10_100))) + "]",
            "9" * size,
            "-" + "9" * min(size, 5_000),
            "0." + "3" * size,
            '"' + "a" * size + '"',
            '"' + r"\u00e9" * (size // 6) + '"',
            '"' + "\U0001f438" * (size // 4) + '"',
            '"' + base64.b64encode(bytes(size)).decode() + '"',
            '"UklGR' + "A" * size + '"',
            '"' + r"AA\n" * (size // 4) + '"',
            "{" + ",".join(f'"k{n}":{n}' for n in range(min(size, 10_100))) + "}",
            "[" + ",".join(['{"label":"x","confidence":1}'] * rng.randint(90, 110)) + "]",
        )
    )
    name = rng.choice(NAMES)
    if rng.random() < 0.1:
        return inside.encode()
    return f'{{"{name}":{inside},"sensorId":"s","status":"online"}}'.encode()


KINDS: dict[Callable[[Random], bytes], int] = {
    raw_bytes: 15,
    torn: 30,
    twisted: 35,
    audio: 18,
    large: 2,
}
"""What kinds of input are made, and how often."""


def _properties(rng: Random) -> tuple[tuple[str, str], ...]:
    names = (*PROPERTIES, *PROPERTIES, *WORDS)
    count = rng.choice((1, 1, 2, 3, 8, 300))
    return tuple((rng.choice(names), rng.choice((*WORDS, *NUMBERS))) for _ in range(count))
