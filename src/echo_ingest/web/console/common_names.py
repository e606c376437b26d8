"""The common names of animals, beside the scientific ones that devices send.

`names.csv` has those of the forests for which this was written, in the south-east of Australia. An
animal that is not in it is shown by its scientific name alone, unless its device sends both.
"""

import csv
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("names.csv")


def known_as(species: str, device_name: str | None = None) -> str | None:
    """Return the common name of `species`: the `device_name`, else the one known here."""
    return device_name or _known().get(species.casefold())


@cache
def _known() -> dict[str, str]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return {species.casefold(): name for species, name in csv.reader(file)}
