"""Does attention go from one end of a subtree to another? (claim 1.8)

Part 1 (arXiv 2305.13673), results 6 to 9, Figures 8 and 9: how much of its attention every head gives to each distance
(the position part), and what is left of attention beyond distance (the residual) between ends of subtrees. From left to
right: the position part of every head of one model; the residual to a key by where it stands to an end; between two
ends, by the levels of query and key; between two ends, by how many subtrees of the key's level lie between them.

What one should see: heads look at different distances; the residual peaks exactly at ends of subtrees; between ends it
is positive, and largest for adjacent ones, as a parser would need that joins neighbouring parts. An untrained model
(dashed) stands beside: in short sentences even uniform attention leaves a residual, as an early query gives each of its
few keys more than its distance does in the mean. The paper gives figures and no numbers.

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
from experiments.harness.reporting.claims import Claim, decides, weigh
from experiments.harness.reporting.stats import interval, where
from experiments.harness.run import Run, replicate
from lm.config import Positions

NAME = Path(__file__).stem
SENTENCES = {"smoke": 50, "laptop": 2000, "overnight": 2000, "gpu": 1000, "paper": 1000}
DISTANCES = 24  # of the position part, the first ones
LAST_APART = 4  # in the figure; farther ends are counted, not drawn


def architectures(scale: str) -> tuple[Positions, ...]:
    """Both kinds of attention that see content and distance, where there is time for both."""
    return ("rotary",) if scale in ("smoke", "gpu") else ("rotary", "relative")


def runs(scale: str) -> list[Run]:
    """Each kind of attention, trained and untrained, on every grammar; three seeds each (one for smoke)."""
    from probing.grammar.attention_patterns import (
        AttentionStatistics,  # torch comes with it, and --help has no need of torch
    )

    made = []
    for grammar in part1_grammars.grammars(scale):
        task, tags = part1_grammars.world(scale, grammar), part1_grammars.tags(scale, grammar)
        for positions in architectures(scale):
            model = part1_grammars.model(scale, positions)
            for state, distances in (("trained", DISTANCES), ("untrained", 1)):  # only the trained one's are drawn
                train = part1_grammars.training(scale, positions) if state == "trained" else None
                asked = AttentionStatistics(SENTENCES[scale], distances=distances, by_layer=False)
                named = {**tags, "architecture": positions, "state": state}
                made.append(Run(NAME, task, model, train, (asked,), tags=named))
    return replicate(made, 1 if scale == "smoke" else 3)


# ---- tables ----------------------------------------------------------------------------------------------------
def of(table, statistic: str, **values):
    """The rows of one statistic with these values."""
    return where(table, statistic=statistic, **values)


def mean(part):
    """The mean residual by seed over kinds of pairs, each kind as often as it came."""
    part = part.assign(weighted=part["value"] * part["pairs"])
    sums = part.groupby("seed_init")[["weighted", "pairs"]].sum()
    return sums["weighted"] / sums["pairs"]


def name_of(level: float, depth: int) -> str:
    """The paper's name of a level."""
    return f"NT{part1_grammars.paper_level(int(level), depth)}"


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figures 8 and 9 of the paper, one row of panels a grammar and kind of attention."""
    kinds = list(dict.fromkeys(zip(table["grammar"], table["architecture"], strict=True)))
    fig, panels = figures.canvas(columns=4, rows=len(kinds), width=4.9, height=4.2)
    for row, (grammar, architecture) in enumerate(kinds):
        part = table[(table["grammar"] == grammar) & (table["architecture"] == architecture)]
        axes = panels[4 * row : 4 * row + 4]
        for draw, panel in zip((position_panel, end_panel, levels_panel, apart_panel), axes, strict=True):
            draw(panel, part)
        axes[0].set_ylabel(f"{grammar}, {architecture}: attention")
        axes[1].set_ylabel("attention beyond distance")
    figures.title(
        fig,
        part1_grammars.title(table, "Figures 8 and 9", "grammar", "architecture", "state")
        + "; means over pairs, heads and layers; dashed: untrained",
    )
    return fig


def position_panel(axes, part) -> None:
    """Mean attention over distance, a line a head and a shade a layer, of the first seed."""
    part = of(part, "position", state="trained")
    part = part[part["seed_init"] == part["seed_init"].min()]
    layers = sorted(set(part["layer"]))
    for color, layer in zip(shades(len(layers)), layers, strict=True):
        for _, head in part[part["layer"] == layer].groupby("head"):
            axes.plot(head["distance"], head["value"], color=color, linewidth=1, alpha=0.8)
        axes.plot([], [], color=color, label=f"layer {layer:.0f}")
    axes.set(title="By distance alone, each head", xlabel="tokens from query back to key")
    axes.set_ylim(0, None)
    if layers:
        axes.legend(fontsize=8, ncols=2)


def shades(n: int):
    """n colours from early to late."""
    import seaborn

    return seaborn.color_palette("viridis", n)


def end_panel(axes, part) -> None:
    """Residual to a key by its place beside an end, for every level of the end (result 7)."""
    part = of(part, "to_end")
    for color, dashes, label, chosen in by_level(part, "key_level"):
        part1_grammars.line(axes, chosen, "beside", "value", color, label, dashes)
    axes.set(title="To keys at and beside ends", xlabel="tokens from the end to the key")
    dressed(axes, part, "beside")


def levels_panel(axes, part) -> None:
    """Residual between two ends by their levels, trained beside untrained (result 8)."""
    part = of(part, "end_to_end", query_shift=0, key_shift=0)
    depth = part["depth"].iloc[0] if len(part) else 0
    pairs = [f"{name_of(r.query_level, depth)}\nto {name_of(r.key_level, depth)}" for r in part.itertuples()]
    part = part.assign(pair=pairs)
    if len(part):
        figures.points(axes, part, "pair", "value", "state", order=sorted(set(pairs)))
        axes.tick_params(axis="x", labelsize=6 if len(set(pairs)) > 9 else 9)
    part1_grammars.zero(axes)
    axes.set(title="From end to end, by level")


def apart_panel(axes, part) -> None:
    """Residual between two ends by how many subtrees of the key's level lie between, all queries (result 9)."""
    part = of(part, "adjacent")
    part = part[part["apart"].between(1, LAST_APART)]
    weights = part.assign(weighted=part["value"] * part["pairs"])
    keys = ["key_level", "state", "seed_init", "apart", "depth"]
    sums = weights.groupby(keys)[["weighted", "pairs"]].sum().reset_index()
    sums = sums.assign(value=sums["weighted"] / sums["pairs"])
    for color, dashes, label, chosen in by_level(sums, "key_level"):
        part1_grammars.line(axes, chosen, "apart", "value", color, label, dashes)
    axes.set(title="From end to end, by adjacency", xlabel="subtrees from query back to key, 1: adjacent")
    dressed(axes, part, "apart")


def by_level(part, column: str):
    """Colour, dashes, label and rows of every level and state."""
    part = part.assign(beside=-part["key_shift"]) if "key_shift" in part else part  # the end is at key + shift
    levels = sorted(set(part[column]))
    for color, level in zip(figures.colors(len(levels)), levels, strict=True):
        for state, dashes in (("trained", "-"), ("untrained", "--")):
            chosen = part[(part[column] == level) & (part["state"] == state)]
            if len(chosen):
                label = f"end of {name_of(level, chosen['depth'].iloc[0])}" if state == "trained" else ""
                yield color, dashes, label, chosen


def dressed(axes, part, x: str) -> None:
    """Whole ticks, a line at nothing, and a legend where there is something."""
    places = sorted({-v for v in part["key_shift"].dropna()}) if x == "beside" else sorted(set(part[x].dropna()))
    part1_grammars.whole_numbers(axes, [int(place) for place in places])
    part1_grammars.zero(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


# ---- claims ----------------------------------------------------------------------------------------------------
def claims(table) -> list[Claim]:
    """Claim 1.8 on cfg3b and cfg3f. The paper's statements are signs: a peak at ends, more than distance explains
    between ends, and most to the adjacent one. All are held against 0; what does not compare keys with their own
    neighbours is also held against the untrained model."""
    made = []
    for grammar in part1_grammars.JUDGED:
        for architecture in dict.fromkeys(table["architecture"]):
            part = table[(table["grammar"] == grammar) & (table["architecture"] == architecture)]
            made += on(part, f"{grammar}, {architecture}") if len(part) else []
    return made


def on(part, kind: str) -> list[Claim]:
    """The claims on one grammar and kind of attention."""
    made, testable, depth = [], decides(part), part["depth"].iloc[0]

    def add(statement: str, seeds, threshold: str) -> None:
        if len(seeds := seeds.dropna()):
            name = f"{kind}: {statement}"
            made.append(weigh("1.8", name, interval(seeds), "figure", threshold, testable, above=0.0))

    def peak(state: str, level: float):
        rows = of(part, "to_end", state=state, key_level=level)
        return mean(rows[rows["key_shift"] == 0]) - mean(rows[rows["key_shift"] != 0])

    def ends(state: str):
        return mean(of(part, "end_to_end", state=state, query_shift=0, key_shift=0))

    def beside(state: str):
        rows = of(part, "end_to_end", state=state)
        return mean(rows[(rows["query_shift"] != 0) | (rows["key_shift"] != 0)])

    def adjacent(state: str):
        return mean(of(part, "adjacent", state=state, apart=1))

    def farther(state: str):
        rows = of(part, "adjacent", state=state)
        return mean(rows[rows["apart"] > 1])

    for level in sorted(set(of(part, "to_end")["key_level"])):
        name = f"residual to keys at ends of {name_of(level, depth)} minus that to keys beside them"
        add(name, peak("trained", level), "above 0")
    add("residual from end to end", ends("trained"), "above 0")
    add("residual from end to end, trained minus untrained", ends("trained") - ends("untrained"), "above 0")
    add("residual from end to end minus that beside ends", ends("trained") - beside("trained"), "above 0")
    add("residual to the adjacent end", adjacent("trained"), "above 0")
    add("residual to the adjacent end, trained minus untrained", adjacent("trained") - adjacent("untrained"), "above 0")
    nearer = adjacent("trained") - farther("trained")
    add("residual to the adjacent end minus that to farther ones", nearer, "above 0")
    by_nothing = adjacent("untrained") - farther("untrained")
    add("the same, trained minus untrained", nearer - by_nothing, "above 0")
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
