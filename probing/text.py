"""Numbers, durations and tables as text."""

from collections.abc import Sequence


def format_number(number: float) -> str:
    """The number with three significant digits and an SI prefix: 1.23M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def format_duration(seconds: float) -> str:
    """The duration in the largest unit of which it has at least one: 1.5 min."""
    for unit, size in (("years", 365 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def align_rows(rows: Sequence[Sequence[str]], left: int = 0) -> list[str]:
    """A line for each row of cells: the first `left` columns aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pads = [str.ljust if number < left else str.rjust for number in range(len(widths))]
    return ["  ".join(pad(cell, w) for pad, cell, w in zip(pads, row, widths, strict=True)) for row in rows]
