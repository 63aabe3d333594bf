"""What does junk among the training data cost? (claim 3.20)

Part 3.3 (arXiv 2404.05405), results 10 to 12, Figures 8 and 9: useful people with 100 to 1000 exposures are mixed with
junk people of one exposure each (half or seven eighths of the documents), or with a few junk people that repeat, and
with a domain token in front of every useful document. Left: the share of the useful bits that is left, against
training without junk and with the same seeds, at the fewest exposures. Right: useful bits per parameter over exposures,
for seven eighths of junk with and without the token.

What one should see: junk that never repeats costs much of the useful capacity (20 times less in the paper at 7/8),
repeated junk little, and a domain token gives most of it back; more exposures make up for a part.

Worlds and cost: smoke, seconds; laptop, 256 people of bioD with one value of 12 symbols, 7.7K parameters, under ten
minutes on two cores; overnight, 1024 people, 28K parameters and up to 1000 exposures, three hours on two cores; gpu,
bioS(10K), about half an hour (not measured); paper, bioS(200K), 100 to 1000 exposures.
"""

from math import isfinite
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_capacity
from experiments.harness.papers.numbers import paper_number
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.rows import mean_by_seed
from experiments.harness.run import Run, default_seeds, with_seeds
from experiments.harness.statistics.estimates import ratio_of
from synth.tasks.bios import BioS
from synth.tasks.junk import JunkD, JunkS

NAME = Path(__file__).stem
# Junk documents for each useful one, whether they repeat, whether useful ones are announced.
CONDITIONS: dict[str, tuple[int, bool, bool]] = {
    "no junk": (0, False, False),
    "1/2 junk": (1, False, False),
    "1/2, token": (1, False, True),
    "7/8 junk": (7, False, False),
    "7/8, token": (7, False, True),
    "7/8 repeated": (7, True, False),
}
# People, people of repeated junk (a fiftieth of the useful, as the paper's 1000 beside 50K), width, and the exposures,
# all conditions at the first and three of them at the others.
TINY = {
    "smoke": (32, 2, 16, (10, 20)),
    "laptop": (256, 5, 16, (100, 300)),
    "overnight": (1024, 20, 32, (100, 300, 1000)),
}
# Batch and rate by junk documents for each useful one: the best of three rates, by the bits that a seed which is not
# reported had learned (docs/journal.md has the grid), with junk those with the domain token. The batch holds fewer
# useful documents the more junk there is, as with the paper's constant batch, but more documents, so that seven eighths
# of junk can be had in a minute.
# Tuned at the laptop; the other scales take the same.
SETTINGS = {0: (8, 1e-2), 1: (16, 5e-3), 7: (32, 2.5e-3)}
# Conditions of the small scales whose settings are not known to be their best: what they lack may be due to these.
UNTUNED = {
    "7/8 junk": "all trials of batch and rate read 0 bits (clamped), so that none could be chosen",
    "7/8 repeated": "batch and rate were chosen for fresh junk, not for this condition",
    "7/8, token": "a batch of 16 stored a quarter more in the trials, but takes longer",
    "1/2 junk": "batch and rate were chosen with the domain token",
}
LARGE = {"gpu": (10_000, 200, (2, 1), (100,)), "paper": (200_000, 1000, (6, 4), (100, 300, 600, 1000))}
CONDITIONS_OVER_EXPOSURES = ("no junk", "7/8 junk", "7/8, token")


def runs(scale: str) -> list[Run]:
    """Every condition at the fewest exposures, three of them at more; three seeds each (one at smoke)."""
    exposures = TINY[scale][3] if scale in TINY else LARGE[scale][3]
    chosen = [(condition, times) for times in exposures for condition in CONDITIONS]
    chosen = [(c, times) for c, times in chosen if times == exposures[0] or c in CONDITIONS_OVER_EXPOSURES]
    make = tiny_run if scale in TINY else large_run
    return with_seeds([make(scale, condition, times) for condition, times in chosen], default_seeds(scale))


def tiny_run(scale: str, condition: str, times: int) -> Run:
    """A small model on people of bioD among junk."""
    people, pool, width, _ = TINY[scale]
    junk, repeated, token = CONDITIONS[condition]
    plain = part3_capacity.tiny_biod(people)
    task = JunkD(**vars(plain), junk=junk, junk_people=pool * repeated, token=token) if junk else plain
    train = part3_capacity.tiny_train_config(task, times, *SETTINGS[junk])
    return _make_run(condition, times, task, people, part3_capacity.tiny_model(2, width), train)


def large_run(scale: str, condition: str, times: int) -> Run:
    """A model of the paper on biographies among junk; a window holds both kinds, which the paper found to be no
    different."""
    people, pool, shape, _ = LARGE[scale]
    junk, repeated, token = CONDITIONS[condition]
    task: BioS = part3_capacity.paper_bios(people)
    if junk:
        task = JunkS(people=people, permute=1, junk=junk, junk_people=pool * repeated, token=token)
    train = part3_capacity.paper_train_config(task, people, times, settings_of_exposures=100)
    return _make_run(condition, times, task, people, part3_capacity.paper_model(*shape), train)


def _make_run(condition: str, times: int, task, people: int, model, train) -> Run:
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch

    tags = {"condition": condition, "times": times, "people": people, "width": model.d_model, "lr": train.lr}
    return Run(NAME, task, model, train, (Capacity(),), tags=tags)


def _paper_share(place: str, condition: str, times: int) -> float:
    """The share of the useful bits that the paper finds left, against 100 exposures without junk."""
    return 1 / paper_number("3.3", place, condition, f"loss at {times} exposures")


PAPER = {
    "7/8 junk": _paper_share("Result 10", "7/8 junk", 100),
    "7/8, token": _paper_share("Result 12", "7/8 junk with a domain token", 100),
    "7/8 repeated": _paper_share("Result 11", "7/8 repeated junk", 100),
}
PAPER_TOKEN_300 = _paper_share("Result 12", "7/8 junk with a domain token", 300)
SEED_DOCUMENT = {"1/2 junk": 0.05, "1/2, token": 0.8}  # shares left, which no paper gives
WORDS = {
    "1/2 junk": "half junk",
    "1/2, token": "half junk,\ndomain token",
    "7/8, token": "7/8 junk,\ndomain token",
    "7/8 repeated": "7/8 junk that\nrepeats",
}


def figure(table):
    """Share of the useful bits left by kind of junk, and useful bits over exposures."""
    table = part3_capacity.add_stored_bits(table)
    fig, (left, right) = figures.subplots(columns=2, width=7.0, height=4.8)
    plot_shares_left(left, table[table["times"] == table["times"].min()])
    plot_exposures(right, table[table["condition"].isin(CONDITIONS_OVER_EXPOSURES)])
    figures.set_title(fig, "What does junk among the training data cost?")
    figures.set_caption(
        fig,
        f"{part3_capacity.describe_setting(table, 'results 10 to 12')}, {table['people'].iloc[0]:,} useful people. "
        f"{untuned_note(table)}{part3_capacity.seeds_note(table, 'condition', 'times')}",
    )
    return fig


def untuned_conditions(table) -> dict[str, str]:
    """The conditions whose batch and rate are not known to be their best at the table's scale, and why."""
    return {} if str(table["scale"].iloc[0]) in LARGE else UNTUNED


def untuned_note(table) -> str:
    """The sentences of the caption on batch and rate; "" where all conditions have the same."""
    shown = [ONE_LINE.get(name, name) for name in CONDITIONS if name in untuned_conditions(table)]
    words = "Batch and learning rate differ between the shares of junk; not known to be the best for"
    return f"{words}: {'; '.join(shown)}. " if shown else ""


def plot_shares_left(axes, first) -> None:
    """The useful bits left under each condition, over those without junk, seed by seed."""
    order = [name for name in CONDITIONS if name in set(first["condition"])]
    clean = mean_by_seed(first, "stored", condition="no junk")
    drawn = figures.plot_means_with_ci(
        axes, first, "condition", "stored", order=order, estimate=lambda stored: ratio_of(stored, clean), labels=WORDS
    )
    paper = [(order.index(name) + 0.3, PAPER[name]) for name in PAPER if name in order]
    if paper:
        figures.plot_paper_crosses(axes, paper, larger_task=True)
    seed = [(order.index(name) + 0.3, SEED_DOCUMENT[name]) for name in SEED_DOCUMENT if name in order]
    if seed:
        figures.plot_paper_crosses(axes, seed, "project's seed document (not in the paper)")
    rates = first.groupby("condition")["lr"].mean()
    names = [f"{WORDS.get(name, name)}\nrate {rates[name]:g}" for name in order]
    axes.set_xticks(range(len(order)), names, fontsize=9)
    axes.set(
        title=f"{first['times'].min()} exposures of the useful people",
        ylabel="useful bits, share of those without junk",
    )
    lows = [0.0, *(found.low for found in drawn.values() if isfinite(found.low))]
    figures.end_axis(axes, min(lows), max([1.0, *(found.mean for found in drawn.values())]))
    figures.legend_outside(axes)


def plot_exposures(axes, part) -> None:
    """Useful bits per parameter over exposures, by condition."""
    part = part.assign(exposure=[f"{times:,} exposures" for times in part["times"]])
    figures.plot_means_with_ci(axes, part, "exposure", "stored", "condition", labels=ONE_LINE)
    held = part["r_max"].mean()
    figures.plot_ceiling(axes, held, "all that the useful facts hold:")
    axes.set(ylabel="useful " + part3_capacity.STORED_LABEL, title="Do more exposures make up for it?")
    figures.end_axis(axes, min(0.0, part["stored"].min()), held)
    figures.legend_outside(axes)


ONE_LINE = {name: words.replace("\n", " ") for name, words in WORDS.items()}
MOST_LEFT = 0.1  # share of the useful bits that junk may leave, where the paper finds .05
MIN_CLEAN_BITS = 1.0  # without junk there must be something to lose: at least what the paper finds at 100 exposures

# Thresholds are from the paper's statements; lines, thresholds and gates were written after the laptop's numbers had
# been seen. The primary line is what fresh junk costs (result 10), the first half of the claim and what the others are
# the remedies of. The paper's 20 times leave .05; a tenth allows for twice that, and still tells it from the 2 times
# that it finds with a token and the 3 times at 300 exposures. The token has three lines: that it helps at all, that it
# brings back about half, and all of it at 300 exposures (result 12). None is decided where a condition that it takes
# is not known to have its best settings.


def claims(table) -> list[Claim]:
    """Claim 3.20, as ratios over the same seeds."""
    made, table = ClaimList(table), part3_capacity.add_stored_bits(table)
    first = table[table["times"] == table["times"].min()]
    clean = mean_by_seed(first, "stored", condition="no junk")
    gates = [Gate("bits per parameter without junk", clean, at_least=MIN_CLEAN_BITS)]
    untuned = untuned_conditions(table)

    def add(condition: str, paper, rule: str, **words) -> None:
        stored, note = mean_by_seed(first, "stored", condition=condition), untuned.get(condition, "")
        if len(stored):
            name = f"share of the useful bits left, {STATED[condition]}"
            made.add("3.20", name, ratio_of(stored, clean), paper, rule, not note, gates=gates, note=note, **words)

    rule = f"below {MOST_LEFT:g}: little more than the paper's {PAPER['7/8 junk']:g}"
    add("7/8 junk", PAPER["7/8 junk"], rule, below=MOST_LEFT, primary=True)
    add("7/8, token", PAPER["7/8, token"], "above 0.4", above=0.4)
    add_token_gain(made, first, clean, gates, untuned)
    add("7/8 repeated", PAPER["7/8 repeated"], "above 0.8: harmless", above=0.8)
    seed = "not in the paper; the project's seed document: {}".format
    add("1/2 junk", seed(SEED_DOCUMENT["1/2 junk"]), f"below {MOST_LEFT:g}", below=MOST_LEFT)
    add("1/2, token", seed(SEED_DOCUMENT["1/2, token"]), "above 0.6", above=0.6)
    more = mean_by_seed(table[table["times"] == 300], "stored", condition="7/8, token")
    if len(more) and table["times"].min() == 100:
        name = "useful bits at 300 exposures with 7/8 junk and a domain token, over 100 exposures without junk"
        note = untuned.get("7/8, token", "")
        made.add("3.20", name, ratio_of(more, clean), PAPER_TOKEN_300, "above 0.8", not note,
                 above=0.8, gates=gates, note=note)  # fmt: skip
    return made


STATED = {
    "7/8 junk": "7/8 junk",
    "7/8, token": "7/8 junk and a domain token",
    "7/8 repeated": "7/8 junk that repeats",
    "1/2 junk": "half junk",
    "1/2, token": "half junk and a domain token",
}


def add_token_gain(made: ClaimList, first, clean, gates: list[Gate], untuned: dict[str, str]) -> None:
    """The line that the domain token gives back something of what 7/8 junk takes."""
    token, junk = (mean_by_seed(first, "stored", condition=condition) for condition in ("7/8, token", "7/8 junk"))
    name = "share of the useful bits left, 7/8 junk: with a domain token minus without"
    gain, paper = ratio_of(token - junk, clean), PAPER["7/8, token"] - PAPER["7/8 junk"]
    if gain:
        note = "; ".join(untuned[condition] for condition in ("7/8 junk", "7/8, token") if condition in untuned)
        made.add("3.20", name, gain, paper, "above 0: the token helps", not note, above=0.0, gates=gates, note=note)


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
