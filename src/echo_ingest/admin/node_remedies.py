"""What to type where a node is seen to send something else than its messages say.

Nothing is corrected without being asked for: these are commands for people.
"""

import shlex

from echo_ingest.broker.node_accounts import NAME

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def confidence_command(node: str) -> str | None:
    """Return the command for a node that sends fractions; None where it cannot name the node."""
    return _command(node, "--confidence", "fraction")


def clock_command(node: str, ahead_seconds: float) -> str | None:
    """Return the command for a clock that is ahead by that much; below 0, it is behind."""
    return _command(node, f"--clock-ahead={span_to_type(ahead_seconds)}")


def span_to_type(seconds: float) -> str:
    """Write a span of time as the command takes it, such as `11h` or `-1d2h`."""
    rest = abs(round(seconds))
    text = ""
    for unit, unit_seconds in UNITS:
        count, rest = divmod(rest, unit_seconds)
        text += f"{count}{unit}" if count else ""
    return f"{'-' if seconds < 0 else ''}{text}" if text else "0"


def _command(node: str, *options: str) -> str | None:
    if NAME.fullmatch(node) is None:
        return None
    return shlex.join(["echo-ingest", "nodes", "set", node, *options])
