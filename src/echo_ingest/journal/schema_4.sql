-- Version 4. A record that ends the process which delivers it is found and parked
-- (pipeline/deliver/attempts.py).

CREATE TABLE attempt (
    sink   TEXT PRIMARY KEY,
    offset INTEGER NOT NULL, -- the record that the sink was about to be offered alone
    deaths INTEGER NOT NULL  -- how many times in a row the process has ended in that
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 4;
