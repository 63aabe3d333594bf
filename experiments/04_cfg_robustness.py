"""Does training on faulty sentences teach a model to see through faults? (claim 1.9)

Part 1 (arXiv 2305.13673), results 11 to 13: GPTs are trained on sentences of a grammar, a share gamma of which has
faults of one of three kinds: random terminals, random nonterminals of one level, or nonterminals of one level exchanged
by a fixed rule. Then they complete sentences from nothing, after a true prefix, and after one with 15% of its tokens
replaced; a completion is right if it completes the true prefix. A column a kind of fault, a row a temperature; clean
training at 0.

What one should see: after clean training, completions of corrupted prefixes are wrong; faults in training, of any kind,
make them right (11). The model has two modes: after a true prefix it continues rightly, from nothing it makes more
faults the larger gamma (12). It is robust at low temperatures only (13).

The paper's full text was not at hand. From a secondary source, a reproduction's notes: about 30% and, with 10% faulty
data of a kind that they do not name, about 80% of corrupted 50-token prefixes; the 15%, the temperatures, and both
modes. From memory: the grammar, the strengths of the
kinds (15, 10 and 5%) and, less surely, their level (3). Our readings: docs/tasks/cfg_perturbed.md.

Worlds and cost: smoke, seconds; laptop, cfg3b rooted at 16 (four rule levels, 30 to 72 tokens, 29.5 bits), prefixes of
20 tokens, an eighth of which stay without a fault by chance, ten minutes on two cores; overnight, the same with a wider
model and five times the tokens, three hours on two cores; gpu, the full cfg3b, half an hour (neither was measured);
paper, GPT-2 small, 100k steps of 96 windows of 512 tokens.
"""

from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part1_grammars
from experiments.harness.papers.numbers import paper_number
from experiments.harness.papers.part1_grammars import ScaleConfig
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.rows import mean_by_seed, select_rows
from experiments.harness.run import Run, default_seeds, with_seeds
from experiments.harness.statistics.estimates import difference_of
from lm.config import ModelConfig, TrainConfig
from synth.tasks.cfg import Cfg
from synth.tasks.cfg_perturbed import STRENGTHS, PerturbationKind, PerturbedCfg

NAME = Path(__file__).stem
GRAMMAR, LEVEL = "cfg3b", 3
LOW_TEMPERATURES = (0.1, 0.2)  # temperatures
TITLES: dict[PerturbationKind, str] = {
    "terminal": "Random terminals", "random": "Random nonterminals", "fixed": "Nonterminals by a fixed rule",
}  # fmt: skip
PAPER_KIND: PerturbationKind = "terminal"  # beside which the paper's numbers stand
PREFIX_WORDS = {"none": "from nothing", "clean": "after a true prefix", "corrupted": "after a corrupted prefix"}


@dataclass(frozen=True)
class RobustnessConfig:
    """One scale: model and training, standard deviation of initial weights, prefix length, sentences per question,
    gammas."""

    size: part1_grammars.ScaleConfig
    init_std: float
    cut: int
    samples: int
    gammas: tuple[float, ...]


CONFIGS = {
    "smoke": RobustnessConfig(ScaleConfig("14", 2, 2, 16, 32, 60, 8, 32, 0, lr=1e-2), 0.1, 6, 32, (0.5,)),
    "laptop": RobustnessConfig(ScaleConfig("16", 4, 4, 32, 80, 3600, 8, 80, 50, lr=1e-2), 0.1, 20, 400, (0.1, 0.5)),
    "overnight": RobustnessConfig(ScaleConfig("16", 6, 4, 64, 160, 6000, 12, 160, 100, lr=5e-3), 0.1, 24, 2000,
                                  (0.1, 0.5, 1.0)),
    "gpu": RobustnessConfig(ScaleConfig("", 8, 8, 256, 512, 2000, 96, 512, 100, lr=1e-3), 0.02, 50, 512, (0.1, 0.5)),
    "paper": RobustnessConfig(ScaleConfig("", 12, 12, 768, 512, 100_000, 96, 512, 0, lr=3e-4), 0.02, 50, 20_000,
                              tuple(k / 10 for k in range(1, 11))),
}  # fmt: skip


def runs(scale: str) -> list[Run]:
    """Clean training, and every kind of fault at every gamma; three seeds each (one at smoke)."""
    from probing.grammar.robustness import Robustness  # torch comes with it, and --help has no need of torch

    config, size = CONFIGS[scale], CONFIGS[scale].size
    model = ModelConfig(size.layers, size.heads, size.width, size.context, init_std=config.init_std)
    train = TrainConfig(size.steps, size.batch, size.window, lr=size.lr or 0.0, warmup_steps=size.warmup)
    evaluations = (Robustness(config.samples, config.cut),)
    root = size.root or None

    def run(task: Cfg, kind: str, gamma: float) -> Run:
        tags = {"grammar": GRAMMAR, "root": size.root, "kind": kind, "gamma": gamma}
        return Run(NAME, task, model, train, evaluations, tags=tags)

    made = [run(Cfg(GRAMMAR, root), "clean", 0.0)]
    for kind, strength in STRENGTHS.items():
        for gamma in config.gammas:
            task = PerturbedCfg(GRAMMAR, root, kind=kind, strength=strength, share=gamma, level=LEVEL)
            made.append(run(task, kind, gamma))
    return with_seeds(made, default_seeds(scale))


def paper_share(training: str) -> float:
    """The share of corrupted prefixes of 50 tokens that the paper's model completes rightly at low temperatures, about;
    training: "clean training" or "10% faulty sentences", of a kind that the source does not name."""
    return paper_number("1", "Results 11 to 13", "corrupted prefix", training)


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Share of right completions over gamma, a column of panels a kind of fault, a row the lowest and the highest
    temperature."""
    temperatures = sorted({table["temperature"].min(), table["temperature"].max()})
    fig, panels = figures.subplots(columns=len(TITLES), rows=len(temperatures), width=4.8, height=3.5)
    cells = [(temperature, kind) for temperature in temperatures for kind in TITLES]
    for axes, (temperature, kind) in zip(panels, cells, strict=True):
        part = select_rows(table[table["kind"].isin(("clean", kind))], temperature=temperature)
        plot_fault_kind(axes, part, with_paper=kind == PAPER_KIND and temperature in LOW_TEMPERATURES)
        axes.set(title=f"{TITLES[kind]} ({STRENGTHS[kind]:.0%} of them), T={temperature:g}", xlabel="gamma")
    for axes in panels[:: len(TITLES)]:
        axes.set_ylabel("right completions")
    figures.share_legend(fig)
    figures.set_title(fig, "Does training on faulty sentences teach a model to see through faults?")
    figures.set_caption(fig, figure_caption(table))
    return fig


def plot_fault_kind(axes, part, with_paper: bool) -> None:
    """One kind of fault at one temperature; the floor is the score of another sentence's rest after the prefix."""
    colors = dict(zip(PREFIX_WORDS, figures.colors(len(PREFIX_WORDS)), strict=True))
    figures.plot_curves(
        axes, part, "gamma", "valid", "prefix", colors, limits=(0, 1), log_x=False, labels=PREFIX_WORDS, legend=False
    )
    if with_paper:
        shares = {0.0: paper_share("clean training"), PAPER_GAMMA: paper_share("10% faulty sentences")}
        larger = not part1_grammars.is_papers_task(part) if len(part) else True
        look = {"color": colors["corrupted"], "markersize": 8}
        figures.plot_paper_crosses(axes, shares.items(), "paper (about), corrupted", larger_task=larger, **look)
    prompted = part[part["prefix"] != "none"]
    if len(prompted):
        axes.axhline(
            prompted["floor"].mean(), color=figures.BASELINE_COLOR, linestyle=":", label="another sentence's rest"
        )


def figure_caption(table) -> str:
    """Protocol, seeds, and what gamma and the corrupted prefixes are."""
    words = part1_grammars.describe_figure(table, "results 11 to 13", "kind", "gamma")
    words += " Gamma: share of faulty training sentences."
    corrupted = table[table["prefix"] == "corrupted"]
    if len(corrupted):
        words += f" {corrupted['unchanged'].mean():.0%} of the corrupted prefixes have no fault by chance."
    larger = "" if part1_grammars.is_papers_task(table) else " (after 50 tokens of the full grammar, a larger model)"
    return f"{words} The paper's shares{larger} are from a secondary source, which does not name the kind of fault."


# ---- claims ----------------------------------------------------------------------------------------------------
# The primary line, chosen from the paper's statement: what 10% of faulty sentences add at a low temperature, with
# random terminals, the faults that the corrupted prefixes have too. The paper's shares are known from a secondary
# source, which does not name the kind of fault; they stand beside random terminals alone. Thresholds are half of these
# differences, and signs where there is no number. The primary line, and the sign as the threshold of the two kinds of
# faulty nonterminals, were decided after the laptop's numbers had been seen.
#
# A model that does not write sentences without faults yet cannot be asked how it treats faulty ones: clean training
# must reach MIN_CLEAN from nothing at T=1. The level of replaced nonterminals here, 3, is a reading; the paper's is
# likely that above the terminals. The two kinds of faulty nonterminals decide nothing until both levels are run. Both
# rules were added after the laptop's numbers had been seen: they withhold verdicts and make none.
PAPER_GAMMA, HALF_GAMMA = 0.1, 0.5
MIN_CLEAN = 0.97
SECONDARY = "secondary source"
LEVEL_UNSURE = "nonterminals of level 3 are replaced; the paper's level is likely the one above the terminals"


def claims(table) -> list[Claim]:
    """Claim 1.9, split into results 11 to 13."""
    made = ClaimList(table)
    valid = right(table, "clean", 0, "none", 1)
    gates = (Gate("clean training, valid from nothing at T=1", valid, at_least=MIN_CLEAN),)
    add_brittleness_claim(made, table, gates)
    for kind in TITLES:
        add_gain_claim(made, table, kind, gates)
    add_mode_claims(made, table, gates)
    return made


def right(table, kind: str, gamma: float, prefix: str, temperature: float = LOW_TEMPERATURES[0]):
    """Share of right completions by seed; empty if there are no such rows."""
    return mean_by_seed(table, "valid", kind=kind, gamma=gamma, prefix=prefix, temperature=temperature)


def add_brittleness_claim(made: ClaimList, table, gates: tuple[Gate, ...]) -> None:
    """After clean training, completions of corrupted prefixes are wrong."""
    paper = round(paper_number("1", "Figure 4 left", GRAMMAR, "rotary, cut 50") - paper_share("clean training"), 3)
    loss = difference_of(right(table, "clean", 0, "clean"), right(table, "clean", 0, "corrupted"), -1, 1)
    name = "clean training, T=0.1: share of right completions after true prefixes minus after corrupted ones"
    made.add("1.9", name, loss, paper, f"above {paper / 2:.2g}", above=paper / 2, gates=gates, note=SECONDARY)


def add_gain_claim(made: ClaimList, table, kind: PerturbationKind, gates: tuple[Gate, ...]) -> None:
    """Faults in training, here a few, give robustness (result 11); the paper's number stands beside one kind alone."""
    gain = difference_of(right(table, kind, PAPER_GAMMA, "corrupted"), right(table, "clean", 0, "corrupted"), -1, 1)
    known = kind == PAPER_KIND
    paper = round(paper_share("10% faulty sentences") - paper_share("clean training"), 3) if known else "gains"
    above = paper / 2 if isinstance(paper, float) else 0.0
    faults = f"{TITLES[kind].lower()} in {PAPER_GAMMA:.0%} of the training sentences"
    name = f"{faults}, T=0.1: share of right completions after corrupted prefixes, minus clean training"
    made.add("1.9", name, gain, paper, f"above {above:.2g}", known, above=above, primary=known, gates=gates,
             note=SECONDARY if known else LEVEL_UNSURE)  # fmt: skip


def add_mode_claims(made: ClaimList, table, gates: tuple[Gate, ...]) -> None:
    """Robustness shows at low temperatures only (13), in a mode apart from that of true prefixes (12); of random
    terminals in half of the training sentences, so that both modes are trained alike."""
    faults = f"random terminals in {HALF_GAMMA:.0%} of the training sentences"

    def faulty(prefix: str, temperature: float = LOW_TEMPERATURES[0]):
        return right(table, "terminal", HALF_GAMMA, prefix, temperature)

    def add(words: str, a, b, paper: str, rule: str, above: float) -> None:
        made.add("1.9", f"{faults}: {words}", difference_of(a, b, -1, 1), paper, rule, above=above, gates=gates,
                 note=SECONDARY)  # fmt: skip

    add("share of right completions after corrupted prefixes, T=0.1 minus T=1", faulty("corrupted"),
        faulty("corrupted", 1), "only at low T", "above 0", 0.0)  # fmt: skip
    add("share of faulty sentences from nothing, T=1, minus clean training", right(table, "clean", 0, "none", 1),
        faulty("none", 1), "about gamma", "above 0", 0.0)  # fmt: skip
    add("share of right completions after true prefixes, T=0.1, minus clean training", faulty("clean"),
        right(table, "clean", 0, "clean"), "stays right", "above -0.1", -0.1)  # fmt: skip


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
