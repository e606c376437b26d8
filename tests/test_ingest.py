"""The first half at its limits: a real broker, a real journal, no room."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from echo_ingest.ingest import Ingest
from echo_ingest.journal import Journal
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.settings import Endpoint
from tests.plain_broker import PlainBroker, running
