"""Every setting: read from the environment (`IOT_…`), a TOML file, or files that hold secrets.

`load` reads them all and returns `Settings`, or reports every error at once. The environment takes
precedence over the file; an empty variable counts as not set, because Compose files leave unused
variables empty. Every field has a heading in docs/settings.md.
"""

from collections.abc import Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    InstanceOf,
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
from echo_ingest.settings.endpoint_table import (
    EndpointEntry,
    EndpointTable,
    MqttVersion,
    read_endpoint_table,
)
from echo_ingest.settings.loader import ENVIRONMENT_PREFIX, Expected, SettingsError, read
from echo_ingest.settings.payload_keys import parse_payload_keys
from echo_ingest.settings.secrets import Tokens, load_or_create_secret
from echo_ingest.settings.site import check_first_day, check_not_animals, check_zone
from echo_ingest.settings.topics import (
    LOOPBACK_PREFIX,
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
    "LOOPBACK_PREFIX",
    "PACKET_OVERHEAD_BYTES",
    "RECEIPTS_PREFIX",
    "Endpoint",
    "EndpointEntry",
    "LocalEndpoint",
    "MqttVersion",
    "Settings",
    "SettingsError",
    "Tokens",
    "load",
    "load_or_create_secret",
    "node_of",
    "parse_endpoint",
]

JOURNAL_NAME = "journal.db"

SECRETS = (
    *("password", "pub_password", "sub_password", "service_password"),
    *("http_token", "operator_token", "api_key", "postgres_url", "mongodb_url"),
    "payload_keys",
)
SECRET_BYTES_MAX = 1024
TOKEN_CHARACTERS_MIN = 20

PACKET_OVERHEAD_BYTES = 65_536
"""Space for topic and properties in addition to the payload."""
PAYLOAD_BYTES_LIMIT = 268_435_455 - PACKET_OVERHEAD_BYTES  # four length bytes [MQTT-1.5.5]
EXPIRY_SECONDS_LIMIT = 2**32 - 1  # this value means for ever [MQTT-3.1.2.11.2]
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
            "as `openssl rand -hex 24` prints; or leave it out, and one is generated"
        )
    return secret


def _check_postgres_url(secret: SecretStr) -> SecretStr:
    check_postgres_url(secret.get_secret_value())
    return secret


def _check_mongodb_url(secret: SecretStr) -> SecretStr:
    check_mongodb_url(secret.get_secret_value())
    return secret


def _check_payload_keys(secret: SecretStr) -> SecretStr:
    parse_payload_keys(secret.get_secret_value())
    return secret


Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
PemFile = Annotated[FilePath | None, Expected("the path of a PEM file that exists")]
Port = Annotated[int, Field(ge=1, le=65_535), Expected("a port, 1 to 65535")]
Bytes = Annotated[int, Field(ge=0, le=BYTES_LIMIT), Expected("a whole number of bytes, 0 or more")]


class Settings(BaseModel):
    """All settings; the variable of each field is `IOT_` and its name in capitals."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # the input may be a secret
    )

    data_dir: Annotated[Path, Expected("the path of a folder")] = Path("data")
    """The folder of the journal, the broker's state and generated secrets."""

    endpoint: Annotated[str, AfterValidator(check_endpoint)] | None = None
    """The address of a broker run elsewhere; unset: the one that `up` or `broker` runs."""
    endpoints: Annotated[
        InstanceOf[EndpointTable] | None,
        BeforeValidator(lambda given: None if given is None else read_endpoint_table(given)),
    ] = None
    """A TOML file of brokers run elsewhere, besides that one or our own."""
    user: Annotated[str | None, Expected("the account's name, in quotes")] = None
    """The account at that broker."""
    password: Secret | None = None
    """The password of that account."""
    tls_ca_file: PemFile = None
    """The certificate of the authority that signed the broker's, where that is a private one."""
    topic: Annotated[str, AfterValidator(_check_topic)] = "iotingestion/#"
    """The topic filters to ingest, separated by commas."""
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
    """The port for the console, health, metrics, the read API and posted messages."""
    bind: Annotated[str, AfterValidator(check_bind)] = "127.0.0.1"
    """The address on which all these ports listen."""
    tls_cert_file: PemFile = None
    """The certificate of our broker, with its chain; if set, the broker listens for TLS."""
    tls_key_file: PemFile = None
    """The private key of that certificate."""
    tls_client_ca_file: PemFile = None
    """The authority that signs devices' certificates; if set, devices log in with them over TLS."""
    tls_port: Port = 8883
    """The port of our broker for MQTT over TLS, if it has a certificate."""
    connections_max: Annotated[
        int, Field(ge=10, le=1_000_000), Expected("a whole number, 10 to 1000000")
    ] = 5000
    """The maximum number of connections at each port of our broker."""

    nodes_file: Annotated[Path | None, Expected("the path of a file")] = None
    """The file of nodes with their own credentials; unset: `nodes.jsonl` in the data folder."""
    echopub: Annotated[bool, Expected("true or false")] = True
    """Whether devices may share the account `echopub`; if not, only nodes may connect."""
    pub_password: Secret | None = None
    """The password of `echopub`, the devices' account; generated if unset."""
    sub_password: Secret | None = None
    """The password of `echosub`, the readers' account; generated if unset."""
    service_password: Secret | None = None
    """The password of `echo-ingest`, our own account; if unset, a new one at each start."""
    service_port: Port | None = None
    """A port of our broker reserved for a `run` on another machine, however full the others are."""
    accounts_file: Annotated[FilePath | None, Expected("the path of a file that exists")] = None
    """A file with password hashes of `echopub` and `echosub`; if set, none is generated."""
    broker_http: Annotated[bool, Expected("true or false")] = False
    """Whether a broker that runs alone reports its health on `http_port`."""
    http_token: Annotated[SecretStr, AfterValidator(_check_token)] | None = None
    """The token for reading over HTTP; generated if unset."""
    operator_token: Annotated[SecretStr, AfterValidator(_check_token)] | None = None
    """The token for making changes in the console; generated if unset."""
    console: Annotated[Literal["open", "token", "off"] | None, Expected("open, token or off")] = (
        None
    )
    """Who may view the console; unset: `open` on loopback, and `token` elsewhere."""
    map_tiles: Annotated[str, AfterValidator(check_tiles_url)] | None = None
    """Where the console's map gets tiles; unset: browsers contact no other host."""
    mosquitto: Annotated[Path | None, Expected("the path of the mosquitto program")] = None
    """The broker program, if it is not where systems install such programs."""

    api_url: Annotated[str, AfterValidator(check_http_url)] | None = None
    """The address of an Echo API that gets the records; unset: the journal keeps them."""
    api_key: Secret | None = None
    """The key for the Echo API."""
    api_schema: Annotated[Literal["objects", "arrays"], Expected("objects or arrays")] = "objects"
    """How that API expects places: `objects` since September 2026, `arrays` before."""
    api_bulk: Annotated[bool, Expected("true or false")] = True
    """Whether several waiting detections are sent in one bulk call of the API."""
    postgres_url: Annotated[Secret, AfterValidator(_check_postgres_url)] | None = None
    """The address of a PostgreSQL database that gets the records, with a role's password."""
    mongodb_url: Annotated[Secret, AfterValidator(_check_mongodb_url)] | None = None
    """The address of a MongoDB database that gets the records, with the password."""
    objects_url: Annotated[str, AfterValidator(check_objects_url)] | None = None
    """A folder or bucket that gets the audio clips."""
    audio: Annotated[Literal["embedded", "reference"], Expected("embedded or reference")] = (
        "embedded"
    )
    """What the other sinks get for a clip: its bytes, or where it is kept."""

    zone: Annotated[str, AfterValidator(check_zone)] | None = None
    """The zone of times that name none; unset: such times are not believed."""
    first_day: Annotated[date, BeforeValidator(check_first_day)] = date(2015, 1, 1)
    """The first day of the project; earlier times are not believed."""
    not_animals: Annotated[str, AfterValidator(check_not_animals)] = ""
    """Labels of classifiers that name no animal, besides those that are known."""
    payload_keys: Annotated[SecretStr, AfterValidator(_check_payload_keys)] | None = None
    """The keys of encrypted payloads, by name: those of channels of Meshtastic."""

    payload_bytes_max: Annotated[
        int,
        Field(ge=1024, le=PAYLOAD_BYTES_LIMIT),
        Expected(f"a whole number of bytes, 1024 to {PAYLOAD_BYTES_LIMIT}"),
    ] = 50_331_648
    """The size of the largest message that is accepted."""
    batch_records_max: Annotated[
        int, Field(ge=1, le=10_000), Expected("a whole number, 1 to 10000")
    ] = 1000
    """The maximum number of messages in one commit."""
    batch_linger_ms: Annotated[
        int, Field(ge=1, le=1000), Expected("a whole number of milliseconds, 1 to 1000")
    ] = 5
    """How long a commit waits for more messages."""
    journal_bytes_max: Bytes = 0
    """The size of the journal at which acknowledgements stop; 0: no limit."""
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
                raise ValueError(
                    f"{ENVIRONMENT_PREFIX}{other.upper()} is {port} too: type another port"
                )
        return port

    @field_validator("operator_token")
    @classmethod
    def _check_operator_token(
        cls, token: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        if token is not None and info.data.get("http_token") == token:
            raise ValueError(
                "IOT_HTTP_TOKEN is the same, so everybody who may read could make changes; "
                "type another"
            )
        return token

    @field_validator("audio")
    @classmethod
    def _check_audio(cls, audio: str, info: ValidationInfo) -> str:
        if audio == "reference" and info.data.get("objects_url", "") is None:
            raise ValueError(
                f"set {ENVIRONMENT_PREFIX}OBJECTS_URL to where audio is kept, or type embedded"
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
        """Return who may view the console: where rare animals are is not public by default."""
        return self.console or ("open" if is_loopback(self.bind) else "token")

    @property
    def journal_path(self) -> Path:
        """Return the path of the journal."""
        return self.data_dir / JOURNAL_NAME

    @property
    def forms_path(self) -> Path:
        """The folder for forms of the site; it need not exist."""
        return self.data_dir / "forms.d"

    @property
    def nodes_path(self) -> Path:
        """Return the path of the file of nodes with their own credentials."""
        return self.nodes_file or self.data_dir / "nodes.jsonl"

    @cached_property
    def topic_filters(self) -> tuple[str, ...]:
        """Return what to subscribe to: a topic without a wildcard includes all below it."""
        return parse_topics(self.topic)

    @cached_property
    def topic_prefixes(self) -> tuple[str, ...]:
        """Return the levels before the first wildcard of each filter, the longest first."""
        return prefixes(self.topic_filters)

    @property
    def endpoint_entries(self) -> tuple[EndpointEntry, ...]:
        """Return the brokers of `IOT_ENDPOINTS`."""
        return () if self.endpoints is None else self.endpoints.entries

    @property
    def asked_payload_bytes_max(self) -> int | None:
        """Return the size of the largest message, if it was set: only then is it relied on."""
        return self.payload_bytes_max if "payload_bytes_max" in self.model_fields_set else None

    @property
    def keys_of_payloads(self) -> Mapping[str, bytes]:
        """Return the keys of encrypted payloads, by name."""
        given = self.payload_keys
        return {} if given is None else parse_payload_keys(given.get_secret_value())

    @property
    def login(self) -> tuple[str, str] | None:
        """Return user and password at a broker run elsewhere, if they are set."""
        if self.user is None:
            return None
        return self.user, self.password.get_secret_value() if self.password else ""

    def node_of(self, topic: str) -> str | None:
        """Return the node that sent a message: the topic level after the prefix, if any."""
        return node_of(topic, self.topic_prefixes)


def load(environ: Mapping[str, str], toml_path: Path | None = None) -> Settings:
    """Read the settings; `toml_path`, or else `IOT_CONFIG`, names the file if there is one.

    Other `IOT_…` variables are ignored: Kubernetes sets some for services whose names begin so.
    Raises `SettingsError`.
    """
    return read(Settings, SECRETS, environ, toml_path)
