"""What can a model do with facts that it can tell? (claims 3.9 to 3.11)

Part 3.2 (arXiv 2309.14402), results 1 to 4, Figures 3, 4 and 11: a model trained on biographies in five shuffled
wordings is finetuned on one kind of question about some people, and tested on others. Retrieval: parts of a date, and
two facts at once. Classification: the parity of a birth month, the luckiness of a major modulo 5, and others.
Comparison: whose major is luckier, one month minus another, and others. The last two kinds are trained with bare
answers, or half of the time with the facts written out before the answer, on growing numbers of people. First panel:
retrieval beside the paper's; then, for every question, accuracy by the share of people in training; last, how much an
answer depends on the facts being written out: the same model's accuracy with them minus without.

What one should see: two facts are as easy as one, but the last part of a date is hard to say without the rest. Without
the facts written out, classification stays near chance until very many people are trained on, comparison even then;
with them, both are high as soon as the rule is learned.

Every question has a finetuning of its own, as in the paper; the retrieval questions share one with the usual questions,
so that one model answers both. Small models extract too little after biographies alone: below the gpu scale the base
model is trained on biographies mixed with the usual questions about the first half of the people (the paper uses a
finetuned base, and reports the other within a few points of it). Sizes and cost: smoke, seconds; laptop, 400 people
with names of one word, four questions, ten minutes on two cores; overnight, 1600 people, all questions, three hours on
two cores (not measured); gpu, 20,000 people, 8 layers of width 512, half an hour (not measured); paper, 100,000 people,
GPT-2 small.
"""

from math import ceil
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_people
from experiments.harness.papers.part3_people import RECIPES
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList
from experiments.harness.reporting.stats import interval, mean_by_seed, select_rows, with_columns
from experiments.harness.run import Run, default_seeds, with_seeds
from synth.bio.manipulation import CLASSIFICATION, DUAL, RANKING, SUBTRACTION
from synth.mixture import Mixture
from synth.task import TrainingData

NAME = Path(__file__).stem
WORDING = "multi5+permute"
RETRIEVAL, DIRECT_STYLE, HINT_STYLE = "retrieval", "answers only", "half with the facts written out"
MAIN_QUESTIONS = ("month_mod_2", "luck_mod_5", "luck_rank", "month_minus")
ALL_QUESTIONS = (*CLASSIFICATION, *RANKING, *SUBTRACTION)
QUESTIONS = {"smoke": MAIN_QUESTIONS[::2], "laptop": MAIN_QUESTIONS, "gpu": MAIN_QUESTIONS}  # else ALL
SHARES = {"smoke": (1.0,), "laptop": (0.125, 0.25, 0.5, 1.0), "gpu": (0.1, 1.0)}  # of the first half; else the paper's
PAPER_SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
MIXED_BASE_SCALES = ("smoke", "laptop", "overnight")  # where the base has been asked the usual questions while it read
FINETUNE_SETTINGS: dict[str, dict] = {
    "laptop": {"steps": 400, "lr": 2e-3},
    "gpu": {"steps": 1000, "lr": 1e-3},
    "paper": {"lr": 1e-3},
}
MAX_ASKED_PEOPLE = 5000  # people asked about, at most

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
ANSWER_MODES = {"taught bare answers": 0, "facts written out": 1, "the same model, facts not written out": 2}


def runs(scale: str) -> list[Run]:
    """One base model per seed and its finetunings: retrieval, and every question on several numbers of people, with and
    without the facts written out; three seeds each (one at smoke)."""
    made = [retrieval_run(scale)]
    for question in QUESTIONS.get(scale, ALL_QUESTIONS):
        for share in SHARES.get(scale, PAPER_SHARES):
            made += [question_run(scale, question, share, style) for style in (DIRECT_STYLE, HINT_STYLE)]
    return with_seeds(made, default_seeds(scale))


def finetuned_run(scale: str, question_task, evaluations, recipe: str, training: dict, **tags) -> Run:
    """The base model, finetuned on a task of questions."""
    biographies = part3_people.biography_task(scale, WORDING, reasoning=True)
    task: TrainingData = biographies
    train = part3_people.pretrain_config(scale)
    if scale in MIXED_BASE_SCALES:
        task = part3_people.mixed_task(scale, biographies, part3_people.question_task(scale, WORDING, reasoning=True))
        train = part3_people.mixed_train_config(scale)
    stage = part3_people.finetune_stage(scale, question_task, recipe, **training)
    tags |= {"people_told": biographies.people, "recipe": recipe}
    return Run(NAME, task, part3_people.make_model_config(scale), train, evaluations, tags=tags, later_stages=(stage,))


def retrieval_run(scale: str) -> Run:
    """Parts of a fact and two facts at once, trained together with the usual questions."""
    from probing.knowledge.extraction import Extraction  # torch comes with these, and --help has no need of torch
    from probing.knowledge.manipulation import Manipulation

    usual = part3_people.question_task(scale, WORDING, reasoning=True)
    partial, dual = (part3_people.manipulation_task(scale, WORDING, group) for group in ("partial", "dual"))
    questions = Mixture((partial, dual, usual), (0.25, 0.5, 0.25))
    n = num_asked_people(scale)
    manipulations = (Manipulation(n, questions=group) for group in ("partial", "dual"))
    evaluations = (Extraction(n, score_all_values=False), *manipulations)
    tags = {"lesson": RETRIEVAL, "style": DIRECT_STYLE, "pupils": usual.people // 2}
    return finetuned_run(scale, questions, evaluations, RECIPES[0], {}, **tags)


def question_run(scale: str, question: str, share: float, style: str) -> Run:
    """One question, trained on a share of the first half of the people."""
    from probing.knowledge.manipulation import Manipulation

    pupils = max(2, int(part3_people.SCALE_CONFIGS[scale].people // 2 * share))
    hints = ("direct",) if style == DIRECT_STYLE else ("hint", "direct")
    hint = 0.5 if style == HINT_STYLE else 0.0
    questions = part3_people.manipulation_task(scale, WORDING, question, taught=pupils, hint=hint)
    evaluations = (Manipulation(num_asked_people(scale), hints, question),)
    tags = {"lesson": question, "style": style, "pupils": pupils}
    return finetuned_run(scale, questions, evaluations, RECIPES[0], FINETUNE_SETTINGS.get(scale, {}), **tags)


def num_asked_people(scale: str) -> int:
    """How many people of the other half are tested."""
    return min(MAX_ASKED_PEOPLE, part3_people.SCALE_CONFIGS[scale].people // 2)


# ---- tables ----------------------------------------------------------------------------------------------------
def retrieval_rows(table):
    """Questions for a whole fact, a part of one and two, by `fact`, with `right`: the share answered right."""
    import pandas

    rows = select_rows(with_all_columns(table), lesson=RETRIEVAL)
    whole = select_rows(rows, evaluation="Extraction", attribute="birth date")
    rest = select_rows(rows, evaluation="Manipulation")
    whole = whole.assign(fact="whole date", right=whole["exact"])
    return pandas.concat([whole, rest.assign(fact=rest["question"], right=rest["accuracy"])])


def manipulation_rows(table):
    """Classification and comparison: `way`, `share` of the first half in training, and `right`."""
    rows = with_all_columns(table)
    rows = rows[(rows["lesson"] != RETRIEVAL) & (rows["evaluation"] == "Manipulation")]
    first, written, direct = ANSWER_MODES
    way = rows["hint"].map({"hint": written, "direct": direct}).mask(rows["style"] == DIRECT_STYLE, first)
    return rows.assign(way=way, share=2 * rows["pupils"] / rows["people_told"], right=rows["accuracy"])


def with_all_columns(table):
    """The table with the columns of both evaluations."""
    return with_columns(table, {"evaluation", "question", "hint", "accuracy", "floor", "attribute", "exact"})


def hint_dependence(table):
    """The same model's accuracy with the facts written out minus without (`gap`), by question, people in training and
    seed."""
    rows = manipulation_rows(table)
    _, written, direct = ANSWER_MODES
    by = ["question", "pupils", "seed_init"]
    gap = select_rows(rows, way=written).set_index(by)["right"] - select_rows(rows, way=direct).set_index(by)["right"]
    return gap.rename("gap").reset_index()


def mean_accuracy(table, question: str, mode: str):
    """Accuracy on a question by seed, averaged over the numbers of people in training."""
    return mean_by_seed(manipulation_rows(table), "right", question=question, way=mode)


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figures 3, 4 and 11 of the paper, and the dependence on written-out facts."""
    rows = manipulation_rows(table)
    names = [name for name in ALL_QUESTIONS if name in set(rows["question"])]
    fig, panels = figures.subplots(columns=3, rows=ceil((len(names) + 2) / 3), width=6.0, height=4.3)
    plot_retrieval(panels[0], retrieval_rows(table))
    for axes, name in zip(panels[1:], names, strict=False):
        plot_question(axes, select_rows(rows, question=name), name)
    plot_hint_dependence(panels[len(names) + 1], hint_dependence(table), names)
    for axes in panels[len(names) + 2 :]:
        axes.set_axis_off()
    title = part3_people.figure_title(table, "Part 3.2, Figures 3, 4 and 11", "lesson", "style", "pupils")
    figures.set_title(fig, title)
    return fig


def plot_retrieval(axes, rows) -> None:
    """A whole fact, a part of one, two facts; crosses: the paper's."""
    order = list(PAPER_RETRIEVAL)
    figures.plot_means_with_ci(axes, rows, "fact", "right", order=order)
    crosses = ((place, paper / 100) for place, paper in enumerate(PAPER_RETRIEVAL.values()))
    figures.plot_paper_crosses(axes, crosses, markersize=8)
    names = [name.replace("_", " ").replace("+", "\n+ ") for name in order]
    axes.set_xticks(range(len(order)), names, fontsize=8, rotation=45)
    axes.set(title="Retrieval, people never asked about before", ylabel="share answered right", ylim=(-0.03, 1.4))
    part3_people.add_legend(axes)


def plot_question(axes, rows, name: str) -> None:
    """One question by the share of people in training, a colour per answer mode; dashes: the paper's."""
    for (way, column), color in zip(ANSWER_MODES.items(), figures.colors(len(ANSWER_MODES)), strict=True):
        by_share = [(x, interval(part["right"])) for x, part in select_rows(rows, way=way).groupby("share")]
        half = [[0.0 if each.n == 1 else each.high - each.mean for _, each in by_share]]
        means = [each.mean for _, each in by_share]
        axes.errorbar([x for x, _ in by_share], means, yerr=half * 2, fmt="o-", color=color, capsize=4, label=way)
        axes.plot(rows.loc[rows["way"] == way, "share"], rows.loc[rows["way"] == way, "right"], ".", color=color)
        if name in PAPER_ANSWERS:
            paper = [each / 100 for each in PAPER_ANSWERS[name][column]]
            axes.plot(PAPER_SHARES[-len(paper) :], paper, "x--", color=color, alpha=0.5)
    axes.plot([], [], "x--", color=figures.PAPER_COLOR, label="paper, in the colours of ours")
    if len(rows):
        figures.plot_baseline(axes, round(rows["floor"].mean(), 3))
    axes.set(title=name.replace("_", " "), xscale="log", ylim=(-0.03, 1.4))
    axes.set_xticks(PAPER_SHARES, [f"{share:.0%}" for share in PAPER_SHARES])
    axes.minorticks_off()
    axes.set(xlabel="people taught with, of half of them", ylabel="share answered right")
    part3_people.add_legend(axes)


def plot_hint_dependence(axes, rows, names) -> None:
    """The same model's accuracy with the facts written out minus without, a colour per number of people in training."""
    rows = rows.sort_values("pupils", kind="stable")
    figures.plot_means_with_ci(axes, rows, "question", "gap", "pupils", order=names)
    crosses = ((place, gap) for place, name in enumerate(names) for gap in paper_gaps(name, 2))
    figures.plot_paper_crosses(axes, crosses, "paper, its numbers of people")
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=9)
    axes.axhline(0, color=figures.BASELINE_COLOR, linewidth=1)
    axes.set(title="Dependence on steps written out", ylabel="accuracy with minus without, same model")
    part3_people.add_legend(axes)


def paper_gaps(question: str, column: int) -> list[float]:
    """The paper's accuracies with the facts written out minus those of another column of PAPER_ANSWERS."""
    found = PAPER_ANSWERS.get(question, ((), (), ()))
    return [(a - b) / 100 for a, b in zip(found[1], found[column], strict=True)]


# ---- claims ----------------------------------------------------------------------------------------------------
# From the paper's statements. Retrieval: two facts are given nearly as well as one (96%), the year of birth far less
# than the whole date (20.4% and 100%): by half of that at least. Work: with few people taught bare answers stay near
# chance; over the numbers of people, writing the facts out adds a tenth of all answers at least (the paper's four gain
# 14% and more), and with most people taught it gives most answers (95% to 99.6%).
def claims(table) -> list[Claim]:
    """Claims 3.9 to 3.11; smoke decides nothing."""
    made = ClaimList(table)
    facts = retrieval_rows(table)
    year, date = (mean_by_seed(facts, "right", fact=name) for name in ("birth_year", "whole date"))
    name = "the year of birth minus the whole date of birth: people answered right"
    made.add("3.9", name, year - date, -0.796, "below -0.4: a part is much harder than the whole", below=-0.4)
    name, dual = "two facts at once, mean of six questions: people answered right", facts[facts["fact"].isin(DUAL)]
    made.add("3.9", name, mean_by_seed(dual, "right"), 0.962, "above 0.5: most are retrieved", above=0.5)
    bare, written, _ = ANSWER_MODES
    answers = manipulation_rows(table)
    for question in MAIN_QUESTIONS:
        rows = select_rows(answers, question=question)
        few, most = (select_rows(rows, pupils=end) for end in (rows["pupils"].min(), rows["pupils"].max()))
        id, (paper_bare, paper_written, _) = "3.10" if "mod" in question else "3.11", PAPER_ANSWERS[question]
        chance, gaps = rows["floor"].mean(), paper_gaps(question, 0)
        name = f"{question}, fewest people, taught bare answers: answered right, minus chance"
        gain = mean_by_seed(few, "right", way=bare) - chance
        made.add(id, name, gain, paper_bare[0] / 100 - chance, "below 0.15: near chance", below=0.15)
        name = f"{question}, mean over numbers of people: facts written out minus bare answers"
        gain = mean_accuracy(table, question, written) - mean_accuracy(table, question, bare)
        made.add(id, name, gain, round(sum(gaps) / len(gaps), 3), "above 0.1", above=0.1)
        name = f"{question}, most people, facts written out: answered right"
        right = mean_by_seed(most, "right", way=written)
        made.add(id, name, right, paper_written[-1] / 100, "above 0.7: most", above=0.7)
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
