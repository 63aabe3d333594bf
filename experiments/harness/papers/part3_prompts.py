"""Tables and panels of what a model answers without one of its blocks, and in formats near to its training and far
from it (probing/knowledge/extraction.py, probing/knowledge/prompt_sensitivity.py; claims 3.7 and 3.8)."""

from typing import TYPE_CHECKING, Any

from experiments.harness.papers import part3_people
from experiments.harness.reporting import figures
from experiments.harness.reporting.stats import where, with_columns
from probing.knowledge.prompt_formats import BIOGRAPHY, FAR, NEAR, QUESTION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

CLOSENESS = {BIOGRAPHY: 2, QUESTION: 2, NEAR: 1, FAR: 0}
JUDGED = {"likeliest": "true value", "shuffled": "value of somebody else"}


def answers(table: "DataFrame", evaluation: str, **values: Any) -> "DataFrame":
    """The rows of an evaluation with these values, in a table that may not have all columns yet.

    `shuffled` is a measure here and a setting of the P- and Q-probes: the column of a table that has both holds text.
    """
    import pandas

    asked = {"half", "attribute", "position", "without", "format", "kind"}
    measured = {"accuracy", "majority", "exact", "chance", *JUDGED}
    table = with_columns(table, asked | measured)
    rows = where(table, evaluation=evaluation, **values)
    return rows.assign(shuffled=pandas.to_numeric(rows["shuffled"], errors="coerce"))


def worst_block(table: "DataFrame") -> "Series":
    """By seed, without the block that the model can spare least: the share of true values that are the likeliest of
    all, minus that of the values of somebody else."""
    rows = answers(table, "LayerDeletion", attribute="all")
    rows = rows[rows["without"] != "nothing"]
    return (rows["likeliest"] - rows["shuffled"]).groupby(rows["seed_init"]).min()


def formats(table: "DataFrame") -> "DataFrame":
    """The formats that could be asked, with their `closeness` to training: 2 as trained, 1 near, 0 far."""
    rows = answers(table, "PromptFormats").dropna(subset=["exact"])
    return rows.assign(closeness=rows["kind"].map(CLOSENESS))


def agreement(rows: "DataFrame") -> "Series":
    """By seed, Kendall's tau-b between closeness and the share of right answers, of the rows of `formats`: 1 where a
    closer format is always answered better; missing where nothing differs."""
    from pandas import Series
    from scipy.stats import kendalltau

    found = {seed: kendalltau(part["closeness"], part["exact"]).statistic for seed, part in rows.groupby("seed_init")}
    return Series(found, dtype=float)


# ---- panels ----------------------------------------------------------------------------------------------------
def blocks_panel(axes: "Axes", table: "DataFrame") -> None:
    """Which share of true values is the likeliest without each block, and which of somebody else's."""
    rows = answers(table, "LayerDeletion", attribute="all")
    rows = rows.melt(["without", "seed_init"], list(JUDGED), "measure", "share").replace({"measure": JUDGED})
    names = list(dict.fromkeys(rows["without"]))
    figures.points(axes, rows, "without", "share", "measure", order=names)
    axes.set_xticks(range(len(names)), [name.replace(".", "\n") for name in names], fontsize=9)
    axes.set(title="GPT without one of its blocks", ylabel="share judged the likeliest", ylim=(-0.02, 1.05))
    part3_people.legend(axes)


def kinds_panel(axes: "Axes", table: "DataFrame") -> None:
    """Answers by kind of format, a dot a seed."""
    rows = formats(table).groupby(["kind", "seed_init"], sort=False)["exact"].mean().reset_index()
    order = [kind for kind in CLOSENESS if kind in set(rows["kind"])]
    figures.points(axes, rows, "kind", "exact", order=order)
    axes.set_xticks(range(len(order)), [kind.replace(" (", "\n(") for kind in order], fontsize=8)
    axes.set(title="Formats by closeness to training", ylabel="share answered right", ylim=(-0.02, 1.05))


def formats_panel(axes: "Axes", table: "DataFrame") -> None:
    """Every format, the best answered on top: its mean, and a dot a seed."""
    rows = formats(table)
    means = rows.groupby("format")["exact"].mean().sort_values()
    for kind, color in zip(CLOSENESS, figures.colors(len(CLOSENESS)), strict=True):
        part = rows[rows["kind"] == kind]
        axes.plot(part["exact"], means.index.get_indexer(part["format"]), "o", color=color, alpha=0.4, markersize=3)
        names = list(dict.fromkeys(part["format"]))
        axes.plot(means[names], means.index.get_indexer(names), "o", color=color, markersize=6, label=kind)
    axes.set_yticks(range(len(means)), list(means.index), fontsize=7)
    axes.set(title="Every format", xlabel="share answered right", xlim=(-0.02, 1.05))
    part3_people.legend(axes, loc="lower right")
