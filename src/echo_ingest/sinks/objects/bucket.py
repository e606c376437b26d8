"""Objects in a bucket of S3, Google Cloud Storage or Azure, through `obstore`."""

import functools
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from echo_ingest import __version__
from echo_ingest.settings.urls import ObjectsUrl
from echo_ingest.sinks import Cause, Unavailable
from echo_ingest.sinks.objects.responses import failure

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PART_BYTES = 8 * 1024 * 1024
"""Larger objects travel in parts of this size."""
PARTS_AT_ONCE = 4

CLIENT: "ClientConfig" = {
    "allow_http": True,  # for an endpoint that is set to http://; a provider's own is https://
    "connect_timeout": timedelta(seconds=10),
    "pool_idle_timeout": timedelta(seconds=15),
    "timeout": timedelta(hours=2),  # the sink's own limit, which grows with the size, ends first
    "user_agent": f"echo-ingest/{__version__}",
}
RETRY: "RetryConfig" = {"max_retries": 0}  # `deliver` retries, visibly


class Bucket:
    """A bucket, whose provider is configured by the environment. Satisfies `ObjectStore`."""

    def __init__(self, url: ObjectsUrl) -> None:
        self._url = url

    async def put(self, name: str, content: bytes, content_type: str) -> int | None:
        """Write an object unless it exists; see `ObjectStore.put`."""
        try:
            return await self._put(name, content, content_type)
        except Exception as error:
            if not _is_from_outside(error):
                raise
            shown = f"{self._url.scheme}://{self._url.bucket}"
            raise failure(error, self._url.scheme, shown) from None

    async def flush(self) -> None:
        """Do nothing: an answer means that the object is kept."""

    def close(self) -> None:
        """Do nothing: connections end by themselves."""

    async def _put(self, name: str, content: bytes, content_type: str) -> int | None:
        is_large = len(content) > PART_BYTES
        if is_large:  # parts cannot be sent on a condition, so we look first, to send them once
            present_bytes = await self._size_bytes(name)
            if present_bytes is not None:
                return present_bytes
        try:
            await obstore.put_async(
                self._store,
                name,
                content,
                mode="overwrite" if is_large else "create",
                attributes={"Content-Type": content_type},
                use_multipart=is_large,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        except AlreadyExistsError as error:
            # It stands for any 409, which may mean something else: of two puts at once S3 can
            # refuse both.
            present_bytes = await self._size_bytes(name)
            if present_bytes is None:
                raise Unavailable(
                    "the object storage was busy with the same object: the service tries again by "
                    "itself",
                    cause=Cause.OVERLOADED,
                    http_status=HTTPStatus.CONFLICT,
                ) from error
            return present_bytes
        return None

    async def _size_bytes(self, name: str) -> int | None:
        try:
            return int((await obstore.head_async(self._store, name))["size"])
        except FileNotFoundError:
            return None

    @functools.cached_property
    def _store(self) -> S3Store | GCSStore | AzureStore:
        """Make the client when it is needed, since the environment may hold unusable values."""
        kind = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[self._url.scheme]
        store: S3Store | GCSStore | AzureStore = kind(
            self._url.bucket,
            prefix=self._url.path or None,
            client_options=CLIENT,
            retry_config=RETRY,
        )
        return store


def _is_from_outside(error: Exception) -> bool:
    """Return whether the provider or the environment is the cause, and not a mistake of ours.

    An endpoint that is no address makes obstore panic, in Rust.
    """
    return (
        isinstance(error, BaseError | OSError | ValueError) or type(error).__name__ == "RustPanic"
    )
