-- Only where the database has PostGIS. The same questions as in 0003_near.sql, answered on the
-- ellipsoid and by a spatial index. No column is added: ST_MakePoint(longitude, latitude)::geography
-- is what the index knows, and what a query of one's own writes.

CREATE INDEX detections_geography ON echo.detections
    USING gist ((ST_MakePoint(longitude, latitude)::geography)) WHERE latitude IS NOT NULL;
CREATE INDEX recordings_geography ON echo.recordings
    USING gist ((ST_MakePoint(longitude, latitude)::geography)) WHERE latitude IS NOT NULL;
CREATE INDEX movements_geography ON echo.movements
    USING gist ((ST_MakePoint(animal_longitude, animal_latitude)::geography));

CREATE OR REPLACE FUNCTION echo.detections_near(
    latitude double precision, longitude double precision, metres double precision
) RETURNS SETOF echo.detections
    LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT *
    FROM echo.detections AS t
    WHERE t.latitude IS NOT NULL
        AND ST_DWithin(
            ST_MakePoint(t.longitude, t.latitude)::geography, ST_MakePoint($2, $1)::geography, $3
        )
$$;

CREATE OR REPLACE FUNCTION echo.recordings_near(
    latitude double precision, longitude double precision, metres double precision
) RETURNS SETOF echo.recordings
    LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT *
    FROM echo.recordings AS t
    WHERE t.latitude IS NOT NULL
        AND ST_DWithin(
            ST_MakePoint(t.longitude, t.latitude)::geography, ST_MakePoint($2, $1)::geography, $3
        )
$$;

CREATE OR REPLACE FUNCTION echo.movements_near(
    latitude double precision, longitude double precision, metres double precision
) RETURNS SETOF echo.movements
    LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT *
    FROM echo.movements AS t
    WHERE ST_DWithin(
        ST_MakePoint(t.animal_longitude, t.animal_latitude)::geography,
        ST_MakePoint($2, $1)::geography,
        $3
    )
$$;
