"""Colours and words of the figures: an architecture has one colour in the whole suite.

Hues are those of Okabe and Ito (2008) as seaborn's palette "colorblind" has them, which colour-blind readers can tell
apart. Canon layers make a colour darker and a missing convolution makes it lighter, so that variants of one
architecture read as one family even in grey.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

PAPER_COLOR = "#444444"
BASELINE_COLOR = "#999999"

Color = tuple[float, float, float]

BLUE, ORANGE, GREEN, VERMILION, PINK = "#0173B2", "#DE8F05", "#029E73", "#D55E00", "#CC78BC"
TAN, SKY, OLIVE, PURPLE, GREY = "#CA9161", "#56B4E9", "#A89A00", "#6F4A9E", "#808080"

ARCHITECTURE_COLORS = {
    # positions
    "rotary": BLUE, "learned": PINK, "relative": GREEN, "position_only": ORANGE, "uniform": TAN,
    "NoPE": VERMILION, "quarter rotary": PURPLE, "ALiBi": SKY, "H-ALiBi": OLIVE,
    # what reads the sentence
    "GPT": BLUE, "encoder": ORANGE, "relative encoder": GREEN, "untrained": GREY,
    # feed-forward layers
    "GPT-2": BLUE, "quarter MLP": SKY, "no MLP": ORANGE, "silu": GREEN, "gated MLP": PURPLE, "LLaMA": PINK,
    "dense": BLUE, "mixture": ORANGE,
    # linear models
    "GLA": GREEN, "Mamba2": ORANGE, "GDN": PINK,
    # Canon layers in some places of a block, and what is changed in them
    "none": GREY, "A": SKY, "B": ORANGE, "C": GREEN, "D": PINK, "AC": OLIVE, "BD": TAN, "ABC": PURPLE,
    "ABCD, kernel 2": SKY, "ABCD, kernel 3": BLUE, "ABCD, frozen taps": ORANGE, "ABCD, activation": GREEN,
    "ABCD, no residual": PINK,
    # layers and norms
    "1 layer": SKY, "2 layers": ORANGE, "plain": GREY, "QK-norm": BLUE,
}  # fmt: skip
SAME_ARCHITECTURE = {"ABCD": "rotary + Canon", "NoPE, ABCD": "NoPE + Canon", "NoPE, ABCD, no residual": "NoPE"}
DARKER, LIGHTER = " + Canon", " without convolution"  # endings of names
ARCHITECTURE_COLUMNS = ("architecture", "mixer")
FALLBACK_HUES = (BLUE, ORANGE, GREEN, VERMILION, PINK, TAN, SKY, OLIVE, PURPLE)


def color_of(name: Any) -> Color:
    """The colour (red, green, blue, each in [0, 1]) of an architecture, the same in every figure.

    A name that the table lacks gets a hue by its hash: always the same one, perhaps that of another architecture.
    """
    text = SAME_ARCHITECTURE.get(str(name), str(name))
    base = text.removesuffix(DARKER).removesuffix(LIGHTER)
    color = _to_rgb(ARCHITECTURE_COLORS.get(base) or _hue_by_hash(base))
    if text.endswith(DARKER):
        return _mix(color, (0.0, 0.0, 0.0), 0.42)
    return _mix(color, (1.0, 1.0, 1.0), 0.5) if text.endswith(LIGHTER) else color


def is_architecture(name: Any) -> bool:
    """Whether the suite has a fixed colour for this name."""
    text = SAME_ARCHITECTURE.get(str(name), str(name))
    return text.removesuffix(DARKER).removesuffix(LIGHTER) in ARCHITECTURE_COLORS


def colors(n: int) -> list[Color]:
    """n colours that colour-blind readers can tell apart (ten differ, then they repeat)."""
    import seaborn

    return list(seaborn.color_palette("colorblind", n))


def colors_of(column: str | None, names: Iterable[Any]) -> dict[Any, Any]:
    """The colour of each value of a column: the fixed ones if the values are architectures, else as `colors` has
    them."""
    names = list(names)
    fixed = column in ARCHITECTURE_COLUMNS or (len(names) > 1 and all(map(is_architecture, names)))
    return {name: color_of(name) for name in names} if fixed else dict(zip(names, colors(len(names)), strict=True))


def label_of(name: Any, labels: Mapping[Any, str] | None = None) -> str:
    """The words for a condition in a figure: labels[name] if the experiment has some, else the name with spaces for
    underscores."""
    return (labels or {}).get(name, str(name).replace("_", " "))


def _hue_by_hash(name: str) -> str:
    return FALLBACK_HUES[zlib.crc32(name.encode()) % len(FALLBACK_HUES)]


def _to_rgb(code: str) -> Color:
    red, green, blue = (int(code[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return red, green, blue


def _mix(color: Color, other: Color, share: float) -> Color:
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(color, other, strict=True))
    return red, green, blue
