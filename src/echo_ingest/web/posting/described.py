"""How OpenAPI describes posts: what the address may have, the body, and the answers."""

from collections.abc import Mapping
from dataclasses import dataclass

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)

from echo_ingest.pipeline.receipts import Receipt
from echo_ingest.web.posting.incoming import PARAMETERS

ANSWERS: Mapping[int, ResponseSpec] = {
    200: ResponseSpec(Receipt, description="It is here already, or a form ignores it"),
    202: ResponseSpec(Receipt, description="It is kept for a while, and nothing has claimed it"),
    422: ResponseSpec(Receipt, description="It is kept as a dead letter"),
}
"""Besides 201: it is stored."""
TEXT = Schema(type=OpenAPIType.STRING)


@dataclass
class PostOperation(Operation):
    """A post, with what its handler reads from the request by itself."""

    def __post_init__(self) -> None:
        """Add the parameters and the body."""
        named = [Parameter(name=name, param_in="query", schema=TEXT) for name in PARAMETERS]
        self.parameters = [*(self.parameters or ()), *named]
        body = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))
        self.request_body = RequestBody(content={"application/octet-stream": body}, required=True)
