"""Forms that a browser sends: small, complete, in time, each field once."""

import asyncio
from urllib.parse import parse_qsl

from litestar.exceptions import ClientException, HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from echo_ingest.web.problems import AnyRequest

BODY_BYTES_MAX = 16 * 1024
BODY_SECONDS_MAX = 10.0
FIELDS_MAX = 20
FORM = "application/x-www-form-urlencoded"


async def form_of(request: AnyRequest, bytes_max: int = BODY_BYTES_MAX) -> dict[str, str]:
    """Return the fields of a form; raise `HTTPException` where it is not one.

    The route limits the body to `bytes_max` (`request_max_body_size`).
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HTTPException(f"send a form as {FORM}", status_code=415)
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            body = await request.body()
    except RequestEntityTooLarge:
        raise HTTPException(
            f"a form may have {bytes_max // 1024} KiB; send a smaller one", status_code=413
        ) from None
    except TimeoutError:
        raise HTTPException(
            f"the form did not arrive within {BODY_SECONDS_MAX:g} s; send it again", status_code=408
        ) from None
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise ClientException("the form cannot be read; load the page again") from None
    form = dict(fields)
    if len(form) < len(fields):
        raise ClientException("a field was sent twice; load the page again")
    return form
