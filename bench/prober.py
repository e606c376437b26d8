"""`python -m bench.prober`: how long from a publish to its receipt, at a steady rate.

Each message has its moment in a schedule, and its time is counted from there, whether or not it
could be sent then: a stall counts for all who had to wait for it (no coordinated omission). Prints
one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import socket
import sys
import time
from array import array
from itertools import islice

import mqtt5

from bench.payloads import PREFIX, messages
from echo_ingest.settings import RECEIPTS_PREFIX

NODE = "bench-prober"
LATE_SECONDS_MAX = 20.0
PERCENTILES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}


def main() -> int:
    """Probe, and print percentiles."""
    parser = argparse.ArgumentParser(prog="python -m bench.prober")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--rate", type=int, required=True, help="messages a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    count = int(options.rate * options.seconds)
    packets = [
        mqtt5.PublishPacket(
            f"{PREFIX}/{NODE}",
            payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=number % 60_000 + 1,
            response_topic=f"{RECEIPTS_PREFIX}/{NODE}",
            correlation_data=number.to_bytes(4),
        ).write()
        for number, (_, payload) in enumerate(
            islice(messages("detections", count, options.seed), count)
        )
    ]
    stream = _subscribed(options.port, options.user, options.password)
    took = _probe(stream, packets, 1 / options.rate)
    stream.close()
    answered = sorted(each for each in took if each >= 0)
    figures: dict[str, float] = {"sent": count, "receipts": len(answered), "rate": options.rate}
    for name, share in PERCENTILES.items():
        figures[name] = round(answered[min(len(answered) - 1, int(share * len(answered)))] * 1e3, 3)
    print(json.dumps(figures), flush=True)
    return 0


def _subscribed(port: int, user: str, password: str) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port), timeout=20)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    hello = mqtt5.ConnectPacket("", username=user, password=password.encode(), keep_alive=0)
    receipts = mqtt5.TopicFilter(f"{RECEIPTS_PREFIX}/{NODE}", max_qos=mqtt5.QoS.AT_MOST_ONCE)
    stream.sendall(hello.write() + mqtt5.SubscribePacket(1, [receipts]).write())
    data = b""
    while True:
        data += stream.recv(4096)
        try:
            _, size = mqtt5.read(memoryview(data))
            suback, _ = mqtt5.read(memoryview(data)[size:])
        except IndexError:
            continue
        assert isinstance(suback, mqtt5.SubAckPacket), suback
        stream.setblocking(False)
        return stream


def _probe(stream: socket.socket, packets: list[bytes], interval_seconds: float) -> array[float]:
    """Return the seconds from each message's moment to its receipt; −1 where none came."""
    took = array("d", [-1.0] * len(packets))
    began = time.perf_counter()
    ends = began + len(packets) * interval_seconds + LATE_SECONDS_MAX
    sent = received = 0
    waiting, data = b"", b""
    while received < len(packets):
        now = time.perf_counter()
        if now > ends:
            break
        due = min(int((now - began) / interval_seconds) + 1, len(packets))
        if due > sent:
            waiting += b"".join(packets[sent:due])
            sent = due
        next_at = began + sent * interval_seconds if sent < len(packets) else ends
        writers = [stream] if waiting else []
        readable, _, _ = select.select([stream], writers, [], max(0.0, next_at - now))
        if waiting:
            with contextlib.suppress(BlockingIOError):
                waiting = waiting[stream.send(waiting) :]
        if readable:
            data += stream.recv(262_144)
            now = time.perf_counter()
            view, at = memoryview(data), 0
            while True:
                try:
                    packet, size = mqtt5.read(view[at:])
                except IndexError:
                    break
                at += size
                if isinstance(packet, mqtt5.PublishPacket):
                    assert packet.correlation_data is not None
                    number = int.from_bytes(packet.correlation_data)
                    took[number] = now - (began + number * interval_seconds)
                    received += 1
            data = data[at:]
    return took


if __name__ == "__main__":
    sys.exit(main())
