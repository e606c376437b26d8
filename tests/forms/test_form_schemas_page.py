"""The read API shows the JSON Schema of each form in use, also of one that is added meanwhile."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from echo_ingest import web
from echo_ingest.decode import FORMS, Decoder
from echo_ingest.decode.forms import SHIPPED, Forms
from echo_ingest.settings import Settings
from tests.harness import HTTP_TOKEN, TOKENS, free_port
from tests.test_web import serving

POND = b"""name = "pond"
about = "The recorders at the pond"
[match]
topic = "pond/{node}"
[[record]]
kind = "detection"
species = "name"
"""
WITH_TOKEN = {"Authorization": f"Bearer {HTTP_TOKEN}"}
Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(1_000_000, forms=Forms.of_folder(SHIPPED))


@pytest.fixture
async def ask(decoder: Decoder, tmp_path: Path) -> AsyncIterator[Ask]:
    """Ask for an address; return the status and the answer."""
    port = free_port()
    app = web.create_app(
        cast(web.Service, None), Settings(data_dir=tmp_path), TOKENS, decoder=decoder
    )
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http, serving(app, port):

        async def get(path: str, **headers: str) -> tuple[int, Any]:
            async with http.get(path, headers=headers or WITH_TOKEN) as answer:
                return answer.status, await answer.json()

        yield get


async def test_all_forms_are_listed_and_each_has_its_schema(ask: Ask) -> None:
    _, answer = await ask("/api/schemas")
    names = [each["name"] for each in answer["schemas"]]
    assert names[-len(FORMS) :] == [form.name for form in FORMS]
    assert len(set(names)) == len(names) > 40
    for name in ("birdnet-go-detection", "edge-prediction"):
        status, schema = await ask(f"/api/schemas/{name}")
        assert (status, schema["title"]) == (200, name)
        assert "properties" in schema


async def test_a_form_that_is_added_has_its_schema_at_once(ask: Ask, decoder: Decoder) -> None:
    assert await ask("/api/schemas/pond") == (
        404,
        {"error": "there is no form 'pond'; /api/schemas lists all"},
    )
    assert decoder.forms is not None
    decoder.forms.become(Forms.of_sources([("pond.toml", POND)]))
    _, schema = await ask("/api/schemas/pond")
    assert schema["required"] == ["name"]
    _, answer = await ask("/api/schemas")
    entry = answer["schemas"][0]
    assert (entry["name"], entry["topics"]) == ("pond", ["pond/{node}"])
    assert len(entry["version"]) == 16


async def test_schemas_ask_for_a_token(ask: Ask) -> None:
    for path in ("/api/schemas", "/api/schemas/pond"):
        status, _ = await ask(path, Authorization="Bearer wrong")
        assert status == 401
