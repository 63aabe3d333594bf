"""How many bits does a model store per parameter? (claims 3.14, 3.15, 3.21, 3.22)

Part 3.3 (arXiv 2404.05405), results 1, 1b and 4, Figure 1: models of many sizes are trained on the facts of N people,
each seen a counted number of times, and the bits that they store are measured. A column for each number of exposures.
Above: bits stored over parameters, a colour for each N with a line at all that its facts hold, and the paper's lines of
2 bits and 1 bit per parameter. Below: the same per parameter. Where bits that questions bring out were measured, they
stand in a column of their own, beside those stored.

What one should see: at 1000 exposures points follow the line of two bits, whatever the depth, until they meet the line
of their N, which none can cross; at 100 exposures one bit; at 10 almost nothing.

Worlds and cost: every size has the best of three or four rates, chosen on a seed that is not reported. smoke, seconds;
laptop, bioD with one value of 12 symbols (90 bits less log2 N a person), 256 to 16,384 people, models of 2K to 104K
parameters, 25 core-minutes; overnight, up to 65,536 people and 0.4M parameters, with shapes of two, four and
eight layers, and 1500 people of bioS from short lists who are asked about, about five hours on two cores (not
measured); gpu, bioS(10K) to bioS(50K), models of 0.3M to 4M, about half an hour with two runs at a time (not measured);
paper, bioS(10K) to bioS(10M), GPT2-2-2 to GPT2-28-20.
"""

from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_capacity, part3_capacity_figure
from experiments.harness.papers.numbers import paper_number
from experiments.harness.papers.part3_capacity import extreme_of, stored_by
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.rows import select_rows, with_columns
from experiments.harness.run import Run, default_seeds, with_seeds
from experiments.harness.statistics.estimates import Estimate, mean_of, ratio_of

NAME = Path(__file__).stem

# Batch and learning rates to choose from, by exposures: with few exposures, small batches make them many steps.
TRAINING = {
    1000: (64, (1e-2, 2e-2, 4e-2)),
    300: (32, (2.5e-3, 5e-3, 1e-2)),
    100: (16, (2.5e-3, 5e-3, 1e-2)),
    30: (16, (1e-3, 2e-3, 4e-3)),
    10: (16, (5e-4, 1e-3, 2e-3, 4e-3)),
}
# Exposures, people, layers, width. Shapes of equal size and more facts than they hold say what depth does.
TINY = {
    "smoke": [(100, 32, 2, 16), (10, 64, 2, 16)],
    "laptop": [
        *((1000, 256, 2, width) for width in (8, 12, 16, 24, 32)),
        *((1000, 576, layers, width) for layers, width in ((2, 24), (4, 16))),
        *((300, 1024, 2, width) for width in (16, 24)),
        *((100, 2048, 2, width) for width in (16, 24, 32)),
        *((30, 4096, 2, width) for width in (16, 32)),
        *((10, people, 2, width) for people, width in ((8192, 16), (8192, 32), (8192, 64), (16384, 32))),
    ],
    "overnight": [
        *((1000, 256, 2, width) for width in (8, 12, 16, 24, 32)),
        *((1000, 1024, layers, width) for layers, width in ((2, 16), (2, 24), (2, 32), (4, 24), (8, 16), (2, 48))),
        *((300, 2048, 2, width) for width in (16, 24, 32, 48, 64)),
        *((100, 8192, 2, width) for width in (24, 32, 48, 64, 96)),
        *((30, 16384, 2, width) for width in (24, 32, 64)),
        *((10, people, 2, width) for people in (16384, 65536) for width in (32, 64, 128)),
    ],
}  # fmt: skip
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


# Widths of the models whose people are asked about, from too small for the facts to more than large enough.
EXTRACTION_WIDTHS = (16, 24, 32, 48)


def runs(scale: str) -> list[Run]:
    """Every size; five seeds each at laptop, one at smoke, else three."""
    made = [tiny_run(scale, *spec) for spec in TINY.get(scale, ())] + [gpt2_run(*spec) for spec in GPT2.get(scale, ())]
    if scale == "overnight":
        made += [extraction_run(width) for width in EXTRACTION_WIDTHS]
    return with_seeds(made, 5 if scale == "laptop" else default_seeds(scale))


def tiny_run(scale: str, exposures: int, people: int, layers: int, width: int) -> Run:
    """A small model on people of bioD, each seen `exposures` times, at the best of its rates."""
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch

    task, (batch, rates) = part3_capacity.tiny_biod(people), TRAINING[exposures]
    if scale == "overnight":  # larger models take lower rates
        rates = (rates[0] / 2, *rates)
    train = part3_capacity.tiny_train_config(task, exposures, batch, rates[0])
    tags = {"times": exposures, "people": people, "layers": layers, "width": width, "world": "bioD"}
    model = part3_capacity.tiny_model(layers, width)
    return Run(NAME, task, model, train, (Capacity(),), tags=tags, grid=part3_capacity.tuned(train, rates))


def extraction_run(width: int, people: int = 1500) -> Run:
    """A small model on biographies from short lists, 1000 exposures: bits stored, and bits that questions bring out."""
    from probing.capacity.bits_per_parameter import Capacity

    task = part3_capacity.short_bios(people, permute=1, questions=2)
    model = part3_capacity.tiny_model(2, width, max_seq_len=512)
    train = part3_capacity.tiny_train_config(task, 1000, batch=8, lr=5e-3, window=128)
    tags = {"times": 1000, "people": people, "layers": 2, "width": width, "world": "bioS"}
    evaluations = (Capacity(), *extractions(qa_steps=4000, qa_batch=32, qa_window=128))
    return Run(NAME, task, model, train, evaluations, tags=tags, grid=part3_capacity.tuned(train, (2.5e-3, 5e-3, 1e-2)))


def extractions(**settings) -> tuple:
    """The finetunings on questions of which the best counts: by LoRA of two pairs of ranks, and of all weights with
    biographies mixed in."""
    from probing.capacity.extractable_capacity import ExtractableCapacity

    low_rank = (ExtractableCapacity(*ranks, qa_lr=3e-3, **settings) for ranks in ((4, 16), (8, 32)))
    return (*low_rank, ExtractableCapacity(0, 0, biography_share=0.5, qa_lr=1e-3, **settings))


def gpt2_run(exposures: int, people: int, layers: int, heads: int) -> Run:
    """A model of the paper on people of bioS: bits stored, and after finetuning on questions the bits that can be
    extracted."""
    from probing.capacity.bits_per_parameter import Capacity
    from probing.capacity.extractable_capacity import ExtractableCapacity

    task = part3_capacity.paper_bios(people, questions=4)
    train = part3_capacity.paper_train_config(task, people, exposures)
    tags = {"times": exposures, "people": people, "layers": layers, "width": 64 * heads, "world": "bioS"}
    qa_steps = 75_000 if people >= 100_000 else 5000
    evaluations = (Capacity(), ExtractableCapacity(qa_steps=qa_steps))
    return Run(NAME, task, part3_capacity.paper_model(layers, heads), train, evaluations, tags=tags)


# ---- tables ----------------------------------------------------------------------------------------------------
def add_configuration_column(table):
    """The rows with stored bits (column `stored`), with a column that names each configuration."""
    table = part3_capacity.add_stored_bits(table)
    names = [f"{r.times} x {r.people}, {r.layers} layers of {r.width}" for r in table.itertuples()]
    return table.assign(configuration=names)


def law_rows(table):
    """The rows of `add_configuration_column` that the law is read from: of bioD, where it was run, else of bioS."""
    table = add_configuration_column(table)
    tiny = table[with_columns(table, {"world"})["world"] != "bioS"]
    return tiny if len(tiny) else table


def extraction_rows(table):
    """The rows on what questions bring out, with bits per parameter `stored` and `extracted`, both without pronouns;
    of each configuration those of the finetuning that brings out most, as the paper counts the best pair of ranks."""
    columns = {"extract_bits_unclamped", "stored_bits_unclamped", "extract_exact_trained", "rank", "embed_rank"}
    columns |= {"biography_share", "evaluation"}
    rows = select_rows(with_columns(table, columns), evaluation="ExtractableCapacity")
    per_parameter = {
        name: rows[f"{bits}_bits_unclamped"] / rows["parameters"]
        for name, bits in {"stored": "stored", "extracted": "extract"}.items()
    }
    names = [f"{r.times} x {r.people}, {r.layers} layers of {r.width}" for r in rows.itertuples()]
    rows = rows.assign(**per_parameter, configuration=names).fillna({"biography_share": 0.0})
    kinds = ["configuration", "rank", "embed_rank", "biography_share"]
    means = rows.groupby(kinds)["extracted"].mean().reset_index()
    best = means.loc[means.groupby("configuration")["extracted"].idxmax(), kinds]
    return rows.merge(best, on=kinds)


# ---- figure ----------------------------------------------------------------------------------------------------
def figure(table):
    """Figure 1 of the paper, a column for each number of exposures: bits over parameters, and bits per parameter."""
    law, asked = law_rows(table), extraction_rows(table)
    columns = sorted(set(law["times"]))
    number = len(columns) + (len(asked) > 0)
    fig, panels = figures.subplots(number, rows=2, width=3.6 if number < 6 else 3.1, height=3.7)
    above, below = panels[:number], panels[number:]
    hues = part3_capacity_figure.people_colors([*law["people"], *asked["people"]])
    part3_capacity_figure.explain(above[0], hues)
    for times, top, bottom in zip(columns, above, below, strict=False):
        part = law[law["times"] == times]
        part3_capacity_figure.size_axis(top, law["parameters"])
        part3_capacity_figure.size_axis(bottom, law["parameters"])
        part3_capacity_figure.plot_bits_over_size(top, part, hues, part3_capacity_figure.bits_range(law))
        part3_capacity_figure.plot_bits_per_parameter(bottom, part, hues)
        top.set_title(f"{times:,} exposures")
    if len(asked):
        part3_capacity_figure.plot_extraction(above[-1], below[-1], asked, hues, PAPER_LOSS)
    above[0].set_ylabel("bits stored")
    below[0].set_ylabel(part3_capacity.STORED_LABEL)
    figures.share_legend(fig)
    figures.set_title(fig, "How many bits does a parameter hold?")
    figures.set_caption(fig, caption(table, law))
    return fig


def caption(table, law) -> str:
    """World, sizes, rates and seeds."""
    setting, seeds = part3_capacity.describe_setting(law, "Figure 1"), part3_capacity.seeds_note(law, "configuration")
    tuned = "each at the best of its learning rates on another seed" if "lr" in table else "at the paper's rates"
    return (
        f"{setting}, {tuned}. {seeds} Above, triangles at the bottom are at or below it, as a model that is surer than "
        "it should be stores less than nothing; squares have four layers, pentagons eight or more."
    )


# ---- claims ----------------------------------------------------------------------------------------------------
PAPER_LIMIT = paper_number("3.3", "Result 1", "1000 exposures", "most bits of any model")
PAPER_LOSS = paper_number("3.3", "Result 1b", "1000 exposures", "stored over extractable")
MIN_DEEP_WIDTH = 16  # a deep model that is narrower shows the width's limit and not the depth's
ALL_STORED = 0.95  # share of its facts from which on the facts are the limit and not the model
AS_MUCH = 0.9  # nine tenths of what another stores is taken as no less
SAME_SIZE = 0.15  # shapes whose numbers of parameters differ by less are of one size
ANSWERED = 0.9  # share of the answers that a model finetuned on them must give

# Thresholds are from the paper's statements. Lines, thresholds and gates were written when a smaller table and trials
# on other seeds had been seen, and before the seeds that are reported. Primary lines:
# 3.14  the peak over sizes at 1000 exposures, as result 1 states it. That no model stores more than 2.3, that sizes
#       with too many facts lie on a plateau, and that depth does not matter are parts of the same result.
# 3.15  the peak over sizes at 100 exposures, which result 4 says is at least one bit. That it is half of what 1000
#       exposures give, a law of the number of exposures, is a line of its own: a peak far above one bit passes the
#       first and fails the second. 10 exposures stand in the project's seed document alone.
# 3.21  the share of the facts that is stored where there are few of them (result 1: R is R_max where R_max <= 1.8).
# 3.22  bits stored over bits brought out, of the size that loses most (result 1b: at most 1.2 times, at the boundary).


def claims(table) -> list[Claim]:
    """Claims 3.14, 3.15, 3.21 and 3.22."""
    law, made = law_rows(table), ClaimList(table)
    times_1000, times_100, times_10 = (law[law["times"] == times] for times in (1000, 100, 10))
    if len(times_1000):
        add_law(made, times_1000)
    if len(times_100):
        add_hundred_exposures(made, times_100, times_1000)
    if len(times_10):
        add_ten_exposures(made, times_10)
    small_data = times_1000[times_1000["r_max"] <= 1.8]
    if len(small_data):
        name = "least share of the facts that is stored, where they hold at most 1.8 bits per parameter, 1000 exposures"
        column = "share stored where the data holds at most 1.8 bits a parameter"
        paper = paper_number("3.3", "Result 1", "1000 exposures", column)
        note = f"configurations with so few facts: {small_data['configuration'].nunique()}"
        made.add("3.21", name, least_share(small_data), paper, f"at least {ALL_STORED:g}",
                 above=ALL_STORED, primary=True, note=note)  # fmt: skip
    if len(asked := extraction_rows(table)):
        add_extraction(made, asked)
    return made


def add_law(made: ClaimList, part) -> None:
    """The lines of claim 3.14."""
    paper, found, gates = part3_capacity.PAPER_BITS_PER_PARAMETER[1000], peak(part), room_gates(part)
    name = "most bits per parameter of any size at 1000 exposures"
    made.add("3.14", name, found, paper, "at least 2", above=2.0, primary=True, gates=gates)
    made.add("3.14", f"{name}: is it within the paper's limit?", found, PAPER_LIMIT, f"at most {PAPER_LIMIT:g}",
             below=PAPER_LIMIT, gates=gates)  # fmt: skip
    spare = part[part["r_max"] >= part3_capacity.MIN_SPARE_BITS]
    if (sizes := spare["configuration"].nunique()) >= part3_capacity.MIN_SIZES_OF_A_LAW:
        name = "least bits per parameter of any size with more facts than it can hold, 1000 exposures"
        least = extreme_of(stored_by(spare, "configuration").values(), min)
        made.add("3.14", name, least, "a plateau at 2 (Figure 1)", f"at least {AS_MUCH * paper:g}: nine tenths of 2",
                 above=AS_MUCH * paper, note=f"sizes: {sizes}")  # fmt: skip
    add_depth(made, spare)


def add_depth(made: ClaimList, spare) -> None:
    """Claim 3.14: deep models against models of two layers of the same size on the same people."""
    ratios, shapes, flat_bits = [], [], []
    for (people, layers, width), deep in spare[spare["layers"] > 2].groupby(["people", "layers", "width"]):
        flat = spare[(spare["layers"] == 2) & (spare["people"] == people)]
        flat = flat[abs(flat["parameters"] / deep["parameters"].mean() - 1) <= SAME_SIZE]
        if len(flat) and width >= MIN_DEEP_WIDTH:
            top, bottom = (rows.groupby("seed_init")["stored"].mean() for rows in (deep, flat))
            ratios.append(ratio_of(top, bottom))
            flat_bits.append(bottom.mean())
            shapes.append(f"{layers} x {width} over 2 x {flat['width'].iloc[0]}")
    if found := [one for one in ratios if one is not None]:
        name = "bits per parameter of a deeper model over those of two layers of the same size, 1000 exposures"
        base = Gate("bits per parameter of two layers", min(flat_bits), at_least=1.0)
        made.add("3.14", name, extreme_of(found, min), "2 bits in both", f"at least {AS_MUCH:g}: depth takes nothing",
                 above=AS_MUCH, gates=[base], note=f"shapes (layers x width): {', '.join(shapes)}")  # fmt: skip


def add_hundred_exposures(made: ClaimList, part, times_1000) -> None:
    """Claim 3.15: the peak at 100 exposures, and what is stored there over what is stored at 1000."""
    name, paper = "most bits per parameter of any size at 100 exposures", part3_capacity.PAPER_BITS_PER_PARAMETER
    made.add("3.15", f"{name}: is it at least one bit?", peak(part), paper[100], "at least 1",
             above=1.0, primary=True, gates=room_gates(part))  # fmt: skip
    few, many = part3_capacity.stored_at_same_sizes(part, times_1000)
    if len(few):
        name = "bits per parameter at 100 exposures over those at 1000, mean of the sizes that were run at both"
        sizes = part3_capacity.describe_same_sizes(part, times_1000)
        note = f"sizes (layers x width): {sizes}; numbers of people not matched"
        made.add("3.15", name, ratio_of(few, many), paper[100] / paper[1000], "between 0.4 and 0.6: half",
                 above=0.4, below=0.6, note=note)  # fmt: skip


def add_ten_exposures(made: ClaimList, part) -> None:
    """Claim 3.15 at 10 exposures, where bits per parameter also depend on the number of people."""
    sizes = part["parameters"].nunique()
    several = sizes >= part3_capacity.MIN_SIZES_OF_A_LAW
    note = "" if several else f"sizes tried: {sizes}; a peak over sizes takes {part3_capacity.MIN_SIZES_OF_A_LAW}"
    made.add(
        "3.15", "most bits per parameter of any size at 10 exposures", peak(part),
        "not in the paper; the project's seed document: 0.1", "between 0.05 and 0.2", several,
        above=0.05, below=0.2, gates=room_gates(part), note=note,
    )  # fmt: skip
    few, many = more_people(part)
    if len(few):
        name = "bits per parameter at 10 exposures with more people over those with fewer, the same model"
        sizes = " over ".join(f"{rows['people'].iloc[0]:,}" for rows in (many, few))
        below, above = (rows.set_index("seed_init")["stored"] for rows in (few, many))
        learned = Gate("bits per parameter with fewer people", below, at_least=MIN_TEN)
        made.add("3.15", name, ratio_of(above, below), "not in the paper", "at least 1.1: no law of sizes alone",
                 above=1.1, gates=[learned], note=f"people: {sizes}")  # fmt: skip


MIN_TEN = 0.02  # a model that stores less is at its floor, and a ratio to it says nothing


def more_people(part):
    """The rows of one shape with the fewest and with the most people it was run with; empty if it has one world."""
    worlds = part.groupby(["layers", "width"])["people"].nunique()
    if worlds.max() < 2:
        return part.iloc[:0], part.iloc[:0]
    layers, width = worlds.idxmax()
    rows = select_rows(part, layers=layers, width=width)
    return rows[rows["people"] == rows["people"].min()], rows[rows["people"] == rows["people"].max()]


def add_extraction(made: ClaimList, asked) -> None:
    """Claim 3.22, from the rows of `extraction_rows`."""
    losses, sizes = [], list(asked.groupby("configuration"))
    for _, rows in sizes:
        seeds = rows.groupby("seed_init")
        losses.append(ratio_of(seeds["stored"].mean(), seeds["extracted"].mean()))
    answers = asked.loc[asked["parameters"] == asked["parameters"].max(), "extract_exact_trained"].mean()
    most = asked.groupby("configuration")["stored"].mean().max()
    least = asked.groupby("configuration")["extracted"].mean().min()  # below 0 a ratio says nothing
    gates = [
        Gate("sizes of model asked", float(len(sizes)), at_least=part3_capacity.MIN_SIZES_OF_A_LAW),
        Gate("bits stored per parameter, of the size with most", most, at_least=1.0),
        Gate("bits brought out per parameter, of the size with least", least, at_least=MIN_TEN),
        Gate("answers about the people of its questions, largest model", answers, at_least=ANSWERED),
    ]
    name = "bits stored over bits that questions bring out, of the size that loses most, 1000 exposures"
    found = extreme_of([one for one in losses if one is not None], max)
    made.add("3.22", name, found, PAPER_LOSS, f"at most {PAPER_LOSS:g}", below=PAPER_LOSS, primary=True, gates=gates,
             note="best of the finetunings on questions for each size, as in the paper")  # fmt: skip


def peak(part) -> Estimate | None:
    """Bits per parameter of the configuration that stores most."""
    return extreme_of(stored_by(part, "configuration").values(), max)


def least_share(part) -> Estimate | None:
    """Share of the facts' bits that is stored by the configuration that stores the least of them."""
    share = part["stored"] / part["r_max"]
    found = [
        mean_of(one.groupby(part["seed_init"]).mean(), high=1.0) for _, one in share.groupby(part["configuration"])
    ]
    return extreme_of([one for one in found if one is not None], min)


def room_gates(part) -> list[Gate]:
    """The configuration that stores most must have had more to learn than it stored."""
    best = part[part["configuration"] == part.groupby("configuration")["stored"].mean().idxmax()]
    held, share = best["r_max"].mean(), best["stored"].mean() / best["r_max"].mean()
    return [
        Gate("bits of facts for each parameter of the size that stores most", held, part3_capacity.MIN_SPARE_BITS),
        Gate("share of its facts that this size stores", share, at_most=ALL_STORED),
    ]


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
