"""The topics that a person has taken in besides those of `IOT_TOPIC`: a file, one on each line.

    birdnet/#
    tele/+/SENSOR

It is in the data folder and replaced in one step; the running service applies the change within
seconds. What comes on these topics goes through the line: what has no form is a dead letter.
"""

from pathlib import Path

from echo_ingest.broker.program import BrokerError
from echo_ingest.process.files import atomic_write
from echo_ingest.process.folder_lock import locked
from echo_ingest.settings import Settings
from echo_ingest.settings.topics import effective_filter

TOPICS_MAX = 1_000
FILTER_BYTES_MAX = 1_024
FILE_BYTES_MAX = TOPICS_MAX * (FILTER_BYTES_MAX + 1)
_TOO_MANY = f"{{}} may have {TOPICS_MAX:,} topics: use # in them, or remove some"


class TakenTopicsUnusable(BrokerError):
    """The file cannot be read or written; the text says where, and what to do."""


def taken_topics_path(settings: Settings) -> Path:
    """Return where the file is."""
    return settings.data_dir / "taken-topics.txt"


def read_taken_topics(path: Path) -> tuple[str, ...]:
    """Read the filters; none if the file is missing. Raises `TakenTopicsUnusable`."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX).decode()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise TakenTopicsUnusable(
            f"{path} cannot be read ({error}): it must be text and belong to the user that runs "
            "the service"
        ) from error
    filters = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                filters.append(effective_filter(line.strip()))
            except ValueError as error:
                raise TakenTopicsUnusable(f"{path} line {number}: {error}") from None
    if len(filters) > TOPICS_MAX:
        raise TakenTopicsUnusable(_TOO_MANY.format(path))
    return tuple(dict.fromkeys(filters))


def take_in(path: Path, text: str) -> str:
    """Add a topic filter to the file, and return it as it holds.

    Raises `ValueError` if it is none, with the remedy, and `TakenTopicsUnusable`.
    """
    topic_filter = effective_filter(text)
    if len(topic_filter.encode()) > FILTER_BYTES_MAX:
        raise ValueError(f"type at most {FILTER_BYTES_MAX:,} bytes; topics there have no more")
    try:
        with locked(path.parent):
            filters = read_taken_topics(path)
            if topic_filter not in filters:
                if len(filters) >= TOPICS_MAX:
                    raise TakenTopicsUnusable(_TOO_MANY.format(path))
                lines = "".join(f"{each}\n" for each in (*filters, topic_filter))
                atomic_write(path, lines.encode(), owner=path.parent.stat())
    except OSError as error:
        raise TakenTopicsUnusable(
            f"{path} cannot be written ({error.strerror}): do this as the user that runs the "
            "service"
        ) from error
    return topic_filter
