-- What sensors measure, and more of what devices say about a call.

ALTER TABLE echo.detections
    ADD common_name text,
    ADD ends_at     timestamptz,
    ADD low_hz      double precision,
    ADD high_hz     double precision;
COMMENT ON COLUMN echo.detections.common_name IS 'The name in people''s language, where the message has it beside the scientific one.';
COMMENT ON COLUMN echo.detections.ends_at IS 'When the call ended, where the message says so and its time is believed.';
COMMENT ON COLUMN echo.detections.low_hz IS 'The lowest frequency at which it was heard.';
COMMENT ON COLUMN echo.detections.high_hz IS 'The highest frequency at which it was heard.';

CREATE TABLE echo.measurements (
    key                bytea NOT NULL,
    journal_offset     bigint NOT NULL,
    index              smallint NOT NULL DEFAULT 0,
    observed_at        timestamptz NOT NULL,
    received_at        timestamptz NOT NULL,
    time_source        text NOT NULL,
    time_problem       text,
    device_time        text,
    form               text NOT NULL,
    node               text,
    sensor_id          text,
    message_id         text,
    source_type        text,
    latitude           double precision,
    longitude          double precision,
    altitude_metres    double precision,
    uncertainty_metres double precision,
    name               text NOT NULL,
    value              double precision NOT NULL,
    unit               text,
    PRIMARY KEY (observed_at, key)
) PARTITION BY RANGE (observed_at);
COMMENT ON TABLE echo.measurements IS 'A sensor measured something: one name, one value.';
COMMENT ON COLUMN echo.measurements.name IS 'What was measured; it ends in its unit where the form gives the name.';
COMMENT ON COLUMN echo.measurements.unit IS 'Null for a plain count.';

CREATE INDEX ON echo.measurements (name, observed_at);
CREATE INDEX ON echo.measurements (node, observed_at) WHERE node IS NOT NULL;

CREATE TABLE echo_months.measurements_other PARTITION OF echo.measurements DEFAULT;

-- What every record says has the same comments. Who may read or write one table of records may do
-- the same with the new one.
DO $$
DECLARE
    shared record;
    held record;
BEGIN
    FOR shared IN
        SELECT attname, col_description(attrelid, attnum) AS words
        FROM pg_attribute AS known
        WHERE attrelid = 'echo.telemetry'::regclass AND EXISTS (
            SELECT FROM pg_attribute AS new
            WHERE new.attrelid = 'echo.measurements'::regclass AND new.attname = known.attname
        ) AND col_description(attrelid, attnum) IS NOT NULL
    LOOP
        EXECUTE format(
            'COMMENT ON COLUMN echo.measurements.%I IS %L', shared.attname, shared.words
        );
    END LOOP;
    FOR held IN
        SELECT privilege_type, grantee
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'echo.telemetry'::regclass AND grantee <> relowner
    LOOP
        EXECUTE format(
            'GRANT %s ON echo.measurements TO %s', held.privilege_type,
            CASE held.grantee WHEN 0 THEN 'PUBLIC' ELSE held.grantee::regrole::text END
        );
    END LOOP;
END
$$;

-- As before (0002_months.sql), with one table more.
CREATE OR REPLACE FUNCTION echo.make_months(months date[]) RETURNS void
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'
AS $$
DECLARE
    month date;
    opens timestamptz;
    closes timestamptz;
    whole text;
    other text;
    part text;
BEGIN
    PERFORM pg_advisory_xact_lock(1701013615, 2);
    FOR month IN
        SELECT DISTINCT date_trunc('month', each)::date
        FROM unnest(months) AS each
        WHERE each >= '2000-01-01'
            AND each < date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months'
    LOOP
        opens := month::timestamp AT TIME ZONE 'UTC';
        closes := (month + interval '1 month') AT TIME ZONE 'UTC';
        FOREACH whole IN ARRAY ARRAY[
            'detections', 'recordings', 'telemetry', 'movements', 'measurements'
        ] LOOP
            part := whole || to_char(month, '_YYYY_MM');
            other := whole || '_other';
            -- Not to_regclass, which does not notice what was made while we waited for the lock.
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_tables WHERE (schemaname, tablename) = ('echo_months', part)
            );
            EXECUTE format('LOCK TABLE echo_months.%I IN ACCESS EXCLUSIVE MODE', other);
            EXECUTE format(
                'CREATE TABLE echo_months.%I
                    (LIKE echo.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                part, whole
            );
            EXECUTE format(
                'WITH moved AS (
                    DELETE FROM echo_months.%I
                    WHERE observed_at >= %L AND observed_at < %L
                    RETURNING *
                )
                INSERT INTO echo_months.%I SELECT * FROM moved',
                other, opens, closes, part
            );
            EXECUTE format(
                'ALTER TABLE echo.%I ATTACH PARTITION echo_months.%I FOR VALUES FROM (%L) TO (%L)',
                whole, part, opens, closes
            );
        END LOOP;
    END LOOP;
END
$$;
