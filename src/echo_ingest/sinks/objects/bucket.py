"""Objects in a bucket of S3, Google Cloud Storage or Azure, through `obstore`."""

import functools
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from echo_ingest import __version__
from echo_ingest.settings.urls import ObjectsUrl
from echo_ingest.sinks import Unavailable
from echo_ingest.sinks.objects.errors import trouble

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PART_BYTES = 8 * 1024 * 1024
"""Larger objects travel in parts of this size."""
PARTS_AT_ONCE = 4

CLIENT: "ClientConfig" = {
    "allow_http": True,  # where an endpoint is set that says so; a provider's own never does
    "connect_timeout": timedelta(seconds=10),
    "pool_idle_timeout": timedelta(seconds=15),
    "timeout": timedelta(hours=2),  # the sink's own, which grows with the size, comes first
    "user_agent": f"echo-ingest/{__version__}",
}
RETRY: "RetryConfig" = {"max_retries": 0}  # `deliver` does that


class Bucket:
    """A bucket, with what the environment says of its provider. Satisfies `Store`."""

    def __init__(self, url: ObjectsUrl) -> None:
        self._url = url

    async def put(self, name: str, content: bytes, content_type: str) -> int | None:
        """Write it unless it is there; see `Store.put`."""
        try:
            return await self._put(name, content, content_type)
        except Exception as error:
            if not _is_trouble(error):
                raise
            shown = f"{self._url.scheme}://{self._url.bucket}"
            raise trouble(error, self._url.scheme, shown) from None

    async def flush(self) -> None:
        """Nothing is left to do: an answer means that it is kept."""

    def close(self) -> None:
        """Nothing is left to do: connections end by themselves."""

    async def _put(self, name: str, content: bytes, content_type: str) -> int | None:
        is_large = len(content) > PART_BYTES
        if is_large:  # parts cannot be sent on a condition: who looks first sends them once
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
            # Any 409, which may say something else: of two puts at once S3 can refuse both.
            present_bytes = await self._size_bytes(name)
            if present_bytes is None:
                raise Unavailable("the object store was busy with the same object") from error
            return present_bytes
        return None

    async def _size_bytes(self, name: str) -> int | None:
        try:
            return int((await obstore.head_async(self._store, name))["size"])
        except FileNotFoundError:
            return None

    @functools.cached_property
    def _store(self) -> S3Store | GCSStore | AzureStore:
        """Made when it is needed, since the environment may say what cannot be used."""
        kind = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[self._url.scheme]
        store: S3Store | GCSStore | AzureStore = kind(
            self._url.bucket,
            prefix=self._url.path or None,
            client_options=CLIENT,
            retry_config=RETRY,
        )
        return store


def _is_trouble(error: Exception) -> bool:
    """Is it the store's or the environment's, and not a mistake of ours?

    An endpoint that is no address makes it panic, in Rust.
    """
    return (
        isinstance(error, BaseError | OSError | ValueError) or type(error).__name__ == "RustPanic"
    )
