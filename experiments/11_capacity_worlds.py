"""Do two bits a parameter hold whatever the facts look like? (claim 3.16)

Part 3.3 (arXiv 2404.05405), results 2 and 3, Figures 2 and 4: the same law for people with many or few attributes, long
or short values, large or small sets of values and alphabets (bioD), and for biographies in one fixed wording
(bioS-simple), rewritten anew each time (bioR), or cut into other tokens. Each world has as many people as fill its
model 1.3 times (R_max 2.6), so that the model is the limit, and three sizes of model, each at the best of three
learning rates. Bits learned per parameter beside what the data held, world by world.

What one should see: every world near two bits. In models as small as the laptop's, attributes in random order cost
some: what is known of "the third symbol of the second attribute" must then be found from several places. Two controls
say whether that is all: the same facts in a fixed order, and larger models.

Worlds and cost: smoke, seconds; laptop, six bioD worlds with models of 5K, 8K and 16K parameters, 25
core-minutes; overnight, ten bioD worlds with 7.7K, 16K and 28K parameters, and bioS, bioS-simple, bioR and bioS in
byte pairs (37 bits in 60 words a person) with 8K to 22K parameters, five hours on two cores (not measured); gpu, bioD
with 0.1M and the three biographies with 0.3M parameters, about an hour (not measured); paper, bioD with 0.8M to 3.2M
and biographies, also in bytes, with 1.3M to 5.4M parameters.
"""

from functools import partial
from math import inf
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_capacity
from experiments.harness.papers.numbers import paper_number
from experiments.harness.papers.part3_capacity import extreme_of, stored_by
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.rows import mean_by_seed, with_columns
from experiments.harness.run import Run, default_seeds, with_seeds
from experiments.harness.statistics.estimates import Estimate, ratio_of
from synth.tasks.bios import BioS

NAME = Path(__file__).stem
TARGET_BITS_PER_PARAMETER = 2.6  # bits of data per parameter

fill_model = partial(part3_capacity.smallest_task_holding, bits_per_parameter=TARGET_BITS_PER_PARAMETER)
# The dimensions of bioD, changed from the first row: K attributes of C chunks of L symbols out of T, each chunk one of
# D strings. Attributes come in a fresh order in every exposure unless said.
WORLDS: dict[str, dict] = {
    "K=1 C=12 D=64": {},
    "K=2 C=6": {"kinds": 2, "chunks": 6},
    "K=4 C=3": {"kinds": 4, "chunks": 3},
    "K=4 C=3, in order": {"kinds": 4, "chunks": 3, "permute": False},
    "C=3": {"chunks": 3},
    "C=24": {"chunks": 24},
    "D=8": {"set_size": 8},
    "L=2 T=8": {"length": 2, "alphabet": 8},
    "T=16 D=16": {"set_size": 16, "alphabet": 16, "name_alphabet": 16, "name_length": 4},
    "D=512 L=3 T=16": {"set_size": 512, "length": 3, "alphabet": 16, "chunks": 4},
}
BIOGRAPHIES: dict[str, dict] = {"bioS": {"permute": 1}, "bioS-simple": {"wordings": 1}, "bioR": {"style": "prose"}}
BYTE_PAIRS = {"bioS, byte pairs": {"permute": 1, "codec": "bpe:400"}}
BYTES = {"bioS, bytes": {"permute": 1, "codec": "byte"}}
LAPTOP_WORLDS = ("K=1 C=12 D=64", "K=4 C=3", "K=4 C=3, in order", "C=24", "T=16 D=16", "D=512 L=3 T=16")
# Widths of the models of two layers, from small to large; a peak over sizes takes three.
WIDTHS = {"smoke": (16,), "laptop": (12, 16, 24), "overnight": (16, 24, 32)}
BIOGRAPHY_WIDTHS = (12, 16, 24)
RATES = (1e-2, 2e-2, 4e-2)
BIOGRAPHY_RATES = (2.5e-3, 5e-3, 1e-2)
PAPER_RATES = (2.5e-4, 5e-4, 1e-3)  # around the paper's of its grid
PAPER_SHAPES = {"bioD": ((2, 2), (4, 2), (4, 4)), "bioS": ((4, 2), (4, 4), (6, 4))}  # layers and heads of 64
GPU_SHAPES = ((2, 1),)  # one size, at the paper's settings: no peak over sizes
EXPOSURES = {"smoke": 8}  # elsewhere 1000


def runs(scale: str) -> list[Run]:
    """Every world at every size, each at the best of its rates; five seeds each at laptop, one at smoke, else three."""
    made = []
    for width in WIDTHS.get(scale, ()):
        names = {"smoke": LAPTOP_WORLDS[:3], "laptop": LAPTOP_WORLDS}.get(scale, tuple(WORLDS))
        made += [biod_run(scale, width, name) for name in names]
    if scale == "overnight":
        biographies = BIOGRAPHIES | BYTE_PAIRS
        made += [short_biography_run(width, *world) for width in BIOGRAPHY_WIDTHS for world in biographies.items()]
    if scale in ("gpu", "paper"):
        shapes = PAPER_SHAPES if scale == "paper" else dict.fromkeys(PAPER_SHAPES, GPU_SHAPES)
        biographies = BIOGRAPHIES | (BYTES if scale == "paper" else {})
        made += [large_biod_run(scale, *shape, *world) for shape in shapes["bioD"] for world in WORLDS.items()]
        made += [biography_run(scale, *shape, *world) for shape in shapes["bioS"] for world in biographies.items()]
    return with_seeds(made, 5 if scale == "laptop" else default_seeds(scale))


def biod_run(scale: str, width: int, name: str) -> Run:
    """A world of bioD for a small model."""
    model = part3_capacity.tiny_model(2, width)
    task = fill_model(partial(part3_capacity.tiny_biod, **WORLDS[name]), model)
    train = part3_capacity.tiny_train_config(task, EXPOSURES.get(scale, 1000), 64, RATES[0])
    return make_run(name, task, model, train, RATES)


def short_biography_run(width: int, name: str, changes: dict) -> Run:
    """Biographies from short lists, for a model of 8K to 22K parameters."""
    model = part3_capacity.tiny_model(2, width, max_seq_len=512)
    # byte pairs are those of the people: their vocabulary is settled with a few hundred
    task = fill_model(partial(part3_capacity.short_bios, **changes), model, vocabulary_of=500)
    train = part3_capacity.tiny_train_config(task, 1000, batch=8, lr=BIOGRAPHY_RATES[0], window=128)
    return make_run(name, task, model, train, BIOGRAPHY_RATES)


def large_biod_run(scale: str, layers: int, heads: int, name: str, changes: dict) -> Run:
    """A world of bioD for a model of 0.1M parameters (gpu) or 0.8M to 3.2M (paper, with its settings of the grid)."""
    model = part3_capacity.paper_model(layers, heads)
    task = fill_model(partial(part3_capacity.tiny_biod, **{**changes, "name_length": 5}), model, step=100)
    batch = 24 if scale == "gpu" else 192
    train = part3_capacity.paper_train_config(task, task.people, 1000, lr=5e-4, batch_size=batch, weight_decay=0.01)
    return make_run(name, task, model, train, PAPER_RATES if scale == "paper" else ())


def biography_run(scale: str, layers: int, heads: int, name: str, changes: dict) -> Run:
    """bioS, bioS-simple and bioR for a model of 0.3M parameters (gpu) or 1.3M to 5.4M (paper)."""
    model = part3_capacity.paper_model(layers, heads)
    task = fill_model(partial(_make_bios, **changes), model, step=1000)
    train = part3_capacity.paper_train_config(task, task.people, 1000)
    return make_run(name, task, model, train, PAPER_RATES if scale == "paper" else ())


def _make_bios(people: int, **changes) -> BioS:
    return BioS(people=people, **changes)


def make_run(name: str, task, model, train, rates: tuple[float, ...]) -> Run:
    """The run of a world at the best of the rates, with the capacity measured on all of its people."""
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch

    tags = {"world": name, "people": task.people, "layers": model.n_layers, "width": model.d_model}
    grid = part3_capacity.tuned(train, rates) if rates else None
    return Run(NAME, task, model, train, (Capacity(),), tags=tags, grid=grid)


# ---- figure ----------------------------------------------------------------------------------------------------
def figure(table):
    """Bits per parameter by world and size: stored, held by the facts, and the paper's two bits."""
    table = add_size_column(table)
    order, sizes = [world for world in WORDS if world in set(table["world"])], table["size"].nunique()
    fig, (axes,) = figures.subplots(width=min(max(1.5 * len(order) + 2.0, 7.0), 15.0), height=4.8)
    figures.plot_means_with_ci(axes, table, "world", "stored", "size", order=order, labels=WORDS)
    held = [table.loc[table["world"] == world, "r_max"].min() for world in order]
    axes.plot(range(len(order)), held, "_", color=figures.BASELINE_COLOR, markersize=40, markeredgewidth=2)
    axes.plot([], [], "_", color=figures.BASELINE_COLOR, markersize=14, label="what the facts hold")
    figures.plot_paper_line(axes, PAPER_BITS, "paper, larger models:")
    for bases, members in ((BASE, WORLDS), ("bioS", BIOGRAPHIES | BYTE_PAIRS | BYTES)):
        draw_bar(axes, table, bases, [place for place, world in enumerate(order) if world in members])
    axes.set(ylabel=part3_capacity.STORED_LABEL)
    figures.end_axis(axes, min(0.0, float(table["stored"].min())), 3)
    figures.legend_outside(axes)
    figures.set_title(fig, "Do two bits a parameter hold whatever the facts look like?")
    figures.set_caption(fig, caption(table, sizes))
    return fig


def draw_bar(axes, table, base: str, places: list[int]) -> None:
    """A dotted line at nine tenths of the peak of the world compared with, across those held against it."""
    peak = peak_of(table, base)
    if peak is not None and places:
        label = "nine tenths of the first world's best" if base == BASE else None
        axes.hlines(AS_MUCH * peak.mean, min(places) - 0.5, max(places) + 0.5, colors=figures.BASELINE_COLOR,
                    linestyles=":", linewidth=1.8, label=label)  # fmt: skip


def caption(table, sizes: int) -> str:
    """What a world is, exposures, sizes and seeds."""
    people = table.groupby("world")["people"]
    numbers = f"{people.min().min():,} to {people.max().max():,} people"
    rates = "each at the best of its learning rates on another seed" if sizes > 1 else "one size"
    return (
        f"Part 3.3, results 2 and 3. Unless said, people have one attribute, 12 symbols out of 64. {numbers}, as many "
        f"as fill their model 1.3 times, {table['exposures'].mean():.0f} exposures of each; {rates}. "
        f"{part3_capacity.seeds_note(table, 'world', 'size')}"
    )


WORDS = {
    "K=1 C=12 D=64": "one attribute\nof 12 symbols",
    "K=2 C=6": "2 attributes of 6,\nfresh order",
    "K=4 C=3": "4 attributes of 3,\nfresh order",
    "K=4 C=3, in order": "4 attributes of 3,\nfixed order",
    "C=3": "3 symbols",
    "C=24": "24 symbols",
    "D=8": "8 symbols used",
    "L=2 T=8": "symbols spelled\nwith 2 of 8 letters",
    "T=16 D=16": "alphabet of 16",
    "D=512 L=3 T=16": "4 words out of 512,\n3 of 16 letters each",
    "bioS": "biographies",
    "bioS-simple": "biographies,\none wording",
    "bioR": "biographies,\nprose",
    "bioS, byte pairs": "biographies,\nbyte pairs",
    "bioS, bytes": "biographies,\nbytes",
}
PAPER_BITS = paper_number("3.3", "Result 3", "bioD, whole grid", "bits a parameter")
BASE = LAPTOP_WORLDS[0]
MIN_SIZES = 3  # a peak over sizes takes three; fewer cannot say what a world could store
MIN_RATES = 3  # a world is at its best where it has the best of so many
# A size that stores a twentieth more per parameter than the next smaller is not yet the peak. A tenth was written
# first; laptop's weakest world rose by 9.9% (the first by 2.8%), and the limit was lowered, which only withholds.
STILL_RISING = 1.05
AS_MUCH = 0.9  # a world that stores nine tenths of what the world compared with does is taken as no worse


def add_size_column(table):
    """The rows with stored bits (column `stored`), and the size in words, rank by rank: worlds differ in vocabulary."""
    table = part3_capacity.add_stored_bits(table)
    shapes = table["layers"].astype(str) + " x " + table["width"].astype(str)
    sizes = {shape: part3_capacity.describe_sizes(part) for shape, part in table.groupby(shapes)}
    return table.assign(size=shapes + ": " + shapes.map(sizes)).sort_values("parameters", kind="stable")


# ---- claims ----------------------------------------------------------------------------------------------------
# Lines, thresholds and gates were written when a smaller table and trials on other seeds had been seen, and before the
# seeds that are reported. Results 2 and 3 say that every world's peak over sizes reaches two bits. How many bits our
# first world reaches depends on our sizes and trainings, so the primary line is whether the world that stores least
# stores nine tenths of what the first does, each at its best size and rate; that it reaches two bits is a line beside
# it. Biographies are held against bioS in fresh wordings. What a larger model adds is no statement of the paper: where
# a world falls short, it says whether the model's size is what is missing.


def claims(table) -> list[Claim]:
    """Claim 3.16."""
    table, made = add_size_column(table), ClaimList(table)
    first = Gate("bits per parameter of the first world", peak_of(table, BASE), at_least=AS_MUCH * PAPER_BITS)
    gates = [*tuning_gates(table), first, *rising_gates(table)]
    worlds = list(dict.fromkeys(table["world"]))
    ratios = [ratio for world in worlds if (ratio := peak_ratio(table, world, BASE)) is not None]
    peaks = [peak for world in worlds if (peak := peak_of(table, world)) is not None]
    name = "bits per parameter at 1000 exposures of the world that stores least"
    made.add("3.16", f"{name}, over those of the first world", extreme_of(ratios, min), "2 bits in every world",
             f"at least {AS_MUCH:g}", above=AS_MUCH, primary=True, gates=gates,
             note=f"worlds beside the first: {len(ratios)}")  # fmt: skip
    made.add("3.16", f"{name}, at its best size", extreme_of(peaks, min), PAPER_BITS, "at least 2", above=PAPER_BITS,
             gates=gates)  # fmt: skip
    for world, words in (COMPARED | BIOGRAPHY_LINES).items():
        add_ratio(made, table, world, words)
    for world in SHOW_GROWTH:
        add_growth(made, table, world)
    return made


COMPARED = {
    "K=2 C=6": "bits per parameter of two attributes in a fresh order every time, over the first world",
    "K=4 C=3": "bits per parameter of four attributes in a fresh order every time, over the first world",
    "K=4 C=3, in order": "bits per parameter of four attributes in a fixed order, over the first world",
    "C=3": "bits per parameter of 3 symbols, over the first world",
    "C=24": "bits per parameter of 24 symbols, over the first world",
    "D=8": "bits per parameter of 12 symbols of which 8 are used, over the first world",
    "L=2 T=8": "bits per parameter of 12 symbols that are spelled with two letters each, over the first world",
    "T=16 D=16": "bits per parameter of 12 symbols out of 16, over the first world",
    "D=512 L=3 T=16": "bits per parameter of 4 words out of 512, spelled with three letters each, over the first world",
}
BIOGRAPHY_LINES = {
    "bioS-simple": "bits per parameter, biographies in one wording over fresh wordings",
    "bioR": "bits per parameter, biographies rewritten as prose over fresh wordings",
    "bioS, byte pairs": "bits per parameter, biographies in byte pairs over words",
    "bioS, bytes": "bits per parameter, biographies in bytes over words",
}

# Worlds that small models found hard before: the control is whether larger models come nearer.
SHOW_GROWTH = ("K=4 C=3", "D=512 L=3 T=16")


def tuning_gates(table) -> list[Gate]:
    """Every world must have been tried at several sizes, each at the best of several rates."""
    sizes = float(table.groupby("world")["size"].nunique().min())
    rates = float(with_columns(table, {"grid_size"})["grid_size"].fillna(1).min())
    return [
        Gate("sizes of model tried in every world", sizes, at_least=MIN_SIZES),
        Gate("learning rates tried at every size", rates, at_least=MIN_RATES),
    ]


def rising_gates(table) -> list[Gate]:
    """The world that stores least must be near its peak. Where its largest model stores clearly more per parameter
    than the next smaller one, larger ones may store more yet, and these sizes cannot tell."""
    peaks = {world: peak for world in set(table["world"]) if (peak := peak_of(table, world)) is not None}
    if not peaks:
        return []
    least = min(peaks, key=lambda world: peaks[world].mean)
    bits = table[table["world"] == least].groupby("size", sort=False)["stored"].mean()
    if len(bits) < 2:
        return []
    name = f"bits per parameter of the largest model over the next smaller, the world that stores least ({least})"
    rise = bits.iloc[-1] / bits.iloc[-2] if bits.iloc[-2] > 0 else inf
    return [Gate(name, rise, at_most=STILL_RISING)]


def peak_of(table, world: str) -> Estimate | None:
    """Bits per parameter of a world at its best size."""
    return extreme_of(stored_by(table[table["world"] == world], "size").values(), max)


def peak_ratio(table, world: str, base: str) -> Estimate | None:
    """The best of a world's sizes over the base's best size, paired by seed. The base's best is by luck the best as
    well, which counts against the world."""
    means = table[table["world"] == base].groupby("size")["stored"].mean()
    if not len(means) or world == base:
        return None
    bottom = mean_by_seed(table, "stored", world=base, size=means.idxmax())
    sizes = dict.fromkeys(table.loc[table["world"] == world, "size"])
    ratios = [ratio_of(mean_by_seed(table, "stored", world=world, size=size), bottom) for size in sizes]
    return extreme_of([one for one in ratios if one is not None], max)


def add_ratio(made: ClaimList, table, world: str, words: str) -> None:
    """The line that a world stores as much as the one it is held against, if both were run."""
    base = "bioS" if world in BIOGRAPHY_LINES else BASE
    if (ratio := peak_ratio(table, world, base)) is not None:
        learned = Gate("bits per parameter of the world compared with", peak_of(table, base), AS_MUCH * PAPER_BITS)
        made.add("3.16", words, ratio, "2 bits in both", f"at least {AS_MUCH:g}: no worse", above=AS_MUCH,
                 gates=[*tuning_gates(table), learned])  # fmt: skip


def add_growth(made: ClaimList, table, world: str) -> None:
    """What the largest model of a world stores per parameter over the smallest: is size what it lacks?"""
    sizes = list(dict.fromkeys(table.loc[table["world"] == world, "size"]))
    if len(sizes) > 1:
        small, large = (mean_by_seed(table, "stored", world=world, size=sizes[end]) for end in (0, -1))
        name = f"{COMPARED[world].split(', over')[0]}, the largest model over the smallest"
        made.add("3.16", name, ratio_of(large, small), "not in the paper", "above 1: size is what small models lack",
                 above=1.0, gates=tuning_gates(table))  # fmt: skip


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
