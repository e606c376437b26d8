"""Run `python -m echo_ingest.cli` as the command `echo-ingest`, where that is not installed."""

from echo_ingest.cli import main

main()
