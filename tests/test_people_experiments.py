"""The experiments on people judge planted tables rightly, and draw what there is at every scale."""

import pandas
import pytest

from experiments.harness import people
from experiments.harness.runs import SCALES, settings_of
from experiments.harness.study import select
from synth.bio.pools import ATTRIBUTES

SEEDS = (0, 1, 2)


def module(number: str):
    return select([number])[0].module()


def verdicts(claims) -> dict[str, str]:
    return {claim.statement: claim.verdict for claim in claims}


def told(recipe: str, wording: str, right: float, half: str = "second") -> list[dict]:
    """Three seeds of one way of teaching, `right` a little apart, in the row of all attributes."""
    common = {"scale": "laptop", "wording": wording, "recipe": recipe, "attribute": "all"}
    common |= {"evaluation": "Extraction", "half": half}
    return [{**common, "seed_init": seed, "exact": right + 0.01 * (seed - 1)} for seed in SEEDS]


def held(wording: str, share: float) -> list[dict]:
    common = {"scale": "laptop", "wording": wording, "recipe": "read only", "evaluation": "Capacity"}
    return [{**common, "seed_init": seed, "value_bits": 100 * share - seed, "value_bits_max": 100.0} for seed in SEEDS]


def test_what_is_stored_and_what_can_be_asked_for_are_judged_apart() -> None:
    table = [*held("single", 1.0), *told("finetuned in full", "single", 0.05), *told("mixed", "single", 0.3)]
    table += [*told("finetuned by LoRA", "single", 0.12), *told("mixed", "multi5+permute", 0.9)]
    table += [*told("finetuned in full", "multi5+permute", 0.4), *told("finetuned by LoRA", "multi5+permute", 0.9)]
    claims = {claim.statement: claim for claim in module("06").claims(pandas.DataFrame(table))}
    found = {statement: claim.verdict for statement, claim in claims.items()}
    assert found["single: share of the values' bits that the model holds before it is taught"] == "reproduced"
    once = claims["single, best finetuning: held-out people answered right"]
    assert once.value == pytest.approx(0.12) and once.verdict == "reproduced"
    gap = claims["multi5+permute minus single, best finetuning of each"]
    assert gap.value == pytest.approx(0.78) and gap.verdict == "reproduced"
    assert found["single, mixed: held-out people answered right"] == "contradicted"


def test_people_asked_about_in_training_do_not_count() -> None:
    table = [*told("mixed", "single", 0.1), *told("mixed", "single", 1.0, half="first")]
    claims = {claim.statement: claim for claim in module("06").claims(pandas.DataFrame([*table, *held("single", 1.0)]))}
    assert claims["single, mixed: held-out people answered right"].value == pytest.approx(0.1)


def planted(number: str, scale: str) -> pandas.DataFrame:
    """A table as the runs of this scale would make it, with numbers out of the air."""
    found = []
    for i, run in enumerate(select([number])[0].runs(scale)):
        columns = {**dict(run.tags), "scale": scale, "seed_init": run.seeds.init, "parameters": 10_000}
        for evaluation in run.evaluations:
            named = {**columns, "evaluation": type(evaluation).__name__, **settings_of(evaluation)}
            numbers = {"exact": 0.3 + 0.02 * (i % 9), "chance": 0.02}
            numbers |= {"value_bits": 90.0 + i % 3, "value_bits_max": 100.0}
            if "half" in named:  # a column that the table has once a run has asked
                found += [{**named, **numbers, "attribute": name} for name in ("all", *ATTRIBUTES)]
            else:
                found.append({**named, **numbers})
    return pandas.DataFrame(found)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("number", ["06"])
def test_every_scale_draws_what_there_is_and_judges_the_whole(number: str, scale: str) -> None:
    table, experiment = planted(number, scale), module(number)
    for part in (table.iloc[:1], table.iloc[: len(table) // 3 + 1], table[table["seed_init"] == 0], table):
        experiment.figure(part)  # the harness redraws it after every run
    found = verdicts(experiment.claims(table)).values()
    assert (scale == "smoke") == (set(found) <= {"not testable here"})


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("wording", people.WORDINGS)
def test_questions_are_about_the_people_of_the_biographies(scale: str, wording: str) -> None:
    if people.SIZES[scale].people > 2000:
        pytest.skip("the lists are the same as at the smaller scales; only more people are drawn from them")
    told, asked = people.world(scale, wording), people.questions(scale, wording)
    assert told.vocab().symbols == asked.vocab().symbols
    assert (told.world(0).values == asked.world(0).values).all()
