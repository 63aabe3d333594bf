"""What can a model do with facts that it can tell? (claims 3.9 to 3.11)

Part 3.2 (arXiv 2309.14402), results 1 to 4, Figures 3, 4 and 11: a model that has read biographies in five shuffled
wordings is finetuned on one kind of question about some people, and asked about people of whom it was never asked so.
Retrieval: parts of a date, and two facts at once. Classification: the parity of a birth month, the luckiness of a major
modulo 5, and others. Comparison: whose major is luckier, one month minus another, and others. The last two kinds are
taught as bare answers, or, half of the time, with the facts written out before the answer, over growing numbers of
people. First panel: retrieval beside the paper's; then, for every question, answers by the share of people taught with;
last, how much an answer depends on steps written out: the same model's accuracy with them minus without.

What one should see: two facts are as easy as one, but the last part of a date is hard to say without the rest. Without
the facts written out, classification is near chance until very many people have been taught, comparison even then; with
them, both are high as soon as the rule is learned.

Every question has a finetuning of its own, as in the paper, but for retrieval, which is taught at once with the usual
questions so that one model answers both. Small models extract too little after reading alone: below the gpu scale the
base has answered the usual questions about the first half of the people while it read (the paper's finetuned base,
which it reports within a few points of the other). Sizes and cost: smoke, seconds; laptop, 400 people with names of one
word, four questions, ten minutes on two cores; overnight, 1600 people, all questions, three hours on two cores (not
measured); gpu, 20,000 people, 8 layers of width 512, half an hour (not measured); paper, 100,000 people, GPT-2 small.
"""

from math import ceil
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_people
from experiments.harness.papers.part3_people import RECIPES
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, decides, weigh
from experiments.harness.reporting.stats import by_seed, interval, interval_if_any, where, with_columns
from experiments.harness.run import Run, replicate
from synth.bio.manipulation import CLASSIFICATION, DUAL, RANKING, SUBTRACTION
from synth.mixture import Mixture
from synth.task import Task

NAME = Path(__file__).stem
WORDING = "multi5+permute"
RETRIEVAL, BARE, WRITTEN = "retrieval", "answers only", "half with the facts written out"
MAIN = ("month_mod_2", "luck_mod_5", "luck_rank", "month_minus")
ALL = (*CLASSIFICATION, *RANKING, *SUBTRACTION)
QUESTIONS = {"smoke": MAIN[::2], "laptop": MAIN, "gpu": MAIN}  # else ALL
SHARES = {"smoke": (1.0,), "laptop": (0.125, 0.25, 0.5, 1.0), "gpu": (0.1, 1.0)}  # of the first half; else the paper's
PAPERS = (0.05, 0.1, 0.2, 0.5, 1.0)
FROM_MIXED = ("smoke", "laptop", "overnight")  # where the base has been asked the usual questions while it read
TRAINING: dict[str, dict] = {
    "laptop": {"steps": 400, "lr": 2e-3},
    "gpu": {"steps": 1000, "lr": 1e-3},
    "paper": {"lr": 1e-3},
}
HELD_OUT = 5000  # people asked about, at most

# Part 3.2, Figure 3, in percent; the whole date as the base gives it to the usual question.
PAPER_RETRIEVAL = {
    "whole date": 100, "birth_day": 82.3, "birth_year": 20.4, "birth_city+employer": 96.5, "employer+birth_city": 97.6,
    "university+major": 94.8, "major+university": 94.6, "employer_city+employer": 96.9, "employer+employer_city": 97.0,
}  # fmt: skip
# Figures 4 and 11, by the shares PAPERS: taught bare answers; taught with the facts and asked for them; and not.
PAPER_ANSWERS = {
    "month_mod_2": ((60.4, 67.3, 75.9, 86.4, 95.3), (77.8, 87.3, 94.2, 98.6, 99.5), (65.2, 72.7, 80.3, 91.1, 97.5)),
    "month_mod_6": ((42.1, 55.6, 76.4, 91.9, 98.2), (64.4, 79.6, 90.2, 97.5, 99.4), (48.6, 62.0, 75.4, 91.5, 98.0)),
    "month_mod_12": ((51.5, 74.2, 91.6, 97.9, 99.4), (61.5, 79.0, 92.0, 98.5, 99.5), (53.7, 70.1, 86.8, 96.8, 99.4)),
    "month_rank": ((53.7, 59.2, 65.4, 75.6, 85.6), (65.4, 75.5, 87.7, 96.7, 99.0), (59.6, 63.4, 67.0, 75.8, 86.7)),
    "month_minus": ((7.0, 9.9, 18.8, 46.7, 67.2), (15.6, 34.3, 61.5, 87.0, 95.4), (7.9, 9.8, 17.4, 43.7, 63.0)),
    "luck_mod_5": ((23.6, 24.6, 31.6), (86.4, 96.7, 99.3), (24.1, 26.8, 34.2)),
    "luck_mod_20": ((9.6, 22.6, 33.4), (72.6, 90.6, 97.8), (14.5, 27.3, 36.4)),
    "luck_mod_100": ((30.1, 79.3, 91.7), (78.7, 96.0, 99.0), (34.6, 74.4, 90.7)),
    "luck_rank": ((52.5, 52.2, 53.9), (88.8, 96.4, 99.6), (54.1, 53.7, 55.0)),
    "luck_minus": ((1.1, 1.1, 1.1), (21.6, 89.1, 98.4), (1.1, 1.2, 1.2)),
}
WAYS = {"taught bare answers": 0, "facts written out": 1, "the same model, facts not written out": 2}


def runs(scale: str) -> list[Run]:
    """One reading of the biographies a seed, and finetunings of it: retrieval, and every question over numbers of
    people, with and without the facts written out; three seeds each (one for smoke)."""
    made = [retrieval(scale)]
    for question in QUESTIONS.get(scale, ALL):
        made += [
            lesson(scale, question, share, style) for share in SHARES.get(scale, PAPERS) for style in (BARE, WRITTEN)
        ]
    return replicate(made, 1 if scale == "smoke" else 3)


def base(scale: str, taught, evaluations, recipe: str, training: dict, **tags) -> Run:
    """The model that has read about everybody, then taught something."""
    biographies = part3_people.world(scale, WORDING, reasoning=True)
    task: Task = biographies
    train = part3_people.reading(scale)
    if scale in FROM_MIXED:
        task = part3_people.mixture(scale, biographies, part3_people.questions(scale, WORDING, reasoning=True))
        train = part3_people.mixing(scale)
    stage = part3_people.finetuning(scale, taught, recipe, **training)
    tags |= {"people_told": biographies.people, "recipe": recipe}
    return Run(NAME, task, part3_people.model(scale), train, evaluations, tags=tags, then=(stage,))


def retrieval(scale: str) -> Run:
    """Parts of a fact and two facts, taught together with the usual questions."""
    from probing.knowledge.extraction import Extraction  # torch comes with these, and --help has no need of torch
    from probing.knowledge.manipulation import Manipulation

    usual = part3_people.questions(scale, WORDING, reasoning=True)
    partial, dual = (part3_people.manipulations(scale, WORDING, group) for group in ("partial", "dual"))
    taught = Mixture((partial, dual, usual), (0.25, 0.5, 0.25))
    n = asked(scale)
    evaluations = (
        Extraction(n, candidates=False),
        *(Manipulation(n, questions=group) for group in ("partial", "dual")),
    )
    return base(scale, taught, evaluations, RECIPES[0], {}, lesson=RETRIEVAL, style=BARE, pupils=usual.people // 2)


def lesson(scale: str, question: str, share: float, style: str) -> Run:
    """One question, taught with a share of the first half of the people."""
    from probing.knowledge.manipulation import Manipulation

    pupils = max(2, int(part3_people.SIZES[scale].people // 2 * share))
    hints = ("direct",) if style == BARE else ("hint", "direct")
    taught = part3_people.manipulations(scale, WORDING, question, taught=pupils, hint=0.5 if style == WRITTEN else 0.0)
    evaluations = (Manipulation(asked(scale), hints, question),)
    tags = {"lesson": question, "style": style, "pupils": pupils}
    return base(scale, taught, evaluations, RECIPES[0], TRAINING.get(scale, {}), **tags)


def asked(scale: str) -> int:
    """How many people of the other half are asked about."""
    return min(HELD_OUT, part3_people.SIZES[scale].people // 2)


# ---- tables ----------------------------------------------------------------------------------------------------
def retrieved(table):
    """Questions about a fact, a part of one and two, by `fact`, with `right`: the share answered right."""
    import pandas

    rows = where(complete(table), lesson=RETRIEVAL)
    whole = where(rows, evaluation="Extraction", attribute="birth date")
    rest = where(rows, evaluation="Manipulation")
    parts = [whole.assign(fact="whole date", right=whole["exact"]), rest.assign(fact=rest["question"])]
    return pandas.concat([parts[0], parts[1].assign(right=rest["accuracy"])])


def worked_out(table):
    """Answers that are worked out: the `way` of WAYS, `share` of the first half taught, and `right`."""
    rows = complete(table)
    rows = rows[(rows["lesson"] != RETRIEVAL) & (rows["evaluation"] == "Manipulation")]
    first, written, direct = WAYS
    way = rows["hint"].map({"hint": written, "direct": direct}).mask(rows["style"] == BARE, first)
    return rows.assign(way=way, share=2 * rows["pupils"] / rows["people_told"], right=rows["accuracy"])


def complete(table):
    """The table with the columns of both evaluations: a first run may have made only one yet."""
    needed = {"evaluation", "question", "hint", "accuracy", "floor", "attribute", "exact"}
    return with_columns(table, needed)


def dependence(table):
    """How much more the same model answers right with the facts written out, by question, people taught and seed."""
    rows = worked_out(table)
    _, written, direct = WAYS
    by = ["question", "pupils", "seed_init"]
    gap = where(rows, way=written).set_index(by)["right"] - where(rows, way=direct).set_index(by)["right"]
    return gap.rename("gap").reset_index()


def mean_right(table, question: str, way: str):
    """Right answers to a question by seed, averaged over the numbers of people taught."""
    return by_seed(worked_out(table), "right", question=question, way=way)


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figures 3, 4 and 11 of the paper, and the dependence on written-out steps."""
    rows = worked_out(table)
    names = [name for name in ALL if name in set(rows["question"])]
    fig, panels = figures.canvas(columns=3, rows=ceil((len(names) + 2) / 3), width=6.0, height=4.3)
    retrieval_panel(panels[0], retrieved(table))
    for axes, name in zip(panels[1:], names, strict=False):
        question_panel(axes, where(rows, question=name), name)
    dependence_panel(panels[len(names) + 1], dependence(table), names)
    for axes in panels[len(names) + 2 :]:
        axes.set_axis_off()
    figures.title(fig, part3_people.title(table, "Part 3.2, Figures 3, 4 and 11", "lesson", "style", "pupils"))
    return fig


def retrieval_panel(axes, rows) -> None:
    """A fact, a part of one, two facts; crosses: the paper's."""
    order = list(PAPER_RETRIEVAL)
    figures.points(axes, rows, "fact", "right", order=order)
    for place, paper in enumerate(PAPER_RETRIEVAL.values()):
        axes.plot([place], [paper / 100], "x", color=figures.PAPER, markersize=8, zorder=4)
    axes.plot([], [], "x", color=figures.PAPER, label="paper")
    names = [name.replace("_", " ").replace("+", "\n+ ") for name in order]
    axes.set_xticks(range(len(order)), names, fontsize=8, rotation=45)
    axes.set(title="Retrieval, people never asked about before", ylabel="share answered right", ylim=(-0.03, 1.4))
    part3_people.legend(axes)


def question_panel(axes, rows, name: str) -> None:
    """One question by the share of people taught with, a colour a way; dashes: the paper's, in the same colours."""
    for (way, column), color in zip(WAYS.items(), figures.colors(len(WAYS)), strict=True):
        by_share = [(x, interval(part["right"])) for x, part in where(rows, way=way).groupby("share")]
        half = [[0.0 if each.n == 1 else each.high - each.mean for _, each in by_share]]
        means = [each.mean for _, each in by_share]
        axes.errorbar([x for x, _ in by_share], means, yerr=half * 2, fmt="o-", color=color, capsize=4, label=way)
        axes.plot(rows.loc[rows["way"] == way, "share"], rows.loc[rows["way"] == way, "right"], ".", color=color)
        if name in PAPER_ANSWERS:
            paper = [each / 100 for each in PAPER_ANSWERS[name][column]]
            axes.plot(PAPERS[-len(paper) :], paper, "x--", color=color, alpha=0.5)
    axes.plot([], [], "x--", color=figures.PAPER, label="paper, in the colours of ours")
    if len(rows):
        figures.floor_line(axes, round(rows["floor"].mean(), 3))
    axes.set(title=name.replace("_", " "), xscale="log", ylim=(-0.03, 1.4))
    axes.set_xticks(PAPERS, [f"{share:.0%}" for share in PAPERS])
    axes.minorticks_off()
    axes.set(xlabel="people taught with, of half of them", ylabel="share answered right")
    part3_people.legend(axes)


def dependence_panel(axes, rows, names) -> None:
    """The same model's accuracy with the facts written out minus without, a colour a number of people taught."""
    figures.points(axes, rows.sort_values("pupils", kind="stable"), "question", "gap", "pupils", order=names)
    for place, name in enumerate(names):
        for paper in paper_gaps(name, 2):
            axes.plot([place], [paper], "x", color=figures.PAPER, zorder=4)
    axes.plot([], [], "x", color=figures.PAPER, label="paper, its numbers of people")
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=9)
    axes.axhline(0, color=figures.FLOOR, linewidth=1)
    axes.set(title="Dependence on steps written out", ylabel="accuracy with minus without, same model")
    part3_people.legend(axes)


def paper_gaps(question: str, column: int) -> list[float]:
    """The paper's accuracy with the facts written out minus that of another column, by its numbers of people."""
    found = PAPER_ANSWERS.get(question, ((), (), ()))
    return [(a - b) / 100 for a, b in zip(found[1], found[column], strict=True)]


# ---- claims ----------------------------------------------------------------------------------------------------
# From the paper's statements. Retrieval: two facts are given nearly as well as one (96%), the year of birth far less
# than the whole date (20.4% and 100%): by half of that at least. Work: with few people taught bare answers stay near
# chance; over the numbers of people, writing the facts out adds a tenth of all answers at least (the paper's four gain
# 14% and more), and with most people taught it gives most answers (95% to 99.6%).
def claims(table) -> list[Claim]:
    """Claims 3.9 to 3.11; smoke decides nothing."""
    testable, made = decides(table), []

    def add(id: str, statement: str, seeds, paper, threshold: str, **limits: float) -> None:
        made.append(weigh(id, statement, interval_if_any(seeds), paper, threshold, testable, **limits))

    facts = retrieved(table)
    parts = {name: by_seed(facts, "right", fact=name) for name in ("birth_year", "whole date")}
    add(
        "3.9",
        "the year of birth minus the whole date of birth: people answered right",
        parts["birth_year"] - parts["whole date"],
        -0.796,
        "below -0.4: a part is much harder than the whole",
        below=-0.4,
    )
    add(
        "3.9",
        "two facts at once, mean of six questions: people answered right",
        by_seed(facts[facts["fact"].isin(DUAL)], "right"),
        0.962,
        "above 0.5: most are retrieved",
        above=0.5,
    )
    bare, written, _ = WAYS
    answers = worked_out(table)
    for question in MAIN:
        rows = where(answers, question=question)
        few, most = (where(rows, pupils=end) for end in (rows["pupils"].min(), rows["pupils"].max()))
        id, (paper_bare, paper_written, _) = "3.10" if "mod" in question else "3.11", PAPER_ANSWERS[question]
        chance = rows["floor"].mean()
        add(
            id,
            f"{question}, fewest people, taught bare answers: answered right, minus chance",
            by_seed(few, "right", way=bare) - chance,
            paper_bare[0] / 100 - chance,
            "below 0.15: near chance",
            below=0.15,
        )
        gaps = paper_gaps(question, 0)
        add(
            id,
            f"{question}, mean over numbers of people: facts written out minus bare answers",
            mean_right(table, question, written) - mean_right(table, question, bare),
            round(sum(gaps) / len(gaps), 3),
            "above 0.1",
            above=0.1,
        )
        add(
            id,
            f"{question}, most people, facts written out: answered right",
            by_seed(most, "right", way=written),
            paper_written[-1] / 100,
            "above 0.7: most",
            above=0.7,
        )
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
