"""`python -m echo_ingest.cli`, where the command is not installed."""

from echo_ingest.cli import main

main()
