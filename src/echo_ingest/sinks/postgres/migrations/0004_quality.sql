-- What a device sent and was not believed as it is, and what a name stands for that is no animal.

ALTER TABLE echo.detections
    ADD time_problem     text,
    ADD device_time      text,
    ADD species_as_sent  text,
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
    ADD time_problem    text,
    ADD device_time     text,
    ADD species_as_sent text;

DO $$
DECLARE
    changed text;
BEGIN
    FOREACH changed IN ARRAY ARRAY['detections', 'recordings', 'telemetry', 'movements'] LOOP
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.time_problem IS %L', changed,
            'Why observed_at is not simply what the device wrote: clock_not_set, other_start, '
            'before_first_day, after_receipt, gps_week_rollover, zone_unknown, corrected. Null: it is.'
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
    FOREACH changed IN ARRAY ARRAY['detections', 'movements'] LOOP
        EXECUTE format(
            'COMMENT ON COLUMN echo.%I.species_as_sent IS %L', changed,
            'The name as the device wrote it, where its capital letters differ from those of '
            'species.'
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

-- Rows from before: the labels of classifiers that were known as no animals when this was written.
UPDATE echo.detections
SET observation_type = label.observation_type
FROM (
    SELECT 'blank', unnest(ARRAY[
        'nocall', 'no call', 'no-call', 'no detection', 'no bird', 'no bat', 'not bat',
        'noise', 'background', 'background noise', 'ambient', 'ambient noise', 'environmental',
        'silence', 'static', 'microphone noise', 'wind noise', 'clipping', 'false positive',
        'rain', 'heavy rain', 'wind', 'thunder', 'thunderstorm', 'water', 'stream', 'waves',
        'blank', 'empty', 'none', 'nothing'
    ])
    UNION ALL
    SELECT 'unknown', unnest(ARRAY[
        'unknown', 'unidentified', 'undetermined', 'don''t know', 'not sure', 'other', 'noid',
        'no id', 'unknown species', 'unknown bird', 'unknown bat', 'unknown frog', 'nan', 'n/a'
    ])
    UNION ALL
    SELECT 'unclassified', unnest(ARRAY[
        'unclassified'
    ])
    UNION ALL
    SELECT 'human', unnest(ARRAY[
        'human', 'homo sapiens', 'human vocal', 'human non-vocal', 'human whistle',
        'human voice', 'human speech', 'speech', 'voice', 'voices', 'talking', 'conversation',
        'laughter', 'footsteps', 'music', 'anthropogenic', 'fireworks', 'firework', 'gun',
        'gunshot', 'gunshot, gunfire', 'explosion', 'power tools', 'chainsaw', 'hammer'
    ])
    UNION ALL
    SELECT 'vehicle', unnest(ARRAY[
        'vehicle', 'engine', 'siren', 'car', 'truck', 'bus', 'motorcycle', 'traffic', 'train',
        'traffic noise', 'aircraft', 'airplane', 'aeroplane', 'plane', 'helicopter', 'boat',
        'boat engine', 'ship', 'car horn'
    ])
) AS label (observation_type, name)
WHERE lower(btrim(detections.species)) = label.name;

-- The clock of the service may leap. The offset of a message in the journal tells which came later.
ALTER TABLE echo.nodes
    ADD first_offset  bigint,
    ADD last_offset   bigint,
    ADD placed_offset bigint;
COMMENT ON COLUMN echo.nodes.first_offset IS 'The journal_offset of the message of first_heard_at.';
COMMENT ON COLUMN echo.nodes.last_offset IS 'The journal_offset of the message of last_heard_at.';
COMMENT ON COLUMN echo.nodes.placed_offset IS 'The journal_offset of the message of placed_at.';
