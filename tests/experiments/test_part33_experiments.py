"""The experiments on capacity judge planted tables rightly, and the planner's law is what experiment 10 found."""

import csv
from pathlib import Path

import pandas
import pytest
from planted_tables import module, parts, verdicts

from experiments.harness.experiment import select
from experiments.harness.papers import part3_capacity
from experiments.harness.reporting.table import read_table
from experiments.harness.run import SCALES, evaluation_settings
from lm.model_size import num_parameters
from probing.capacity.planner import SCALING_LAW_CSV
from synth.corpus import mean_length

RESULTS = Path(__file__).resolve().parents[2] / "results"
SEEDS = (0, 1, 2)


def rows(scale: str = "laptop", noise: float = 0.01, **columns) -> list[dict]:
    """Three seeds of one configuration, r a little apart."""
    r = columns.pop("r")
    return [{"scale": scale, "seed_init": seed, "r": r + noise * (seed - 1), **columns} for seed in SEEDS]


def size(times: int, people: int, layers: int, width: int, parameters: int, r: float, r_max: float) -> list[dict]:
    shape = {"times": times, "people": people, "layers": layers, "width": width, "parameters": parameters}
    return rows(**shape, r=r, r_max=r_max, r_share=r / r_max)


def test_the_law_and_its_limits_are_judged() -> None:
    full = size(1000, 256, 2, 24, 16000, 1.27, 1.28)
    lawful = [*size(1000, 256, 2, 16, 7680, 2.1, 2.7), *size(1000, 256, 4, 12, 8000, 2.05, 2.6), *full]
    found = verdicts(module("10").claims(pandas.DataFrame([*lawful, *size(100, 1024, 2, 24, 16000, 0.8, 5.0)])))
    assert found["highest bits a parameter at 1000 exposures, over sizes"] == "reproduced"
    assert found["highest bits a parameter among the models of a seed, 1000 exposures"] == "reproduced"
    assert found["highest bits a parameter at 100 exposures, over sizes"] == "contradicted"
    assert found["highest bits a parameter of models of more than two layers, 1000 exposures"] == "reproduced"
    assert found["share of all bits stored where R_max is at most 1.8, 1000 exposures"] == "reproduced"


def planted(number: str, scale: str) -> pandas.DataFrame:
    """A table as the runs of this scale would make it, with numbers out of the air."""
    found = []
    for i, run in enumerate(select([number])[0].runs(scale)):
        r_max = run.task.information_content().bits / num_parameters(run.model, run.task)
        columns = {**dict(run.tags), "scale": scale, "seed_init": run.seeds.init, "exposures": 1.0, "r_active": 2.0}
        columns |= {"parameters": 10_000 + i, "parameters_active": 5000, "r_max": r_max, "bits": 1000.0 + i}
        for evaluation in run.evaluations:
            r = 0.5 + 0.01 * (i % 7)
            found.append({**columns, **evaluation_settings(evaluation), "r": r, "r_share": r / r_max})
    return pandas.DataFrame(found)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("number", ["10", "11", "12", "13", "14"])
def test_every_scale_draws_what_there_is_and_judges_the_whole(number: str, scale: str) -> None:
    table, experiment = planted(number, scale), module(number)
    for part in parts(table):
        experiment.figure(part)
    found = verdicts(experiment.claims(table)).values()
    assert (scale == "smoke") == (set(found) <= {"not testable here"})


@pytest.mark.parametrize("number", ["12", "13", "14"])
def test_where_nothing_was_learned_there_is_nothing_to_compare_with(number: str) -> None:
    table = planted(number, "laptop").assign(r=0.0)
    found = module(number).claims(table)
    assert all(claim.verdict == "not testable here" and claim.value is None for claim in found)


@pytest.mark.parametrize("scale", ["laptop", "overnight", "gpu", "paper"])
@pytest.mark.parametrize("number", ["11", "12", "13"])
def test_models_are_judged_where_the_data_would_fill_them(number: str, scale: str) -> None:
    """Where all can be stored, every architecture would store the same."""
    table = planted(number, scale)
    assert (table["r_max"] > 2).all()


def test_each_architecture_is_judged_at_its_best_rate() -> None:
    def tried(name: str, at: dict[float, float]) -> list[dict]:
        common = {"times": 100, "people": 8, "parameters": 1000}
        return [row for lr, r in at.items() for row in rows(**common, architecture=name, lr=lr, r=r)]

    table = [*tried("GPT-2", {1e-3: 0.5, 2e-3: 1.5}), *tried("gated MLP", {1e-3: 1.0, 2e-3: 0.1})]
    table += [row for name in ("quarter MLP", "no MLP", "silu", "LLaMA") for row in tried(name, {1e-3: 1.45})]
    claims = {claim.statement: claim for claim in module("12").claims(pandas.DataFrame(table))}
    gated = claims["GPT-2 over gated MLP, bits a parameter at 100 exposures"]
    assert gated.value == pytest.approx(1.5, abs=0.01) and gated.verdict == "reproduced"
    assert claims["GPT-2 over no MLP, bits a parameter at 100 exposures"].verdict == "contradicted"
    assert claims["GPT-2 over quarter MLP, bits a parameter at 100 exposures"].verdict == "reproduced"


def test_quantized_models_are_held_against_their_own_seed() -> None:
    common = {"kind": "dense", "times": 1000}
    table = rows(**common, r=2.0, noise=0.5)  # seeds far apart, but each loses the same share
    for bits, method, tables in module("13").QUANTIZATIONS:
        share = 1.0 if bits == 8 else 0.3
        table += rows(**common, r=2.0 * share, noise=0.5 * share, weight_bits=bits, method=method, tables=tables)
    table += rows(kind="mixture", times=1000, r=1.0, noise=0.25, parameters=1000, parameters_active=100)
    claims = {claim.statement: claim for claim in module("13").claims(pandas.DataFrame(table))}
    four = claims["share of the learned bits left on 4-bit weights, gptq"]
    assert (four.value, four.low) == (pytest.approx(0.3), pytest.approx(0.3)) and four.verdict == "reproduced"
    assert claims["share of the learned bits left on 8-bit weights, rtn"].verdict == "reproduced"
    dense = claims["dense over 32 experts (10.0x fewer active), bits a parameter at 1000 exposures"]
    assert dense.value == pytest.approx(2.0) and dense.verdict == "contradicted"


def test_junk_is_held_against_no_junk_of_the_same_seed() -> None:
    learned = {
        "no junk": 1.0,
        "7/8 junk": 0.1,
        "7/8, token": 0.9,
        "7/8 repeated": 0.95,
        "1/2 junk": 0.5,
        "1/2, token": 1.0,
    }
    table = [row for name, r in learned.items() for row in rows(condition=name, times=100, r=r, noise=0.001)]
    found = verdicts(module("14").claims(pandas.DataFrame(table)))
    assert found["7/8 junk: share of the useful bits left"] == "reproduced"
    assert found["7/8 junk: share left with token minus without"] == "reproduced"
    assert found["1/2 junk: share of the useful bits left"] == "contradicted"


def test_every_world_holds_what_fills_its_model() -> None:
    experiment = module("11")
    for run in experiment.runs("laptop"):
        with_fewer = type(run.task)(**{**vars(run.task), "people": run.task.people - 8})
        parameters = num_parameters(run.model, run.task)
        assert (
            with_fewer.information_content().bits
            < experiment.TARGET_BITS_PER_PARAMETER * parameters
            <= run.task.information_content().bits
        )


def test_steps_of_large_runs_follow_from_exposures() -> None:
    task = part3_capacity.paper_bios(20_000)
    train = part3_capacity.paper_train_config(task, 20_000, 1000)
    told = train.steps * train.batch_size * train.seq_len / (20_000 * mean_length(task, documents=256))
    assert told == pytest.approx(1000, rel=1e-3) and (train.batch_size, train.weight_decay) == (48, 0.02)


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
