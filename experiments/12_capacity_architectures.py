"""Does capacity depend on the architecture? (claim 3.17)

Part 3.3 (arXiv 2404.05405), results 5 to 7, Figures 5 and 6: GPT-2 beside itself with a quarter of its MLP, without an
MLP, with silu for gelu, with a gated MLP, and beside LLaMA (gated MLP, RMS norm, no biases, output table of its own),
all of nearly the same size and each at the best of three learning rates. Left: 1000 exposures, where all should be
alike. Right: 100 exposures, where the paper finds a gated MLP to store 1.3 times less, none at all over 1.5 times less,
and a quarter of it as much as the whole.

Worlds and cost: smoke, seconds; laptop, bioD with one value of 12 symbols, models of 7.5K to 8.4K parameters at 1000
exposures and of 16K to 17K at 100, under ten minutes on two cores; overnight, twice the width, two hours on two cores;
gpu, 100 exposures of bioS(50K) with GPT2-2-2, about half an hour (not measured); paper, bioS(200K).
"""

from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_capacity
from experiments.harness.playground.comparison import at_best_lr
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList
from experiments.harness.reporting.stats import mean_by_seed
from experiments.harness.run import Run, default_seeds, with_seeds
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

    size = num_parameters(base, task)
    widths = range(base.d_model // 2 // base.n_heads * base.n_heads, 2 * base.d_model + 1, base.n_heads)
    return min((with_width(name, base, width) for width in widths),
               key=lambda model: abs(num_parameters(model, task) - size))  # fmt: skip


def with_width(name: str, base: ModelConfig, width: int) -> ModelConfig:
    """The architecture at this width."""
    changes = ARCHITECTURES[name] | ({"d_ff": width} if "d_ff" in ARCHITECTURES[name] else {})
    return replace(base, d_model=width, **changes)


def _make_run(name: str, exposures: int, task, model, train) -> Run:
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch

    tags = {"architecture": name, "times": exposures, "people": task.people, "width": model.d_model, "lr": train.lr}
    return Run(NAME, task, model, train, (Capacity(),), tags=tags)


def figure(table):
    """Bits per parameter by architecture: many exposures, few exposures."""
    table = at_best_lr(table, ("architecture", "times"), "r")
    exposures = sorted(set(table["times"]), reverse=True)
    fig, panels = figures.subplots(columns=len(exposures), width=6.4, height=4.6)
    for axes, times in zip(panels, exposures, strict=True):
        part = table[table["times"] == times]
        order = list(dict.fromkeys(part["architecture"]))
        figures.plot_means_with_ci(axes, part, "architecture", "r", order=order)
        sizes = [part.loc[part["architecture"] == name, "parameters"].iloc[0] / 1e3 for name in order]
        paper_notes = [f"\npaper: 1/{PAPER[times][a]:g}" if a in PAPER.get(times, {}) else "" for a in order]
        names = [f"{a}\n{p:.3g}K{text}" for a, p, text in zip(order, sizes, paper_notes, strict=True)]
        axes.set_xticks(range(len(order)), names, fontsize=8)
        base = part.loc[part["architecture"] == "GPT-2", "r"].mean()
        if times in PAPER:
            for name, factor in PAPER[times].items():
                if name in order:
                    x = order.index(name)
                    axes.hlines(base / factor, x - 0.35, x + 0.35, color=figures.PAPER_COLOR, linestyle="--")
            axes.plot([], [], "--", color=figures.PAPER_COLOR, label="our GPT-2 times the paper's ratio")
            axes.legend(loc="lower left")
        top = max(2.6, table["r"].max() * 1.1) if times in PAPER else None
        axes.set(ylabel="bits learned / parameters", ylim=(0, top), title=f"{times} exposures")
    figures.set_title(
        fig,
        f"Part 3.3, Figures 5 and 6: {table['people'].min():,} to {table['people'].max():,} people, parameters under "
        f"each name; {part3_capacity.title_note(table, 'architecture', 'times')}",
    )
    return fig


# How many times less than GPT-2 each stores in the paper.
PAPER = {
    1000: {"quarter MLP": 1.0, "no MLP": 1.0, "silu": 1.0, "gated MLP": 1.0, "LLaMA": 1.0},
    100: {"quarter MLP": 1.0, "no MLP": 1.5, "silu": 1.0, "gated MLP": 1.3, "LLaMA": 1.3},
}
# Verdict on GPT-2's bits a parameter over those of the architecture, from the paper's factors.
EQUAL_RULE = ("between 0.87 and 1.15: as much", {"above": 0.87, "below": 1.15})
LESS_RULE = ("above 1.15: clearly less", {"above": 1.15})
EQUAL_RULES = dict.fromkeys(PAPER[1000], EQUAL_RULE)
FEW_RULES = {"no MLP": ("above 1.5", {"above": 1.5}), "gated MLP": LESS_RULE, "LLaMA": LESS_RULE}
THRESHOLDS = {1000: EQUAL_RULES, 100: EQUAL_RULES | FEW_RULES}


def claims(table) -> list[Claim]:
    """Claim 3.17 for each architecture, as the ratio to GPT-2 seed by seed."""
    table, made = at_best_lr(table, ("architecture", "times"), "r"), ClaimList(table)
    for times, thresholds in THRESHOLDS.items():
        part = table[table["times"] == times]
        for name, (words, limits) in thresholds.items() if len(part) else ():
            both = (mean_by_seed(part, "r", architecture=each) for each in ("GPT-2", name))
            ratio = part3_capacity.ratio_interval(*both)
            statement = f"GPT-2 over {name}, bits a parameter at {times} exposures"
            made.add("3.17", statement, ratio, PAPER[times][name], words, True, **limits)
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
