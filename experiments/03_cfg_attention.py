"""Does attention go from one end of a subtree to another? (claim 1.8)

Part 1 (arXiv 2305.13673), results 6 to 9, Figures 8 and 9: attention is split into what the positions of query and key
alone explain, the mean over sentences, and the rest (the residual), which is averaged over pairs of different subtree
ends. From left to right: the mean by distance of every head of one model; the residual to the adjacent end of every
head of the same model; the residual from end to end in all; to a key by its offset from an end; between two ends, by
the levels of query and key, and by how many subtrees of the key's level lie between them.

What one should see: heads attend to different distances; the residual peaks exactly at ends of subtrees; between ends
it is positive, and largest for adjacent ones, as in a parser that joins neighbouring parts. The paper gives figures and
no numbers.

Two controls: an untrained model, and the trained one on sentences that are given the tree of another sentence of the
same length. The residual of both should be 0.

Worlds and cost: smoke, seconds; laptop, cfg3f rooted at 13 (NT5 and NT6), rotary and relative attention, ten minutes on
two cores; overnight, cfg3f rooted at 16 (NT4 to NT6), under two hours on two cores; gpu, the full cfg3b and
cfg3f, rotary, 12 layers of width 384 and a fortieth of the paper's tokens, about a quarter of an hour (not measured);
paper, seven grammars, GPT-2 small, 100k steps of 96 windows of 512 tokens.
"""

from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part1_grammars
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.rows import select_rows
from experiments.harness.run import Run, default_seeds, with_seeds
from experiments.harness.statistics.estimates import mean_of
from lm.config import Positions

NAME = Path(__file__).stem
NUM_SENTENCES = {"smoke": 50, "laptop": 2000, "overnight": 2000, "gpu": 1000, "paper": 1000}
LAPTOP_SEEDS = 8
NUM_DISTANCES = 24  # of the position part, the first ones
MAX_APART_DRAWN = 4  # in the figure; farther ends are counted, not drawn


def architectures(scale: str) -> tuple[Positions, ...]:
    """Rotary attention, and relative attention where there is time for both."""
    return ("rotary",) if scale in ("smoke", "gpu") else ("rotary", "relative")


def runs(scale: str) -> list[Run]:
    """Each kind of attention, trained and untrained, on every grammar; at laptop eight seeds each, as the effect is of
    hundredths, else three (one at smoke)."""
    # torch comes with it, and --help has no need of torch
    from probing.grammar.attention_patterns import AttentionStatistics

    made = []
    for grammar in part1_grammars.scale_grammars(scale):
        task, tags = part1_grammars.make_task(scale, grammar), part1_grammars.grammar_tags(scale, grammar)
        for positions in architectures(scale):
            model = part1_grammars.make_model_config(scale, positions)
            control = AttentionStatistics(NUM_SENTENCES[scale], distances=1, by_layer=False)
            measured = (replace(control, distances=NUM_DISTANCES), replace(control, swapped=True))
            train = part1_grammars.make_train_config(scale, positions)
            for state, training, asked in (("trained", train, measured), ("untrained", None, (control,))):
                run_tags = {**tags, "architecture": positions, "state": state}
                made.append(Run(NAME, task, model, training, asked, tags=run_tags))
    return with_seeds(made, LAPTOP_SEEDS if scale == "laptop" else default_seeds(scale))


# ---- tables ----------------------------------------------------------------------------------------------------
TRAINED, UNTRAINED, SWAPPED = "trained", "untrained", "another's tree"


def name_states(table):
    """The table with `state` also telling the rows on sentences with another sentence's tree."""
    return table.assign(state=table["state"].where(~table["swapped"].eq(True), SWAPPED))


def mean_residual(part, *by: str):
    """The mean residual by seed (or `by`) over kinds of pairs, weighted by their counts."""
    part = part.assign(weighted=part["value"] * part["pairs"])
    sums = part.groupby(list(by or ["seed_init"]))[["weighted", "pairs"]].sum()
    sums = sums[sums["pairs"] > 0]  # no pair is left where every end attended to itself alone
    return sums["weighted"] / sums["pairs"]


def pairs_of_ends(part):
    """The rows of pairs of ends."""
    return select_rows(part, statistic="end_to_end", query_shift=0, key_shift=0)


def level_name(level: float, depth: int) -> str:
    """The paper's name of a level."""
    return f"NT{part1_grammars.paper_level(int(level), depth)}"


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figures 8 and 9 of the paper, one row of panels a grammar and kind of attention."""
    table = name_states(table)
    kinds = list(dict.fromkeys(zip(table["grammar"], table["architecture"], strict=True)))
    plots = (plot_by_distance, plot_map, plot_summary, plot_to_ends, plot_by_level, plot_by_adjacency)
    fig, panels = figures.subplots(columns=len(plots), rows=len(kinds), width=3.5, height=4.2)
    for row, (grammar, architecture) in enumerate(kinds):
        part = select_rows(table, grammar=grammar, architecture=architecture)
        axes = panels[len(plots) * row : len(plots) * (row + 1)]
        for draw, panel in zip(plots, axes, strict=True):
            panel.set_ylabel("attention beyond position")
            draw(panel, part)
        axes[0].set_ylabel(f"{grammar}, {architecture}\nlayer, its heads from top to bottom")
    figures.set_title(fig, "Does attention go from one end of a subtree to another?")
    words = part1_grammars.describe_figure(table, "Figures 8 and 9", "grammar", "architecture", "state")
    figures.set_caption(fig, f"{words} Means over pairs, heads and layers; dotted: the untrained model, a control.")
    return fig


def plot_by_distance(axes, part) -> None:
    """Mean attention of every head by distance, in the first seed: a row a head."""
    part = select_rows(part, statistic="position", state=TRAINED)
    part = part[part["seed_init"] == part["seed_init"].min()]
    axes.set(title="By distance alone, one model", xlabel="tokens from query back to key")
    axes.grid(False)
    if not len(part):
        return
    heads = part.pivot_table(index=["layer", "head"], columns="distance", values="value")
    image = axes.imshow(heads.to_numpy(), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, label="attention")
    layers = heads.index.get_level_values("layer")
    firsts = [k for k, layer in enumerate(layers) if k == 0 or layer != layers[k - 1]]
    axes.set_yticks(firsts, [f"{layers[k]:.0f}" for k in firsts])


def plot_map(axes, part) -> None:
    """The residual to the adjacent end of every head, in the first seed: layers by heads, as the paper's Figure 9."""
    part = select_rows(part, statistic="map", state=TRAINED)
    part = part[part["seed_init"] == part["seed_init"].min()]
    axes.set(title="To the adjacent end, same model", xlabel="head", ylabel="layer")
    axes.grid(False)
    if not len(part):
        return
    values = part.pivot_table(index="layer", columns="head", values="value")
    most = values.abs().to_numpy().max() or 1.0
    image = axes.imshow(values.to_numpy(), aspect="auto", cmap="PuOr_r", vmin=-most, vmax=most, interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, label="attention beyond position")
    axes.set_xticks(range(values.shape[1]), [f"{head:.0f}" for head in values.columns])
    axes.set_yticks(range(values.shape[0]), [f"{layer:.0f}" for layer in values.index])


SUMMARIES = {"adjacent": "to the\nadjacent end", "farther": "to farther\nends", "end_to_end": "to any\nother end"}


def plot_summary(axes, part) -> None:
    """The residual from end to end, all levels together, of the trained model and both controls."""
    part = select_rows(part, statistic="summary")
    axes.set(title="End to end, all levels")
    if len(part):
        states = [state for state in (TRAINED, SWAPPED, UNTRAINED) if state in set(part["state"])]
        part = part.set_index("state").loc[states].reset_index()  # groups are drawn in the order of the rows
        order = [kind for kind in SUMMARIES if kind in set(part["kind"])]
        figures.plot_means_with_ci(axes, part, "kind", "value", "state", order, labels=SUMMARIES)
    part1_grammars.plot_zero_line(axes)


def plot_to_ends(axes, part) -> None:
    """Residual attention to a key by its offset from a subtree's end, for every level (result 7)."""
    part = select_rows(part, statistic="to_end")
    part = part.assign(beside=-part["key_shift"]) if len(part) else part  # the end is at key + shift
    axes.set(title="To keys at and beside ends", xlabel="tokens from the end to the key")
    plot_by_key_level(axes, part, "beside")


def plot_by_level(axes, part) -> None:
    """Residual attention between two subtree ends by their levels, trained and untrained (result 8)."""
    keys = ("seed_init", "state", "depth", "query_level", "key_level")
    part = mean_residual(pairs_of_ends(part), *keys).rename("value").reset_index()
    part = part.assign(pair=[f"{query_name(row)} to {key_name(row)}" for row in part.itertuples()])
    axes.set(title="End to end, by level")
    if len(part):
        order, trained = sorted(set(part["pair"])), select_rows(part, state=TRAINED)
        figures.plot_means_with_ci(axes, trained, "pair", "value", order=order)
        control = select_rows(part, state=UNTRAINED).groupby("pair")["value"].mean()
        figures.plot_chance_marks(axes, {order.index(pair): value for pair, value in control.items()})
    part1_grammars.plot_zero_line(axes)


def query_name(row) -> str:
    """The paper's name of the level that ends at the query."""
    return level_name(row.query_level, row.depth)


def key_name(row) -> str:
    """The paper's name of the level that ends at the key."""
    return level_name(row.key_level, row.depth)


def plot_by_adjacency(axes, part) -> None:
    """Residual attention between two ends by the number of subtrees of the key's level between them (result 9)."""
    part = select_rows(part, statistic="adjacent")
    part = part[part["apart"].between(1, MAX_APART_DRAWN)]
    sums = mean_residual(part, "key_level", "state", "seed_init", "apart", "depth").rename("value").reset_index()
    axes.set(title="End to end, by adjacency", xlabel="subtrees back to the key")
    plot_by_key_level(axes, sums, "apart")


def plot_by_key_level(axes, part, x: str) -> None:
    """Trained models by a column and the level of the key, above the untrained ones as dotted marks."""
    if len(part):
        part = part.assign(end=[f"end of {key_name(row)}" for row in part.itertuples()]).sort_values("key_level")
        order, levels = sorted(set(part[x])), list(dict.fromkeys(part["end"]))
        words = {place: str(int(place)) for place in order}
        trained, control = select_rows(part, state=TRAINED), select_rows(part, state=UNTRAINED)
        figures.plot_means_with_ci(axes, trained, x, "value", "end", order, labels=words)
        for (place, level), value in control.groupby([x, "end"])["value"].mean().items():
            at = figures.dodge(order.index(place), levels.index(level), len(levels))
            figures.plot_chance_marks(axes, {at: value}, 0.35 / len(levels), linewidth=2)
    part1_grammars.plot_zero_line(axes)


# ---- claims ----------------------------------------------------------------------------------------------------
# The primary line, chosen from the paper's statement: the residual from one end of a subtree to another one, rotary
# attention on cfg3f. That it is largest for adjacent ends, and peaks at ends, stands below it. The paper's statements
# are signs, so that thresholds are 0. Which line is primary was decided after the laptop's numbers had been seen.
#
# Both nulls must hold: of an untrained model, and of the trained one on sentences that have another sentence's tree,
# the same quantity is 0 up to LEAK, the least effect that a replication at the size of GPT-2 small found (.002 to .03).
# The gate on untrained models, and the peak against the greatest of its neighbours in place of their mean, were added
# after a first table had been seen, whose residual was that of distance alone; the other gate before its numbers.
LEAK = 0.002


def claims(table) -> list[Claim]:
    """Claim 1.8 on cfg3b and cfg3f."""
    made, table = ClaimList(table), name_states(table)
    for grammar in part1_grammars.CLAIMED_GRAMMARS:
        for architecture in dict.fromkeys(table["architecture"]):
            part = select_rows(table, grammar=grammar, architecture=architecture)
            if len(part):
                add_attention_claims(made, part, grammar, architecture)
    return made


def add_attention_claims(made: ClaimList, part, grammar: str, architecture: str) -> None:
    """The claims on one grammar and kind of attention; all four lines where the primary one is."""
    main = (grammar, architecture) == ("cfg3f", "rotary")
    lines = {
        "from one subtree end to another": ends,
        "to the adjacent subtree end, minus that to farther ones": nearer,
        "to the adjacent subtree end": adjacent,
        "to the end of a subtree, minus the most that a token beside it gets, on the level that peaks least": peak,
    }
    for words, measure in lines.items() if main else list(lines.items())[:2]:
        gates = tuple(
            Gate(f"the same {which}", mean_of(measure(select_rows(part, state=state))), at_least=-LEAK, at_most=LEAK)
            for state, which in ((UNTRAINED, "of an untrained model"), (SWAPPED, "with the tree of another sentence"))
        )
        name = f"{grammar}, {architecture} attention beyond what positions explain: {words}"
        measured = mean_of(measure(select_rows(part, state=TRAINED)))
        made.add("1.8", name, measured, "figure", "above 0", above=0.0, primary=main and measure is ends, gates=gates)


def ends(part):
    """The residual from end to end by seed."""
    return mean_residual(pairs_of_ends(part))


def adjacent(part):
    """The residual to the adjacent end by seed."""
    return mean_residual(select_rows(part, statistic="adjacent", apart=1))


def nearer(part):
    """The residual to the adjacent end minus that to farther ones, by seed."""
    rows = select_rows(part, statistic="adjacent")
    return adjacent(part) - mean_residual(rows[rows["apart"] > 1])


def peak(part):
    """By seed, the residual to keys at ends minus the largest to keys beside them, of the level where this is least."""
    rows = select_rows(part, statistic="to_end")
    at, beside = rows[rows["key_shift"] == 0], rows[rows["key_shift"] != 0]
    most = mean_residual(beside, "seed_init", "key_level", "key_shift").groupby(["seed_init", "key_level"]).max()
    return (mean_residual(at, "seed_init", "key_level") - most).groupby("seed_init").min()


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
