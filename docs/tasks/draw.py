"""Draw the pictures of docs/tasks from real samples: python docs/tasks/draw.py NAME ..., or all without a name.

pictures/NAME.py draws NAME.png, and has the name of the file in synth/tasks whose task it shows.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import pictures
from matplotlib.figure import Figure

from experiments.harness.reporting.figures import style
from synth import UserError

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(pictures.__path__)))


def draw_picture(name: str) -> Figure:
    """The picture of this name, in the suite's style. Raises UserError on a name that none has."""
    if name not in NAMES:
        raise UserError(f"no picture of {name!r}; there are {', '.join(NAMES)}")
    with style():
        return importlib.import_module(f"pictures.{name}").draw()


def main(names: list[str]) -> None:
    """Write the pictures of these names beside this file, of all of them without any."""
    for name in names or NAMES:
        figure = draw_picture(name)
        path = Path(__file__).with_name(f"{name}.png")
        figure.savefig(path, dpi=150, metadata={"Software": None})
        print(path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
