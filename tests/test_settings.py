"""Every setting: what is accepted, what is rejected with which words, and that docs/ has it."""

import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from echo_ingest.decode import Rules
from echo_ingest.decode.rules import NOT_ANIMALS
from echo_ingest.settings import (
    SECRETS,
    Endpoint,
    Settings,
    SettingsError,
    load,
    node_of,
    parse_endpoint,
)
from echo_ingest.settings.topics import overlap, parse_topics
from echo_ingest.settings.urls import (
    ObjectsUrl,
    mongodb_address,
    parse_objects_url,
    postgres_address,
)
from echo_ingest.sinks.registry import sink_names, sinks_of
from echo_ingest.site_decoder import decoder_of

SETTINGS_PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


LONG = "hunter2-" * 3  # enough for each of the secrets


def problems(environ: dict[str, str], toml_path: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as error:
        load(environ, toml_path)
    assert str(error.value).splitlines() == list(error.value.problems)
    return error.value.problems


def secret_with(name: str, text: str) -> str:
    """Return a value of this secret that contains `text`; in an address, as the password."""
    written = {
        "payload_keys": f"{text}=AQ==",
        "mongodb_url": f"mongodb://echo:{text}@db.example.org/EchoNet",
        "postgres_url": f"postgresql://echo:{text}@db.example.org/echo",
    }
    return written.get(name, text)


# ---------------------------------------------------------------------- where settings come from


def test_nothing_needs_to_be_set() -> None:
    assert load({}) == Settings()


def test_the_names_of_the_earlier_deployment_keep_working() -> None:
    settings = load(
        {
            "IOT_ENDPOINT": "localhost",
            "IOT_TOPIC": "iotingestion",
            "IOT_USER": "echosub",
            "IOT_PASSWORD": "secret",
        }
    )
    assert settings.endpoint is not None
    assert parse_endpoint(settings.endpoint) == Endpoint("mqtt", "localhost", 1883)
    assert settings.topic_filters == ("iotingestion/#",)
    assert settings.password is not None
    assert settings.password.get_secret_value() == "secret"


def test_the_environment_counts_more_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('mqtt_port = 11883\nhttp_port = 18080\napi_bulk = false\npassword = "kept"\n')
    settings = load({"IOT_CONFIG": str(path), "IOT_MQTT_PORT": "21883"})
    assert (settings.mqtt_port, settings.http_port, settings.api_bulk) == (21883, 18080, False)
    assert load({"IOT_MQTT_PORT": "21883"}, path) == settings


def test_an_empty_variable_counts_as_not_given() -> None:
    assert load({"IOT_API_URL": "", "IOT_MQTT_PORT": "", "IOT_CONFIG": ""}) == Settings()


def test_variables_that_kubernetes_sets_are_left_alone() -> None:
    assert load({"IOT_INGESTION_SERVICE_HOST": "10.0.0.7"}) == Settings()


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_can_stay_in_a_file(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "secret"
    words = "a-token-of-its-own-0123" if secret.endswith("_token") else "two words "
    value = secret_with(secret, words)
    path.write_text(f"{value}\n")
    by_environment = load({f"IOT_{secret.upper()}_FILE": str(path)})
    (tmp_path / "site.toml").write_text(f'{secret}_file = "{path}"\n')
    by_file = load({}, tmp_path / "site.toml")
    assert getattr(by_environment, secret).get_secret_value() == value
    assert by_file == by_environment


# ---------------------------------------------------------------------- what is rejected


def test_every_error_is_reported_at_once_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text("retention = 3\nxyzzy = 1\nbatch_linger_ms = 0\n")
    lines = problems(
        {
            "IOT_MQTT_PORT": "99999",
            "IOT_WS_PORT": "8080",
            "IOT_TOPIC": "#",
            "IOT_API_SCHEMA": "tables",
            "IOT_TLS_CA_FILE": "nothing.pem",
            "IOT_API_KEY_FILE": str(tmp_path / "nothing"),
        },
        path,
    )
    for expected in (
        rf"retention in {path}: there is no such setting; type retention_days",
        rf"xyzzy in {path}: there is no such setting; leave it out",
        rf"batch_linger_ms in {path}: found 0; type a whole number of milliseconds, 1 to 1000",
        r"IOT_MQTT_PORT: found '99999'; type a port, 1 to 65535",
        r"IOT_HTTP_PORT: found 8080, the default; IOT_WS_PORT is 8080 too: type another port",
        r"IOT_TOPIC: found '#'; .*such as iotingestion/#",
        r"IOT_API_SCHEMA: found 'tables'; type objects or arrays",
        r"IOT_TLS_CA_FILE: found 'nothing.pem'; type the path of a PEM file that exists",
        r"IOT_API_KEY_FILE: found '.*nothing', which cannot be read .*; type the path of a file.*",
    ):
        assert sum(re.fullmatch(expected, line) is not None for line in lines) == 1, expected
    assert len(lines) == 9


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_and_its_file_together_are_an_error(tmp_path: Path, secret: str) -> None:
    name = f"IOT_{secret.upper()}"
    path = tmp_path / "secret"
    path.write_text("from the file")
    (line,) = problems({name: secret_with(secret, LONG), f"{name}_FILE": str(path)})
    assert line == f"{name}_FILE: {name} is given too; leave one of them out"


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_never_shown(tmp_path: Path, secret: str) -> None:
    name = f"IOT_{secret.upper()}"
    assert "hunter2" not in repr(load({name: secret_with(secret, LONG)}))
    (tmp_path / "secret").write_text("hunter2\nhunter2\n")
    for environ in (
        {name: secret_with(secret, "hunter2\x07")},
        {f"{name}_FILE": str(tmp_path / "secret")},
    ):
        (line,) = problems(environ)
        assert "hunter2" not in line
        assert "one line" in line
    with pytest.raises(ValidationError) as error:
        Settings.model_validate({secret: "hunter2\n"})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("name", ["IOT_ENDPOINT", "IOT_API_URL", "IOT_OBJECTS_URL"])
@pytest.mark.parametrize(
    "text",
    [
        "mqtt://joe:hunter2@host",
        "https://:hunter2@host/a",
        "joe:hunter2@h",
        "ws://a:hunter2/hunter2@h",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(name: str, text: str) -> None:
    (line,) = problems({name: text})
    assert "hunter2" not in line


@pytest.mark.parametrize("text", ["s3://joe:hunter2@reserve/a", "az://reserve/a?sig=hunter2"])
def test_credentials_in_an_address_for_audio_are_refused_and_not_shown(text: str) -> None:
    (line,) = problems({"IOT_OBJECTS_URL": text})
    assert "hunter2" not in line
    assert "docs/audio.md" in line


def test_audio_by_reference_needs_a_place_to_keep_it() -> None:
    (line,) = problems({"IOT_AUDIO": "reference"})
    assert line == (
        "IOT_AUDIO: found 'reference'; set IOT_OBJECTS_URL to where audio is kept, or type embedded"
    )
    (line,) = problems({"IOT_AUDIO": "reference", "IOT_OBJECTS_URL": "nowhere"})
    assert line.startswith("IOT_OBJECTS_URL: ")
    load({"IOT_AUDIO": "reference", "IOT_OBJECTS_URL": "file:///srv/audio"})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("file:///srv/audio/", ObjectsUrl("file", "", "/srv/audio")),
        ("file:///srv/my%20audio", ObjectsUrl("file", "", "/srv/my audio")),
        ("s3://reserve-audio", ObjectsUrl("s3", "reserve-audio", "")),
        ("gs://reserve_audio/otway/north/", ObjectsUrl("gs", "reserve_audio", "otway/north")),
        ("az://reserve/Otway.1", ObjectsUrl("az", "reserve", "Otway.1")),
    ],
)
def test_places_for_audio_are_understood(text: str, place: ObjectsUrl) -> None:
    assert parse_objects_url(text) == place
    assert load({"IOT_OBJECTS_URL": text}).objects_url == text.rstrip("/")


def test_a_settings_file_that_is_missing_or_not_toml_is_reported(tmp_path: Path) -> None:
    (line,) = problems({"IOT_CONFIG": str(tmp_path / "site.toml")})
    assert "cannot be read" in line
    (tmp_path / "site.toml").write_text("mqtt_port: 1883\n")
    (line,) = problems({}, tmp_path / "site.toml")
    assert "is not TOML" in line


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("IOT_BIND", "eth0"),
        ("IOT_CLIENT_ID", "echo/ingest"),
        ("IOT_SESSION_EXPIRY_SECONDS", "0"),
        ("IOT_PAYLOAD_BYTES_MAX", "268435455"),
        ("IOT_BATCH_RECORDS_MAX", "0"),
        ("IOT_DISK_FREE_BYTES_MIN", "-1"),
        ("IOT_RETENTION_DAYS", "2.5"),
        ("IOT_API_BULK", "perhaps"),
        ("IOT_ZONE", "Victoria Time"),
        ("IOT_FIRST_DAY", "1.7.2015"),
        ("IOT_FIRST_DAY", "1420070400"),
        ("IOT_FIRST_DAY", "1969-12-31"),
        ("IOT_NOT_ANIMALS", "generator=machine"),
        ("IOT_NOT_ANIMALS", "=blank"),
        ("IOT_CONNECTIONS_MAX", "9"),
        ("IOT_ECHOPUB", "perhaps"),
        ("IOT_SERVICE_PORT", "1883"),
        ("IOT_API_URL", "api.example.org"),
        ("IOT_API_URL", "https://api.example.org/?key=1"),
        ("IOT_OBJECTS_URL", "reserve-audio"),
        ("IOT_OBJECTS_URL", "/srv/audio"),
        ("IOT_OBJECTS_URL", "file://srv/audio"),
        ("IOT_OBJECTS_URL", "file:///"),
        ("IOT_OBJECTS_URL", "s3://"),
        ("IOT_OBJECTS_URL", "s3://Reserve"),
        ("IOT_OBJECTS_URL", "s3://reserve:9000/a"),
        ("IOT_OBJECTS_URL", "gs://reserve/a b"),
        ("IOT_OBJECTS_URL", "az://reserve/../b"),
        ("IOT_OBJECTS_URL", "https://reserve.s3.amazonaws.com"),
        ("IOT_AUDIO", "both"),
        ("IOT_CONSOLE", "everybody"),
        ("IOT_MAP_TILES", "https://tiles.example.org/{z}/{x}.png"),
        ("IOT_MAP_TILES", "http://tiles.example.org/{z}/{x}/{y}.png"),
        ("IOT_MAP_TILES", "https://*.example.org/{z}/{x}/{y}.png"),
        ("IOT_MAP_TILES", "https://tiles.example.org; script-src/{z}/{x}/{y}.png"),
        ("IOT_MAP_TILES", "https://{z}.example.org/{z}/{x}/{y}.png"),
    ],
)
def test_a_value_out_of_bounds_is_refused(name: str, text: str) -> None:
    (line,) = problems({name: text})
    assert line.startswith(f"{name}: found '{text}'; ")


def test_browsers_elsewhere_log_in_to_the_console() -> None:
    assert load({}).console_access == "open"
    assert load({"IOT_BIND": "::1"}).console_access == "open"
    assert load({"IOT_BIND": "192.0.2.1"}).console_access == "token"
    assert load({"IOT_BIND": "192.0.2.1", "IOT_CONSOLE": "open"}).console_access == "open"


def test_a_token_that_could_be_guessed_is_refused() -> None:
    for name in ("IOT_HTTP_TOKEN", "IOT_OPERATOR_TOKEN"):
        for token in ("x" * 19, "two words and some more", "é" * 30):
            (line,) = problems({name: token})
            assert "openssl rand" in line


def test_keys_of_payloads_are_separated_by_commas_or_lines(tmp_path: Path) -> None:
    assert load({}).keys_of_payloads == {}
    (tmp_path / "keys").write_text("LongFast=AQ==\n\nFrog pond = AAECAw==,\nOpen=\n")
    keys = load({"IOT_PAYLOAD_KEYS_FILE": str(tmp_path / "keys")}).keys_of_payloads
    assert keys == {"LongFast": b"\1", "Frog pond": bytes(range(4)), "Open": b""}


@pytest.mark.parametrize(
    "text",
    [
        "AQ==",
        "Frogs",
        "=AQ==",
        "Frogs=AQ",
        "Frogs=hunter2!",
        "Frogs=AQ==,Frogs=Ag==",
        f"{'f' * 65}=AQ==",
        f"Frogs={'A' * 88}",
        ",".join(f"{number}=AQ==" for number in range(101)),
    ],
)
def test_keys_of_payloads_that_are_none_are_refused_and_not_shown(text: str) -> None:
    (line,) = problems({"IOT_PAYLOAD_KEYS": text})
    assert line.startswith("IOT_PAYLOAD_KEYS: found a value that is not shown; type names with")
    assert "hunter2" not in line


def test_who_may_read_may_not_act_by_the_same_token() -> None:
    (line,) = problems(dict.fromkeys(("IOT_HTTP_TOKEN", "IOT_OPERATOR_TOKEN"), "x" * 30))
    assert line.startswith("IOT_OPERATOR_TOKEN: ") and "x" * 30 not in line


def test_a_certificate_and_its_key_belong_together(tmp_path: Path) -> None:
    path = tmp_path / "some.pem"
    path.touch()
    for alone, missing in (("CERT", "KEY"), ("KEY", "CERT"), ("CLIENT_CA", "CERT")):
        (line,) = problems({f"IOT_TLS_{alone}_FILE": str(path)})
        assert f"IOT_TLS_{missing}_FILE" in line
    both = {"IOT_TLS_CERT_FILE": str(path), "IOT_TLS_KEY_FILE": str(path)}
    (line,) = problems({**both, "IOT_MQTT_PORT": "8883"})
    assert line.startswith("IOT_TLS_PORT: found 8883, the default")
    load({"IOT_MQTT_PORT": "8883"})  # which nothing uses without a certificate


# ---------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("localhost", Endpoint("mqtt", "localhost", 1883)),
        ("10.0.0.7:1884", Endpoint("mqtt", "10.0.0.7", 1884)),
        ("[fd00::7]:1884", Endpoint("mqtt", "fd00::7", 1884)),
        ("mqtt://broker_1", Endpoint("mqtt", "broker_1", 1883)),
        ("MQTTS://iot.example.org", Endpoint("mqtts", "iot.example.org", 8883)),
        ("ws://iot.example.org", Endpoint("ws", "iot.example.org", 80, "/mqtt")),
        ("wss://iot.example.org", Endpoint("wss", "iot.example.org", 443, "/mqtt")),
        ("wss://iot.example.org:9001/", Endpoint("wss", "iot.example.org", 9001, "/")),
        ("ws://[::1]/a/b", Endpoint("ws", "::1", 80, "/a/b")),
    ],
)
def test_addresses_are_understood_and_written_so_again(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fd00::7",
        "host:0",
        "host:65536",
        "host:port",
        "two words",
        "tcp://host",
        "mqtt://",
        "mqtt://host/path",
        "ws://host/path?query",
        "[host]",
    ],
)
def test_an_invalid_address_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"type|leave"):
        parse_endpoint(text)


@given(st.text(max_size=40))
def test_no_text_is_an_address_by_accident(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mongodb://echo:hunter2@db.example.org/EchoNet", "echo@db.example.org/EchoNet"),
        (
            "mongodb://a,b:27018,[fd00::7]:27019/EchoNet?replicaSet=otway",
            "a,b:27018,[fd00::7]:27019/EchoNet",
        ),
        ("mongodb://e%40b:hunter%402@db/EchoNet?authSource=admin&tls=true", "e@b@db/EchoNet"),
        (
            "mongodb+srv://echo:hunter2@otway.example.org/EchoNet?srvMaxHosts=2&w=1",
            "echo@otway.example.org/EchoNet",
        ),
    ],
)
def test_a_mongodb_is_understood_and_shown_without_its_password(text: str, shown: str) -> None:
    settings = load({"IOT_MONGODB_URL": text})
    assert settings.mongodb_url is not None
    assert settings.mongodb_url.get_secret_value() == text
    assert mongodb_address(text) == shown


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("db.example.org/EchoNet", "type mongodb://user:password@host"),
        ("postgres://echo:hunter2@db/EchoNet", "type mongodb://user:password@host"),
        ("mongodb://echo:hunter2@db", "/database"),
        ("mongodb://echo:hunter2@db/", "/database"),
        ("mongodb://echo:hunter2@db/EchoNet.events", "/database"),
        ("mongodb://echo:hunter2@hunter2@db/EchoNet", "as % and two hex digits"),
        ("mongodb://echo:hunter2/hunter2@db/EchoNet", "as % and two hex digits"),
        ("mongodb://echo:hunter2%@db/EchoNet", "as % and two hex digits"),
        ("mongodb://echo:hunter2/EchoNet", "as % and two hex digits"),
        ("mongodb://db/EchoNet?password=hunter2", "one of its options (password)"),
        ("mongodb://db/EchoNet?tls=hunter2", "one of its options (tls)"),
        ("mongodb+srv://db/EchoNet?hunter=2", "one of its options (hunter)"),
    ],
)
def test_an_invalid_mongodb_address_is_rejected_and_not_shown(text: str, remedy: str) -> None:
    (line,) = problems({"IOT_MONGODB_URL": text})
    assert "hunter2" not in line
    assert remedy in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://echo:hunter2@db.example.org/echo", "echo@db.example.org/echo"),
        ("postgres://[fd00::7]:5433/echo?sslmode=require", "[fd00::7]:5433/echo"),
        ("postgresql://a%40b:hunter2@one:5432,two:5433/echo", "a@b@one:5432,two:5433/echo"),
        ("postgresql://e:hunter2@/echo?host=/run/postgresql", "e@/run/postgresql/echo"),
        ("postgresql://db/echo?password=hunter2", "db/echo"),
    ],
)
def test_a_database_is_understood_and_shown_without_its_password(text: str, shown: str) -> None:
    settings = load({"IOT_POSTGRES_URL": text})
    assert settings.postgres_url is not None
    assert settings.postgres_url.get_secret_value() == text
    assert postgres_address(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "db.example.org",
        "https://echo:hunter2@db/echo",
        "postgresql://echo:hunter2@db",
        "postgresql://echo:hunter2@db/echo/frogs",
        "postgresql://echo:hunter2@db:port/echo",
        "postgresql://echo:hunter2@/echo",
        "postgresql://echo:hunter2/hunter2@db/echo",
        "postgresql://echo:hunter2#hunter2@db/echo",
        "postgresql://echo:hunter2@[db/echo",
    ],
)
def test_an_address_without_a_database_is_rejected_and_not_shown(text: str) -> None:
    (line,) = problems({"IOT_POSTGRES_URL": text})
    assert "hunter2" not in line
    assert "type postgresql://user:password@host[:port]/database" in line


# ---------------------------------------------------------------------- topics


@pytest.mark.parametrize(
    ("text", "filters", "prefixes"),
    [
        ("iotingestion", ("iotingestion/#",), ("iotingestion",)),
        ("iotingestion/#", ("iotingestion/#",), ("iotingestion",)),
        ("iotingestion, iotingestion/#", ("iotingestion/#",), ("iotingestion",)),
        ("a/b/+/data", ("a/b/+/data",), ("a/b",)),
        ("a/+,a/b/c", ("a/+", "a/b/c/#"), ("a/b/c", "a")),
    ],
)
def test_a_topic_without_a_wildcard_stands_for_all_below(
    text: str, filters: tuple[str, ...], prefixes: tuple[str, ...]
) -> None:
    settings = load({"IOT_TOPIC": text})
    assert (settings.topic_filters, settings.topic_prefixes) == (filters, prefixes)


@pytest.mark.parametrize(
    "text",
    [
        "#",
        "+/x",
        "/#,",
        "$SYS/#",
        "$share/group/a",
        "iotreceipts",
        "iotprobe/echo-ingest",
        "a/#/b",
        "a/b#",
        "a/b+/c",
        "a/",
        "a,,b",
        "a/+/c,a/b/#",
        "a\nallow_anonymous true",
        "a" * 65_536,
    ],
)
def test_an_unusable_topic_is_rejected_with_its_remedy(text: str) -> None:
    (line,) = problems({"IOT_TOPIC": text})
    assert re.search(r"type|leave|begin with|must fill", line.split("; ", 1)[1])
    assert len(line) < 300 or len(text) > 300


LEVELS = st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=4)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(st.sampled_from(["a", "b", "", "+"]), min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
)


def matches(topic_filter: str, topic: str) -> bool:
    """Match as [MQTT-4.7.1] says, implemented differently from the code."""
    escaped = re.escape(topic_filter).replace(r"\+", "[^/]*").replace("/\\#", "(/.*)?")
    return re.fullmatch(escaped, topic) is not None


@given(FILTERS, FILTERS, LEVELS)
def test_filters_that_share_a_topic_overlap(one: str, other: str, levels: list[str]) -> None:
    topic = "/".join(levels)
    if matches(one, topic) and matches(other, topic):
        assert overlap(one, other)
        assert overlap(other, one)


@pytest.mark.parametrize(
    ("one", "other"), [("a/b", "a/c"), ("a/+", "a/b/c"), ("a/+/c", "a/b/d/#"), ("a/#", "ab/#")]
)
def test_filters_that_share_none_do_not(one: str, other: str) -> None:
    assert not overlap(one, other)
    assert not overlap(other, one)
    assert parse_topics(f"{one},{other}")


@pytest.mark.parametrize(
    ("topic", "node"),
    [
        ("iotingestion/ridge-01", "ridge-01"),
        ("iotingestion/ridge-01/recording", "ridge-01"),
        ("iotingestion", None),
        ("iotingestion/", None),
        ("iotingestion//recording", None),
        ("iotingestion2/ridge-01", None),
        ("projectecho/engine/2", "2"),
    ],
)
def test_the_level_after_the_prefix_names_the_node(topic: str, node: str | None) -> None:
    assert node_of(topic, ("projectecho/engine", "iotingestion")) == node


# ---------------------------------------------------------------------- documentation


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("Melbourne", "type Australia/Melbourne"),
        ("australia/melbourne", "type Australia/Melbourne"),
        ("Australia/Melborne", "type Australia/Melbourne"),
        ("Los Angeles", "type America/Los_Angeles"),
        ("utc", "type UTC"),
        *(
            (each, "such as Australia/Melbourne")
            for each in ("AEST", "+10:00", "UTC+10", "10", "é")
        ),
        *((each, "such as Australia/Melbourne") for each in ("../UTC", "/etc/passwd", "localtime")),
    ],
)
def test_a_zone_that_is_none_is_told_with_what_to_type(given: str, remedy: str) -> None:
    (line,) = problems({"IOT_ZONE": given})
    assert line.startswith(f"IOT_ZONE: found {given!r}; type ")
    assert line.endswith(remedy)


@pytest.mark.parametrize("name", ["Australia/Melbourne", "UTC", "Etc/GMT-10", "Asia/Kathmandu"])
def test_a_zone_has_an_iana_name(name: str) -> None:
    assert decoder_of(load({"IOT_ZONE": name})).rules.zone == ZoneInfo(name)


def test_what_a_site_knows_becomes_the_rules_of_its_decoder(tmp_path: Path) -> None:
    decoder = decoder_of(load({}))
    assert (decoder.payload_bytes_max, decoder.rules) == (Settings().payload_bytes_max, Rules())
    labels = "Thunder,  e\u0301cho , Tractor = Vehicle, wind=human,"
    (tmp_path / "site.toml").write_text(f'first_day = 2009-07-01\nnot_animals = "{labels}"')
    settings = load({}, tmp_path / "site.toml")
    assert settings == load({"IOT_FIRST_DAY": "2009-07-01", "IOT_NOT_ANIMALS": labels})
    rules = decoder_of(settings).rules
    assert (rules.zone, rules.first_day) == (None, date(2009, 7, 1))
    assert rules.not_animals == {
        **NOT_ANIMALS,
        "thunder": "blank",
        "\N{LATIN SMALL LETTER E WITH ACUTE}cho": "blank",
        "tractor": "vehicle",
        "wind": "human",
    }


def test_every_setting_has_its_heading_with_default_and_example_and_no_other() -> None:
    sections = re.split(r"^### ", SETTINGS_PAGE.read_text(), flags=re.MULTILINE)[1:]
    documented = {name: text for name, _, text in (section.partition("\n") for section in sections)}
    assert list(documented) == [f"IOT_{name.upper()}" for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        text = documented[f"IOT_{name.upper()}"]
        assert f"IOT_{name.upper()}=" in text or f"IOT_{name.upper()}_FILE=" in text
        default = str(field.default).lower() if field.default is not None else None
        assert (f"`{default}`" if default else "Default:") in text
        assert field.description is not None


async def test_the_sinks_that_have_an_address_are_made_the_keeper_of_clips_first(
    tmp_path: Path,
) -> None:
    addresses = {
        "mongodb": ("IOT_MONGODB_URL", "mongodb://127.0.0.1:1/EchoNet"),
        "postgres": ("IOT_POSTGRES_URL", "postgresql://127.0.0.1:1/echo"),
        "echo_api": ("IOT_API_URL", "http://127.0.0.1:1"),
        "objects": ("IOT_OBJECTS_URL", tmp_path.as_uri()),
    }
    order = ["objects", "echo_api", "postgres", "mongodb"]
    for left_out in (None, *addresses):
        given = dict(address for name, address in addresses.items() if name != left_out)
        settings = load(given)
        wanted = [name for name in order if name != left_out]
        assert sink_names(settings) == wanted
        sinks = sinks_of(settings)
        assert [sink.name for sink in sinks] == wanted
        for sink in sinks:
            await sink.close()


def test_a_secret_that_several_processes_make_at_once_is_one(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from echo_ingest.settings.secrets import load_or_create_secret\n"
        "sys.stdin.readline()\n"
        "for number in range(20): print(*load_or_create_secret(Path(sys.argv[1]), str(number)))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    outputs = [each.communicate(timeout=30)[0].splitlines() for each in processes]
    assert [each.returncode for each in processes] == [0] * 4
    for lines in zip(*outputs, strict=True):
        made = [line.split() for line in lines]
        assert len({secret for secret, _ in made}) == 1
        assert sorted(is_new for _, is_new in made) == ["False", "False", "False", "True"]
