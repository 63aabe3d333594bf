"""What the experiments of Part 3.3 (arXiv 2404.05405) share: people, models and trainings at our sizes and at the
paper's, and how bits per parameter are read from their tables."""

import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from experiments.harness.grid import Grid, train_grid
from experiments.harness.papers.numbers import paper_number
from experiments.harness.reporting import figures
from experiments.harness.statistics.estimates import Estimate, mean_of
from lm.config import ModelConfig, TrainConfig
from probing.capacity.bits_per_parameter import Capacity, CapacityWarning
from synth.corpus import mean_length
from synth.tasks.biod import BioD
from synth.tasks.bios import BioS

if TYPE_CHECKING:
    from pandas import DataFrame, Series

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
PAPER_BITS_PER_PARAMETER = {
    1000: paper_number("3.3", "Result 1", "1000 exposures", "bits a parameter"),
    100: paper_number("3.3", "Result 4", "100 exposures", "bits a parameter"),
}


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


def tuned(train: TrainConfig, rates: Sequence[float]) -> Grid:
    """The grid that chooses the learning rate with which a model stores the most bits, on a seed that is not reported;
    every size and world has a choice of its own."""
    return Grid(train_grid(train, lr=rates), "bits_unclamped", "max", (Capacity(),))


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
    make_task: Callable[[int], Any],
    model: ModelConfig,
    bits_per_parameter: float,
    step: int = 8,
    vocabulary_of: int | None = None,
) -> Any:
    """The task make_task(n) with the fewest people n, a multiple of `step`, that holds at least `bits_per_parameter`
    bits for each parameter of the model. The vocabulary must be the same for every n; where it is learned from the
    people it is taken as that of `vocabulary_of` people, and may in the end be a little larger or smaller."""
    from lm.model_size import num_parameters

    enough = bits_per_parameter * num_parameters(model, make_task(vocabulary_of or step))

    def bits(n: int) -> float:
        return make_task(n).information_content().bits

    end = next(end for doublings in count() if bits(end := step << doublings) >= enough)
    sizes = range(step, end + 1, step)
    return make_task(sizes[bisect_left(sizes, enough, key=bits)])


def paper_bios(n: int, **changes: Any) -> BioS:
    """bioS(n): a fresh wording and order in every exposure."""
    return BioS(people=n, permute=1, **changes)


# Short lists of names, values and sentences: 37 bits in 60 tokens a person, in the vocabulary of a small model.
SHORT_LISTS = {"first": 20, "middle": 20, "last": 50, "years": 20, "cities": 20, "universities": 20, "majors": 20,
               "employers": 20, "templates": 2}  # fmt: skip


def short_bios(n: int, **changes: Any) -> BioS:
    """bioS(n) from short lists."""
    return BioS(people=n, **{**SHORT_LISTS, **changes})


# ---- tables ----------------------------------------------------------------------------------------------------
def add_stored_bits(table: "DataFrame") -> "DataFrame":
    """The rows that measured capacity, with a column `stored`: the bits per parameter that the model stores.

    This is R of the paper (section 3) before it is clamped at 0, and its term for the lists of values counts only where
    the lists can hold anything (diversity_bits_max above 0). Where every string is a value (T^L = D) they hold nothing:
    the term, never positive then, would count the loss of a value's first chunk a second time.
    """
    table = table[table["bits_unclamped"].notna()]
    bits = table["bits_unclamped"] - table["diversity_bits"].where(table["diversity_bits_max"] == 0, 0.0)
    return table.assign(stored=bits / table["parameters"])


def stored_by(table: "DataFrame", column: str) -> dict[Any, Estimate]:
    """The bits stored per parameter for each value of a column, over seeds; at most R_max."""
    groups = table.groupby(column, sort=False)
    found = {
        name: mean_of(part.groupby("seed_init")["stored"].mean(), high=part["r_max"].max()) for name, part in groups
    }
    return {name: one for name, one in found.items() if one is not None}


def extreme_of(estimates: Iterable[Estimate], choose: Callable[..., Any]) -> Estimate | None:
    """The largest (choose=max) or smallest (min) of several true means, such as the peak over sizes of model.

    Returns the values and mean of the estimate with the extreme mean, and limits of the extreme true mean. Each of k
    estimates gets limits whose error is k times smaller (Bonferroni), so that all hold at once; the limits of the
    extreme are then the extremes of the limits, and one of them may be that of another, less sure estimate. Taking the
    best mean's own limits would be too sure: it is the best by luck as well. Estimates of one seed have no limits and
    only count for the mean. None if there are no estimates.
    """
    estimates = list(estimates)
    if not estimates:
        return None
    found, several = choose(estimates, key=lambda one: one.mean), [one for one in estimates if one.n > 1]

    def limits_at(level: float) -> tuple[float, float]:
        low, high = zip(*(one.limits_at(1 - (1 - level) / len(several)) for one in several), strict=True)
        return choose(low), choose(high)

    return Estimate(found.values, found.mean, limits_at)


# Bits of data per parameter, beyond what any model has stored: the model is the limit and not the data.
MIN_SPARE_BITS = 2.5
MIN_SIZES_OF_A_LAW = 3  # fewer models do not say what sizes have in common
MIN_EXPOSURES_OF_A_LAW = 100  # with fewer, the bits depend on the number of people as much as on the model


def measured_law(table: "DataFrame") -> dict[int, tuple[float, float, float]]:
    """Bits per parameter by exposures, of models with more to learn than they can store: (mean over sizes, minimum,
    maximum over models).

    Exposures with fewer than three sizes of model are left out, and fewer than a hundred exposures. These are the
    numbers of our own fit in probing/capacity/scaling_law.csv.
    """
    spare = table[table["r_max"] >= MIN_SPARE_BITS]
    found = {}
    for times, part in spare.groupby("times"):
        means, bits = part.groupby("configuration")["stored"].mean(), part["stored"]
        if times >= MIN_EXPOSURES_OF_A_LAW and len(means) >= MIN_SIZES_OF_A_LAW:
            found[int(times)] = (float(means.mean()), float(bits.min()), float(bits.max()))
    return found


def stored_at_same_sizes(first: "DataFrame", second: "DataFrame") -> "tuple[Series, Series]":
    """Bits per parameter by seed in each of two tables, mean over the sizes (layers and width) that both have with more
    facts than a model can store; seeds that lack one of these sizes are left out."""
    one, other = (by_size_with_spare_facts(part) for part in (first, second))
    both = one.to_frame("first").join(other.rename("second"), how="inner")
    seeds = both.groupby("seed_init")
    means = seeds.mean()[seeds.size() == seeds.size().max()]
    return means["first"], means["second"]


def by_size_with_spare_facts(table: "DataFrame") -> "Series":
    """Bits per parameter by layers, width and seed, of configurations with more facts than a model can store."""
    spare = table[table["r_max"] >= MIN_SPARE_BITS]
    return spare.groupby(["layers", "width", "seed_init"])["stored"].mean()


def describe_same_sizes(first: "DataFrame", second: "DataFrame") -> str:
    """The sizes of `stored_at_same_sizes` in words, such as 2 x 16 and 2 x 24."""
    found = [set(by_size_with_spare_facts(part).index.droplevel("seed_init")) for part in (first, second)]
    return " and ".join(f"{layers} x {width}" for layers, width in sorted(found[0] & found[1]))


# ---- figures ---------------------------------------------------------------------------------------------------
STORED_LABEL = "bits stored / parameters"


def seeds_note(table: "DataFrame", *by: str) -> str:
    """The sentence of a caption that says what dots and bars are, with the number of seeds (the least over the groups
    `by`)."""
    n = table.groupby(list(by))["seed_init"].nunique().min()
    return f"Small dots are seeds (n = {n}), large ones their mean; {figures.INTERVALS}."


def describe_setting(table: "DataFrame", place: str) -> str:
    """The start of a caption: the paper's figure or result that ours corresponds to, world, and sizes of models."""
    scale = table["scale"].iloc[0]
    smaller = "" if scale == "paper" else ", at a smaller scale"
    world = "bioS" if scale in ("gpu", "paper") else "bioD, one value of 12 symbols a person"
    return f"Part 3.3, {place}{smaller}: {world}, {describe_sizes(table)}"


def describe_sizes(table: "DataFrame") -> str:
    """The range of model sizes in words, such as 5.1K to 28K parameters."""
    least, most = (format_size(value) for value in (table["parameters"].min(), table["parameters"].max()))
    return f"{least} parameters" if least == most else f"{least} to {most} parameters"


def format_size(parameters: float) -> str:
    """A number of parameters in three digits, such as 7.68K or 12.1M."""
    return f"{parameters / 1e3:.3g}K" if parameters < 999_500 else f"{parameters / 1e6:.3g}M"
