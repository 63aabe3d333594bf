"""Does capacity depend on the architecture? (claim 3.17)

Part 3.3 (arXiv 2404.05405), results 5 to 7, Figures 5 and 6: GPT-2 beside itself with a quarter of its MLP, without an
MLP, with silu for gelu, with a gated MLP, and beside LLaMA (gated MLP, RMS norm, no biases, output table of its own),
all of nearly the same size and each at the best of three learning rates. Drawn and judged is how many times less each
stores than GPT-2 with the same seeds. Left: 1000 exposures, where all should be alike. Right: 100 exposures, where the
paper finds a gated MLP to store 1.3 times less, none at all over 1.5 times less, and a quarter of it as much as the
whole.

Worlds and cost: smoke, seconds; laptop, bioD with one value of 12 symbols, models of 7.5K to 8.4K parameters at 1000
exposures and of 16K to 17K at 100, under ten minutes on two cores; overnight, twice the width, two hours on two cores;
gpu, 100 exposures of bioS(50K) with GPT2-2-2, about half an hour (not measured); paper, bioS(200K).
"""

from bisect import bisect_left
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_capacity
from experiments.harness.papers.numbers import paper_number
from experiments.harness.playground.comparison import at_best_lr
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.rows import mean_by_seed
from experiments.harness.run import Run, default_seeds, with_seeds
from experiments.harness.statistics.estimates import ratio_of
from lm.config import ModelConfig

NAME = Path(__file__).stem
LLAMA = {"norm": "rms", "mlp": "swiglu", "bias": False, "tie_embeddings": False}
# What differs from GPT-2; the width is then chosen to make the sizes alike.
ARCHITECTURES: dict[str, dict] = {
    "GPT-2": {},
    "quarter MLP": {"d_ff": "width"},
    "no MLP": {"mlp": "none"},
    "silu": {"mlp": "silu"},
    "gated MLP": {"mlp": "swiglu"},
    "LLaMA": LLAMA,
}
# Exposures, people, GPT-2's width, batch. Rates below.
TINY = {
    "smoke": [(10, 32, 16, 8)],
    "laptop": [(1000, 256, 16, 64), (100, 1024, 24, 16)],
    "overnight": [(1000, 1024, 32, 64), (100, 4096, 48, 32)],
}
# By exposures: the best of 5e-3, 1e-2 and 2e-2 (1000) or of 2.5e-3, 5e-3 and 1e-2 (100), by the bits that a seed which
# is not reported had learned (docs/journal.md has the grid). Twice the width, half the rate.
RATES = {
    1000: dict.fromkeys(ARCHITECTURES, 2e-2) | {"LLaMA": 1e-2},
    100: dict.fromkeys(ARCHITECTURES, 5e-3) | {"no MLP": 2.5e-3},
}
UPPER_EDGE = "the rates were chosen on one seed, and nearly all are the highest that was tried (2e-2)"
HALVED = "the rates are half the laptop's, untried at this size"
# Where the rates are known not to be, or not known to be, each architecture's best: exposures of a scale, and why.
UNTUNED: dict[tuple[str, int], dict[str, str]] = {
    ("laptop", 1000): dict.fromkeys(ARCHITECTURES, UPPER_EDGE),
    ("laptop", 100): {"no MLP": "the rate was chosen on one seed, and is the lowest that was tried (2.5e-3)"},
    ("overnight", 1000): dict.fromkeys(ARCHITECTURES, HALVED),
    ("overnight", 100): dict.fromkeys(ARCHITECTURES, HALVED),
    ("gpu", 100): dict.fromkeys(ARCHITECTURES, "one learning rate for all architectures"),
}
LARGE = {"gpu": [(100, 50_000, 2, 2)], "paper": [(1000, 200_000, 6, 4), (100, 200_000, 6, 4)]}


def runs(scale: str) -> list[Run]:
    """Every architecture at both numbers of exposures; three seeds each (one at smoke)."""
    made = []
    for name in ARCHITECTURES:
        made += [tiny_run(name, *spec, learning_rate(scale, name, spec[0])) for spec in TINY.get(scale, ())]
        made += [large_run(name, *spec, lr) for spec in LARGE.get(scale, ()) for lr in large_learning_rates(scale)]
    return with_seeds(made, default_seeds(scale))


def learning_rate(scale: str, name: str, exposures: int) -> float:
    """The learning rate of a tiny model."""
    if scale == "smoke":
        return 1e-2
    return RATES[exposures][name] / (2 if scale == "overnight" else 1)


def large_learning_rates(scale: str) -> tuple[float, ...]:
    """The three rates of the paper's search; a single one at gpu."""
    return (1e-3,) if scale == "gpu" else (5e-4, 1e-3, 2e-3)


def tiny_run(name: str, exposures: int, people: int, width: int, batch: int, lr: float) -> Run:
    """One architecture as a small model on people of bioD."""
    task = part3_capacity.tiny_biod(people)
    model = match_parameters_by_width(name, part3_capacity.tiny_model(2, width), task)
    return _make_run(name, exposures, task, model, part3_capacity.tiny_train_config(task, exposures, batch, lr))


def large_run(name: str, exposures: int, people: int, layers: int, heads: int, lr: float) -> Run:
    """One architecture at the paper's size, heads of about 64."""
    task = part3_capacity.paper_bios(people)
    model = match_parameters_by_width(name, part3_capacity.paper_model(layers, heads), task)
    return _make_run(name, exposures, task, model, part3_capacity.paper_train_config(task, people, exposures, lr=lr))


def match_parameters_by_width(name: str, base: ModelConfig, task) -> ModelConfig:
    """The architecture at the width that brings its parameters nearest to those of the base."""
    from lm.model_size import num_parameters

    def count(width: int) -> int:
        return num_parameters(with_width(name, base, width), task)

    size = num_parameters(base, task)
    widths = range(base.d_model // 2 // base.n_heads * base.n_heads, 2 * base.d_model + 1, base.n_heads)
    above = bisect_left(widths, size, key=count)
    nearest = min(widths[max(above - 1, 0) : above + 1], key=lambda width: abs(count(width) - size))
    return with_width(name, base, nearest)


def with_width(name: str, base: ModelConfig, width: int) -> ModelConfig:
    """The architecture at this width."""
    changes = ARCHITECTURES[name] | ({"d_ff": width} if "d_ff" in ARCHITECTURES[name] else {})
    return replace(base, d_model=width, **changes)


def _make_run(name: str, exposures: int, task, model, train) -> Run:
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch

    tags = {"architecture": name, "times": exposures, "people": task.people, "width": model.d_model, "lr": train.lr}
    return Run(NAME, task, model, train, (Capacity(),), tags=tags)


def figure(table):
    """How many times less than GPT-2 each architecture stores: many exposures, few exposures."""
    table = at_best_lr(part3_capacity.add_stored_bits(table), ("architecture", "times"), "stored")
    exposures = sorted(set(table["times"]), reverse=True)
    fig, panels = figures.subplots(columns=len(exposures), width=7.0, height=4.6)
    for axes, times in zip(panels, exposures, strict=True):
        plot_ratios(axes, table[table["times"] == times], times)
    figures.set_title(fig, "How much less than GPT-2 do other architectures store?")
    figures.set_caption(
        fig,
        f"{part3_capacity.describe_setting(table, 'Figures 5 and 6')}; under each name the bits stored per parameter. "
        "Above 1: GPT-2 stores more than the architecture with the same seeds. "
        f"{part3_capacity.seeds_note(table, 'architecture', 'times')}",
    )
    return fig


def plot_ratios(axes, part, times: int) -> None:
    """GPT-2's bits per parameter over those of the others, seed by seed, and the paper's ratios."""
    order = [name for name in ARCHITECTURES if name in set(part["architecture"])]
    base = mean_by_seed(part, "stored", architecture="GPT-2")
    drawn = figures.plot_means_with_ci(
        axes, part, "architecture", "stored", order=order, estimate=lambda stored: ratio_of(base, stored)
    )
    paper = [(order.index(name) + 0.3, PAPER[times][name]) for name in PAPER.get(times, {}) if name in order]
    if paper:
        figures.plot_paper_crosses(axes, paper, larger_task=True)
    stored = part.groupby("architecture")["stored"].mean()
    axes.set_xticks(range(len(order)), [f"{name}\n{stored[name]:.2f}" for name in order], fontsize=9)
    axes.axhline(1, color=figures.BASELINE_COLOR, linewidth=1, zorder=0)
    axes.set(title=f"{times:,} exposures", ylabel="GPT-2 over architecture, bits per parameter")
    means = [found.mean for found in drawn.values()]
    figures.end_axis(axes, min([0.5, *means]), max([2.0, *means]))
    figures.legend_outside(axes)


# How many times less than GPT-2 each stores in the paper.
PAPER = {
    1000: {
        name: paper_number("3.3", "Result 5", "1000 exposures", f"GPT-2 over {name}")
        for name in ARCHITECTURES if name != "GPT-2"
    },
    100: {
        name: paper_number("3.3", place, "100 exposures", f"GPT-2 over {name}")
        for name, place in (("quarter MLP", "Result 6"), ("no MLP", "Result 6"), ("silu", "Result 7"),
                            ("gated MLP", "Result 7"), ("LLaMA", "Result 6"))
    },
}  # fmt: skip
# Verdict on GPT-2's bits per parameter over those of the architecture, from the paper's factors.
Rule = tuple[str, dict[str, Any]]  # in words, and as limits
EQUAL_RULE: Rule = ("between 0.87 and 1.15: as much", {"above": 0.87, "below": 1.15})
LESS_RULE: Rule = ("above 1.15: clearly less", {"above": 1.15})
RULES: dict[int, dict[str, Rule]] = {
    100: {"gated MLP": LESS_RULE, "no MLP": ("above 1.5", {"above": 1.5}), "quarter MLP": EQUAL_RULE},
    1000: dict.fromkeys(("gated MLP", "no MLP", "quarter MLP"), EQUAL_RULE),
}
# The paper's statements are about models that store one bit per parameter at 100 exposures and two at 1000: GPT-2 must
# be within a quarter of that, else it is trained more or less fully than the paper's.
REGIME = 0.25

# Thresholds are from the paper's statements; lines, thresholds and gates were written after the laptop's numbers had
# been seen. The primary line is the gated MLP at 100 exposures: results 6 and 7 name it as the cause of what LLaMA
# loses, the finding that the paper is cited for. silu and LLaMA are only drawn: silu changes nothing and LLaMA loses by
# its gate, says result 7. Where the rates are not each architecture's best (UNTUNED) no line is decided.


def claims(table) -> list[Claim]:
    """Claim 3.17 for each architecture, as the ratio to GPT-2 with the same seeds."""
    table, made = part3_capacity.add_stored_bits(table), ClaimList(table)
    table = at_best_lr(table, ("architecture", "times"), "stored")
    scale = str(table["scale"].iloc[0])
    for times, rules in RULES.items():
        part, untuned = table[table["times"] == times], UNTUNED.get((scale, times), {})
        for name, (words, limits) in rules.items() if len(part) else ():
            base, other = (mean_by_seed(part, "stored", architecture=each) for each in ("GPT-2", name))
            statement = f"GPT-2's bits per parameter over those with {name_part(name)}, {times} exposures"
            primary = (times, name) == (100, "gated MLP")
            gates, note = [regime_gate(base, times)], untuned.get(name, "")
            made.add("3.17", statement, ratio_of(base, other), PAPER[times][name], words, not note,
                     primary=primary, gates=gates, note=note, **limits)  # fmt: skip
    return made


def name_part(name: str) -> str:
    """The architecture's feed-forward layer in words."""
    return {"quarter MLP": "a quarter of the MLP", "no MLP": "no MLP"}.get(name, f"a {name}")


def regime_gate(base, times: int) -> Gate:
    """GPT-2 must be trained about as fully as the paper's at this number of exposures."""
    paper = part3_capacity.PAPER_BITS_PER_PARAMETER[times]
    limits = {"at_least": (1 - REGIME) * paper, "at_most": (1 + REGIME) * paper}
    return Gate(f"GPT-2's bits per parameter at {times} exposures (paper: {paper:g})", base, **limits)


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
