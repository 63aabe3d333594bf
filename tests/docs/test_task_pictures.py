"""Every task has a line in the list of tasks, a page, and there a picture that is drawn without a fault."""

import re
from pathlib import Path

import draw
import pytest

from synth import Task, UserError
from synth.registry import installed_tasks

FOLDER = Path(__file__).resolve().parents[2] / "docs/tasks"
# tasks of other installed packages have their pages elsewhere
TASKS = {name: cls for name, cls in installed_tasks().items() if cls.__module__.startswith("synth.tasks.")}


def picture_of(cls: type[Task]) -> str:
    """A picture has the name of the file in which its task is written."""
    return cls.__module__.rpartition(".")[2]


def anchors(text: str) -> set[str]:
    """The names that links give to a page's headings: small letters and hyphens, no other punctuation."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TASKS)
def test_listed_with_a_page_and_a_picture(name: str) -> None:
    row = rf"^\| `{name}` \|.*\]\(([^)#]*)#?([^)]*)\) \|$"
    rows = re.findall(row, (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == 1
    ((page, place),) = rows
    text = (FOLDER / page).read_text()
    assert not place or place in anchors(text)
    assert name in text
    picture = f"{picture_of(TASKS[name])}.png"
    assert f"]({picture})" in text and (FOLDER / picture).read_bytes().startswith(b"\x89PNG")


def test_pictures_are_of_tasks() -> None:
    assert set(draw.NAMES) == {picture_of(cls) for cls in TASKS.values()}
    assert {path.stem for path in FOLDER.glob("*.png")} == set(draw.NAMES)


@pytest.mark.parametrize("name", draw.NAMES)
def test_drawn(name: str) -> None:
    draw.draw_picture(name).draw_without_rendering()


def test_no_such_picture() -> None:
    with pytest.raises(UserError, match="no picture of 'nothing'; there are .*brevo, cfg, "):
        draw.main(["nothing"])
