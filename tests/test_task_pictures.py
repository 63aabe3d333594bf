"""The pictures of docs/tasks are drawn from samples without a fault, and stand beside their pages."""

import importlib.util
from pathlib import Path

import pytest

from synth import UserError

FOLDER = Path(__file__).parent.parent / "docs/tasks"
spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
assert spec and spec.loader
drawing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drawing)


@pytest.mark.parametrize("name", drawing.PICTURES)
def test_drawn(name: str) -> None:
    figure = drawing.PICTURES[name]()
    figure.canvas.draw()
    drawing.plt.close(figure)
    assert f"({name}.png)" in (FOLDER / f"{name}.md").read_text() and (FOLDER / f"{name}.png").exists()


def test_no_such_picture() -> None:
    with pytest.raises(UserError, match="depo, mano, copy"):
        drawing.main(["nothing"])
