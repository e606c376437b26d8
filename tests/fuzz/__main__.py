"""`python -m tests.fuzz --inputs 1000000 --seed 7`: bad input at scale, on all cores.

Each input is made from the seed and its number; `--only NUMBER` shows one and judges it again.
"""

import argparse
import sys
import time
from collections import Counter

from echo_ingest.decode import Decoder
from tests.fuzz.campaign import Tally, judge_range
from tests.fuzz.cores import on_all_cores
from tests.fuzz.inputs import input_of
from tests.fuzz.judge import PAYLOAD_BYTES_MAX, judge
from tests.fuzz.shipped_examples import FORMS

SHOWN_BYTES_MAX = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="show and judge one input")
    arguments = parser.parse_args()
    if arguments.only is not None:
        show(arguments.seed, arguments.only)
        return
    started = time.monotonic()
    tally = campaign(arguments.seed, arguments.inputs)
    for number, text in tally.failures:
        print(f"input {number}: {text}")
        print(f"  replay: python -m tests.fuzz --seed {arguments.seed} --only {number}")
    seconds = time.monotonic() - started
    print(f"{tally.line()} seed={arguments.seed} seconds={seconds:.0f}")
    sys.exit(1 if tally.failures else 0)


def campaign(seed: int, inputs: int) -> Tally:
    """Judge a number of inputs in as many processes as there are cores."""
    tally = Tally(Counter(), [])
    for part in on_all_cores(judge_range, seed, inputs):
        tally.add(part)
    return tally


def show(seed: int, number: int) -> None:
    """Print an input and what decode says of it, then judge it."""
    message = input_of(seed, number)
    print(f"topic: {message.topic[:200]!r}")
    print(f"properties: {message.properties[:10]!r}")
    print(f"payload, {len(message.payload):,} bytes: {message.payload[:SHOWN_BYTES_MAX]!r}")
    print(Decoder(PAYLOAD_BYTES_MAX, forms=FORMS).decode(message))
    print(judge(message))


if __name__ == "__main__":
    main()
