"""Tables and panels of experiment 08: retrieval, classification and comparison of stored facts (Part 3.2, arXiv
2309.14402, Figures 3, 4 and 11; probing/knowledge/manipulation.py)."""

from typing import TYPE_CHECKING, Any

from experiments.harness.papers import part3_reporting
from experiments.harness.papers.numbers import paper_number, paper_numbers
from experiments.harness.reporting import figures
from experiments.harness.reporting.rows import mean_by_seed, select_rows, with_columns
from synth.bio.manipulation import DUAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

WORDING = "multi5+permute"
RETRIEVAL, DIRECT_STYLE, HINT_STYLE = "retrieval", "answers only", "half with the facts written out"
RETRIEVAL_FACTS = ("whole date", "birth_day", "birth_year", *DUAL)
SHORT_NAMES = {"whole date": "whole date", "birth_": "", "employer_city": "firm's city", "employer": "firm"}
SHORT_NAMES |= {"university": "univ.", "+": " + "}
BARE, WRITTEN, SAME_MODEL = "bare answers", "facts written out", "same model, not written out"
FACTS_RIGHT = "facts written rightly"
ANSWER_MODES = {
    BARE: "trained on bare answers",
    WRITTEN: "facts written out, answer",
    SAME_MODEL: "the same model, facts not written out",
    FACTS_RIGHT: "facts written out, all of them right",
}
QUESTION_LABELS = {
    "month_mod_2": "Parity of the birth month",
    "luck_mod_5": "Luckiness of the major modulo 5",
    "luck_rank": "Whose major is luckier?",
    "month_minus": "Birth month minus another's",
    "month_mod_6": "Birth month modulo 6",
    "month_mod_12": "Birth month modulo 12",
    "luck_mod_20": "Luckiness modulo 20",
    "luck_mod_100": "Luckiness modulo 100",
    "month_rank": "Whose birth month is later?",
    "day_rank": "Whose birthday is later?",
    "day_minus": "Birthday minus another's",
    "luck_minus": "Luckiness minus another's",
}


# ---- tables ----------------------------------------------------------------------------------------------------
def retrieval_rows(table: "DataFrame") -> "DataFrame":
    """Questions for a whole fact, a part of one and two, by `fact`, with `right`: the share answered right."""
    import pandas

    rows = select_rows(with_all_columns(table), lesson=RETRIEVAL)
    whole = select_rows(rows, evaluation="Extraction", attribute="birth date")
    rest = select_rows(rows, evaluation="Manipulation")
    whole = whole.assign(fact="whole date", right=whole["exact"])
    return pandas.concat([whole, rest.assign(fact=rest["question"], right=rest["accuracy"])])


def manipulation_rows(table: "DataFrame") -> "DataFrame":
    """Classification and comparison, a row for each of ANSWER_MODES (`mode`), with `right`: the share answered right,
    or of questions whose facts are written out rightly."""
    import pandas

    rows = with_all_columns(table)
    rows = rows[(rows["lesson"] != RETRIEVAL) & (rows["evaluation"] == "Manipulation")]
    mode = rows["hint"].map({"hint": WRITTEN, "direct": SAME_MODEL}).mask(rows["style"] == DIRECT_STYLE, BARE)
    rows = rows.assign(mode=mode, right=rows["accuracy"])
    written = select_rows(rows, mode=WRITTEN)
    return pandas.concat([rows, written.assign(mode=FACTS_RIGHT, right=written["hint_accuracy"])])


def with_all_columns(table: "DataFrame") -> "DataFrame":
    """The table with the columns of both evaluations."""
    names = "evaluation question hint accuracy floor hint_accuracy follows n attribute exact"
    return with_columns(table, names.split())


def mean_accuracy(rows: "DataFrame", question: str, mode: str) -> "Series":
    """`right` of a question by seed, averaged over the numbers of people in training."""
    return mean_by_seed(rows, "right", question=question, mode=mode)


def paper_curve(question: str, mode: str) -> dict[int, float]:
    """The paper's shares by the number of people in training, empty for a question that it does not show."""
    cells = paper_numbers("3.2", "Figures 4 and 11")
    return {int(people.split()[0]): x for (row, people), x in cells.items() if row == f"{question}: {mode}"}


def paper_chance(question: str) -> float:
    """The paper's baseline of a question: what a guess gets right among its own people."""
    return paper_number("3.2", "Figures 4 and 11", f"{question}: baseline", "any number of people")


def paper_gain(question: str) -> float:
    """The paper's mean gain, over its numbers of people, of facts written out over bare answers."""
    bare, written = (paper_curve(question, mode) for mode in (BARE, WRITTEN))
    return sum(written[people] - bare[people] for people in bare) / len(bare)


# ---- panels ----------------------------------------------------------------------------------------------------
def plot_retrieval(axes: "Axes", rows: "DataFrame", larger_task: bool) -> None:
    """A whole fact, a part of one, two facts; diamonds: the paper's."""
    order, paper = list(RETRIEVAL_FACTS), paper_numbers("3.2", "Figure 3")
    labels = {name: _shorten(name) for name in order}
    estimate, limits = part3_reporting.share_estimator(rows, "n"), part3_reporting.SHARES
    figures.plot_means_with_ci(axes, rows, "fact", "right", None, order, estimate, limits, labels=labels)
    diamonds = [(place, paper[WORDING, name]) for place, name in enumerate(order)]
    figures.plot_paper_crosses(axes, diamonds, larger_task=larger_task)
    axes.set(title="Retrieval: a fact, a part, two (firm: employer)", ylabel="share answered right")


def _shorten(fact: str) -> str:
    """The name of a question for retrieval, short enough for one of nine places."""
    for word, short in SHORT_NAMES.items():
        fact = fact.replace(word, short)
    return fact


def plot_question(axes: "Axes", rows: "DataFrame", name: str) -> None:
    """One question by the number of people in training, a colour per answer mode; dashes: the paper's."""
    colors = dict(zip(ANSWER_MODES, figures.colors(len(ANSWER_MODES)), strict=True))
    estimate, style = part3_reporting.share_estimator(rows, "n"), dict[str, Any](labels=ANSWER_MODES, legend=False)
    rows = rows.sort_values("mode", key=lambda modes: modes.map(list(ANSWER_MODES).index), kind="stable")
    rows = rows.dropna(subset=["right"])
    figures.plot_curves(axes, rows, "pupils", "right", "mode", colors, estimate, part3_reporting.SHARES, **style)
    ends = set(rows["pupils"])
    for mode, color in colors.items():
        paper = paper_curve(name, mode)
        ends |= set(paper)
        axes.plot(list(paper), list(paper.values()), "D--", mfc="none", markersize=4, linewidth=1, color=color)
    axes.axhline(rows["floor"].mean(), color=figures.BASELINE_COLOR, linestyle=":", label="chance")
    ticks = ticks_of(ends)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlim(min(ends) / 1.3, max(ends) * 1.3)
    axes.set(title=QUESTION_LABELS[name], ylabel="share of questions")
    axes.set_xlabel("people whose questions were trained")


def ticks_of(numbers: set[int]) -> list[int]:
    """Ticks of a logarithmic axis: the powers of ten from the least number to the largest, or both ends."""
    ticks = [10**k for k in range(7) if min(numbers) <= 10**k <= max(numbers)]
    return ticks if len(ticks) > 1 else [min(numbers), max(numbers)]
