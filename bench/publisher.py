"""`python -m bench.publisher`: publishes as fast as a broker accepts it, at little cost.

Every packet is encoded before the clock starts; what is left is writing large buffers to a socket
and counting acknowledgements. Prints one JSON line: messages, seconds, CPU seconds.
"""

import argparse
import json
import select
import socket
import sys
import time

import mqtt5

from bench.payloads import messages

PACKET_IDS = 60_000
WINDOW = 20_000
WINDOW_BYTES = 16 * 1024 * 1024
SEND_BYTES = 256 * 1024
SILENCE_SECONDS_MAX = 60.0


def main() -> int:
    """Publish, and print how long it took."""
    parser = argparse.ArgumentParser(prog="python -m bench.publisher")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--form", required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    packets, payload_bytes = [], 0
    for number, (topic, payload) in enumerate(
        messages(options.form, options.messages, options.seed)
    ):
        packet_id = number % PACKET_IDS + 1
        packet = mqtt5.PublishPacket(
            topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id
        )
        packets.append(packet.write())
        payload_bytes += len(payload)
    stream = _connect(options.port, options.user, options.password)
    print("ready", flush=True)
    sys.stdin.readline()
    began, cpu = time.monotonic(), time.process_time()
    _publish(stream, packets)
    figures = {
        "messages": len(packets),
        "payload_bytes": payload_bytes,
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu,
    }
    print(json.dumps(figures), flush=True)
    stream.close()
    return 0


def _connect(port: int, user: str, password: str) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port), timeout=20)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    packet = mqtt5.ConnectPacket("", username=user, password=password.encode(), keep_alive=0)
    stream.sendall(packet.write())
    answer, _ = mqtt5.read(memoryview(stream.recv(4096)))
    assert isinstance(answer, mqtt5.ConnAckPacket)
    assert int(answer.reason_code) == 0, answer
    stream.setblocking(False)
    return stream


def _publish(stream: socket.socket, packets: list[bytes]) -> None:
    """Keep a window of messages under way until all are acknowledged."""
    sent = acknowledged = sent_bytes = 0
    acknowledged_bytes = [0]
    for packet in packets:
        acknowledged_bytes.append(acknowledged_bytes[-1] + len(packet))
    waiting, rest = memoryview(b""), b""
    while acknowledged < len(packets):
        if not waiting:
            chunk = []
            chunk_bytes = 0
            while (
                sent < len(packets)
                and sent - acknowledged < WINDOW
                and chunk_bytes < SEND_BYTES
                and sent_bytes - acknowledged_bytes[acknowledged] < WINDOW_BYTES
            ):
                chunk.append(packets[sent])
                chunk_bytes += len(packets[sent])
                sent_bytes += len(packets[sent])
                sent += 1
            waiting = memoryview(b"".join(chunk))
        readable, writable, _ = select.select(
            [stream], [stream] if waiting else [], [], SILENCE_SECONDS_MAX
        )
        if not readable and not writable:
            raise TimeoutError(f"the broker said nothing for {SILENCE_SECONDS_MAX:.0f} s")
        if writable:
            waiting = waiting[stream.send(waiting) :]
        if readable:
            data = stream.recv(65_536)
            if not data:
                raise ConnectionResetError("the broker closed the connection")
            count, rest = _acknowledgements(rest + data)
            acknowledged += count


def _acknowledgements(data: bytes) -> tuple[int, bytes]:
    """Return how many PUBACKs these bytes hold, and the incomplete one at their end."""
    count = at = 0
    while len(data) - at >= 2 and len(data) - at >= 2 + data[at + 1]:
        assert data[at] == 0x40, "only PUBACKs were expected"
        at += 2 + data[at + 1]
        count += 1
    return count, data[at:]


if __name__ == "__main__":
    sys.exit(main())
