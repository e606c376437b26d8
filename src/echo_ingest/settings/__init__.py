"""Every option, once: from the environment (`IOT_…`), a TOML file, or files that hold secrets.

`load` reads them all and returns `Settings`, or says everything that is wrong at once. What the
environment gives counts more than the file; an empty variable counts as not given, since Compose
files leave them so. Every field has its heading in docs/settings.md.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from echo_ingest.settings.endpoint import (
    Endpoint,
    LocalEndpoint,
    check_bind,
    check_endpoint,
    check_http_url,
    is_loopback,
    parse_endpoint,
)
from echo_ingest.settings.loader import ENVIRONMENT_PREFIX, Expected, SettingsError, read
from echo_ingest.settings.secrets import Tokens, kept_secret
from echo_ingest.settings.topics import (
    PROBE_PREFIX,
    RECEIPTS_PREFIX,
    node_of,
    parse_topics,
    prefixes,
)
from echo_ingest.settings.urls import (
    check_mongodb_url,
    check_objects_url,
    check_postgres_url,
    check_tiles_url,
)

__all__ = [
    "PACKET_OVERHEAD_BYTES",
    "PROBE_PREFIX",
    "RECEIPTS_PREFIX",
    "Endpoint",
    "LocalEndpoint",
    "Settings",
    "SettingsError",
    "Tokens",
    "kept_secret",
    "load",
    "node_of",
    "parse_endpoint",
]

SECRETS = (
    *("password", "pub_password", "sub_password", "service_password"),
    *("http_token", "operator_token", "api_key", "postgres_url", "mongodb_url"),
)
SECRET_BYTES_MAX = 1024
TOKEN_CHARACTERS_MIN = 20

PACKET_OVERHEAD_BYTES = 65_536
"""Room for topic and properties beside the payload."""
PAYLOAD_BYTES_LIMIT = 268_435_455 - PACKET_OVERHEAD_BYTES  # four length bytes [MQTT-1.5.5]
EXPIRY_SECONDS_LIMIT = 2**32 - 1  # this one means for ever [MQTT-3.1.2.11.2]
BYTES_LIMIT = 2**60


def _check_topic(text: str) -> str:
    parse_topics(text)
    return text


def _check_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isprintable() or len(text.encode()) > SECRET_BYTES_MAX:
        raise ValueError(f"type 1 to {SECRET_BYTES_MAX} bytes of printable text, on one line")
    return secret


def _check_token(secret: SecretStr) -> SecretStr:
    text = _check_secret(secret).get_secret_value()
    if len(text) < TOKEN_CHARACTERS_MIN or not text.isascii() or " " in text:
        raise ValueError(
            f"type at least {TOKEN_CHARACTERS_MIN} letters, digits and signs without spaces, such "
            "as `openssl rand -hex 24` prints; or leave it out, and one is made"
        )
    return secret


def _check_postgres_url(secret: SecretStr) -> SecretStr:
    check_postgres_url(secret.get_secret_value())
    return secret


def _check_mongodb_url(secret: SecretStr) -> SecretStr:
    check_mongodb_url(secret.get_secret_value())
    return secret


Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
PemFile = Annotated[FilePath | None, Expected("the path of a PEM file that exists")]
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
    tls_ca_file: PemFile = None
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
    """The address on which all of them listen."""
    tls_cert_file: PemFile = None
    """Our broker's certificate, with those that vouch for it; with it, it listens for TLS."""
    tls_key_file: PemFile = None
    """The key of that certificate."""
    tls_client_ca_file: PemFile = None
    """The authority that signs devices' certificates: over TLS, they log in with those."""
    tls_port: Port = 8883
    """The port of our broker for MQTT over TLS, where it has a certificate."""
    connections_max: Annotated[
        int, Field(ge=10, le=1_000_000), Expected("a whole number, 10 to 1000000")
    ] = 5000
    """The most connections at each of our broker's ports."""

    nodes_file: Annotated[Path | None, Expected("the path of a file")] = None
    """The nodes with credentials of their own; `nodes.jsonl` in the data folder if not given."""
    echopub: Annotated[bool, Expected("true or false")] = True
    """Devices may share the account `echopub`; without, only nodes come in."""
    pub_password: Secret | None = None
    """The password of `echopub`, the devices' account; generated if not given."""
    sub_password: Secret | None = None
    """The password of `echosub`, the readers' account; generated if not given."""
    service_password: Secret | None = None
    """The password of `echo-ingest`, our own account; a new one at each start if not given."""
    service_port: Port | None = None
    """A port of our broker for a `run` on another machine, whoever crowds the others."""
    accounts_file: Annotated[FilePath | None, Expected("the path of a file that exists")] = None
    """Password hashes of `echopub` and `echosub`; with it, no password is generated."""
    broker_http: Annotated[bool, Expected("true or false")] = False
    """A broker that runs alone says on `http_port` how it is."""
    http_token: Annotated[SecretStr, AfterValidator(_check_token)] | None = None
    """The token that reading over HTTP asks for; generated if not given."""
    operator_token: Annotated[SecretStr, AfterValidator(_check_token)] | None = None
    """The token that acting in the console asks for; generated if not given."""
    console: Annotated[Literal["open", "token", "off"] | None, Expected("open, token or off")] = (
        None
    )
    """Who may look at the console; `open` on loopback and `token` elsewhere if not given."""
    map_tiles: Annotated[str, AfterValidator(check_tiles_url)] | None = None
    """Where the console's map gets tiles; without, no browser asks another host."""
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
    postgres_url: Annotated[Secret, AfterValidator(_check_postgres_url)] | None = None
    """A PostgreSQL database that gets the records, with the password of a role."""
    mongodb_url: Annotated[Secret, AfterValidator(_check_mongodb_url)] | None = None
    """A MongoDB database, with the password in it."""
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

    @field_validator("ws_port", "http_port", "tls_port", "service_port")
    @classmethod
    def _check_own_port(cls, port: int | None, info: ValidationInfo) -> int | None:
        if info.field_name == "tls_port" and info.data.get("tls_cert_file") is None:
            return port
        for other in ("mqtt_port", "ws_port", "http_port"):
            if port is not None and info.data.get(other) == port:
                raise ValueError(f"{ENVIRONMENT_PREFIX}{other.upper()} is {port} too: type another")
        return port

    @field_validator("operator_token")
    @classmethod
    def _check_operator_token(
        cls, token: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        if token is not None and info.data.get("http_token") == token:
            raise ValueError("IOT_HTTP_TOKEN is the same: whoever may read could act; type another")
        return token

    @field_validator("audio")
    @classmethod
    def _check_audio(cls, audio: str, info: ValidationInfo) -> str:
        if audio == "reference" and info.data.get("objects_url", "") is None:
            raise ValueError(
                f"set {ENVIRONMENT_PREFIX}OBJECTS_URL to where audio goes, or type embedded"
            )
        return audio

    @field_validator("tls_key_file", "tls_client_ca_file")
    @classmethod
    def _check_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        has_certificate = info.data.get("tls_cert_file") is not None
        if path is not None and not has_certificate:
            raise ValueError("set IOT_TLS_CERT_FILE too, or leave this out")
        if path is None and has_certificate and info.field_name == "tls_key_file":
            raise ValueError("set it to the key that belongs to IOT_TLS_CERT_FILE")
        return path

    @property
    def console_access(self) -> Literal["open", "token", "off"]:
        """Who may look at the console: where rare animals are is not for everybody by default."""
        return self.console or ("open" if is_loopback(self.bind) else "token")

    @property
    def journal_path(self) -> Path:
        """Where the journal is."""
        return self.data_dir / "journal.db"

    @property
    def nodes_path(self) -> Path:
        """Where the nodes with credentials of their own are kept."""
        return self.nodes_file or self.data_dir / "nodes.jsonl"

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


def load(environ: Mapping[str, str], toml_path: Path | None = None) -> Settings:
    """Read the settings; `toml_path`, else `IOT_CONFIG`, names the file if there is one.

    Other `IOT_…` variables are left alone: Kubernetes sets some for services of such a name.
    Raises `SettingsError`.
    """
    return read(Settings, SECRETS, environ, toml_path)
