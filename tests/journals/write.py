"""Write the journal of an earlier version, by the code of that version.

    .venv/bin/python tests/journals/write.py de7efab tests/journals/version_3.db

checks out the commit beside the repository, for as long as it takes, and has its own code write
the journal. `tests/test_journal_migration.py` says what is in it. The commit is the last one before
the next version; the script works from version 3 on, and fails if the journal that it writes is of
another version than the name of the file says. The times of receipt are given, so it writes the
same each time, but for what SQLite counts in its header and the clock of `parked_at_ms`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST_MS = 1_790_000_000_000
DAY_MS = 86_400_000
DAYS = 4
SINKS = ("echo_api", "postgres")


def main(commit: str, target: Path) -> None:
    """Have the code of `commit` write `target`."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "--detach", "--quiet", checkout, commit], check=True)
        try:
            new = Path(folder) / target.name
            subprocess.run(
                [sys.executable, "-P", __file__, "--here", new],
                env={**os.environ, "PYTHONPATH": str(checkout / "src")},
                check=True,
            )
            shutil.copyfile(new, target)
        finally:
            subprocess.run([*git, "remove", "--force", checkout], check=True)


def write(target: Path) -> None:
    """Write the journal with the code that this process imports."""
    import apsw

    from echo_ingest.decode import Decoder
    from echo_ingest.journal import Journal
    from echo_ingest.journal.cursors import Refused
    from echo_ingest.record import Message

    decoder = Decoder(1_000_000)
    journal = Journal(target)
    for sink in SINKS:
        journal.add_sink(sink)
    for day in range(DAYS):
        messages = [
            Message(f"iotingestion/{node}", payload, FIRST_MS + day * DAY_MS + number, node)
            for number, (node, payload) in enumerate(payloads(day))
        ]
        journal.append([(message, decoder.identify(message)) for message in messages])
        if day < DAYS - 1:
            journal.acknowledged()
    for sink, taken in zip(SINKS, (9, 4), strict=True):
        offsets = [entry.offset for entry in journal.read(sink, taken)]
        journal.settle(sink, offsets, {offsets[2]: Refused("422: species: not a known species")})
    journal.pause(SINKS[1])
    journal.remember_session("echo-ingest@127.0.0.1:1883")
    journal.note_day(FIRST_MS + DAYS * DAY_MS)
    journal.close()
    with apsw.Connection(str(target)) as db:
        version = db.execute("PRAGMA user_version").get
        # What is not a fact of the journal is given, so that another run writes the same.
        db.execute("UPDATE parked SET parked_at_ms = ?", (FIRST_MS,))
        db.execute("UPDATE sink SET paused_at_ms = ? WHERE paused_at_ms IS NOT NULL", (FIRST_MS,))
    db.close()
    if target.stem != f"version_{version}":
        raise SystemExit(f"this code writes version {version}: name the file version_{version}.db")


def payloads(day: int) -> list[tuple[str, bytes]]:
    """Return the messages of a day: two with an id, one without, a repeat, and one to reject."""
    observed = f"2026-09-{21 + day:02}T12:00:00Z"
    call = {
        "source_model": "birdnet",
        "species": "Ninox connivens",
        "confidence": 87.5,
        "timestamp": observed,
    }
    first = json.dumps({**call, "id": f"call-{day}-1"}).encode()
    return [
        ("ridge-01", first),
        ("ridge-02", json.dumps({**call, "id": f"call-{day}-2"}).encode()),
        ("ridge-03", json.dumps({**call, "confidence": 60.0 + day}).encode()),
        ("ridge-01", first),
        ("ridge-02", b"not a message"),
    ]


if __name__ == "__main__":
    if sys.argv[1] == "--here":
        write(Path(sys.argv[2]))
    else:
        main(sys.argv[1], Path(sys.argv[2]))
