"""What can a model do with facts that it can tell? (claims 3.9 to 3.11)

Part 3.2 (arXiv 2309.14402), results 1 to 4, Figures 3, 4 and 11: a model trained on biographies in five shuffled
wordings is finetuned on one kind of question about some people, and tested on others. Retrieval: parts of a date, and
two facts at once. Classification: the parity of a birth month, the luckiness of a major modulo 5, and others.
Comparison: whose major is luckier, one month minus another, and others. The last two kinds are trained with bare
answers, or half of the time with the facts written out before the answer, on growing numbers of people. First panel:
retrieval beside the paper's; then, for every question, accuracy by the number of people in training, with the share of
questions whose facts the model writes out rightly: no answer that needs the facts can be better founded than that.

What one should see: two facts are as easy as one, but the last part of a date is hard to say without the rest. Without
the facts written out, classification stays near chance until very many people are trained on, comparison even then;
with them, both are high as soon as the rule is learned. Where the facts are not written out rightly the model has
nothing to compute with, and the claims about it are not testable.

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

from experiments.harness.papers import part3_people, part3_reporting
from experiments.harness.papers.numbers import paper_numbers
from experiments.harness.papers.part3_manipulation import (
    BARE,
    DIRECT_STYLE,
    FACTS_RIGHT,
    HINT_STYLE,
    QUESTION_LABELS,
    RETRIEVAL,
    WORDING,
    WRITTEN,
    manipulation_rows,
    mean_accuracy,
    paper_chance,
    paper_curve,
    paper_gain,
    plot_question,
    plot_retrieval,
    retrieval_rows,
)
from experiments.harness.papers.part3_people import RECIPES
from experiments.harness.papers.part3_reporting import accuracy_of
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.rows import mean_by_seed, select_rows
from experiments.harness.run import Run, default_seeds, with_seeds
from experiments.harness.statistics.estimates import difference_of
from synth.bio.manipulation import CLASSIFICATION, DUAL, RANKING, SUBTRACTION
from synth.mixture import Mixture
from synth.task import TrainingData

NAME = Path(__file__).stem
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


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figures 3, 4 and 11 of the paper, with the share of facts that are written out rightly."""
    rows = manipulation_rows(table)
    names = [name for name in ALL_QUESTIONS if name in set(rows["question"])]
    columns = 3 if len(names) < 6 else 4
    rows_of_panels = ceil((len(names) + 1) / columns)
    size = {"width": 16.8 / columns, "height": min(4.0, 9.0 / rows_of_panels)}
    fig, panels = figures.subplots(columns, rows_of_panels, **size)
    plot_retrieval(panels[0], retrieval_rows(table), part3_reporting.is_larger_task(table))
    for axes, name in zip(panels[1:], names, strict=False):
        plot_question(axes, select_rows(rows, question=name), name)
    for axes in panels[len(names) + 1 :]:
        axes.remove()
    figures.share_legend(fig)
    figures.set_title(fig, "What a model can do with facts that it has stored")
    text = (
        "Questions about people held out of the training questions. Dashed lines with hollow marks, in our colours: "
        "the paper's, at its own numbers of people, of 100,000."
    )
    marks = part3_reporting.CURVE_MARKS
    part3_reporting.caption(fig, table, text, "lesson", "style", "pupils", marks=marks)
    return fig


# ---- claims ----------------------------------------------------------------------------------------------------
# Thresholds are from the paper's statements. Retrieval: two facts are given nearly as well as one (96%), the year of
# birth far less than the whole date (20.4% and 100%): by half of that at least. Work: with few people bare answers stay
# near chance; over the numbers of people, writing the facts out adds a tenth of all answers at least (the paper's four
# questions gain 14% and more), and with most people it gives most answers (95% to 99.6%). Lines, thresholds and gates
# were written after the laptop's numbers had been seen. The primary lines:
#   3.9   the year of birth minus the whole date, where the whole date is answered.
#   3.10  parity of the birth month, facts written out minus bare answers: the question that the paper's summary names.
#   3.11  whose major is luckier, the same.
# 3.10 and 3.11 are decided only where the facts are written out rightly, else the condition with facts does not exist;
# and where bare answers are not below chance, as they are when many are no answer to the question at all.
MAIN = {"3.10": "month_mod_2", "3.11": "luck_rank"}
SECOND = {"3.10": "luck_mod_5", "3.11": "month_minus"}
MIN_WHOLE_FACT, MIN_FACTS_RIGHT, MAX_BELOW_CHANCE = 0.9, 0.8, 0.05


def claims(table) -> list[Claim]:
    """Claims 3.9 to 3.11; smoke decides nothing."""
    made = ClaimList(table)
    add_retrieval_claims(made, table)
    for id in MAIN:
        add_gain_claim(made, table, id, MAIN[id], primary=True)
        add_gain_claim(made, table, id, SECOND[id], primary=False)
        add_main_question_claims(made, table, id, MAIN[id])
    return made


def surname_gate(table) -> Gate:
    """The gate of claims on finetuning with an update of the embedding."""
    return part3_reporting.surname_gate(str(table["scale"].iloc[0]))


def add_retrieval_claims(made: ClaimList, table) -> None:
    """Claim 3.9."""
    rows, paper = retrieval_rows(table), paper_numbers("3.2", "Figure 3")
    year, date = (mean_by_seed(rows, "right", fact=name) for name in ("birth_year", "whole date"))
    whole = Gate("the whole date of birth", accuracy_of(rows, "right", "n", fact="whole date"), at_least=MIN_WHOLE_FACT)
    gates = (whole, surname_gate(table))
    name, rule = "year of birth minus whole date of birth: held-out people answered right", "below -0.4: much harder"
    expected = round(paper[WORDING, "birth_year"] - paper[WORDING, "whole date"], 4)
    gap = difference_of(year, date, low=-1.0, high=1.0)
    made.add("3.9", name, gap, expected, rule, below=-0.4, primary=True, gates=gates)
    two = accuracy_of(rows[rows["fact"].isin(DUAL)], "right", "n")
    expected = round(sum(paper[WORDING, name] for name in DUAL) / len(DUAL), 4)
    name = "two facts at once, mean of six questions: held-out people answered right"
    made.add("3.9", name, two, expected, "above 0.5: most", above=0.5, gates=(surname_gate(table),))


def work_gates(table, question: str) -> tuple[Gate, ...]:
    """The gates of claims on one question, over all numbers of people in training."""
    rows = select_rows(manipulation_rows(table), question=question)
    right = accuracy_of(rows, "right", "n", mode=FACTS_RIGHT)
    bare = accuracy_of(rows, "right", "n", mode=BARE)
    above_chance = None if bare is None else bare.mean - rows["floor"].mean()
    return (
        Gate("facts written out rightly", right, at_least=MIN_FACTS_RIGHT),
        Gate("bare answers minus chance", above_chance, at_least=-MAX_BELOW_CHANCE),
        surname_gate(table),
    )


def words_of(question: str) -> str:
    """A question as it stands at the beginning of a statement."""
    return QUESTION_LABELS[question].removesuffix("?").lower()


def add_gain_claim(made: ClaimList, table, id: str, question: str, primary: bool) -> None:
    """What writing the facts out adds, over the numbers of people in training."""
    rows = manipulation_rows(table)
    written, bare = (mean_accuracy(rows, question, mode) for mode in (WRITTEN, BARE))
    gain = difference_of(written, bare, low=-1.0, high=1.0)
    name = f"{words_of(question)}, mean over numbers of people: facts written out minus bare answers, answered right"
    rule, gates = "above 0.1", work_gates(table, question)
    made.add(id, name, gain, round(paper_gain(question), 4), rule, above=0.1, primary=primary, gates=gates)


def add_main_question_claims(made: ClaimList, table, id: str, question: str) -> None:
    """Both ends of the curve: bare answers of few people, and answers after the facts with most."""
    rows, gates = select_rows(manipulation_rows(table), question=question), work_gates(table, question)
    few, most = (select_rows(rows, pupils=end) for end in (rows["pupils"].min(), rows["pupils"].max()))
    above_chance = difference_of(
        mean_by_seed(few, "right", mode=BARE), mean_by_seed(few, "floor", mode=BARE), -1.0, 1.0
    )
    paper = paper_curve(question, BARE)
    name = f"{words_of(question)}, fewest people, bare answers: answered right minus chance"
    expected = round(paper[min(paper)] - paper_chance(question), 4)
    made.add(id, name, above_chance, expected, "below 0.15: near chance", below=0.15, gates=gates)
    paper = paper_curve(question, WRITTEN)
    name = f"{words_of(question)}, most people, facts written out: answered right"
    right = accuracy_of(most, "right", "n", mode=WRITTEN)
    follows = mean_by_seed(most, "follows", mode=WRITTEN).mean()
    note = f"answers that follow from the facts written before them, right or wrong: {follows:.3g}"
    made.add(id, name, right, paper[max(paper)], "above 0.7: most", above=0.7, gates=gates, note=note)


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
