-- One table for each kind of record, and one of nodes. docs/postgresql.md says what each is for.

CREATE SCHEMA echo;
CREATE SCHEMA echo_months; -- the partitions: out of sight of those who list the tables

CREATE TABLE echo.migration (
    file       text PRIMARY KEY,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- What every record says. Only a pattern for the tables below.
CREATE TABLE echo.record (
    key                bytea NOT NULL,
    journal_offset     bigint NOT NULL,
    observed_at        timestamptz NOT NULL,
    received_at        timestamptz NOT NULL,
    time_source        text NOT NULL,
    form               text NOT NULL,
    node               text,
    sensor_id          text,
    message_id         text,
    source_type        text,
    latitude           double precision,
    longitude          double precision,
    altitude_metres    double precision,
    uncertainty_metres double precision
);
COMMENT ON COLUMN echo.record.key IS 'The message key: the same message always has the same.';
COMMENT ON COLUMN echo.record.journal_offset IS 'Its number in the journal, which has the message as it came.';
COMMENT ON COLUMN echo.record.observed_at IS 'When it happened, or when it was received if the device did not say.';
COMMENT ON COLUMN echo.record.received_at IS 'When the service read it.';
COMMENT ON COLUMN echo.record.time_source IS 'Whose time observed_at is: device or received.';
COMMENT ON COLUMN echo.record.form IS 'The payload form.';
COMMENT ON COLUMN echo.record.node IS 'Who sent it, by the topic.';
COMMENT ON COLUMN echo.record.sensor_id IS 'Who it claims to be, by the payload.';
COMMENT ON COLUMN echo.record.message_id IS 'The device''s own id of this message.';
COMMENT ON COLUMN echo.record.source_type IS 'real or simulator, where the device says.';
COMMENT ON COLUMN echo.record.latitude IS 'Where the sensor is: degrees, WGS 84.';
COMMENT ON COLUMN echo.record.longitude IS 'Where the sensor is: degrees, WGS 84.';

-- Audio, as its own bytes tell. The bytes are not here.
CREATE TABLE echo.clip (
    clip_container        text,
    clip_size_bytes       bigint,
    clip_sha256           text,
    clip_sample_rate_hz   integer,
    clip_channels         integer,
    clip_duration_seconds double precision,
    clip_metadata         jsonb,
    clip_reference        text
);
COMMENT ON COLUMN echo.clip.clip_sha256 IS 'Of the audio file, lower-case hex.';
COMMENT ON COLUMN echo.clip.clip_metadata IS 'What the file says of itself, such as GUANO.';
COMMENT ON COLUMN echo.clip.clip_reference IS 'Name or address of audio that is kept elsewhere.';

-- Where the animal is thought to be, and where it really is, which only a simulator knows.
CREATE TABLE echo.animal (
    animal_latitude                double precision,
    animal_longitude               double precision,
    animal_altitude_metres         double precision,
    animal_uncertainty_metres      double precision,
    animal_true_latitude           double precision,
    animal_true_longitude          double precision,
    animal_true_altitude_metres    double precision,
    animal_true_uncertainty_metres double precision
);
COMMENT ON COLUMN echo.animal.animal_latitude IS 'Where the animal is estimated to be: degrees, WGS 84.';
COMMENT ON COLUMN echo.animal.animal_true_latitude IS 'Where it really is: only a simulator knows.';

-- How a node says it is.
CREATE TABLE echo.health (
    status              text,
    battery_percent     double precision,
    cpu_percent         double precision,
    memory_percent      double precision,
    disk_percent        double precision,
    temperature_celsius double precision,
    uptime_seconds      double precision,
    booted_at           timestamptz
);
COMMENT ON COLUMN echo.health.disk_percent IS 'Share of the disk in use.';

CREATE TABLE echo.detections (
    LIKE echo.record INCLUDING COMMENTS,
    species        text NOT NULL,
    confidence     double precision,
    alternatives   jsonb,
    model          text,
    sample_rate_hz integer,
    LIKE echo.animal INCLUDING COMMENTS,
    LIKE echo.clip INCLUDING COMMENTS,
    PRIMARY KEY (observed_at, key) -- also answers for ranges of time
) PARTITION BY RANGE (observed_at);
COMMENT ON TABLE echo.detections IS 'An animal was heard and named.';
COMMENT ON COLUMN echo.detections.confidence IS 'Fraction, 0 to 1.';
COMMENT ON COLUMN echo.detections.alternatives IS 'Others the model thought of: [{"species", "confidence"}].';
COMMENT ON COLUMN echo.detections.sample_rate_hz IS 'As the message claims; clip_sample_rate_hz is measured.';

CREATE TABLE echo.recordings (
    LIKE echo.record INCLUDING COMMENTS,
    mode text,
    LIKE echo.animal INCLUDING COMMENTS,
    LIKE echo.clip INCLUDING COMMENTS,
    LIKE echo.health INCLUDING COMMENTS,
    PRIMARY KEY (observed_at, key)
) PARTITION BY RANGE (observed_at);
COMMENT ON TABLE echo.recordings IS 'Audio that nobody has classified yet.';

CREATE TABLE echo.telemetry (
    LIKE echo.record INCLUDING COMMENTS,
    LIKE echo.health INCLUDING COMMENTS,
    PRIMARY KEY (observed_at, key)
) PARTITION BY RANGE (observed_at);
COMMENT ON TABLE echo.telemetry IS 'A node''s report about itself.';

CREATE TABLE echo.movements (
    LIKE echo.record INCLUDING COMMENTS,
    species                   text NOT NULL,
    animal_id                 text NOT NULL,
    animal_latitude           double precision NOT NULL,
    animal_longitude          double precision NOT NULL,
    animal_altitude_metres    double precision,
    animal_uncertainty_metres double precision,
    PRIMARY KEY (observed_at, key)
) PARTITION BY RANGE (observed_at);
COMMENT ON TABLE echo.movements IS 'An animal was at a place.';

DROP TABLE echo.record, echo.clip, echo.animal, echo.health;

CREATE INDEX ON echo.detections (species, observed_at);
CREATE INDEX ON echo.detections (node, observed_at) WHERE node IS NOT NULL;
CREATE INDEX ON echo.detections (latitude, longitude) WHERE latitude IS NOT NULL;
CREATE INDEX ON echo.recordings (node, observed_at) WHERE node IS NOT NULL;
CREATE INDEX ON echo.recordings (latitude, longitude) WHERE latitude IS NOT NULL;
CREATE INDEX ON echo.telemetry (node, observed_at) WHERE node IS NOT NULL;
CREATE INDEX ON echo.movements (species, observed_at);
CREATE INDEX ON echo.movements (node, observed_at) WHERE node IS NOT NULL;
CREATE INDEX ON echo.movements (animal_latitude, animal_longitude);

CREATE TABLE echo.nodes (
    node               text PRIMARY KEY,
    first_heard_at     timestamptz NOT NULL,
    last_heard_at      timestamptz NOT NULL,
    placed_at          timestamptz,
    latitude           double precision,
    longitude          double precision,
    altitude_metres    double precision,
    uncertainty_metres double precision
) WITH (fillfactor = 50); -- each batch changes rows: in place, as long as a page has room
COMMENT ON TABLE echo.nodes IS 'Who sends, by the topic. Heard: a message of it was received.';
COMMENT ON COLUMN echo.nodes.placed_at IS 'When the message was received that told the place.';
