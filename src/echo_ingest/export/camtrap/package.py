"""Writing a data package: its tables, ordered by device and time, and their description."""

from collections import Counter
from collections.abc import Iterable, Iterator
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
    Trust,
    UnplacedDevice,
    deploy,
)
from echo_ingest.export.camtrap.descriptor import DESCRIPTOR, Coverage, describe
from echo_ingest.export.camtrap.project import Project
from echo_ingest.export.camtrap.schemas import TABLES, columns
from echo_ingest.export.partial import ExportRefused, PartialExport, Progress
from echo_ingest.export.reading import is_wanted
from echo_ingest.export.writers import CsvTable, named, word
from echo_ingest.formatting import counted
from echo_ingest.record import Place
from echo_ingest.sinks.clips import CONTENT_TYPES

SECOND = timedelta(seconds=1)
UNPLACED_NAMED_MAX = 20

Fields = dict[str, Any]


class PackageSummary(Struct):
    """What a data package contains, and what it had to leave out."""

    rows: dict[str, int] = {}
    """Table → number of rows."""
    unplaced_devices: int = 0
    """How many devices were left out because their place is unknown."""
    unplaced_records: int = 0
    """The records of these devices."""
    unplaced: list[str] = []
    """The names of the first `UNPLACED_NAMED_MAX` of these devices."""


def write(partial: PartialExport, project: Project, progress: Progress) -> PackageSummary:
    """Write all files of the package except the clips, which are already there."""
    known_places = {device: location.place for device, location in project.locations.items()}
    total = sum(partial.summary().rows.values())
    with progress(total, "writing") as advance, ExitStack() as stack:
        tables = {
            name: CsvTable(stack.enter_context(partial.file(f"{name}.csv")), columns(schema))
            for name, schema in TABLES.items()
        }
        partial.keep_no_clips()
        partial.mark_contradicted()
        package = _Package(tables, project, partial)
        for each in deploy(
            _presences(partial), lambda device: _first_place(partial, device), known_places
        ):
            match each:
                case PlacedRecord():
                    package.add_record(each.presence, each.deployment)
                    advance(1)
                case Deployment():
                    package.add_deployment(each)
                case UnplacedDevice():
                    package.leave_out(each)
                    advance(each.records)
    if not package.summary.rows["deployments"]:
        raise ExportRefused(
            "the package would be empty, because the location of "
            f"{counted(package.summary.unplaced_devices, 'devices')} is unknown. Add it to "
            f"{partial.request.project} under [locations]; then "
            f"`echo-ingest export {partial.target} --resume` continues"
        )
    with partial.file(DESCRIPTOR) as file:
        file.write(describe(partial.files, project, package.coverage))
    return package.summary


def _presences(partial: PartialExport) -> Iterator[Presence[Fields]]:
    for each in partial.in_order():
        fields = named(each.row)
        at = fields["observed_at"]
        until = at + timedelta(seconds=fields.get("clip_duration_seconds") or 0.0)
        until = max(until, fields.get("ends_at") or until)
        fields["receipt_is_contradicted"] = each.receipt_is_contradicted
        yield Presence(each.device, at, until, _place(fields), fields, _trust(fields))


def _trust(fields: Fields) -> Trust:
    if fields["time_source"] == "device":
        return Trust.DEVICE
    return Trust.RECEIPT_CONTRADICTED if fields["receipt_is_contradicted"] else Trust.RECEIPT


def _first_place(partial: PartialExport, device: str) -> Place | None:
    row = partial.first_placed(device)
    return None if row is None else _place(named(row))


def _place(fields: Fields) -> Place | None:
    if fields["latitude"] is None:
        return None
    return Place(
        fields["latitude"],
        fields["longitude"],
        fields["altitude_metres"],
        fields["uncertainty_metres"],
    )


class _Package:
    """The tables of a package while they are written."""

    def __init__(
        self, tables: dict[str, CsvTable], project: Project, partial: PartialExport
    ) -> None:
        self.summary = PackageSummary(dict.fromkeys(tables, 0))
        self.coverage = Coverage()
        self._tables = tables
        self._project = project
        self._partial = partial
        self._has_times_of_receipt = False
        self._time_problems = Counter[str]()
        """Of the current deployment."""
        self._second: tuple[str, datetime] | None = None
        self._media: dict[str, str] = {}
        """Path of a clip → its id, for the current device and second only: it stays small."""

    def add_record(self, presence: Presence[Fields], deployment: str) -> None:
        fields = presence.content
        if not fields["receipt_is_contradicted"]:
            self.coverage.note_receipt(fields["received_at"])
        if fields["time_problem"] is not None:
            self._time_problems[fields["time_problem"]] += 1
        if fields["kind"] in ("telemetry", "measurement") or not is_wanted(
            self._partial.request, fields.get("species")
        ):
            return  # this record only shows that the device was there
        medium = self._medium(presence, deployment)
        if fields["kind"] == "detection":
            self._add("observations", _observation(presence, deployment, medium))
            self.coverage.note_observation(
                fields["species"] if fields["observation_type"] == "animal" else None,
                has_media=medium is not None,
            )
        if medium is not None or fields["kind"] == "detection":
            self._has_times_of_receipt |= fields["time_source"] == "received"

    def _medium(self, presence: Presence[Fields], deployment: str) -> str | None:
        """Return the id of the record's clip, which several records can share."""
        fields = presence.content
        path = fields["audio_path"]
        if path is None:
            return None
        second = (presence.device, _floor(presence.at))
        if second != self._second:
            self._second, self._media = second, {}
        if path not in self._media:
            self._media[path] = cast(str, fields["key"])
            self._add(
                "media",
                {
                    "mediaID": fields["key"],
                    "deploymentID": deployment,
                    "timestamp": _whole_seconds(_floor(presence.at)),
                    "filePath": path,
                    "filePublic": word(self._project.filePublic),
                    "fileName": PurePosixPath(path).name,
                    "fileMediatype": CONTENT_TYPES[fields["clip_container"]],
                    "mediaComments": _device_time(fields),
                },
            )
            self._add("audio", _audio(fields))
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
                "coordinateUncertainty": uncertainty or None,  # 0 means that there is no estimate
                "deploymentStart": _whole_seconds(_floor(deployment.start)),
                "deploymentEnd": _whole_seconds(_ceiling(deployment.end)),
                "cameraID": deployment.device,
                "timestampIssues": word(
                    self._has_times_of_receipt
                    or bool(self._time_problems)
                    or deployment.trust is not Trust.DEVICE
                ),
                "deploymentTags": _tag("altitude", deployment.place.altitude_metres),
                "deploymentComments": _counts(self._time_problems),
            },
        )
        self._has_times_of_receipt = False
        self._time_problems.clear()
        self.coverage.note_deployment(deployment)

    def leave_out(self, unplaced: UnplacedDevice) -> None:
        self.summary.unplaced_devices += 1
        self.summary.unplaced_records += unplaced.records
        if len(self.summary.unplaced) < UNPLACED_NAMED_MAX:
            self.summary.unplaced.append(unplaced.device)

    def _add(self, table: str, fields: Fields) -> None:
        self._tables[table].add_named(fields)
        self.summary.rows[table] += 1


def _observation(presence: Presence[Fields], deployment: str, medium: str | None) -> Fields:
    fields = presence.content
    is_animal = fields["observation_type"] == "animal"
    received = "received" if fields["time_source"] == "received" else None
    tags = (
        _tag("timeSource", received),
        _tag("timeProblem", fields["time_problem"]),
        _tag("lowHz", fields["low_hz"]),
        _tag("highHz", fields["high_hz"]),
    )
    label = None if is_animal else f"label: {fields['species']}"
    common_name = fields["common_name"]
    called = None if common_name is None else f"common name: {common_name}"
    return {
        "observationID": fields["key"],
        "deploymentID": deployment,
        "mediaID": medium,
        "eventID": fields["key"] if medium is None else None,
        "eventStart": _whole_seconds(_floor(presence.at)),
        "eventEnd": _whole_seconds(_ceiling(fields["ends_at"] or presence.until)),
        "observationLevel": "event" if medium is None else "media",
        "observationType": fields["observation_type"],
        "scientificName": fields["species"] if is_animal else None,
        "classificationMethod": "machine",
        "classifiedBy": fields["model"],
        "classificationProbability": fields["confidence"],
        "observationTags": _joined(tags),
        "observationComments": _joined((label, called, _device_time(fields))),
    }


def _joined(parts: Iterable[str | None]) -> str | None:
    """Return the parts with bars between them, as the standard separates what a field lists."""
    return " | ".join(part for part in parts if part is not None) or None


def _tag(name: str, value: object) -> str | None:
    return None if value is None else f"{name}:{value}"


def _device_time(fields: Fields) -> str | None:
    written = fields["device_time"]
    return None if written is None else f"the device wrote the time {written}"


def _counts(time_problems: Counter[str]) -> str | None:
    return _joined(f"{code}: {count:,}" for code, count in sorted(time_problems.items()))


def _audio(fields: Fields) -> Fields:
    return {
        "mediaID": fields["key"],
        "sampleRate": fields["clip_sample_rate_hz"],
        "numChannels": fields["clip_channels"],
        "fileLength": fields["clip_duration_seconds"],
        "fileSize": fields["clip_size_bytes"],
        "sha256": fields["clip_sha256"],
        "problem": fields["clip_problem"],
        "metadata": fields["clip_metadata"],
    }


def _floor(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _ceiling(moment: datetime) -> datetime:
    return _floor(moment) if moment.microsecond == 0 else _floor(moment) + SECOND


def _whole_seconds(second: datetime) -> str:
    """Format a time as the standard has it, in whole seconds."""
    return f"{second:%Y-%m-%dT%H:%M:%SZ}"
