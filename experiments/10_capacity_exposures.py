"""How many bits does a model store per parameter? (claims 3.14, 3.15, 3.21)

Part 3.3 (arXiv 2404.05405), results 1 and 4, Figure 1: models of many sizes read the facts of N people 1000, 100 or 10
times each and are then asked for them. Left: bits learned over parameters, with the paper's lines of 2 bits (1000
exposures) and 1 bit (100). Right: bits learned per parameter (R) over what the data would have allowed (R_max): on the
diagonal everything is stored, and a model's limit shows as a plateau.

What one should see: at 1000 exposures a plateau at two bits, whatever the depth; at 100 half as much; models with more
room than that store everything and no more.

Worlds and cost: smoke, seconds; laptop, bioD with one value of 12 symbols (82 bits a person), 256 to 8192 people,
models of 5K to 28K parameters, ten minutes on two cores; overnight, up to 65,536 people and 105K parameters, two hours
on two cores; gpu, bioS(10K) to bioS(50K), models of 0.3M to 4M, about half an hour with two runs at a time (not
measured); paper, bioS(10K) to bioS(10M), GPT2-2-2 to GPT2-28-20.
"""

from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_capacity
from experiments.harness.papers.part3_capacity import best
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, decides, weigh
from experiments.harness.reporting.stats import Interval, interval
from experiments.harness.run import Run, replicate

NAME = Path(__file__).stem

# Exposures, people, layers, width, batch, rate. The rates are the best of three, tuned on a seed that is not reported
# (docs/journal.md), one for all sizes of a number of exposures.
TINY = {
    "smoke": [(20, 32, 2, 16, 8, 1e-2), (10, 64, 2, 16, 8, 1e-2)],
    "laptop": [
        *((1000, 256, layers, width, 64, 1e-2) for layers, width in ((2, 12), (1, 22), (2, 16), (4, 12), (2, 24))),
        *((1000, 512, 2, width, 64, 1e-2) for width in (24, 32)),
        *((100, 1024, 2, width, 16, 5e-3) for width in (16, 24, 32)),
        (100, 2048, 2, 32, 32, 5e-3),
        (10, 8192, 2, 24, 16, 2.5e-3),
    ],
    "overnight": [
        *((1000, 1024, layers, width, 64, 5e-3) for layers, width in ((2, 24), (2, 32), (4, 24), (2, 48))),
        *((1000, 4096, 2, width, 128, 5e-3) for width in (48, 64)),
        *((100, 8192, 2, width, 32, 5e-3) for width in (32, 48, 64)),
        *((10, 65536, 2, width, 32, 5e-3) for width in (32, 48)),
    ],
}
# Exposures, people, layers, heads of 64.
GPT2 = {
    "gpu": [
        (1000, 10_000, 2, 1), (1000, 20_000, 2, 1), (1000, 20_000, 2, 2),
        (100, 50_000, 2, 2), (100, 50_000, 4, 4),
    ],
    "paper": [
        *((1000, 10_000, layers, heads) for layers, heads in ((2, 2), (4, 2), (2, 3), (2, 4))),
        *((1000, 50_000, layers, heads) for layers, heads in ((4, 2), (2, 4), (4, 4))),
        *((1000, 200_000, layers, heads) for layers, heads in ((4, 4), (6, 4), (12, 4))),
        *((1000, 1_000_000, layers, heads) for layers, heads in ((4, 8), (12, 6), (16, 8))),
        *((1000, 10_000_000, layers, heads) for layers, heads in ((12, 16), (20, 16), (28, 20))),
        *((100, 50_000, layers, heads) for layers, heads in ((2, 4), (4, 4), (6, 4))),
        *((100, 200_000, layers, heads) for layers, heads in ((6, 4), (12, 4), (4, 8))),
        *((100, 1_000_000, layers, heads) for layers, heads in ((4, 8), (16, 8), (12, 12))),
        *((100, 10_000_000, layers, heads) for layers, heads in ((12, 16), (28, 20))),
    ],
}  # fmt: skip


def runs(scale: str) -> list[Run]:
    """Every size with three seeds (one for smoke)."""
    made = [tiny(*spec) for spec in TINY.get(scale, ())] + [gpt2(*spec) for spec in GPT2.get(scale, ())]
    return replicate(made, 1 if scale == "smoke" else 3)


def tiny(exposures: int, people: int, layers: int, width: int, batch: int, lr: float) -> Run:
    """One small model that reads people of bioD so often."""
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch

    task = part3_capacity.tiny_people(people)
    train = part3_capacity.tiny_training(task, exposures, batch, lr)
    tags = {"times": exposures, "people": people, "layers": layers, "width": width}
    return Run(NAME, task, part3_capacity.tiny_model(layers, width), train, (Capacity(),), tags=tags)


def gpt2(exposures: int, people: int, layers: int, heads: int) -> Run:
    """One model of the paper that reads people of bioS so often, is asked what it has stored, and then, after some
    lessons in answering, what of it can be extracted."""
    from probing.capacity.bits_per_parameter import Capacity
    from probing.capacity.extractable_capacity import ExtractableCapacity

    task = part3_capacity.paper_people(people, questions=4)
    train = part3_capacity.paper_training(task, people, exposures)
    tags = {"times": exposures, "people": people, "layers": layers, "width": 64 * heads}
    lessons = 75_000 if people >= 100_000 else 5000
    asked = (Capacity(), ExtractableCapacity(qa_steps=lessons))
    return Run(NAME, task, part3_capacity.paper_model(layers, heads), train, asked, tags=tags)


def figure(table):
    """Figure 1 of the paper: bits learned over parameters, and R over R_max."""
    table = labelled(table)
    fig, (left, right) = figures.canvas(columns=2, width=6.4, height=5.6)
    part3_capacity.bits_panel(left, table, "times", {times: f"{times} exposures" for times in set(table["times"])})
    part3_capacity.saturation_panel(
        right, table, "times", {times: f"{times} exposures" for times in set(table["times"])}
    )
    world = "bioS" if table["scale"].iloc[0] in GPT2 else "bioD, one value of 12 symbols"
    figures.title(
        fig,
        f"Part 3.3, Figure 1: {world}, {table['people'].min():,} to {table['people'].max():,} people, models of "
        f"{part3_capacity.sizes(table)}; {part3_capacity.note(table, 'configuration')}",
    )
    return fig


def labelled(table):
    """The rows that tell what is stored, with a column that names each configuration."""
    table = table[table["r"].notna()]
    names = [f"{r.times} x {r.people}, {r.layers} layers of {r.width}" for r in table.itertuples()]
    return table.assign(configuration=names)


def claims(table) -> list[Claim]:
    """Claims 3.14, 3.15 and 3.21, each against a threshold taken from the paper's statement; smoke decides nothing."""
    table, testable = labelled(table), decides(table)
    often, seldom, hardly = (table[table["times"] == times] for times in (1000, 100, 10))
    made = []

    def add(id: str, statement: str, found: Interval, paper: float | str, threshold: str, **limits: float) -> None:
        made.append(weigh(id, statement, found, paper, threshold, testable, **limits))

    def of_all(part, column: str, which: str) -> Interval:
        return interval(part.groupby("seed_init")[column].agg(which))

    peak = "highest bits a parameter at {} exposures, over sizes".format
    if len(often):
        add("3.14", peak(1000), best(often, "configuration"), 2.0, "at least 2", above=2.0)
        name = "highest bits a parameter among the models of a seed, 1000 exposures"
        add("3.14", name, of_all(often, "r", "max"), 2.3, "at most 2.3", below=2.3)
        deep = often[(often["layers"] > 2) & (often["r_max"] >= part3_capacity.SPARE)]
        if len(deep):
            name = "highest bits a parameter of models of more than two layers, 1000 exposures"
            add("3.14", name, best(deep, "configuration"), 2.0, "at least 2: depth does not matter", above=2.0)
    if len(seldom):
        add("3.15", peak(100), best(seldom, "configuration"), 1.0, "at least 1", above=1.0)
    if len(hardly):
        seed = "not in the paper; the project's seed document: 0.1"
        add("3.15", peak(10), best(hardly, "configuration"), seed, "between 0.05 and 0.2", above=0.05, below=0.2)
    roomy = often[often["r_max"] <= 1.8]
    if len(roomy):
        name = "share of all bits stored where R_max is at most 1.8, 1000 exposures"
        add("3.21", name, of_all(roomy, "r_share", "min"), 1.0, "at least 0.95", above=0.95)
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
