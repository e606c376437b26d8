"""Damage to a real payload, and values that some device might write by mistake."""

import base64
import json
from collections.abc import Sequence
from random import Random

from tests.fuzz import sounds
from tests.fuzz.vocabulary import ESCAPES, INNER, NAMES, NUMBERS, WORDS


def damaged(rng: Random, payload: bytes, others: Sequence[bytes]) -> bytes:
    """Return a payload with bytes changed, cut out, repeated, or replaced by those of another."""
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        cut = rng.choice((0, 1, 1, 2, 8, 100))
        match rng.choice((0, 1, 2, 3, 3, 3, 3, 4)):
            case 0:
                data[at : at + cut] = rng.randbytes(rng.randrange(9))
            case 1:
                data[at : at + cut] = data[at : at + cut] * rng.choice((0, 2, 50))
            case 2:
                other = rng.choice(others)
                start = rng.randrange(len(other) or 1)
                data[at : at + cut] = other[start : start + 200]
            case 3:
                data[at : at + 1] = bytes(b ^ 1 << rng.randrange(8) for b in data[at : at + 1])
            case _:
                del data[at + 1 :]
    return bytes(data)


def value(rng: Random, depth: int = 0) -> str:
    """Return a JSON value as text, or something that only looks like one."""
    match rng.randrange(9 if depth < 3 else 6):
        case 0 | 1:
            return rng.choice(NUMBERS)
        case 2:
            length = rng.choice((3, 17, 25, 320, 4_299, 4_301))
            digits = "".join(rng.choices("0123456789", k=length))
            return rng.choice(("", "-", "0.", "1e", "1")) + digits
        case 3 | 4:
            return json.dumps(rng.choice(WORDS), ensure_ascii=rng.random() < 0.5)
        case 5:
            return rng.choice(("null", "true", "false", "", "nul", f'"{rng.choice(ESCAPES)}"'))
        case 6:
            return f"[{','.join(value(rng, depth + 1) for _ in range(rng.randrange(5)))}]"
        case 7:
            names = rng.choices((*INNER, *NAMES), k=rng.randrange(5))
            return f"{{{','.join(f'{json.dumps(n)}:{value(rng, depth + 1)}' for n in names)}}}"
        case _:
            return f'"{base64.b64encode(sounds.hostile(rng)).decode()}"'
