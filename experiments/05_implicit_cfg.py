"""Is a grammar learned whose terminals are never seen, only words drawn from their bags? (claim 1.10)

Part 1 (arXiv 2305.13673), result 10: every terminal is a bag of words, and one of them is written in its place; the
released code has bags that are disjoint or overlap, with words equally probable or not. The same GPT is trained on each
and on the grammar itself. Upper row: valid sentences, beside what shuffled true words reach, which is not nothing where
bags overlap, as words then allow many readings; divergence of the next-token distribution from the exact one; how many
words have a word of the same bags for their nearest neighbour; how alike word vectors are, by what their bags share.
Lower row: the word vectors of one model in the plane of their two principal components, a colour for every set of bags.

What one should see: validity like that of the grammar itself, and embeddings that gather by bag; words of two bags lie
between those of either. The paper shows it in a figure and gives no number for it; 300 words are its size as far as
known.

Worlds and cost: smoke, seconds; laptop, cfg3f rooted at 13, ten minutes on two cores; overnight, cfg3f rooted at 16,
three hours on two cores; gpu, the full cfg3f, equally probable words only, 12 layers of width 384 and a fortieth of the
paper's tokens, about half an hour (not measured); paper, the full cfg3b and cfg3f, GPT-2 small, 100k steps of 96
windows of 512 tokens.
"""

from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part1_grammars
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, decides, weigh
from experiments.harness.reporting.stats import by_seed, interval_if_any, where, with_columns
from experiments.harness.run import Run, replicate
from synth.tasks.cfg import Cfg
from synth.tasks.implicit import ImplicitCfg

NAME = Path(__file__).stem
EXPLICIT = "explicit"
VARIANTS: dict[str, dict] = {
    "disjoint": {"bags": "disjoint"},
    "disjoint, uneven": {"bags": "disjoint", "uniform": False},
    "overlap": {"bags": "overlap"},
    "overlap, uneven": {"bags": "overlap", "uniform": False},
}
WORDS = {"smoke": 30}  # elsewhere 300
# Sentences written from nothing and from a prefix, and true ones; the tokens given. Charts of long sentences over
# overlapping bags are full, so that there are fewer of them.
EFFORT = {
    "smoke": (32, 32, 2),
    "laptop": (1000, 1000, 6),
    "overnight": (2000, 1000, 15),
    "gpu": (1000, 300, 50),
    "paper": (5000, 500, 50),
}
PICTURED = 60  # words of a picture, the first ones


def runs(scale: str) -> list[Run]:
    """The grammar itself and behind each kind of bags, and untrained word vectors; three seeds each (one for smoke)."""
    names = ("cfg3b", "cfg3f") if scale == "paper" else ("cfg3f",)
    one = [run for grammar in names for run in on_grammar(scale, grammar)]
    return replicate(one, 1 if scale == "smoke" else 3)


def on_grammar(scale: str, grammar: str) -> list[Run]:
    """The same training for all."""
    from probing.grammar.embedding_geometry import (
        BagGeometry,  # torch comes with these, and --help has no need of torch
    )
    from probing.grammar.validity import Validity

    samples, sentences, cut = EFFORT[scale]
    validity = Validity(samples=samples, cuts=(0, cut), kl_sentences=sentences)
    plain, model, train = (
        part1_grammars.world(scale, grammar),
        part1_grammars.model(scale),
        part1_grammars.training(scale),
    )
    tags = {**part1_grammars.tags(scale, grammar), "cut": cut}

    def run(task: Cfg, variant: str, *asked, trained: bool = True) -> Run:
        named = {**tags, "variant": variant, "state": "trained" if trained else "untrained"}
        return Run(NAME, task, model, train if trained else None, asked, tags=named)

    made = [run(plain, EXPLICIT, validity)]
    for variant, kind in variants(scale).items():
        task = ImplicitCfg(plain.grammar, plain.root, words=WORDS.get(scale, 300), **kind)
        made.append(run(task, variant, validity, BagGeometry(PICTURED)))
        made.append(run(task, variant, BagGeometry(), trained=False))
    return made


def variants(scale: str) -> dict[str, dict]:
    """The kinds of bags; on one gpu there is time for equally probable words only."""
    return {name: kind for name, kind in VARIANTS.items() if scale != "gpu" or "uniform" not in kind}


# ---- tables ----------------------------------------------------------------------------------------------------
COLUMNS = ("valid_0", "prefix", "kl", "purity", "purity_chance", "same", "shared", "apart", "agreement", "chance_valid",
           "statistic", "word", "bags", "x", "y", "x_share", "y_share")  # fmt: skip


def complete(table):
    """With the column `prefix`, validity after the scale's own prefix, and with those that no run so far has given."""
    cut = f"valid_{table['cut'].iloc[0]}"
    table = table.assign(prefix=table[cut] if cut in table else float("nan"))
    return with_columns(table, COLUMNS)


def order_of(part) -> list[str]:
    """The variants from left to right, as far as they have run."""
    return [name for name in (EXPLICIT, *VARIANTS) if name in set(part["variant"])]


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Two rows of panels a grammar: the measures, and the word vectors of each variant."""
    table = complete(table)
    grammars = list(dict.fromkeys(table["grammar"]))
    fig, panels = figures.canvas(columns=4, rows=2 * len(grammars), width=4.9, height=4.2)
    for row, grammar in enumerate(grammars):
        part = where(table, grammar=grammar)
        here = panels[8 * row : 8 * row + 8]
        for draw, axes in zip((validity_panel, divergence_panel, purity_panel, likeness_panel), here, strict=False):
            draw(axes, part)
            axes.tick_params(axis="x", labelsize=7)
        for variant, axes in zip(VARIANTS, here[4:], strict=True):
            picture(axes, of(part, "word", variant=variant), variant)
        here[0].set_ylabel(f"{grammar}: valid sentences, %")
    figures.title(fig, part1_grammars.title(where(table, state="trained"), "result 10", "grammar", "variant"))
    return fig


def of(part, statistic: str, state: str = "trained", **values):
    """The rows of one statistic of the word vectors."""
    return where(part, statistic=statistic, state=state, **values)


def validity_panel(axes, part) -> None:
    """Valid shares from nothing and from a prefix, over what shuffled words reach."""
    names = {"valid_0": "from nothing", "prefix": f"after {part['cut'].iloc[0]} true tokens"}
    long = part.melt(["variant"], list(names), "start", "valid")
    long["valid"] *= 100
    figures.points(axes, long.replace({"start": names}), "variant", "valid", "start", order_of(part))
    chance_marks(axes, part, "chance_valid", "shuffled words", 100)
    axes.set(title="Does it write sentences of the grammar?", ylim=(0, 105))
    axes.legend(fontsize=8)


def divergence_panel(axes, part) -> None:
    """Divergence from the exact next-token distribution."""
    figures.points(axes, part, "variant", "kl", order=order_of(part))
    axes.set(title="How far from the true distribution?", ylabel="KL(true || model), nats a token", ylim=(0, None))


def purity_panel(axes, part) -> None:
    """Nearest neighbours of the same bags, trained and untrained."""
    part = where(part, statistic="geometry")
    axes.set(title="Are nearest neighbours of the same bags?", ylabel="share of words", ylim=(0, 1.05))
    if len(part):
        figures.points(axes, part, "variant", "purity", "state", order_of(part))
        chance_marks(axes, part, "purity_chance", "chance")
        axes.legend(fontsize=8)


def likeness_panel(axes, part) -> None:
    """Mean cosines of pairs of words by what their bags share."""
    names = {"same": "the same bags", "shared": "share a bag", "apart": "share none"}
    part = of(part, "geometry")
    axes.set(title="How alike are word vectors?", ylabel="cosine about the mean", ylim=(-1.05, 1.05))
    part1_grammars.zero(axes)
    if len(part):
        long = part.melt(["variant"], list(names), "pairs", "cosine").replace({"pairs": names})
        figures.points(axes, long, "variant", "cosine", "pairs", order_of(part))
        axes.legend(title="two words", fontsize=8)


def chance_marks(axes, part, column: str, label: str, scale: float = 1) -> None:
    """A dotted line across each variant at its own chance."""
    order = order_of(part)
    for variant, value in part.dropna(subset=[column]).groupby("variant")[column].mean().items():
        place = order.index(variant)
        axes.hlines(value * scale, place - 0.4, place + 0.4, color=figures.FLOOR, linestyle=":", linewidth=1.5)
    axes.plot([], [], ":", color=figures.FLOOR, label=label)


def picture(axes, words, variant: str) -> None:
    """The words of the first seed, coloured by the set of bags they stand in; the most bags last, on top."""
    words = words[words["seed_init"] == words["seed_init"].min()]
    sets = sorted(set(words["bags"]), key=lambda name: (name.count(" "), name))
    for color, bags in zip(figures.colors(len(sets)), sets, strict=True):
        chosen = words[words["bags"] == bags]
        axes.plot(chosen["x"], chosen["y"], "o", color=color, alpha=0.7, markersize=5, label=bags)
    axes.set(title=f"Word vectors: {variant}")
    if len(words):
        axes.set(xlabel=f"first component, {words['x_share'].iloc[0]:.0%} of the variance")
        axes.set(ylabel=f"second component, {words['y_share'].iloc[0]:.0%}")
        axes.legend(title="in bags", fontsize=7, title_fontsize=7)


# ---- claims ----------------------------------------------------------------------------------------------------
def claims(table) -> list[Claim]:
    """Claim 1.10. The paper gives figures and no number here. Its words are "accuracies near the explicit grammar" (we
    take 0.05 of validity and 0.05 nats for near) and embeddings that gather by bag: nearly all neighbours in disjoint
    bags, and in overlapping ones the more alike, the more bags are shared."""
    table, made = complete(table), []
    for grammar in dict.fromkeys(table["grammar"]):
        for variant in VARIANTS:
            part = where(table, grammar=grammar)
            made += learned(part, f"{grammar}, {variant}", variant) + gathered(part, f"{grammar}, {variant}", variant)
    return made


def told(part, name: str, seeds, threshold: str, **limits: float) -> list[Claim]:
    """The claim on values by seed, none where a partial table has no value; smoke decides nothing."""
    found = interval_if_any(seeds)
    return [weigh("1.10", name, found, "figure", threshold, decides(part), **limits)] if found else []


def learned(part, kind: str, variant: str) -> list[Claim]:
    """Validity and divergence of one variant beside those of the grammar itself."""

    def gap(column: str):
        return by_seed(part, column, variant=variant) - by_seed(part, column, variant=EXPLICIT)

    return [
        *told(part, f"{kind}: valid from nothing, minus explicit", gap("valid_0"), "above -0.05", above=-0.05),
        *told(part, f"{kind}: valid after a prefix, minus explicit", gap("prefix"), "above -0.05", above=-0.05),
        *told(part, f"{kind}: KL to the exact next token, minus explicit", gap("kl"), "below 0.05 nats", below=0.05),
    ]


def gathered(part, kind: str, variant: str) -> list[Claim]:
    """Where the word vectors of one variant lie."""

    def seeds(column: str, state: str = "trained"):
        return by_seed(part, column, variant=variant, statistic="geometry", state=state)

    if VARIANTS[variant]["bags"] == "disjoint":
        return told(part, f"{kind}: nearest neighbour of the same bag", seeds("purity"), "above 0.95", above=0.95)
    agreement = seeds("agreement")
    gain, rule = agreement - seeds("agreement", "untrained"), "above 0"
    return [
        *told(part, f"{kind}: correlation of likeness with shared membership", agreement, rule, above=0.0),
        *told(part, f"{kind}: the same, trained minus untrained", gain, rule, above=0.0),
        *told(part, f"{kind}: likeness of words of the same bags minus that of words that share some",
              seeds("same") - seeds("shared"), rule, above=0.0),
        *told(part, f"{kind}: likeness of words that share some bags minus that of words that share none",
              seeds("shared") - seeds("apart"), rule, above=0.0),
    ]  # fmt: skip


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
