"""Print what the image is made of: a software bill of materials in CycloneDX 1.6, as JSON.

It is run while the image is built, with the Python that the image gets, and lists the packages of
the system, the Python libraries, and the libraries of the console's scripts. Package URLs
(`pkg:apk/alpine/…`) are what scanners look vulnerabilities up by.

    sbom.py PACKAGES PACKAGE_LOCK     files: what `apk info -v` printed, and npm's package-lock.json
"""

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from urllib.parse import quote

PACKAGE = re.compile(r"(\S+)-([^-\s]+-r\d+)|(\S+)\t(\S+)")
"""`musl-1.2.5-r21`; a substitute for Alpine writes a tab."""

Component = dict[str, str]


def main() -> None:
    """Print the document; the order is that of the names, so that two builds can be compared."""
    packages, package_lock = map(Path, sys.argv[1:])
    components = [
        *system_packages(packages.read_text()),
        *python_libraries(),
        *npm_libraries(package_lock.read_text()),
    ]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "iot-ingestion-mqtt"}},
        "components": [each for _, each in sorted({c["purl"]: c for c in components}.items())],
    }
    print(json.dumps(document, indent=1))


def system_packages(text: str) -> Iterator[Component]:
    """Yield the packages of the system."""
    for line in text.splitlines():
        match = PACKAGE.fullmatch(line)
        if match is None:
            raise SystemExit(f"sbom: this line of `apk info -v` cannot be read: {line!r}")
        yield component("apk/alpine", match[1] or match[3], match[2] or match[4])


def python_libraries() -> Iterator[Component]:
    """Yield the libraries of the Python that runs this, ourselves included."""
    for each in distributions():
        yield component("pypi", re.sub(r"[-_.]+", "-", each.name).lower(), each.version)


def npm_libraries(text: str) -> Iterator[Component]:
    """Yield the libraries that are built into the console's scripts."""
    for path, about in json.loads(text)["packages"].items():
        if path and not about.get("dev") and not about.get("optional"):
            yield component("npm", path.rpartition("node_modules/")[2], about["version"])


def component(kind: str, name: str, version: str) -> Component:
    """Return an entry of the list."""
    purl = f"pkg:{kind}/{quote(name, safe='/')}@{quote(version, safe='')}"
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


if __name__ == "__main__":
    main()
