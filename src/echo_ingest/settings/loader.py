"""Reading settings from the environment, a TOML file and secret files, with every error found."""

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from pydantic import BaseModel, ValidationError

from echo_ingest.settings.endpoint_table import FileProblems

ENVIRONMENT_PREFIX = "IOT_"
CONFIG_VARIABLE = "IOT_CONFIG"
FILE_SUFFIX = "_file"
SHOWN_CHARACTERS_MAX = 80
NOT_SHOWN = "a value that is not shown"

M = TypeVar("M", bound=BaseModel)


class SettingsError(Exception):
    """Settings that cannot be used: one line for each problem, with its remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Expected(Struct, frozen=True):
    """What a person should type for a setting."""

    text: str


class RawValue(Struct, frozen=True):
    """A value as it was given, and the name that it has where it was given."""

    label: str
    value: object


def read(
    model: type[M],
    secrets: Collection[str],
    environ: Mapping[str, str],
    toml_path: Path | None,
) -> M:
    """Read the settings of `model`; see `settings.load`. Each of `secrets` may be in a file."""
    problems: list[str] = []
    names = [*model.model_fields, *(secret + FILE_SUFFIX for secret in secrets)]
    if toml_path is None and environ.get(CONFIG_VARIABLE):
        toml_path = Path(environ[CONFIG_VARIABLE])
    raw_values: dict[str, RawValue] = {}
    if toml_path is not None:
        raw_values |= _with_secrets(_from_file(toml_path, names, problems), secrets, problems)
    raw_values |= _with_secrets(_from_environment(environ, names), secrets, problems)
    try:
        settings = model.model_validate({name: each.value for name, each in raw_values.items()})
    except ValidationError as error:
        problems += _validation_problems(error, raw_values, model, secrets)
    if problems:
        raise SettingsError(problems)
    return settings


def _from_environment(environ: Mapping[str, str], names: list[str]) -> dict[str, RawValue]:
    values = {}
    for name in names:
        label = ENVIRONMENT_PREFIX + name.upper()
        if environ.get(label):
            values[name] = RawValue(label, environ[label])
    return values


def _from_file(path: Path, names: list[str], problems: list[str]) -> dict[str, RawValue]:
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror}); type the path of a TOML file")
        return {}
    except ValueError as error:
        problems.append(f"{path}: is not TOML ({error}); type lines such as: mqtt_port = 1883")
        return {}
    values = {}
    for name, value in table.items():
        if name in names:
            values[name] = RawValue(f"{name} in {path}", value)
        else:
            nearest = difflib.get_close_matches(name.lower(), names, n=1)
            remedy = f"type {nearest[0]}" if nearest else "leave it out"
            problems.append(f"{name} in {path}: there is no such setting; {remedy}")
    return values


def _with_secrets(
    values: dict[str, RawValue], secrets: Collection[str], problems: list[str]
) -> dict[str, RawValue]:
    """Return the values with the content of secret files in place of their paths."""
    resolved = dict(values)
    for secret in secrets:
        file = resolved.pop(secret + FILE_SUFFIX, None)
        if file is None:
            continue
        if secret in values:
            problems.append(
                f"{file.label}: {values[secret].label} is given too; leave one of them out"
            )
            continue
        try:
            text = Path(str(file.value)).read_text()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            problems.append(
                f"{file.label}: found {str(file.value)!r}, which cannot be read ({reason}); "
                "type the path of a file with the secret in it"
            )
        else:
            resolved[secret] = RawValue(file.label, text.removesuffix("\n"))
    return resolved


def _validation_problems(
    error: ValidationError,
    raw_values: dict[str, RawValue],
    model: type[BaseModel],
    secrets: Collection[str],
) -> list[str]:
    lines: list[str] = []
    for each in error.errors():
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, FileProblems):
            lines += cause.problems
            continue
        name = str(each["loc"][0])
        if name in raw_values:
            label = raw_values[name].label
            value = _shown(name, raw_values[name].value) if name not in secrets else NOT_SHOWN
        else:  # a default that conflicts with a setting that was given
            label = ENVIRONMENT_PREFIX + name.upper()
            value = f"{model.model_fields[name].default!r}, the default"
        if each["type"] == "value_error":
            remedy = str(cause)
        else:
            metadata = model.model_fields[name].metadata
            expected = [each.text for each in metadata if isinstance(each, Expected)]
            remedy = f"type {expected[0] if expected else 'text, in quotes'}"
        lines.append(f"{label}: found {value}; {remedy}")
    return lines


def _shown(name: str, value: object) -> str:
    text = repr(value)
    if "@" in text:  # a password in an address must not appear in a log
        text = f"'…@{text.rpartition('@')[2]}"
    if name == "objects_url" and "?" in text:  # and a signature must not either
        text = f"{text.partition('?')[0]}?…'"
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"
