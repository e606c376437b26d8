"""The names people use of animals, beside the scientific ones that devices send.

`names.csv` has those of the forests this was made for, the south-east of Australia. An animal that
is not in it is shown by its scientific name alone, unless its device says both.
"""

import csv
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("names.csv")


def known_as(species: str, said: str | None = None) -> str | None:
    """What people call the species: as the device has `said` it, else as it is known here."""
    return said or _known().get(species.casefold())


@cache
def _known() -> dict[str, str]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return {species.casefold(): name for species, name in csv.reader(file)}
