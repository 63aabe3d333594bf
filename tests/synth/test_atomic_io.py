"""The one atomic writer: old or new, never half, whatever fails and whenever."""

import errno
import os
from pathlib import Path

import pytest

from synth.atomic_io import atomic_replace, write_bytes


def test_a_file_comes_whole_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_bytes(path, b"old")
    with atomic_replace(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old" and temporary.parent == path.parent  # a rename never crosses disks
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(errno.ENOSPC, "full", "/elsewhere")])
def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with (
        pytest.raises(type(error) if isinstance(error, OSError) else error) as found,
        atomic_replace(path) as temporary,
    ):
        temporary.write_bytes(b"ne")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    assert not isinstance(error, OSError) or found.value.filename == str(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_errors_of_the_disk_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full", "/elsewhere", None, "/other")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="full") as error:
            write_bytes(tmp_path / "file", b"new")
    assert error.value.filename == str(tmp_path / "file") and error.value.filename2 is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError) as error:
        write_bytes(tmp_path / "file" / "below", b"new")
    assert error.value.filename == str(tmp_path / "file" / "below")
