"""`python -m bench.counter`: the service's own session, which counts and acknowledges.

It decodes nothing and stores nothing: what it reaches is the most that anything behind this session
could. It prints how many it has had, each time that changes by much.
"""

import argparse
import asyncio
import sys

from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.settings import parse_endpoint

BATCH_MESSAGES_MAX = 1_000
LINGER_SECONDS = 0.005


async def count(session: Session, messages: int) -> None:
    """Receive and acknowledge until `number` messages have come."""
    running = asyncio.create_task(session.run())
    await session.wait_connected()
    counted = 0
    while counted < messages:
        batch = await session.receive(BATCH_MESSAGES_MAX, LINGER_SECONDS)
        session.ack(batch)
        counted += len(batch.messages)
        print(counted, flush=True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def main() -> int:
    """Count the messages, then end."""
    parser = argparse.ArgumentParser(prog="python -m bench.counter")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--messages", type=int, required=True)
    options = parser.parse_args()
    session = Session(
        SessionOptions(
            endpoint=parse_endpoint(options.endpoint),
            client_id="bench-counter",
            login=lambda: (options.user, options.password),
            topic_filters=("iotingestion/#",),
            session_expiry_seconds=3_600,
        )
    )
    asyncio.run(count(session, options.messages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
