"""A message in a shipped form with its truth: of a seed and a number always the same."""

from random import Random

from msgspec import structs

from echo_ingest.record import Message
from tests.fuzz import true_detectors, true_networks, true_times
from tests.fuzz.form_truths import STATION, FormCase
from tests.fuzz.truths import Draft, milliseconds

MAKERS = {**true_detectors.MAKERS, **true_networks.MAKERS}


def form_case_of(seed: int, number: int) -> FormCase:
    """Return a message and what is true of it."""
    rng = Random(f"form meaning/{seed}/{number}")
    site, received_at = true_times.site(rng)
    # What the nodes file says about a confidence does not count here, and each node has a name.
    site = structs.replace(site, confidence_is_fraction=False, clock_ahead_seconds=0)
    draft = Draft(rng, site, received_at, None)
    letter = draft.pick(MAKERS)(draft)
    draft.label(letter.form)
    node = rng.choice((None, STATION))
    message = Message(letter.topic, letter.payload, milliseconds(received_at), node=node)
    truths, labels = tuple(letter.truths), tuple(draft.labels)
    return FormCase(message, site, letter.form, truths, letter.refusal, labels)
