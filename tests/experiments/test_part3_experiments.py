"""The experiments on people judge planted tables rightly, and draw what there is at every scale."""

import pandas
import pytest
from planted_tables import module, parts, verdicts

from experiments.harness.experiment import select
from experiments.harness.papers import part3_people, part3_prompts
from experiments.harness.run import SCALES, evaluation_settings
from probing.knowledge.extraction import Extraction
from probing.knowledge.manipulation import Manipulation
from probing.knowledge.prompt_formats import BIOGRAPHY, FAR, FORMATS, NEAR, QUESTION
from probing.routed_qa.evaluation import SystemComparison
from synth.bio.value_lists import ATTRIBUTES
from synth.identity import identity_name

SEEDS = (0, 1, 2)
MIXED, LORA, FULL = "mixed", "finetuned by LoRA", "finetuned in full"


def answered(recipe: str, wording: str, right: float, half: str = "second", **other) -> list[dict]:
    """Three seeds of one recipe, `right` a little apart, in the row of all facts and in that of each."""
    common = {"scale": "paper", "wording": wording, "recipe": recipe, "persons": 200}
    common |= {"evaluation": "Extraction", "half": half, **other}
    values = {seed: min(max(right + 0.01 * (seed - 1), 0.0), 1.0) for seed in SEEDS}
    return [
        {**common, "attribute": name, "seed_init": seed, "exact": values[seed]}
        for seed in SEEDS
        for name in ("all", *ATTRIBUTES)
    ]


def held(wording: str, share: float) -> list[dict]:
    common = {"scale": "paper", "wording": wording, "recipe": "read only", "evaluation": "Capacity"}
    return [{**common, "seed_init": seed, "value_bits": 100 * share - seed, "value_bits_max": 100.0} for seed in SEEDS]


def extraction_table(
    stored=1.0, trained=0.98, once=0.12, often=0.9, mixed_once=0.3, mixed_often=0.9
) -> pandas.DataFrame:
    """Experiment 06 as it might come out at paper scale."""
    rows = [
        *held("single", stored),
        *answered(MIXED, "single", mixed_once),
        *answered(MIXED, "multi5+permute", mixed_often),
    ]
    rows += [*answered(LORA, "single", once), *answered(FULL, "single", once - 0.07)]
    rows += [*answered(LORA, "multi5+permute", often), *answered(FULL, "multi5+permute", often / 2)]
    for wording in ("single", "multi5+permute"):
        for recipe in (LORA, FULL, MIXED):
            rows += answered(recipe, wording, trained, half="first")
    return pandas.DataFrame(rows)


def primary(number: str, table: pandas.DataFrame) -> dict:
    """The primary line of every claim."""
    made = module(number).claims(table)
    found = {claim.id: claim for claim in made if claim.primary}
    assert sum(claim.primary for claim in made) == len(found)  # one for each claim
    return found


def lines(number: str, rows) -> dict:
    return {claim.statement: claim for claim in module(number).claims(pandas.DataFrame(rows))}


def test_the_better_finetuning_counts_and_the_paper_stands_beside_it() -> None:
    found = primary("06", extraction_table())
    once, often, mixed = (found[id] for id in ("3.1", "3.2", "3.3"))
    assert once.value == pytest.approx(0.12) and once.verdict == "reproduced" and once.paper == pytest.approx(0.097)
    assert often.value == pytest.approx(0.9) and often.verdict == "reproduced" and often.paper == pytest.approx(0.966)
    assert mixed.value == pytest.approx(0.3) and mixed.verdict == "contradicted" and mixed.paper == pytest.approx(0.866)
    gap = lines("06", extraction_table())[
        "five wordings, shuffled, minus one wording, finetuned: held-out people answered right"
    ]
    assert gap.value == pytest.approx(0.78) and gap.paper == pytest.approx(0.869)


def test_the_interval_of_shares_stays_within_them() -> None:
    once = primary("06", extraction_table(once=0.01))["3.1"]
    assert 0 <= once.low < once.value < once.high < 0.1


@pytest.mark.parametrize(
    ("changed", "gate"),
    [
        ({"stored": 0.5}, "bits stored of one wording"),
        ({"trained": 0.6}, "answers about the people of the training questions"),
        ({"often": 0.3}, "the same from five shuffled wordings"),
    ],
)
def test_a_failure_to_extract_is_no_finding_where_a_condition_fails(changed: dict, gate: str) -> None:
    once = primary("06", extraction_table(**changed))["3.1"]
    assert once.verdict == "not testable" and once.gate.startswith(gate)


def test_a_finetuning_that_did_not_learn_its_own_people_does_not_count() -> None:
    table = extraction_table()
    mine = (table["recipe"] == LORA) & (table["wording"] == "single") & (table["half"] == "first")
    table.loc[mine, "exact"] = 0.4
    once = primary("06", table)["3.1"]
    assert once.value == pytest.approx(0.05) and once.verdict == "reproduced"  # the other finetuning


def test_what_was_not_run_is_said_to_be_so() -> None:
    table = extraction_table()
    found = primary("06", table[table["wording"] == "single"])
    assert (
        found["3.2"].verdict == found["3.1"].verdict == "not run"
    )  # no wording from which anything could be extracted


def test_people_of_the_training_questions_do_not_count() -> None:
    rows = extraction_table(mixed_once=0.1)
    assert primary("06", rows)["3.3"].value == pytest.approx(0.1)


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
    numbers = {"exact": 0.3 + 0.02 * (i % 9), "chance": 0.02, "persons": 200}
    numbers |= {"value_bits": 90.0 + i % 3, "value_bits_max": 100.0}
    if isinstance(evaluation, Manipulation):
        asked = [(question.question, way) for question, way in evaluation._task_variants(task)]
        numbers = {"accuracy": 0.2 + 0.02 * (i % 9), "floor": 0.1, "n": 200}
        hint = {"hint_accuracy": 0.9, "follows": 0.9}
        return [{"question": q, "hint": way, **numbers, **(hint if way == "hint" else {})} for q, way in asked]
    if isinstance(evaluation, SystemComparison):
        kinds = ("retrieval", "classification", "comparison", "inverse")
        shares = {"accuracy": 0.9 + 0.01 * (i % 3), "given": 1.0, "routed": 1.0, "question": "all"}
        shares |= {"n": 6 * (evaluation.people or 0)}
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
    made = experiment.claims(table)
    assert "not run" not in {claim.verdict for claim in made if claim.primary}
    if scale == "smoke":
        assert set(verdicts(made).values()) <= {"not testable", "not run"}


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


# ---- what is read and what opens it ----------------------------------------------------------------------------
def three_seeds(evaluation: str, **values) -> list[dict]:
    """A row for each of three seeds; the values lie a little apart."""
    common = {"scale": "paper", "evaluation": evaluation, "persons": 200, "n": 200, "chance": 0.03, "majority": 0.1}
    common |= {"attribute": "all", "half": "second", "parameters": 9000, "people_told": 400, **values}
    moved = {"accuracy", "exact", "likeliest"} & values.keys()
    return [
        {**common, "seed_init": seed, **{name: abs(values[name] - 0.01 * (2 - seed)) for name in moved}}
        for seed in SEEDS
    ]


def probed(at_name: dict[str, float], before_value: float = 1.0) -> list[dict]:
    rows = []
    for case, share in at_name.items():
        for k, attribute in enumerate(ATTRIBUTES):
            what = {"study": "probes", "case": case, "attribute": attribute}
            rows += three_seeds("QProbe", **what, position=0, accuracy=share) if k else []
            for position in range(6):
                rows += three_seeds(
                    "PProbe", **what, position=position, accuracy=before_value if position == k else share
                )
    return rows


def deleted(margins: dict[str, float]) -> list[dict]:
    common = {"study": "mixed", "case": "GPT", "shuffled": 0.02, "exact": 0.5}
    return [
        row for name, x in margins.items() for row in three_seeds("LayerDeletion", **common, without=name, likeliest=x)
    ]


def asked_in_formats(trained: float, near: float, far: float, ill_posed: float = 0.0) -> list[dict]:
    """Every format of the evaluation, by kind."""
    shares = {BIOGRAPHY: trained, QUESTION: trained, NEAR: near, FAR: far}
    rows = []
    for each in FORMATS:
        share = ill_posed if each.name in part3_prompts.ill_posed_formats("paper") else shares[each.kind]
        common = {"study": "mixed", "case": "GPT", "format": each.name, "kind": each.kind}
        rows += three_seeds("PromptFormats", **common, exact=share)
    return rows


def halves(study: str, **shares: tuple[float, float]) -> list[dict]:
    """By case the shares of held-out people and of people of the training questions."""
    return [
        row
        for case, both in shares.items()
        for half, share in zip(("second", "first"), both, strict=True)
        for row in three_seeds("Extraction", study=study, case=case.replace("_", " "), half=half, exact=share)
    ]


def probing_table(blocks: int = 12, encoder_trained: float = 0.99, trained: float = 0.98) -> pandas.DataFrame:
    rows = probed({"single": 0.2, "multi5+permute": 0.99, "untrained": 0.2})
    rows += halves("celebrities", with_celebrities=(0.8, 0.99), without=(0.1, 0.99))
    rows += halves("mixed", GPT=(0.95, 0.99), encoder=(0.2, encoder_trained))
    rows += deleted({"nothing": 0.99, "block.0": 0.1, **{f"block.{k}": 0.6 for k in range(1, blocks)}})
    return pandas.DataFrame([*rows, *asked_in_formats(trained, 0.7, 0.4)])


def test_what_probes_and_questions_find_is_judged_by_the_primary_lines() -> None:
    found = primary("07", probing_table())
    assert {id: claim.verdict for id, claim in found.items()} == dict.fromkeys(
        ("3.4", "3.5", "3.6", "3.7", "3.8"), "reproduced"
    )
    values = {id: pytest.approx(claim.value) for id, claim in found.items()}
    tau = found["3.8"].value
    assert values == {"3.4": 0.79, "3.5": 0.7, "3.6": 0.75, "3.7": 0.07, "3.8": tau} and 0.9 < tau <= 1.0
    assert found["3.4"].paper == pytest.approx(0.8968) and found["3.5"].paper == pytest.approx(0.824)
    before = lines("07", probing_table())[
        "P-probe, first words, one wording, mean of all facts but the first: "
        + "read just before the value minus off the name"
    ]
    assert before.value == pytest.approx(0.8) and before.paper == pytest.approx(0.8662)


def test_an_encoder_that_learned_nothing_and_a_shallow_model_decide_nothing() -> None:
    found = primary("07", probing_table(blocks=3, encoder_trained=0.03))
    assert found["3.6"].gate == "encoder: people of the training questions 0.02, needs at least 0.9"
    assert found["3.7"].gate == "blocks of the model 3, needs at least 8"
    assert found["3.6"].verdict == found["3.7"].verdict == "not testable"
    laptop = primary("07", probing_table().assign(scale="laptop"))
    assert laptop["3.4"].verdict == laptop["3.5"].verdict == "not testable" and "surname" in laptop["3.5"].gate


def test_formats_that_cannot_be_answered_count_for_nothing() -> None:
    table = pandas.DataFrame(asked_in_formats(0.98, 0.98, 0.98, ill_posed=0.0))
    assert [claim.value for claim in module("07").claims(table) if claim.id == "3.8"] == pytest.approx([0.0] * 3)
    far = set(part3_prompts.format_rows(table).query("reason.notna()")["format"])
    assert far == {*part3_prompts.ILL_POSED, "surname alone"}  # a hundred people share each surname
    assert "surname alone" not in part3_prompts.ill_posed_formats("laptop")
    assert primary("07", probing_table(trained=0.8))["3.8"].gate.startswith("formats as trained 0.79")


def format_lines(**shares: float) -> list:
    """The lines of claim 3.8, the primary one first, for shares of right answers by kind."""
    made = module("07").claims(pandas.DataFrame(asked_in_formats(**shares)))
    return [claim for claim in made if claim.id == "3.8"]


def test_mangled_names_alone_are_no_gradient() -> None:
    gradient, near, mangled = format_lines(trained=0.98, near=0.98, far=0.2)
    assert gradient.value == pytest.approx(0.0) and gradient.verdict != "reproduced"
    assert near.value == pytest.approx(0.0)
    assert mangled.value == pytest.approx(0.78) and mangled.verdict == "reproduced"
    against = format_lines(trained=0.95, near=0.99, far=0.2)[0]
    assert against.value < -0.9 and against.verdict == "contradicted"


def test_formats_that_are_left_out_are_named() -> None:
    note = format_lines(trained=0.98, near=0.9, far=0.4)[0].note
    formats = [each for each in FORMATS if each.name not in part3_prompts.ill_posed_formats("paper")]
    far = ", ".join(each.name for each in formats if each.kind == FAR)
    assert f"over {sum(each.kind != FAR for each in formats)} formats" in note and f"far: {far}" in note
    assert all(name in note for name in part3_prompts.ILL_POSED)


def test_agreement_is_that_of_all_pairs() -> None:
    rows = pandas.DataFrame({"closeness": [2, 2, 1, 1], "exact": [0.9, 0.7, 0.8, 0.6], "seed_init": 0})
    tau = part3_prompts.closeness_correlation(rows)
    assert tau[0] == pytest.approx((3 - 1) / (4 * 6) ** 0.5)  # of six pairs, four differ in closeness: 3 agree, 1 not
    assert part3_prompts.closeness_correlation(rows.assign(exact=0.5))[0] == 0
    assert part3_prompts.closeness_correlation(rows.assign(closeness=2)).isna().all()


def test_every_part_of_a_table_of_probes_is_drawn() -> None:
    for part in parts(probing_table().sample(frac=1, random_state=0)):
        module("07").figure(part)
    assert set(verdicts(module("07").claims(probing_table().assign(scale="smoke"))).values()) == {"not testable"}


# ---- what can be done with facts -------------------------------------------------------------------------------
def facts(year: float, whole: float) -> list[dict]:
    """Retrieval by three seeds."""
    common = {"scale": "paper", "lesson": "retrieval", "style": "answers only", "pupils": 200, "people_told": 400}
    common |= {"hint": "none", "floor": 0.05, "n": 200}
    asked = {"birth_year": year, "university+major": 0.9, "major+university": 0.8}
    rows = [{**common, "evaluation": "Manipulation", "question": name, "accuracy": x} for name, x in asked.items()]
    rows.append({**common, "evaluation": "Extraction", "attribute": "birth date", "exact": whole})
    rows.append({**common, "evaluation": "Extraction", "attribute": "all", "exact": 0.0})
    return [{**row, "seed_init": seed} for row in rows for seed in SEEDS]


def worked(question: str, bare, written, direct, hint: float = 0.95) -> list[dict]:
    """Answers of three seeds, by numbers of people in training; hint: share of facts written rightly."""
    rows = []
    for pupils, *right in zip((25, 100, 200), bare, written, direct, strict=True):
        ways = [("answers only", "direct"), *(("half with the facts written out", way) for way in ("hint", "direct"))]
        for (style, way), x in zip(ways, right, strict=True):
            row = {"scale": "paper", "lesson": question, "style": style, "pupils": pupils, "people_told": 400, "n": 200}
            row |= {"evaluation": "Manipulation", "question": question, "hint": way, "floor": 0.5}
            row |= {"hint_accuracy": hint, "follows": 0.9} if way == "hint" else {}
            rows += [{**row, "seed_init": seed, "accuracy": x + 0.01 * (seed - 1)} for seed in SEEDS]
    return rows


def test_a_part_is_judged_against_the_whole_where_the_whole_is_known() -> None:
    other = worked("month_mod_2", [0.5] * 3, [0.9] * 3, [0.6] * 3)
    part = primary("08", pandas.DataFrame([*facts(0.3, 0.95), *other]))["3.9"]
    assert part.value == pytest.approx(-0.65) and part.verdict == "reproduced" and part.paper == pytest.approx(-0.796)
    assert primary("08", pandas.DataFrame([*facts(0.9, 0.95), *other]))["3.9"].verdict == "contradicted"
    unknown = primary("08", pandas.DataFrame([*facts(0.1, 0.8), *other]))["3.9"]
    assert unknown.verdict == "not testable" and unknown.gate == "the whole date of birth 0.8, needs at least 0.9"
    two = lines("08", [*facts(0.3, 0.95), *other])[
        "two facts at once, mean of six questions: held-out people answered right"
    ]
    assert two.value == pytest.approx(0.85) and two.verdict == "reproduced"


PARITY = worked("month_mod_2", bare=[0.54, 0.6, 0.8], written=[0.7, 0.9, 0.95], direct=[0.99] * 3)


def test_bare_answers_are_compared_with_those_whose_facts_are_written_out() -> None:
    gain = primary("08", pandas.DataFrame([*facts(0.3, 0.95), *PARITY]))["3.10"]
    assert gain.value == pytest.approx((0.7 + 0.9 + 0.95 - 0.54 - 0.6 - 0.8) / 3) and gain.verdict == "reproduced"
    assert gain.paper == pytest.approx(0.1442)
    claims = lines("08", [*facts(0.3, 0.95), *PARITY])
    few = claims["parity of the birth month, fewest people, bare answers: answered right minus chance"]
    assert few.value == pytest.approx(0.04) and (few.id, few.verdict) == ("3.10", "reproduced")
    most = claims["parity of the birth month, most people, facts written out: answered right"]
    assert most.value == pytest.approx(0.95) and most.verdict == "reproduced" and most.note.endswith("0.9")


def test_hints_that_were_never_written_rightly_contradict_nothing() -> None:
    ranked = {"bare": [0.7, 0.8, 0.9], "written": [0.6, 0.7, 0.6], "direct": [0.5] * 3}
    known = primary("08", pandas.DataFrame([*facts(0.3, 0.95), *worked("luck_rank", **ranked)]))["3.11"]
    assert known.verdict == "contradicted"
    unknown = primary("08", pandas.DataFrame([*facts(0.3, 0.95), *worked("luck_rank", **ranked, hint=0.1)]))["3.11"]
    assert unknown.verdict == "not testable" and unknown.gate == "facts written out rightly 0.1, needs at least 0.8"


def test_the_papers_answers_are_compared_with_the_papers_baseline() -> None:
    ranked = worked("luck_rank", [0.4, 0.5, 0.5], [0.9] * 3, [0.5] * 3)
    guessed = [{**row, "floor": 0.3} for row in ranked]  # our own people are luckier or not
    few = "whose major is luckier, fewest people, bare answers: answered right minus chance"
    found = lines("08", [*facts(0.3, 0.95), *guessed])[few]
    assert found.value == pytest.approx(0.1) and found.paper == pytest.approx(0.525 - 0.505)


def test_answers_that_answer_nothing_are_no_base_for_a_gain() -> None:
    rows = worked("month_mod_2", bare=[0.2, 0.3, 0.3], written=[0.9] * 3, direct=[0.6] * 3)
    gain = primary("08", pandas.DataFrame([*facts(0.3, 0.95), *rows]))["3.10"]
    assert gain.verdict == "not testable" and gain.gate.startswith("bare answers minus chance -0.233")


def test_a_question_that_was_not_trained_is_not_run() -> None:
    assert primary("08", pandas.DataFrame([*facts(0.3, 0.95), *PARITY]))["3.11"].verdict == "not run"


# ---- from facts to names ---------------------------------------------------------------------------------------
def searched(wording: str, found: float, told: float, model: str = "3 x 64", recipe: str = "mixed") -> list[dict]:
    """Three seeds of one model asked for names (`found`: all questions alike) and for facts (`told`)."""
    common = {"scale": "laptop", "wording": wording, "recipe": recipe, "model": model, "parameters": 9}
    common |= {"half": "second", "n": 200, "persons": 200}
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


def trained_half(wording: str, found: float, **other) -> list[dict]:
    return [{**row, "half": "first"} for row in searched(wording, found, 0.9, **other)]


def search_rows(
    larger: float = 0.001, trained: float = 0.99, larger_trained: float = 0.99, reversed_too: float = 0.8
) -> list[dict]:
    """Two corpora that begin with the name, a larger model, and a corpus that ends with it."""
    rows = [*searched("single", 0.001, 0.4), *searched("multi5+permute", 0.001, 0.9)]
    rows += [*searched("multi5+permute", larger, 0.9, model="3 x 128"), *trained_half("single", trained)]
    rows += trained_half("multi5+permute", trained)
    rows += trained_half("multi5+permute", larger_trained, model="3 x 128")
    return [*rows, *searched("multi5+reverse6", reversed_too, 0.7), *trained_half("multi5+reverse6", 0.99)]


def test_the_highest_share_of_names_found_decides() -> None:
    found = primary("09", pandas.DataFrame(search_rows()))["3.12"]
    assert found.value == pytest.approx(0.002) and found.verdict == "reproduced" and found.paper == 0
    larger = primary("09", pandas.DataFrame(search_rows(larger=0.05)))["3.12"]
    assert larger.value == pytest.approx(0.051) and larger.verdict == "contradicted"


def test_a_search_that_fails_is_a_finding_only_beside_one_that_succeeds() -> None:
    unlearned = primary("09", pandas.DataFrame(search_rows(trained=0.5, larger_trained=0.5)))["3.12"]
    assert unlearned.verdict == "not testable" and unlearned.gate.startswith("people of the training questions found")
    never = primary("09", pandas.DataFrame(search_rows(reversed_too=0.1)))["3.12"]
    assert never.verdict == "not testable" and never.gate.startswith("found where facts came first")
    rows = [row for row in search_rows() if row["wording"] != "multi5+reverse6"]
    assert primary("09", pandas.DataFrame(rows))["3.12"].verdict == "not run"


def test_models_that_did_not_learn_the_questions_do_not_count() -> None:
    small = [
        *searched("multi5+permute", 0.5, 0.9, model="3 x 32"),
        *trained_half("multi5+permute", 0.12, model="3 x 32"),
    ]
    found = primary("09", pandas.DataFrame([*search_rows(), *small]))["3.12"]
    assert found.value == pytest.approx(0.002) and found.verdict == "reproduced"
    learned, left_out = found.note.split("left out: ")
    assert "3 x 128 (five wordings, shuffled; mixed) 0.991" in learned and "3 x 32" not in learned
    assert left_out == "3 x 32 (five wordings, shuffled; mixed) 0.121"
    one_size = primary("09", pandas.DataFrame(search_rows(larger_trained=0.5)))["3.12"]
    assert one_size.gate == "model sizes that learned the questions 1, needs at least 2"


def test_a_line_on_one_model_needs_the_people_of_its_training_questions() -> None:
    forward = "five wordings, shuffled, the same model: facts answered from the name minus full names found from facts"
    found = lines("09", search_rows(trained=0.6))[forward]
    assert found.verdict == "not testable"
    assert found.gate == "people of the training questions found, all facts given 0.601, needs at least 0.9"


def test_reversed_corpora_and_forward_questions_have_lines_of_their_own() -> None:
    claims = lines("09", search_rows())
    last = claims["biographies with the name last: full names found, three facts given"]
    assert last.value == pytest.approx(0.801) and last.verdict == "reproduced" and last.paper == pytest.approx(0.929)
    name = "five wordings, shuffled, the same model: facts answered from the name minus full names found from facts"
    assert claims[name].value == pytest.approx(0.899) and claims[name].verdict == "reproduced"


def test_of_two_recipes_the_better_one_counts() -> None:
    rows = searched("multi5+reverse6", 0.2, 0.7) + searched("multi5+reverse6", 0.9, 0.7, recipe=LORA)
    rows += trained_half("multi5+reverse6", 0.99, recipe=LORA)
    last = lines("09", rows)["biographies with the name last: full names found, three facts given"]
    assert last.value == pytest.approx(0.901) and last.paper == pytest.approx(0.77)


def system_rows(kind: str, who: str, right: float) -> list[dict]:
    row = {"scale": "laptop", "evaluation": "SystemComparison", "half": "second", "kind": kind, "who": who}
    row |= {
        "question": "all",
        "model": "3 x 64",
        "wording": "multi5+permute",
        "recipe": "mixed",
        "people": 100,
        "n": 600,
    }
    return [{**row, "seed_init": seed, "accuracy": right, "routed": 1.0} for seed in SEEDS]


def system_table(told: float) -> pandas.DataFrame:
    rows = [row for kind in ("retrieval", "classification", "inverse") for row in system_rows(kind, "system", 0.98)]
    rows += [*system_rows("comparison", "system", 0.7), *system_rows("inverse", "bare model", 0.0)]
    return pandas.DataFrame([*rows, *system_rows("retrieval", "bare model", told)])


def test_the_system_must_answer_the_lowest_kind_and_its_model_must_tell_the_facts() -> None:
    lowest = primary("09", system_table(0.95))["3.13"]
    assert lowest.value == pytest.approx(0.7) and lowest.verdict == "contradicted"
    assert primary("09", system_table(0.6))["3.13"].gate == "facts that the model tells 0.6, needs at least 0.9"


def test_lookups_and_known_wordings_get_no_verdict() -> None:
    found = lines("09", system_table(0.95))
    gain = found["inverse questions: routed system minus its model alone"]
    assert gain.value == pytest.approx(0.98) and gain.verdict == "not testable" and "not a finding" in gain.gate
    routed = found["questions in known wordings sent to the right part of the system, the lowest kind"]
    assert routed.verdict == "not testable" and "not a finding" in routed.gate
    assert 0.5 < routed.low < 0.9  # six wordings a kind and three seeds, not six hundred questions
    gates = [claim.gate for claim in module("09").claims(system_table(0.6)) if claim.id == "3.13"]
    assert len(gates) == 3 and all("facts that the model tells 0.6, needs at least 0.9" in gate for gate in gates)
