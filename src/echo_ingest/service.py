"""The one place where things are wired: what starts, in which order, and how it ends.

Start: data folder, journal, broker (`up`), HTTP, sinks, session. Stop: first nothing new comes in
(the batch at hand is stored and acknowledged), then the broker stops and saves what it holds,
then each sink finishes and settles the write it is in, then HTTP and the journal close.
"""

import asyncio
import contextlib
import fcntl
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import structlog

from echo_ingest import broker, metrics, web
from echo_ingest.deliver import Deliver
from echo_ingest.ingest import Ingest
from echo_ingest.journal import Journal, JournalUnusable, Ledger
from echo_ingest.mqtt import Session, SessionOptions
from echo_ingest.pulse import Pulse
from echo_ingest.settings import Endpoint, Settings
from echo_ingest.sinks import Sink
from echo_ingest.sinks.echo_api import EchoApi
