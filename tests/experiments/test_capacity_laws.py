"""Experiments 10 and 11 on planted tables: the law of bits per parameter, what questions bring out, and worlds."""

from dataclasses import replace

import pandas
import pytest
from planted_tables import module

from experiments.harness.reporting.figures.checks import find_overlaps
from experiments.harness.run import Run
from lm.config import TrainConfig
from lm.model_size import num_parameters

SEEDS = range(5)
PEAK = "most bits per parameter of any size at 1000 exposures"
PLATEAU = "least bits per parameter of any size with more facts than it can hold, 1000 exposures"
DEEP = "bits per parameter of a deeper model over those of two layers of the same size, 1000 exposures"
SATURATED = "least share of the facts that is stored, where they hold at most 1.8 bits per parameter, 1000 exposures"
HUNDRED = "most bits per parameter of any size at 100 exposures: is it at least one bit?"
HALF = "bits per parameter at 100 exposures over those at 1000, mean of the sizes that were run at both"
TEN = "most bits per parameter of any size at 10 exposures"
MORE_PEOPLE = "bits per parameter at 10 exposures with more people over those with fewer, the same model"
LOSS = "bits stored over bits that questions bring out, of the size that loses most, 1000 exposures"


def rows(r: float, noise: float = 0.01, **columns) -> list[dict]:
    """Seeds of one configuration, whose stored bits per parameter are a little apart."""
    about = {"scale": "laptop", "parameters": 8000, "people": 256, "r_max": 5.0, "evaluation": "Capacity"}
    about |= {"diversity_bits": 0.0, "diversity_bits_max": 0.0, "exposures": 1000.0, **columns}
    about["bits_max"] = about["r_max"] * about["parameters"]
    per_seed = {seed: (r + noise * (seed - 2) / 2) * about["parameters"] for seed in SEEDS}
    return [{**about, "seed_init": seed, "bits_unclamped": bits} for seed, bits in per_seed.items()]


def size(times: int, people: int, layers: int, width: int, parameters: int, r: float, r_max: float, **more):
    shape = {"times": times, "people": people, "layers": layers, "width": width, "parameters": parameters}
    return rows(r, **shape, r_max=r_max, world="bioD", **more)


def judged(number: str, table: list[dict]) -> dict:
    """The claims about planted rows, by statement."""
    return {claim.statement: claim for claim in module(number).claims(pandas.DataFrame(table))}


# ---- experiment 10 ---------------------------------------------------------------------------------------------
def lawful(deep: float = 2.1, least: float = 2.05) -> list[dict]:
    """Four sizes with too many facts, one of them deep, and two with few."""
    return [
        *size(1000, 256, 2, 8, 2300, least, 9.0), *size(1000, 256, 2, 12, 4600, 2.15, 4.5),
        *size(1000, 576, 2, 24, 16000, 2.2, 2.9), *size(1000, 576, 4, 16, 14200, deep, 3.3),
        *size(1000, 256, 2, 24, 16000, 1.28, 1.3), *size(1000, 256, 2, 32, 27600, 0.755, 0.76),
    ]  # fmt: skip


def test_the_law_and_its_limits_are_judged() -> None:
    found = judged("10", [*lawful(), *size(100, 1024, 2, 48, 60000, 0.8, 5.0)])
    assert {statement: claim.verdict for statement, claim in found.items()} == {
        PEAK: "reproduced",
        f"{PEAK}: is it within the paper's limit?": "reproduced",
        PLATEAU: "reproduced",
        DEEP: "reproduced",
        HUNDRED: "contradicted",
        SATURATED: "reproduced",
    }
    assert [claim.id for claim in found.values() if claim.primary] == ["3.14", "3.15", "3.21"]
    assert found[SATURATED].note == "configurations with so few facts: 2"
    assert judged("10", lawful(least=1.5))[PLATEAU].verdict == "contradicted"


def test_depth_is_judged_between_shapes_of_one_size() -> None:
    deep = judged("10", lawful(deep=1.6))[DEEP]
    assert deep.verdict == "contradicted" and deep.value == pytest.approx(1.6 / 2.2, abs=1e-3)
    assert deep.note == "shapes (layers x width): 4 x 16 over 2 x 24"
    without_base = [row for row in lawful() if (row["width"], row["people"]) != (24, 576)]
    assert DEEP not in judged("10", without_base)
    narrow = [row | {"width": 12} if row["layers"] == 4 else row for row in lawful()]
    assert DEEP not in judged("10", narrow)


def test_a_size_that_stores_all_its_facts_is_no_peak() -> None:
    filled = judged("10", size(1000, 256, 2, 16, 8000, 2.2, 2.3))
    assert filled[PEAK].verdict == "not testable" and "needs at least 2.5" in filled[PEAK].gate
    best_filled = [*size(1000, 256, 2, 16, 8000, 2.55, 2.6), *size(1000, 256, 2, 12, 4600, 2.1, 4.5)]
    gate = judged("10", best_filled)[PEAK].gate  # another size had room, the best had not
    assert gate == "share of its facts that this size stores 0.981, needs at most 0.95"


@pytest.mark.parametrize(("few", "verdict"), [(1.1, "reproduced"), (1.6, "contradicted"), (1.32, "undecided")])
def test_a_hundred_exposures_are_held_against_a_thousand_at_the_same_sizes(few: float, verdict: str) -> None:
    many = [*size(1000, 256, 2, 16, 7680, 2.2, 2.7), *size(1000, 256, 2, 24, 16000, 1.3, 1.3)]  # the second is filled
    other = [*size(100, 1024, 2, 16, 7680, few, 10.0, noise=0.1), *size(100, 1024, 2, 24, 16000, 0.1, 5.0)]
    found = judged("10", [*many, *other])[HALF]
    assert found.value == pytest.approx(few / 2.2, abs=1e-3) and found.paper == 0.5 and not found.primary
    assert found.verdict == verdict and "2 x 16;" in found.note
    assert HALF not in judged("10", [*many, *size(100, 1024, 2, 32, 28000, few, 5.0)])


def test_ten_exposures_depend_on_the_number_of_people() -> None:
    once = size(10, 8192, 2, 32, 27600, 0.1, 22.0)
    found = judged("10", once)
    assert found[TEN].verdict == "not testable" and MORE_PEOPLE not in found
    wide = size(10, 8192, 2, 64, 104_000, 0.1, 6.0)
    two_sizes = [*once, *wide, *size(10, 16384, 2, 32, 27600, 0.18, 45.0)]
    assert judged("10", two_sizes)[TEN].verdict == "not testable"
    found = judged("10", [*two_sizes, *size(10, 8192, 2, 16, 7700, 0.08, 80.0)])
    assert found[TEN].verdict == found[MORE_PEOPLE].verdict == "reproduced"
    assert found[MORE_PEOPLE].note == "people: 16,384 over 8,192"
    floor = [*size(10, 8192, 2, 32, 27600, 0.001, 22.0), *size(10, 16384, 2, 32, 27600, 0.003, 45.0)]
    assert judged("10", floor)[MORE_PEOPLE].verdict == "not testable"


def asked(width: int, parameters: int, stored: float, *extracted: float, trained: float = 0.95) -> list[dict]:
    """Rows of bioS: what is stored, and what each of several finetunings brings out."""
    about = {"times": 1000, "layers": 2, "width": width, "parameters": parameters, "world": "bioS", "people": 1500}
    found = rows(stored, **about)
    for rank, brought in enumerate(extracted):
        finetuning = {
            "evaluation": "ExtractableCapacity",
            "rank": rank,
            "embed_rank": 16 * rank,
            "biography_share": None,
        }
        for row in rows(brought, **about):
            bits = {"extract_bits_unclamped": row["bits_unclamped"], "stored_bits_unclamped": stored * parameters}
            found.append({**row, **finetuning, **bits, "bits_unclamped": None, "extract_exact_trained": trained})
    return found


def test_what_questions_bring_out_is_judged_at_the_size_that_loses_most() -> None:
    table = [
        *lawful(),
        *asked(16, 11_000, 1.9, 1.4, 1.7),
        *asked(24, 22_000, 1.7, 1.65, 0.2),
        *asked(32, 35_000, 1.2, 1.2),
    ]
    found = judged("10", table)
    assert found[LOSS].verdict == "reproduced" and found[LOSS].value == pytest.approx(1.9 / 1.7, abs=1e-3)
    assert found[LOSS].primary and found[LOSS].id == "3.22"
    assert found[PEAK].value == pytest.approx(2.2)  # the law is read from bioD alone
    lossy = judged("10", [*table, *asked(48, 71_000, 1.0, 0.5)])
    assert lossy[LOSS].verdict == "contradicted" and lossy[LOSS].value == pytest.approx(2.0, abs=0.01)
    untaught = judged("10", [*table[:-10], *asked(32, 35_000, 1.2, 1.2, trained=0.5)])
    assert untaught[LOSS].verdict == "not testable" and "largest model 0.5, needs at least 0.9" in untaught[LOSS].gate
    assert LOSS not in judged("10", lawful())


def test_the_figure_shows_bits_below_nothing_and_what_questions_bring_out() -> None:
    table = [*lawful(), *size(10, 8192, 2, 32, 27600, -0.2, 22.0), *asked(16, 11_000, 1.9, 1.6)]
    figure = module("10").figure(pandas.DataFrame(table))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["10 exposures", "1,000 exposures", "brought out by questions"]
    assert find_overlaps(figure) == []
    below = [line for line in figure.axes[0].lines if line.get_marker() == "v" and len(line.get_ydata())]
    assert below and min(below[0].get_ydata()) > figure.axes[0].get_ylim()[0]
    assert figure.axes[3].get_ylim()[0] < -0.2  # unclamped


@pytest.mark.parametrize("number", ["10", "11"])
@pytest.mark.parametrize("scale", ["laptop", "overnight"])
def test_every_size_has_a_choice_of_rates_on_seeds_that_are_not_reported(number: str, scale: str) -> None:
    for run in module(number).runs(scale):
        assert len({candidate.lr for candidate in candidates(run)}) >= 3 and run.seeds.init < 1000


def candidates(run: Run) -> tuple[TrainConfig, ...]:
    assert run.grid is not None
    assert run.grid.criterion == "bits_unclamped" and run.grid.goal == "max"
    return run.grid.candidates


# ---- experiment 11 ---------------------------------------------------------------------------------------------
WORLDS = {"base": "K=1 C=12 D=64", "four": "K=4 C=3", "words": "bioS", "prose": "bioR"}
WORST = "bits per parameter at 1000 exposures of the world that stores least"
OVER_FIRST = f"{WORST}, over those of the first world"
FRESH = "bits per parameter of four attributes in a fresh order every time"


def worlds(rates: float = 3.0, **stored: list[float]) -> list[dict]:
    """Rows of experiment 11: the bits stored in a world by models of growing size."""
    return [
        row for name, values in stored.items() for k, r in enumerate(values)
        for row in rows(r, world=WORLDS[name], parameters=1000 * (k + 1), layers=2, width=12 + 4 * k, grid_size=rates)
    ]  # fmt: skip


def test_the_world_that_stores_least_is_held_against_the_first_at_its_best_size() -> None:
    found = judged("11", worlds(base=[2.2, 2.3, 2.2], four=[1.5, 2.12, 2.2]))
    assert found[OVER_FIRST].verdict == "reproduced" and found[OVER_FIRST].primary
    assert found[OVER_FIRST].value == pytest.approx(2.2 / 2.3, abs=1e-3)
    assert found[f"{WORST}, at its best size"].value == pytest.approx(2.2)
    fewer = judged("11", worlds(base=[2.2, 2.2, 2.2], four=[1.5, 1.65, 1.7]))
    assert fewer[OVER_FIRST].verdict == fewer[f"{WORST}, at its best size"].verdict == "contradicted"
    assert fewer[f"{FRESH}, over the first world"].verdict == "contradicted"
    growth = fewer[f"{FRESH}, the largest model over the smallest"]
    assert growth.value == pytest.approx(1.7 / 1.5, abs=1e-2) and growth.verdict == "reproduced" and not growth.primary


@pytest.mark.parametrize(("table", "gate"), [
    (worlds(base=[2.2], four=[1.5]), "sizes of model tried in every world 1, needs at least 3"),
    (worlds(rates=1.0, base=[2.2] * 3, four=[1.5] * 3), "learning rates tried at every size 1, needs at least 3"),
    (worlds(base=[1.2] * 3, four=[0.4] * 3), "bits per parameter of the first world 1.2, needs at least 1.8"),
    (worlds(base=[2.2] * 3, four=[1.0, 1.3, 1.6]), "the world that stores least (K=4 C=3) 1.23, needs at most 1.05"),
])  # fmt: skip
def test_what_experiment_11_cannot_tell(table: list[dict], gate: str) -> None:
    found = judged("11", table)[OVER_FIRST]
    assert found.verdict == "not testable" and gate in found.gate


def test_rewritten_biographies_are_held_against_fresh_wordings() -> None:
    found = judged("11", worlds(base=[2.2] * 3, words=[2.0] * 3, prose=[1.9] * 3))
    line = found["bits per parameter, biographies rewritten as prose over fresh wordings"]
    assert line.value == pytest.approx(0.95) and line.verdict == "reproduced"
    assert found[OVER_FIRST].value == pytest.approx(1.9 / 2.2, abs=1e-3)
    poor = judged("11", worlds(base=[2.2] * 3, words=[0.3] * 3, prose=[0.3] * 3))
    assert poor[line.statement].verdict == "not testable"


def test_every_world_holds_what_fills_its_model() -> None:
    experiment = module("11")
    for run in experiment.runs("laptop")[: len(experiment.LAPTOP_WORLDS) * 3]:
        with_fewer = replace(run.task, people=run.task.people - 8)
        enough = experiment.TARGET_BITS_PER_PARAMETER * num_parameters(run.model, run.task)
        assert with_fewer.information_content().bits < enough <= run.task.information_content().bits


def test_byte_pairs_fill_their_model_with_the_vocabulary_that_they_end_with() -> None:
    experiment = module("11")
    run = experiment.short_biography_run(16, "bioS, byte pairs", experiment.BYTE_PAIRS["bioS, byte pairs"])
    held = run.task.information_content().bits / num_parameters(run.model, run.task)
    assert held == pytest.approx(experiment.TARGET_BITS_PER_PARAMETER, rel=0.05)
