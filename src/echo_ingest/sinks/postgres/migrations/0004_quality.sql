-- What a device sent and was not believed as it is, and what a name stands for that is no animal.

ALTER TABLE echo.detections
    ADD time_problem     text,
    ADD device_time      text,
    ADD observation_type text NOT NULL DEFAULT 'animal',
    ADD clip_problem     text;
ALTER TABLE echo.recordings
    ADD time_problem   text,
    ADD device_time    text,
    ADD clip_problem   text,
    ADD external_power boolean;
ALTER TABLE echo.telemetry
    ADD time_problem   text,
    ADD device_time    text,
    ADD external_power boolean;
ALTER TABLE echo.movements
    ADD time_problem text,
    ADD device_time  text;

DO $$
DECLARE
    changed text;
BEGIN
    FOREACH changed IN ARRAY ARRAY['detections', 'recordings', 'telemetry', 'movements'] LOOP
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.time_problem IS %L', changed,
            'Why observed_at is not simply what the device wrote: clock_not_set, before_first_day, '
            'after_receipt, gps_week_rollover, zone_unknown, corrected. Null: it is.'
        );
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.device_time IS %L', changed,
            'What the device wrote, where there is a time_problem.'
        );
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.observed_at IS %L', changed,
            'When it happened, or when it was received, if the device did not say or could not '
            'be believed.'
        );
    END LOOP;
    FOREACH changed IN ARRAY ARRAY['detections', 'recordings'] LOOP
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.clip_problem IS %L', changed,
            'In which way the header of the clip differs from its sound, which counts: '
            'length_not_announced, header_disagrees, several_files.'
        );
    END LOOP;
    FOREACH changed IN ARRAY ARRAY['recordings', 'telemetry'] LOOP
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.external_power IS %L', changed,
            'Whether the node runs on mains or a panel instead of its battery.'
        );
    END LOOP;
END
$$;
COMMENT ON TABLE echo.detections IS 'A device named what it heard: an animal, if observation_type says so.';
COMMENT ON COLUMN echo.detections.species IS 'The name that the device gives; of an animal only where observation_type is animal.';
COMMENT ON COLUMN echo.detections.observation_type IS 'animal, human, vehicle, blank, unknown or unclassified, as in Camtrap DP.';

-- Rows from before: the labels that every version since knows as no animals.
UPDATE echo.detections
SET observation_type = label.observation_type
FROM (VALUES
    ('nocall', 'blank'),
    ('noise', 'blank'),
    ('environmental', 'blank'),
    ('background', 'blank'),
    ('silence', 'blank'),
    ('rain', 'blank'),
    ('wind', 'blank'),
    ('unknown', 'unknown'),
    ('unidentified', 'unknown'),
    ('human', 'human'),
    ('human vocal', 'human'),
    ('human non-vocal', 'human'),
    ('human whistle', 'human'),
    ('speech', 'human'),
    ('fireworks', 'human'),
    ('gun', 'human'),
    ('power tools', 'human'),
    ('chainsaw', 'human'),
    ('siren', 'vehicle'),
    ('engine', 'vehicle'),
    ('vehicle', 'vehicle')
) AS label (name, observation_type)
WHERE lower(btrim(detections.species)) = label.name;

-- The clock of the service may leap. The offset of a message in the journal tells which came later.
ALTER TABLE echo.nodes
    ADD first_offset  bigint,
    ADD last_offset   bigint,
    ADD placed_offset bigint;
COMMENT ON COLUMN echo.nodes.first_offset IS 'The journal_offset of the message of first_heard_at.';
COMMENT ON COLUMN echo.nodes.last_offset IS 'The journal_offset of the message of last_heard_at.';
COMMENT ON COLUMN echo.nodes.placed_offset IS 'The journal_offset of the message of placed_at.';
