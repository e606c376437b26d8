"""What a site knows and its devices do not say: its zone, its first day, its words for noise."""

import difflib
import unicodedata
import zoneinfo
from collections.abc import Mapping
from datetime import date
from typing import get_args

from echo_ingest.record import ObservationType

ZONE_REMEDY = "type the IANA name of a zone, such as Australia/Melbourne"
DAY_REMEDY = "type a date between 1970-01-01 and 2105-12-31, such as 2015-01-01"
DAYS = date(1970, 1, 1), date(2105, 12, 31)
LABEL_CHARACTERS_MAX = 256
LABEL_TYPES = tuple(
    each for each in get_args(ObservationType) if each not in ("animal", "unclassified")
)
NOT_ANIMALS_REMEDY = (
    "type labels separated by commas, each alone or with what it names, such as"
    f" thunder, generator=vehicle ({', '.join(LABEL_TYPES)})"
)
NOT_ZONES = ("Factory", "localtime", "posixrules")
"""Files beside those of zones, where a system has them."""


def check_zone(name: str) -> str:
    """Return `name` if it is a zone; raise `ValueError` with the remedy in its text."""
    known = zoneinfo.available_timezones().difference(NOT_ZONES)
    if name in known:
        return name
    meant = name.strip().replace(" ", "_").casefold()
    by_name = {each.casefold(): each for each in known}
    if meant in by_name:
        raise ValueError(f"type {by_name[meant]}")
    # Abbreviations are left out: AEST is near to EST, on the other side of the Earth.
    places = {name: each for name, each in sorted(by_name.items()) if "/" in name}
    by_city = {name.rpartition("/")[2]: each for name, each in places.items()}
    for names in (places, by_city):
        if nearest := difflib.get_close_matches(meant, names, n=1, cutoff=0.8):
            raise ValueError(f"type {names[nearest[0]]}")
    raise ValueError(ZONE_REMEDY)


def check_first_day(given: object) -> date:
    """Read a date as text, or as TOML has it; raise `ValueError` with the remedy in its text."""
    try:
        day = date.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise ValueError(DAY_REMEDY) from None
    if type(day) is not date or not DAYS[0] <= day <= DAYS[1]:
        raise ValueError(DAY_REMEDY)
    return day


def parse_not_animals(text: str) -> Mapping[str, ObservationType]:
    """Read labels, in lower case, and what each names; one that stands alone names nothing."""
    types: dict[str, ObservationType] = {each: each for each in LABEL_TYPES}
    labels: dict[str, ObservationType] = {}
    for part in text.split(","):
        label, sign, named = part.partition("=")
        label = " ".join(unicodedata.normalize("NFC", label).split()).lower()
        named = named.strip().lower() if sign else "blank"
        if not label and not sign:
            continue  # a comma at the end
        if not label or not label.isprintable() or len(label) > LABEL_CHARACTERS_MAX:
            raise ValueError(NOT_ANIMALS_REMEDY)
        if named not in types:
            raise ValueError(NOT_ANIMALS_REMEDY)
        labels[label] = types[named]
    return labels


def check_not_animals(text: str) -> str:
    """Return `text` if it lists labels; raise `ValueError` with the remedy in its text."""
    parse_not_animals(text)
    return text
