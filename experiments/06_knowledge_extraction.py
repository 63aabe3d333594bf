"""Can a model tell what it has stored? (claims 3.1 to 3.3)

Part 3.1 (arXiv 2309.14316), results 1 to 3, Figure 3: models read biographies and are taught to answer questions about
half of the people; then they are asked about the other half, whose biographies they have read and whose questions
they have not. Teaching is finetuning after the biographies, by LoRA or in full, or questions mixed with biographies
from the start. Biographies have one wording a person, five, or five with the sentences shuffled. From left to right:
answers about held-out people by wording and way of teaching, beside the paper's; the same by attribute, in the order in
which one wording always tells them; and what all of that is not for want of: how much of the values the model holds
before it is taught, and its answers about the people it was taught with.

What one should see: told once, a person is stored in full and can hardly be asked about; the attribute told first fares
best. Many wordings in many orders make everything extractable. In the paper mixing does so without them.

Worlds and cost: smoke, seconds; laptop, 400 people with names of one word, 0.2M parameters, ten minutes on two cores;
overnight, 1600 people with names of three words and nine ways to tell of them, three hours on two cores (not measured);
gpu, 20,000 people, 8 layers of width 512, half an hour (not measured); paper, 100,000 people, GPT-2 small, 80,000 steps
and 50,000 more.
"""

from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_people
from experiments.harness.papers.part3_people import RECIPES
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, decides, weigh
from experiments.harness.reporting.stats import by_seed, interval_if_any, where, with_columns
from experiments.harness.run import Run, replicate
from synth.bio.value_lists import ATTRIBUTES
from synth.tasks.bios import Half

NAME = Path(__file__).stem
SOME = ("single", "multi5", "multi5+permute")
TAUGHT: Half = "first"
HELD_OUT: Half = "second"

# Part 3.1, Figure 3: answers about held-out people, in percent, on average and by attribute in the order of ATTRIBUTES.
# The paper reports the best of finetuning in full and by LoRA of several ranks.
PAPER_FINETUNED = {
    "single": (9.7, 33.5, 6.3, 2.3, 4.0, 1.1, 13.8),
    "single+fullname": (48.9, 56.2, 58.8, 63.0, 55.7, 50.5, 14.1),
    "single+permute1": (4.4, 0.5, 3.3, 2.4, 5.0, 3.5, 13.7),
    "single+permute5": (70.0, 56.4, 57.7, 58.3, 64.9, 90.5, 97.7),
    "multi2": (41.1, 100, 71.7, 33.1, 26.1, 5.2, 14.0),
    "multi5": (41.0, 100, 50.8, 30.9, 43.5, 10.2, 13.8),
    "multi5+fullname": (82.4, 100, 98.6, 88.4, 96.1, 91.9, 26.8),
    "multi5+permute": (96.6, 100, 99.0, 91.3, 97.7, 95.1, 98.7),
    "multi5+permute+fullname": (96.2, 100, 98.7, 90.6, 97.9, 93.7, 99.0),
}
PAPER_MIXED = {
    "single": 86.6, "single+fullname": 85.9, "single+permute1": 82.5, "single+permute5": 93.7, "multi2": 89.2,
    "multi5": 91.8, "multi5+fullname": 92.0, "multi5+permute": 95.5, "multi5+permute+fullname": 95.7,
}  # fmt: skip


def wordings(scale: str) -> tuple[str, ...]:
    """How biographies are worded at a scale."""
    return {"smoke": SOME[::2], "overnight": tuple(part3_people.WORDINGS), "paper": tuple(part3_people.WORDINGS)}.get(
        scale, SOME
    )


def runs(scale: str) -> list[Run]:
    """Every wording, read only and taught in three ways; three seeds each (one for smoke). Finetunings of a wording
    share one training on its biographies."""
    made = [run for wording in wordings(scale) for run in told(scale, wording)]
    return replicate(made, 1 if scale == "smoke" else 3)


def told(scale: str, wording: str) -> list[Run]:
    """One way to tell of people: what a model holds that has read it, and what it answers once taught."""
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch
    from probing.knowledge.extraction import Extraction

    biographies, asked = part3_people.world(scale, wording), part3_people.questions(scale, wording, TAUGHT)
    model, reading = part3_people.model(scale), part3_people.reading(scale)
    examined = (Extraction(half=HELD_OUT), Extraction(half=TAUGHT, people=100, candidates=False))

    def run(recipe: str, task, train, evaluations, **more) -> Run:
        tags = {"wording": wording, "recipe": recipe, "people_told": biographies.people}
        return Run(NAME, task, model, train, evaluations, tags=tags, **more)

    return [
        run("read only", biographies, reading, (Capacity(1000),)),
        *(run(recipe, biographies, reading, examined, then=(part3_people.finetuning(scale, asked, recipe),))
          for recipe in RECIPES[:2]),
        run("mixed", part3_people.mixture(scale, biographies, asked), part3_people.mixing(scale), examined),
    ]  # fmt: skip


# ---- tables ----------------------------------------------------------------------------------------------------
def answers(table, half: str):
    """The rows on one half of the people, with `right`: the share of whole answers that are."""
    asked = {"half", "attribute", "exact", "chance"}
    return where(with_columns(table, asked), evaluation="Extraction", half=half).assign(
        right=lambda rows: rows["exact"]
    )


def stored(table):
    """The share of the values' bits that a model holds which has only read, with its rows."""
    rows = where(with_columns(table, {"value_bits", "value_bits_max"}), evaluation="Capacity")
    return rows.assign(share=rows["value_bits"] / rows["value_bits_max"])


def best_finetuning(table, wording: str):
    """Of finetuning in full and by LoRA the one that answers more about held-out people on average, as the paper
    reports it; right answers by seed."""
    rows = where(answers(table, HELD_OUT), wording=wording, attribute="all")
    found = [by_seed(rows, "right", recipe=recipe) for recipe in RECIPES[:2]]
    return max(found, key=lambda seeds: seeds.mean() if len(seeds) else -1.0)


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figure 3 of the paper, and the controls."""
    fig, (left, middle, right) = figures.canvas(columns=3, width=6.2, height=4.8)
    names = list(dict.fromkeys(table["wording"]))
    wording_panel(left, table, names)
    attribute_panel(middle, table, names)
    control_panel(right, table, names)
    figures.title(fig, part3_people.title(table, "Part 3.1, Figure 3", "wording", "recipe"))
    return fig


def wording_panel(axes, table, names) -> None:
    """Answers about held-out people by wording, a colour a way of teaching; crosses: the paper's."""
    rows = where(answers(table, HELD_OUT), attribute="all")
    figures.points(axes, rows, "wording", "right", "recipe", order=names)
    recipes = list(dict.fromkeys(rows["recipe"]))
    for g, recipe in enumerate(recipes):
        for place, name in enumerate(names):
            paper = PAPER_MIXED[name] if recipe == "mixed" else PAPER_FINETUNED[name][0]
            at = figures.beside(place, g, len(recipes))
            axes.plot([at], [paper / 100], "x", color=figures.PAPER, markersize=8, zorder=4)
    axes.plot([], [], "x", color=figures.PAPER, label="paper (finetuned: the best)")
    if len(rows):
        figures.floor_line(axes, round(rows["chance"].mean(), 3))
    part3_people.wrapped(axes, names)
    axes.set(title="Questions about people never asked about before", ylabel="share answered right", ylim=(-0.02, 1.4))
    part3_people.legend(axes)


def attribute_panel(axes, table, names) -> None:
    """Finetuned by LoRA: the same by attribute, in the order in which an unshuffled biography tells them."""
    rows = answers(table, HELD_OUT)
    rows = rows[(rows["recipe"] == RECIPES[0]) & (rows["attribute"] != "all") & rows["wording"].isin(SOME)]
    order = [name for name in ATTRIBUTES if name in set(rows["attribute"])]
    shown = [name for name in SOME if name in names]
    figures.points(axes, rows, "attribute", "right", "wording", order=order)
    for g, name in enumerate(shown):
        places = {figures.beside(place, g, len(shown)): PAPER_FINETUNED[name][1 + place] / 100
                  for place in range(len(order))}  # fmt: skip
        axes.plot(list(places), list(places.values()), "x", color=figures.PAPER, markersize=7, zorder=4)
    axes.plot([], [], "x", color=figures.PAPER, label="paper")
    axes.set_xticks(range(len(order)), [name.replace(" ", "\n") for name in order], fontsize=9)
    axes.set(title="The same by attribute, finetuned by LoRA", ylabel="share answered right", ylim=(-0.02, 1.4))
    part3_people.legend(axes)


def control_panel(axes, table, names) -> None:
    """What a model holds that has only read, and the answers about people with whom it was taught."""
    import pandas

    parts = [stored(table)[["wording", "seed_init", "share"]].assign(what="values stored, before any question")]
    for recipe in RECIPES:
        rows = where(answers(table, TAUGHT), attribute="all", recipe=recipe)
        rows = rows[["wording", "seed_init", "right"]].rename(columns={"right": "share"})
        parts.append(rows.assign(what=f"people taught with, {recipe}"))
    figures.points(axes, pandas.concat(parts), "wording", "share", "what", order=names)
    part3_people.wrapped(axes, names)
    axes.set(title="What it is not for want of", ylabel="share of bits, or answered right", ylim=(-0.02, 1.4))
    part3_people.legend(axes)


# ---- claims ----------------------------------------------------------------------------------------------------
# From the paper's statements: told once, a person is stored (all of it) and not extractable (9.7%, a fifth at most);
# told in five shuffled wordings nearly everything is (96.6%, most of it), and the gap between the two is most of the
# scale; mixing extracts most from one wording (86.6%).
def claims(table) -> list[Claim]:
    """Claims 3.1 to 3.3; smoke decides nothing."""
    testable, made = decides(table), []

    def add(id: str, statement: str, seeds, paper, threshold: str, **limits: float) -> None:
        made.append(weigh(id, statement, interval_if_any(seeds), paper, threshold, testable, **limits))

    mixed = where(answers(table, HELD_OUT), attribute="all", recipe="mixed")
    once, often = (best_finetuning(table, name) for name in ("single", "multi5+permute"))
    add(
        "3.1",
        "single: share of the values' bits that the model holds before it is taught",
        by_seed(stored(table), "share", wording="single"),
        "all",
        "above 0.95: stored",
        above=0.95,
    )
    add(
        "3.1",
        "single, best finetuning: held-out people answered right",
        once,
        0.097,
        "below 0.2: not extractable",
        below=0.2,
    )
    add(
        "3.2",
        "multi5+permute, best finetuning: held-out people answered right",
        often,
        0.966,
        "above 0.5: most is extractable",
        above=0.5,
    )
    add("3.2", "multi5+permute minus single, best finetuning of each", often - once, 0.869, "above 0.5", above=0.5)
    add(
        "3.3",
        "single, mixed: held-out people answered right",
        by_seed(mixed, "right", wording="single"),
        0.866,
        "above 0.5: most is extracted from one wording",
        above=0.5,
    )
    add(
        "3.3",
        "multi5+permute, mixed: held-out people answered right",
        by_seed(mixed, "right", wording="multi5+permute"),
        0.955,
        "above 0.5",
        above=0.5,
    )
    return made  # fmt: skip


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
