"""The dashboard asks for what there is, and its panels lie side by side."""

import itertools
import json
from typing import Any

import pytest
import yaml

from tests.deploy.test_prometheus import RULES, unknown
from tests.test_docs import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/echo-ingest.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: str(panel["title"]))
def test_each_panel_asks_for_figures_that_exist(panel: dict[str, Any]) -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    recorded = {rule.get("record") for group in groups for rule in group["rules"]}
    assert panel["targets"]
    for target in panel["targets"]:
        assert "echo_ingest" in target["expr"] or "process_" in target["expr"]
        assert unknown(target["expr"]) <= recorded, target["expr"]
        assert '{job="$job"' in target["expr"]
        assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
    assert panel["fieldConfig"]["defaults"]["unit"]


def test_a_figure_that_does_not_exist_is_found() -> None:
    assert unknown('rate(echo_ingest_recieved_bytes_total{job="x"}[5m])')


def test_panels_have_ids_of_their_own_and_do_not_cover_each_other() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    for one, other in itertools.combinations((panel["gridPos"] for panel in PANELS), 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
