"""The experiments on capacity judge planted tables rightly, and the planner's law is what experiment 10 found."""

import csv
from pathlib import Path

import numpy
import pandas
import pytest
from planted_tables import module, parts

from experiments.harness.experiment import select
from experiments.harness.papers import part3_capacity, scaling_law
from experiments.harness.reporting.table import read_table
from experiments.harness.run import SCALES, evaluation_settings
from experiments.harness.statistics.estimates import Interval, mean_of
from lm.model_size import num_parameters
from probing.capacity.scaling_law import SCALING_LAW_CSV
from synth.corpus import mean_length

RESULTS = Path(__file__).resolve().parents[2] / "results"
SEEDS = (0, 1, 2)


def rows(scale: str = "laptop", noise: float = 0.01, **columns) -> list[dict]:
    """Three seeds of one configuration, the stored bits `r` a little apart."""
    columns = {
        "parameters": 1000,
        "people": 8,
        "r_max": 5.0,
        "diversity_bits": 0.0,
        "diversity_bits_max": 0.0,
        **columns,
    }
    r = columns.pop("r")
    return [
        {
            "scale": scale,
            "seed_init": seed,
            **columns,
            "bits_unclamped": (r + noise * (seed - 1)) * columns["parameters"],
        }
        for seed in SEEDS
    ]


def size(times: int, people: int, layers: int, width: int, parameters: int, r: float, r_max: float) -> list[dict]:
    shape = {"times": times, "people": people, "layers": layers, "width": width, "parameters": parameters}
    return rows(**shape, r=r, r_max=r_max)


def judged(number: str, table: list[dict]) -> dict:
    """The claims about planted rows, by statement."""
    return {claim.statement: claim for claim in module(number).claims(pandas.DataFrame(table))}


def test_a_mean_over_sizes_leaves_out_seeds_that_lack_one() -> None:
    table = [*size(1000, 256, 2, 16, 7680, 2.0, 2.7), *size(1000, 256, 2, 12, 4600, 2.2, 4.0)[:2]]
    table = part3_capacity.add_stored_bits(pandas.DataFrame(table))
    first, second = part3_capacity.stored_at_same_sizes(table, table)
    assert list(first.index) == [0, 1] and list(first) == list(second) == pytest.approx([2.09, 2.1])


def test_the_extreme_of_several_means_allows_for_its_luck() -> None:
    sizes = [mean_of(pandas.Series([mean - 0.1, mean, mean + 0.1])) for mean in (1.0, 1.2)]
    peak = part3_capacity.extreme_of(sizes, max)
    assert peak.mean == pytest.approx(1.2) and list(peak.values) == pytest.approx([1.1, 1.2, 1.3])
    assert peak.interval(0.9) == Interval(peak.mean, *(pytest.approx(end) for end in sizes[1].limits_at(0.95)), 3)
    least = part3_capacity.extreme_of(sizes, min)
    assert least.mean == pytest.approx(1.0) and least.limits_at(0.9) == sizes[0].limits_at(0.95)
    unsure = mean_of(pandas.Series([0.0, 2.2]))  # its true mean may be the highest
    assert part3_capacity.extreme_of([*sizes, unsure], max).limits_at(0.9)[1] == unsure.limits_at(1 - 0.1 / 3)[1]
    assert part3_capacity.extreme_of([], max) is None


def test_the_peak_of_equal_sizes_is_rarely_found_above_their_mean() -> None:
    """Eight sizes that all store exactly 2 bits: the best of them is above 2 in at most 5% of all tables."""
    draws = numpy.random.default_rng(0).normal(2.0, 0.1, (400, 8, 3))
    wrong = sum(
        part3_capacity.extreme_of(map(mean_of, map(pandas.Series, table)), max).interval().low > 2.0 for table in draws
    )
    alone = sum(mean_of(pandas.Series(max(table, key=numpy.mean))).interval().low > 2.0 for table in draws)
    assert wrong <= 0.05 * 400 < 0.15 * 400 < alone


def test_stored_bits_are_not_clamped_and_lists_that_hold_nothing_do_not_count() -> None:
    row = {"parameters": 100, "bits_unclamped": -50.0, "diversity_bits": -30.0, "diversity_bits_max": 0.0}
    table = pandas.DataFrame([row, row | {"diversity_bits_max": 10.0}, row | {"bits_unclamped": float("nan")}])
    assert list(part3_capacity.add_stored_bits(table)["stored"]) == [-0.2, -0.5]


def planted(number: str, scale: str) -> pandas.DataFrame:
    """A table as the runs of this scale would make it, with numbers out of the air."""
    found = []
    for i, run in enumerate(select([number])[0].runs(scale)):
        r_max = run.task.information_content().bits / num_parameters(run.model, run.task)
        columns = {**dict(run.tags), "scale": scale, "seed_init": run.seeds.init, "exposures": 1.0}
        columns |= {"parameters": 10_000 + i, "parameters_active": 5000, "r_max": r_max, "bits": 1000.0 + i}
        columns |= {"diversity_bits": 0.0, "diversity_bits_max": 0.0, "bits_max": r_max * columns["parameters"]}
        for evaluation in run.evaluations:
            bits = (0.5 + 0.01 * (i % 7)) * columns["parameters"]
            found.append({**columns, **evaluation_settings(evaluation), "bits_unclamped": bits})
    return pandas.DataFrame(found)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("number", ["10", "11", "12", "13", "14"])
def test_every_scale_draws_what_there_is_and_judges_the_whole(number: str, scale: str) -> None:
    table, experiment = planted(number, scale), module(number)
    for part in parts(table):
        experiment.figure(part)
        experiment.claims(part)
    claims = experiment.claims(table)
    primary = [claim.id for claim in claims if claim.primary]
    assert len(primary) == len(set(primary)) and {claim.id for claim in claims} <= {*primary, "3.15"}
    if scale == "smoke":
        assert all(claim.verdict == "not testable" for claim in claims)


@pytest.mark.parametrize("number", ["12", "13", "14"])
def test_where_nothing_was_learned_there_is_nothing_to_compare_with(number: str) -> None:
    table = planted(number, "laptop").assign(bits_unclamped=0.0)
    found = module(number).claims(table)
    assert all(claim.verdict in ("not run", "not testable") and claim.value is None for claim in found)


@pytest.mark.parametrize("scale", ["laptop", "overnight", "gpu", "paper"])
@pytest.mark.parametrize("number", ["11", "12", "13"])
def test_models_are_judged_where_the_data_would_fill_them(number: str, scale: str) -> None:
    """Where all can be stored, every architecture would store the same."""
    table = planted(number, scale)
    assert (table["r_max"] > 2).all()


def architectures(times: int, scale: str = "paper", **stored: float) -> list[dict]:
    """Rows of experiment 12, each architecture at one rate; underscores stand for spaces."""
    return [
        row for name, r in {"GPT-2": stored.pop("GPT2"), **stored}.items()
        for row in rows(scale, architecture=name.replace("_", " "), times=times, lr=1e-3, r=r)
    ]  # fmt: skip


GATED = "GPT-2's bits per parameter over those with a gated MLP, 100 exposures"


def test_each_architecture_is_judged_at_its_best_rate() -> None:
    table = architectures(100, GPT2=0.5, gated_MLP=0.8, quarter_MLP=1.15, no_MLP=1.15)
    table += rows("paper", architecture="GPT-2", times=100, lr=2e-3, r=1.2)
    table += rows("paper", architecture="gated MLP", times=100, lr=2e-3, r=0.1)
    claims = judged("12", table)
    assert claims[GATED].value == pytest.approx(1.5) and claims[GATED].verdict == "reproduced" and claims[GATED].primary
    assert claims["GPT-2's bits per parameter over those with no MLP, 100 exposures"].verdict == "contradicted"
    assert (
        claims["GPT-2's bits per parameter over those with a quarter of the MLP, 100 exposures"].verdict == "reproduced"
    )


@pytest.mark.parametrize("stored", [0.5, 1.5])
def test_architectures_are_compared_where_gpt2_is_trained_as_the_papers_is(stored: float) -> None:
    found = judged("12", architectures(100, GPT2=stored, gated_MLP=stored / 1.5))[GATED]
    assert found.verdict == "not testable" and f"{stored:.3g}, needs at least 0.75 and at most 1.25" in found.gate


def test_architectures_are_not_compared_where_rates_are_not_their_best() -> None:
    many = {"GPT2": 2.0, "gated_MLP": 2.0, "quarter_MLP": 2.0, "no_MLP": 2.0}
    assert {claim.verdict for claim in judged("12", architectures(1000, **many)).values()} == {"reproduced"}
    at_edge = judged("12", architectures(1000, "laptop", **many)).values()
    assert {claim.verdict for claim in at_edge} == {"not testable"} and all("2e-2" in claim.gate for claim in at_edge)
    few = judged("12", architectures(100, "laptop", GPT2=1.0, gated_MLP=0.7, quarter_MLP=1.0, no_MLP=0.6))
    verdicts = [claim.verdict for claim in few.values()]
    assert list(few)[1].endswith("no MLP, 100 exposures") and verdicts == ["reproduced", "not testable", "reproduced"]


def quantized(whole: float, eight: float, four: float) -> list[dict]:
    """Rows of experiment 13 whose seeds are far apart, but each keeps the same share."""
    common = {"kind": "dense", "times": 1000, "width": 28, "parameters_active": 1000}
    table = rows(**common, r=whole, noise=0.5)
    for bits, method, tables in module("13").QUANTIZATIONS:
        share = eight if bits == 8 else four
        table += rows(**common, r=whole * share, noise=0.5 * share, weight_bits=bits, method=method, tables=tables)
    return table


EIGHT, FOUR = (f"share of the stored bits that is left on {bits}-bit weights (GPTQ)" for bits in (8, 4))


def test_quantized_models_are_held_against_their_own_seed() -> None:
    claims = judged("13", quantized(2.0, 1.0, 0.3))
    four = claims[FOUR]
    assert (four.value, four.low) == (pytest.approx(0.3), pytest.approx(0.3)) and four.verdict == "reproduced"
    assert claims[EIGHT].verdict == "reproduced" and claims[EIGHT].primary
    assert claims[EIGHT].note == "tables (embeddings) not quantized"
    assert judged("13", quantized(2.0, 0.9, 0.6))[EIGHT].verdict == "contradicted"
    assert judged("13", quantized(2.0, 0.9, 0.6))[FOUR].verdict == "contradicted"


def test_a_model_that_quantization_destroyed_has_not_lost_a_share() -> None:
    found = judged("13", quantized(2.0, 1.0, -0.6))[FOUR]
    assert found.verdict == "not testable" and "destroyed" in found.gate and found.value == pytest.approx(-0.6)
    assert "4 bits is not decided" in judged("13", quantized(2.0, 1.0, -0.6))[EIGHT].note
    empty = judged("13", quantized(1.0, 1.0, 0.3))
    assert empty[EIGHT].verdict == "not testable" and "quantized 1, needs at least 1.8" in empty[EIGHT].gate


@pytest.mark.parametrize(("width", "mixed", "verdict"), [
    (24, 1.6, "reproduced"), (24, 1.0, "contradicted"), (12, 1.6, "not testable"),
])  # fmt: skip
def test_a_mixture_is_judged_where_its_experts_are_wide_enough(width: int, mixed: float, verdict: str) -> None:
    table = rows(kind="dense", times=1000, width=28, r=2.0)
    table += rows(kind="mixture", times=1000, width=width, r=mixed, parameters_active=100)
    found = judged("13", table)["bits per parameter, dense over 32 experts (10.0x fewer active), 1000 exposures"]
    assert found.value == pytest.approx(2.0 / mixed) and found.verdict == verdict and found.primary


def junk(scale: str = "laptop", clean: float = 1.5) -> list[dict]:
    shares = {
        "no junk": 1.0,
        "7/8 junk": 0.06,
        "7/8, token": 0.9,
        "7/8 repeated": 0.95,
        "1/2 junk": 0.5,
        "1/2, token": 1.0,
    }
    return [
        row for name, share in shares.items()
        for row in rows(scale, condition=name, times=100, r=share * clean, noise=0.001)
    ]  # fmt: skip


def test_junk_is_held_against_no_junk_of_the_same_seed() -> None:
    left = "share of the useful bits left, {}".format
    found = judged("14", junk("paper"))
    assert found[left("7/8 junk")].verdict == "reproduced" and found[left("7/8 junk")].primary
    assert found[left("7/8 junk")].value == pytest.approx(0.06)
    assert found[left("7/8 junk: with a domain token minus without")].value == pytest.approx(0.84)
    assert found[left("7/8 junk: with a domain token minus without")].verdict == "reproduced"
    assert found[left("7/8 junk that repeats")].verdict == "reproduced"
    assert found[left("half junk")].verdict == "contradicted"
    small = judged("14", junk("laptop"))  # where some conditions have the settings of others
    untuned = [statement for statement, claim in small.items() if claim.verdict == "not testable"]
    words = ("7/8 junk", "7/8 junk and a domain token", "7/8 junk: with a domain token minus without")
    assert untuned == [left(one) for one in (*words, "7/8 junk that repeats", "half junk")]
    assert all("batch" in small[statement].gate for statement in untuned)


def test_the_token_at_more_exposures_is_judged_where_it_was_tuned() -> None:
    name = "useful bits at 300 exposures with 7/8 junk and a domain token, over 100 exposures without junk"
    for scale, verdict in (("paper", "reproduced"), ("laptop", "not testable")):
        table = [*junk(scale), *rows(scale, condition="7/8, token", times=300, r=1.5, noise=0.001)]
        assert judged("14", table)[name].verdict == verdict


def test_the_caption_names_the_conditions_that_were_not_tuned() -> None:
    experiment = module("14")
    assert experiment.untuned_note(pandas.DataFrame(junk("paper"))) == ""
    note = experiment.untuned_note(pandas.DataFrame(junk("laptop")))
    assert note.endswith("for: half junk; 7/8 junk; 7/8 junk, domain token; 7/8 junk that repeats. ")


def test_junk_takes_nothing_where_nothing_was_stored() -> None:
    assert {claim.verdict for claim in judged("14", junk(clean=0.5)).values()} == {"not testable"}


def test_steps_of_large_runs_follow_from_exposures() -> None:
    task = part3_capacity.paper_bios(20_000)
    train = part3_capacity.paper_train_config(task, 20_000, 1000)
    told = train.steps * train.batch_size * train.seq_len / (20_000 * mean_length(task, documents=256))
    assert told == pytest.approx(1000, rel=1e-3) and (train.batch_size, train.weight_decay) == (48, 0.02)


def test_the_planners_law_is_written_by_its_command() -> None:
    assert SCALING_LAW_CSV.read_text() == scaling_law.committed_law(), (
        "python -m experiments.harness.papers.scaling_law"
    )


def test_the_planners_law_is_what_experiment_10_found() -> None:
    experiment = select(["10"])[0]
    scale = experiment.scales_with_tables(RESULTS)[-1]
    table = experiment.load_module().add_configuration_column(
        read_table(RESULTS / experiment.name / scale / "table.csv")
    )
    found = part3_capacity.measured_law(table)
    with open(SCALING_LAW_CSV, newline="") as file:
        written = {int(row["exposures"]): row for row in csv.DictReader(file) if row["origin"] == "fit"}
    for times, numbers in found.items():
        row = written[times]
        said = tuple(float(row[name]) for name in ("bits_per_parameter", "low", "high"))
        assert said == pytest.approx(numbers, abs=5e-4), f"law.csv, {times} exposures: should be {numbers}"
        assert scale in row["source"]
    assert found.keys() == written.keys()
