"""`datapackage.json`: the description of a data package, its project and its tables."""

from datetime import datetime
from hashlib import file_digest
from pathlib import Path

import msgspec
from msgspec import Struct

import echo_ingest
from echo_ingest.export.camtrap.deployments import Deployment
from echo_ingest.export.camtrap.project import Project
from echo_ingest.export.camtrap.schemas import TABLES, Json

DESCRIPTOR = "datapackage.json"


class Coverage(Struct):
    """The times, places and species in the tables, collected while they are written."""

    newest: datetime | None = None
    """The time when the newest message was received."""
    start: datetime | None = None
    end: datetime | None = None
    west: float = 180.0
    east: float = -180.0
    south: float = 90.0
    north: float = -90.0
    species: set[str] = msgspec.field(default_factory=set)
    levels: set[str] = msgspec.field(default_factory=set)

    def note_receipt(self, received_at: datetime) -> None:
        """Note that the package has a message that was received at this time."""
        self.newest = max(self.newest or received_at, received_at)

    def note_observation(self, species: str | None, *, has_media: bool) -> None:
        """Note an observation, of a species where an animal was observed."""
        if species is not None:
            self.species.add(species)
        self.levels.add("media" if has_media else "event")

    def note_deployment(self, deployment: Deployment) -> None:
        """Note the time and the place of a deployment."""
        place = deployment.place
        self.start = min(self.start or deployment.start, deployment.start)
        self.end = max(self.end or deployment.end, deployment.end)
        self.west, self.east = min(self.west, place.longitude), max(self.east, place.longitude)
        self.south, self.north = min(self.south, place.latitude), max(self.north, place.latitude)


def describe(folder: Path, project: Project, coverage: Coverage) -> bytes:
    """Return the descriptor of a package whose tables are in `folder`.

    It is the same each time, because its time of creation is that of its newest message.
    """
    stated = project.model_dump(exclude_none=True, exclude={"filePublic", "locations"})
    study = stated.pop("project")
    package: Json = {
        "profile": "tabular-data-package",
        "title": stated.pop("title", study["title"]),
        **{name: value for name, value in stated.items() if value},
        "created": None if coverage.newest is None else f"{coverage.newest:%Y-%m-%dT%H:%M:%SZ}",
        "sources": [{"title": "Echo Ingest", "version": echo_ingest.__version__}],
        "project": study | {"observationLevel": sorted(coverage.levels)},
        "spatial": _spatial(coverage),
        "temporal": _temporal(coverage),
        "taxonomic": [{"scientificName": name} for name in sorted(coverage.species)],
        "resources": [_resource(folder / f"{name}.csv", schema) for name, schema in TABLES.items()],
    }
    return msgspec.json.format(msgspec.json.encode(package), indent=2) + b"\n"


def _spatial(coverage: Coverage) -> Json:
    """Return the smallest rectangle as GeoJSON, or a point if there is only one place."""
    west, east, south, north = coverage.west, coverage.east, coverage.south, coverage.north
    if (west, south) == (east, north):
        return {"type": "Point", "coordinates": [west, south]}
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "bbox": [west, south, east, north], "coordinates": [ring]}


def _temporal(coverage: Coverage) -> Json:
    return {
        name: None if moment is None else f"{moment:%Y-%m-%d}"
        for name, moment in (("start", coverage.start), ("end", coverage.end))
    }


def _resource(path: Path, schema: Json) -> Json:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return {
        "name": path.stem,
        "path": path.name,
        "profile": "tabular-data-resource",
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "bytes": path.stat().st_size,
        "hash": f"sha256:{digest}",
        "schema": schema,
    }
