-- Only where the database has PostGIS: the same question, on the ellipsoid and by a spatial index. No
-- column is added; ST_MakePoint(longitude, latitude)::geography is what the indexes hold.

CREATE INDEX ON echo.detections USING gist ((ST_MakePoint(longitude, latitude)::geography));
CREATE INDEX ON echo.recordings USING gist ((ST_MakePoint(longitude, latitude)::geography));
CREATE INDEX ON echo.movements
    USING gist ((ST_MakePoint(animal_longitude, animal_latitude)::geography));

CREATE OR REPLACE FUNCTION echo.is_near(
    latitude double precision,
    longitude double precision,
    to_latitude double precision,
    to_longitude double precision,
    metres double precision
) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT ST_DWithin(ST_MakePoint($2, $1)::geography, ST_MakePoint($4, $3)::geography, $5)
$$;
