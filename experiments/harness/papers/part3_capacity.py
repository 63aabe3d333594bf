"""What the experiments of Part 3.3 (arXiv 2404.05405) share: its people, models and trainings, at our sizes and at the
paper's, and the panels and intervals that they draw and judge.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.harness.reporting import figures
from experiments.harness.reporting.stats import Interval, interval, interval_if_any
from lm.config import ModelConfig, TrainConfig
from probing.capacity.bits_per_parameter import CapacityWarning
from synth.corpus import mean_length
from synth.tasks.biod import BioD
from synth.tasks.bios import BioS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

# The experiments cross R_max = 2 on purpose and draw it beside R.
warnings.filterwarnings("ignore", category=CapacityWarning)

# Part 3.3, appendix: weight decay, learning rate and batch (windows of 512 tokens) by exposures and people.
PAPER_TRAINING: dict[int, dict[int, tuple[float, float, int]]] = {
    1000: {
        10_000: (0.02, 1e-3, 24), 20_000: (0.02, 1e-3, 48), 50_000: (0.02, 1e-3, 96), 100_000: (0.02, 1e-3, 192),
        200_000: (0.02, 1e-3, 192), 500_000: (0.01, 5e-4, 192), 1_000_000: (0.01, 5e-4, 192),
        2_000_000: (0.005, 3e-4, 1536), 5_000_000: (0.002, 3e-4, 1536), 10_000_000: (0.001, 3e-4, 1536),
    },
    100: {
        50_000: (0.01, 1e-3, 12), 100_000: (0.01, 1e-3, 24), 200_000: (0.01, 1e-3, 48), 500_000: (0.01, 5e-4, 96),
        1_000_000: (0.01, 5e-4, 192), 2_000_000: (0.01, 5e-4, 384), 5_000_000: (0.01, 5e-4, 768),
        10_000_000: (0.01, 3e-4, 1024),
    },
}  # fmt: skip
PAPER_LAW = {1000: 2.0, 100: 1.0}  # bits per parameter: results 1 and 4


def tiny_people(n: int, **changes: Any) -> BioD:
    """n people of bioD with a name of 3 symbols and one value of 12, all of 64: 90 bits less log2 n, 18 tokens."""
    return BioD(**{
        "people": n, "kinds": 1, "chunks": 12, "set_size": 64, "length": 1, "alphabet": 64, "name_length": 3,
        "name_alphabet": 64, **changes,
    })  # fmt: skip


def tiny_model(layers: int, width: int, **changes: Any) -> ModelConfig:
    """A rotary GPT-2 of two heads; weights begin at 0.1, as 0.02 costs so narrow a model hundreds of steps."""
    return ModelConfig(**{"layers": layers, "heads": 2, "width": width, "context": 64, "init_std": 0.1, **changes})


def tiny_training(task: Any, exposures: int, batch: int, lr: float, window: int | None = None) -> TrainConfig:
    """`exposures` of everybody, one document a row, or documents of varying length end to end and cut into windows of
    `window`; otherwise as the paper: AdamW, cosine to a tenth of the rate, weight decay 0.01, a short warm-up."""
    rows: dict[str, Any] = {"window": window} if window else {"window": task.size, "packing": "none"}
    train = TrainConfig.for_exposures(
        task, exposures, batch=batch, lr=lr, weight_decay=0.01, schedule="cosine", final_lr=0.1, **rows
    )
    return replace(train, warmup=max(50, train.steps // 20))


def paper_model(layers: int, heads: int, **changes: Any) -> ModelConfig:
    """GPT2-l-h of the paper: rotary, heads of 64, context 512."""
    return ModelConfig(**{"layers": layers, "heads": heads, "width": 64 * heads, "context": 512, **changes})


MICRO_BATCH = 192  # windows that a data-centre GPU takes at a time


def paper_training(task: Any, people: int, exposures: int, like: int | None = None, **changes: Any) -> TrainConfig:
    """The paper's settings for so many people of bioS and so many exposures (or `like` so many). Steps are counted from
    the documents' length, so that everybody is seen `exposures` times: its own step counts imply twice as many for
    small worlds."""
    table = PAPER_TRAINING[100 if (like or exposures) <= 100 else 1000]
    decay, lr, batch = table[min((n for n in table if n >= people), default=max(table))]
    settings = {"batch": batch, "window": 512, "lr": lr, "weight_decay": decay, "schedule": "cosine", **changes}
    steps = round(exposures * task.items(None) * mean_length(task, documents=256) / (settings["batch"] * 512))
    parts = next(n for n in count(1) if settings["batch"] % n == 0 and settings["batch"] // n <= MICRO_BATCH)
    return TrainConfig(steps, final_lr=0.1, warmup=min(1000, steps // 10), accumulate=parts, **settings)


def parameters_of(model: ModelConfig, task: Any) -> int:
    """All parameters of a model of the task's vocabulary."""
    from lm.model_size import size_of

    return size_of(model, model.ids(task.vocab())).total


def filling(world: Callable[[int], Any], model: ModelConfig, bits: float, step: int = 8) -> Any:
    """The task world(n) of the fewest people, a multiple of `step`, that hold so many bits for each parameter of the
    model (the vocabulary must be the same for every n)."""
    enough = bits * parameters_of(model, world(step))
    return next(world(n) for n in count(step, step) if world(n).facts().bits >= enough)


def paper_people(n: int, **changes: Any) -> BioS:
    """bioS(n): fresh wording and order in every exposure."""
    return BioS(people=n, permute=1, **changes)


# ---- tables ----------------------------------------------------------------------------------------------------
def ratio(above: Any, below: Any) -> Interval | None:
    """The interval of a ratio, seed by seed; None where nothing was learned to compare with."""
    return interval_if_any(above / below[below > 0])


def best(table: "DataFrame", by: str, column: str = "r") -> Interval:
    """The interval over seeds of the configuration with the highest mean: the peak of a curve over sizes."""
    found = [interval(part[column]) for _, part in table.groupby(by)]
    return max(found, key=lambda one: one.mean)


SPARE = 2.5  # bits of data per parameter, beyond what any model has stored: the model is the limit and not the data


def law(table: "DataFrame") -> dict[int, tuple[float, float, float]]:
    """By exposures: the bits per parameter that a model holds when there is more to know, their mean over sizes, and
    the least and the most that any single model held; not for exposures at which some model held nothing. What
    probing/capacity/scaling_law.csv says of our own fit."""
    spare = table[table["r_max"] >= SPARE]
    found = {
        int(times): (
            float(part.groupby("configuration")["r"].mean().mean()),
            float(part["r"].min()),
            float(part["r"].max()),
        )
        for times, part in spare.groupby("times")
    }
    return {times: numbers for times, numbers in found.items() if numbers[1] > 0}  # the rest is no rate to plan with


def note(table: "DataFrame", *by: str) -> str:
    """The end of a title: what dots and bars are, and how many seeds each group has at least."""
    n = table.groupby(list(by)).size().min()
    return f"small dots are seeds, large ones their mean, bars its 95% interval (n = {n})"


def sizes(table: "DataFrame") -> str:
    """Smallest and largest model in words."""
    least, most = (f"{value / 1e3:.3g}K" for value in (table["parameters"].min(), table["parameters"].max()))
    return f"{least} parameters" if least == most else f"{least} to {most} parameters"


# ---- panels ----------------------------------------------------------------------------------------------------
def bits_panel(axes: "Axes", table: "DataFrame", hue: str, names: Mapping[Any, str]) -> None:
    """Bits learned over parameters, both in powers, as Figure 1 of the paper: lines of so many bits per parameter."""
    from matplotlib.ticker import LogLocator

    axes.set(xscale="log", yscale="log")
    _curves(axes, table, hue, names, "parameters", "bits")
    ends = np.array([table["parameters"].min() * 0.8, table["parameters"].max() * 1.25])
    for (exposures, rate), dashes in zip(PAPER_LAW.items(), ("--", "-."), strict=True):
        axes.plot(ends, rate * ends, dashes, color=figures.PAPER, linewidth=1.5,
                  label=f"paper, {exposures} exposures: {rate:g} a parameter")  # fmt: skip
    axes.set(xlim=ends, ylim=(table["bits"].max() / 200, ends[1] * 4))
    axes.set(xlabel="parameters, embeddings included", ylabel="bits learned")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.set(title="How much does a model of some size learn?")
    below(axes)


def saturation_panel(axes: "Axes", table: "DataFrame", hue: str, names: Mapping[Any, str]) -> None:
    """R over R_max: on the diagonal all is stored, and what a model can hold shows as a plateau."""
    from matplotlib.ticker import LogLocator

    _curves(axes, table, hue, names, "r_max", "r")
    top = max(table["r_max"].max(), 2.6) * 1.2
    diagonal = np.geomspace(min(table["r_max"].min(), 1.0) * 0.8, top, 50)
    axes.plot(diagonal, diagonal, ":", color=figures.FLOOR, label="all that the data holds")
    for (exposures, rate), dashes in zip(PAPER_LAW.items(), ("--", "-."), strict=True):
        axes.axhline(rate, linestyle=dashes, color=figures.PAPER, linewidth=1.5, label=f"paper, {exposures} exposures")
    axes.set(xscale="log", ylim=(0, 2.6), xlabel="R_max: bits the data holds / parameters")
    axes.set(ylabel="R: bits learned / parameters", title="Does it store all, or all that it can?")
    for axis in ("major", "minor"):
        getattr(axes.xaxis, f"set_{axis}_formatter")("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    below(axes)


def below(axes: "Axes") -> None:
    """The legend under the panel, where it hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=9)


def _curves(axes: "Axes", table: "DataFrame", hue: str, names: Mapping[Any, str], x: str, y: str) -> None:
    """A colour for each value of hue: dots for seeds, and mean and interval of each `configuration`."""
    groups = list(dict.fromkeys(table[hue]))
    for color, group in zip(figures.colors(len(groups)), groups, strict=True):
        part = table[table[hue] == group]
        axes.plot(part[x], part[y], "o", color=color, alpha=0.35, markersize=3)
        found = [(one[x].mean(), interval(one[y])) for _, one in part.groupby("configuration")]
        places, means = (np.array(column) for column in zip(*((place, one.mean) for place, one in found), strict=True))
        spread = np.nan_to_num([one.high - one.mean for _, one in found])
        below = np.minimum(spread, 0.98 * means) if axes.get_yscale() == "log" else spread  # a log axis has no 0
        axes.errorbar(places, means, yerr=[below, spread], fmt="o", color=color, capsize=4,
                      markersize=7, label=names.get(group, str(group)))  # fmt: skip
