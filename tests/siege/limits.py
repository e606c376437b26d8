"""The memory limits that we ship, read from the files in which operators find them."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
STATEFULSET = ROOT / "deploy" / "kubernetes" / "base" / "statefulset.yaml"
COMPOSE = ROOT / "compose.yaml"
UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "ki": 10, "mi": 20, "gi": 30}


def of_pod() -> int:
    """Return the limit of the pod that runs everything, in bytes."""
    pod = yaml.safe_load(STATEFULSET.read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return in_bytes(container["resources"]["limits"]["memory"])


def of_service(name: str) -> int:
    """Return the limit of a service of Compose, in bytes."""
    return in_bytes(yaml.safe_load(COMPOSE.read_text())["services"][name]["mem_limit"])


def in_bytes(quantity: str) -> int:
    """Read a quantity of memory as both write it: `512m`, `1Gi`."""
    match = re.fullmatch(r"(\d+)([kmg]?i?)b?", quantity.lower())
    assert match is not None, quantity
    return int(match[1]) << UNITS[match[2]]
