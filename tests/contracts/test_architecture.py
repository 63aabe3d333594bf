"""The rooms and the one direction of travel: synth <- lm <- probing <- experiments."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("synth", "lm", "probing", "experiments")
OTHERS = {"tests", "benchmarks", "docs", "results", "runs", "build"}


def imports(path: Path) -> set[str]:
    """Top-level names of all that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    forbidden = set(ROOMS[ROOMS.index(room) + 1 :]) | {"benchmarks", "tests"}
    if room == "synth":
        forbidden |= {"torch", "transformers", "accelerate"}
    for path in (ROOT / room).rglob("*.py"):
        assert not imports(path) & forbidden, f"{path} imports {imports(path) & forbidden}"


def test_experiments_never_import_each_other() -> None:
    for path in (ROOT / "experiments").glob("[0-9]*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("experiments"):
                assert node.module.startswith("experiments.harness"), f"{path} imports {node.module}"


def test_no_other_top_level_package() -> None:
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert packages <= {*ROOMS, *OTHERS}


def test_nothing_is_unpickled() -> None:
    """Pickles from disk run code; results are json, csv, parquet or safetensors."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            assert not re.search(r"(?<![\w.])(torch|pickle|joblib)\.loads?\(", text), path


@pytest.mark.parametrize("room", ["synth", "lm", "probing", "experiments"])
def test_rooms_import_on_their_own(room: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {room}"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
