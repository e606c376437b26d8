"""Which of two times is the later one, where the clock of the host may have been wrong."""

IS_LATER = "({known} IS NULL OR ({at} <= {soon} AND ({at} >= {known} OR {known} > {soon})))"
"""The condition of `is_later` in SQL, for a column that may have no time yet."""


def is_later(at_ms: int, known_ms: int, soon_ms: int) -> bool:
    """Return whether a time takes the place of the latest one that is known.

    What lies after `soon_ms` was dated by a host whose clock was wrong. It is never later than
    another time, and every time that may be true is later, so that one leap of the clock does not
    hide for years what comes after it.
    """
    return at_ms <= soon_ms and (at_ms >= known_ms or known_ms > soon_ms)
