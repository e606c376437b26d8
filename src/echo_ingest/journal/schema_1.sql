-- Version 1. journal/__init__.py says what each table promises. Each later version is a file of its
-- own that alters the one before, so that old journals and new ones have the same schema.

CREATE TABLE record (
    offset         INTEGER PRIMARY KEY,  -- 1, 2, 3 … without gaps
    key            BLOB NOT NULL UNIQUE, -- record.message_key
    digest         BLOB,                 -- record.payload_hash, where the key does not end with it
    received_at_ms INTEGER NOT NULL,
    kind           TEXT NOT NULL,
    node           TEXT,
    topic          TEXT NOT NULL,
    properties     TEXT,                 -- JSON: [[name, value], …]; NULL for none
    payload        BLOB NOT NULL,        -- as it came
    checksum       INTEGER NOT NULL      -- entries.checksum: of all the other columns
) STRICT;

CREATE TABLE dead_letter (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    digest         BLOB NOT NULL,
    received_at_ms INTEGER NOT NULL,
    node           TEXT,
    topic          TEXT NOT NULL,
    properties     TEXT,
    reason         TEXT NOT NULL,
    payload        BLOB NOT NULL,
    checksum       INTEGER NOT NULL
) STRICT;

CREATE TABLE sink (
    name         TEXT PRIMARY KEY,
    cursor       INTEGER NOT NULL, -- every offset up to here was offered and settled
    skipped      INTEGER NOT NULL, -- never offered: removed before the sink was added, or lost
    delivered    INTEGER NOT NULL,
    paused_at_ms INTEGER           -- since when a person has it wait; NULL: it does not
) STRICT, WITHOUT ROWID;

CREATE TABLE parked (
    sink         TEXT NOT NULL,
    offset       INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    parked_at_ms INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    replay       INTEGER NOT NULL DEFAULT 0, -- 1: to be offered again; counts as backlog
    PRIMARY KEY (sink, offset)
) STRICT, WITHOUT ROWID;

-- Where a sink that keeps audio has put these offsets; the newest row that holds one counts.
CREATE TABLE place (
    id    INTEGER PRIMARY KEY,
    sink  TEXT NOT NULL,
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL,
    place TEXT NOT NULL
) STRICT;

CREATE TABLE ledger (
    id                       INTEGER PRIMARY KEY CHECK (id = 1),
    received                 INTEGER NOT NULL,
    stored                   INTEGER NOT NULL,
    duplicates               INTEGER NOT NULL,
    dead_letters             INTEGER NOT NULL,
    acknowledged_offset      INTEGER NOT NULL, -- at the last commit, what had been acknowledged
    acknowledged_dead_letter INTEGER NOT NULL,
    trimmed_offset           INTEGER NOT NULL, -- the highest that retention has removed
    lost_dead_letters        INTEGER NOT NULL  -- of those counted, not there any more
) STRICT;
INSERT INTO ledger VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0);

-- Offsets whose records a damaged file did not give back (salvage.py): the only gaps there are
-- behind trimmed_offset.
CREATE TABLE lost (
    first INTEGER PRIMARY KEY,
    last  INTEGER NOT NULL
) STRICT;

-- The ledger of each node and day. Retention leaves it alone.
CREATE TABLE node_day (
    node              TEXT NOT NULL,    -- '' where the topic names none
    day               INTEGER NOT NULL, -- of receipt, UTC: days since 1970
    received          INTEGER NOT NULL,
    stored            INTEGER NOT NULL,
    duplicates        INTEGER NOT NULL,
    dead_letters      INTEGER NOT NULL,
    received_bytes    INTEGER NOT NULL,
    first_heard_at_ms INTEGER NOT NULL,
    last_heard_at_ms  INTEGER NOT NULL,
    PRIMARY KEY (node, day)
) STRICT, WITHOUT ROWID;

-- Broker sessions this service has held; one that is not there any more may mean a loss.
CREATE TABLE session (
    name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 1;
