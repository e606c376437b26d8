"""Every option, once: from the environment (`IOT_…`), a TOML file, or files that hold secrets.

`load` reads them all and returns `Settings`, or says everything that is wrong at once. What the
environment gives counts more than the file; an empty variable counts as not given, since Compose
files leave them so. Every field has its heading in docs/settings.md.
"""

import difflib
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Struct
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from echo_ingest.settings.endpoint import (
    Endpoint,
    check_bind,
    check_endpoint,
    check_http_url,
    parse_endpoint,
)
from echo_ingest.settings.objects import check_objects_url
from echo_ingest.settings.topics import (
    PROBE_PREFIX,
    RECEIPTS_PREFIX,
    node_of,
    parse_topics,
    prefixes,
)

__all__ = [
    "PACKET_OVERHEAD_BYTES",
    "PROBE_PREFIX",
    "RECEIPTS_PREFIX",
    "Endpoint",
    "Settings",
    "SettingsError",
    "load",
    "node_of",
    "parse_endpoint",
]

ENVIRONMENT_PREFIX = "IOT_"
CONFIG_VARIABLE = "IOT_CONFIG"
FILE_SUFFIX = "_file"
SECRETS = ("password", "api_key", "pub_password", "sub_password", "service_password")
SECRET_BYTES_MAX = 1024
SHOWN_CHARACTERS_MAX = 80

PACKET_OVERHEAD_BYTES = 65_536
"""Room for topic and properties beside the payload."""
PAYLOAD_BYTES_LIMIT = 268_435_455 - PACKET_OVERHEAD_BYTES  # four length bytes [MQTT-1.5.5]
EXPIRY_SECONDS_LIMIT = 2**32 - 1  # this one means for ever [MQTT-3.1.2.11.2]
BYTES_LIMIT = 2**60


class SettingsError(Exception):
    """Settings that cannot be used: a line for each, with its remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Expected(Struct, frozen=True):
    """What to type for a setting."""

    text: str


def _check_topic(text: str) -> str:
    parse_topics(text)
    return text


def _check_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isprintable() or len(text.encode()) > SECRET_BYTES_MAX:
        raise ValueError(f"type 1 to {SECRET_BYTES_MAX} bytes of printable text, on one line")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
Port = Annotated[int, Field(ge=1, le=65_535), Expected("a port, 1 to 65535")]
Bytes = Annotated[int, Field(ge=0, le=BYTES_LIMIT), Expected("a whole number of bytes, 0 or more")]


class Settings(BaseModel):
    """Everything that can be chosen; each field is `IOT_` and its name in capitals."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # it may be a secret
    )

    data_dir: Annotated[Path, Expected("the path of a folder")] = Path("data")
    """Folder of the journal, the broker's state and generated secrets."""

    endpoint: Annotated[str, AfterValidator(check_endpoint)] | None = None
    """A broker that runs elsewhere; without it, the one that `up` or `broker` runs."""
    user: Annotated[str | None, Expected("the account's name, in quotes")] = None
    """The account there."""
    password: Secret | None = None
    """The password of that account."""
    tls_ca_file: Annotated[FilePath | None, Expected("the path of a PEM file that exists")] = None
    """The certificate authority of a broker that has a private one."""
    topic: Annotated[str, AfterValidator(_check_topic)] = "iotingestion/#"
    """The topic filters to ingest, with a comma between."""
    client_id: Annotated[
        str,
        Field(pattern=r"^[0-9A-Za-z._-]{1,64}$"),
        Expected("1 to 64 letters, digits, dots, hyphens or underscores"),
    ] = "echo-ingest"
    """The name of this service's session at the broker."""
    session_expiry_seconds: Annotated[
        int,
        Field(ge=60, le=EXPIRY_SECONDS_LIMIT),
        Expected(f"a whole number of seconds, 60 to {EXPIRY_SECONDS_LIMIT} (for ever)"),
    ] = 604_800
    """How long the broker keeps messages for this service while it is away."""

    mqtt_port: Port = 1883
    """The port of our broker for MQTT."""
    ws_port: Port = 9001
    """The port of our broker for MQTT over WebSockets."""
    http_port: Port = 8080
    """The port for health, metrics and reading."""
    bind: Annotated[str, AfterValidator(check_bind)] = "127.0.0.1"
    """The address on which all three listen."""
    pub_password: Secret | None = None
    """The password of `echopub`, the devices' account; generated if not given."""
    sub_password: Secret | None = None
    """The password of `echosub`, the readers' account; generated if not given."""
    service_password: Secret | None = None
    """The password of `echo-ingest`, our own account; a new one at each start if not given."""
    accounts_file: Annotated[FilePath | None, Expected("the path of a file that exists")] = None
    """Password hashes of `echopub` and `echosub`; with it, no password is generated."""
    broker_http: Annotated[bool, Expected("true or false")] = False
    """A broker that runs alone says on `http_port` how it is."""
    mosquitto: Annotated[Path | None, Expected("the path of the mosquitto program")] = None
    """The broker program, if it is not where such programs are."""

    api_url: Annotated[str, AfterValidator(check_http_url)] | None = None
    """The Echo API; without it, the journal is the store."""
    api_key: Secret | None = None
    """The key for it."""
    api_schema: Annotated[Literal["objects", "arrays"], Expected("objects or arrays")] = "objects"
    """How that API wants places: `objects` since September 2026, `arrays` before."""
    api_bulk: Annotated[bool, Expected("true or false")] = True
    """Several waiting detections go by the API's bulk call."""

    objects_url: Annotated[str, AfterValidator(check_objects_url)] | None = None
    """A folder or bucket for audio."""
    audio: Annotated[Literal["embedded", "reference"], Expected("embedded or reference")] = (
        "embedded"
    )
    """What other stores get of a clip: its bytes, or where it is kept."""

    payload_bytes_max: Annotated[
        int,
        Field(ge=1024, le=PAYLOAD_BYTES_LIMIT),
        Expected(f"a whole number of bytes, 1024 to {PAYLOAD_BYTES_LIMIT}"),
    ] = 50_331_648
    """The largest message taken."""
    batch_records_max: Annotated[
        int, Field(ge=1, le=10_000), Expected("a whole number, 1 to 10000")
    ] = 1000
    """The most messages in one commit."""
    batch_linger_ms: Annotated[
        int, Field(ge=1, le=1000), Expected("a whole number of milliseconds, 1 to 1000")
    ] = 5
    """How long a commit waits for more messages."""
    journal_bytes_max: Bytes = 0
    """The size of the journal at which acknowledgements stop; 0: no cap."""
    disk_free_bytes_min: Bytes = 268_435_456
    """The free space on the disk below which acknowledgements stop."""
    retention_days: Annotated[
        int, Field(ge=0, le=36_500), Expected("a whole number of days, 0 (for ever) to 36500")
    ] = 0
    """How long messages are kept once every sink has them; 0: for ever."""

    @field_validator("ws_port", "http_port")
    @classmethod
    def _check_own_port(cls, port: int, info: ValidationInfo) -> int:
        for other in ("mqtt_port", "ws_port"):
            if info.data.get(other) == port:
                raise ValueError(f"{ENVIRONMENT_PREFIX}{other.upper()} is {port} too: type another")
        return port

    @field_validator("audio")
    @classmethod
    def _check_audio(cls, audio: str, info: ValidationInfo) -> str:
        if audio == "reference" and info.data.get("objects_url", "") is None:
            raise ValueError(
                f"set {ENVIRONMENT_PREFIX}OBJECTS_URL to where audio goes, or type embedded"
            )
        return audio

    @cached_property
    def topic_filters(self) -> tuple[str, ...]:
        """What to subscribe to: a topic without a wildcard stands for all below it too."""
        return parse_topics(self.topic)

    @cached_property
    def topic_prefixes(self) -> tuple[str, ...]:
        """The levels before the first wildcard of each filter, the longest first."""
        return prefixes(self.topic_filters)

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password at a broker run elsewhere, where they are set."""
        if self.user is None:
            return None
        return self.user, self.password.get_secret_value() if self.password else ""

    def node_of(self, topic: str) -> str | None:
        """Who sent a message: the topic level after the prefix, if there is one."""
        return node_of(topic, self.topic_prefixes)


# ---------------------------------------------------------------------- reading them


class Found(Struct, frozen=True):
    """A value, and what the place it came from calls it."""

    label: str
    value: object


def load(environ: Mapping[str, str], toml_path: Path | None = None) -> Settings:
    """Read the settings; `toml_path`, else `IOT_CONFIG`, names the file if there is one.

    Other `IOT_…` variables are left alone: Kubernetes sets some for services of such a name.
    Raises `SettingsError`.
    """
    problems: list[str] = []
    if toml_path is None and environ.get(CONFIG_VARIABLE):
        toml_path = Path(environ[CONFIG_VARIABLE])
    found = _from_file(toml_path, problems) if toml_path is not None else {}
    found |= _from_environment(environ, problems)
    try:
        settings = Settings.model_validate({name: each.value for name, each in found.items()})
    except ValidationError as error:
        problems += _invalid(error, found)
    if problems:
        raise SettingsError(problems)
    return settings


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Found]:
    given = {}
    for name in _names():
        label = ENVIRONMENT_PREFIX + name.upper()
        if environ.get(label):
            given[name] = Found(label, environ[label])
    return _with_secrets(given, problems)


def _from_file(path: Path, problems: list[str]) -> dict[str, Found]:
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror}); type the path of a TOML file")
        return {}
    except ValueError as error:
        problems.append(f"{path}: is not TOML ({error}); type lines such as: mqtt_port = 1883")
        return {}
    given = {}
    for name, value in table.items():
        if name in _names():
            given[name] = Found(f"{name} in {path}", value)
        else:
            nearest = difflib.get_close_matches(name.lower(), _names(), n=1)
            remedy = f"type {nearest[0]}" if nearest else "leave it out"
            problems.append(f"{name} in {path}: there is no such setting; {remedy}")
    return _with_secrets(given, problems)


def _names() -> list[str]:
    return [*Settings.model_fields, *(secret + FILE_SUFFIX for secret in SECRETS)]


def _with_secrets(given: dict[str, Found], problems: list[str]) -> dict[str, Found]:
    """The same, with the content of secret files in place of their names."""
    settled = dict(given)
    for secret in SECRETS:
        file = settled.pop(secret + FILE_SUFFIX, None)
        if file is None:
            continue
        if secret in given:
            problems.append(f"{file.label}: {given[secret].label} is given too; leave one out")
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
            settled[secret] = Found(file.label, text.removesuffix("\n"))
    return settled


def _invalid(error: ValidationError, found: dict[str, Found]) -> list[str]:
    lines = []
    for each in error.errors():
        name = str(each["loc"][0])
        if name in found:
            label, value = found[name].label, _shown(name, found[name].value)
        else:  # a default that clashes with what was given
            label = ENVIRONMENT_PREFIX + name.upper()
            value = f"{Settings.model_fields[name].default!r}, the default"
        if each["type"] == "value_error":
            remedy = str(each["ctx"]["error"])
        else:
            metadata = Settings.model_fields[name].metadata
            expected = [each.text for each in metadata if isinstance(each, Expected)]
            remedy = f"type {expected[0] if expected else 'text, in quotes'}"
        lines.append(f"{label}: found {value}; {remedy}")
    return lines


def _shown(name: str, value: object) -> str:
    if name in SECRETS:
        return "a value that is not shown"
    text = repr(value)
    if "@" in text:  # a password in an address must not end in a log
        text = f"'…@{text.rpartition('@')[2]}"
    if name == "objects_url" and "?" in text:  # nor a signature
        text = f"{text.partition('?')[0]}?…'"
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"
