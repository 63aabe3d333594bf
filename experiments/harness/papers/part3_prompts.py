"""Tables and panels of claims 3.7 and 3.8: answers of a model without one of its blocks, and to prompts near to its
training and far from it (probing/knowledge/extraction.py, probing/knowledge/prompt_sensitivity.py)."""

from typing import TYPE_CHECKING, Any

from experiments.harness.papers import part3_people, part3_reporting
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import ClaimList, Gate
from experiments.harness.reporting.rows import mean_by_seed, select_rows, with_columns
from experiments.harness.statistics.estimates import difference_of, mean_of
from probing.knowledge.prompt_formats import BIOGRAPHY, FAR, NEAR, QUESTION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

CLOSENESS = {BIOGRAPHY: 2, QUESTION: 2, NEAR: 1, FAR: 0}
JUDGED_COLUMNS = {"likeliest": "true value", "shuffled": "value of somebody else"}
WHOLE_MODEL, FIRST_BLOCK = "nothing", "block.0"

# Formats that no model answers with the value at once, whatever it knows: they name no fact or nobody, or training goes
# on with another token. They are drawn apart and count for no claim.
ILL_POSED = {
    "name alone": "no fact named",
    "name and answer mark": "no fact named",
    "first name alone": "nobody named",
    "no colon": "the colon is next",
    "no answer mark": "the mark is next",
    "answer mark first": "the mark is next",
}
MAX_NAMESAKES = 0.5  # other people, on average, whom a shortened name fits as well


def answer_rows(table: "DataFrame", evaluation: str, **values: Any) -> "DataFrame":
    """The rows of an evaluation with these values, with all columns that the panels read.

    `shuffled` is a metric here and a setting of the P- and Q-probes, so that the column of a table with both holds
    text; it becomes numbers.
    """
    import pandas

    settings = {"half", "attribute", "position", "without", "format", "kind"}
    metrics = {"accuracy", "majority", "exact", "chance", "n", "persons", *JUDGED_COLUMNS}
    table = with_columns(table, settings | metrics)
    rows = select_rows(table, evaluation=evaluation, **values)
    return rows.assign(shuffled=pandas.to_numeric(rows["shuffled"], errors="coerce"))


# ---- blocks ----------------------------------------------------------------------------------------------------
def block_margins(table: "DataFrame") -> "DataFrame":
    """The rows of deleted blocks (`without`) with `margin`: the share of true values ranked first minus that of other
    people's values."""
    rows = answer_rows(table, "LayerDeletion", attribute="all")
    return rows.assign(margin=rows["likeliest"] - rows["shuffled"])[rows["without"] != WHOLE_MODEL]


def worst_block_margin(table: "DataFrame", *spared: str) -> "Series":
    """By seed, the margin (see `block_margins`) without the block whose deletion costs most.

    spared: blocks that are not deleted.
    """
    rows = block_margins(table)
    return rows[~rows["without"].isin(spared)].groupby("seed_init")["margin"].min()


# ---- formats ---------------------------------------------------------------------------------------------------
def ill_posed_formats(scale: str) -> dict[str, str]:
    """The formats that cannot be answered among the people of a scale, with the reason."""
    task = part3_people.biography_task(scale, "multi5+permute")
    namesakes = {
        "surname alone": task.people / task.last * (1 - 1 / (task.first * task.middle)),
        "without middle name": task.people / (task.last * task.first) * (1 - 1 / task.middle),
    }
    shared = {name: "several people named" for name, others in namesakes.items() if others > MAX_NAMESAKES}
    return {**ILL_POSED, **shared}


def format_rows(table: "DataFrame") -> "DataFrame":
    """The rows of prompt formats that could be asked, with their `closeness` to training: 2 as trained, 1 near, 0 far;
    and `reason`, why a format counts for no claim, None for those that do."""
    rows = answer_rows(table, "PromptFormats").dropna(subset=["exact"])
    reasons = ill_posed_formats(str(table["scale"].iloc[0]))
    return rows.assign(closeness=rows["kind"].map(CLOSENESS), reason=[reasons.get(name) for name in rows["format"]])


def sound_formats(table: "DataFrame") -> "DataFrame":
    """The rows of `format_rows` that count for claims."""
    rows = format_rows(table)
    return rows[rows["reason"].isna()]


def closeness_correlation(rows: "DataFrame") -> "Series":
    """By seed, Kendall's tau-b between closeness and the share of right answers in rows of `format_rows`.

    Above 0 where closer formats are answered better; below 1 even where they always are, since many formats are equally
    close. 0 where all are answered alike, NaN where all are equally close.
    """
    from pandas import Series

    found = {seed: _tau(part["closeness"], part["exact"]) for seed, part in rows.groupby("seed_init")}
    return Series(found, dtype=float)


def _tau(closeness: "Series", right: "Series") -> float:
    from scipy.stats import kendalltau

    is_flat = closeness.nunique() > 1 and right.nunique() == 1
    return 0.0 if is_flat else float(kendalltau(closeness, right).statistic)


# ---- panels ----------------------------------------------------------------------------------------------------
def plot_blocks(axes: "Axes", table: "DataFrame") -> None:
    """Shares of values ranked first without each block: true values and other people's."""
    rows = answer_rows(table, "LayerDeletion", attribute="all")
    estimate = part3_reporting.share_estimator(rows)
    rows = rows.melt(["without", "seed_init"], list(JUDGED_COLUMNS), "measure", "share")
    rows = rows.replace({"measure": JUDGED_COLUMNS})
    names = list(dict.fromkeys(rows["without"]))
    style: dict[str, Any] = {"labels": {name: name.replace(".", "\n") for name in names}, "legend": False}
    limits = part3_reporting.SHARES
    figures.plot_means_with_ci(axes, rows, "without", "share", "measure", names, estimate, limits, **style)
    axes.set(title="Without one of its blocks", ylabel="share ranked first")
    figures.legend_outside(axes)


def plot_formats(axes: "Axes", table: "DataFrame") -> None:
    """Answers by format, the best on top: the mean, and a dot per seed. Formats that cannot be answered are hollow."""
    rows = format_rows(table)
    means = rows.groupby("format")["exact"].mean().sort_values()
    for kind, color in zip(CLOSENESS, figures.colors(len(CLOSENESS)), strict=True):
        part = rows[(rows["kind"] == kind) & rows["reason"].isna()]
        _plot_format_dots(axes, part, means, kind, color=color)
    ill_posed = rows[rows["reason"].notna()]
    _plot_format_dots(axes, ill_posed, means, "cannot be answered", color=figures.BASELINE_COLOR, mfc="none")
    reasons = dict(zip(ill_posed["format"], ill_posed["reason"], strict=True))
    words = [f"{name} ({reasons[name]})" if name in reasons else name for name in means.index]
    axes.set_yticks(range(len(means)), words, fontsize=9)
    axes.set(title="Every prompt format", xlabel="share answered right")
    axes.set_ylim(-0.8, max(len(means), 1) - 0.2)
    axes.grid(axis="x")
    figures.end_axis(axes, *part3_reporting.SHARES, axis="x")
    figures.legend_outside(axes)


def _plot_format_dots(axes: "Axes", rows: "DataFrame", means: "Series", label: str, **style: Any) -> None:
    """Small dots for the seeds of each format and a large one for their mean, at the format's place in `means`."""
    if not len(rows):
        return
    axes.plot(rows["exact"], means.index.get_indexer(rows["format"]), "o", alpha=0.4, markersize=3, **style)
    names = list(dict.fromkeys(rows["format"]))
    axes.plot(means[names], means.index.get_indexer(names), "o", markersize=7, label=label, **style)


# ---- claims ----------------------------------------------------------------------------------------------------
MIN_BLOCKS, MIN_FORMATS = 8, 20


def add_block_claims(made: ClaimList, table: "DataFrame") -> None:
    """Add the lines of claim 3.7 to those of an experiment."""
    blocks = block_margins(table)["without"].nunique()
    rows = answer_rows(table, "LayerDeletion", without=WHOLE_MODEL, attribute="all")
    whole = part3_reporting.accuracy_of(rows, "likeliest")
    gates = [Gate("blocks of the model", float(blocks) if blocks else None, at_least=MIN_BLOCKS)]
    gates.append(Gate("the whole model", whole, at_least=part3_reporting.MIN_TRAINED_ACCURACY))
    name = "without the block whose deletion costs most: true values ranked first minus values of somebody else"
    margin, rule = worst_block_margin(table), "above 0: a part survives the loss of any block"
    made.add("3.7", name, mean_of(margin, -1.0, 1.0), None, rule, above=0.0, primary=True, gates=gates)
    margin = worst_block_margin(table, FIRST_BLOCK)
    made.add("3.7", "the same, the first block spared", mean_of(margin, -1.0, 1.0), None, rule, above=0.0, gates=gates)


def add_format_claims(made: ClaimList, table: "DataFrame") -> None:
    """Add the lines of claim 3.8 to those of an experiment.

    The primary line leaves the far formats out: a few mangled names and questions, which alone would make it positive.
    """
    rows = sound_formats(table)
    asked = rows["format"].nunique()
    gates = [Gate("formats that can be answered", float(asked) if asked else None, at_least=MIN_FORMATS)]
    known = part3_reporting.accuracy_of(rows, "exact", closeness=2)
    gates.append(Gate("formats as trained", known, at_least=part3_reporting.MIN_TRAINED_ACCURACY))
    graded = rows[rows["closeness"] > 0]
    tau = mean_of(closeness_correlation(graded), -1.0, 1.0)
    name = "rank correlation (Kendall's tau) of closeness to training and right answers, formats as trained and near"
    rule, note = "above 0: closer formats are answered better", _describe_formats(table, graded)
    made.add("3.8", name, tau, None, rule, above=0.0, primary=True, gates=gates, note=note)
    trained, near, far = (mean_by_seed(rows, "exact", closeness=closeness) for closeness in (2, 1, 0))
    name = "held-out people answered right: formats as trained minus near ones"
    gap = difference_of(trained, near, -1, 1)
    made.add("3.8", name, gap, None, "above 0", above=0.0, gates=gates)
    name = "held-out people answered right: formats as trained minus far ones, mangled names and questions"
    gap, note = difference_of(trained, far, -1, 1), f"far formats: {_list_formats(rows[rows['closeness'] == 0])}"
    made.add("3.8", name, gap, None, "above 0: mangled ones are answered worse", above=0.0, gates=gates, note=note)


def _describe_formats(table: "DataFrame", counted: "DataFrame") -> str:
    """How many formats the rank correlation counts, and which it leaves out."""
    rows = format_rows(table)
    far, ill_posed = rows[rows["reason"].isna() & (rows["closeness"] == 0)], rows[rows["reason"].notna()]
    left_out = {"far": far, "cannot be answered": ill_posed}
    words = "; ".join(f"{why}: {_list_formats(part)}" for why, part in left_out.items() if len(part))
    counts = f"over {counted['format'].nunique()} formats; closeness is our own judgement"
    return f"{counts}; left out: {words}" if words else counts


def _list_formats(rows: "DataFrame") -> str:
    return ", ".join(dict.fromkeys(rows["format"]))
