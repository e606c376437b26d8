"""`python -m tests.siege.attackers KIND SEED ADDRESS SECONDS`: one bout, outside the limits.

The target comes as JSON on standard input, and what was answered goes to standard output as JSON.
"""

import asyncio
import contextlib
import sys
from random import Random

import msgspec

from tests.siege.attackers import Attacker, Refused, Target
from tests.siege.attackers.kinds import ATTACKS

OVERTIME_SECONDS = 15.0
"""How long an attack may take to end after its time: it may wait for an answer."""


async def bout(kind: str, attacker: Attacker, seconds: float) -> None:
    """Run one attack; a server that lets nobody in, or not any more, ends it."""
    try:
        async with asyncio.timeout(seconds + OVERTIME_SECONDS):
            await ATTACKS[kind](attacker)
    except TimeoutError:
        attacker.note("no answer")
    except Refused as refused:
        attacker.note(str(refused))
    except (OSError, EOFError):
        attacker.note("closed")


def main() -> None:
    kind, seed, address, seconds = sys.argv[1:]
    target = msgspec.json.decode(sys.stdin.buffer.read(), type=Target)
    attacker = Attacker(target, Random(seed), address, float(seconds))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(bout(kind, attacker, float(seconds)))
    sys.stdout.buffer.write(msgspec.json.encode(attacker.answers))


if __name__ == "__main__":
    main()
