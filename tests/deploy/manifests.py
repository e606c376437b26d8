"""What is wrong with Kubernetes manifests: by their schemas, and by what they say of each other."""

import functools
import json
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.tools import tool

Manifest = dict[str, Any]

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted({path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml")} - {"site"})
VERSIONS = ("1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0")
OTHERS = yaml.safe_load(Path(__file__).with_name("gke_schemas.yaml").read_text())


@functools.cache
def build(overlay: str) -> tuple[Manifest, ...]:
    """Return all that `kubectl apply -k` would apply."""
    built = subprocess.run(
        [tool("kubectl"), "kustomize", KUBERNETES / overlay],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return tuple(yaml.safe_load_all(built.stdout))


# ---------------------------------------------------------------------- schemas


def malformed(manifest: Manifest, version: str = VERSIONS[-1]) -> Iterator[str]:
    """Return what is wrong with a manifest by the schema of its kind; having none is wrong too."""
    kind, api_version = manifest.get("kind", ""), manifest.get("apiVersion", "")
    if kind in OTHERS:
        validator = _other_validator(kind)
    else:
        group = api_version.partition("/")[0].partition(".")[0] + "-" if "/" in api_version else ""
        name = f"{kind.lower()}-{group}{api_version.rpartition('/')[2]}.json"
        by_version = _validator(version, name)
        if by_version is None:
            yield f"there is no schema for kind {kind!r} of {api_version!r}"
            return
        validator = by_version
    for error in validator.iter_errors(manifest):
        yield f"{kind}: {'.'.join(map(str, error.absolute_path))}: {error.message}"


@functools.cache
def _schema(version: str, name: str) -> Any:
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema"
    return json.loads((folder / f"v{version}-local-strict" / name).read_text())


@functools.cache
def _registry(version: str) -> Registry[Any]:
    definitions = Resource.from_contents(_schema(version, "_definitions.json"))
    registry: Registry[Any] = Registry().with_resource("_definitions.json", definitions)
    return registry.crawl()


@functools.cache
def _validator(version: str, name: str) -> Draft202012Validator | None:
    try:
        return Draft202012Validator(_schema(version, name), registry=_registry(version))
    except FileNotFoundError:
        return None


@functools.cache
def _other_validator(kind: str) -> Draft202012Validator:
    described = OTHERS[kind]
    spec = {"spec": described["spec"]} if "spec" in described else {}
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", *spec, *described.get("top", ())],
        "properties": {
            "apiVersion": {"const": described["apiVersion"]},
            "kind": {"const": kind},
            "metadata": _schema(VERSIONS[-1], "objectmeta-meta-v1.json"),
            **{
                name: {k: v for k, v in each.items() if k != "$defs"} for name, each in spec.items()
            },
            **described.get("top", {}),
        },
        "$defs": described.get("spec", {}).get("$defs", {}),
    }
    return Draft202012Validator(schema, registry=_registry(VERSIONS[-1]))
