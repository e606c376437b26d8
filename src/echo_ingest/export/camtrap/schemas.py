"""The tables of a data package: those of Camtrap DP 1.0.2, field by field, and one of audio.

Names, order, types and constraints of the first three are the standard's
(https://camtrap-dp.tdwg.org), the words are ours. `audio` is not part of it: it has what the
standard has no field for yet, under pamDP's names where there are any. What differs: the schemas
stand in the package itself, so that it can be checked without a network, and only an empty field
is a missing value.
"""

from echo_ingest.export.record_rows import TableColumn, Type

VERSION = "1.0.2"
Json = dict[str, object]

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


def _field(name: str, about: str, type: str = "string", **constraints: object) -> Json:
    field: Json = {"name": name, "type": type, "description": about}
    if type == "datetime":
        field["format"] = TIME_FORMAT
    return field | {"constraints": {"required": False} | constraints}


def _schema(key: str, fields: list[Json], **references: str) -> Json:
    """A table schema; `references` name a field of ours and the table whose key it is."""
    schema: Json = {"fields": fields, "missingValues": [""], "primaryKey": key}
    if references:
        schema["foreignKeys"] = [
            {"fields": field, "reference": {"resource": table, "fields": field}}
            for field, table in references.items()
        ]
    return schema


DEPLOYMENTS = _schema(
    "deploymentID",
    [
        _field("deploymentID", "The deployment.", required=True, unique=True),
        _field("locationID", "The place, as the project names it."),
        _field("locationName", "A name for the place."),
        _field("latitude", "Degrees, WGS 84.", "number", required=True, minimum=-90, maximum=90),
        _field("longitude", "Degrees, WGS 84.", "number", required=True, minimum=-180, maximum=180),
        _field("coordinateUncertainty", "Radius around the place in metres.", "integer", minimum=1),
        _field(
            "deploymentStart", "When the device was first heard here.", "datetime", required=True
        ),
        _field("deploymentEnd", "When it was last heard here.", "datetime", required=True),
        _field("setupBy", "Who put it up. Not known to the journal."),
        _field("cameraID", "The device: its node, and its sensor if that has another name."),
        _field("cameraModel", "Maker and model. Not known to the journal."),
        _field(
            "cameraDelay", "Pause after a detection in seconds. Not known.", "integer", minimum=0
        ),
        _field("cameraHeight", "Height above ground in metres. Not known.", "number", minimum=0),
        _field("cameraDepth", "Depth in metres. Not known.", "number", minimum=0),
        _field("cameraTilt", "Degrees. Not known.", "integer", minimum=-90, maximum=90),
        _field("cameraHeading", "Degrees. Not known.", "integer", minimum=0, maximum=360),
        _field("detectionDistance", "Reach in metres. Not known.", "number", minimum=0),
        _field("timestampIssues", "true: times of receipt stand for missing ones.", "boolean"),
        _field("baitUse", "Not known to the journal.", "boolean"),
        _field(
            "featureType",
            "What is there. Not known to the journal.",
            enum=[
                *("roadPaved", "roadDirt", "trailHiking", "trailGame", "roadUnderpass"),
                *("roadOverpass", "roadBridge", "culvert", "burrow", "nestSite", "carcass"),
                *("waterSource", "fruitingTree"),
            ],
        ),
        _field("habitat", "Not known to the journal."),
        _field("deploymentGroups", "Not known to the journal."),
        _field("deploymentTags", "Not known to the journal."),
        _field("deploymentComments", "Remarks."),
    ],
)

MEDIA = _schema(
    "mediaID",
    [
        _field("mediaID", "The clip.", required=True, unique=True),
        _field("deploymentID", "Where it was recorded.", required=True),
        _field("captureMethod", "Not known for one clip.", enum=["activityDetection", "timeLapse"]),
        _field("timestamp", "When it was recorded.", "datetime", required=True),
        _field(
            "filePath",
            "Where the file is, from this table.",
            required=True,
            pattern=r"^(?=^[^./~])(^((?!\.{2}).)*$).*$",
        ),
        _field("filePublic", "As the project file says.", "boolean", required=True),
        _field("fileName", "The file's name; it sorts by time."),
        _field(
            "fileMediatype",
            "Of the file, told from its bytes.",
            required=True,
            pattern="^(image|video|audio)/.*$",
        ),
        _field("exifData", "Images have it.", "any"),
        _field("favorite", "Not known to the journal.", "boolean"),
        _field("mediaComments", "Remarks."),
    ],
    deploymentID="deployments",
)

OBSERVATIONS = _schema(
    "observationID",
    [
        _field("observationID", "The journal's key of the record.", required=True, unique=True),
        _field("deploymentID", "Where it was heard.", required=True),
        _field("mediaID", "The clip it was heard in, if that is in the package."),
        _field("eventID", "The event, where there is no clip."),
        _field("eventStart", "The time that the device gives.", "datetime", required=True),
        _field("eventEnd", "The end of the clip, or the same.", "datetime", required=True),
        _field("observationLevel", "What was looked at.", required=True, enum=["media", "event"]),
        _field(
            "observationType",
            "What it was.",
            required=True,
            enum=["animal", "human", "vehicle", "blank", "unknown", "unclassified"],
        ),
        _field("cameraSetupType", "Not used.", enum=["setup", "calibration"]),
        _field("scientificName", "As the model names it."),
        _field("count", "How many. A model does not say.", "integer", minimum=1),
        _field("lifeStage", "Not known.", enum=["adult", "subadult", "juvenile"]),
        _field("sex", "Not known.", enum=["female", "male"]),
        _field("behavior", "Not known."),
        _field("individualID", "Not known."),
        _field("individualPositionRadius", "Metres. Not known.", "number", minimum=0),
        _field("individualPositionAngle", "Degrees. Not known.", "number", minimum=-90, maximum=90),
        _field("individualSpeed", "Metres a second. Not known.", "number", minimum=0),
        _field("bboxX", "Images have it.", "number", minimum=0, maximum=1),
        _field("bboxY", "Images have it.", "number", minimum=0, maximum=1),
        _field("bboxWidth", "Images have it.", "number", minimum=1e-15, maximum=1),
        _field("bboxHeight", "Images have it.", "number", minimum=1e-15, maximum=1),
        _field("classificationMethod", "Always by machine.", enum=["human", "machine"]),
        _field("classifiedBy", "The model, where it is named."),
        _field("classificationTimestamp", "Not known.", "datetime"),
        _field("classificationProbability", "0 to 1.", "number", minimum=0, maximum=1),
        _field("observationTags", "timeSource:received where the device gave no time."),
        _field("observationComments", "Remarks."),
    ],
    deploymentID="deployments",
    mediaID="media",
)

AUDIO = _schema(
    "mediaID",
    [
        _field("mediaID", "The clip.", required=True, unique=True),
        _field("sampleRate", "Hertz, measured.", "integer", required=True, minimum=1),
        _field("numChannels", "Channels.", "integer", required=True, minimum=1),
        _field("fileLength", "Seconds, measured.", "number", required=True, minimum=0),
        _field("fileSize", "Bytes.", "integer", required=True, minimum=1),
        _field("sha256", "Of the file.", required=True, pattern="^[0-9a-f]{64}$"),
        _field("metadata", "What the file says of itself, such as GUANO: JSON.", "any"),
    ],
    mediaID="media",
)

TABLES = {
    "deployments": DEPLOYMENTS,
    "media": MEDIA,
    "observations": OBSERVATIONS,
    "audio": AUDIO,
}


def columns(schema: Json) -> tuple[TableColumn, ...]:
    """The columns of a table in the package; what is not given for one stays empty."""
    fields = schema["fields"]
    assert isinstance(fields, list)
    return tuple(TableColumn(field["name"], NUMERIC.get(field["type"], "text")) for field in fields)


NUMERIC: dict[str, Type] = {"number": "number", "integer": "whole"}
