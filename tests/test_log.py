"""What strangers cause is logged at a limited rate, with a count of what was left out."""

import logging

import structlog
from structlog.testing import capture_logs

from echo_ingest.process.log import (
    LINES_LEFT_OUT,
    LINES_MAX,
    WINDOW_SECONDS,
    LibraryLines,
    LimitedLog,
)


def test_each_kind_of_line_is_limited_for_itself_and_what_was_left_out_is_counted() -> None:
    seconds = [0.0]
    with capture_logs() as log:
        limited = LimitedLog(structlog.get_logger(), lambda: seconds[0])
        for _ in range(LINES_MAX + 5):
            limited.warning("wrong token")
        limited.error("request failed")
        seconds[0] = WINDOW_SECONDS - 0.1
        limited.warning("wrong token")
        seconds[0] = WINDOW_SECONDS
        limited.report()
        limited.warning("wrong token")
        seconds[0] = 9 * WINDOW_SECONDS
        limited.report()
    assert [line["event"] for line in log] == [
        *("wrong token",) * LINES_MAX,
        "request failed",
        LINES_LEFT_OUT,
        "wrong token",
    ]
    assert (log[-2]["of"], log[-2]["lines"]) == ("wrong token", 6)


def test_what_a_library_logs_is_a_short_line_of_ours_and_limited_too() -> None:
    logger = logging.Logger("some.library")
    logger.addHandler(LibraryLines())
    with capture_logs() as log:
        for _ in range(100):
            try:
                raise ValueError("abc")
            except ValueError as error:
                logger.error("it failed\n", exc_info=error)
        logger.info("all is well")
    assert len(log) == LINES_MAX
    assert (log[0]["event"], log[0]["library"]) == ("it failed", "some.library")
    assert log[0]["error"] == "ValueError('abc')"
    assert "test_log.py:" in log[0]["raised_at"]
    assert all("\n" not in str(value) for value in log[0].values())
