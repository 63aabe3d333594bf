"""What do weights on few bits, and mixtures of experts, cost? (claims 3.18 and 3.19)

Part 3.3 (arXiv 2404.05405), results 8 and 9: a model that holds all it can (two bits a parameter, 1000 exposures) is
put on 8 and 4 bits a weight, by rounding and by GPTQ; and 32 experts, of which a token uses one, are trained in place
of each MLP. Left: bits learned per parameter after quantization. Right: the mixture beside a dense model of about its
size, at 1000 and 100 exposures, per parameter and per active parameter.

What one should see: 8 bits cost nothing, 4 bits more than half; the mixture stores nearly as much per parameter as the
dense model (1.3 and 1.5 times less in the paper), and so far more per parameter that it uses.

Worlds and cost: smoke, seconds; laptop, bioD with one value of 12 symbols, 21K parameters, under ten minutes on two
cores; overnight, 60K parameters, three hours on two cores; gpu, bioS(20K) and bioS(50K), an hour (not measured); paper,
bioS(50K) to bioS(200K).
"""

from pathlib import Path

if __name__ == "__main__":  # from a plain checkout the repository is not on the path
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.harness import capacity, figures
from experiments.harness.capacity import by_seed
from experiments.harness.claims import Claim, weigh
from experiments.harness.runs import Run, replicate
from experiments.harness.stats import interval

NAME = Path(__file__).stem
EXPERTS = 32
# Exposures, people, then for the dense model and the mixture: width, batch, rate. Both have about the same size; the
# mixture takes larger batches, as every expert sees a thirty-second of them. Rates: docs/journal.md.
TINY: dict[str, list[tuple]] = {
    "smoke": [(10, 32, (16, 8, 1e-2), (8, 32, 1e-2))],
    "laptop": [(1000, 640, (28, 64, 1e-2), (12, 128, 1e-2)), (100, 1280, (28, 16, 5e-3), (12, 32, 5e-3))],
    "overnight": [(1000, 2048, (48, 64, 5e-3), (20, 256, 5e-3)), (100, 4096, (48, 32, 2.5e-3), (20, 64, 5e-3))],
}
# Exposures, people, and layers and heads of the dense model and of the mixture.
LARGE = {
    "gpu": [(1000, 20_000, (2, 2), (2, 1)), (100, 50_000, (2, 2), (2, 1))],
    "paper": [(1000, 200_000, (6, 4), (4, 2)), (100, 200_000, (6, 4), (4, 2))],
}
WEIGHTS = tuple((bits, method) for bits in (8, 4) for method in ("rtn", "gptq"))


def runs(scale: str) -> list[Run]:
    """Dense and mixture at both numbers of exposures, three seeds each (one for smoke)."""
    made = []
    for exposures, people, dense, mixture in TINY.get(scale, ()):
        made += [tiny("dense", exposures, people, *dense), tiny("mixture", exposures, people, *mixture)]
    for exposures, people, dense, mixture in LARGE.get(scale, ()):
        made += [large("dense", exposures, people, *dense), large("mixture", exposures, people, *mixture)]
    return replicate(made, 1 if scale == "smoke" else 3)


def tiny(kind: str, exposures: int, people: int, width: int, batch: int, lr: float) -> Run:
    """A small model that reads people of bioD."""
    task = capacity.tiny_people(people)
    model = capacity.tiny_model(2, width, **_experts(kind, width))
    return _run(kind, exposures, task, model, capacity.tiny_training(task, exposures, batch, lr))


def large(kind: str, exposures: int, people: int, layers: int, heads: int) -> Run:
    """A model of the paper's kind that reads people of bioS; mixtures take twice the rate."""
    task = capacity.paper_people(people)
    model = capacity.paper_model(layers, heads, **_experts(kind, 64 * heads))
    rates = {"lr": 2e-3} if kind == "mixture" else {}
    return _run(kind, exposures, task, model, capacity.paper_training(task, people, exposures, **rates))


def _experts(kind: str, width: int) -> dict:
    return {"experts": EXPERTS, "mlp_width": width} if kind == "mixture" else {}  # each D -> D -> D, as in the paper


def _run(kind: str, exposures: int, task, model, train) -> Run:
    from probing.capacity import Capacity, QuantizedCapacity  # torch comes with them, and --help has no need of torch

    asked: tuple = (Capacity(),)
    if kind == "dense" and exposures != 100:
        asked += tuple(QuantizedCapacity(bits, method) for bits, method in WEIGHTS)
    tags = {"kind": kind, "times": exposures, "people": task.people, "width": model.width}
    return Run(NAME, task, model, train, asked, tags=tags)


def figure(table):
    """Bits per parameter by bits of a weight, and of dense models and mixtures."""
    fig, (left, right) = figures.canvas(columns=2, width=6.4, height=4.6)
    full = table["weight_bits"].isna()
    quantized_panel(left, table[(table["kind"] == "dense") & (table["times"] == table["times"].max())])
    mixture_panel(right, table[full])
    sizes, n = table["parameters"], table[full].groupby(["kind", "times"]).size().min()
    figures.title(
        fig,
        f"Part 3.3, results 8 and 9: {table['people'].min():,} to {table['people'].max():,} people, "
        f"{sizes.min() / 1e3:.3g}K to {sizes.max() / 1e3:.3g}K parameters; small dots are seeds, large ones their "
        f"mean, bars its 95% interval (n = {n})",
    )
    return fig


def quantized_panel(axes, part) -> None:
    """After training: all bits, 8 and 4, by both methods."""
    names = {"rtn": "rounded to nearest", "gptq": "GPTQ"}
    bits = part["weight_bits"].map(lambda value: "32 bits" if value != value else f"{value:.0f} bits")
    part = part.assign(weights=bits, how=part["method"].map(names).fillna("as trained"))
    figures.points(axes, part, "weights", "r", "how", ["32 bits", "8 bits", "4 bits"])
    figures.paper_marks(axes, {"32 bits": 2.0, "8 bits": 2.0, "4 bits": 0.7}, ["32 bits", "8 bits", "4 bits"])
    axes.set(ylim=(0, 2.6), ylabel="bits learned / parameters", title="Weights on fewer bits after training")
    axes.legend(loc="lower left")


def mixture_panel(axes, table) -> None:
    """Dense and mixture, per parameter and per active one."""
    kinds = {"dense": "dense", "mixture": f"{EXPERTS} experts, one used"}
    table = table.assign(kind=table["kind"].map(kinds), exposure=[f"{times} exposures" for times in table["times"]])
    order = list(dict.fromkeys(table["exposure"]))
    drawn = figures.points(axes, table, "exposure", "r", "kind", order)
    for times, factor in PAPER.items():
        if (place := f"{times} exposures") in order:
            level = drawn[place, "dense"].mean / factor
            axes.hlines(level, order.index(place) - 0.05, order.index(place) + 0.4, color=figures.PAPER,
                        linestyle="--")  # fmt: skip
    mixed = table[table["kind"] == kinds["mixture"]].groupby("exposure")["r_active"].mean()
    active = [f"{name}: {mixed[name]:.3g}" for name in order if name in mixed]
    axes.plot([], [], "--", color=figures.PAPER, label="dense over the paper's 1.3 or 1.5")
    axes.set(ylim=(0, 2.6), ylabel="bits learned / parameters", title="A mixture of experts in place of each MLP")
    axes.set_xlabel("of the mixture per active parameter: " + ", ".join(active), fontsize=9)
    axes.legend(loc="lower left")


PAPER = {1000: 1.3, 100: 1.5}  # dense over mixture, bits per parameter


def claims(table) -> list[Claim]:
    """Claims 3.18 and 3.19, seed by seed; thresholds are the paper's statements. Smoke decides nothing."""
    decides, made = table["scale"].iloc[0] != "smoke", []
    full = table[table["weight_bits"].isna()]
    taught = full[full["times"] == full["times"].max()]
    for bits, method in WEIGHTS:
        rows = table[(table["weight_bits"] == bits) & (table["method"] == method)]
        left = interval(by_seed(rows) / by_seed(taught, kind="dense"))
        words, limits, paper = (
            ("at least 0.95 of them: no loss", {"above": 0.95}, 1.0) if bits == 8
            else ("less than half of them", {"below": 0.5}, 0.35)
        )  # fmt: skip
        made.append(weigh("3.18", f"share of the learned bits left on {bits}-bit weights, {method}", left, paper, words,
                          decides, **limits))  # fmt: skip
    for times, paper in PAPER.items():
        part = full[full["times"] == times]
        if len(part):
            ratio = interval(by_seed(part, kind="dense") / by_seed(part, kind="mixture"))
            name = f"dense over {EXPERTS} experts, bits a parameter at {times} exposures"
            rule = f"below {paper + 0.2:.1f}: they cost little"
            made.append(weigh("3.19", name, ratio, paper, rule, decides, below=paper + 0.2))
    return made


if __name__ == "__main__":
    from experiments.harness.cli import main

    main(__file__)
