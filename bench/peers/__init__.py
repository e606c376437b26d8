"""Node-RED and mqttwarn: what people store MQTT messages with who do not write a program.

`scripts/setup peers` installs both in this folder. Neither waits for its database before it
acknowledges, so each may lose what it had taken when it is killed; both are measured while they do
the same: a durable session, QoS 1, every message in a table of SQLite.
"""

import contextlib
import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.contestants import TOPIC, Contestant, log_of, port_for_readers, start
from echo_ingest.broker import PUBLISHER, SUBSCRIBER
from tests.harness import PUB_PASSWORD, SUB_PASSWORD, Harness, eventually, free_port

FOLDER = Path(__file__).parent
START_SECONDS_MAX = 60.0

FLOW_STORE = """
try { JSON.parse(msg.payload); } catch (error) { /* kept all the same */ }
msg.params = { $topic: msg.topic, $payload: msg.payload };
return msg;
"""


def _table_of(harness: Harness, name: str) -> Path:
    return harness.data_dir.with_suffix(f".{name}.db")


def _make_table(harness: Harness, name: str, columns: str) -> None:
    """Make a database in WAL mode, which is faster for both than one that they make themselves."""
    with contextlib.closing(sqlite3.connect(_table_of(harness, name))) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"CREATE TABLE IF NOT EXISTS message ({columns})")


def _stored_by(name: str, begin: Callable[[Harness, int], subprocess.Popen[bytes]]) -> Contestant:
    def counted(harness: Harness) -> int:
        with contextlib.suppress(sqlite3.Error):
            address = f"file:{_table_of(harness, name)}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, uri=True)) as db:
                return int(db.execute("SELECT coalesce(max(rowid), 0) FROM message").fetchone()[0])
        return 0

    def subscribe(harness: Harness) -> None:
        """Let it come up once, so that the broker has its session: it has when a message comes."""
        command = [*("mosquitto_pub", "-h", "127.0.0.1", "-p", str(harness.mqtt_port), "-q", "1")]
        command += ["-u", PUBLISHER, "-P", PUB_PASSWORD, "-t", "iotingestion/first", "-m", "{}"]
        program = begin(harness, 0)
        eventually(
            lambda: subprocess.run(command, check=True, timeout=20) and counted(harness) > 0,
            seconds=START_SECONDS_MAX,
        )
        program.terminate()
        program.wait(timeout=60)

    return Contestant(name, subscribe, begin, counted)


# ---------------------------------------------------------------------- Node-RED


def _start_node_red(harness: Harness, _messages: int) -> subprocess.Popen[bytes]:
    folder = harness.data_dir.with_suffix(".node-red")
    folder.mkdir(exist_ok=True)
    _make_table(harness, "Node-RED", "topic TEXT, payload TEXT")
    broker = {
        **{"id": "broker", "type": "mqtt-broker", "broker": "127.0.0.1"},
        "port": port_for_readers(harness),
        **{"clientid": "bench-node-red", "autoConnect": True, "cleansession": False},
        **{"autoUnsubscribe": False},
        **{"protocolVersion": "4", "keepalive": "60"},
    }
    flow = [
        {"id": "tab", "type": "tab", "label": "store"},
        broker,
        {"id": "db", "type": "sqlitedb", "db": str(_table_of(harness, "Node-RED")), "mode": "RWC"},
        {
            **{"id": "in", "z": "tab", "type": "mqtt in", "topic": TOPIC, "qos": "1"},
            **{"datatype": "utf8", "broker": "broker", "inputs": 0, "wires": [["prepare"]]},
        },
        {
            **{"id": "prepare", "z": "tab", "type": "function", "func": FLOW_STORE},
            **{"outputs": 1, "wires": [["store"]]},
        },
        {
            **{"id": "store", "z": "tab", "type": "sqlite", "mydb": "db", "sqlquery": "prepared"},
            **{"sql": "INSERT INTO message VALUES ($topic, $payload)", "wires": [[]]},
        },
    ]
    (folder / "flows.json").write_text(json.dumps(flow))
    account = {"broker": {"user": SUBSCRIBER, "password": SUB_PASSWORD}}
    (folder / "flows_cred.json").write_text(json.dumps(account))
    (folder / "settings.js").write_text(
        "module.exports = { credentialSecret: false, flowFile: 'flows.json', httpAdminRoot: false,"
        f" uiHost: '127.0.0.1', uiPort: {free_port()}, logging: {{ console: {{ level: 'warn' }} }},"
        f" nodesDir: {json.dumps(str(FOLDER / 'node_modules'))} }};"
    )
    program = str(FOLDER / "node_modules" / ".bin" / "node-red")
    return start(harness, [program, "--userDir", str(folder)], "Node-RED")


NODE_RED = _stored_by("Node-RED", _start_node_red)


# ---------------------------------------------------------------------- mqttwarn


def _start_mqttwarn(harness: Harness, _messages: int) -> subprocess.Popen[bytes]:
    _make_table(harness, "mqttwarn", "payload TEXT")
    path = log_of(harness, "mqttwarn").with_suffix(".ini")
    path.write_text(
        f"""
[defaults]
hostname = '127.0.0.1'
port = {port_for_readers(harness)}
username = '{SUBSCRIBER}'
password = '{SUB_PASSWORD}'
clientid = 'bench-mqttwarn'
cleansession = False
launch = sqlite
[config:sqlite]
targets = {{ 'table': ['{_table_of(harness, "mqttwarn")}', 'message'] }}
[{TOPIC}]
targets = sqlite:table
qos = 1
"""
    )
    program = str(FOLDER / ".venv" / "bin" / "mqttwarn")
    environment = {**harness.environment(), "MQTTWARNINI": str(path)}
    return start(harness, [program], "mqttwarn", environment)


MQTTWARN = _stored_by("mqttwarn", _start_mqttwarn)
