"""Where are the facts that a model can be asked for, and what opens them? (claims 3.4 to 3.8)

Part 3.1 (arXiv 2309.14316), results 4 to 7, Figures 5, 7 and 8. Top row: models trained on biographies are probed at
the first of the six special positions of a biography, where only the name has been seen (P-probe), at all of them, and
from the name alone (Q-probe), beside the same probes of an untrained model. Then celebrities: half of the people have
five shuffled wordings and questions, and the others, with one biography each and no question, are tested. Bottom row:
models trained on biographies and questions together. A masked encoder is compared with the GPT; the GPT is tested
without each of its blocks, and with prompts that are more and less like its training.

What one should see: facts in many wordings can be read off the name; in one wording only where they are about to be
written. Celebrities help the people with one wording. The encoder answers only about the people of its training
questions. No single block holds everything. The further a prompt is from training, the fewer answers are right.

Worlds and cost: those of experiment 06, whose models are reused; for probes the smaller scales take lists of ten
values, since two hundred people are too few to learn sixty. Smoke, seconds; laptop, a quarter of an hour on two cores;
overnight, three hours on two cores; gpu, half an hour (these two not measured); paper, 80,000 steps a model (150,000
for the encoder) and 30,000 updates a probe.
"""

from pathlib import Path
from typing import Any

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part3_people as people
from experiments.harness.papers import part3_prompts
from experiments.harness.papers.part3_people import SCALE_CONFIGS
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList
from experiments.harness.reporting.stats import mean_by_seed
from experiments.harness.run import Run, default_seeds, with_seeds
from synth.bio.value_lists import ATTRIBUTES
from synth.mixture import Mixture
from synth.tasks.bios import Half

NAME = Path(__file__).stem
SINGLE_WORDING, MANY_WORDINGS, UNTRAINED = "single", "multi5+permute", "untrained"
MINORITY = "single+permute1"  # of the celebrities' world: one biography each, as the paper's main case
WITH_CELEBRITIES, WITHOUT_CELEBRITIES = "with celebrities", "without"
GPT, ENCODER = "GPT", "encoder"
LATER_ATTRIBUTES = ATTRIBUTES[1:]  # one wording begins with the birth date, which so follows the name in every case
TRAINED_HALF: Half = "first"  # halves of the people, by whether questions about them are trained on
HELD_OUT_HALF: Half = "second"

# Part 3.1, Figure 5, by attribute at positions 0 to 5; Figure 7, whole values of LATER; Figures 8 and 17.
PAPER_P = {
    SINGLE_WORDING: (
        (1.0, 1.0, 1.0, 1.0, 1.0, 1.0), (0.059, 1.0, 1.0, 1.0, 1.0, 1.0), (0.380, 0.371, 0.992, 0.992, 0.992, 0.992),
        (0.047, 0.046, 0.054, 0.999, 0.999, 0.999), (0.015, 0.012, 0.013, 0.024, 0.995, 0.995),
        (0.154, 0.154, 0.149, 0.130, 0.691, 1.0),
    ),
    MANY_WORDINGS: (
        *((1.0,) * 6 for _ in range(4)), (0.999, 0.999, 0.999, 1.0, 1.0, 1.0), (0.998, 0.998, 0.998, 0.999, 1.0, 1.0),
    ),
}  # fmt: skip
PAPER_Q = {SINGLE_WORDING: (0.011, 0.003, 0.014, 0.001, 0.116), MANY_WORDINGS: (0.961, 0.726, 0.949, 0.996, 0.997)}
PAPER_MINORITY = {WITH_CELEBRITIES: 0.868, WITHOUT_CELEBRITIES: 0.044}
PAPER_GPT, PAPER_ENCODER = 0.955, (0.157, 0.436)  # the encoder's lowest and highest mean over all wordings


# ---- runs ------------------------------------------------------------------------------------------------------
# Fits of the P-probe and of the Q-probe; people asked in formats and without blocks. The P-probe reads whole
# biographies, once for every attribute, so that updates of the embedding are what takes time.
PROBE_SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "smoke": ({"updates": 5, "batch_size": 4}, {"updates": 10, "batch_size": 10, "embed_rank": 2}),
    "laptop": (
        {"updates": 80, "head_updates": 1500, "batch_size": 32, "lr": 1e-2},
        {"updates": 150, "head_updates": 300, "batch_size": 100, "lr": 1e-2, "embed_rank": 2},
    ),
    "overnight": (
        {"updates": 1500, "head_updates": 3000, "lr": 3e-3},
        {"updates": 2000, "head_updates": 2000, "lr": 3e-3},
    ),
    "gpu": ({"updates": 2000, "head_updates": 2000}, {"updates": 4000, "head_updates": 2000}),
    "paper": ({}, {}),
}
# A probe learns every value anew, from the people that have it: with sixty values a Q-probe of two hundred people is
# right about all of them and hardly about others. Values in each list, and how much longer such people are read about.
VALUES_PER_LIST = {"laptop": 10, "overnight": 30}
PRETRAIN_STEP_FACTOR = {"laptop": 1.6}
NUM_ASKED_PEOPLE = {"smoke": 4, "laptop": 60, "overnight": 200, "gpu": 500, "paper": 2000}
# How many times as long as the others the model reads that knows celebrities, since the minority has only a sixth of
# its text, and an encoder learns, which is asked for 15% of its tokens alone, and that at 0.3 times the rate: in the
# paper 80,000 steps of 1e-3, but for encoders 150,000 of 3e-4.
STEP_FACTORS = {
    "smoke": (1.0, 1.0),
    "laptop": (1.5, 1.5),
    "overnight": (1.5, 1.875),
    "gpu": (1.0, 1.0),
    "paper": (1.0, 1.875),
}
ENCODER_RATE = 0.3


def runs(scale: str) -> list[Run]:
    """The probed models, those with and without celebrities, GPT and encoder; three seeds each (one at smoke)."""
    made = [*probe_runs(scale), *celebrity_runs(scale), *mixed_runs(scale)]
    return with_seeds(made, default_seeds(scale))


def make_run(
    scale: str, study: str, case: str, task: Any, model: Any, train: Any, evaluations: tuple, *later_stages: Any
) -> Run:
    """A run with the tags study, case and people_told."""
    tags = {"study": study, "case": case, "people_told": SCALE_CONFIGS[scale].people}
    return Run(NAME, task, model, train, evaluations, tags=tags, later_stages=later_stages)


def probe_runs(scale: str) -> list[Run]:
    """Models trained on biographies of one wording or of many, as in experiment 06, and an untrained one."""
    from probing.knowledge.fact_probes import PProbe, QProbe  # torch comes with it, and --help has no need of torch

    p_probe, q_probe = PROBE_SETTINGS[scale]
    probes = (PProbe(split="train", **p_probe), QProbe(target="whole", **q_probe))
    model = people.make_model_config(scale)
    list_sizes = dict.fromkeys(("cities", "universities", "majors", "employers"), VALUES_PER_LIST.get(scale))
    changes = list_sizes if scale in VALUES_PER_LIST else {}
    worlds = {case: people.biography_task(scale, case, **changes) for case in (SINGLE_WORDING, MANY_WORDINGS)}
    steps = round(SCALE_CONFIGS[scale].pretraining.steps * PRETRAIN_STEP_FACTOR.get(scale, 1.0))
    train = people.pretrain_config(scale, steps=steps)
    made = [make_run(scale, "probes", case, world, model, train, probes) for case, world in worlds.items()]
    return [*made, make_run(scale, "probes", UNTRAINED, worlds[MANY_WORDINGS], model, None, probes)]


def celebrity_runs(scale: str) -> list[Run]:
    """The second half of the people with one biography each, beside a first half with many wordings or one; both models
    are finetuned on questions about the first half."""
    famous = people.biography_task(scale, MANY_WORDINGS, half=TRAINED_HALF)
    others = people.biography_task(scale, MINORITY, half=HELD_OUT_HALF)
    steps = round(SCALE_CONFIGS[scale].pretraining.steps * STEP_FACTORS[scale][0])
    pretraining = {
        WITH_CELEBRITIES: (Mixture((famous, others), (5 / 6, 1 / 6)), people.pretrain_config(scale, steps=steps)),
        WITHOUT_CELEBRITIES: (people.biography_task(scale, MINORITY), people.pretrain_config(scale)),
    }
    finetuning = people.finetune_stage(scale, people.question_task(scale, MINORITY), people.RECIPES[0])
    model = people.make_model_config(scale)
    return [
        make_run(scale, "celebrities", case, task, model, train, extractions(scale), finetuning)
        for case, (task, train) in pretraining.items()
    ]


def extractions(scale: str) -> tuple:
    """Questions about all held-out people, and about some of those with training questions."""
    from probing.knowledge.extraction import Extraction

    trained = Extraction(half=TRAINED_HALF, people=NUM_ASKED_PEOPLE[scale], score_all_values=False)
    return Extraction(half=HELD_OUT_HALF), trained


def mixed_runs(scale: str) -> list[Run]:
    """A GPT and an encoder trained on biographies of many wordings and questions about the first half together."""
    from probing.knowledge.extraction import LayerDeletion
    from probing.knowledge.prompt_sensitivity import PromptSensitivity

    biographies, questions = people.biography_task(scale, MANY_WORDINGS), people.question_task(scale, MANY_WORDINGS)
    task = people.mixed_task(scale, biographies, questions)
    num_people, effort = NUM_ASKED_PEOPLE[scale], SCALE_CONFIGS[scale].mixed_training
    gpt, encoder = people.make_model_config(scale), people.make_model_config(scale, causal=False)
    steps, lr = round(effort.steps * STEP_FACTORS[scale][1]), effort.lr * ENCODER_RATE
    train = people.mixed_train_config(scale)
    masked = people.mixed_train_config(scale, steps=steps, lr=lr, objective="masked")
    more = (LayerDeletion(people=num_people), PromptSensitivity(people=num_people, score_all_values=False))
    return [
        make_run(scale, "mixed", GPT, task, gpt, train, (*extractions(scale), *more)),
        make_run(scale, "mixed", ENCODER, task, encoder, masked, extractions(scale)),
    ]


# ---- tables ----------------------------------------------------------------------------------------------------
def later_attribute_accuracy(table, evaluation: str, **values):
    """A probe's mean accuracy over LATER_ATTRIBUTES, a row for each case, seed and position."""
    rows = part3_prompts.answer_rows(table, evaluation, **values)
    rows = rows[rows["attribute"].isin(LATER_ATTRIBUTES)]
    return rows.groupby(["case", "seed_init", "position"], sort=False)["accuracy"].mean().reset_index()


def accuracy_at_own_position(table):
    """The P-probe's accuracy by seed on LATER_ATTRIBUTES, each just before its value, in the model of one wording."""
    rows = part3_prompts.answer_rows(table, "PProbe", case=SINGLE_WORDING)
    own = rows["attribute"].map({name: place for place, name in enumerate(ATTRIBUTES)})
    return mean_by_seed(rows[(rows["position"] == own) & (own > 0)], "accuracy")


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figures 5, 7 and 8 of the paper, its encoders, and block deletion and prompt formats, which it does not show."""
    fig, panels = figures.subplots(columns=4, rows=2, width=5.4, height=4.6)
    first = {case: [shares[0] for shares in by_attribute] for case, by_attribute in PAPER_P.items()}
    plot_attributes(panels[0], part3_prompts.answer_rows(table, "PProbe", position=0), ATTRIBUTES, first)
    panels[0].set(title="P-probe where only the name was told", ylabel="share of first words read right")
    plot_positions(panels[1], table)
    plot_attributes(panels[2], part3_prompts.answer_rows(table, "QProbe"), LATER_ATTRIBUTES, PAPER_Q)
    panels[2].set(title="Q-probe: from the name alone", ylabel="share of whole values read right")
    plot_halves(panels[3], table, "celebrities", ("told once,\nnever asked about", "celebrities,\ntaught with"))
    panels[3].set(title="Do celebrities help the others?")
    plot_halves(panels[4], table, "mixed", ("never asked about", "taught with"))
    panels[4].set(title="Does an encoder tell what it has read?")
    part3_prompts.plot_blocks(panels[5], table)
    part3_prompts.plot_format_kinds(panels[6], table)
    part3_prompts.plot_formats(panels[7], table)
    title = people.figure_title(table, "Part 3.1, Figures 5, 7 and 8", "case")
    figures.set_title(fig, f"{title}; crosses: the paper's")
    return fig


def plot_paper_crosses(axes, rows, place: int, paper) -> None:
    """The paper's numbers (by case) at a place of the x-axis, each beside the points of its case."""
    figures.plot_paper_by_hue(axes, place, list(dict.fromkeys(rows["case"])), paper, markersize=7)


def plot_attributes(axes, rows, order, paper) -> None:
    """A probe's accuracy by attribute, a colour per case; dotted: the majority baseline."""
    rows = rows.dropna(subset=["accuracy"])
    figures.plot_means_with_ci(axes, rows, "attribute", "accuracy", "case", order=order)
    for place, name in enumerate(order):
        plot_paper_crosses(axes, rows, place, {case: values[place] for case, values in paper.items()})
        floor = rows.loc[rows["attribute"] == name, "majority"].mean()
        figures.plot_chance_marks(axes, {place: floor}, 0.45)
    axes.set_xticks(range(len(order)), [name.replace(" ", "\n") for name in order], fontsize=8)
    axes.set(ylim=(-0.02, 1.4))
    people.add_legend(axes)


def plot_positions(axes, table) -> None:
    """The P-probe at all positions, averaged over LATER_ATTRIBUTES."""
    rows = later_attribute_accuracy(table, "PProbe")
    figures.plot_means_with_ci(axes, rows, "position", "accuracy", "case", order=range(len(ATTRIBUTES)))
    for k in range(len(ATTRIBUTES)):
        paper = {case: sum(shares[k] for shares in by[1:]) / len(LATER_ATTRIBUTES) for case, by in PAPER_P.items()}
        plot_paper_crosses(axes, rows, k, paper)
    axes.set(title="P-probe by position, all but the birth date", ylabel="share of first words read right")
    axes.set(xlabel="how many values were told before", ylim=(-0.02, 1.4))
    people.add_legend(axes)


def plot_halves(axes, table, study: str, names) -> None:
    """Answers about the held-out half and about the half with training questions."""
    rows = part3_prompts.answer_rows(table, "Extraction", attribute="all", study=study).dropna(subset=["exact"])
    figures.plot_means_with_ci(axes, rows, "half", "exact", "case", order=(HELD_OUT_HALF, TRAINED_HALF))
    plot_paper_crosses(axes, rows, 0, {**PAPER_MINORITY, GPT: PAPER_GPT})
    if study == "mixed":
        style: dict[str, Any] = {"color": figures.PAPER_COLOR, "alpha": 0.12, "zorder": 0}
        axes.axhspan(*PAPER_ENCODER, xmax=0.5, label="paper's encoders", **style)
    if len(rows):
        figures.plot_baseline(axes, round(rows["chance"].mean(), 3))
    axes.set_xticks(range(2), names, fontsize=9)
    axes.set(ylabel="share answered right", ylim=(-0.02, 1.4))
    people.add_legend(axes)


# ---- claims ----------------------------------------------------------------------------------------------------
# From the paper's statements, before any number was known. Off the name nearly all can be read or hardly anything (100
# against 0 to 40%): most of the scale lies between. Celebrities raise 4.4% to 86.8%, and encoders answer less than half
# of what a GPT does: 0.3 is the least that deserves those words. Of blocks and prompts the statements give a direction,
# and twenty formats at least.
MIN_FORMATS = 20
# An encoder that cannot answer even about those it was taught with says nothing about the others.
MIN_TRAINED_ACCURACY = 0.5


def claims(table) -> list[Claim]:
    """Claims 3.4 to 3.8; smoke decides nothing."""
    made = ClaimList(table)
    for add in (add_probe_claims, add_extraction_claims, add_prompt_claims):
        add(made, table)
    return made


def add_probe_claims(made: ClaimList, table) -> None:
    """Claim 3.4."""
    first, bare = later_attribute_accuracy(table, "PProbe", position=0), later_attribute_accuracy(table, "QProbe")
    gaps = [
        mean_by_seed(rows, "accuracy", case=MANY_WORDINGS) - mean_by_seed(rows, "accuracy", case=SINGLE_WORDING)
        for rows in (first, bare)
    ]
    written = accuracy_at_own_position(table) - mean_by_seed(first, "accuracy", case=SINGLE_WORDING)
    gap, most = f"{MANY_WORDINGS} minus {SINGLE_WORDING}, all attributes but the first", "above 0.5: most of the scale"
    here = f"P-probe of {SINGLE_WORDING}, first words: just before a value minus at position 0"
    here += ", all attributes but the first"
    made.add("3.4", f"P-probe at position 0, first words: {gap}", gaps[0], 0.868, most, above=0.5)
    made.add("3.4", f"Q-probe, whole values: {gap}", gaps[1], 0.897, most, above=0.5)
    made.add("3.4", here, written, 0.866, most, above=0.5)


def add_extraction_claims(made: ClaimList, table) -> None:
    """Claims 3.5 and 3.6, about people held out of the questions."""
    rows = part3_prompts.answer_rows(table, "Extraction", half=HELD_OUT_HALF, attribute="all")
    cases = (WITH_CELEBRITIES, WITHOUT_CELEBRITIES, GPT, ENCODER)
    famous, plain, gpt, encoder = (mean_by_seed(rows, "exact", case=case) for case in cases)
    trained = part3_prompts.answer_rows(table, "Extraction", case=ENCODER, half=TRAINED_HALF, attribute="all")
    trained_accuracy = mean_by_seed(trained, "exact").mean()
    encoder_learned, rule = bool(trained_accuracy >= MIN_TRAINED_ACCURACY), "above 0.3"
    if not encoder_learned:
        rule += f"; not testable here: {trained_accuracy:.2f} right of those taught with"
    name = "people told of once, never asked about: answered right with celebrities minus without"
    made.add("3.5", name, famous - plain, 0.824, "above 0.3", above=0.3)
    name = f"mixed, {MANY_WORDINGS}: held-out people answered right by the GPT minus by the encoder"
    made.add("3.6", name, gpt - encoder, "at least 0.519", rule, encoder_learned, above=0.3)


def add_prompt_claims(made: ClaimList, table) -> None:
    """Claims 3.7 and 3.8."""
    rows = part3_prompts.format_rows(table)
    gap = mean_by_seed(rows, "exact", closeness=2) - mean_by_seed(rows, "exact", closeness=0)
    several = rows["format"].nunique() >= MIN_FORMATS
    rule = "above 0" if several else f"above 0; not testable here: fewer than {MIN_FORMATS} formats could be asked"
    block = "without the block that is spared least: true values the likeliest minus values of somebody else"
    rest = "above 0: a part survives the loss of any block"
    kinds = "held-out people answered right: formats as trained minus far ones"
    tau = "agreement (Kendall's tau) of closeness to training and right answers, over formats"
    made.add("3.7", block, part3_prompts.worst_block_margin(table), None, rest, above=0.0)
    made.add("3.8", kinds, gap, None, rule, several, above=0.0)
    made.add("3.8", tau, part3_prompts.closeness_correlation(rows), None, rule, several, above=0.0)


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
