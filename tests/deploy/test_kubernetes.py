"""Every overlay builds, is what Kubernetes takes, and agrees with itself and with us.

Then a slip of the pen is planted at every key and every value of every manifest, and must be found.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.agreement import Cluster, disagreements
from tests.deploy.manifests import OVERLAYS, VERSIONS, Manifest, build, malformed
from tests.test_docs import ROOT

GUIDE = (ROOT / "docs" / "deploy.md").read_text()
SECRET_KEYS = set(re.findall(r"--from-file=([\w-]+)=", GUIDE))
RICHEST = ("gke-ingress", "split")  # between them, each manifest there is


def problems(manifests: tuple[Manifest, ...], tmp_path: Path) -> list[str]:
    """Return what the schemas report or, if they report nothing, how the manifests disagree."""
    malformations = [problem for manifest in manifests for problem in malformed(manifest)]
    return malformations or list(disagreements(Cluster(manifests, SECRET_KEYS), tmp_path))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_builds_and_fits(overlay: str, tmp_path: Path) -> None:
    manifests = build(overlay)
    for version in VERSIONS:
        assert [p for manifest in manifests for p in malformed(manifest, version)] == []
    assert problems(manifests, tmp_path) == []


def test_an_unknown_kind_or_version_is_found(tmp_path: Path) -> None:
    for key, value in (
        ("kind", "StatefulSett"),
        ("apiVersion", "apps/v2"),
        ("kind", "Certificate"),
    ):
        manifests = copy.deepcopy(build("base"))
        manifests[-1][key] = value
        assert "there is no schema" in problems(manifests, tmp_path)[0]


def test_the_guide_makes_the_keys_that_are_used_and_no_others() -> None:
    texts = [str(manifest) for overlay in OVERLAYS for manifest in build(overlay)]
    used = set(re.findall(r"/run/secrets/echo-ingest/([\w-]+)", " ".join(texts)))
    used |= set(re.findall(r"'secretKeyRef': {'key': '([\w-]+)'", " ".join(texts)))
    assert used == SECRET_KEYS


def test_the_manifests_in_the_guide_are_well_formed() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    manifests = [manifest for block in blocks for manifest in yaml.safe_load_all(block)]
    assert {"VolumeSnapshot", "PersistentVolumeClaim"} <= {each["kind"] for each in manifests}
    for manifest in manifests:
        for version in VERSIONS:
            assert list(malformed(manifest, version)) == []


def test_the_alert_rules_can_be_given_to_managed_prometheus() -> None:
    """The guide wraps them in a few lines of shell: they are what the kind takes."""
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    head = re.search(r"^printf '(apiVersion:.*spec:)\\n'$", GUIDE, re.MULTILINE)
    assert head is not None
    wrapped = yaml.safe_load(head[1].replace("\\n", "\n"))
    assert list(malformed({**wrapped, "spec": rules})) == []


@pytest.mark.slow
@pytest.mark.parametrize("overlay", RICHEST)
def test_a_slip_of_the_pen_is_found_wherever_it_is(overlay: str, tmp_path: Path) -> None:
    manifests = build(overlay)
    planted, unnoticed = 0, []
    for index, manifest in enumerate(manifests):
        for place in places(manifest):
            changed = (*manifests[:index], plant(manifest, place), *manifests[index + 1 :])
            complaints = list(malformed(changed[index]))
            complaints = complaints or list(disagreements(Cluster(changed, SECRET_KEYS), tmp_path))
            planted += 1
            if not complaints and not is_free(manifest, place):
                unnoticed.append((manifest["kind"], manifest["metadata"]["name"], place))
    assert planted > 300
    assert unnoticed == []


def is_free(manifest: Manifest, place: tuple[Any, ...]) -> bool:
    """Tell whether a text may be any: a name that nothing refers to, or what a site chooses."""
    match manifest["kind"], *place:
        case _, "metadata", "name":
            return True
        case "Service", "spec", "ports", _, "name":
            return True
        case "StatefulSet", "spec", "template", "spec", "containers", _, "name":
            return True
        case "ConfigMap", "data", ("IOT_TOPIC" | "IOT_DATA_DIR"):
            return True
    return False


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each key and each text; a key's place ends with that key and None."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key, None)
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))
    elif isinstance(value, str):
        yield path


def plant(manifest: Manifest, place: tuple[Any, ...]) -> Manifest:
    """Return the manifest with an x after a key, or after a text."""
    changed = copy.deepcopy(manifest)
    at: Any = changed
    *above, last = place
    if last is None:
        *above, last = above
    for step in above:
        at = at[step]
    if place[-1] is None:
        at[f"{last}x"] = at.pop(last)
    else:
        at[last] += "x"
    return changed
