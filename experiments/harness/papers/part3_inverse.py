"""Tables and panels of experiment 09: names from facts, facts from names, and the routed system (Part 3.2, arXiv
2309.14402, Figure 6; probing/knowledge/manipulation.py, probing/routed_qa/evaluation.py)."""

from typing import TYPE_CHECKING, Any

from experiments.harness.papers import part3_reporting
from experiments.harness.papers.numbers import paper_number, paper_numbers
from experiments.harness.papers.part3_people import RECIPES, REVERSED_WORDINGS
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Gate
from experiments.harness.reporting.rows import select_rows, with_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

FINETUNED, MIXED = RECIPES[0], RECIPES[2]
MAIN_WORDING = "multi5+permute"
GIVEN_FACTS = {"bdate": "birth date", "birth": "birth date, city", "three": "three", "four": "four", "all": "all six"}
MODEL_KEYS = ["wording", "model", "recipe"]
CONFIGURATION = [*MODEL_KEYS, "given"]
TRAINED_FOUND = "people of the training questions found, all facts given"


# ---- tables ----------------------------------------------------------------------------------------------------
def with_all_columns(table: "DataFrame") -> "DataFrame":
    """The table with the columns of all evaluations."""
    needed = "evaluation half question accuracy floor attribute exact kind who given routed n persons people"
    return with_columns(table, needed.split())


def inverse_rows(table: "DataFrame", half: str = "second") -> "DataFrame":
    """Inverse questions about one half of the people: the facts `given`, the `name` asked for, and `right`."""
    rows = select_rows(with_all_columns(table), evaluation="Manipulation", half=half)
    question = rows["question"].astype(str)
    given, name = (question.str.replace(other, "", regex=True) for other in ("_to_.*", ".*_to_"))
    return rows.assign(given=given, name=name, right=rows["accuracy"])


def forward_rows(table: "DataFrame", half: str = "second") -> "DataFrame":
    """Forward questions about one half of the people, all six together, with `right`: the share answered right."""
    rows = select_rows(with_all_columns(table), evaluation="Extraction", half=half, attribute="all")
    return rows.assign(right=rows["exact"])


def routed_rows(table: "DataFrame") -> "DataFrame":
    """Answers of the routed system and of its model alone, a row per kind of question."""
    return select_rows(with_all_columns(table), evaluation="SystemComparison", question="all")


def main_model_rows(table: "DataFrame") -> "DataFrame":
    """The rows of the scale's usual model: the one trained on most wordings."""
    counts = table.groupby("model")["wording"].nunique()
    return select_rows(table, model=counts.idxmax()) if len(counts) else table


def best_recipe(rows: "DataFrame", **values: Any) -> str:
    """The recipe with the higher mean accuracy in these rows, as the paper reports; mixed if there are none."""
    means = select_rows(rows, **values).groupby("recipe")["right"].mean().dropna()
    return str(means.idxmax()) if len(means) else MIXED


def highest_by_seed(rows: "DataFrame") -> "Series":
    """By seed, the highest share of names found over wordings, models, recipes and questions."""
    return rows.groupby([*CONFIGURATION, "seed_init"])["right"].mean().groupby("seed_init").max()


def highest_mean(rows: "DataFrame") -> float | None:
    """The highest mean over seeds among wordings, models, recipes and questions; None if there are none."""
    means = rows.groupby(CONFIGURATION)["right"].mean()
    return float(means.max()) if len(means) else None


def trained_names(table: "DataFrame") -> "DataFrame":
    """Full names of people of the training questions, asked for with all six facts given."""
    return select_rows(inverse_rows(table, "first"), name="full", given="all")


def trained_gate(table: "DataFrame", **values: Any) -> Gate:
    """The gate that models with these values find the people of their training questions."""
    found = part3_reporting.accuracy_of(trained_names(table), "right", "n", **values)
    return Gate(TRAINED_FOUND, found, at_least=part3_reporting.MIN_TRAINED_ACCURACY)


def split_by_learning(table: "DataFrame", rows: "DataFrame") -> tuple["Series", "Series"]:
    """The shares of `trained_names` that were found, means over seeds by MODEL_KEYS, of the models in `rows`: first of
    those that find at least MIN_TRAINED_ACCURACY, and so have learned the questions, then of the others."""
    means = trained_names(table).groupby(MODEL_KEYS)["right"].mean()
    means = means[means.index.isin(_model_index(rows))]
    has_learned = means >= part3_reporting.MIN_TRAINED_ACCURACY
    return means[has_learned], means[~has_learned]


def rows_of_models(rows: "DataFrame", models: "Series") -> "DataFrame":
    """The rows of the models that index a result of `split_by_learning`."""
    return rows[_model_index(rows).isin(models.index)]


def _model_index(rows: "DataFrame") -> Any:
    from pandas import MultiIndex

    return MultiIndex.from_frame(rows[MODEL_KEYS])


def describe_models(models: "Series") -> str:
    """Model sizes (layers x width) by wording and recipe, with the shares of a result of `split_by_learning`."""
    labels = part3_reporting.LABELS
    return ", ".join(
        f"{model} ({labels.get(wording, wording)}; {recipe}) {share:.3g}"
        for (wording, model, recipe), share in models.items()
    )


def forward_and_inverse_rows(table: "DataFrame") -> "DataFrame":
    """Forward and inverse questions in one table, by `what`."""
    import pandas

    inverse = select_rows(inverse_rows(table), name="full")
    by = ["wording", "recipe", "model", "parameters", "seed_init"]
    inverse = inverse.groupby(by, as_index=False)[["right", "n"]].max()
    parts = {
        "facts from the name": forward_rows(table).assign(n=forward_rows(table)["persons"]),
        "full name from facts, the best of five questions": inverse,
        "full name, people of the training questions, all facts given": trained_names(table),
    }
    return pandas.concat([part[[*by, "right", "n"]].assign(what=what) for what, part in parts.items()])


# ---- panels ----------------------------------------------------------------------------------------------------
def shown_recipe(table: "DataFrame") -> str:
    """The recipe that the panels show."""
    return MIXED if MIXED in set(table["recipe"]) else FINETUNED


def paper_full_name(recipe: str, wording: str, given: str) -> float:
    """The paper's share of full names found; NaN where it is not known."""
    if wording not in REVERSED_WORDINGS:
        return paper_number("3.2", "Figure 6", "name first", "any question, full name")
    return paper_numbers("3.2", "Figure 6").get((f"{recipe}: {wording}", f"{given}_to_full"), float("nan"))


def plot_by_given_facts(axes: "Axes", table: "DataFrame", name: str) -> None:
    """Names found by the facts given, a colour per wording; diamonds: the paper's full names."""
    recipe = shown_recipe(table)
    rows = select_rows(main_model_rows(inverse_rows(table)), name=name, recipe=recipe)
    _plot_shares(axes, rows, "given", "wording", list(GIVEN_FACTS))
    wordings = list(dict.fromkeys(rows["wording"]))
    diamonds = [
        (figures.dodge(place, g, len(wordings)), paper_full_name(recipe, wording, given))
        for g, wording in enumerate(wordings if name == "full" else ())
        for place, given in enumerate(GIVEN_FACTS)
    ]
    if diamonds:
        figures.plot_paper_crosses(axes, diamonds, larger_task=part3_reporting.is_larger_task(table))
    axes.plot([], [], ":", color=figures.BASELINE_COLOR, label="chance")
    figures.plot_chance_marks(axes, dict.fromkeys(range(len(GIVEN_FACTS)), rows["floor"].mean()), 0.5)
    axes.set(title=f"The {name} name from these facts", ylabel="share of names found")
    figures.legend_outside(axes)


def plot_directions(axes: "Axes", table: "DataFrame") -> None:
    """The same models, asked forwards and backwards."""
    rows = select_rows(forward_and_inverse_rows(main_model_rows(table)), recipe=shown_recipe(table))
    _plot_shares(axes, rows, "wording", "what", list(dict.fromkeys(main_model_rows(table)["wording"])))
    axes.set(title="The same model forwards and backwards", ylabel="share answered right")
    figures.legend_outside(axes)


def plot_sizes(axes: "Axes", table: "DataFrame") -> None:
    """Models of several sizes on one corpus."""
    rows = forward_and_inverse_rows(table)
    sizes = rows.groupby("wording")["model"].nunique()
    swept = str(sizes.idxmax()) if len(sizes) else MAIN_WORDING
    rows = select_rows(rows, wording=swept, recipe=shown_recipe(table)).sort_values("parameters", kind="stable")
    _plot_shares(axes, rows, "model", "what", list(dict.fromkeys(rows["model"])))
    axes.set(title=f"Model sizes: {part3_reporting.LABELS.get(swept, swept)}", ylabel="share answered right")
    axes.set_xlabel("layers x width")
    figures.legend_outside(axes)


def plot_routed_system(axes: "Axes", table: "DataFrame") -> None:
    """The routed system and its model alone, by kind of question."""
    rows = routed_rows(table)
    rows = rows.assign(right=rows["accuracy"], n=rows["people"])
    _plot_shares(axes, rows, "kind", "who", list(dict.fromkeys(rows["kind"])))
    axes.set(title="With a database and written-out steps", ylabel="share answered right")
    figures.legend_outside(axes)


OTHER_PANELS = (plot_directions, plot_sizes, plot_routed_system)


def _plot_shares(axes: "Axes", rows: "DataFrame", x: str, hue: str, order: list) -> None:
    """`right` by x and hue, on an axis from 0 to 1."""
    who = {"system": "routed system", "bare model": "its model alone, trained on retrieval and inverse questions"}
    kinds = {
        "retrieval": "retrieve",
        "classification": "classify",
        "comparison": "compare",
        "unanswerable": "nobody knows",
    }
    style: dict[str, Any] = {"labels": {**part3_reporting.LABELS, **GIVEN_FACTS, **who, **kinds}, "legend": False}
    estimate, limits = part3_reporting.share_estimator(rows, "n"), part3_reporting.SHARES
    figures.plot_means_with_ci(axes, rows, x, "right", hue, order, estimate, limits, **style)
