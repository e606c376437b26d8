"""One contract for every sink, with the real server behind each: `make sinks`.

`backend` says what a server must let us do to it, `backends/` has one file for each, `messages` has
what is delivered, `delivering` the line from journal to sink. The promises are the tests; a further
sink is one file and one line in `backends/__init__.py`, and passes all of them.
"""
