-- Version 5. A stored message keeps the form in a file that it was decoded by. Messages may be
-- ignored or unclaimed, and dead letters discarded: the ledger counts each of them.

CREATE TABLE form ( -- each version of a form that a stored message was decoded by
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE, -- forms.Form.digest
    source BLOB NOT NULL,        -- the bytes of its file
    reread INTEGER NOT NULL DEFAULT 0 -- how many stored messages it took over from other forms
) STRICT;

-- A row of the table above; NULL: one of our own dialects. The checksum covers it where it is not NULL.
ALTER TABLE record ADD COLUMN form INTEGER;

-- received = stored + duplicates + dead_letters + ignored + unclaimed + discarded, here and by node.
ALTER TABLE ledger ADD COLUMN ignored INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN unclaimed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN discarded INTEGER NOT NULL DEFAULT 0; -- dead letters of before
ALTER TABLE node_day ADD COLUMN ignored INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node_day ADD COLUMN unclaimed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node_day ADD COLUMN discarded INTEGER NOT NULL DEFAULT 0;

CREATE TABLE ignored_day ( -- how many messages each form has ignored; they are not kept
    form     TEXT NOT NULL,    -- its name
    day      INTEGER NOT NULL, -- of receipt, UTC: days since 1970
    messages INTEGER NOT NULL,
    PRIMARY KEY (form, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE discarded_day ( -- why the dead letters that were discarded had been rejected
    code     TEXT NOT NULL,    -- a ReasonCode; '' in those of version 1
    day      INTEGER NOT NULL, -- on which they were discarded, UTC: days since 1970
    messages INTEGER NOT NULL,
    PRIMARY KEY (code, day)
) STRICT, WITHOUT ROWID;

-- What is on topics that nothing has claimed: all of it counted, the newest of it kept.
CREATE TABLE unclaimed_topic (
    topic       TEXT PRIMARY KEY,
    messages    INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    first_at_ms INTEGER NOT NULL,
    last_at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE unclaimed_message (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at_ms INTEGER NOT NULL,
    account        TEXT, -- of the client that published it; NULL where it is not known
    node           TEXT, -- as in record
    topic          TEXT NOT NULL,
    properties     TEXT,
    payload        BLOB NOT NULL,
    checksum       INTEGER NOT NULL -- entries.checksum: of all columns before it but the id
) STRICT;
CREATE INDEX unclaimed_by_topic ON unclaimed_message (topic, id);

PRAGMA user_version = 5;
