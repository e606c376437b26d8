"""The data package is valid by another's judgement, and says nothing that nobody knows."""

import base64
import csv
import io
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import frictionless
import pytest

from echo_ingest.export.camtrap.project import ProjectError, read
from echo_ingest.export.partial import ExportRefused
from echo_ingest.record import kind
from tests.export.exporting import export_package, files, journal_of, request_for
from tests.sinks.messages import (
    LIMITS,
    MORNING,
    PLACE,
    clip,
    detection,
    json_message,
    message,
    messages,
    record_of,
)

# The tables of Camtrap DP 1.0.2, https://camtrap-dp.tdwg.org/data
CAMTRAP_DP = {
    "deployments": (
        "deploymentID locationID locationName latitude longitude coordinateUncertainty"
        " deploymentStart deploymentEnd setupBy cameraID cameraModel cameraDelay cameraHeight"
        " cameraDepth cameraTilt cameraHeading detectionDistance timestampIssues baitUse"
        " featureType habitat deploymentGroups deploymentTags deploymentComments"
    ),
    "media": (
        "mediaID deploymentID captureMethod timestamp filePath filePublic fileName fileMediatype"
        " exifData favorite mediaComments"
    ),
    "observations": (
        "observationID deploymentID mediaID eventID eventStart eventEnd observationLevel"
        " observationType cameraSetupType scientificName count lifeStage sex behavior individualID"
        " individualPositionRadius individualPositionAngle individualSpeed bboxX bboxY bboxWidth"
        " bboxHeight classificationMethod classifiedBy classificationTimestamp"
        " classificationProbability observationTags observationComments"
    ),
}
REQUIRED = {
    "deployments": "deploymentID latitude longitude deploymentStart deploymentEnd",
    "media": "mediaID deploymentID timestamp filePath filePublic fileMediatype",
    "observations": (
        "observationID deploymentID eventStart eventEnd observationLevel observationType"
    ),
}
PROJECT = """
filePublic = false

[project]
title = "Frogs of the Otways"
samplingDesign = "opportunistic"
captureMethod = ["activityDetection"]
individualAnimals = false

[[contributors]]
title = "Ada Bird"
role = "contact"

[[licenses]]
name = "CC-BY-4.0"
scope = "data"

[[licenses]]
name = "CC-BY-NC-4.0"
scope = "media"
"""
NOWHERE = {
    "sensorId": "lost-1",
    "timestamp": MORNING + 3,
    "species": "Litoria ewingii",
    "source_model": "echo-engine 3",
}
LOCATION = """
[locations.{device}]
latitude = -38.5
longitude = 143
coordinateUncertainty = 5
locationName = "The bridge"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    file = tmp_path / "otways.toml"
    file.write_text(PROJECT)
    return file


def table(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / f"{name}.csv").read_text())))


def described(folder: Path) -> dict[str, Any]:
    descriptor: dict[str, Any] = json.loads((folder / "datapackage.json").read_text())
    return descriptor


def require_valid(folder: Path) -> None:
    report = frictionless.validate(str(folder / "datapackage.json"))
    assert report.valid, report.flatten(["type", "note"])[:5]


def test_a_package_is_valid_by_frictionless(tmp_path: Path, project: Path) -> None:
    everything = [*messages(0, 60), *LIMITS.values()]
    kinds = Counter(kind(record_of(each)) for each in everything)
    journal = journal_of(tmp_path / "journal.db", everything)
    folder = tmp_path / "otways"
    summary, packaged = export_package(
        journal, folder, request_for("camtrap-dp", audio=True), read(project)
    )
    require_valid(folder)
    assert summary.left_out == {"movements": kinds["movement"]}
    assert packaged.rows["observations"] == kinds["detection"]
    assert packaged.rows["media"] >= kinds["recording"]
    for name, count in packaged.rows.items():
        assert len(table(folder, name)) == count
    paths = {row["filePath"] for row in table(folder, "media")}
    assert paths == {path for path in files(folder) if path.startswith("audio/")}


def test_frictionless_would_see_what_is_wrong(tmp_path: Path, project: Path) -> None:
    journal = journal_of(tmp_path / "journal.db", messages(0, 20))
    folder = tmp_path / "otways"
    export_package(journal, folder, request_for("camtrap-dp", audio=True), read(project))
    observations = folder / "observations.csv"
    observations.write_bytes(observations.read_bytes().replace(b",animal,", b",plant,", 1))
    report = frictionless.validate(str(folder / "datapackage.json"))
    assert {"constraint-error", "hash-count-error", "byte-count-error"} & {
        type for (type,) in report.flatten(["type"])
    } >= {"constraint-error"}


def test_its_tables_are_those_of_the_standard(tmp_path: Path, project: Path) -> None:
    journal = journal_of(tmp_path / "journal.db", messages(0, 20))
    folder = tmp_path / "otways"
    export_package(journal, folder, request_for("camtrap-dp"), read(project))
    resources = {each["name"]: each["schema"]["fields"] for each in described(folder)["resources"]}
    for name, columns in CAMTRAP_DP.items():
        header, _, _ = (folder / f"{name}.csv").read_text().partition("\n")
        assert header.split(",") == columns.split()
        assert [field["name"] for field in resources[name]] == columns.split()
        required = [field["name"] for field in resources[name] if field["constraints"]["required"]]
        assert required == REQUIRED[name].split()
    assert set(resources) == {*CAMTRAP_DP, "audio"}


def test_an_observation_says_what_was_heard_where_and_in_which_clip(
    tmp_path: Path, project: Path
) -> None:
    journal = journal_of(tmp_path / "journal.db", [message(4), detection(0), message(1)])
    folder = tmp_path / "otways"
    export_package(journal, folder, request_for("camtrap-dp", audio=True), read(project))
    by_level = {row["observationLevel"]: row for row in table(folder, "observations")}
    with_clip, named = by_level["media"], by_level["event"]
    media = {row["mediaID"]: row for row in table(folder, "media")}
    medium = media.pop(with_clip["mediaID"])
    assert (named["mediaID"], named["eventID"]) == ("", named["observationID"])
    assert len(media) == 1  # of a recording, which nobody has classified
    assert with_clip["eventStart"] == f"{datetime.fromtimestamp(MORNING + 4, UTC):%FT%TZ}"
    assert with_clip["eventEnd"] == f"{datetime.fromtimestamp(MORNING + 5, UTC):%FT%TZ}"
    assert (with_clip["scientificName"], with_clip["classifiedBy"]) == (
        "Litoria ewingii",
        "echo-engine 3",
    )
    assert (with_clip["classificationMethod"], with_clip["classificationProbability"]) == (
        "machine",
        "0.6364",
    )
    assert (medium["fileMediatype"], medium["filePublic"]) == ("audio/wav", "false")
    assert (folder / medium["filePath"]).read_bytes() == clip(4)
    sound = {row["mediaID"]: row for row in table(folder, "audio")}[medium["mediaID"]]
    assert (sound["sampleRate"], sound["numChannels"], sound["fileLength"]) == (
        "16000",
        "1",
        "0.02",
    )
    assert {row["deploymentID"] for row in table(folder, "deployments")} >= {
        with_clip["deploymentID"],
        named["deploymentID"],
    }


def test_what_it_says_of_itself_is_what_the_tables_hold(tmp_path: Path, project: Path) -> None:
    journal = journal_of(tmp_path / "journal.db", [detection(0), detection(90_000)])
    folder = tmp_path / "otways"
    export_package(journal, folder, request_for("camtrap-dp"), read(project))
    package = described(folder)
    assert package["temporal"] == {"start": "2026-11-18", "end": "2026-11-19"}
    assert package["spatial"] == {"type": "Point", "coordinates": [PLACE[1], PLACE[0]]}
    assert package["taxonomic"] == [{"scientificName": "Litoria ewingii"}]
    assert package["project"]["observationLevel"] == ["event"]
    assert package["contributors"] == [{"title": "Ada Bird", "role": "contact"}]
    assert [each["scope"] for each in package["licenses"]] == ["data", "media"]


def test_the_same_journal_gives_the_same_package(tmp_path: Path, project: Path) -> None:
    journal = journal_of(tmp_path / "journal.db", [*messages(0, 40), *LIMITS.values()])
    for name in ("one", "two"):
        export_package(
            journal, tmp_path / name, request_for("camtrap-dp", audio=True), read(project)
        )
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_species_narrows_observations_and_not_where_devices_were(
    tmp_path: Path, project: Path
) -> None:
    owl = detection(100, species="Ninox boobook")
    journal = journal_of(tmp_path / "journal.db", [*messages(0, 60), owl])
    for name, species in (("all", ()), ("owls", ("ninox boobook",))):
        request = request_for("camtrap-dp", species=species, audio=True)
        export_package(journal, tmp_path / name, request, read(project))
    require_valid(tmp_path / "owls")
    assert len(table(tmp_path / "owls", "observations")) == 1
    assert not [path for path in files(tmp_path / "owls") if path.startswith("audio/")]
    spans = [
        [(row["deploymentStart"], row["deploymentEnd"]) for row in table(folder, "deployments")]
        for folder in (tmp_path / "all", tmp_path / "owls")
    ]
    assert spans[0] == spans[1]


def test_simulated_animals_are_left_out(tmp_path: Path, project: Path) -> None:
    simulated = detection(1, sourceType="simulator")
    journal = journal_of(tmp_path / "journal.db", [detection(0), simulated])
    summary, packaged = export_package(
        journal, tmp_path / "out", request_for("camtrap-dp"), read(project)
    )
    assert summary.left_out == {"simulated": 1}
    assert packaged.rows["observations"] == 1


def test_where_a_device_was_is_never_guessed(tmp_path: Path, project: Path) -> None:
    nowhere = json_message("ridge-01", {**NOWHERE, "audioClip": base64.b64encode(clip(3)).decode()})
    journal = journal_of(tmp_path / "journal.db", [detection(0), nowhere])
    request = request_for("camtrap-dp", audio=True)
    summary, packaged = export_package(journal, tmp_path / "out", request, read(project))
    assert summary.clips == 0
    assert not [path for path in files(tmp_path / "out") if path.endswith(".wav")]
    assert (packaged.unplaced, packaged.unplaced_records) == (["ridge-01/lost-1"], 1)
    assert len(table(tmp_path / "out", "observations")) == 1
    project.write_text(PROJECT + LOCATION.format(device='"ridge-01/lost-1"'))
    summary, packaged = export_package(journal, tmp_path / "known", request, read(project))
    assert (packaged.unplaced, summary.clips) == ([], 1)
    require_valid(tmp_path / "known")
    by_id = {row["deploymentID"]: row for row in table(tmp_path / "known", "deployments")}
    row = by_id["ridge-01/lost-1/1"]
    assert (row["latitude"], row["longitude"], row["coordinateUncertainty"]) == (
        "-38.5",
        "143.0",
        "5",
    )
    assert row["locationName"] == "The bridge"


def test_times_of_receipt_are_told_from_the_devices_own(tmp_path: Path, project: Path) -> None:
    timeless = detection(3, timestamp=None)
    journal = journal_of(tmp_path / "journal.db", [detection(1), timeless])
    export_package(journal, tmp_path / "out", request_for("camtrap-dp"), read(project))
    issues = {
        row["cameraID"]: row["timestampIssues"] for row in table(tmp_path / "out", "deployments")
    }
    assert issues == {"ridge-01": "true", "ridge-02": "false"}
    tags = [row["observationTags"] for row in table(tmp_path / "out", "observations")]
    assert sorted(tags) == ["", "timeSource:received"]


def test_without_any_place_there_is_no_package_until_one_is_given(
    tmp_path: Path, project: Path
) -> None:
    journal = journal_of(tmp_path / "journal.db", [detection(0, microphoneLLA=None)])
    target = tmp_path / "out"
    with pytest.raises(ExportRefused, match=r"\[locations\]"):
        export_package(journal, target, request_for("camtrap-dp"), read(project))
    assert not target.exists()


def test_a_project_file_is_told_everything_that_is_wrong_at_once(tmp_path: Path) -> None:
    file = tmp_path / "otways.toml"
    file.write_text(
        PROJECT.replace('"opportunistic"', '"random"').replace("individualAnimals", "animals")
        + LOCATION.format(device="ridge-01").replace("-38.5", "-138.5")
    )
    with pytest.raises(ProjectError) as error:
        read(file)
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"{file}: project.samplingDesign is 'random'; input should be")
    assert f"{file}: project.individualAnimals is missing" in lines[1]
    assert f"{file}: there is no field project.animals; remove it" in lines
    assert any("locations.ridge-01.latitude" in line and "-138.5" in line for line in lines)
    file.write_text("project = ")
    with pytest.raises(ProjectError, match="is not valid TOML"):
        read(file)
    with pytest.raises(ProjectError, match="cannot be read"):
        read(tmp_path / "nowhere.toml")
