-- Version 4. A record that ends the process which delivers it is found and parked
-- (pipeline/deliver/attempts.py).

CREATE TABLE attempt ( -- a row for each sink, until the process that delivers to it ends in order
    sink    TEXT PRIMARY KEY,
    first   INTEGER NOT NULL, -- one of the records from here
    last    INTEGER NOT NULL, -- to here may end the process; 0 and 0: none is suspected
    deaths  INTEGER NOT NULL, -- how many times in a row it has ended while they were offered
    offered INTEGER NOT NULL  -- 1: they are being offered, or were when it ended
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 4;
