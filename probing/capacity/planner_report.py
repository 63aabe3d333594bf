"""The plan of a model as text: the facts to store, the models that store them, and the sources of the scaling law."""

from collections.abc import Sequence

from probing.capacity.planner import FactSet, ModelRequirement
from probing.text import align_rows, format_duration, format_number

ORIGINS = {
    "paper": "the paper's law, not our own fit",
    "guess": "a guess, neither the paper's nor our own fit",
    "fit": "fitted to our own runs",
    "interpolated": "interpolated in the logarithm of exposures",
}

MOST_BEYOND = 10.0  # times the measured sizes


def format_plan(facts: FactSet, requirements: Sequence[ModelRequirement]) -> str:
    """The text that `python -m probing plan` prints."""
    each = facts.bits / facts.subjects
    parts = {"names": facts.name_bits, "values": facts.value_bits, "lists of values": facts.list_bits}
    shown = ", ".join(f"{name} {format_number(bits)}" for name, bits in parts.items() if bits > 0) or "nothing"
    lines = [f"{facts.subjects:,} subjects hold {format_number(facts.bits)} bits, {each:.1f} each: {shown}", ""]
    head = ["exposures", "bits/parameter", "parameters", "for example", "R_max", "tokens", "FLOPs"]
    head += ["time, one core here"]
    rows = [head, *(_format_cells(need) for need in requirements)]
    points = [need.point for need in requirements]
    sources = [f"{p.exposures} exposures: {ORIGINS[p.origin]} ({p.source})" for p in points]
    return "\n".join(
        [*lines, *align_rows(rows), "", *sources, *_notes(facts, requirements), "", *_commands(requirements)]
    )


def _commands(requirements: Sequence[ModelRequirement]) -> list[str]:
    """The command that trains each model, or why there is none."""
    commands = [need.command for need in requirements]
    if None in commands:
        return ["No task tells these facts: `lm train` takes bioS's own lists, or a CSV table without empty cells."]
    return ["To train it (the rate is a start; try a few beside it):", *(f"    {command}" for command in commands)]


def _format_cells(need: ModelRequirement) -> list[str]:
    point, shape = need.point, need.shape
    low, high = format_number(need.parameters_low), format_number(need.parameters_high)
    return [
        f"{point.exposures:,}",
        f"{point.bits_per_parameter:g} ({point.low:g} to {point.high:g})",
        f"{format_number(need.parameters)} ({low} to {high})",
        f"{shape.layers} layers of {shape.width}: {format_number(shape.parameters)}",
        f"{need.facts.bits / shape.parameters:.2g}",
        format_number(need.tokens),
        f"{need.flops:.1e}",
        format_duration(need.seconds),
    ]


def _notes(facts: FactSet, requirements: Sequence[ModelRequirement]) -> list[str]:
    """Warnings where the conditions of the scaling law do not hold."""
    return [*_extrapolated(requirements), *_large_tables(facts, requirements)]


def _extrapolated(requirements: Sequence[ModelRequirement]) -> list[str]:
    """A line where models are over ten times beyond the sizes that the law was measured on."""
    far = [need for need in requirements if need.extrapolation > MOST_BEYOND]
    if not far:
        return []
    sizes = [f"{format_number(need.point.smallest)} to {format_number(need.point.largest)}" for need in far]
    most = max(need.extrapolation for need in far)
    return [
        f"An extrapolation: the law was measured on models of {sizes[0]} parameters, and these are up to "
        f"{most:,.0f} times beyond."
    ]


def _large_tables(facts: FactSet, requirements: Sequence[ModelRequirement]) -> list[str]:
    """A line where the table of tokens is over half of a model."""
    half = [need for need in requirements if facts.vocab_size * need.shape.width > need.shape.parameters / 2]
    if not half:
        return []
    return [
        f"The table of {facts.vocab_size:,} tokens is over half of the model at "
        f"{' and '.join(str(need.point.exposures) for need in half)} exposures, and tables store few facts: "
        "use a smaller vocabulary, or expect less than the law."
    ]
