"""The tables of a data package: those of Camtrap DP 1.0.2, field by field, and one for audio.

Names, order, types and constraints of the first three are those of the standard
(https://camtrap-dp.tdwg.org); the descriptions are ours. The table `audio` is not part of it: it
has what the standard has no field for yet, with the names of pamDP where there are any. Two things
differ from the standard: the schemas are part of the package, so that it can be checked without a
network, and only an empty field is a missing value.
"""

from echo_ingest.export.writers import ColumnType, TableColumn
from echo_ingest.quality import ClipProblem

VERSION = "1.0.2"
Json = dict[str, object]

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


def _field(name: str, about: str, type: str = "string", **constraints: object) -> Json:
    field: Json = {"name": name, "type": type, "description": about}
    if type == "datetime":
        field["format"] = TIME_FORMAT
    return field | {"constraints": {"required": False} | constraints}


def _schema(key: str, fields: list[Json], **references: str) -> Json:
    """Return a table schema; `references` maps a field to the table that has it as its key."""
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
        _field("locationID", "The id that the project gives the place."),
        _field("locationName", "A name for the place."),
        _field("latitude", "Degrees, WGS 84.", "number", required=True, minimum=-90, maximum=90),
        _field("longitude", "Degrees, WGS 84.", "number", required=True, minimum=-180, maximum=180),
        _field("coordinateUncertainty", "Radius around the place in metres.", "integer", minimum=1),
        _field(
            "deploymentStart",
            "The time of the device's first record here.",
            "datetime",
            required=True,
        ),
        _field("deploymentEnd", "The time of its last record here.", "datetime", required=True),
        _field("setupBy", "Who set it up. Not known to the journal."),
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
        _field(
            "timestampIssues",
            "true: some times are those of receipt, or not simply what the device wrote.",
            "boolean",
        ),
        _field("baitUse", "Not known to the journal.", "boolean"),
        _field(
            "featureType",
            "What is there. Not known to the journal.",
            enum=[
                "roadPaved",
                "roadDirt",
                "trailHiking",
                "trailGame",
                "roadUnderpass",
                "roadOverpass",
                "roadBridge",
                "culvert",
                "burrow",
                "nestSite",
                "carcass",
                "waterSource",
                "fruitingTree",
            ],
        ),
        _field("habitat", "Not known to the journal."),
        _field("deploymentGroups", "Not known to the journal."),
        _field("deploymentTags", "altitude: that of the place in metres."),
        _field("deploymentComments", "How many records have which problem with their time."),
    ],
)

MEDIA = _schema(
    "mediaID",
    [
        _field("mediaID", "The clip.", required=True, unique=True),
        _field("deploymentID", "The deployment of the device.", required=True),
        _field("captureMethod", "Not known for one clip.", enum=["activityDetection", "timeLapse"]),
        _field("timestamp", "When it was recorded.", "datetime", required=True),
        _field(
            "filePath",
            "Path of the file, relative to this table.",
            required=True,
            pattern=r"^(?=^[^./~])(^((?!\.{2}).)*$).*$",
        ),
        _field("filePublic", "As the project file says.", "boolean", required=True),
        _field("fileName", "Name of the file; names sort by time."),
        _field(
            "fileMediatype",
            "Media type, recognised from the file's bytes.",
            required=True,
            pattern="^(image|video|audio)/.*$",
        ),
        _field("exifData", "Only for images.", "any"),
        _field("favorite", "Not known to the journal.", "boolean"),
        _field("mediaComments", "The time that the device wrote, if it is not believed as it is."),
    ],
    deploymentID="deployments",
)

OBSERVATIONS = _schema(
    "observationID",
    [
        _field("observationID", "The journal's key of the record.", required=True, unique=True),
        _field("deploymentID", "The deployment of the device.", required=True),
        _field("mediaID", "The clip of the observation, if it is in the package."),
        _field("eventID", "The event, if there is no clip."),
        _field("eventStart", "The device's time.", "datetime", required=True),
        _field("eventEnd", "The end of the clip, or the same time.", "datetime", required=True),
        _field(
            "observationLevel",
            "Whether a clip or an event was classified.",
            required=True,
            enum=["media", "event"],
        ),
        _field(
            "observationType",
            "What was observed.",
            required=True,
            enum=["animal", "human", "vehicle", "blank", "unknown", "unclassified"],
        ),
        _field("cameraSetupType", "Not used.", enum=["setup", "calibration"]),
        _field("scientificName", "The name that the model gives an animal."),
        _field("count", "Number of animals. Not known.", "integer", minimum=1),
        _field("lifeStage", "Not known.", enum=["adult", "subadult", "juvenile"]),
        _field("sex", "Not known.", enum=["female", "male"]),
        _field("behavior", "Not known."),
        _field("individualID", "Not known."),
        _field("individualPositionRadius", "Metres. Not known.", "number", minimum=0),
        _field("individualPositionAngle", "Degrees. Not known.", "number", minimum=-90, maximum=90),
        _field("individualSpeed", "Metres a second. Not known.", "number", minimum=0),
        _field("bboxX", "Only for images.", "number", minimum=0, maximum=1),
        _field("bboxY", "Only for images.", "number", minimum=0, maximum=1),
        _field("bboxWidth", "Only for images.", "number", minimum=1e-15, maximum=1),
        _field("bboxHeight", "Only for images.", "number", minimum=1e-15, maximum=1),
        _field("classificationMethod", "Always by machine.", enum=["human", "machine"]),
        _field("classifiedBy", "The model, if it is known."),
        _field("classificationTimestamp", "Not known.", "datetime"),
        _field("classificationProbability", "0 to 1.", "number", minimum=0, maximum=1),
        _field(
            "observationTags",
            "timeSource:received if the time is that of receipt; timeProblem: why it is not simply"
            " what the device wrote.",
        ),
        _field(
            "observationComments",
            "The label that the model gives, if it is no animal; the time that the device wrote,"
            " if it is not believed as it is.",
        ),
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
        _field("sha256", "SHA-256 of the file.", required=True, pattern="^[0-9a-f]{64}$"),
        _field(
            "problem",
            "In which way the header of the file differs from its sound.",
            enum=[problem.value for problem in ClipProblem],
        ),
        _field("metadata", "Metadata in the file, such as GUANO, as JSON.", "any"),
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
    """Return the columns of a table in the package; columns without a value stay empty."""
    fields = schema["fields"]
    assert isinstance(fields, list)
    return tuple(
        TableColumn(field["name"], COLUMN_TYPES.get(field["type"], "text")) for field in fields
    )


COLUMN_TYPES: dict[str, ColumnType] = {"number": "number", "integer": "whole", "any": "json"}
