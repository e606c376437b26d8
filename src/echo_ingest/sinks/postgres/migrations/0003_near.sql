-- Near a point, without any extension: a box that the index on latitude and longitude answers for,
-- then the distance. The planner sees through these functions: what else is asked, such as a range
-- of time, narrows the search too.

-- Along the great circle, on a sphere of the mean radius: off by 0.6 % at most.
CREATE FUNCTION echo.distance_metres(
    latitude_1 double precision,
    longitude_1 double precision,
    latitude_2 double precision,
    longitude_2 double precision
) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT 2 * 6371008.8 * asin(least(1, sqrt(
        sind(($3 - $1) / 2) ^ 2 + cosd($1) * cosd($3) * sind(($4 - $2) / 2) ^ 2
    )))
$$;

-- How far a box of so many metres around a point reaches to the north and to the south.
CREATE FUNCTION echo.latitude_degrees(metres double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT degrees($1 / 6371008.8)
$$;

-- How far it reaches to the east and to the west: all round, where a pole or the date line is in it.
CREATE FUNCTION echo.longitude_degrees(
    latitude double precision, longitude double precision, metres double precision
) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN abs($1) + echo.latitude_degrees($3) >= 90 THEN 360
        WHEN abs($2) + reach > 180 THEN 360
        ELSE reach
    END
    FROM (SELECT asind(least(1, sind(echo.latitude_degrees($3)) / cosd($1)))) AS box (reach)
$$;

CREATE FUNCTION echo.detections_near(
    latitude double precision, longitude double precision, metres double precision
) RETURNS SETOF echo.detections
    LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT *
    FROM echo.detections AS t
    WHERE t.latitude BETWEEN $1 - echo.latitude_degrees($3) AND $1 + echo.latitude_degrees($3)
        AND t.longitude BETWEEN $2 - echo.longitude_degrees($1, $2, $3)
            AND $2 + echo.longitude_degrees($1, $2, $3)
        AND echo.distance_metres(t.latitude, t.longitude, $1, $2) <= $3
$$;
COMMENT ON FUNCTION echo.detections_near IS 'Detections by sensors within so many metres of a point.';

CREATE FUNCTION echo.recordings_near(
    latitude double precision, longitude double precision, metres double precision
) RETURNS SETOF echo.recordings
    LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT *
    FROM echo.recordings AS t
    WHERE t.latitude BETWEEN $1 - echo.latitude_degrees($3) AND $1 + echo.latitude_degrees($3)
        AND t.longitude BETWEEN $2 - echo.longitude_degrees($1, $2, $3)
            AND $2 + echo.longitude_degrees($1, $2, $3)
        AND echo.distance_metres(t.latitude, t.longitude, $1, $2) <= $3
$$;
COMMENT ON FUNCTION echo.recordings_near IS 'Recordings by sensors within so many metres of a point.';

CREATE FUNCTION echo.movements_near(
    latitude double precision, longitude double precision, metres double precision
) RETURNS SETOF echo.movements
    LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT *
    FROM echo.movements AS t
    WHERE t.animal_latitude BETWEEN $1 - echo.latitude_degrees($3)
            AND $1 + echo.latitude_degrees($3)
        AND t.animal_longitude BETWEEN $2 - echo.longitude_degrees($1, $2, $3)
            AND $2 + echo.longitude_degrees($1, $2, $3)
        AND echo.distance_metres(t.animal_latitude, t.animal_longitude, $1, $2) <= $3
$$;
COMMENT ON FUNCTION echo.movements_near IS 'Movements of animals within so many metres of a point.';
