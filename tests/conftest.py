"""Shared set-up: one torch thread a process, and --task to run the contract test on a task of your own."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from faulty import Server, Sweep


@pytest.fixture
def reverse(tmp_path: Path) -> str:
    """The task that docs/add_a_task.md prints, in a file outside the repository; its documents begin with a prompt."""
    page = Path(__file__).resolve().parents[1] / "docs/add_a_task.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(), re.S)
    assert code
    (tmp_path / "reverse.py").write_text(code.group(1))
    return f"{tmp_path}/reverse.py:Reverse"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What starts commands that tests may kill."""
    server = Server(tmp_path_factory.mktemp("output"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def ended(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep that nobody disturbed."""
    sweep = Sweep(server, tmp_path_factory.mktemp("ended"))
    command = sweep.start()
    assert command.wait() == 0, command.text
    return sweep


@pytest.fixture(scope="session")
def whole(ended: Sweep) -> str:
    """Its table."""
    return ended.table()


@pytest.fixture
def sweep(server: Server, tmp_path: Path) -> Sweep:
    """A sweep that has not begun, in a folder of an unfriendly name."""
    return Sweep(server, tmp_path / "ein Ordner, ungewöhnlich 場所")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--task", action="append", default=[], help="path/to/file.py:Class to run the task contract on")


def pytest_configure(config: pytest.Config) -> None:
    if given := config.getoption("--task"):
        from synth.errors import UserError
        from synth.registry import get_task

        try:
            for name in given:
                get_task(name)
        except UserError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "any_task" in metafunc.fixturenames:
        from synth.registry import get_task, task_names

        given = metafunc.config.getoption("--task")
        names = given or list(task_names())
        metafunc.parametrize("any_task", [get_task(name) for name in names], ids=names)
