"""One contract for every sink, with the real server behind each: `make sinks`.

`backend` says what a store must let us do to it, `backends/` has one file for each, `messages` what
is delivered, `delivering` the line from journal to sink. The promises are the tests; a sink added
later is one file and one line in `backends/__init__.py`, and passes all of them.
"""
