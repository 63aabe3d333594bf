"""Can a model tell what it has stored? (claims 3.1 to 3.3)

Part 3.1 (arXiv 2309.14316), results 1 to 3, Figure 3: models are trained on biographies and learn to answer questions
about half of the people; then they are tested on the other half, whose biographies they have seen and whose questions
they have not. Questions come in finetuning after the biographies, by LoRA or in full, or mixed with the biographies
from the start. Biographies have one wording a person, five, or five with the sentences shuffled. From left to right:
answers about held-out people by wording and training, beside the paper's; the same by attribute, in the order of an
unshuffled biography; and two controls: the share of the values that the model holds before it sees questions, and its
answers about the people of its training questions.

Names keep their embeddings in finetuning: where every surname belongs to one person, as at laptop scale, finetuning
would store answers in the embeddings of the surnames of its people, and learn nothing about others. In the paper a
hundred people share a surname. Beyond laptop scale curves show what mixed training learns first (Figure 1).

What one should see: facts told in one wording are stored in full and can hardly be extracted; the first attribute fares
best. Many wordings in many orders make everything extractable. In the paper mixed training does so without them.

Worlds and cost: smoke, seconds; laptop, 400 people with names of one word, 0.2M parameters, ten minutes on two cores;
overnight, 1000 people with names of three words that others share, nine wordings, six hours on two cores (not
measured); gpu, 20,000 people, 8 layers of width 512, half an hour (not measured); paper, 100,000 people, GPT-2 small,
80,000 steps and 50,000 more.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.curve import Curve, log_spaced_steps
from experiments.harness.papers import part3_people, part3_reporting
from experiments.harness.papers.numbers import paper_number
from experiments.harness.papers.part3_people import RECIPES
from experiments.harness.papers.part3_reporting import LABELS, SHARES, accuracy_of, share_estimator
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.rows import mean_by_seed, select_rows, with_columns
from experiments.harness.reporting.table import last_rows
from experiments.harness.run import Run, default_seeds, with_seeds
from experiments.harness.statistics.estimates import Estimate, difference_of, mean_of
from synth.bio.value_lists import ATTRIBUTES
from synth.tasks.bios import Half

NAME = Path(__file__).stem
MAIN_WORDINGS = ("single", "multi5", "multi5+permute")
TRAINED_HALF: Half = "first"
HELD_OUT_HALF: Half = "second"
READ_ONLY = "read only"  # biographies, and no questions
SINGLE_WORDING, MANY_WORDINGS, MIXED = "single", "multi5+permute", RECIPES[2]
LAST_ATTRIBUTES = ATTRIBUTES[3:]  # of an unshuffled biography, farthest from the name


def scale_wordings(scale: str) -> tuple[str, ...]:
    """The wordings of biographies at a scale."""
    every = tuple(part3_people.WORDINGS)
    return {"smoke": MAIN_WORDINGS[::2], "overnight": every, "paper": every}.get(scale, MAIN_WORDINGS)


def runs(scale: str) -> list[Run]:
    """Every wording, trained on biographies alone and with questions in three ways (RECIPES); five seeds each at
    laptop, one at smoke, else three.

    Finetunings of a wording share one training on its biographies.
    """
    made = [run for wording in scale_wordings(scale) for run in runs_for_wording(scale, wording)]
    return with_seeds(made, 5 if scale == "laptop" else default_seeds(scale))


def runs_for_wording(scale: str, wording: str) -> list[Run]:
    """The runs on one wording: bits stored after biographies alone, and answers after each recipe."""
    from probing.capacity.bits_per_parameter import Capacity  # torch comes with it, and --help has no need of torch
    from probing.knowledge.extraction import Extraction

    size = part3_people.EXTRACTION_CONFIGS[scale]
    biographies = part3_people.biography_task(size, wording)
    questions = part3_people.question_task(size, wording, TRAINED_HALF)
    model, pretraining = part3_people.make_model_config(size), part3_people.pretrain_config(size)
    extractions = (Extraction(half=HELD_OUT_HALF), Extraction(half=TRAINED_HALF, people=100, score_all_values=False))

    def run(recipe: str, task, train, evaluations, *later_stages, curve: Curve | None = None) -> Run:
        tags = {"wording": wording, "recipe": recipe, "people_told": biographies.people}
        return Run(NAME, task, model, train, evaluations, tags=tags, later_stages=later_stages, curve=curve)

    finetunings = {
        recipe: replace(part3_people.finetune_stage(size, questions, recipe), frozen_names=True)
        for recipe in RECIPES[:2]
    }
    mixture, mixed = part3_people.mixed_task(size, biographies, questions), part3_people.mixed_train_config(size)
    return [
        run(READ_ONLY, biographies, pretraining, (Capacity(1000),)),
        *(run(recipe, biographies, pretraining, extractions, stage) for recipe, stage in finetunings.items()),
        run(MIXED, mixture, mixed, extractions, curve=mixed_curve(mixed.steps) if scale != "laptop" else None),
    ]


def mixed_curve(steps: int) -> Curve:
    """What is measured while biographies and questions are trained together: Figure 1 of the paper."""
    from probing.capacity.bits_per_parameter import Capacity
    from probing.knowledge.extraction import Extraction

    halves: tuple[Half, Half] = (HELD_OUT_HALF, TRAINED_HALF)
    asked = (Extraction(half=half, people=100, score_all_values=False) for half in halves)
    return Curve(log_spaced_steps(steps, 8, first=max(1, steps // 40)), (*asked, Capacity(300)))


# ---- tables ----------------------------------------------------------------------------------------------------
def extraction_rows(table, half: str):
    """The rows on one half of the people, with `right`: the share of whole answers that are right."""
    table = with_columns(table, {"half", "attribute", "exact", "chance", "persons"})
    rows = select_rows(table, evaluation="Extraction", half=half)
    return rows.assign(right=rows["exact"])


def stored_share(table):
    """The rows of models trained on biographies alone, with `share`: the part of the values' bits that they store."""
    return _with_share(select_rows(table, recipe=READ_ONLY))


def _with_share(table):
    rows = select_rows(with_columns(table, {"value_bits", "value_bits_max"}), evaluation="Capacity")
    return rows.assign(share=rows["value_bits"] / rows["value_bits_max"])


def learning_rows(table, wording: str):
    """What a mixed training on one wording knows at each step, as shares: `what` is biographies, by the bits of their
    values, or questions about either half of the people. A share of bits below 0, worse than a guess, counts as 0."""
    import pandas

    rows = select_rows(table, recipe=MIXED, wording=wording)
    asked = {"questions trained": TRAINED_HALF, "questions held out": HELD_OUT_HALF}
    answers = {what: select_rows(extraction_rows(rows, half), attribute="all") for what, half in asked.items()}
    parts = [part.assign(share=part["right"], what=what) for what, part in answers.items()]
    told = _with_share(rows)
    parts.append(told.assign(share=told["share"].clip(lower=0.0), what="biographies, bits"))
    return with_columns(pandas.concat(parts), {"step"})[["what", "step", "seed_init", "share"]]


def best_finetuning(table, wording: str) -> str:
    """The recipe, in full or by LoRA, that answers more about held-out people: what the paper reports.

    A recipe that does not answer the people of its own questions has not been trained, and counts only if the other has
    not either.
    """
    asked = [
        select_rows(extraction_rows(table, half), wording=wording, attribute="all")
        for half in (HELD_OUT_HALF, TRAINED_HALF)
    ]
    held_out, trained = (rows.groupby("recipe")["right"].mean().reindex(RECIPES[:2]).dropna() for rows in asked)
    learned = trained[trained >= part3_reporting.MIN_TRAINED_ACCURACY].index
    chosen = held_out[held_out.index.isin(learned)]
    chosen = chosen if len(chosen) else held_out
    return str(chosen.idxmax()) if len(chosen) else RECIPES[0]


def paper_accuracy(wording: str, recipe: str, attribute: str = "mean") -> float:
    """The paper's share of right answers about held-out people; of finetuning the best, for an attribute or on
    average."""
    return paper_number("3.1", "Figure 3", wording, f"{'mixed' if recipe == MIXED else 'finetuned'}: {attribute}")


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figure 3 of the paper, the controls, and Figure 1: what a mixed training knows at each step."""
    learning = learning_rows(table, SINGLE_WORDING)
    has_curve = learning["step"].nunique() > 1
    layout: dict[str, Any] = {"columns": 2, "rows": 2, "width": 6.2} if has_curve else {"columns": 3, "width": 5.6}
    fig, panels = figures.subplots(**layout, height=4.8)
    names, end = list(dict.fromkeys(table["wording"])), last_rows(table)
    for plot, axes in zip((plot_wordings, plot_attributes, plot_controls), panels, strict=False):
        plot(axes, end, names)
    if has_curve:
        plot_learning(panels[-1], learning)
    figures.set_title(fig, "What a model has read of people, and what it can answer about them")
    text = "First two panels: people whose biographies were read and whose questions were never trained."
    part3_reporting.caption(fig, table, text, "wording", "recipe")
    return fig


def plot_wordings(axes, table, names) -> None:
    """Answers about held-out people by wording, a colour per recipe; diamonds: the paper's."""
    rows = select_rows(extraction_rows(table, HELD_OUT_HALF), attribute="all")
    recipes = list(dict.fromkeys(rows["recipe"]))
    style: dict[str, Any] = {"order": names, "labels": LABELS, "legend": False}
    figures.plot_means_with_ci(
        axes, rows, "wording", "right", "recipe", estimate=share_estimator(rows), limits=SHARES, **style
    )
    diamonds = [
        (figures.dodge(place, g, len(recipes)), paper_accuracy(name, recipe))
        for g, recipe in enumerate(recipes)
        for place, name in enumerate(names)
    ]
    figures.plot_paper_crosses(axes, diamonds, larger_task=part3_reporting.is_larger_task(table))
    if len(rows):
        figures.plot_floor(axes, rows["chance"].mean())
    axes.set(title="Held-out people, all six facts", ylabel="share answered right")
    figures.legend_outside(axes)


def plot_attributes(axes, table, names) -> None:
    """Answers after LoRA finetuning by attribute, in the order of an unshuffled biography."""
    rows = extraction_rows(table, HELD_OUT_HALF)
    rows = rows[(rows["recipe"] == RECIPES[0]) & (rows["attribute"] != "all") & rows["wording"].isin(MAIN_WORDINGS)]
    order = [name for name in ATTRIBUTES if name in set(rows["attribute"])]
    shown = list(dict.fromkeys(rows["wording"]))
    style: dict[str, Any] = {"order": order, "labels": LABELS, "legend": False}
    figures.plot_means_with_ci(
        axes, rows, "attribute", "right", "wording", estimate=share_estimator(rows), limits=SHARES, **style
    )
    diamonds = [
        (figures.dodge(place, g, len(shown)), paper_accuracy(name, RECIPES[0], attribute))
        for g, name in enumerate(shown)
        for place, attribute in enumerate(order)
    ]
    figures.plot_paper_crosses(axes, diamonds, larger_task=part3_reporting.is_larger_task(table))
    chance = rows.groupby("attribute")["chance"].mean()
    figures.plot_chance_marks(axes, {place: chance[name] for place, name in enumerate(order)})
    axes.plot([], [], ":", color=figures.BASELINE_COLOR, label="chance")
    axes.set(title="By fact, as an unshuffled biography has them; LoRA", ylabel="share answered right")
    figures.legend_outside(axes)


def plot_controls(axes, table, names) -> None:
    """The share of bits stored after biographies alone, and answers about the people of the training questions."""
    import pandas

    trained = select_rows(extraction_rows(table, TRAINED_HALF), attribute="all")
    trained = trained.assign(share=trained["right"], what=trained["recipe"].map(LABELS))
    stored = stored_share(table).assign(what="bits stored before any question")
    parts = [part[["wording", "seed_init", "share", "what"]] for part in (trained, stored)]
    style: dict[str, Any] = {"order": names, "labels": LABELS, "legend": False}
    figures.plot_means_with_ci(axes, pandas.concat(parts), "wording", "share", "what", limits=SHARES, **style)
    axes.set(title="Controls: stored, and people of the training questions", ylabel="share of bits, or answered right")
    figures.legend_outside(axes)


def plot_learning(axes, rows) -> None:
    """The rows of `learning_rows`, step by step."""
    figures.plot_curves(axes, rows, "step", "share", "what", limits=SHARES)
    axes.set(title="Mixed training, one wording", xlabel="step", ylabel="share of bits, or answered right")


# ---- claims ----------------------------------------------------------------------------------------------------
# Thresholds are from the paper's statements: of one wording hardly anything can be extracted (9.7%: a fifth at most),
# of five shuffled wordings and in mixed training most (96.6% and 86.6%: more than half). Lines, thresholds and gates
# were written after numbers of the laptop's first world had been seen, and that a finetuning must have learned its own
# people after those of this one. The primary line of each claim is the paper's own number, the mean of all six facts:
#   3.1  one wording, finetuned. Decided only if the facts are stored, if the people of the training questions are
#        answered, and if the same finetuning extracts most from five shuffled wordings: else it is the finetuning that
#        fails, not the biographies.
#   3.2  five shuffled wordings, finetuned.
#   3.3  one wording, mixed.
STORED, MOST, HARDLY = 0.95, 0.5, 0.2


def claims(table) -> list[Claim]:
    """Claims 3.1 to 3.3; smoke decides nothing."""
    made, end = ClaimList(table), last_rows(table)
    add_finetuning_claims(made, end)
    add_mixed_claims(made, end)
    return made


def held_out_accuracy(table, wording: str, recipe: str) -> Estimate | None:
    """Answers about held-out people, all six facts."""
    return accuracy_of(extraction_rows(table, HELD_OUT_HALF), "right", wording=wording, recipe=recipe, attribute="all")


def trained_accuracy(table, wording: str, recipe: str) -> Gate:
    """The gate that the people of the training questions are answered."""
    rows = extraction_rows(table, TRAINED_HALF)
    return part3_reporting.trained_gate(accuracy_of(rows, "right", wording=wording, recipe=recipe, attribute="all"))


def add_finetuning_claims(made: ClaimList, table) -> None:
    """Claims 3.1 and 3.2, on the better finetuning of each wording."""
    recipes = {wording: best_finetuning(table, wording) for wording in (SINGLE_WORDING, MANY_WORDINGS)}
    once, often = (held_out_accuracy(table, wording, recipe) for wording, recipe in recipes.items())
    stored = mean_of(mean_by_seed(stored_share(table), "share", wording=SINGLE_WORDING), high=1.0)
    learned_once, learned_often = (trained_accuracy(table, *each) for each in recipes.items())
    is_held = Gate("bits stored of one wording", stored, at_least=STORED)
    works = Gate("the same from five shuffled wordings", often, at_least=MOST)
    gates: tuple[Gate, ...] = (is_held, learned_once, works)
    paper_once, paper_often = (paper_accuracy(*each) for each in recipes.items())

    name = "one wording, finetuned on questions about others: held-out people answered right, mean of six facts"
    rule, note = "below 0.2: hardly any", describe_facts(table, recipes[SINGLE_WORDING])
    made.add("3.1", name, once, paper_once, rule, below=HARDLY, primary=True, gates=gates, note=note)
    last = extraction_rows(table, HELD_OUT_HALF)
    last = last[last["attribute"].isin(LAST_ATTRIBUTES)]
    last_once = accuracy_of(last, "right", wording=SINGLE_WORDING, recipe=recipes[SINGLE_WORDING])
    paper = [paper_accuracy(SINGLE_WORDING, RECIPES[0], name) for name in LAST_ATTRIBUTES]
    name = "the same, the last three facts of a biography, farthest from the name"
    made.add("3.1", name, last_once, sum(paper) / len(paper), "below 0.2: hardly any", below=HARDLY, gates=gates)
    name = "one wording: share of the values' bits that the model holds before it sees a question"
    made.add("3.1", name, stored, "all", "above 0.95: stored", above=STORED)

    name = "five wordings, shuffled, finetuned: held-out people answered right, mean of six facts"
    gates = (learned_often,)
    made.add("3.2", name, often, paper_often, "above 0.5: most", above=MOST, primary=True, gates=gates)
    gain = difference_of(often.values, once.values, low=-1.0, high=1.0) if once and often else None
    name = "five wordings, shuffled, minus one wording, finetuned: held-out people answered right"
    gates = (learned_once, learned_often)
    made.add("3.2", name, gain, paper_often - paper_once, "above 0.5", above=MOST, gates=gates)


def describe_facts(table, recipe: str) -> str:
    """Answers after one wording by fact, in the order of an unshuffled biography."""
    rows = select_rows(extraction_rows(table, HELD_OUT_HALF), wording=SINGLE_WORDING, recipe=recipe)
    means = rows.groupby("attribute")["right"].mean()
    shares = ", ".join(f"{name} {means[name]:.2f}" for name in ATTRIBUTES if name in means)
    return f"{LABELS.get(recipe, recipe)}; by fact, the first beside the name: {shares}" if shares else ""


def add_mixed_claims(made: ClaimList, table) -> None:
    """Claim 3.3, on questions mixed with biographies."""
    once, often = ((wording, MIXED) for wording in (SINGLE_WORDING, MANY_WORDINGS))
    gates: tuple[Gate, ...] = (
        trained_accuracy(table, *once),
        part3_reporting.decay_gate(part3_people.EXTRACTION_CONFIGS[str(table["scale"].iloc[0])]),
    )
    name = "one wording, mixed with questions: held-out people answered right, mean of six facts"
    rule = "above 0.5: most"
    accuracy, paper = held_out_accuracy(table, *once), paper_accuracy(*once)
    made.add("3.3", name, accuracy, paper, rule, above=MOST, primary=True, gates=gates)
    name, gates = "five wordings, shuffled, mixed with questions: the same", (trained_accuracy(table, *often),)
    made.add("3.3", name, held_out_accuracy(table, *often), paper_accuracy(*often), rule, above=MOST, gates=gates)


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
