"""Writing a data package: its tables, in order of device and time, and what describes them."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from math import ceil
from pathlib import PurePosixPath
from typing import Any, cast

from msgspec import Struct

from echo_ingest.export.camtrap.deployments import (
    Deployment,
    PlacedRecord,
    Presence,
    UnplacedDevice,
    deploy,
)
from echo_ingest.export.camtrap.descriptor import DESCRIPTOR, Coverage, describe
from echo_ingest.export.camtrap.project import Project
from echo_ingest.export.camtrap.schemas import TABLES, columns
from echo_ingest.export.csv_table import CsvTable, json_text
from echo_ingest.export.partial import ExportRefused, PartialExport, Progress
from echo_ingest.export.reading import is_wanted
from echo_ingest.export.record_rows import named
from echo_ingest.record import Place

MEDIATYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg"}
SECOND = timedelta(seconds=1)
UNPLACED_NAMED_MAX = 20

Fields = dict[str, Any]


class PackageSummary(Struct):
    """What became of what was gathered."""

    rows: dict[str, int] = {}
    """By table of the package."""
    unplaced_devices: int = 0
    unplaced_records: int = 0
    """Left out: nobody knows where these devices are."""
    unplaced: list[str] = []
    """The first `UNPLACED_NAMED_MAX` of them."""


def write(partial: PartialExport, project: Project, progress: Progress) -> PackageSummary:
    """Write all files of the package but the clips, which are there."""
    given = {device: location.place for device, location in project.locations.items()}
    total = sum(partial.gathered().rows.values())
    with progress(total, "writing") as advance, ExitStack() as stack:
        tables = {
            name: CsvTable(stack.enter_context(partial.file(f"{name}.csv")), columns(schema))
            for name, schema in TABLES.items()
        }
        partial.keep_no_clips()
        package = _Package(tables, project, partial)
        heard = _heard(partial)
        for each in deploy(heard, lambda device: _first_place(partial, device), given):
            match each:
                case PlacedRecord():
                    package.add_record(each.heard, each.deployment)
                    advance(1)
                case Deployment():
                    package.add_deployment(each)
                case UnplacedDevice():
                    package.leave_out(each)
                    advance(each.records)
    if not package.packed.rows["deployments"]:
        raise ExportRefused(
            f"nothing for a package: of {package.packed.unplaced_devices:,} devices nobody knows "
            f"the place. Give it in {partial.request.project} under [locations]; then "
            f"`echo-ingest export {partial.target} --resume` goes on"
        )
    with partial.file(DESCRIPTOR) as file:
        file.write(describe(partial.files, project, package.coverage))
    return package.packed


def _heard(partial: PartialExport) -> Iterator[Presence[Fields]]:
    for device, row in partial.by_device():
        fields = named(row)
        at = fields["observed_at"]
        until = at + timedelta(seconds=fields.get("clip_duration_seconds") or 0.0)
        yield Presence(device, at, until, _place(fields), fields)


def _first_place(partial: PartialExport, device: str) -> Place | None:
    row = partial.first_placed(device)
    return None if row is None else _place(named(row))


def _place(fields: Fields) -> Place | None:
    if fields["latitude"] is None:
        return None
    return Place(fields["latitude"], fields["longitude"], None, fields["uncertainty_metres"])


class _Package:
    """The tables as they grow."""

    def __init__(
        self, tables: dict[str, CsvTable], project: Project, partial: PartialExport
    ) -> None:
        self.packed = PackageSummary(dict.fromkeys(tables, 0))
        self.coverage = Coverage()
        self._tables = tables
        self._project = project
        self._partial = partial
        self._has_times_of_receipt = False
        self._second: tuple[str, datetime] | None = None
        self._media: dict[str, str] = {}
        """Of one device and second, so that there are few: path of a clip → its id."""

    def add_record(self, heard: Presence[Fields], deployment: str) -> None:
        fields = heard.of
        self.coverage.note_receipt(fields["received_at"])
        if fields["kind"] == "telemetry" or not is_wanted(
            self._partial.request, fields.get("species")
        ):
            return  # it tells that the device was there
        medium = self._medium(heard, deployment)
        if fields["kind"] == "detection":
            self._add("observations", _observation(heard, deployment, medium))
            self.coverage.note_observation(fields["species"], has_media=medium is not None)
        if medium is not None or fields["kind"] == "detection":
            self._has_times_of_receipt |= fields["time_source"] == "received"

    def _medium(self, heard: Presence[Fields], deployment: str) -> str | None:
        """The id of the record's clip; several records may have the same."""
        path = heard.of["audio_path"]
        if path is None:
            return None
        second = (heard.device, _floor(heard.at))
        if second != self._second:
            self._second, self._media = second, {}
        if path not in self._media:
            self._media[path] = cast(str, heard.of["key"])
            self._add(
                "media",
                {
                    "mediaID": heard.of["key"],
                    "deploymentID": deployment,
                    "timestamp": _written(_floor(heard.at)),
                    "filePath": path,
                    "filePublic": _word(self._project.filePublic),
                    "fileName": PurePosixPath(path).name,
                    "fileMediatype": MEDIATYPES[heard.of["clip_container"]],
                },
            )
            self._add("audio", _audio(heard.of))
            self._partial.keep(path)
        return self._media[path]

    def add_deployment(self, deployment: Deployment) -> None:
        location = self._project.locations.get(deployment.device)
        uncertainty = ceil(deployment.place.uncertainty_metres or 0)
        self._add(
            "deployments",
            {
                "deploymentID": deployment.id,
                "locationID": location and location.locationID,
                "locationName": location and location.locationName,
                "latitude": deployment.place.latitude,
                "longitude": deployment.place.longitude,
                "coordinateUncertainty": uncertainty or None,  # 0 is no estimate
                "deploymentStart": _written(_floor(deployment.start)),
                "deploymentEnd": _written(_ceiling(deployment.end)),
                "cameraID": deployment.device,
                "timestampIssues": _word(self._has_times_of_receipt),
            },
        )
        self._has_times_of_receipt = False
        self.coverage.note_deployment(deployment)

    def leave_out(self, unplaced: UnplacedDevice) -> None:
        self.packed.unplaced_devices += 1
        self.packed.unplaced_records += unplaced.records
        if len(self.packed.unplaced) < UNPLACED_NAMED_MAX:
            self.packed.unplaced.append(unplaced.device)

    def _add(self, table: str, fields: Fields) -> None:
        self._tables[table].add_named(fields)
        self.packed.rows[table] += 1


def _observation(heard: Presence[Fields], deployment: str, medium: str | None) -> Fields:
    fields = heard.of
    return {
        "observationID": fields["key"],
        "deploymentID": deployment,
        "mediaID": medium,
        "eventID": fields["key"] if medium is None else None,
        "eventStart": _written(_floor(heard.at)),
        "eventEnd": _written(_ceiling(heard.until)),
        "observationLevel": "event" if medium is None else "media",
        "observationType": "animal",
        "scientificName": fields["species"],
        "classificationMethod": "machine",
        "classifiedBy": fields["model"],
        "classificationProbability": fields["confidence"],
        "observationTags": "timeSource:received" if fields["time_source"] == "received" else None,
    }


def _audio(fields: Fields) -> Fields:
    metadata = fields["clip_metadata"]
    return {
        "mediaID": fields["key"],
        "sampleRate": fields["clip_sample_rate_hz"],
        "numChannels": fields["clip_channels"],
        "fileLength": fields["clip_duration_seconds"],
        "fileSize": fields["clip_size_bytes"],
        "sha256": fields["clip_sha256"],
        "metadata": None if metadata is None else json_text(metadata),
    }


def _floor(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _ceiling(moment: datetime) -> datetime:
    return _floor(moment) if moment.microsecond == 0 else _floor(moment) + SECOND


def _written(second: datetime) -> str:
    """The standard has whole seconds."""
    return f"{second:%Y-%m-%dT%H:%M:%SZ}"


def _word(truth: bool) -> str:
    return "true" if truth else "false"
