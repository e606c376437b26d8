-- Version 2. What is kept, and what each file here makes of it, is said in __init__.py.
-- Hours and minutes are counted in UTC since 1970.

CREATE TABLE progress (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    journal     TEXT NOT NULL,    -- which file: device and inode
    offset      INTEGER NOT NULL, -- every record up to here has been looked at
    key         BLOB NOT NULL,    -- that of the record at this offset
    dead_letter INTEGER NOT NULL, -- every dead letter up to this id has been looked at
    first_hour  INTEGER NOT NULL  -- nothing by the hour is kept from before this one
) STRICT;

CREATE TABLE node (
    id                  INTEGER PRIMARY KEY,
    name                TEXT NOT NULL UNIQUE,
    account             TEXT, -- in the file of nodes: 'enabled' or 'disabled'; NULL: it has none
    first_heard_at_ms   INTEGER,
    last_heard_at_ms    INTEGER,
    latitude            REAL,
    longitude           REAL,
    uncertainty_metres  REAL,
    place_at_ms         INTEGER,
    battery_percent     REAL,
    battery_at_ms       INTEGER,
    temperature_celsius REAL,
    temperature_at_ms   INTEGER,
    disk_percent        REAL,
    disk_at_ms          INTEGER,
    firmware            TEXT,
    firmware_at_ms      INTEGER
) STRICT;

-- Records of a node in ten minutes of receipt, for the last hour and a little more.
CREATE TABLE lately (
    span    INTEGER NOT NULL, -- of ten minutes, since 1970
    node_id INTEGER NOT NULL,
    records INTEGER NOT NULL,
    PRIMARY KEY (span, node_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE node_hour (
    node_id         INTEGER NOT NULL,
    hour            INTEGER NOT NULL,
    received        INTEGER NOT NULL, -- records received in it
    dead_letters    INTEGER NOT NULL, -- received in it, and still there
    observed        INTEGER NOT NULL, -- records that say themselves that they are of it
    calls           INTEGER NOT NULL, -- detections observed in it
    least_delay_ms  INTEGER,          -- of those received in it that tell their time
    most_delay_ms   INTEGER,
    PRIMARY KEY (node_id, hour)
) STRICT, WITHOUT ROWID;

-- What a node said of itself, by the hour in which it was so; in thousandths.
CREATE TABLE health_hour (
    node_id  INTEGER NOT NULL,
    measure  INTEGER NOT NULL, -- its place in hours.MEASURES
    hour     INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    total    INTEGER NOT NULL,
    least    INTEGER NOT NULL,
    most     INTEGER NOT NULL,
    PRIMARY KEY (node_id, measure, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE species (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    common_name TEXT,
    calls       INTEGER NOT NULL
) STRICT;

CREATE TABLE call (
    offset         INTEGER PRIMARY KEY,
    observed_at_ms INTEGER NOT NULL,
    node_id        INTEGER NOT NULL,
    species_id     INTEGER NOT NULL,
    tenth          INTEGER NOT NULL, -- of confidence, rounded down; -1 where none was given
    confidence     REAL,
    has_clip       INTEGER NOT NULL,
    tells_time     INTEGER NOT NULL  -- 1: the time is the device's own
) STRICT;
CREATE INDEX call_by_time ON call (tenth, observed_at_ms);
CREATE INDEX call_by_species ON call (species_id, tenth, observed_at_ms);
CREATE INDEX call_by_node ON call (node_id, tenth, observed_at_ms, species_id);
CREATE INDEX call_by_both ON call (node_id, species_id, tenth, observed_at_ms);

-- What nights are made of: all calls of a species observed in an hour.
CREATE TABLE species_hour (
    hour       INTEGER NOT NULL,
    species_id INTEGER NOT NULL,
    tenths     BLOB NOT NULL, -- nights.Tenth, by confidence
    PRIMARY KEY (hour, species_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE clip (
    offset        INTEGER PRIMARY KEY,
    node_id       INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    duration_ms   INTEGER NOT NULL,
    tells_start   INTEGER NOT NULL, -- 1: a recording whose time is known to be that of its start
    named         INTEGER NOT NULL  -- 1: of a call; 0: of a recording
) STRICT;
CREATE INDEX clip_by_node ON clip (node_id, offset);
CREATE INDEX recording_by_node ON clip (node_id, started_at_ms) WHERE named = 0;
CREATE INDEX recording_by_time ON clip (started_at_ms) WHERE named = 0;

-- Dead letters (sink '') and what sinks have parked.
CREATE TABLE refusal (
    sink             TEXT NOT NULL,
    number           INTEGER NOT NULL, -- a dead letter's id, or an offset
    reason_id        INTEGER NOT NULL,
    node_id          INTEGER NOT NULL,
    at_ms            INTEGER NOT NULL, -- a dead letter's receipt; when it was parked
    replay_requested INTEGER NOT NULL,
    PRIMARY KEY (sink, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX refusal_by_reason ON refusal (sink, reason_id, node_id, at_ms, replay_requested);
CREATE INDEX refusal_by_node
    ON refusal (node_id, sink, reason_id, number, at_ms, replay_requested);
CREATE INDEX refusal_by_time ON refusal (node_id, sink, at_ms);

-- What reasons have in common, as refusals.reason_key makes it.
CREATE TABLE reason (
    id    INTEGER PRIMARY KEY,
    code  TEXT NOT NULL, -- a ReasonCode, or ''
    field TEXT NOT NULL, -- the field that it is about, or ''
    text  TEXT NOT NULL, -- where there is no code, the reason as reason_text.alike makes it
    UNIQUE (code, field, text)
) STRICT;

CREATE TABLE sample (
    minute         INTEGER PRIMARY KEY,
    answered       INTEGER NOT NULL,
    received       INTEGER, -- these four as the ledger has them: since the journal was made
    stored         INTEGER,
    duplicates     INTEGER,
    dead_letters   INTEGER,
    dropped        INTEGER, -- by the broker, since it started
    journal_bytes  INTEGER,
    disk_free_bytes INTEGER,
    room_bytes     INTEGER
) STRICT;

CREATE TABLE sink_sample (
    minute      INTEGER NOT NULL,
    sink        TEXT NOT NULL,
    backlog     INTEGER NOT NULL,
    parked      INTEGER NOT NULL,
    lag_seconds REAL NOT NULL,
    PRIMARY KEY (minute, sink)
) STRICT, WITHOUT ROWID;

-- Of an hour, in how many minutes the service answered; kept longer than samples.
CREATE TABLE listening (
    hour    INTEGER PRIMARY KEY,
    minutes INTEGER NOT NULL, -- samples taken
    answered INTEGER NOT NULL
) STRICT;

PRAGMA user_version = 2;
