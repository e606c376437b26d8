-- A message may have several records: a row for each.

ALTER TABLE echo.detections ADD index smallint NOT NULL DEFAULT 0;
ALTER TABLE echo.recordings ADD index smallint NOT NULL DEFAULT 0;
ALTER TABLE echo.telemetry ADD index smallint NOT NULL DEFAULT 0;
ALTER TABLE echo.movements ADD index smallint NOT NULL DEFAULT 0;

DO $$
DECLARE
    changed text;
BEGIN
    FOREACH changed IN ARRAY ARRAY['detections', 'recordings', 'telemetry', 'movements'] LOOP
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.index IS %L', changed,
            'Its place among the records of its message, from 0.'
        );
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.key IS %L', changed,
            'The key of the record: the same record of the same message always has the same.'
        );
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.journal_offset IS %L', changed,
            'The number of its message in the journal, which has it as it came.'
        );
    END LOOP;
END
$$;
