"""Taking in a topic that nothing has claimed, or discarding what is kept of it."""

from contextlib import closing

from echo_ingest.admin import ActionError, InvalidInput, journal_of
from echo_ingest.broker.taken_topics import TakenTopicsUnusable, take_in, taken_topics_path
from echo_ingest.settings import Settings


def suggested_filter(topic: str) -> str:
    """Return what to take in for a topic: all below its first level."""
    return f"{topic.partition('/')[0]}/#"


def take(settings: Settings, topic_filter: str) -> str:
    """Take a topic in, and return the filter that holds; the service then reads what is kept."""
    try:
        return take_in(taken_topics_path(settings), topic_filter)
    except TakenTopicsUnusable as error:
        raise ActionError(str(error)) from None
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def discard(settings: Settings, topics: list[str]) -> int:
    """Remove topics that nothing has claimed; return how many messages were kept of them."""
    with closing(journal_of(settings)) as journal:
        return journal.forget_unclaimed(topics)
