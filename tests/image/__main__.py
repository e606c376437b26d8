"""`make image`: builds the image and tests it, with a real engine.

The previous image, from which the tests move over, is of the last release's tag, or of the revision
in PREVIOUS. Before anything is released there is none: then it is of this tree with another label,
which shows that the data outlive the container, and nothing about an older journal.
"""

import os
import subprocess
import sys

import pytest

from tests.image.engine import (
    ROOT,
    EngineMissing,
    Origin,
    build_options,
    docker,
    find_engine,
)

TAG = "iot-ingestion-mqtt"
PREVIOUS_TAG = f"{TAG}:previous"
BUILD_SECONDS_MAX = 1_800


class Count:
    """How many tests passed."""

    passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a result; pytest calls this."""
        self.passed += report.when == "call" and report.passed


def main() -> int:
    """Build, test, and print the figures; return the exit code."""
    try:
        origin = find_engine()
    except EngineMissing as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    print(f"building on {origin}", flush=True)
    # An image on a stand-in is not to be shipped: it must not look like one that is.
    mark = []
    if origin.is_stand_in:
        mark += ["--label", f"image-lab.stand-in={origin.name}"]
    about = ["--build-arg", f"IMAGE_REVISION={git('rev-parse', 'HEAD')}"]
    try:
        build(TAG, *mark, *about)
        about += ["--build-arg", f"IMAGE_PACKAGES={packages()}"]
        build(TAG, *mark, *about)  # the same layers, with the label
        build_previous(*mark)
    except subprocess.SubprocessError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    os.environ |= {"TEST_IMAGE": TAG, "TEST_IMAGE_PREVIOUS": PREVIOUS_TAG}
    count = Count()
    code = pytest.main([str(ROOT / "tests" / "image"), "-v", *sys.argv[1:]], plugins=[count])
    print(summary("ok" if code == 0 else "failed", origin, count.passed))
    return int(code)


def build(tag: str, *options: str, context: bytes | None = None) -> None:
    """`docker build`, of this tree or of what an archive holds, with its progress shown."""
    source = "." if context is None else "-"
    subprocess.run(
        ["docker", "build", *build_options(), "--tag", tag, *options, source],
        cwd=ROOT,
        input=context,
        timeout=BUILD_SECONDS_MAX,
        check=True,
    )


def build_previous(*options: str) -> None:
    """Return the image that the one under test replaces."""
    revision = os.environ.get("PREVIOUS") or git("describe", "--tags", "--abbrev=0", "--match=v*")
    if revision:
        print(f"the previous image is of {revision}", flush=True)
        reader = subprocess.run(
            ["git", "archive", revision], cwd=ROOT, capture_output=True, check=True
        ).stdout
        build(PREVIOUS_TAG, *options, context=reader)
    else:
        print("nothing is released yet: the previous image is of this tree, too", flush=True)
        build(PREVIOUS_TAG, *options, "--build-arg", "IMAGE_VERSION=previous")


def packages() -> str:
    """Return the packages of the system in the image, as its label has them."""
    path = "/usr/share/echo-ingest/packages"
    text = docker("run", "--rm", "--network", "none", "--entrypoint", "cat", TAG, path).stdout
    return " ".join("-".join(line.split()) for line in text.splitlines())


def git(*words: str) -> str:
    """Return what git says; empty if it does not know."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def summary(outcome: str, origin: Origin, passed: int) -> str:
    """Return the last line."""
    size = int(docker("image", "inspect", "--format", "{{.Size}}", TAG).stdout)
    return f"image={outcome} base={origin} size_mb={size / 1e6:.0f} tests={passed}"


if __name__ == "__main__":
    sys.exit(main())
