-- Version 7 of the almanac; __init__.py says what it guarantees. Hours and minutes are counted in UTC
-- since 1970.

CREATE TABLE progress (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    journal     TEXT NOT NULL,    -- its file: device and inode
    rules       TEXT NOT NULL,    -- how its messages were read, as follower.rules_key makes it
    reread      INTEGER NOT NULL, -- how many messages another form had taken over before
    offset      INTEGER NOT NULL, -- every message up to here has been read
    key         BLOB NOT NULL,    -- the key of the message at this offset
    dead_letter INTEGER NOT NULL, -- every dead letter up to this id has been read
    first_hour  INTEGER NOT NULL  -- the hourly history begins here
) STRICT;

CREATE TABLE node (
    id                  INTEGER PRIMARY KEY,
    name                TEXT NOT NULL UNIQUE,
    account             TEXT, -- in the file of nodes: 'enabled' or 'disabled'; NULL: no account
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
    firmware_at_ms      INTEGER,
    time_problem        TEXT, -- of the newest record that has a time of the device's; NULL: none
    confidences         INTEGER NOT NULL DEFAULT 0, -- detections that have one
    most_confidence     REAL
) STRICT;

-- Messages of a node by the ten minutes in which they were received, for a little more than an hour.
CREATE TABLE lately (
    span    INTEGER NOT NULL, -- ten minutes each, since 1970
    node_id INTEGER NOT NULL,
    records INTEGER NOT NULL, -- messages with records
    PRIMARY KEY (span, node_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE node_hour (
    node_id         INTEGER NOT NULL,
    hour            INTEGER NOT NULL,
    received        INTEGER NOT NULL, -- messages with records, received in it
    dead_letters    INTEGER NOT NULL, -- received in it, and not replayed since
    observed        INTEGER NOT NULL, -- messages with a record whose own time is in it
    calls           INTEGER NOT NULL, -- detections observed in it
    timed           INTEGER NOT NULL, -- messages received in it that tell of the node's clock
    least_delay_ms  INTEGER,          -- of their records, from the time that the node wrote to receipt
    most_delay_ms   INTEGER,
    PRIMARY KEY (node_id, hour)
) STRICT, WITHOUT ROWID;

-- The health that a node reported, by the hour in which it measured; in thousandths.
CREATE TABLE health_hour (
    node_id  INTEGER NOT NULL,
    measure  INTEGER NOT NULL, -- its place in observation.MEASURES
    hour     INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    total    INTEGER NOT NULL,
    least    INTEGER NOT NULL,
    most     INTEGER NOT NULL,
    PRIMARY KEY (node_id, measure, hour)
) STRICT, WITHOUT ROWID;

-- What a node measures: a series for each sensor, name and unit.
CREATE TABLE series (
    id        INTEGER PRIMARY KEY,
    node_id   INTEGER NOT NULL,
    sensor    TEXT NOT NULL, -- '' where it is the node itself
    name      TEXT NOT NULL,
    unit      TEXT NOT NULL, -- '' for a plain count
    latest    REAL,
    latest_at_ms INTEGER,
    UNIQUE (node_id, sensor, name, unit)
) STRICT;

-- What a series has, by the hour in which it was measured.
CREATE TABLE series_hour (
    series_id INTEGER NOT NULL,
    hour      INTEGER NOT NULL,
    readings  INTEGER NOT NULL,
    total     REAL NOT NULL,
    least     REAL NOT NULL,
    most      REAL NOT NULL,
    PRIMARY KEY (series_id, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE species (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    common_name TEXT,
    calls       INTEGER NOT NULL
) STRICT;

-- Records are numbered as record_numbers.py says.
CREATE TABLE call (
    record         INTEGER PRIMARY KEY,
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

-- The calls of a species in an hour, from which nights are added up.
CREATE TABLE species_hour (
    hour       INTEGER NOT NULL,
    species_id INTEGER NOT NULL,
    tenths     BLOB NOT NULL, -- a list of nights.ConfidenceBin
    PRIMARY KEY (hour, species_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE clip (
    record        INTEGER PRIMARY KEY,
    node_id       INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    duration_ms   INTEGER NOT NULL,
    tells_start   INTEGER NOT NULL, -- 1: its time is known to be that of its start
    tells_time    INTEGER NOT NULL, -- 1: the time is the device's own
    named         INTEGER NOT NULL  -- 1: a detection's clip; 0: a recording
) STRICT;
CREATE INDEX clip_by_node ON clip (node_id, record);
CREATE INDEX recording_by_node ON clip (node_id, started_at_ms) WHERE named = 0;
CREATE INDEX recording_by_time ON clip (started_at_ms) WHERE named = 0;

-- Dead letters (sink '') and the records that sinks have parked.
CREATE TABLE refusal (
    sink             TEXT NOT NULL,
    number           INTEGER NOT NULL, -- a dead letter's id, or an offset
    reason_id        INTEGER NOT NULL,
    node_id          INTEGER NOT NULL,
    at_ms            INTEGER NOT NULL, -- when the dead letter was received, or the record parked
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
    text  TEXT NOT NULL, -- where there is no code, the reason as uncoded_reasons.alike makes it
    UNIQUE (code, field, text)
) STRICT;

CREATE TABLE sample (
    minute         INTEGER PRIMARY KEY,
    answered       INTEGER NOT NULL,
    received       INTEGER, -- these four are the ledger's, since the journal was created
    stored         INTEGER,
    duplicates     INTEGER,
    dead_letters   INTEGER,
    dropped        INTEGER, -- messages that the broker dropped since it started
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

-- In how many minutes of an hour the service answered; kept longer than samples.
CREATE TABLE listening (
    hour    INTEGER PRIMARY KEY,
    minutes INTEGER NOT NULL, -- samples taken
    answered INTEGER NOT NULL
) STRICT;

PRAGMA user_version = 7;
