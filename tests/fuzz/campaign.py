"""Many inputs through `judge`, with what they cost; a part of them in each process."""

import faulthandler
import resource
import signal
import time
import tracemalloc
from collections import Counter
from types import FrameType

from msgspec import Struct

from echo_ingest.record import KINDS, Message
from tests.fuzz.inputs import input_of
from tests.fuzz.judge import IGNORED, REJECTED, judge

CPU_SECONDS_MAX = 1.0
"""For one input, judged: decoded twice, its clip taken out, its bodies made for both schemas."""
HANGS_AFTER_SECONDS = 60
WEIGHED_EACH = 50
"""One in this many inputs has each of its allocations counted."""
MEMORY_FREE_BYTES = 4 * 1_048_576
MEMORY_PER_BYTE_MAX = 16
FAILURES_SHOWN_MAX = 20
FAILED = "failed"


class Tally(Struct):
    """What became of a range of inputs."""

    outcomes: Counter[str]
    failures: list[tuple[int, str]]
    """The numbers of the first inputs that broke a promise, and which promise."""
    slowest: tuple[float, int] = (0.0, 0)
    """The most CPU seconds, and the number of the input."""
    payload_bytes: int = 0
    peak_bytes: int = 0
    """The most memory that one input allocated, of those weighed."""
    process_bytes: int = 0
    """The peak memory of the process."""

    def add(self, other: "Tally") -> None:
        self.outcomes += other.outcomes
        self.failures = (self.failures + other.failures)[:FAILURES_SHOWN_MAX]
        self.slowest = max(self.slowest, other.slowest)
        self.payload_bytes += other.payload_bytes
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.process_bytes = max(self.process_bytes, other.process_bytes)

    def line(self) -> str:
        """Return all figures on one line."""
        accepted = sum(self.outcomes[each] for each in KINDS)
        kinds = [f"{each}={self.outcomes[each]}" for each in KINDS]
        seconds, number = self.slowest
        return " ".join(
            [
                f"inputs={self.outcomes.total()}",
                f"accepted={accepted}",
                f"rejected={self.outcomes[REJECTED]}",
                f"ignored={self.outcomes[IGNORED]}",
                *kinds,
                f"payload_mb={self.payload_bytes / 1e6:.0f}",
                f"slowest_ms={seconds * 1e3:.1f} (input {number})",
                f"peak_kb={self.peak_bytes / 1e3:.0f}",
                f"process_mb={self.process_bytes / 1e6:.0f}",
                f"failures={self.outcomes[FAILED]}",
            ]
        )


class Cost(Struct, frozen=True):
    """What one input cost, judged with each of its allocations counted."""

    outcome: str
    cpu_seconds: float
    """More than without the counting: up to twice as many."""
    peak_bytes: int
    """The most memory that was allocated at one time."""


def judge_range(seed: int, numbers: range) -> Tally:
    """Judge the inputs with these numbers."""
    tally = Tally(Counter(), [])
    before = signal.signal(signal.SIGALRM, _too_long)
    # A signal is noticed between two steps of Python only: this ends what never gets there.
    faulthandler.dump_traceback_later(HANGS_AFTER_SECONDS * 10, exit=True)
    try:
        for number in numbers:
            signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER_SECONDS)
            _add_one(tally, number, input_of(seed, number))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
    tally.process_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return tally


def weigh(message: Message) -> Cost:
    """Judge a message, and once more with each allocation counted, which takes far longer."""
    started = time.thread_time()
    outcome = judge(message)
    cpu_seconds = time.thread_time() - started
    tracemalloc.start()
    try:
        judge(message)
        return Cost(outcome, cpu_seconds, tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def _add_one(tally: Tally, number: int, message: Message) -> None:
    seconds = 0.0
    try:
        started = time.thread_time()
        outcome = judge(message)
        seconds = time.thread_time() - started
        if number % WEIGHED_EACH == 0:
            peak_bytes = weigh(message).peak_bytes
            tally.peak_bytes = max(tally.peak_bytes, peak_bytes)
            bytes_max = MEMORY_FREE_BYTES + MEMORY_PER_BYTE_MAX * len(message.payload)
            assert peak_bytes <= bytes_max, f"it took {peak_bytes:,} bytes of memory"
        assert seconds <= CPU_SECONDS_MAX, f"it took {seconds:.1f} s of CPU"
    except BaseException as broken:  # a panic of compiled code is no Exception
        if isinstance(broken, KeyboardInterrupt | SystemExit):
            raise
        tally.failures.append((number, f"{type(broken).__name__}: {broken}"))
        outcome = FAILED
    tally.outcomes[outcome] += 1
    tally.payload_bytes += len(message.payload)
    tally.slowest = max(tally.slowest, (seconds, number))


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"no answer after {HANGS_AFTER_SECONDS} s")
