"""How a file is replaced: completely or not at all, and on disk when the call returns."""

import os
import resource
import stat
from pathlib import Path

import pytest

from echo_ingest.process.files import atomic_write

OLD, NEW = b"the old content", b"the new content" * 1_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "nodes.jsonl").write_bytes(OLD)
    return tmp_path / "nodes.jsonl"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_new_content_replaces_the_old_and_leaves_no_neighbour(path: Path) -> None:
    atomic_write(path, NEW)
    assert contents(path.parent) == {path.name: NEW}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_and_folder_are_flushed_in_the_order_that_survives_a_power_cut(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[Path, bytes]] = []
    flush = os.fsync

    def record(descriptor: int) -> None:
        flush(descriptor)
        flushed.append((Path(f"/proc/self/fd/{descriptor}").resolve(), path.read_bytes()))

    monkeypatch.setattr(os, "fsync", record)
    atomic_write(path, NEW)
    assert flushed == [(path.with_name(f"{path.name}.new"), OLD), (path.parent, NEW)]


def test_a_failed_write_leaves_the_old_file_and_no_neighbour(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(NEW) // 2, hard))  # as on a full disk
    try:
        with pytest.raises(OSError, match="too large"):
            atomic_write(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(path.parent) == {path.name: OLD}


def test_a_failed_rename_leaves_no_neighbour(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        atomic_write(tmp_path / "folder", NEW)
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_a_missing_folder_is_reported_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "missing" / "file", NEW)
    assert list(tmp_path.iterdir()) == []


def test_the_neighbour_of_a_killed_writer_is_no_obstacle(path: Path) -> None:
    path.with_name(f"{path.name}.new").write_bytes(b"half of i")
    atomic_write(path, NEW)
    assert contents(path.parent) == {path.name: NEW}


def test_a_symbolic_link_is_replaced_and_its_target_is_not(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path.name)
    atomic_write(link, NEW)
    assert not link.is_symlink()
    assert contents(path.parent) == {path.name: OLD, link.name: NEW}


def test_the_umask_applies_to_the_mode(path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(path, NEW, mode=0o666)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_process_that_writes_for_a_year_does_not_run_out_of_open_files(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        atomic_write(path, NEW)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_written_by_root_the_file_belongs_to_the_given_owner(path: Path) -> None:
    os.chown(path, 4242, 4243)
    atomic_write(path, NEW, owner=path.stat())
    assert (path.stat().st_uid, path.stat().st_gid) == (4242, 4243)
