"""Compiled code that lies cut on the disk, or can lie nowhere, ends no command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOW = [sys.executable, "-B", "-m", "synth", "show", "brackets", "--num-samples", "5", "--json"]


def show(root: Path, **variables: str) -> str:
    done = subprocess.run(
        SHOW, cwd=root, env={**os.environ, "PYTHONPATH": str(root), **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


def test_a_cut_cache_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "suite"
    shutil.copytree(ROOT / "synth", root / "synth", ignore=shutil.ignore_patterns("__pycache__"))
    whole, kept = show(root), {path: path.stat().st_mtime_ns for path in root.rglob("*.nb?")}
    assert kept and show(root) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "the second start takes what the first compiled"
    for number, path in enumerate(sorted(root.rglob("*.nbi"))):
        os.truncate(path, 20 * (number % 2))
    for number, path in enumerate(sorted(root.rglob("*.nbc"))):
        os.truncate(path, 50 * (number % 2))
    assert show(root) == whole
    assert all(path.stat().st_size > 50 for path in root.rglob("*.nbi")), "what was cut is whole again"


def test_where_no_folder_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    """A file stands where the cache's folder would be, as for root every folder can be written."""
    (tmp_path / "home").write_text("")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from synth.compiled_code import njit\n"
        "print(njit()(lambda x: x + 1)(1))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True)
    assert done.stdout == "2\n", done.stderr[-500:]
