"""`python -m tests.fuzz.meaning --inputs 1000000 --seed 7`: does a record say what is true?

Each message is made of a truth, by the seed and its number. Its record must equal the truth, say
that it does not believe the device, or be rejected where that is right; everything else is wrong.
`--only NUMBER` shows one message and judges it again.
"""

import argparse
import sys
import time
from collections import Counter

from msgspec import Struct

from echo_ingest.decode import Decoder
from tests.fuzz.cores import on_all_cores
from tests.fuzz.form_meaning import judge_form_meaning
from tests.fuzz.form_truths import FormCase
from tests.fuzz.meaning_judge import (
    OUTCOMES,
    PAYLOAD_BYTES_MAX,
    WRONG,
    judge_meaning,
    received,
    rules_of,
)
from tests.fuzz.shipped_examples import FORMS
from tests.fuzz.true_forms import form_case_of
from tests.fuzz.true_messages import case_of
from tests.fuzz.truths import Case

WRONG_SHOWN_MAX = 20
SHOWN_BYTES_MAX = 3_000
FORM_ONE_IN = 3
"""One message in so many is that of another maker's device, in a shipped form."""


class MeaningTally(Struct):
    """What became of a range of messages."""

    outcomes: Counter[str]
    labels: Counter[str]
    """How often each way of writing was tried."""
    wrong: list[tuple[int, tuple[str, ...]]]
    """The numbers of wrong ones, and what is wrong."""
    wrong_labels: Counter[str]
    payload_bytes: int = 0

    def add(self, other: "MeaningTally") -> None:
        self.outcomes += other.outcomes
        self.labels += other.labels
        self.wrong += other.wrong
        self.wrong_labels += other.wrong_labels
        self.payload_bytes += other.payload_bytes

    def line(self) -> str:
        """Return all figures on one line."""
        outcomes = " ".join(f"{outcome}={self.outcomes[outcome]}" for outcome in OUTCOMES)
        label, fewest = min(self.labels.items(), key=lambda each: (each[1], each[0]))
        return (
            f"inputs={self.outcomes.total()} {outcomes} ways={len(self.labels)}"
            f" fewest={fewest} ({label}) payload_mb={self.payload_bytes / 1e6:.0f}"
        )


def any_case_of(seed: int, number: int) -> Case | FormCase:
    """Return a message and what is true of it, in one of our own dialects or in a shipped form."""
    if number % FORM_ONE_IN == 0:
        return form_case_of(seed, number)
    return case_of(seed, number)


# ------------------------------------------------------------------ the campaign


def judge_meanings(seed: int, numbers: range) -> MeaningTally:
    """Judge the messages with these numbers."""
    tally = MeaningTally(Counter(), Counter(), [], Counter())
    for number in numbers:
        case = any_case_of(seed, number)
        outcome, complaints = _outcome(case)
        tally.outcomes[outcome] += 1
        tally.labels.update(case.labels)
        tally.payload_bytes += len(case.message.payload)
        if complaints:
            tally.wrong.append((number, complaints))
            tally.wrong_labels.update(case.labels)
    return tally


def _outcome(case: Case | FormCase) -> tuple[str, tuple[str, ...]]:
    try:
        return _judged(case)
    except BaseException as broken:  # a panic of compiled code is no Exception
        if isinstance(broken, KeyboardInterrupt | SystemExit):
            raise
        return WRONG, (f"{type(broken).__name__}: {broken}",)


def _judged(case: Case | FormCase) -> tuple[str, tuple[str, ...]]:
    return judge_form_meaning(case) if isinstance(case, FormCase) else judge_meaning(case)


def meaning_campaign(seed: int, inputs: int) -> MeaningTally:
    """Judge a number of messages in as many processes as there are cores."""
    tally = MeaningTally(Counter(), Counter(), [], Counter())
    for part in on_all_cores(judge_meanings, seed, inputs):
        tally.add(part)
    return tally


def show_meaning(seed: int, number: int) -> None:
    """Print a message, its truth and its records, and judge it."""
    case = any_case_of(seed, number)
    message = case.message
    print(f"written as: {', '.join(case.labels)}")
    print(f"site: {case.site}; received at {received(message)}")
    print(f"topic: {message.topic!r}; properties: {message.properties!r}")
    print(f"payload, {len(message.payload):,} bytes: {message.payload[:SHOWN_BYTES_MAX]!r}")
    truth = case.truths if isinstance(case, FormCase) else case.truth
    print(f"truth: {str(truth)[:SHOWN_BYTES_MAX]}")
    print(f"may be rejected: {case.refusal}")
    print(Decoder(PAYLOAD_BYTES_MAX, rules_of(case.site), FORMS).decode(message))
    outcome, complaints = _judged(case)
    print(outcome, *complaints, sep="\n  ")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.meaning", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="show and judge one message")
    arguments = parser.parse_args()
    if arguments.only is not None:
        show_meaning(arguments.seed, arguments.only)
        return
    started = time.monotonic()
    tally = meaning_campaign(arguments.seed, arguments.inputs)
    for number, complaints in sorted(tally.wrong)[:WRONG_SHOWN_MAX]:
        case = any_case_of(arguments.seed, number)
        print(f"message {number}, {', '.join(case.labels)}:")
        print(*(f"  {complaint[:300]}" for complaint in complaints), sep="\n")
        print(f"  {case.message.payload[:200]!r}")
        print(f"  replay: python -m tests.fuzz.meaning --seed {arguments.seed} --only {number}")
    if tally.wrong:
        shares = {label: count / tally.labels[label] for label, count in tally.wrong_labels.items()}
        for label in sorted(shares, key=lambda each: -shares[each])[:WRONG_SHOWN_MAX]:
            wrong, tried = tally.wrong_labels[label], tally.labels[label]
            print(f"{label}: {wrong} of {tried} are wrong")
    seconds = time.monotonic() - started
    print(f"{tally.line()} seed={arguments.seed} seconds={seconds:.0f}")
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
