"""How many bits does a model store per parameter? (claims 3.14, 3.15, 3.21)

Part 3.3 (arXiv 2404.05405), results 1 and 4, Figure 1: models of many sizes are trained on the facts of N people, with
1000, 100 or 10 exposures of each, and the bits that they store are measured. Left: bits learned over parameters, with
the paper's lines of 2 bits (1000 exposures) and 1 bit (100). Right: bits learned per parameter (R) over what the data
would have allowed (R_max): on the diagonal everything is stored, and a model's limit shows as a plateau.

What one should see: at 1000 exposures a plateau at two bits, whatever the depth; at 100 half as much; models with more
capacity than the data needs store everything and no more.

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
from experiments.harness.papers.part3_capacity import best_configuration
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList
from experiments.harness.reporting.stats import Interval, interval
from experiments.harness.run import Run, default_seeds, with_seeds

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
    """Every size; three seeds each (one at smoke)."""
    made = [tiny_run(*spec) for spec in TINY.get(scale, ())] + [gpt2_run(*spec) for spec in GPT2.get(scale, ())]
    return with_seeds(made, default_seeds(scale))


def tiny_run(exposures: int, people: int, layers: int, width: int, batch: int, lr: float) -> Run:
    """A small model on people of bioD, each seen `exposures` times."""
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch

    task = part3_capacity.tiny_biod(people)
    train = part3_capacity.tiny_train_config(task, exposures, batch, lr)
    tags = {"times": exposures, "people": people, "layers": layers, "width": width}
    return Run(NAME, task, part3_capacity.tiny_model(layers, width), train, (Capacity(),), tags=tags)


def gpt2_run(exposures: int, people: int, layers: int, heads: int) -> Run:
    """A model of the paper on people of bioS: bits stored, and after finetuning on questions the bits that can be
    extracted."""
    from probing.capacity.bits_per_parameter import Capacity
    from probing.capacity.extractable_capacity import ExtractableCapacity

    task = part3_capacity.paper_bios(people, questions=4)
    train = part3_capacity.paper_train_config(task, people, exposures)
    tags = {"times": exposures, "people": people, "layers": layers, "width": 64 * heads}
    qa_steps = 75_000 if people >= 100_000 else 5000
    evaluations = (Capacity(), ExtractableCapacity(qa_steps=qa_steps))
    return Run(NAME, task, part3_capacity.paper_model(layers, heads), train, evaluations, tags=tags)


def figure(table):
    """Figure 1 of the paper: bits learned over parameters, and R over R_max."""
    table = add_configuration_column(table)
    fig, (left, right) = figures.subplots(columns=2, width=6.4, height=5.6)
    names = {times: f"{times} exposures" for times in set(table["times"])}
    part3_capacity.plot_bits(left, table, "times", names)
    part3_capacity.plot_saturation(right, table, "times", names)
    world = "bioS" if table["scale"].iloc[0] in GPT2 else "bioD, one value of 12 symbols"
    figures.set_title(
        fig,
        f"Part 3.3, Figure 1: {world}, {table['people'].min():,} to {table['people'].max():,} people, models of "
        f"{part3_capacity.describe_sizes(table)}; {part3_capacity.title_note(table, 'configuration')}",
    )
    return fig


def add_configuration_column(table):
    """The rows with stored bits, with a column that names each configuration."""
    table = table[table["r"].notna()]
    names = [f"{r.times} x {r.people}, {r.layers} layers of {r.width}" for r in table.itertuples()]
    return table.assign(configuration=names)


def claims(table) -> list[Claim]:
    """Claims 3.14, 3.15 and 3.21, with thresholds taken from the paper's statements."""
    table, made = add_configuration_column(table), ClaimList(table)
    times_1000, times_100, times_10 = (table[table["times"] == times] for times in (1000, 100, 10))

    def of_all(part, column: str, which: str) -> Interval:
        return interval(part.groupby("seed_init")[column].agg(which))

    peak = "highest bits a parameter at {} exposures, over sizes".format
    if len(times_1000):
        made.add("3.14", peak(1000), best_configuration(times_1000), 2.0, "at least 2", above=2.0)
        name = "highest bits a parameter among the models of a seed, 1000 exposures"
        made.add("3.14", name, of_all(times_1000, "r", "max"), 2.3, "at most 2.3", below=2.3)
        deep = times_1000[(times_1000["layers"] > 2) & (times_1000["r_max"] >= part3_capacity.MIN_SPARE_BITS)]
        if len(deep):
            name = "highest bits a parameter of models of more than two layers, 1000 exposures"
            made.add("3.14", name, best_configuration(deep), 2.0, "at least 2: depth does not matter", above=2.0)
    if len(times_100):
        made.add("3.15", peak(100), best_configuration(times_100), 1.0, "at least 1", above=1.0)
    if len(times_10):
        seed = "not in the paper; the project's seed document: 0.1"
        best = best_configuration(times_10)
        made.add("3.15", peak(10), best, seed, "between 0.05 and 0.2", above=0.05, below=0.2)
    small_data = times_1000[times_1000["r_max"] <= 1.8]
    if len(small_data):
        name = "share of all bits stored where R_max is at most 1.8, 1000 exposures"
        made.add("3.21", name, of_all(small_data, "r_share", "min"), 1.0, "at least 0.95", above=0.95)
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
