"""Publishing with certainty: connected for as long as it takes, and sent until acknowledged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from echo_ingest.mqtt.connection_errors import ConnectionLost, LoginRefused
from echo_ingest.mqtt.session import Session

STATE_POLL_SECONDS = 0.02
LOSSES_MAX = 5


@contextlib.asynccontextmanager
async def connected(session: Session) -> AsyncIterator[None]:
    """Keep `session` connected inside the block; raise `ConnectionLost` if it cannot begin."""
    before = session.state
    running = asyncio.create_task(session.run())
    inside = asyncio.current_task()
    assert inside is not None
    # `run` never returns. If it fails, the block must not wait for it for ever.
    running.add_done_callback(lambda done: None if done.cancelled() else inside.cancel())
    try:
        while session.state == before and not running.done():  # noqa: ASYNC110 - a session has no event for it
            await asyncio.sleep(STATE_POLL_SECONDS)
        if not session.is_connected:
            refused = LoginRefused if session.login_refused else ConnectionLost
            raise refused(session.state)
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def publish_acknowledged(
    session: Session,
    topic: str,
    payload: bytes,
    *,
    properties: Sequence[tuple[str, str]] = (),
    response_topic: str | None = None,
    correlation_data: bytes | None = None,
) -> int:
    """Publish until the broker has acknowledged the message; return the number of attempts.

    After a lost connection it is unknown whether the broker has the message, so it is sent again: a
    duplicate is recognised, but a loss would not be. Raises `PublishRefused`, or `ConnectionLost`
    when the connection was lost `LOSSES_MAX` times.
    """
    for attempt in range(1, LOSSES_MAX + 1):
        try:
            await session.publish(
                topic,
                payload,
                properties=properties,
                response_topic=response_topic,
                correlation_data=correlation_data,
            )
        except ConnectionLost as error:
            lost = error
        else:
            return attempt
    raise ConnectionLost(
        f"the connection was lost {LOSSES_MAX} times while {len(payload):,} bytes were sent to "
        f"{topic} ({lost}); if the message is larger than the broker accepts, raise its limit"
    ) from lost
