"""What decoding goes by besides the bytes of a message: the site's settings."""

from zoneinfo import ZoneInfo

from echo_ingest.decode import Decoder, Rules
from echo_ingest.decode.rules import NOT_ANIMALS
from echo_ingest.settings import Settings
from echo_ingest.settings.site import parse_not_animals


def decoder_of(settings: Settings) -> Decoder:
    """Return a decoder that goes by the site's settings."""
    return Decoder(
        settings.payload_bytes_max,
        Rules(
            zone=None if settings.zone is None else ZoneInfo(settings.zone),
            first_day=settings.first_day,
            not_animals={**NOT_ANIMALS, **parse_not_animals(settings.not_animals)},
        ),
    )
