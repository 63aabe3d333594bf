"""Does attention go from one end of a subtree to another? (claim 1.8)

Part 1 (arXiv 2305.13673), results 6 to 9, Figures 8 and 9: attention is split into the mean of every head at each
distance (the position part) and the rest (the residual), which is averaged over pairs of subtree ends. From left to
right: the position part of every head of one model; the residual to a key by its offset from an end; between two ends,
by the levels of query and key; between two ends, by how many subtrees of the key's level lie between them.

What one should see: heads attend to different distances; the residual peaks exactly at ends of subtrees; between ends
it is positive, and largest for adjacent ones, as in a parser that joins neighbouring parts. An untrained model (dashed)
is the control: in short sentences even uniform attention leaves a residual, as an early query gives each of its few
keys more than the mean at that distance. The paper gives figures and no numbers.

Worlds and cost: smoke, seconds; laptop, cfg3f rooted at 13 (NT5 and NT6), rotary and relative attention, under five
minutes on two cores; overnight, cfg3f rooted at 16 (NT4 to NT6), under two hours on two cores; gpu, the full cfg3b and
cfg3f, rotary, 12 layers of width 384 and a fortieth of the paper's tokens, about a quarter of an hour (not measured);
paper, seven grammars, GPT-2 small, 100k steps of 96 windows of 512 tokens.
"""

from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part1_grammars
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList
from experiments.harness.reporting.stats import select_rows
from experiments.harness.run import Run, default_seeds, with_seeds
from lm.config import Positions

NAME = Path(__file__).stem
NUM_SENTENCES = {"smoke": 50, "laptop": 2000, "overnight": 2000, "gpu": 1000, "paper": 1000}
NUM_DISTANCES = 24  # of the position part, the first ones
MAX_APART_DRAWN = 4  # in the figure; farther ends are counted, not drawn


def architectures(scale: str) -> tuple[Positions, ...]:
    """Rotary attention, and relative attention where there is time for both."""
    return ("rotary",) if scale in ("smoke", "gpu") else ("rotary", "relative")


def runs(scale: str) -> list[Run]:
    """Each kind of attention, trained and untrained, on every grammar; three seeds each (one at smoke)."""
    # torch comes with it, and --help has no need of torch
    from probing.grammar.attention_patterns import AttentionStatistics

    made = []
    for grammar in part1_grammars.scale_grammars(scale):
        task, tags = part1_grammars.make_task(scale, grammar), part1_grammars.grammar_tags(scale, grammar)
        for positions in architectures(scale):
            model = part1_grammars.make_model_config(scale, positions)
            for state, distances in (("trained", NUM_DISTANCES), ("untrained", 1)):  # only the trained one's are drawn
                train = part1_grammars.make_train_config(scale, positions) if state == "trained" else None
                statistics = AttentionStatistics(NUM_SENTENCES[scale], distances=distances, by_layer=False)
                run_tags = {**tags, "architecture": positions, "state": state}
                made.append(Run(NAME, task, model, train, (statistics,), tags=run_tags))
    return with_seeds(made, default_seeds(scale))


# ---- tables ----------------------------------------------------------------------------------------------------
def mean_residual(part, *by: str):
    """The mean residual by seed (or `by`) over kinds of pairs, weighted by their counts."""
    part = part.assign(weighted=part["value"] * part["pairs"])
    sums = part.groupby(list(by or ["seed_init"]))[["weighted", "pairs"]].sum()
    return sums["weighted"] / sums["pairs"]


def level_name(level: float, depth: int) -> str:
    """The paper's name of a level."""
    return f"NT{part1_grammars.paper_level(int(level), depth)}"


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figures 8 and 9 of the paper, one row of panels a grammar and kind of attention."""
    kinds = list(dict.fromkeys(zip(table["grammar"], table["architecture"], strict=True)))
    fig, panels = figures.subplots(columns=4, rows=len(kinds), width=4.9, height=4.2)
    for row, (grammar, architecture) in enumerate(kinds):
        part = table[(table["grammar"] == grammar) & (table["architecture"] == architecture)]
        axes = panels[4 * row : 4 * row + 4]
        for draw, panel in zip((plot_by_distance, plot_to_ends, plot_by_level, plot_by_adjacency), axes, strict=True):
            draw(panel, part)
        axes[0].set_ylabel(f"{grammar}, {architecture}: attention")
        axes[1].set_ylabel("attention beyond distance")
    title = part1_grammars.figure_title(table, "Figures 8 and 9", "grammar", "architecture", "state")
    figures.set_title(fig, f"{title}; means over pairs, heads and layers; dashed: untrained")
    return fig


def plot_by_distance(axes, part) -> None:
    """Mean attention over distance in the first seed: a line per head, a shade per layer."""
    part = select_rows(part, statistic="position", state="trained")
    part = part[part["seed_init"] == part["seed_init"].min()]
    layers = sorted(set(part["layer"]))
    for color, layer in zip(sequential_colors(len(layers)), layers, strict=True):
        for _, head in part[part["layer"] == layer].groupby("head"):
            axes.plot(head["distance"], head["value"], color=color, linewidth=1, alpha=0.8)
        axes.plot([], [], color=color, label=f"layer {layer:.0f}")
    axes.set(title="By distance alone, each head", xlabel="tokens from query back to key")
    axes.set_ylim(0, None)
    if layers:
        axes.legend(fontsize=8, ncols=2)


def sequential_colors(n: int):
    """n colours from a sequential palette."""
    import seaborn

    return seaborn.color_palette("viridis", n)


def plot_to_ends(axes, part) -> None:
    """Residual attention to a key by its offset from a subtree's end, for every level (result 7)."""
    part = select_rows(part, statistic="to_end")
    for color, dashes, label, chosen in iter_levels(part, "key_level"):
        part1_grammars.plot_mean_with_band(axes, chosen, "beside", "value", color, label, dashes)
    axes.set(title="To keys at and beside ends", xlabel="tokens from the end to the key")
    finish_axes(axes, part, "beside")


def plot_by_level(axes, part) -> None:
    """Residual attention between two subtree ends by their levels, trained and untrained (result 8)."""
    part = select_rows(part, statistic="end_to_end", query_shift=0, key_shift=0)
    depth = part["depth"].iloc[0] if len(part) else 0
    pairs = [f"{level_name(r.query_level, depth)}\nto {level_name(r.key_level, depth)}" for r in part.itertuples()]
    part = part.assign(pair=pairs)
    if len(part):
        figures.plot_means_with_ci(axes, part, "pair", "value", "state", order=sorted(set(pairs)))
        axes.tick_params(axis="x", labelsize=6 if len(set(pairs)) > 9 else 9)
    part1_grammars.plot_zero_line(axes)
    axes.set(title="From end to end, by level")


def plot_by_adjacency(axes, part) -> None:
    """Residual attention between two ends by the number of subtrees of the key's level between them (result 9)."""
    part = select_rows(part, statistic="adjacent")
    part = part[part["apart"].between(1, MAX_APART_DRAWN)]
    sums = mean_residual(part, "key_level", "state", "seed_init", "apart", "depth").rename("value").reset_index()
    for color, dashes, label, chosen in iter_levels(sums, "key_level"):
        part1_grammars.plot_mean_with_band(axes, chosen, "apart", "value", color, label, dashes)
    axes.set(title="From end to end, by adjacency", xlabel="subtrees from query back to key, 1: adjacent")
    finish_axes(axes, part, "apart")


def iter_levels(part, column: str):
    """Yield colour, dash pattern, label and rows for every level and state."""
    part = part.assign(beside=-part["key_shift"]) if "key_shift" in part else part  # the end is at key + shift
    levels = sorted(set(part[column]))
    for color, level in zip(figures.colors(len(levels)), levels, strict=True):
        for state, dashes in (("trained", "-"), ("untrained", "--")):
            chosen = part[(part[column] == level) & (part["state"] == state)]
            if len(chosen):
                label = f"end of {level_name(level, chosen['depth'].iloc[0])}" if state == "trained" else ""
                yield color, dashes, label, chosen


def finish_axes(axes, part, x: str) -> None:
    """Integer ticks, a line at 0, and a legend if there are labels."""
    places = sorted({-v for v in part["key_shift"].dropna()}) if x == "beside" else sorted(set(part[x].dropna()))
    part1_grammars.set_ticks(axes, [int(place) for place in places])
    part1_grammars.plot_zero_line(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


# ---- claims ----------------------------------------------------------------------------------------------------
def claims(table) -> list[Claim]:
    """Claim 1.8 on cfg3b and cfg3f.

    The paper's statements are signs, so that thresholds are 0: attention peaks at ends, exceeds what distance explains
    between ends, and most to the adjacent one. What does not compare keys with their own neighbours is also compared
    with the untrained model.
    """
    made = []
    for grammar in part1_grammars.CLAIMED_GRAMMARS:
        for architecture in dict.fromkeys(table["architecture"]):
            part = table[(table["grammar"] == grammar) & (table["architecture"] == architecture)]
            made += attention_claims(part, f"{grammar}, {architecture}") if len(part) else []
    return made


def attention_claims(part, kind: str) -> list[Claim]:
    """The claims on one grammar and kind of attention."""
    made, depth = ClaimList(part), part["depth"].iloc[0]

    def add(statement: str, seeds) -> None:
        made.add_if_measured("1.8", f"{kind}: {statement}", seeds, "figure", "above 0", above=0.0)

    def peak(state: str, level: float):
        rows = select_rows(part, statistic="to_end", state=state, key_level=level)
        return mean_residual(rows[rows["key_shift"] == 0]) - mean_residual(rows[rows["key_shift"] != 0])

    def ends(state: str):
        return mean_residual(select_rows(part, statistic="end_to_end", state=state, query_shift=0, key_shift=0))

    def beside(state: str):
        rows = select_rows(part, statistic="end_to_end", state=state)
        return mean_residual(rows[(rows["query_shift"] != 0) | (rows["key_shift"] != 0)])

    def adjacent(state: str):
        return mean_residual(select_rows(part, statistic="adjacent", state=state, apart=1))

    def farther(state: str):
        rows = select_rows(part, statistic="adjacent", state=state)
        return mean_residual(rows[rows["apart"] > 1])

    for level in sorted(set(select_rows(part, statistic="to_end")["key_level"])):
        name = f"residual to keys at ends of {level_name(level, depth)} minus that to keys beside them"
        add(name, peak("trained", level))
    add("residual from end to end", ends("trained"))
    add("residual from end to end, trained minus untrained", ends("trained") - ends("untrained"))
    add("residual from end to end minus that beside ends", ends("trained") - beside("trained"))
    add("residual to the adjacent end", adjacent("trained"))
    add("residual to the adjacent end, trained minus untrained", adjacent("trained") - adjacent("untrained"))
    nearer = adjacent("trained") - farther("trained")
    add("residual to the adjacent end minus that to farther ones", nearer)
    by_nothing = adjacent("untrained") - farther("untrained")
    add("the same, trained minus untrained", nearer - by_nothing)
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
