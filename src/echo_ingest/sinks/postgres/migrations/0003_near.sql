-- Near a point, without any extension: a box that the indexes on latitude and longitude answer for,
-- then the distance. The planner sees through `is_near`: it may stand in any WHERE, beside others.

-- Along the great circle, on a sphere of the mean radius: off by 0.6 % at most.
CREATE FUNCTION echo.distance_metres(
    latitude double precision,
    longitude double precision,
    from_latitude double precision,
    from_longitude double precision
) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT 2 * 6371008.8 * asin(least(1, sqrt(
        sind(($1 - $3) / 2) ^ 2 + cosd($1) * cosd($3) * sind(($2 - $4) / 2) ^ 2
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

CREATE FUNCTION echo.is_near(
    latitude double precision,
    longitude double precision,
    to_latitude double precision,
    to_longitude double precision,
    metres double precision
) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT $1 BETWEEN $3 - echo.latitude_degrees($5) AND $3 + echo.latitude_degrees($5)
        AND $2 BETWEEN $4 - echo.longitude_degrees($3, $4, $5)
            AND $4 + echo.longitude_degrees($3, $4, $5)
        AND echo.distance_metres($1, $2, $3, $4) <= $5
$$;
COMMENT ON FUNCTION echo.is_near IS 'Is a place within so many metres of a point?';
