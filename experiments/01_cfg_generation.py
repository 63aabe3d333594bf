"""Do small GPTs learn a hierarchical language from strings alone? (claims 1.1 to 1.4)

Part 1 (arXiv 2305.13673), results 1 to 3, Figure 4: five kinds of attention are trained on the same number of fresh
sentences of a grammar and then generate sentences, from nothing and from a short true prefix. Upper row: the share of
valid sentences, checked exactly by a chart parser. Lower row: the entropy of generated sentences over the true entropy
(1 = as diverse as the truth), and the divergence of the next-token distribution from the exact one.

What one should see in a locally ambiguous grammar: learned absolute positions fall far behind; rotary and relative
attention lead; attention that depends on positions only, even in fixed uniform windows, comes close. In an unambiguous
one (cfg3b) the paper sees no difference. The paper's values for the full grammar are drawn apart.

Grammars and cost: smoke, seconds; laptop, cfg3f rooted at 13 (three rule levels, 8 to 27 tokens, 17.6 bits, every
sentence with a single parse), ten minutes on two cores; overnight, cfg3f rooted at 16 (20 to 81 tokens), under three
hours on two cores; gpu, the full cfg3f with a smaller model and budget than the paper's, half an hour; paper, seven
grammars, GPT-2 small, 100k steps of 96 windows of 512 tokens.
"""

from functools import partial
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness.papers import part1_grammars
from experiments.harness.papers.numbers import paper_number, paper_numbers
from experiments.harness.papers.part1_grammars import LEARNING_RATES, PAPER_GRAMMARS
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim, ClaimList, Gate
from experiments.harness.reporting.rows import mean_by_seed, with_columns
from experiments.harness.run import Run, default_seeds, with_seeds
from experiments.harness.statistics.estimates import difference_of, mean_of, ratio_of, share_of
from lm.config import ModelConfig, Positions, TrainConfig
from synth.tasks.cfg import Cfg

NAME = Path(__file__).stem
ARCHITECTURES: tuple[Positions, ...] = ("learned", "rotary", "relative", "position_only", "uniform")
PAPER_CUT = 50  # tokens of the paper's prefixes


def make_run(scale: str, positions: Positions, grammar: str) -> Run:
    """One architecture at one scale, trained on the same number of sentences as the others."""
    from probing.grammar.validity import Validity  # torch comes with it, and --help has no need of torch

    if scale == "smoke":
        task, cut = Cfg("cfg3f", "10"), 2
        model = ModelConfig(n_layers=2, n_heads=2, d_model=16, max_seq_len=32, positions=positions)
        train = TrainConfig(steps=60, batch_size=8, seq_len=32, lr=6e-3)
        validity = Validity(samples=64, cuts=(0, cut), kl_sentences=64)
    elif scale == "laptop":
        task, cut = Cfg("cfg3f", "13"), 6
        model = ModelConfig(n_layers=6, n_heads=4, d_model=32, max_seq_len=64, positions=positions)
        train = TrainConfig(steps=4000, batch_size=8, seq_len=64, lr=LEARNING_RATES[positions, True], warmup_steps=50)
        read = train.steps * train.batch_size * train.seq_len
        validity = Validity(samples=2000, cuts=(0, cut), kl_sentences=2000, trained_tokens=read)
    elif scale == "overnight":
        task, cut = Cfg("cfg3f", "16"), 15
        model = ModelConfig(n_layers=6, n_heads=4, d_model=64, max_seq_len=128, positions=positions)
        lr = LEARNING_RATES[positions, True] / 2  # twice the width, half the rate
        train = TrainConfig(steps=10_000, batch_size=12, seq_len=128, lr=lr, warmup_steps=100)
        validity = Validity(samples=5000, cuts=(0, cut), kl_sentences=5000)
    elif scale == "gpu":
        task, cut = Cfg(grammar), 50
        model = ModelConfig(n_layers=8, n_heads=8, d_model=256, max_seq_len=512, positions=positions)
        train = TrainConfig(steps=4000, batch_size=96, seq_len=512, lr=1e-3, warmup_steps=100)
        validity = Validity(samples=5000, cuts=(0, cut), kl_sentences=2000)
    else:
        task, cut = Cfg(grammar), 50
        heads, width = (8, 1024) if positions == "uniform" else (12, 768)  # appendix A
        model = ModelConfig(n_layers=12, n_heads=heads, d_model=width, max_seq_len=512, positions=positions)
        train = TrainConfig(steps=100_000, batch_size=96, seq_len=512, lr=3e-4)
        validity = Validity(samples=20_000, cuts=(0, cut), kl_sentences=20_000)
    tags = {"grammar": grammar, "root": task.root or "", "architecture": positions, "cut": cut}
    return Run(NAME, task, model, train, (validity,), tags=tags)


def runs(scale: str) -> list[Run]:
    """Every architecture on every grammar of the scale, three seeds each (one for smoke)."""
    grammars = PAPER_GRAMMARS if scale == "paper" else ("cfg3f",)
    one = [make_run(scale, positions, grammar) for grammar in grammars for positions in ARCHITECTURES]
    return with_seeds(one, default_seeds(scale))


# ---- the figure ------------------------------------------------------------------------------------------------
def figure(table):
    """Figure 4 of the paper: validity, entropy and divergence by architecture, two rows of panels a grammar."""
    table = with_prefix_column(table).assign(diversity=table["bits"] / table["bits_truth"])
    grammars = list(dict.fromkeys(table["grammar"]))
    fig, panels = figures.subplots(columns=2, rows=2 * len(grammars), width=6.4, height=3.4)
    for row, grammar in enumerate(grammars):
        part, here = table[table["grammar"] == grammar], panels[4 * row : 4 * row + 4]
        plot_validity(here[0], part, grammar, "valid_0", 0)
        plot_validity(here[1], part, grammar, "prefix", PAPER_CUT)
        plot_diversity(here[2], part, grammar)
        plot_divergence(here[3], part, grammar)
    figures.set_title(fig, "Which attention learns a grammar from its sentences?")
    figures.set_caption(fig, figure_caption(table))
    return fig


def with_prefix_column(table):
    """The table with the column `prefix`: the valid share after the prefix length of each row's own scale."""
    return table.assign(prefix=[row[f"valid_{row['cut']}"] for _, row in table.iterrows()])


def plot_validity(axes, part, grammar: str, column: str, paper_cut: int) -> None:
    """Shares of valid sentences, generated from nothing or after a prefix."""
    by_sentences = partial(share_of, items=int(part["samples"].iloc[0]))
    figures.plot_means_with_ci(axes, part, "architecture", column, None, ARCHITECTURES, by_sentences, (0, 1))
    draw_paper(axes, part, paper_values("left", grammar, f", cut {paper_cut}"))
    start = f"after {part['cut'].iloc[0]} true tokens" if paper_cut else "from nothing"
    axes.set(title=f"Does it write valid sentences {start}?", ylabel=f"{grammar}: share valid")


def plot_diversity(axes, part, grammar: str) -> None:
    """Bits of a generated sentence over those of a true one."""
    figures.plot_means_with_ci(axes, part, "architecture", "diversity", order=ARCHITECTURES)
    paper, truth = paper_values("middle", grammar), paper_number("1", "Figure 4 middle", grammar, "truth")
    draw_paper(axes, part, {name: round(bits / truth, 3) for name, bits in paper.items()})
    figures.plot_baseline(axes, 1, "the truth")
    axes.set(title="How diverse is what it writes?", ylabel=f"{grammar}: bits over true bits")


def plot_divergence(axes, part, grammar: str) -> None:
    """Divergence from the exact next-token distribution."""
    figures.plot_means_with_ci(axes, part, "architecture", "kl", order=ARCHITECTURES)
    draw_paper(axes, part, paper_values("right", grammar))
    axes.set(title="How far from the true distribution?", yscale="log")
    axes.set_ylabel(f"{grammar}: KL, nats a token")


def paper_values(panel: str, grammar: str, ending: str = "") -> dict[str, float]:
    """The paper's numbers in a panel (left, middle or right) of its Figure 4, by architecture."""
    cells = paper_numbers("1", f"Figure 4 {panel}")
    return {name: cells[grammar, name + ending] for name in ARCHITECTURES}


def draw_paper(axes, part, values: dict[str, float]) -> None:
    """The paper's numbers; apart from ours where the paper's grammar, model and budget are larger."""
    figures.plot_paper_values(axes, values, ARCHITECTURES, not part1_grammars.is_papers_task(part))


def figure_caption(table) -> str:
    """Protocol, seeds, the paper's setting, and what validity does not show."""
    words = [part1_grammars.describe_figure(table, "Figure 4", "grammar", "architecture")]
    words.append(f"Paper: full grammar, 86M parameters, 4.9B tokens, prefixes of {PAPER_CUT} tokens.")
    words.append("No floor is drawn: the table has neither untrained models nor shuffled sentences.")
    if known := describe_known_share(table):
        words.append(f"Of the test sentences {known}: validity here is no proof of generalization.")
    return " ".join(words)


def describe_known_share(table) -> str:
    """How many of the true test sentences stand in the training stream, in words; empty where it was not counted."""
    known = with_columns(table, ["known_truth"])["known_truth"].mean()
    return f"{known:.0%} stand in the training stream" if known == known else ""  # NaN is not equal to itself


# ---- claims ----------------------------------------------------------------------------------------------------
# Primary lines, chosen from the paper's statements: 1.1 rotary attention from nothing, the hardest start; 1.2 rotary
# against learned positions, with which the paper's statement begins; 1.3 attention by position alone, of which uniform
# windows are the extreme case (here with fewer heads than the paper's eight); 1.4 the divergence, since entropy and
# repeats can be right by accident. Thresholds are from the paper's statement. Which lines are primary was decided after
# the laptop's numbers had been seen.
#
# No line rests on `valid_new_0`, validity among sentences outside the training stream: only valid sentences stand in
# the stream, so that leaving those out removes valid ones alone. It is a selection, and no measure of generalization.
#
# What each scale can decide. Every one of 2,000 sentences of cfg3f rooted at 13 (laptop) has one parse, and they have
# 17.6 bits: this is no ambiguous grammar, and in unambiguous ones the paper itself sees no difference between
# positions. Error-free writing and a small divergence take more than the overnight budget: with half of it a trial
# wrote 16% valid sentences. That laptop decides nothing on 1.2, and the gate on 1.3 and on diversity, were added after
# the laptop's numbers had been seen: they withhold verdicts and make none.
TESTABLE_CLAIMS = {
    "smoke": (),
    "laptop": ("1.3", "1.4 diversity"),
    "overnight": ("1.2", "1.3", "1.4 diversity"),
    "gpu": ("1.1", "1.2", "1.3", "1.4 diversity", "1.4"),
    "paper": ("1.1", "1.2", "1.3", "1.4 diversity", "1.4"),
}
ALMOST_WITHOUT_ERROR = 0.95  # valid sentences; the paper has .976
UNAMBIGUOUS = "every sentence has a single parse: not the ambiguous grammar of the claim"
LITTLE_TRAINING = "takes more training than this scale has"


def claims(table) -> list[Claim]:
    """Claims 1.1 to 1.4 on the hard grammar, each against a threshold taken from the paper's statement."""
    made, hard = ClaimList(table), with_prefix_column(table[table["grammar"] == "cfg3f"])
    if not len(hard):
        return made
    testable = TESTABLE_CLAIMS[hard["scale"].iloc[0]]
    learned = Gate("rotary, valid from nothing", valid_by_seed(hard, "rotary"), at_least=ALMOST_WITHOUT_ERROR)
    add_validity_claims(made, hard, testable)
    add_position_claims(made, table, hard, testable)
    add_position_only_claims(made, hard, testable, learned)
    add_distribution_claims(made, hard, testable, learned)
    return made


def by_seed(table, architecture: str, column: str):
    """A column of one architecture by seed."""
    return mean_by_seed(table, column, architecture=architecture)


def valid_by_seed(table, architecture: str):
    """Share of valid sentences from nothing, by seed."""
    return by_seed(table, architecture, "valid_0")


def paper_valid(architecture: str, cut: int = 0, grammar: str = "cfg3f") -> float:
    """The paper's share of valid sentences after `cut` true tokens."""
    return paper_number("1", "Figure 4 left", grammar, f"{architecture}, cut {cut}")


def note_on_grammar(hard) -> str:
    """What a reader must know of a grammar that is rooted too low to be ambiguous."""
    if str(hard["root"].iloc[0]) != "13":
        return ""
    known = describe_known_share(hard)
    return UNAMBIGUOUS + (f"; of the test sentences {known}" if known else "")


def add_validity_claims(made: ClaimList, hard, testable: tuple[str, ...]) -> None:
    """Claim 1.1: hardly an error, from nothing and after a prefix."""
    sentences, rule = int(hard["samples"].iloc[0]), f"above {ALMOST_WITHOUT_ERROR}"
    note = note_on_grammar(hard) or ("" if "1.1" in testable else LITTLE_TRAINING)
    for column, start, cut in (("valid_0", "from nothing", 0), ("prefix", describe_prefix(hard), PAPER_CUT)):
        shares = share_of(by_seed(hard, "rotary", column), sentences)
        name = f"rotary attention: share of valid sentences, written {start}"
        made.add("1.1", name, shares, paper_valid("rotary", cut), rule, "1.1" in testable, above=ALMOST_WITHOUT_ERROR,
                 primary=cut == 0, note=note)  # fmt: skip


def describe_prefix(hard) -> str:
    """The length of our prefixes, and that of the paper's where it differs."""
    cut = int(hard["cut"].iloc[0])
    return f"after {cut} true tokens" + ("" if cut == PAPER_CUT else f" (the paper: {PAPER_CUT})")


def add_position_claims(made: ClaimList, table, hard, testable: tuple[str, ...]) -> None:
    """Claim 1.2: on the hard grammar learned positions are worse than rotary ones, and relative ones are not."""

    def add(words: str, measured, paper: float, rule: str, above: float, primary: bool = False) -> None:
        name = f"share of valid sentences from nothing: {words}"
        made.add("1.2", name, measured, round(paper, 3), rule, "1.2" in testable, above=above, primary=primary,
                 note=note_on_grammar(hard))  # fmt: skip

    ours, theirs = [], []
    for grammar in ("cfg3f", "cfg3b"):
        part = table[table["grammar"] == grammar]
        ours.append(valid_by_seed(part, "rotary") - valid_by_seed(part, "learned"))
        theirs.append(paper_valid("rotary", 0, grammar) - paper_valid("learned", 0, grammar))
    add("rotary minus learned positions", mean_of(ours[0], -1, 1), theirs[0], "above 0", 0.0, primary=True)
    if len(ours[1]):  # the scale has both grammars
        name = "rotary minus learned positions, that on ambiguous cfg3f minus that on unambiguous cfg3b"
        add(name, difference_of(ours[0], ours[1], -2, 2), theirs[0] - theirs[1], "above 0", 0.0)
    relative = difference_of(valid_by_seed(hard, "relative"), valid_by_seed(hard, "rotary"), -1, 1)
    paper = paper_valid("relative") - paper_valid("rotary")
    add("relative minus rotary attention", relative, paper, "above -0.02: relative is not worse", -0.02)


def add_position_only_claims(made: ClaimList, hard, testable: tuple[str, ...], learned: Gate) -> None:
    """Claim 1.3: without a look at the tokens attention does nearly as well as rotary attention that has learned the
    grammar, though not better."""
    rotary, note = valid_by_seed(hard, "rotary"), note_on_grammar(hard)
    words = {"position_only": "attention by position alone", "uniform": "fixed uniform windows"}
    for name, kind in words.items():
        paper = round(paper_valid(name) / paper_valid("rotary"), 3)
        statement = f"valid sentences from nothing: {kind}, as a multiple of rotary attention"
        made.add("1.3", statement, ratio_of(valid_by_seed(hard, name), rotary), paper, "above 0.9", "1.3" in testable,
                 above=0.9, primary=name == "position_only", gates=(learned,), note=note)  # fmt: skip
    ahead = difference_of(rotary, valid_by_seed(hard, "position_only"), -1, 1)
    paper = round(paper_valid("rotary") - paper_valid("position_only"), 3)
    statement = "share of valid sentences from nothing: rotary attention minus attention by position alone"
    made.add("1.3", statement, ahead, paper, "above 0", "1.3" in testable, above=0.0, gates=(learned,), note=note)


def add_distribution_claims(made: ClaimList, hard, testable: tuple[str, ...], learned: Gate) -> None:
    """Claim 1.4: a small divergence; as diverse as the truth, which only a model that hardly errs can be."""
    kl, bits, true_bits, repeats, true_repeats = (
        by_seed(hard, "rotary", name) for name in ("kl", "bits", "bits_truth", "duplicates", "duplicates_truth")
    )
    paper = paper_number("1", "Figure 4 right", "cfg3f", "rotary")
    made.add("1.4", "rotary attention: KL of the exact next-token distribution to the model's, nats a token",
             mean_of(kl, low=0), paper, "below 0.005", "1.4" in testable, below=0.005, primary=True,
             note="" if "1.4" in testable else LITTLE_TRAINING)  # fmt: skip
    paper_bits = paper_numbers("1", "Figure 4 middle")
    paper = paper_bits["cfg3f", "rotary"] / paper_bits["cfg3f", "truth"]
    made.add("1.4", "rotary attention: entropy of its sentences, as a multiple of the true entropy",
             ratio_of(bits, true_bits), round(paper, 3), "between 0.95 and 1.05", "1.4 diversity" in testable,
             above=0.95, below=1.05, gates=(learned,))  # fmt: skip
    made.add("1.4", "rotary attention: repeats among its sentences minus repeats among as many true ones",
             difference_of(repeats, true_repeats, -1, 1), 0.0, "below 0.01", "1.4 diversity" in testable,
             below=0.01, gates=(learned,))  # fmt: skip


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
