"""The rooms and the one direction of travel: synth <- lm <- probing <- experiments."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
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


def graph() -> dict[str, set[str]]:
    """For each module those of the suite that it imports, at its top or inside a function, but not for types alone."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        tree = ast.parse(path.read_text())
        typing = {id(node) for block in ast.walk(tree) if isinstance(block, ast.If) for node in ast.walk(block)
                  if ast.unparse(block.test) == "TYPE_CHECKING"}  # fmt: skip
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and id(node) not in typing:
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name if name in modules else node.module for name in inside}
        found[module] = (names & modules.keys()) - {module}
    return found


def test_imports_go_in_no_circle() -> None:
    """Imports inside functions count: they only hide a circle."""
    sorter = TopologicalSorter(graph())
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("room", ROOMS)
def test_folders_are_read_at_one_glance(room: str) -> None:
    """Tasks stand one in a file, and experiments too: the folders of which a user has many files."""
    for folder in {path.parent for path in (ROOT / room).rglob("*.py")} - {ROOT / "synth/tasks", ROOT / "experiments"}:
        files = [path.name for path in folder.glob("*.py") if not path.name.startswith("__")]
        assert len(files) <= 12, f"{folder} has {len(files)} files; divide it by subject"


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
