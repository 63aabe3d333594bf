"""A plan in words: what there is to store, what it takes, and how far the law behind it can be trusted."""

from collections.abc import Sequence

from probing.capacity.planner import Holding, Need

ORIGINS = {
    "paper": "the paper's law, not our own fit",
    "guess": "a guess, neither the paper's nor our own fit",
    "fit": "fitted to our own runs",
}


def plan_text(holding: Holding, needs: Sequence[Need]) -> str:
    """What `python -m probing plan` prints."""
    each = holding.bits / holding.subjects
    parts = {"names": holding.name_bits, "values": holding.value_bits, "lists of values": holding.list_bits}
    shown = ", ".join(f"{name} {short(bits)}" for name, bits in parts.items() if bits > 0) or "nothing"
    lines = [f"{holding.subjects:,} subjects hold {short(holding.bits)} bits, {each:.1f} each: {shown}", ""]
    head = [
        "exposures",
        "bits/parameter",
        "parameters",
        "for example",
        "R_max",
        "tokens",
        "FLOPs",
        "time, one core here",
    ]
    rows = [head, *(_cells(need) for need in needs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += ["", *(f"{n.law.exposures} exposures: {ORIGINS[n.law.origin]} ({n.law.source})" for n in needs)]
    return "\n".join([*lines, *_notes(holding, needs)])


def _cells(need: Need) -> list[str]:
    law, shape = need.law, need.shape
    return [
        f"{law.exposures:,}",
        f"{law.bits_per_parameter:g} ({law.low:g} to {law.high:g})",
        f"{short(need.parameters)} ({short(need.parameters_low)} to {short(need.parameters_high)})",
        f"{shape.layers} layers of {shape.width}: {short(shape.parameters)}",
        f"{need.holding.bits / shape.parameters:.2g}",
        short(need.tokens),
        f"{need.flops:.1e}",
        duration(need.seconds),
    ]


def _notes(holding: Holding, needs: Sequence[Need]) -> list[str]:
    """Where the law's conditions do not hold."""
    table = [need for need in needs if holding.vocabulary * need.shape.width > need.shape.parameters / 2]
    if not table:
        return []
    return [
        f"The table of {holding.vocabulary:,} tokens is over half of the model at "
        f"{' and '.join(str(need.law.exposures) for need in table)} exposures, and tables store few facts: "
        "use a smaller vocabulary, or expect less than the law."
    ]


def short(number: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """A length of time in the largest unit that fits."""
    for unit, size in (("years", 365 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
