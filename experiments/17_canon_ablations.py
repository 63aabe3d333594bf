"""Which Canon layers matter, what one layer can then recall, and what QK-norm does (claims 4.6 to 4.8)

Part 4.1 (arXiv 2512.17351), results 1 and 4, Figures 5 and 27: places A, B, C, D alone and together, without the
residual, with a shorter kernel, with an activation, with taps frozen as they were drawn; models of one size, at the
best of the same learning rates. Then copying and associative recall by one layer with and without Canon layers and by
two, at several widths. Last, queries and keys with and without an RMS norm at the usual learning rate and above it.

What one should see: each place helps and all help most; without the residual and without positions less is learned; an
activation gives nothing; frozen taps are nearly as good. One narrow layer with Canon layers copies and recalls, one
without does not, two do. With the norm queries and keys keep their length and the loss does not jump at a high rate.
Hollow diamonds: the paper, 12 layers of width 768, its largest sizes.

Tasks and cost (experiments/harness/playground/task_suite.py): smoke, seconds; laptop, places by arithmetic alone, a
quarter of an hour on two cores; overnight, three hours; gpu, half an hour (these two not measured); paper, 12 layers of
width 768, and one or two layers for a copy of 500 tokens.
"""

from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.playground import comparison, scorecard
from experiments.harness.playground.comparison import ScoreColumn, paired_gain
from experiments.harness.playground.task_suite import (
    SCORE_COLUMNS,
    TASK_SUITE,
    base_model_config,
    build_evaluations,
    build_task,
    build_train_config,
    configurations,
    fewer_num_seeds,
    skill_name,
)  # fmt: skip
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList
from experiments.harness.reporting.stats import select_rows, with_columns
from experiments.harness.run import Run, with_seeds

NAME = Path(__file__).stem
FULL_CANON = {"canon": "ABCD"}
NOPE = {"positions": "none", **FULL_CANON}
CANON_SETS: dict[str, dict] = {
    "none": {},
    **{places: {"canon": places} for places in ("A", "B", "C", "D", "AC", "BD", "ABC", "ABCD")},
    "ABCD, kernel 2": {**FULL_CANON, "canon_kernel": 2},
    "ABCD, kernel 3": {**FULL_CANON, "canon_kernel": 3},
    "ABCD, frozen taps": {**FULL_CANON, "canon_learnable": False},
    "ABCD, activation": {**FULL_CANON, "canon_activation": True},
    "ABCD, no residual": {**FULL_CANON, "canon_residual": False},
    "NoPE, ABCD": NOPE,
    "NoPE, ABCD, no residual": {**NOPE, "canon_residual": False},
}
TASKS = {"laptop": ("mano",), "paper": ("depo", "brevo", "mano", "cfg")}  # else depth and arithmetic
# Claim 4.7: what is changed in the base of the copy test, whose width is varied; sizes are not matched, as in Figure 5.
RECALL_ARCHITECTURES: dict[str, dict] = {"1 layer": {}, "1 layer + Canon": FULL_CANON, "2 layers": {"n_layers": 2}}
WIDTHS = {"smoke": (16,), "laptop": (8, 16, 32), "overnight": (8, 16, 32, 64), "gpu": (16, 64, 128, 256),
          "paper": (16, 32, 64, 128, 256)}  # fmt: skip
# Claim 4.8: learning rates as multiples of the usual one.
QK_NORM_ARCHITECTURES: dict[str, dict] = {"plain": {}, "QK-norm": {"qk_norm": True}}
LR_FACTORS = (1, 4, 16)

# Figure 27, 12 layers, width 768, largest sizes; Depo1 as the mean of 8 and of 4 steps.
_NAMES = ("none", "B", "AC", "BD", "ABC", "ABCD")
PAPER = {
    "depo": dict(zip(_NAMES, (0.0, 0.065, 0.94, 0.755, 0.445, 0.985), strict=True)),
    "brevo": dict(zip(_NAMES, (0.275, 0.362, 0.486, 0.554, 0.526, 0.588), strict=True)),
    "mano": dict(zip(_NAMES, (0.416, 0.794, 0.783, 0.798, 0.864, 0.830), strict=True)),
    "cfg": dict(zip(_NAMES, (0.791, 0.898, 0.863, 0.852, 0.898, 0.867), strict=True)),
}


def runs(scale: str) -> list[Run]:
    """Places and forms of Canon layers, layers needed for recall, and QK-norm."""
    made = []
    for task in TASKS.get(scale, ("depo", "mano")):
        made += with_seeds(configurations(NAME, scale, task, CANON_SETS, study="places"), fewer_num_seeds(scale, task))
    for task in ("copy", "recall"):
        made += with_seeds(recall_runs(scale, task), fewer_num_seeds(scale, task))
    return made + with_seeds(qk_norm_runs(scale), fewer_num_seeds(scale, "cfg"))


def recall_runs(scale: str, task: str) -> list[Run]:
    """One layer, one with Canon layers, and two layers, at every width and rate."""
    base, world = base_model_config(scale, task), build_task(scale, task)
    made = []
    for width in WIDTHS[scale]:
        for name, changes in RECALL_ARCHITECTURES.items():
            model = replace(base, d_model=width, **changes)
            for lr in TASK_SUITE[scale][task].learning_rates:
                tags = {"task": task, "architecture": name, "lr": lr, "study": "recall", "width": width}
                train = build_train_config(scale, task, lr)
                made.append(Run(NAME, world, model, train, build_evaluations(scale, task), tags=tags))
    return made


def qk_norm_runs(scale: str) -> list[Run]:
    """With and without QK-norm on the grammar, at the usual learning rate and above it."""
    from probing.reasoning.qk_norms import QKNorms

    base, world, made = base_model_config(scale, "cfg"), build_task(scale, "cfg"), []
    for name, changes in QK_NORM_ARCHITECTURES.items():
        for times in LR_FACTORS:
            lr = TASK_SUITE[scale]["cfg"].learning_rates[-1] * times
            tags = {"task": "cfg", "architecture": name, "lr": lr, "study": "norm", "times": times}
            model, train = replace(base, **changes), build_train_config(scale, "cfg", lr)
            made.append(Run(NAME, world, model, train, (*build_evaluations(scale, "cfg"), QKNorms()), tags=tags))
    return made


# ---- figure ----------------------------------------------------------------------------------------------------
UNSTABLE = ScoreColumn("the loss jumps or diverges", "TrainingLog", "unstable", 1.0)
GROWTH = ScoreColumn("growth of queries and keys", "Norms", "growth", 1.0)


def figure(table):
    """Places and forms of Canon layers, a panel a task; copying and recall by width; norms and jumps by rate."""
    places = select_rows(with_columns(table, ["study"]), study="places")
    scores = {task: SCORE_COLUMNS[task] for task in PAPER}
    drawing, beside = scorecard.plot_scorecard(places, scores, list(CANON_SETS), "none", PAPER, extra_panels=4)
    for axes, task in zip(beside, ("copy", "recall"), strict=False):
        plot_medians(axes, recall_rows(table, task), "width", RECALL_ARCHITECTURES)
        axes.set(title=SCORE_COLUMNS[task].title, xlabel="width of the model")
        axes.set(ylabel="right answers", ylim=(-0.03, 1.03))
    for axes, score, y in ((beside[2], GROWTH, "length at the end / at the beginning"),
                           (beside[3], UNSTABLE, "share of seeds")):  # fmt: skip
        plot_medians(axes, qk_norm_rows(table, score), "times", QK_NORM_ARCHITECTURES)
        axes.set(title=score.title, xlabel="learning rate over the usual one", ylabel=y)
    what = f"Part 4.1, results 1 and 4, at scale {table['scale'].iloc[0]}; p: against none"
    scorecard.set_title(drawing, table, what)
    return drawing


def recall_rows(table, task: str):
    """Copying or recall at each architecture's best rate."""
    part = select_rows(with_columns(table, ["study", "width"]), study="recall", task=task)
    return comparison.at_best_lr(SCORE_COLUMNS[task].select(part), ["architecture", "width"]) if len(part) else part


def qk_norm_rows(table, score: ScoreColumn):
    """One score of the runs with and without QK-norm; growth is unknown for a run that diverged."""
    part = select_rows(with_columns(table, ["study", "times", "spikes"]), study="norm")
    found = score.select(part.assign(unstable=(part["spikes"] > 0).astype(float)))
    return found if score is UNSTABLE else found[~found["diverged"].eq(True)]


def plot_medians(axes, table, x: str, order) -> None:
    """Medians over seeds as a line per architecture, a dot per seed, x on a logarithmic axis of base 2."""
    axes.set_xscale("log", base=2)
    for name, color in zip(order, figures.colors(len(order)), strict=True):
        part = table[table["architecture"] == name] if len(table) else table
        if len(part):
            medians = part.groupby(x)["score"].median()
            axes.plot(medians.index, medians, "-", color=color, label=name)
            axes.plot(part[x], part["score"], "o", color=color, alpha=0.5, markersize=4)
    axes.xaxis.set_major_formatter("{x:g}")
    if axes.lines:
        axes.legend(fontsize=8)


# ---- claims: thresholds from the paper's statements, written before any number was known -----------------------
def claims(table) -> list[Claim]:
    """Claims 4.6 to 4.8; smoke decides nothing."""
    made = ClaimList(table)
    for add in (_add_canon_claims, _add_recall_claims, _add_qk_norm_claims):
        add(made, table)
    return made


def _add_canon_claims(made: ClaimList, table) -> None:
    places = select_rows(table, study="places")
    scores = comparison.select_scores(places, {task: SCORE_COLUMNS[task] for task in PAPER})
    best = comparison.at_best_lr(scores, ["task", "architecture"])
    tasks = [task for task in PAPER if (best["task"] == task).any()]

    def add(a: str, b: str, threshold: str, paper=None, **limits: float) -> None:
        if paper is None and a in _NAMES and b in _NAMES:
            paper = round(sum(PAPER[task][a] - PAPER[task][b] for task in tasks) / len(tasks), 3)
        words = f"mean over {', '.join(skill_name(task, table) for task in tasks)}: Canon {a} minus {b}"
        made.add("4.6", words, paired_gain(best, a, b), paper, threshold, True, **limits)

    for place in "ABCD":
        add(place, "none", "above 0: helps", above=0.0)
    for less in ("AC", "BD"):
        add("ABCD", less, "above 0: all are better than two", above=0.0)
    published = "96.1 against 89.3 (Brevo2), 53.1 against 18.3 (cfg3k)"
    add("NoPE, ABCD", "NoPE, ABCD, no residual", "above 0: the residual matters", published, above=0.0)
    add("ABCD, activation", "ABCD", "below 0.02: gives nothing", "nothing", below=0.02)
    published = "98.1 (quarter rotary) against 41.6 (Mano)"
    add("ABCD, frozen taps", "none", "above 0: even frozen taps help", published, above=0.0)


def _add_recall_claims(made: ClaimList, table) -> None:
    for task, words in {"copy": "copies", "recall": "recalls"}.items():
        part = recall_rows(table, task)
        narrow = part[part["width"] == part["width"].min()]
        for name, paper, threshold, limits in (
            ("1 layer + Canon", "does", "above 0.9: does", {"above": 0.9}),
            ("1 layer", "does not below width 128", "below 0.5: does not", {"below": 0.5}),
            ("2 layers", "does", "above 0.9: does", {"above": 0.9}),
        ):
            found = narrow.loc[narrow["architecture"] == name, "score"]
            paper = f"{paper} (copy test)" if task == "copy" else "-"
            statement = f"{name} of the least width {words}, share right"
            made.add("4.7", statement, found, paper, threshold, True, **limits)


def _add_qk_norm_claims(made: ClaimList, table) -> None:
    grown, jumps = qk_norm_rows(table, GROWTH), qk_norm_rows(table, UNSTABLE)
    usual, high = select_rows(grown, times=1), select_rows(jumps, times=max(LR_FACTORS))
    held = usual.loc[usual["architecture"] == "QK-norm", "score"]
    name = "queries and keys at the end over the beginning, with QK-norm"
    made.add("4.8", name, held, "-", "below 1.5: no growth", below=1.5)
    growth, jumps_gap = (paired_gain(rows, "plain", "QK-norm") for rows in (usual, high))
    name = "growth of queries and keys: plain minus QK-norm"
    made.add("4.8", name, growth, "-", "above 0.5: only without the norm", above=0.5)
    name = f"share of seeds whose loss jumps at {max(LR_FACTORS)} times the rate: plain minus QK-norm"
    made.add("4.8", name, jumps_gap, "-", "above 0", above=0.0)


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
