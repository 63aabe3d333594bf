"""The experiments on people judge planted tables rightly, and draw what there is at every scale."""

import pandas
import pytest
from planted_tables import module, parts, verdicts

from experiments.harness.experiment import select
from experiments.harness.papers import part3_people
from experiments.harness.run import SCALES, evaluation_settings
from probing.knowledge.extraction import Extraction
from probing.knowledge.manipulation import Manipulation
from probing.routed_qa.evaluation import SystemComparison
from synth.bio.value_lists import ATTRIBUTES
from synth.identity import identity_name

SEEDS = (0, 1, 2)


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
            named = {**columns, "evaluation": identity_name(type(evaluation)), **evaluation_settings(evaluation)}
            found += [{**named, **row} for row in measured(evaluation, run.task, i)]
    return pandas.DataFrame(found)


def measured(evaluation, task, i: int) -> list[dict]:
    """Rows as an evaluation would give them; those of questions have columns that others lack."""
    numbers = {"exact": 0.3 + 0.02 * (i % 9), "chance": 0.02}
    numbers |= {"value_bits": 90.0 + i % 3, "value_bits_max": 100.0}
    if isinstance(evaluation, Manipulation):
        asked = [(question.question, way) for question, way in evaluation._task_variants(task)]
        return [{"question": q, "hint": way, "accuracy": 0.2 + 0.02 * (i % 9), "floor": 0.1} for q, way in asked]
    if isinstance(evaluation, SystemComparison):
        kinds = ("retrieval", "classification", "comparison", "inverse")
        shares = {"accuracy": 0.9 + 0.01 * (i % 3), "given": 1.0, "routed": 1.0, "question": "all"}
        return [{"kind": kind, "who": who, **shares} for kind in kinds for who in ("system", "bare model")]
    if isinstance(evaluation, Extraction):
        return [{**numbers, "attribute": name} for name in ("all", *ATTRIBUTES)]
    return [numbers]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("number", ["06", "08", "09"])
def test_every_scale_draws_what_there_is_and_judges_the_whole(number: str, scale: str) -> None:
    table, experiment = planted(number, scale), module(number)
    for part in parts(table):
        experiment.figure(part)
    found = verdicts(experiment.claims(table)).values()
    assert (scale == "smoke") == (set(found) <= {"not testable here"})


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("wording", [*part3_people.WORDINGS, *part3_people.REVERSED_WORDINGS])
def test_questions_are_about_the_people_of_the_biographies(scale: str, wording: str) -> None:
    if part3_people.SCALE_CONFIGS[scale].people > 2000:
        pytest.skip("the lists are the same as at the smaller scales; only more people are drawn from them")
    told, asked = part3_people.biography_task(scale, wording), part3_people.question_task(scale, wording)
    assert told.vocab().symbols == asked.vocab().symbols
    assert (told.world(0).values == asked.world(0).values).all()
    worded = part3_people.biography_task(scale, wording, reasoning=True)
    assert worded.vocab().symbols == part3_people.manipulation_task(scale, wording, "all").vocab().symbols


# ---- what can be done with facts -------------------------------------------------------------------------------
def facts(year: float, whole: float) -> list[dict]:
    """Retrieval by three seeds."""
    common = {"scale": "laptop", "lesson": "retrieval", "style": "answers only", "pupils": 200, "people_told": 400}
    common |= {"hint": "none", "floor": 0.05}
    asked = {"birth_year": year, "university+major": 0.9, "major+university": 0.8}
    rows = [{**common, "evaluation": "Manipulation", "question": name, "accuracy": x} for name, x in asked.items()]
    rows.append({**common, "evaluation": "Extraction", "attribute": "birth date", "exact": whole})
    rows.append({**common, "evaluation": "Extraction", "attribute": "all", "exact": 0.0})
    return [{**row, "seed_init": seed} for row in rows for seed in SEEDS]


def worked(question: str, bare, written, direct) -> list[dict]:
    """Answers of three seeds, a little apart, over numbers of people taught with."""
    rows = []
    for pupils, *right in zip((25, 100, 200), bare, written, direct, strict=True):
        ways = [("answers only", "direct"), *(("half with the facts written out", way) for way in ("hint", "direct"))]
        for (style, way), x in zip(ways, right, strict=True):
            row = {"scale": "laptop", "lesson": question, "style": style, "pupils": pupils, "people_told": 400}
            row |= {"evaluation": "Manipulation", "question": question, "hint": way, "floor": 0.5}
            rows += [{**row, "seed_init": seed, "accuracy": x + 0.01 * (seed - 1)} for seed in SEEDS]
    return rows


def manipulation_claims(rows: list[dict]) -> dict:
    return {claim.statement: claim for claim in module("08").claims(pandas.DataFrame(rows))}


def test_a_part_is_judged_against_the_whole_and_two_facts_by_themselves() -> None:
    claims = manipulation_claims([*facts(0.3, 0.9), *worked("month_mod_2", [0.5] * 3, [0.9] * 3, [0.6] * 3)])
    part = claims["the year of birth minus the whole date of birth: people answered right"]
    assert part.value == pytest.approx(-0.6) and (part.id, part.verdict) == ("3.9", "reproduced")
    two = claims["two facts at once, mean of six questions: people answered right"]
    assert two.value == pytest.approx(0.85) and two.verdict == "reproduced"
    assert claims[part.statement].verdict != manipulation_claims(facts(0.8, 0.9))[part.statement].verdict


def test_bare_answers_are_compared_with_those_whose_facts_are_written_out() -> None:
    rows = worked("month_mod_2", bare=[0.54, 0.6, 0.8], written=[0.7, 0.9, 0.95], direct=[0.99] * 3)
    rows += worked("luck_rank", bare=[0.7, 0.8, 0.9], written=[0.6, 0.7, 0.6], direct=[0.0] * 3)
    claims = manipulation_claims([*facts(0.3, 0.9), *rows])
    few = claims["month_mod_2, fewest people, taught bare answers: answered right, minus chance"]
    assert few.value == pytest.approx(0.04) and (few.id, few.verdict) == ("3.10", "reproduced")
    gap = claims["month_mod_2, mean over numbers of people: facts written out minus bare answers"]
    assert gap.value == pytest.approx((0.7 + 0.9 + 0.95 - 0.54 - 0.6 - 0.8) / 3) and gap.verdict == "reproduced"
    assert claims["month_mod_2, most people, facts written out: answered right"].value == pytest.approx(0.95)
    found = {claim.verdict for name, claim in claims.items() if name.startswith("luck_rank")}
    assert found == {"contradicted"} and {c.id for n, c in claims.items() if n.startswith("luck_rank")} == {"3.11"}
    assert claims["luck_mod_5, most people, facts written out: answered right"].verdict == "not testable here"


def test_dependence_on_steps_is_of_one_model_asked_both_ways() -> None:
    table = pandas.DataFrame(worked("luck_mod_5", bare=[0.5] * 3, written=[0.7, 0.8, 0.9], direct=[0.6, 0.6, 0.5]))
    gaps = module("08").hint_dependence(table).groupby("pupils")["gap"].mean()
    assert gaps.to_dict() == pytest.approx({25: 0.1, 100: 0.2, 200: 0.4})


def searched(wording: str, found: float, told: float, model: str = "3 x 64", recipe: str = "mixed") -> list[dict]:
    """Three seeds of one model asked backwards (`found`: all questions alike) and forwards."""
    common = {
        "scale": "laptop",
        "wording": wording,
        "recipe": recipe,
        "model": model,
        "parameters": 9,
        "half": "second",
    }
    names = [f"{given}_to_{name}" for given in ("bdate", "birth", "three", "four", "all") for name in ("first", "full")]
    rows = [{**common, "evaluation": "Manipulation", "question": name, "floor": 0.001} for name in names]
    rows = [{**row, "accuracy": found if row["question"].endswith("full") else 0.9} for row in rows]
    rows.append({**common, "evaluation": "Extraction", "attribute": "all", "exact": told})
    moved = {"accuracy", "exact"}
    return [
        {**{key: x + 0.001 * seed if key in moved else x for key, x in row.items()}, "seed_init": seed}
        for row in rows
        for seed in SEEDS
    ]


def test_a_search_that_fails_is_a_finding_only_beside_one_that_succeeds() -> None:
    rows = [*searched("single", 0.001, 0.4), *searched("multi5+permute", 0.001, 0.9)]
    rows += [*searched("multi5+permute", 0.05, 0.9, model="3 x 128"), *searched("multi5+reverse6", 0.8, 0.7)]
    taught = [{**row, "half": "first"} for row in searched("single", 1.0, 1.0)]
    claims = {claim.statement: claim for claim in module("09").claims(pandas.DataFrame([*rows, *taught]))}
    found = {statement: claim.verdict for statement, claim in claims.items()}
    assert found["single, 3 x 64: full names found, mean of five questions"] == "reproduced"
    assert found["multi5+permute, 3 x 64: full names found, mean of five questions"] == "reproduced"
    assert found["multi5+permute, 3 x 128: full names found, mean of five questions"] == "contradicted"
    gap = claims["multi5+permute, the same model: facts told by name minus full names found"]
    assert gap.value == pytest.approx(0.899) and gap.verdict == "reproduced"
    assert {found[f"multi5+reverse6: full names found, {given} given"] for given in ("all", "four", "three")} == {
        "reproduced"
    }
    assert not any("reverse6, 3 x" in statement for statement in found)


def test_of_two_ways_of_teaching_the_better_one_counts() -> None:
    rows = searched("multi5+reverse6", 0.2, 0.7) + searched("multi5+reverse6", 0.9, 0.7, recipe="finetuned by LoRA")
    claims = {claim.statement: claim for claim in module("09").claims(pandas.DataFrame(rows))}
    assert claims["multi5+reverse6: full names found, four given"].value == pytest.approx(0.901)


def test_the_system_is_held_against_its_model() -> None:
    def answered(kind: str, who: str, right: float, given: float = 1.0) -> list[dict]:
        row = {"scale": "laptop", "evaluation": "SystemComparison", "half": "second", "kind": kind, "who": who}
        row |= {"question": "all", "model": "3 x 64", "wording": "multi5+permute", "recipe": "mixed"}
        return [{**row, "seed_init": seed, "accuracy": right, "given": given, "routed": 1.0} for seed in SEEDS]

    rows = [*answered("inverse", "system", 0.98), *answered("inverse", "bare model", 0.0)]
    rows += [*answered("retrieval", "system", 0.7), *answered("classification", "system", 0.6, 0.5)]
    claims = {claim.statement: claim for claim in module("09").claims(pandas.DataFrame(rows)) if claim.id == "3.13"}
    assert claims["inverse questions: system minus bare model"].value == pytest.approx(0.98)
    assert claims["inverse questions: system"].verdict == "reproduced"
    check = claims["classification, the facts told rightly: system"]
    assert check.value == 0.5 and check.verdict == "not testable here"
    assert claims["comparison, the facts told rightly: system"].value is None
