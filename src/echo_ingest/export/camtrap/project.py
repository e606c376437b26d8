"""The project file: what a data package must state and the journal does not know.

It says who made the data, why, how, and under which licence. A person writes it once, in TOML, with
the terms of Camtrap DP; docs/export.md has an example to copy.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echo_ingest.record import Place

SHOWN_CHARACTERS_MAX = 60


class ProjectError(Exception):
    """A project file that cannot be used; the text has a line with a remedy for each problem."""


class _ProjectTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Text = Annotated[str, Field(min_length=1)]


class Study(_ProjectTable):
    """The table `[project]`."""

    title: Text
    samplingDesign: Literal[
        "simpleRandom",
        "systematicRandom",
        "clusteredRandom",
        "experimental",
        "targeted",
        "opportunistic",
    ]
    captureMethod: Annotated[
        list[Literal["activityDetection", "timeLapse"]], Field(min_length=1, max_length=2)
    ]
    individualAnimals: bool
    id: Text | None = None
    acronym: Text | None = None
    description: Text | None = None
    path: Text | None = None


class Contributor(_ProjectTable):
    """One of `[[contributors]]`."""

    title: Text
    role: Literal[
        "contact", "principalInvestigator", "rightsHolder", "publisher", "contributor"
    ] = "contributor"
    email: Text | None = None
    path: Text | None = None
    organization: Text | None = None


class Licence(_ProjectTable):
    """One of `[[licenses]]`."""

    name: Text
    scope: Literal["data", "media"]
    title: Text | None = None
    path: Text | None = None


class Location(_ProjectTable):
    """One of `[locations]`: where a device is, as a person measured it."""

    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    coordinateUncertainty: Annotated[int, Field(ge=1)] | None = None
    locationID: Text | None = None
    locationName: Text | None = None

    @property
    def place(self) -> Place:
        """Return the location as a record has it."""
        return Place(self.latitude, self.longitude, None, self.coordinateUncertainty)


class Project(_ProjectTable):
    """A project file."""

    project: Study
    contributors: Annotated[list[Contributor], Field(min_length=1)]
    licenses: list[Licence] = []
    filePublic: bool
    title: Text | None = None
    description: Text | None = None
    locations: dict[str, Location] = {}


def read(path: Path) -> Project:
    """Read a project file; raise a `ProjectError` that lists all of its problems."""
    try:
        return Project.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise ProjectError(f"{path} cannot be read ({error.strerror})") from None
    except ValidationError as error:
        lines = [_line(path, dict(each)) for each in error.errors()]
        raise ProjectError("\n".join(lines)) from None
    except ValueError as error:
        raise ProjectError(f"{path} is not valid TOML ({error})") from None


def _line(path: Path, problem: dict[str, Any]) -> str:
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"{path}: {name} is missing; docs/export.md says what to type"
    if problem["type"] == "extra_forbidden":
        return f"{path}: there is no field {name}; remove it"
    value = repr(problem["input"])
    shown = value if len(value) <= SHOWN_CHARACTERS_MAX else f"{value[:SHOWN_CHARACTERS_MAX]}…"
    requirement = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{path}: {name} is {shown}; {requirement}"
