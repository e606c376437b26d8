"""The text of the files that mosquitto reads: configuration and passwords. All pure.

Two versions are supported. 2.1 keeps its queues in SQLite and commits in the same turn of its loop
in which it acknowledges: a crash loses at most that turn. 2.0 writes its queues to a file now and
then, and a crash loses what it has accepted since. So a device that must be sure asks for a
receipt.
"""

import re
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from echo_ingest.broker.node_accounts import (
    GENERATED_HASH_ROUNDS,
    NAME_BYTES_MAX,
    SALT_BYTES,
    NodeAccount,
    node_password,
    password_hash,
)
from echo_ingest.broker.program import QUEUES_20, QUEUES_21, Version, needs_plugins
from echo_ingest.record import ACCOUNTS
from echo_ingest.settings import PACKET_OVERHEAD_BYTES, Settings

PUBLISHER = "echopub"
SUBSCRIBER = "echosub"
SERVICE = "echo-ingest"

CONFIGURATION_FILE = "mosquitto.conf"
PASSWORD_FILE = "passwords"  # noqa: S105 - a name, not a password
ACCESS_FILE = "access"
SOCKET_FILE = "socket"
DEVICES_SOCKET_FILE = "devices"

# Mosquitto has one thread, and checks passwords on it: 1,000 rounds take 0.4 ms in which no message
# moves, so a thousand devices that reconnect at once cost 0.4 s; 100,000 rounds would cost 44 s. So
# only a password that was set is hashed with that many rounds: a person may have chosen it.
HASH_ROUNDS = 1_000
HASH = re.compile(r"\$(6|7|argon2id)\$[\w$+/=,.-]+", re.ASCII)

# Only where there is no shared account: each node has one connection, so a dead one must not stay
# for ever. Not elsewhere: 2.1 rejects a client of MQTT 3 that asks for a longer keep-alive or for
# none, because such a client cannot be told another value.
KEEP_ALIVE_SECONDS_MAX = 3_600

# For 2.0 only. Each save writes the whole state again while no message moves. Saving at each change
# was measured to be 40 times slower, and it still loses messages that are on their way.
AUTOSAVE_SECONDS = 60

# 2.1 reads 0, and also 65,535, as a client that may send nothing: it accepts its messages all the
# same, but logs a warning for each.
UNBOUNDED_INFLIGHT_21 = 65_534

# Of what is in flight to a reader there is a copy, and when one returns, all that fits is copied at
# once. 2.0 counts what waits as in flight, and then sends it in spite of this limit.
INFLIGHT_BYTES_MAX_21 = 32 * 1024 * 1024


class Credentials(Struct, frozen=True):
    """An account at the broker."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"


def configuration(
    version: Version,
    settings: Settings,
    plugins: Mapping[str, Path],
    user: str | None,
) -> str:
    """Return the configuration file; its paths are relative to the folder mosquitto starts in.

    `plugins` has the path of each of `PLUGINS`, if the version needs them; `user` is the system
    account to change to when started as root. Devices reach it by the proxy alone, which counts
    their connections and ends TLS and WebSockets.
    """
    lines = [
        *([f"user {user}"] if user is not None else []),
        "allow_anonymous false",
        # Nothing is dropped for a reader that is slow or away. 0 means no limit, but with 0 queued
        # messages 2.0 would also disconnect a client whose publish it denies.
        f"max_queued_messages {2**31 - 1}",
        "max_queued_bytes 0",
        f"max_inflight_messages {UNBOUNDED_INFLIGHT_21 if needs_plugins(version) else 0}",
        "queue_qos0_messages true",
        f"max_packet_size {_packet_bytes_max(settings)}",
        # MQTT 3 sessions have no expiry: a reader that never returns would fill the memory.
        f"persistent_client_expiration {-(-settings.session_expiry_seconds // 3600)}h",
        "sys_interval 1",  # by what it says of its messages, the proxy tells if memory is free
        "log_dest stderr",
        "log_timestamp false",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "connection_messages false",  # they have the client id of our session, which is secret
    ]
    if not settings.echopub:
        lines.append(f"max_keepalive {KEEP_ALIVE_SECONDS_MAX}")
    if needs_plugins(version):
        lines += [
            f"max_inflight_bytes {INFLIGHT_BYTES_MAX_21}",
            f"plugin {plugins['mosquitto_password_file']}",
            f"plugin_opt_password_file {PASSWORD_FILE}",
            f"plugin {plugins['mosquitto_acl_file']}",
            f"plugin_opt_acl_file {ACCESS_FILE}",
            f"plugin {plugins['mosquitto_persist_sqlite']}",
            f"plugin_opt_db_file {QUEUES_21}",
            "plugin_opt_sync full",
            "plugin_opt_flush_period 0",
        ]
    else:
        lines += [
            f"password_file {PASSWORD_FILE}",
            f"acl_file {ACCESS_FILE}",
            "persistence true",
            "persistence_location ./",
            f"persistence_file {QUEUES_20}",
            f"autosave_interval {AUTOSAVE_SECONDS}",
        ]
    # With an alias, a topic of 64 KiB would stay in memory as long as its connection.
    lines += [f"listener 0 {DEVICES_SOCKET_FILE}", "max_topic_alias 0"]
    if not settings.echopub:
        # One session for each account, named after it: nobody can take over another's, or have
        # several. Devices that share an account would disconnect each other.
        lines.append("use_username_as_clientid true")
    if settings.service_port is not None:
        lines += [
            *("set_tcp_nodelay true", f"listener {settings.service_port} {settings.bind}"),
        ]
    # Our own socket, which nobody outside can fill up. It comes last: once it is there, all are.
    lines.append(f"listener 0 {SOCKET_FILE}")
    return "\n".join([*lines, ""])


def _packet_bytes_max(settings: Settings) -> int:
    """Return how large a packet may be once the proxy has put the account before its topic."""
    account_bytes = len(f"{ACCOUNTS}/") + NAME_BYTES_MAX + 1
    return settings.payload_bytes_max + PACKET_OVERHEAD_BYTES + account_bytes


def copied_bytes_max(version: Version, settings: Settings) -> int:
    """Return how much of what waits for a reader mosquitto copies at once when that returns."""
    if needs_plugins(version):
        # The last message begins below the limit.
        return INFLIGHT_BYTES_MAX_21 + settings.payload_bytes_max
    return sys.maxsize


def password_line(account: Credentials, salt: bytes, rounds: int = HASH_ROUNDS) -> str:
    """Return a line of the password file, for a password that is known here."""
    return f"{account.user}:{password_hash(account.password, salt, rounds)}\n"


def node_lines(nodes: Iterable[NodeAccount], certificate_secret: bytes | None) -> str:
    """Return the nodes' lines of the password file; of passwords, only the hashes are known here.

    With `certificate_secret`, nodes without a password log in by certificate.
    """
    hashes = {node.name: node.hash for node in nodes if not node.disabled}
    if certificate_secret is not None:
        for name in [name for name, hashed in hashes.items() if hashed is None]:
            hashes[name] = password_hash(
                node_password(certificate_secret, name),
                secrets.token_bytes(SALT_BYTES),
                GENERATED_HASH_ROUNDS,
            )
    return "".join(f"{name}:{hashed}\n" for name, hashed in hashes.items() if hashed)


def hashed_accounts(text: str) -> dict[str, str]:
    """Parse a file of password hashes, as `mosquitto_passwd` writes it, into lines by user.

    Raises `ValueError` with the remedy in its text. A text that is not a hash is not shown: it may
    be the password itself.
    """
    lines = {}
    for number, line in enumerate(text.splitlines(), 1):
        user, _, hashed = line.partition(":")
        if user not in (PUBLISHER, SUBSCRIBER) or user in lines:
            raise ValueError(
                f"line {number}: the file may have one line for {PUBLISHER} and one for "
                f"{SUBSCRIBER}, and no other: remove this one"
            )
        if not HASH.fullmatch(hashed):
            raise ValueError(
                f"line {number}: the text after {user}: is not a password hash; let "
                "`mosquitto_passwd` write the file"
            )
        lines[user] = f"{line}\n"
    return lines


def is_noise(line: str) -> bool:
    """Return whether 2.0 writes this line of its log at each connection to a unix socket."""
    return "TCP_NODELAY" in line


def severity(line: str) -> str:
    """Return the level of a line of mosquitto's log: `error`, `warning` or `info`."""
    marked = re.match(r"(Error|Warning)\b", line)
    return marked[1].lower() if marked else "info"
