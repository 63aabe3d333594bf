"""Can a model tell what it has stored? (claims 3.1 to 3.3)

Part 3.1 (arXiv 2309.14316), results 1 to 3, Figure 3: models are trained on biographies and learn to answer questions
about half of the people; then they are tested on the other half, whose biographies they have seen and whose questions
they have not. Questions come in finetuning after the biographies, by LoRA or in full, or mixed with the biographies
from the start. Biographies have one wording a person, five, or five with the sentences shuffled. From left to right:
answers about held-out people by wording and training, beside the paper's; the same by attribute, in the order of an
unshuffled biography; and two controls: the share of the values that the model holds before it sees questions, and its
answers about the people of its training questions.

What one should see: facts told in one wording are stored in full and can hardly be extracted; the first attribute fares
best. Many wordings in many orders make everything extractable. In the paper mixed training does so without them.

Worlds and cost: smoke, seconds; laptop, 400 people with names of one word, 0.2M parameters, ten minutes on two cores;
overnight, 1600 people with names of three words and nine wordings, three hours on two cores (not measured); gpu, 20,000
people, 8 layers of width 512, half an hour (not measured); paper, 100,000 people, GPT-2 small, 80,000 steps and 50,000
more.
"""

from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_people
from experiments.harness.papers.part3_people import RECIPES
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList
from experiments.harness.reporting.stats import mean_by_seed, select_rows, with_columns
from experiments.harness.run import Run, default_seeds, with_seeds
from synth.bio.value_lists import ATTRIBUTES
from synth.tasks.bios import Half

NAME = Path(__file__).stem
MAIN_WORDINGS = ("single", "multi5", "multi5+permute")
TRAINED_HALF: Half = "first"
HELD_OUT_HALF: Half = "second"

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


def scale_wordings(scale: str) -> tuple[str, ...]:
    """The wordings of biographies at a scale."""
    every = tuple(part3_people.WORDINGS)
    return {"smoke": MAIN_WORDINGS[::2], "overnight": every, "paper": every}.get(scale, MAIN_WORDINGS)


def runs(scale: str) -> list[Run]:
    """Every wording, trained on biographies alone and with questions in three ways (RECIPES); three seeds each (one at
    smoke).

    Finetunings of a wording share one training on its biographies.
    """
    made = [run for wording in scale_wordings(scale) for run in runs_for_wording(scale, wording)]
    return with_seeds(made, default_seeds(scale))


def runs_for_wording(scale: str, wording: str) -> list[Run]:
    """The runs on one wording: bits stored after biographies alone, and answers after each recipe."""
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch
    from probing.knowledge.extraction import Extraction

    biographies = part3_people.biography_task(scale, wording)
    questions = part3_people.question_task(scale, wording, TRAINED_HALF)
    model, pretraining = part3_people.make_model_config(scale), part3_people.pretrain_config(scale)
    extractions = (Extraction(half=HELD_OUT_HALF), Extraction(half=TRAINED_HALF, people=100, score_all_values=False))

    def run(recipe: str, task, train, evaluations, *later_stages) -> Run:
        tags = {"wording": wording, "recipe": recipe, "people_told": biographies.people}
        return Run(NAME, task, model, train, evaluations, tags=tags, later_stages=later_stages)

    finetunings = {recipe: part3_people.finetune_stage(scale, questions, recipe) for recipe in RECIPES[:2]}
    mixture = part3_people.mixed_task(scale, biographies, questions)
    return [
        run("read only", biographies, pretraining, (Capacity(1000),)),
        *(run(recipe, biographies, pretraining, extractions, stage) for recipe, stage in finetunings.items()),
        run("mixed", mixture, part3_people.mixed_train_config(scale), extractions),
    ]


# ---- tables ----------------------------------------------------------------------------------------------------
def extraction_rows(table, half: str):
    """The rows on one half of the people, with `right`: the share of whole answers that are right."""
    table = with_columns(table, {"half", "attribute", "exact", "chance"})
    rows = select_rows(table, evaluation="Extraction", half=half)
    return rows.assign(right=rows["exact"])


def stored_share(table):
    """The rows of models trained on biographies alone, with `share`: the part of the values' bits that they store."""
    rows = select_rows(with_columns(table, {"value_bits", "value_bits_max"}), evaluation="Capacity")
    return rows.assign(share=rows["value_bits"] / rows["value_bits_max"])


def best_finetuning(table, wording: str):
    """Right answers by seed, of finetuning in full or by LoRA, whichever answers more about held-out people, as the
    paper reports."""
    rows = select_rows(extraction_rows(table, HELD_OUT_HALF), wording=wording, attribute="all")
    found = [mean_by_seed(rows, "right", recipe=recipe) for recipe in RECIPES[:2]]
    return max(found, key=lambda seeds: seeds.mean() if len(seeds) else -1.0)


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figure 3 of the paper, and the controls."""
    fig, (left, middle, right) = figures.subplots(columns=3, width=6.2, height=4.8)
    names = list(dict.fromkeys(table["wording"]))
    plot_wordings(left, table, names)
    plot_attributes(middle, table, names)
    plot_controls(right, table, names)
    figures.set_title(fig, part3_people.figure_title(table, "Part 3.1, Figure 3", "wording", "recipe"))
    return fig


def plot_wordings(axes, table, names) -> None:
    """Answers about held-out people by wording, a colour per recipe; crosses: the paper's."""
    rows = select_rows(extraction_rows(table, HELD_OUT_HALF), attribute="all")
    figures.plot_means_with_ci(axes, rows, "wording", "right", "recipe", order=names)
    recipes = list(dict.fromkeys(rows["recipe"]))
    crosses = []
    for g, recipe in enumerate(recipes):
        paper = [PAPER_MIXED[name] if recipe == "mixed" else PAPER_FINETUNED[name][0] for name in names]
        crosses += [(figures.dodge(place, g, len(recipes)), value / 100) for place, value in enumerate(paper)]
    figures.plot_paper_crosses(axes, crosses, "paper (finetuned: the best)", markersize=8)
    if len(rows):
        figures.plot_baseline(axes, round(rows["chance"].mean(), 3))
    part3_people.set_wrapped_ticks(axes, names)
    axes.set(title="Questions about people never asked about before", ylabel="share answered right", ylim=(-0.02, 1.4))
    part3_people.add_legend(axes)


def plot_attributes(axes, table, names) -> None:
    """Answers after LoRA finetuning by attribute, in the order of an unshuffled biography."""
    rows = extraction_rows(table, HELD_OUT_HALF)
    rows = rows[(rows["recipe"] == RECIPES[0]) & (rows["attribute"] != "all") & rows["wording"].isin(MAIN_WORDINGS)]
    order = [name for name in ATTRIBUTES if name in set(rows["attribute"])]
    shown = [name for name in MAIN_WORDINGS if name in names]
    figures.plot_means_with_ci(axes, rows, "attribute", "right", "wording", order=order)
    crosses = [
        ([figures.dodge(place, g, len(shown)) for place in range(len(order))],
         [PAPER_FINETUNED[name][1 + place] / 100 for place in range(len(order))])
        for g, name in enumerate(shown)
    ]  # fmt: skip
    figures.plot_paper_crosses(axes, crosses, markersize=7)
    axes.set_xticks(range(len(order)), [name.replace(" ", "\n") for name in order], fontsize=9)
    axes.set(title="The same by attribute, finetuned by LoRA", ylabel="share answered right", ylim=(-0.02, 1.4))
    part3_people.add_legend(axes)


def plot_controls(axes, table, names) -> None:
    """The share of bits stored after biographies alone, and answers about the people of the training questions."""
    import pandas

    parts = [stored_share(table)[["wording", "seed_init", "share"]].assign(what="values stored, before any question")]
    for recipe in RECIPES:
        rows = select_rows(extraction_rows(table, TRAINED_HALF), attribute="all", recipe=recipe)
        rows = rows[["wording", "seed_init", "right"]].rename(columns={"right": "share"})
        parts.append(rows.assign(what=f"people taught with, {recipe}"))
    figures.plot_means_with_ci(axes, pandas.concat(parts), "wording", "share", "what", order=names)
    part3_people.set_wrapped_ticks(axes, names)
    axes.set(title="What it is not for want of", ylabel="share of bits, or answered right", ylim=(-0.02, 1.4))
    part3_people.add_legend(axes)


# ---- claims ----------------------------------------------------------------------------------------------------
# From the paper's statements: told once, a person is stored (all of it) and not extractable (9.7%, a fifth at most);
# told in five shuffled wordings nearly everything is (96.6%, most of it), and the gap between the two is most of the
# scale; mixing extracts most from one wording (86.6%).
def claims(table) -> list[Claim]:
    """Claims 3.1 to 3.3; smoke decides nothing."""
    made = ClaimList(table)
    mixed = select_rows(extraction_rows(table, HELD_OUT_HALF), attribute="all", recipe="mixed")
    once, often = (best_finetuning(table, name) for name in ("single", "multi5+permute"))
    mixed_once, mixed_often = (mean_by_seed(mixed, "right", wording=name) for name in ("single", "multi5+permute"))
    name = "single: share of the values' bits that the model holds before it is taught"
    stored = mean_by_seed(stored_share(table), "share", wording="single")
    made.add("3.1", name, stored, "all", "above 0.95: stored", above=0.95)
    name = "single, best finetuning: held-out people answered right"
    made.add("3.1", name, once, 0.097, "below 0.2: not extractable", below=0.2)
    name = "multi5+permute, best finetuning: held-out people answered right"
    made.add("3.2", name, often, 0.966, "above 0.5: most is extractable", above=0.5)
    made.add("3.2", "multi5+permute minus single, best finetuning of each", often - once, 0.869, "above 0.5", above=0.5)
    name, rule = "single, mixed: held-out people answered right", "above 0.5: most is extracted from one wording"
    made.add("3.3", name, mixed_once, 0.866, rule, above=0.5)
    name = "multi5+permute, mixed: held-out people answered right"
    made.add("3.3", name, mixed_often, 0.955, "above 0.5", above=0.5)
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
