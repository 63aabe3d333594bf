"""Shared set-up: one torch thread a process, and --task to run the contract test on a task of your own."""

import os
import re
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture
def reverse(tmp_path: Path) -> str:
    """The task that docs/add_a_task.md prints, in a file outside the repository; its documents begin with a prompt."""
    page = Path(__file__).parent.parent / "docs/add_a_task.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(), re.S)
    assert code
    (tmp_path / "reverse.py").write_text(code.group(1))
    return f"{tmp_path}/reverse.py:Reverse"


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
