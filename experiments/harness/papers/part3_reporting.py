"""What the experiments on people report alike (Part 3.1, arXiv 2309.14316; Part 3.2, arXiv 2309.14402): words for their
conditions, captions, estimates of shares of people, and the gates of their claims."""

from functools import partial
from typing import TYPE_CHECKING, Any

from experiments.harness.papers import part3_people
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Gate
from experiments.harness.reporting.rows import mean_by_seed, select_rows
from experiments.harness.statistics.estimates import Estimate, share_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LABELS = {
    "single": "one wording",
    "single+fullname": "one wording, name repeated",
    "single+permute1": "one wording, shuffled",
    "single+permute5": "one wording, five orders",
    "multi2": "two wordings",
    "multi5": "five wordings",
    "multi5+fullname": "five wordings, name repeated",
    "multi5+permute": "five wordings, shuffled",
    "multi5+permute+fullname": "five wordings, shuffled, name repeated",
    "multi5+reverse1": "five wordings, name in 2nd sentence",
    "multi5+reverse2": "five wordings, name in 3rd sentence",
    "multi5+reverse6": "five wordings, name last",
    "multi5+permute+reverse6": "five wordings, shuffled, name last",
    "finetuned by LoRA": "questions after biographies, LoRA",
    "finetuned in full": "questions after biographies, all weights",
    "mixed": "questions mixed with biographies",
    "with celebrities": "beside people with five wordings",
    "without": "alone",
    "university": "univ.",
}


# ---- claims ----------------------------------------------------------------------------------------------------
# Conditions without which a claim cannot be decided. They were written after the laptop's numbers had been seen, with
# limits from the paper's settings: they withhold verdicts and make none.
MIN_SHARED_SURNAMES = 5.0
MIN_DECAY = 0.44
MIN_TRAINED_ACCURACY = 0.9


def surname_gate(scale: part3_people.Scale) -> Gate:
    """The gate of claims on models that are finetuned or probed with updates of the embedding.

    Where every surname belongs to one person, such an update stores the answers of the training people in the rows of
    their surnames, and says nothing about others. In the paper a hundred people share one.
    """
    task = part3_people.biography_task(scale, "single")
    return Gate("people of one surname, on average", task.people / task.last, at_least=MIN_SHARED_SURNAMES)


def decay_gate(scale: part3_people.Scale) -> Gate:
    """The gate of claims on extraction from one wording by mixed training: weight decay that acts within the training.

    Its effect goes with the learning rate times the decay, summed over the steps: 4.4 in the paper, of which a tenth
    is needed.
    """
    budget, mean_of_cosine = part3_people.size_of(scale).mixed_training, 0.55
    total = budget.steps * budget.lr * mean_of_cosine * budget.weight_decay
    return Gate("rate times weight decay, summed over training", total, at_least=MIN_DECAY)


def trained_gate(accuracy: "Estimate | None") -> Gate:
    """The gate of claims on held-out people: the people of the training questions are answered."""
    return Gate("answers about the people of the training questions", accuracy, at_least=MIN_TRAINED_ACCURACY)


def accuracy_of(rows: "DataFrame", column: str, items: str = "persons", **values: Any) -> "Estimate | None":
    """The mean over seeds of a share among the rows with these values; None if there are none.

    items: the column with the number of people asked about. Several questions about one person count as one item, since
    a model that confuses the person is wrong about all of them.
    """
    rows = select_rows(rows, **values).dropna(subset=[column])
    return share_of(mean_by_seed(rows, column), float(rows[items].min())) if len(rows) else None


# ---- figures ---------------------------------------------------------------------------------------------------
SHARES = (0.0, 1.0)  # where axes of shares end
MARKS = "Small dots are seeds, large ones their mean; bars: 90% intervals (5% a side)."
CURVE_MARKS = "Small dots and thin lines are seeds, large and thick ones their mean; bars and bands: 90% intervals."


def share_estimator(rows: "DataFrame", items: str = "persons") -> Any:
    """How `plot_means_with_ci` estimates shares of these rows; see `accuracy_of`."""
    return partial(share_of, items=float(rows[items].min()) if rows[items].notna().any() else 1.0)


def describe_world(table: "DataFrame", *by: str) -> str:
    """A sentence with people, model size and the number of seeds (the least over the groups `by`)."""
    size, people = table["parameters"].median() / 1e6, int(table["people_told"].max())
    n = table.groupby(list(by))["seed_init"].nunique().min()
    return f"{people:,} people, {size:.2g}M parameters, n = {n} seeds"


def caption(figure: "Figure", table: "DataFrame", text: str, *by: str, marks: str = MARKS) -> None:
    """Put a caption under the panels: the world, the protocol, and how to read the marks.

    by: the columns that tell configurations apart; the number of seeds is the least of theirs.
    """
    figures.set_caption(figure, f"{describe_world(table, *by)}. {text} {marks}")


def is_larger_task(table: "DataFrame") -> bool:
    """Whether the paper's numbers were measured on a larger task than those of the table."""
    return str(table["scale"].iloc[0]) != "paper"
