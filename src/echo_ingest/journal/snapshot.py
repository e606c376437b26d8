"""Several reads of a database as of one moment."""

import contextlib
from collections.abc import Iterator

import apsw


@contextlib.contextmanager
def at_one_moment(db: apsw.Connection) -> Iterator[None]:
    """Show the database as it was at the first read, whatever others write; within one or alone."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN DEFERRED")
    try:
        yield
    finally:
        if db.in_transaction:  # an error of the disk ends it, and that error is what counts
            db.execute("COMMIT")
