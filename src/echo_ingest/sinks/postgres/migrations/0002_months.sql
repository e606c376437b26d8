-- A partition for each month of observed_at (UTC), from 2000 to the end of next month. All that is
-- earlier or later, as clocks that run wrong tell it, is in …_other, and moves when its month comes:
-- no clock can make more partitions than there are months, and no row ever waits for one.

CREATE TABLE echo_months.detections_other PARTITION OF echo.detections DEFAULT;
CREATE TABLE echo_months.recordings_other PARTITION OF echo.recordings DEFAULT;
CREATE TABLE echo_months.telemetry_other PARTITION OF echo.telemetry DEFAULT;
CREATE TABLE echo_months.movements_other PARTITION OF echo.movements DEFAULT;

-- Runs with its owner's rights: a service that may only insert has its partitions all the same.
-- It locks …_other alone: ATTACH leaves readers and writers of the whole table alone. Whoever reads
-- …_other stands in its way, and it in theirs while it waits: so it gives up soon.
CREATE FUNCTION echo.make_months(months date[]) RETURNS void
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
        FOREACH whole IN ARRAY ARRAY['detections', 'recordings', 'telemetry', 'movements'] LOOP
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
REVOKE EXECUTE ON FUNCTION echo.make_months FROM PUBLIC;
