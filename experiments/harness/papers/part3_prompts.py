"""Tables and panels of claims 3.7 and 3.8: answers of a model without one of its blocks, and to prompts near to its
training and far from it (probing/knowledge/extraction.py, probing/knowledge/prompt_sensitivity.py)."""

from typing import TYPE_CHECKING, Any

from experiments.harness.papers import part3_people
from experiments.harness.reporting import figures
from experiments.harness.reporting.stats import select_rows, with_columns
from probing.knowledge.prompt_formats import BIOGRAPHY, FAR, NEAR, QUESTION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

CLOSENESS = {BIOGRAPHY: 2, QUESTION: 2, NEAR: 1, FAR: 0}
JUDGED_COLUMNS = {"likeliest": "true value", "shuffled": "value of somebody else"}


def answer_rows(table: "DataFrame", evaluation: str, **values: Any) -> "DataFrame":
    """The rows of an evaluation with these values, with all columns that the panels read.

    `shuffled` is a metric here and a setting of the P- and Q-probes, so that the column of a table with both holds
    text; it becomes numbers.
    """
    import pandas

    settings = {"half", "attribute", "position", "without", "format", "kind"}
    metrics = {"accuracy", "majority", "exact", "chance", *JUDGED_COLUMNS}
    table = with_columns(table, settings | metrics)
    rows = select_rows(table, evaluation=evaluation, **values)
    return rows.assign(shuffled=pandas.to_numeric(rows["shuffled"], errors="coerce"))


def worst_block_margin(table: "DataFrame") -> "Series":
    """By seed, the share of true values ranked first minus that of other people's values, without the block whose
    deletion costs most."""
    rows = answer_rows(table, "LayerDeletion", attribute="all")
    rows = rows[rows["without"] != "nothing"]
    return (rows["likeliest"] - rows["shuffled"]).groupby(rows["seed_init"]).min()


def format_rows(table: "DataFrame") -> "DataFrame":
    """The rows of prompt formats that could be asked, with their `closeness` to training: 2 as trained, 1 near, 0
    far."""
    rows = answer_rows(table, "PromptFormats").dropna(subset=["exact"])
    return rows.assign(closeness=rows["kind"].map(CLOSENESS))


def closeness_correlation(rows: "DataFrame") -> "Series":
    """By seed, Kendall's tau-b between closeness and the share of right answers in rows of `format_rows`: 1 where a
    closer format is always answered better, NaN where all are alike."""
    from pandas import Series
    from scipy.stats import kendalltau

    found = {seed: kendalltau(part["closeness"], part["exact"]).statistic for seed, part in rows.groupby("seed_init")}
    return Series(found, dtype=float)


# ---- panels ----------------------------------------------------------------------------------------------------
def plot_blocks(axes: "Axes", table: "DataFrame") -> None:
    """Shares of values ranked first without each block: true values and other people's."""
    rows = answer_rows(table, "LayerDeletion", attribute="all")
    rows = rows.melt(["without", "seed_init"], list(JUDGED_COLUMNS), "measure", "share")
    rows = rows.replace({"measure": JUDGED_COLUMNS})
    names = list(dict.fromkeys(rows["without"]))
    figures.plot_means_with_ci(axes, rows, "without", "share", "measure", order=names)
    axes.set_xticks(range(len(names)), [name.replace(".", "\n") for name in names], fontsize=9)
    axes.set(title="GPT without one of its blocks", ylabel="share judged the likeliest", ylim=(-0.02, 1.05))
    part3_people.add_legend(axes)


def plot_format_kinds(axes: "Axes", table: "DataFrame") -> None:
    """Answers by kind of format, a dot per seed."""
    rows = format_rows(table).groupby(["kind", "seed_init"], sort=False)["exact"].mean().reset_index()
    order = [kind for kind in CLOSENESS if kind in set(rows["kind"])]
    figures.plot_means_with_ci(axes, rows, "kind", "exact", order=order)
    axes.set_xticks(range(len(order)), [kind.replace(" (", "\n(") for kind in order], fontsize=8)
    axes.set(title="Formats by closeness to training", ylabel="share answered right", ylim=(-0.02, 1.05))


def plot_formats(axes: "Axes", table: "DataFrame") -> None:
    """Answers by format, the best on top: the mean, and a dot per seed."""
    rows = format_rows(table)
    means = rows.groupby("format")["exact"].mean().sort_values()
    for kind, color in zip(CLOSENESS, figures.colors(len(CLOSENESS)), strict=True):
        part = rows[rows["kind"] == kind]
        axes.plot(part["exact"], means.index.get_indexer(part["format"]), "o", color=color, alpha=0.4, markersize=3)
        names = list(dict.fromkeys(part["format"]))
        axes.plot(means[names], means.index.get_indexer(names), "o", color=color, markersize=6, label=kind)
    axes.set_yticks(range(len(means)), list(means.index), fontsize=7)
    axes.set(title="Every format", xlabel="share answered right", xlim=(-0.02, 1.05))
    part3_people.add_legend(axes, loc="lower right")
