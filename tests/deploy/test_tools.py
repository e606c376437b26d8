"""A program that only the tests need may be missing on a laptop, and not in CI."""

from pathlib import Path

import pytest

from tests import tools


def test_a_missing_tool_skips_on_a_laptop_and_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "BIN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="scripts/setup dev"):
        tools.tool("promtool")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="scripts/setup dev"):
        tools.tool("promtool")
    (tmp_path / "promtool").touch(mode=0o755)
    assert tools.tool("promtool") == tmp_path / "promtool"
