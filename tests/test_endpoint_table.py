"""The file of IOT_ENDPOINTS: what it may say, and that every error has its line and its remedy."""

from pathlib import Path

import pytest

from echo_ingest.settings import Endpoint, Settings, SettingsError, load

FARM = """[[endpoint]]
name = "farm"
url = "mqtts://broker.example.org"
topics = ["birdnet/#", "acoupi"]
user = "reader"
password_file = "farm.secret"
"""
OLD = """
[[endpoint]]
name = "old"
url = "ws://127.0.0.1:9001/mqtt"
topics = "v3/+/devices/+/up"
version = "3.1.1"
qos = 0
client_id = "of ours"
receipts = true
"""


def table(folder: Path, text: str) -> Settings:
    (folder / "farm.secret").write_text("sesame\n")
    path = folder / "endpoints.toml"
    path.write_text(text)
    return load({"IOT_ENDPOINTS": str(path)})


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as error:
        table(folder, text)
    beginning = f"{folder / 'endpoints.toml'}, "
    assert all(each.startswith(f"{beginning}line ") for each in error.value.problems)
    return [each.removeprefix(beginning) for each in error.value.problems]


def test_each_table_is_one_broker_with_its_account_and_its_topics(tmp_path: Path) -> None:
    farm, old = table(tmp_path, FARM + OLD).endpoint_entries
    assert (farm.name, farm.url) == ("farm", Endpoint("mqtts", "broker.example.org", 8883))
    assert farm.topic_filters == ("birdnet/#", "acoupi/#")
    assert farm.login == ("reader", "sesame")
    assert (farm.version, farm.qos, farm.client_id, farm.receipts) == ("5", 1, None, False)
    assert (old.version, old.qos, old.client_id, old.receipts) == ("3.1.1", 0, "of ours", True)
    assert (old.login, old.topic_filters) == (None, ("v3/+/devices/+/up",))
    assert "sesame" not in repr(farm)
    assert load({}).endpoint_entries == ()


def test_the_example_of_the_page_can_be_used(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "endpoints.md").read_text()
    (tmp_path / "ttn.secret").write_text("open\n")
    farm, ttn = table(tmp_path, page.split("```toml\n")[1].split("```")[0]).endpoint_entries
    assert (farm.login, ttn.login) == (("reader", "sesame"), ("otway@ttn", "open"))
    assert (ttn.url, ttn.version, ttn.qos) == (Endpoint("mqtts", ttn.url.host, 8883), "3.1.1", 0)


def test_every_error_of_a_table_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = """[[endpoint]]
name = "The Farm"
url = "http://broker.example.org"
topics = ["a,b"]
password_file = "nowhere"
tls_ca_file = "nowhere.pem"
version = "3"
qos = 2
client_id = ""
receipts = "yes"
pasword_file = "x"

[[endpoint]]
password = "hunter2"
"""
    lines = problems(tmp_path, text)
    assert lines == sorted(lines, key=lambda line: int(line.split()[1].rstrip(":")))
    expected = {
        2: "name: found 'The Farm'; type 1 to 32 small letters",
        3: "url: found 'http://broker.example.org'; type host, host:port",
        4: "topics: found ['a,b']; type topics as in",
        5: "type user too",
        6: "tls_ca_file: found 'nowhere.pem'; type the path of a PEM file that exists",
        7: 'version: found \'3\'; type "5" or "3.1.1", in quotes',
        8: "qos: found 2; type 1, which loses nothing either",
        9: "client_id: found ''; type 1 to 128",
        10: "receipts: found 'yes'; type true or false",
        11: "pasword_file: there is no such key; type password_file",
        13: "name is missing; type 1 to 32",
        14: "password: there is no such key; write the password into a file",
    }
    for number, words in expected.items():
        assert any(line.startswith(f"line {number}: ") and words in line for line in lines), number
    assert "hunter2" not in "".join(lines)
    assert [line for line in lines if "cannot be read (No such file" in line]
    assert [line for line in lines if "url is missing" in line]
    assert [line for line in lines if "topics is missing" in line]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "found 0 endpoints"),
        ("[[endpoint]]\nname = \n", 2, "the TOML is broken"),
        ('[endpoint]\nname = "farm"\n', 1, "type [[endpoint]], in two brackets"),
        ("nodes = 1\n" + FARM, 1, "there is no such key; type [[endpoint]]"),
        (FARM + FARM.replace("birdnet", "other").replace("acoupi", "b"), 8, "the name farm too"),
        (FARM + FARM.replace('"farm"', '"twin"'), 10, "messages would arrive twice"),
        (FARM.replace("birdnet/#", "#"), 4, "includes iotreceipts/"),
        (FARM.replace("mqtts://", "mqtts://user:hunter2@"), 3, "type user and password in their"),
        (FARM.replace("mqtts", "mqtt") + 'tls_ca_file = "farm.secret"', 7, "only mqtts:// and"),
        (FARM + "qos = true\n", 7, "found True; type 1, or 0"),
    ],
)
def test_what_cannot_be_is_rejected_with_a_remedy(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"line {line}: ")
    assert words in problem
    assert "hunter2" not in problem


def test_two_accounts_at_one_broker_may_read_the_same_topics(tmp_path: Path) -> None:
    twin = FARM.replace('"farm"', '"twin"').replace('"reader"', '"other"')
    assert len(table(tmp_path, FARM + twin).endpoint_entries) == 2


def test_errors_of_the_table_stand_beside_those_of_other_settings(tmp_path: Path) -> None:
    (tmp_path / "endpoints.toml").write_text("qos = 1\n")
    with pytest.raises(SettingsError) as error:
        load({"IOT_ENDPOINTS": str(tmp_path / "endpoints.toml"), "IOT_MQTT_PORT": "0"})
    assert len(error.value.problems) == 3
    with pytest.raises(SettingsError) as error:
        load({"IOT_ENDPOINTS": str(tmp_path / "nothing.toml")})
    assert "cannot be read (No such file or directory); type the path" in str(error.value)
