"""What strangers cause is logged at a limited rate, with a count of what was left out."""

import logging

import structlog
from structlog.testing import capture_logs

from echo_ingest.process.log import LINES_LEFT_OUT, LibraryLines, LimitedLog


def test_each_kind_of_line_is_limited_for_itself_and_what_was_left_out_is_counted() -> None:
    seconds = [0.0]
    limited = LimitedLog(structlog.get_logger(), lines_max=3, seconds=60, clock=lambda: seconds[0])
    with capture_logs() as log:
        for number in range(10):
            limited.warning("wrong token", number=number)
        limited.info("logged in")
        seconds[0] = 59.9
        limited.warning("wrong token", number=10)
        seconds[0] = 60.0
        limited.warning("wrong token", number=11)
        limited.warning("wrong token", number=12)
    assert [(line["event"], line.get("number")) for line in log] == [
        ("wrong token", 0),
        ("wrong token", 1),
        ("wrong token", 2),
        ("logged in", None),
        (LINES_LEFT_OUT, None),
        ("wrong token", 11),
        ("wrong token", 12),
    ]
    assert (log[4]["of"], log[4]["lines"]) == ("wrong token", 8)


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
    assert len(log) == 20
    assert (log[0]["event"], log[0]["library"]) == ("it failed", "some.library")
    assert log[0]["error"] == "ValueError('abc')"
    assert "test_log.py:" in log[0]["raised_at"]
    assert all("\n" not in str(value) for value in log[0].values())
