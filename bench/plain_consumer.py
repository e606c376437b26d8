"""`python -m bench.plain_consumer paho|aiomqtt`: a consumer written in an afternoon, done well.

It reads JSON, keys each message by a hash, stores a batch in SQLite as durably as we do (WAL,
`synchronous=FULL`, one transaction for 1,000 messages or 5 ms), and acknowledges each message only
then. It keeps no dead letters, no ledger, no metrics, checks no values, and prints how many it
has stored.
"""

import argparse
import asyncio
import hashlib
import json
import queue
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

BATCH_MESSAGES_MAX = 1_000
LINGER_SECONDS = 0.005
TOPIC = "iotingestion/#"
CLIENT_ID = "bench-plain"

Ack = Callable[[], object]


class Store:
    """A table of messages; `append` returns when a batch is on disk."""

    def __init__(self, path: Path) -> None:
        self.stored = 0
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS message (key BLOB PRIMARY KEY, at REAL, topic TEXT,"
            " species TEXT, payload BLOB) WITHOUT ROWID"
        )

    def append(self, batch: Sequence[tuple[str, bytes]]) -> None:
        """Store messages once each, however often they come."""
        now = time.time()
        rows = []
        for topic, payload in batch:
            try:
                species = json.loads(payload).get("species")
            except ValueError:
                species = None  # kept all the same
            key = hashlib.blake2b(topic.encode() + b"\0" + payload, digest_size=16).digest()
            rows.append((key, now, topic, species, payload))
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")
        self.stored += len(batch)
        print(self.stored, flush=True)


def run_paho(options: argparse.Namespace, store: Store | None) -> None:
    """Run paho-mqtt with a thread for its network loop and manual acknowledgement."""
    arrived: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
    subscribed: queue.SimpleQueue[None] = queue.SimpleQueue()
    client = paho.Client(
        CallbackAPIVersion.VERSION2, CLIENT_ID, clean_session=False, manual_ack=True
    )
    client.max_inflight_messages_set(65_535)
    client.username_pw_set(options.user, options.password)
    client.on_message = lambda _client, _data, message: arrived.put(message)
    client.on_subscribe = lambda *_arguments: subscribed.put(None)
    client.connect("127.0.0.1", options.port, keepalive=60)
    client.loop_start()
    client.subscribe(TOPIC, qos=1)
    subscribed.get(timeout=20)
    while store is not None and store.stored < options.messages:
        batch = [arrived.get(timeout=60)]
        ends = time.monotonic() + LINGER_SECONDS
        while len(batch) < BATCH_MESSAGES_MAX and (wait := ends - time.monotonic()) > 0:
            try:
                batch.append(arrived.get(timeout=wait))
            except queue.Empty:
                break
        store.append([(message.topic, bytes(message.payload)) for message in batch])
        for message in batch:
            client.ack(message.mid, message.qos)
    client.disconnect()
    client.loop_stop()


async def run_aiomqtt(options: argparse.Namespace, store: Store | None) -> None:
    """Run aiomqtt, kept from its habit of acknowledging before anything is stored."""
    async with aiomqtt.Client(
        "127.0.0.1",
        options.port,
        username=options.user,
        password=options.password,
        identifier=CLIENT_ID,
        clean_session=False,
        max_inflight_messages=65_535,
    ) as client:
        inner: Any = client._client
        inner.manual_ack_set(True)
        await client.subscribe(TOPIC, qos=1)
        messages = aiter(client.messages)
        while store is not None and store.stored < options.messages:
            batch = [await anext(messages)]
            ends = time.monotonic() + LINGER_SECONDS
            while len(batch) < BATCH_MESSAGES_MAX and time.monotonic() < ends:
                batch.append(await anext(messages))
                if len(client.messages) == 0:
                    break
            store.append([(str(each.topic), bytes(each.payload)) for each in batch])
            for each in batch:
                inner.ack(each.mid, each.qos)


def main() -> int:
    """Consume a number of messages; with 0, only subscribe, so that the session exists."""
    parser = argparse.ArgumentParser(prog="python -m bench.plain_consumer")
    parser.add_argument("library", choices=("paho", "aiomqtt"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--store", type=Path, required=True)
    options = parser.parse_args()
    store = Store(options.store) if options.messages else None
    if options.library == "paho":
        run_paho(options, store)
    else:
        asyncio.run(run_aiomqtt(options, store))
    return 0


if __name__ == "__main__":
    sys.exit(main())
