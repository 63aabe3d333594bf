"""What the experiments of Part 3.3 (arXiv 2404.05405) share: people, models and trainings at our sizes and at the
paper's, intervals of ratios, and the panels of bits learned."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.harness.reporting import figures
from experiments.harness.reporting.stats import Interval, interval, interval_or_none
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
PAPER_BITS_PER_PARAMETER = {1000: 2.0, 100: 1.0}  # bits per parameter: results 1 and 4


def tiny_biod(n: int, **changes: Any) -> BioD:
    """bioD with n people, each a name of 3 symbols and one value of 12 symbols, from an alphabet of 64: 90 bits less
    log2 n and 18 tokens a person."""
    return BioD(**{
        "people": n, "kinds": 1, "chunks": 12, "set_size": 64, "length": 1, "alphabet": 64, "name_length": 3,
        "name_alphabet": 64, **changes,
    })  # fmt: skip


def tiny_model(layers: int, width: int, **changes: Any) -> ModelConfig:
    """A rotary GPT-2 of two heads. Weights start with a standard deviation of 0.1, as models this narrow need hundreds
    of steps to grow from 0.02."""
    size = {"n_layers": layers, "n_heads": 2, "d_model": width, "max_seq_len": 64, "init_std": 0.1}
    return ModelConfig(**{**size, **changes})


def tiny_train_config(task: Any, exposures: int, batch: int, lr: float, window: int | None = None) -> TrainConfig:
    """A training in which every person is seen `exposures` times.

    One document is one row; with `window`, documents are concatenated and cut into windows of that many tokens.
    Otherwise as in the paper: AdamW, cosine to a tenth of the rate, weight decay 0.01, a short warm-up.
    """
    rows: dict[str, Any] = {"seq_len": window} if window else {"seq_len": task.document_length, "packing": "none"}
    train = TrainConfig.for_exposures(
        task, exposures, batch_size=batch, lr=lr, weight_decay=0.01, schedule="cosine", min_lr_ratio=0.1, **rows
    )
    return replace(train, warmup_steps=max(50, train.steps // 20))


def paper_model(layers: int, heads: int, **changes: Any) -> ModelConfig:
    """GPT2-l-h of the paper: rotary, heads of width 64, context 512."""
    return ModelConfig(**{"n_layers": layers, "n_heads": heads, "d_model": 64 * heads, "max_seq_len": 512, **changes})


MICRO_BATCH = 192  # windows that a data-centre GPU takes at a time


def paper_train_config(
    task: Any, people: int, exposures: int, settings_of_exposures: int | None = None, **changes: Any
) -> TrainConfig:
    """The paper's settings for this many people of bioS and exposures.

    settings_of_exposures: take the settings for another number of exposures. Steps are computed from the mean length of
    documents, so that everybody is seen `exposures` times; the paper's own step counts imply twice as many for small
    worlds.
    """
    table = PAPER_TRAINING[100 if (settings_of_exposures or exposures) <= 100 else 1000]
    decay, lr, batch = table[min((n for n in table if n >= people), default=max(table))]
    settings = {"batch_size": batch, "seq_len": 512, "lr": lr, "weight_decay": decay, "schedule": "cosine", **changes}
    steps = round(exposures * task.num_items(None) * mean_length(task, documents=256) / (settings["batch_size"] * 512))
    parts = next(n for n in count(1) if settings["batch_size"] % n == 0 and settings["batch_size"] // n <= MICRO_BATCH)
    return TrainConfig(steps, min_lr_ratio=0.1, warmup_steps=min(1000, steps // 10), grad_accum_steps=parts, **settings)


def smallest_task_holding(
    make_task: Callable[[int], Any], model: ModelConfig, bits_per_parameter: float, step: int = 8
) -> Any:
    """The task make_task(n) with the fewest people n, a multiple of `step`, that holds at least `bits_per_parameter`
    bits for each parameter of the model. The vocabulary must be the same for every n."""
    from lm.model_size import num_parameters

    enough = bits_per_parameter * num_parameters(model, make_task(step))
    return next(make_task(n) for n in count(step, step) if make_task(n).information_content().bits >= enough)


def paper_bios(n: int, **changes: Any) -> BioS:
    """bioS(n): a fresh wording and order in every exposure."""
    return BioS(people=n, permute=1, **changes)


# ---- tables ----------------------------------------------------------------------------------------------------
def ratio_interval(above: Any, below: Any) -> Interval | None:
    """The interval over seeds of above / below (Series by seed), over seeds where `below` is positive; None where there
    is no such seed."""
    return interval_or_none(above / below[below > 0])


def best_configuration(table: "DataFrame") -> Interval:
    """The interval over seeds of the configuration with the highest mean of r: the peak of a curve over sizes."""
    found = [interval(part["r"]) for _, part in table.groupby("configuration")]
    return max(found, key=lambda one: one.mean)


# Bits of data per parameter, beyond what any model has stored: the model is the limit and not the data.
MIN_SPARE_BITS = 2.5


def measured_law(table: "DataFrame") -> dict[int, tuple[float, float, float]]:
    """Bits per parameter by exposures, of models with more to learn than they can store: (mean over sizes, minimum,
    maximum over models).

    Exposures at which some model stored nothing are left out. These are the numbers of our own fit in
    probing/capacity/scaling_law.csv.
    """
    spare = table[table["r_max"] >= MIN_SPARE_BITS]
    found = {}
    for times, part in spare.groupby("times"):
        mean, rates = part.groupby("configuration")["r"].mean().mean(), part["r"]
        found[int(times)] = (float(mean), float(rates.min()), float(rates.max()))
    return {times: numbers for times, numbers in found.items() if numbers[1] > 0}  # the rest is no rate to plan with


def title_note(table: "DataFrame", *by: str) -> str:
    """The end of a title: what dots and bars are, and the number of seeds (the least over the groups `by`)."""
    n = table.groupby(list(by)).size().min()
    return f"small dots are seeds, large ones their mean, bars its 95% interval (n = {n})"


def describe_sizes(table: "DataFrame") -> str:
    """The range of model sizes in words, such as 5.1K to 28K parameters."""
    least, most = (f"{value / 1e3:.3g}K" for value in (table["parameters"].min(), table["parameters"].max()))
    return f"{least} parameters" if least == most else f"{least} to {most} parameters"


# ---- panels ----------------------------------------------------------------------------------------------------
def plot_bits(axes: "Axes", table: "DataFrame", hue: str, names: Mapping[Any, str]) -> None:
    """Bits learned over parameters on logarithmic axes, with the paper's lines of 2 and 1 bits per parameter (Figure
    1)."""
    from matplotlib.ticker import LogLocator

    axes.set(xscale="log", yscale="log")
    _plot_curves(axes, table, hue, names, "parameters", "bits")
    ends = np.array([table["parameters"].min() * 0.8, table["parameters"].max() * 1.25])
    for (exposures, rate), dashes in zip(PAPER_BITS_PER_PARAMETER.items(), ("--", "-."), strict=True):
        axes.plot(ends, rate * ends, dashes, color=figures.PAPER_COLOR, linewidth=1.5,
                  label=f"paper, {exposures} exposures: {rate:g} a parameter")  # fmt: skip
    axes.set(xlim=ends, ylim=(table["bits"].max() / 200, ends[1] * 4))
    axes.set(xlabel="parameters, embeddings included", ylabel="bits learned")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.set(title="How much does a model of some size learn?")
    legend_below(axes)


def plot_saturation(axes: "Axes", table: "DataFrame", hue: str, names: Mapping[Any, str]) -> None:
    """R over R_max: on the diagonal everything is stored, and the capacity of a model shows as a plateau."""
    from matplotlib.ticker import LogLocator

    _plot_curves(axes, table, hue, names, "r_max", "r")
    top = max(table["r_max"].max(), 2.6) * 1.2
    diagonal = np.geomspace(min(table["r_max"].min(), 1.0) * 0.8, top, 50)
    axes.plot(diagonal, diagonal, ":", color=figures.BASELINE_COLOR, label="all that the data holds")
    for (exposures, rate), dashes in zip(PAPER_BITS_PER_PARAMETER.items(), ("--", "-."), strict=True):
        label = f"paper, {exposures} exposures"
        axes.axhline(rate, linestyle=dashes, color=figures.PAPER_COLOR, linewidth=1.5, label=label)
    axes.set(xscale="log", ylim=(0, 2.6), xlabel="R_max: bits the data holds / parameters")
    axes.set(ylabel="R: bits learned / parameters", title="Does it store all, or all that it can?")
    for axis in ("major", "minor"):
        getattr(axes.xaxis, f"set_{axis}_formatter")("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    legend_below(axes)


def legend_below(axes: "Axes") -> None:
    """Put the legend under the panel."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=9)


def _plot_curves(axes: "Axes", table: "DataFrame", hue: str, names: Mapping[Any, str], x: str, y: str) -> None:
    """A colour for each value of hue: a dot for each seed, and mean and interval of each `configuration`."""
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
