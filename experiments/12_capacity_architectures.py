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
from experiments.harness.playground.comparison import chosen
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, decides, weigh
from experiments.harness.reporting.stats import by_seed
from experiments.harness.run import Run, replicate
from lm.config import ModelConfig

NAME = Path(__file__).stem
LLAMA = {"norm": "rms", "mlp": "swiglu", "bias": False, "tied": False}
# What differs from GPT-2; the width is then chosen to make the sizes alike.
ARCHITECTURES: dict[str, dict] = {
    "GPT-2": {},
    "quarter MLP": {"mlp_width": "width"},
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
    """Every architecture at both numbers of exposures, three seeds each (one for smoke)."""
    made = []
    for name in ARCHITECTURES:
        made += [tiny(name, *spec, rate(scale, name, spec[0])) for spec in TINY.get(scale, ())]
        made += [large(name, *spec, lr) for spec in LARGE.get(scale, ()) for lr in large_rates(scale)]
    return replicate(made, 1 if scale == "smoke" else 3)


def rate(scale: str, name: str, exposures: int) -> float:
    """The learning rate of a tiny model."""
    if scale == "smoke":
        return 1e-2
    return RATES[exposures][name] / (2 if scale == "overnight" else 1)


def large_rates(scale: str) -> tuple[float, ...]:
    """Three rates, as in the paper, to choose from; one where half an hour must do."""
    return (1e-3,) if scale == "gpu" else (5e-4, 1e-3, 2e-3)


def tiny(name: str, exposures: int, people: int, width: int, batch: int, lr: float) -> Run:
    """One architecture as a small model that reads people of bioD."""
    task = part3_capacity.tiny_people(people)
    model = alike(name, part3_capacity.tiny_model(2, width), task)
    return _run(name, exposures, task, model, part3_capacity.tiny_training(task, exposures, batch, lr))


def large(name: str, exposures: int, people: int, layers: int, heads: int, lr: float) -> Run:
    """One architecture at the paper's size, heads of about 64."""
    task = part3_capacity.paper_people(people)
    model = alike(name, part3_capacity.paper_model(layers, heads), task)
    return _run(name, exposures, task, model, part3_capacity.paper_training(task, people, exposures, lr=lr))


def alike(name: str, base: ModelConfig, task) -> ModelConfig:
    """The architecture whose number of parameters is nearest to that of the base, as wide as that takes."""
    size = part3_capacity.parameters_of(base, task)
    widths = range(base.width // 2 // base.heads * base.heads, 2 * base.width + 1, base.heads)
    return min((with_width(name, base, width) for width in widths),
               key=lambda model: abs(part3_capacity.parameters_of(model, task) - size))  # fmt: skip


def with_width(name: str, base: ModelConfig, width: int) -> ModelConfig:
    """The architecture in this width."""
    changes = ARCHITECTURES[name] | ({"mlp_width": width} if "mlp_width" in ARCHITECTURES[name] else {})
    return replace(base, width=width, **changes)


def _run(name: str, exposures: int, task, model, train) -> Run:
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch

    tags = {"architecture": name, "times": exposures, "people": task.people, "width": model.width, "lr": train.lr}
    return Run(NAME, task, model, train, (Capacity(),), tags=tags)


def figure(table):
    """Bits per parameter by architecture: many exposures, few exposures."""
    table = chosen(table, ("architecture", "times"), "r")
    often = sorted(set(table["times"]), reverse=True)
    fig, panels = figures.canvas(columns=len(often), width=6.4, height=4.6)
    for axes, times in zip(panels, often, strict=True):
        part = table[table["times"] == times]
        order = list(dict.fromkeys(part["architecture"]))
        figures.points(axes, part, "architecture", "r", order=order)
        sizes = [part.loc[part["architecture"] == name, "parameters"].iloc[0] / 1e3 for name in order]
        said = [f"\npaper: 1/{PAPER[times][a]:g}" if a in PAPER.get(times, {}) else "" for a in order]
        names = [f"{a}\n{p:.3g}K{text}" for a, p, text in zip(order, sizes, said, strict=True)]
        axes.set_xticks(range(len(order)), names, fontsize=8)
        base = part.loc[part["architecture"] == "GPT-2", "r"].mean()
        if times in PAPER:
            for name, factor in PAPER[times].items():
                if name not in order:
                    continue
                axes.hlines(base / factor, order.index(name) - 0.35, order.index(name) + 0.35, color=figures.PAPER,
                            linestyle="--")  # fmt: skip
            axes.plot([], [], "--", color=figures.PAPER, label="our GPT-2 times the paper's ratio")
            axes.legend(loc="lower left")
        top = max(2.6, table["r"].max() * 1.1) if times in PAPER else None
        axes.set(ylabel="bits learned / parameters", ylim=(0, top), title=f"{times} exposures")
    figures.title(
        fig,
        f"Part 3.3, Figures 5 and 6: {table['people'].min():,} to {table['people'].max():,} people, parameters under "
        f"each name; {part3_capacity.note(table, 'architecture', 'times')}",
    )
    return fig


# How many times less than GPT-2 each stores in the paper.
PAPER = {
    1000: {"quarter MLP": 1.0, "no MLP": 1.0, "silu": 1.0, "gated MLP": 1.0, "LLaMA": 1.0},
    100: {"quarter MLP": 1.0, "no MLP": 1.5, "silu": 1.0, "gated MLP": 1.3, "LLaMA": 1.3},
}
# Verdict on GPT-2's bits a parameter over those of the architecture, from the paper's factors.
EQUAL = ("between 0.87 and 1.15: as much", {"above": 0.87, "below": 1.15})
THRESHOLDS = {
    1000: dict.fromkeys(PAPER[1000], EQUAL),
    100: {
        "quarter MLP": EQUAL,
        "no MLP": ("above 1.5", {"above": 1.5}),
        "silu": EQUAL,
        "gated MLP": ("above 1.15: clearly less", {"above": 1.15}),
        "LLaMA": ("above 1.15: clearly less", {"above": 1.15}),
    },
}


def claims(table) -> list[Claim]:
    """Claim 3.17 for each architecture against GPT-2, seed by seed; smoke decides nothing."""
    testable, table, made = decides(table), chosen(table, ("architecture", "times"), "r"), []
    for times, thresholds in THRESHOLDS.items():
        part = table[table["times"] == times]
        for name, (words, limits) in thresholds.items() if len(part) else ():
            ratio = part3_capacity.ratio(
                by_seed(part, "r", architecture="GPT-2"), by_seed(part, "r", architecture=name)
            )
            made.append(weigh("3.17", f"GPT-2 over {name}, bits a parameter at {times} exposures", ratio,
                              PAPER[times][name], words, testable, **limits))  # fmt: skip
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
