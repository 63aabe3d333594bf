"""Is a grammar learned whose terminals are never seen, only words drawn from their bags? (claim 1.10)

Part 1 (arXiv 2305.13673), result 10: every terminal is a bag of words, one of which is written in its place; the
released code has bags that are disjoint or overlap, with words equally probable or not. The same GPT is trained on each
variant and on the grammar itself. Upper row: valid sentences, beside those of shuffled true words (above zero where
bags overlap, since words then allow many readings); divergence of the next-token distribution from the exact one; the
share of words whose nearest neighbour is in the same bags; cosines of word vectors by what their bags share. Lower row:
the word vectors of one model in the plane of their first two principal components, a colour for every set of bags.

What one should see: validity like that of the grammar itself, and embeddings that cluster by bag, with words of two
bags between those of either. The paper shows this in a figure without numbers; 300 words are its size as far as known.

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
from experiments.harness.reporting.claims import Claim, ClaimList
from experiments.harness.reporting.stats import mean_by_seed, select_rows, with_columns
from experiments.harness.run import Run, default_seeds, with_seeds
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
NUM_WORDS = {"smoke": 30}  # elsewhere 300
# Sentences written from nothing and from a prefix, and true ones; the tokens given. Charts of long sentences over
# overlapping bags are full, so that there are fewer of them.
EVALUATION_SIZES = {
    "smoke": (32, 32, 2),
    "laptop": (1000, 1000, 6),
    "overnight": (2000, 1000, 15),
    "gpu": (1000, 300, 50),
    "paper": (5000, 500, 50),
}
NUM_PLOTTED_WORDS = 60  # words of a picture, the first ones


def runs(scale: str) -> list[Run]:
    """The grammar itself, the grammar behind each kind of bags, and untrained word vectors; three seeds each (one at
    smoke)."""
    names = ("cfg3b", "cfg3f") if scale == "paper" else ("cfg3f",)
    one = [run for grammar in names for run in runs_on_grammar(scale, grammar)]
    return with_seeds(one, default_seeds(scale))


def runs_on_grammar(scale: str, grammar: str) -> list[Run]:
    """The runs on one grammar, all with the same training."""
    # torch comes with these, and --help has no need of torch
    from probing.grammar.embedding_geometry import BagGeometry
    from probing.grammar.validity import Validity

    samples, sentences, cut = EVALUATION_SIZES[scale]
    validity = Validity(samples=samples, cuts=(0, cut), kl_sentences=sentences)
    grammar_task = part1_grammars.make_task(scale, grammar)
    model = part1_grammars.make_model_config(scale)
    train = part1_grammars.make_train_config(scale)
    tags = {**part1_grammars.grammar_tags(scale, grammar), "cut": cut}

    def run(task: Cfg, variant: str, *evaluations, trained: bool = True) -> Run:
        run_tags = {**tags, "variant": variant, "state": "trained" if trained else "untrained"}
        return Run(NAME, task, model, train if trained else None, evaluations, tags=run_tags)

    runs = [run(grammar_task, EXPLICIT, validity)]
    for variant, kind in scale_variants(scale).items():
        task = ImplicitCfg(grammar_task.grammar, grammar_task.root, words=NUM_WORDS.get(scale, 300), **kind)
        runs.append(run(task, variant, validity, BagGeometry(NUM_PLOTTED_WORDS)))
        runs.append(run(task, variant, BagGeometry(), trained=False))
    return runs


def scale_variants(scale: str) -> dict[str, dict]:
    """The kinds of bags; at gpu only those with equally probable words."""
    return {name: kind for name, kind in VARIANTS.items() if scale != "gpu" or "uniform" not in kind}


# ---- tables ----------------------------------------------------------------------------------------------------
COLUMNS = ("valid_0", "prefix", "kl", "purity", "purity_chance", "same", "shared", "apart", "agreement", "chance_valid",
           "statistic", "word", "bags", "x", "y", "x_share", "y_share")  # fmt: skip


def with_all_columns(table):
    """The table with the column `prefix` (validity after the scale's own prefix) and the columns of all panels."""
    cut = f"valid_{table['cut'].iloc[0]}"
    table = table.assign(prefix=table[cut] if cut in table else float("nan"))
    return with_columns(table, COLUMNS)


def present_variants(part) -> list[str]:
    """The variants in the table, from left to right."""
    return [name for name in (EXPLICIT, *VARIANTS) if name in set(part["variant"])]


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Two rows of panels per grammar: the metrics, and the word vectors of each variant."""
    table = with_all_columns(table)
    grammars = list(dict.fromkeys(table["grammar"]))
    fig, panels = figures.subplots(columns=4, rows=2 * len(grammars), width=4.9, height=4.2)
    for row, grammar in enumerate(grammars):
        part = select_rows(table, grammar=grammar)
        here = panels[8 * row : 8 * row + 8]
        for draw, axes in zip((plot_validity, plot_divergence, plot_purity, plot_cosines), here, strict=False):
            draw(axes, part)
            axes.tick_params(axis="x", labelsize=7)
        for variant, axes in zip(VARIANTS, here[4:], strict=True):
            plot_word_vectors(axes, select_statistic(part, "word", variant=variant), variant)
        here[0].set_ylabel(f"{grammar}: valid sentences, %")
    trained = select_rows(table, state="trained")
    figures.set_title(fig, part1_grammars.figure_title(trained, "result 10", "grammar", "variant"))
    return fig


def select_statistic(part, statistic: str, state: str = "trained", **values):
    """The rows of one statistic of the word vectors."""
    return select_rows(part, statistic=statistic, state=state, **values)


def plot_validity(axes, part) -> None:
    """Shares of valid sentences from nothing and after a prefix, above those of shuffled words."""
    names = {"valid_0": "from nothing", "prefix": f"after {part['cut'].iloc[0]} true tokens"}
    long = part.melt(["variant"], list(names), "start", "valid")
    long = long.replace({"start": names}).assign(valid=100 * long["valid"])
    figures.plot_means_with_ci(axes, long, "variant", "valid", "start", present_variants(part))
    plot_chance_levels(axes, part, "chance_valid", "shuffled words", 100)
    axes.set(title="Does it write sentences of the grammar?", ylim=(0, 105))
    axes.legend(fontsize=8)


def plot_divergence(axes, part) -> None:
    """Divergence from the exact next-token distribution."""
    figures.plot_means_with_ci(axes, part, "variant", "kl", order=present_variants(part))
    axes.set(title="How far from the true distribution?", ylabel="KL(true || model), nats a token", ylim=(0, None))


def plot_purity(axes, part) -> None:
    """Share of words whose nearest neighbour is in the same bags, trained and untrained."""
    part = select_rows(part, statistic="geometry")
    axes.set(title="Are nearest neighbours of the same bags?", ylabel="share of words", ylim=(0, 1.05))
    if len(part):
        figures.plot_means_with_ci(axes, part, "variant", "purity", "state", present_variants(part))
        plot_chance_levels(axes, part, "purity_chance", "chance")
        axes.legend(fontsize=8)


def plot_cosines(axes, part) -> None:
    """Mean cosine of two words' vectors by what their bags share."""
    names = {"same": "the same bags", "shared": "share a bag", "apart": "share none"}
    part = select_statistic(part, "geometry")
    axes.set(title="How alike are word vectors?", ylabel="cosine about the mean", ylim=(-1.05, 1.05))
    part1_grammars.plot_zero_line(axes)
    if len(part):
        long = part.melt(["variant"], list(names), "pairs", "cosine").replace({"pairs": names})
        figures.plot_means_with_ci(axes, long, "variant", "cosine", "pairs", present_variants(part))
        axes.legend(title="two words", fontsize=8)


def plot_chance_levels(axes, part, column: str, label: str, scale: float = 1) -> None:
    """A dotted line across each variant at its own chance level."""
    order, means = present_variants(part), part.dropna(subset=[column]).groupby("variant")[column].mean()
    levels = {float(order.index(variant)): value * scale for variant, value in means.items()}
    figures.plot_chance_marks(axes, levels, linewidth=1.5)
    axes.plot([], [], ":", color=figures.BASELINE_COLOR, label=label)


def plot_word_vectors(axes, words, variant: str) -> None:
    """The words of the first seed, coloured by the set of bags they belong to."""
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
    """Claim 1.10. The paper gives figures and no numbers.

    Its words are "accuracies near the explicit grammar" (taken as 0.05 of validity and 0.05 nats) and embeddings that
    cluster by bag: nearly all nearest neighbours in disjoint bags, and in overlapping ones the more similar, the more
    bags are shared.
    """
    table = with_all_columns(table)
    made = ClaimList(table)
    for grammar in dict.fromkeys(table["grammar"]):
        for variant in VARIANTS:
            add_variant_claims(made, select_rows(table, grammar=grammar), f"{grammar}, {variant}", variant)
    return made


def add_variant_claims(made: ClaimList, part, kind: str, variant: str) -> None:
    """Validity and divergence of one variant, compared with those of the grammar itself, and how its word vectors
    cluster."""

    def add(statement: str, seeds, threshold: str, **limits: float) -> None:
        made.add_if_measured("1.10", f"{kind}: {statement}", seeds, "figure", threshold, **limits)

    def gap(column: str):
        return mean_by_seed(part, column, variant=variant) - mean_by_seed(part, column, variant=EXPLICIT)

    def seeds(column: str, state: str = "trained"):
        return mean_by_seed(part, column, variant=variant, statistic="geometry", state=state)

    add("valid from nothing, minus explicit", gap("valid_0"), "above -0.05", above=-0.05)
    add("valid after a prefix, minus explicit", gap("prefix"), "above -0.05", above=-0.05)
    add("KL to the exact next token, minus explicit", gap("kl"), "below 0.05 nats", below=0.05)
    if VARIANTS[variant]["bags"] == "disjoint":
        add("nearest neighbour of the same bag", seeds("purity"), "above 0.95", above=0.95)
        return
    agreement, same, shared, apart = (seeds(column) for column in ("agreement", "same", "shared", "apart"))
    gain = agreement - seeds("agreement", "untrained")
    add("correlation of likeness with shared membership", agreement, "above 0", above=0.0)
    add("the same, trained minus untrained", gain, "above 0", above=0.0)
    name = "likeness of words of the same bags minus that of words that share some"
    add(name, same - shared, "above 0", above=0.0)
    name = "likeness of words that share some bags minus that of words that share none"
    add(name, shared - apart, "above 0", above=0.0)


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
