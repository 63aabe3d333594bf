"""The questions of Part 3.2: answers worked out by hand, chance as in the paper, and models of planted knowledge."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from experiments.harness.run import RESERVED_COLUMNS
from lm.config import ModelConfig, TrainConfig
from lm.model import build
from lm.training.loop import train
from probing.knowledge.manipulation import Manipulation
from probing.scoring.metrics import proportion_interval
from synth import Corpus, UserError
from synth.bio.manipulation import GROUPS, INVERSE, QUESTIONS, guess_rates, luckiness
from synth.bio.value_lists import MONTHS
from synth.identity import digest
from synth.task import Block, Example
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bios import BioS

TINY = BioManipulate(people=10, first=5, middle=4, last=6, years=3, months=12, days=4, cities=4, universities=5,
                     majors=6, employers=9, templates=2)  # fmt: skip
REASONED = [name for group in ("classification", "ranking", "subtraction") for name in GROUPS[group]]
MODEL = ModelConfig(1, 2, 16)


def person(task: BioS, world: object, i: int) -> dict[str, str]:
    """The facts of a person as text, from what a biography of theirs says of each."""
    said = [" ".join(task.lexicon.vocab.decode(task.value_ids(world, i, a))) for a in range(6)]
    name = [task.lexicon.vocab.decode([ids[k]])[0] for ids, k in zip(task.lexicon.names, world.names[i], strict=True)]
    keys = ("date", "city", "university", "major", "employer", "work")
    month, day, _, year = said[0].split()
    return {**dict(zip(keys, said, strict=True)), "month": month, "day": day, "year": year,
            "first": name[0], "name": " ".join(name)}  # fmt: skip


def facts_needed(question: str) -> str:
    return {"luck": "major"}.get(question.split("_")[0], question.split("_")[0])


def number(task: BioS, kind: str, who: dict[str, str]) -> int:
    if kind == "month":
        return MONTHS.index(who["month"]) + 1
    return (
        int(who["day"]) if kind == "day" else int(luckiness(task.majors)[task.value_lists.majors.index(who["major"])])
    )


def worked_out(task: BioS, question: str, a: dict[str, str], b: dict[str, str]) -> str:
    kind, rule, *rest = question.split("_")
    x, y = number(task, kind, a), number(task, kind, b)
    if rule == "rank":
        return "Yes" if x > y else "No"
    if rule == "minus":
        return str(x - y)
    if question == "month_mod_2":
        return "Yes" if x in (2, 4, 6, 8, 10, 12) else "No"
    return str(x) if question == "month_mod_12" else str(x % int(rest[0]))


def answer(task: BioS, question: str, a: dict[str, str], b: dict[str, str], hinted: bool) -> str:
    """The whole completion, in words."""
    if question in INVERSE:
        return a["first" if question.endswith("first") else "name"] + " ."
    if question in GROUPS["partial"]:
        return a[question.removeprefix("birth_")] + " ."
    if question in GROUPS["dual"]:
        said = {"birth_city": "city", "employer_city": "work"}
        return " ; ".join(a[said.get(part, part)] for part in question.split("+")) + " ."
    fact, result = facts_needed(question), worked_out(task, question, a, b)
    shown = f"{a[fact]} ; {b[fact]}" if question in GROUPS["ranking"] + GROUPS["subtraction"] else a[fact]
    return f"{shown} . {result} ." if hinted else f"{result} ."


def given(question: str, a: dict[str, str], b: dict[str, str]) -> list[str]:
    """What the prompt must say, in this order."""
    if question not in INVERSE:
        return [a["name"], *([b["name"]] if question in GROUPS["ranking"] + GROUPS["subtraction"] else [])]
    born, three = [a["date"], a["city"]], [a["major"], a["university"], a["employer"]]
    return {"bdate": born[:1], "birth": born, "three": three, "four": [born[1], *three],
            "all": [*born, *three, a["work"]]}[question.split("_")[0]]  # fmt: skip


def examples(task: BioManipulate, seed: int = 3, epochs: int = 2) -> Iterator[tuple[Example, dict, dict]]:
    corpus = Corpus(task, seed)
    block = corpus.documents(0, epochs * (corpus.num_items or 0), labels=True)
    people = [person(task, corpus.world, i) for i in range(task.people)]
    for i in range(len(block)):
        example = block[i]
        yield example, people[example.slices["person"]], people[example.slices["other"]]


@pytest.mark.parametrize("hint", [0.0, 0.5, 1.0])
def test_every_document_agrees_with_plain_python(hint: float) -> None:
    """All thirty questions: the facts of the prompt, the control token, the hint, the answer, the mask, the labels."""
    task, seen = replace(TINY, hint=hint), set()
    for example, a, b in examples(task):
        question, hinted = str(example.slices["question"]), bool(example.slices["hint"])
        words = task.vocab().decode(example.tokens)
        prompt, said = (" ".join(part) for part in (words[: example.prompt_length], words[example.prompt_length :]))
        assert said == answer(task, question, a, b, hinted) + " <eos>"
        rest = prompt
        for fact in given(question, a, b):
            assert f" {fact} " in rest, question
            rest = rest[rest.index(f" {fact} ") + len(fact) :]
        control = ("<hint> " if hinted else "<direct> ") if question in REASONED else ""
        assert prompt.endswith(f"? {control}Answer :") and ("<" in prompt[5:]) == bool(control)
        assert np.array_equal(np.flatnonzero(example.loss_mask), np.arange(example.prompt_length, len(words)))
        inside = example.labels["part"] == 1
        names = [a["name"]] if question in INVERSE else given(question, a, b)
        assert question.endswith("to_first") or " ".join(np.array(words)[inside]) == " ".join(names)
        seen.add((question, hinted))
    ways = {0.0: [False], 0.5: [False, True], 1.0: [True]}[hint]
    assert seen == {(name, way) for name in QUESTIONS for way in (ways if name in REASONED else [False])}


def test_answers_by_hand() -> None:
    """Five people, born in months 12, 12, 1, 7 and 6: every comparison of two of them, ties among them."""
    task = replace(TINY, people=5, question="month_rank", hint=0.0)
    world, months = task.world(0), np.array([12, 12, 1, 7, 6])
    world.values[:, 0] = (months - 1) * task.days
    pairs = np.array([(a, b) for a in range(5) for b in range(5) if a != b]).T
    expected = {
        "month_rank": [0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0],
        "month_minus": [0, 11, 5, 6, 0, 11, 5, 6, -11, -11, -6, -5, -5, -5, 6, 1, -6, -6, 5, -1],
    }
    for question, truth in expected.items():
        number = np.full(20, list(QUESTIONS).index(question))
        block = task.question_writer.write(world.names, world.values, *pairs, number, np.zeros(20, bool))
        said = [task.vocab().decode(block[i].tokens)[-3] for i in range(20)]
        assert said == ([["No", "Yes"][x] for x in truth] if "rank" in question else list(map(str, truth)))
    single = {"month_mod_2": "Yes Yes No No Yes", "month_mod_6": "0 0 1 1 0", "month_mod_12": "12 12 1 7 6"}
    for question, words in single.items():
        number = np.full(5, list(QUESTIONS).index(question))
        block = task.question_writer.write(
            world.names, world.values, np.arange(5), np.arange(5), number, np.zeros(5, bool)
        )
        assert " ".join(task.vocab().decode(block[i].tokens)[-3] for i in range(5)) == words


def test_luckiness_is_fixed_and_all_different() -> None:
    assert sorted(luckiness(100).tolist()) == list(range(100)) and np.array_equal(luckiness(7), luckiness(7))
    assert abs(np.corrcoef(luckiness(100), np.arange(100))[0, 1]) < 0.3, "its place in the list would give it away"


def test_chance_is_the_papers() -> None:
    """Figures 3, 4, 6 and 11, in percent."""
    paper = {
        "birth_day": 3.6, "birth_year": 0.5, "birth_city+employer": 0, "university+major": 0,
        "employer_city+employer": 0.4, "employer+employer_city": 0.4, "month_mod_2": 50.0, "month_mod_6": 16.7,
        "month_mod_12": 8.3, "luck_mod_5": 20, "luck_mod_20": 5, "luck_mod_100": 1, "month_rank": 54.2,
        "day_rank": 51.8, "luck_rank": 50.5, "month_minus": 8.3, "day_minus": 3.6, "luck_minus": 1.0,
        "all_to_first": 0.25, "bdate_to_full": 0.0,
    }  # fmt: skip
    found = {name: 100 * guess_rates(QUESTIONS[name], BioS().value_lists)[0] for name in paper}
    assert found == pytest.approx(paper, abs=0.051)
    assert guess_rates(QUESTIONS["month_rank"], BioS().value_lists)[1] == pytest.approx(1 / 144)
    small = BioManipulate(people=4, majors=6, question="luck_mod_5").floors(None)
    assert small["exact"] == pytest.approx(2 / 6) and small["hint"] == pytest.approx(1 / 6) and small["follows"] == 1


def test_the_share_of_hints_and_fresh_pairs() -> None:
    task = BioManipulate(people=300, question="ranking", hint=0.3)
    corpus = Corpus(task, 0)
    block = corpus.documents(0, 9000)
    assert block.slices["hint"].mean() == pytest.approx(0.3, abs=0.015)
    assert (block.slices["other"] != block.slices["person"]).all() and len(np.unique(block.slices["other"])) == 300
    pairs = np.stack([block.slices["person"], block.slices["other"]], 1)
    assert len(np.unique(pairs, axis=0)) > 8000, "a person meets other people in every exposure"


@pytest.mark.parametrize("question", ["all", "ranking", "inverse"])
def test_taught_people_are_never_in_the_test_half(question: str) -> None:
    def everybody(task: BioManipulate) -> set[int]:
        block = Corpus(task, 0).documents(0, 2000)
        return set(block.slices["person"].tolist()) | set(block.slices["other"].tolist()) - {-1}

    task = replace(TINY, people=11, question=question)
    assert everybody(replace(task, half="first")) == set(range(5))
    assert everybody(replace(task, half="first", taught=2)) == {0, 1}
    assert everybody(replace(task, half="second")) == set(range(5, 11))


def test_a_pretrained_model_has_the_words() -> None:
    bios = BioS(**{f.name: getattr(TINY, f.name) for f in fields(BioS)})
    assert bios.vocab() == TINY.vocab() and bios.reasoning
    plain = replace(bios, reasoning=False)
    assert plain.vocab().size < bios.vocab().size and "<hint>" not in plain.vocab().symbols
    assert "reasoning" not in BioS().key and BioS(reasoning=True).key != BioS().key == replace(BioS()).key


def test_other_spellings_say_the_same() -> None:
    task = replace(TINY, codec="byte", question="luck_minus", hint=1.0)
    block, plain = Corpus(task, 0).documents(0, 40), Corpus(replace(task, codec="word"), 0)
    for i in range(40):
        words = plain.vocab.decode(task.text_codec.decode(block[i].tokens))
        assert "<hint>" in words and words[-1] == "." and words.count("Answer") == 1
        truth = block[i].tokens[block[i].prompt_length :]
        assert set(task.score(None, block[i], truth).values()) == {1.0}


def completion(task: BioManipulate, text: str) -> np.ndarray:
    return np.append(task.vocab().encode(text.split()), task.vocab().eos)


def test_scores_of_a_hint() -> None:
    task = replace(TINY, question="month_minus", hint=1.0)
    world = task.world(0)
    world.values[:, 0] = np.arange(10) % 12 * task.days  # person i was born in month i + 1
    numbers, hinted = np.array([list(QUESTIONS).index("month_minus")]), np.ones(1, bool)
    block = task.question_writer.write(world.names, world.values, np.array([4]), np.array([1]), numbers, hinted)
    block = Block(*(getattr(block, f) for f in ("tokens", "offsets", "loss_mask", "prompt_lengths")),
                  {"question": np.array(["month_minus"]), "hint": np.ones(1, int)})  # fmt: skip

    def scores(text: str) -> tuple[float, ...]:
        found = task.score(world, block[0], completion(task, text))
        return found["exact"], found["hint"], found["follows"]

    assert scores("May ; February . 3 .") == (1, 1, 1)
    assert scores("May ; February . 2 .") == (0, 1, 0)
    assert scores("June ; March . 3 .") == (1, 0, 1), "right by luck"
    assert scores("June ; February . 4 .") == (0, 0, 1)
    assert scores("June ; February . 3 .") == (1, 0, 0)
    assert scores("3 .") == (0, 0, 0) == scores("May . 3") == scores("May ; 7 . 4 .") == scores("Yes Yes")
    assert scores("May ; February . 3 . .") == (0, 1, 0), "nothing may follow the answer"
    assert scores("May ; February . 3 <pad> .") == (0, 1, 0)


def planted(task: BioManipulate, monkeypatch: pytest.MonkeyPatch, say: Callable[[str, str], str]) -> None:
    """Let greedy decoding write say(prompt, truth), of the texts of every prompt and of its true completion."""

    def truths(part: BioManipulate, *args: object) -> Block:
        block = render(part, *args)
        for i in range(len(block)):
            example = block[i]
            texts = [" ".join(vocab.decode(ids)) for ids in np.split(example.tokens, [example.prompt_length])]
            known[texts[0]] = texts[1].removesuffix(" <eos>")
        return block

    def generate(model: object, prompts: list[np.ndarray], *_: object, **__: object) -> list[np.ndarray]:
        texts = [" ".join(vocab.decode(prompt)) for prompt in prompts]
        return [completion(task, say(text, known[text])) for text in texts]

    vocab, known, render = task.vocab(), dict[str, str](), BioManipulate.render_block
    monkeypatch.setattr(BioManipulate, "render_block", truths)
    monkeypatch.setattr("probing.knowledge.qa_scoring.generate", generate)


ASKED = replace(TINY, people=80, half="first")


def rows_of(task: BioManipulate, **settings: object) -> dict[tuple[str, str], dict]:
    rows = Manipulation(**settings).measure(build(MODEL, task.vocab().size, 0), task, 0)
    assert len({(row["question"], row["hint"]) for row in rows}) == len(rows)
    assert not {f.name for f in fields(Manipulation)} & (RESERVED_COLUMNS | rows[0].keys())
    return {(row["question"], row["hint"]): row for row in rows}


def test_who_knows_everything_is_always_right(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(ASKED, monkeypatch, lambda prompt, truth: truth)
    rows = rows_of(ASKED)
    assert {way for _, way in rows} == {"hint", "direct", "none"} and len(rows) == 18 + 2 * 12
    for (question, way), row in rows.items():
        if row["ceiling"] == 1:
            assert row["accuracy"] == row["high"] == 1 and 0.9 < row["low"] < 1
        assert row["accuracy"] <= row["ceiling"] and (row["ceiling"] == 1 or question in INVERSE)  # who share facts
        assert row["n"] == 40 and row["floor"] < 0.7 and row["majority"] < 0.9 and ("follows" in row) == (way == "hint")
        assert way != "hint" or row["hint_accuracy"] == row["follows"] == 1
    assert rows["bdate_to_full", "none"]["accuracy"] <= rows["bdate_to_full", "none"]["ceiling"] < 1


def test_who_always_says_the_same_scores_the_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    task = replace(ASKED, question="ranking", people=2000, first=40, middle=40)
    planted(task, monkeypatch, lambda prompt, truth: "March ; May . No ." if "<hint>" in prompt else "No .")
    for (question, way), row in rows_of(task).items():
        assert row["accuracy"] == row["majority"] == pytest.approx(row["floor"], abs=0.06)
        if question == "month_rank" and way == "hint":
            assert row["hint_accuracy"] == pytest.approx(row["hint_floor"], abs=0.02) and row["follows"] == 1


def test_a_model_of_zeros_knows_nothing() -> None:
    model = build(MODEL, TINY.vocab().size, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for row in Manipulation(people=3).measure(model, TINY, 0):
        assert row["accuracy"] == row["low"] == 0 < row["high"] and row["accuracy"] <= row["floor"]


def test_a_taught_model_reasons_about_whom_it_was_taught_on() -> None:
    task = replace(TINY, question="month_mod_2", half="first")
    model = build(ModelConfig(1, 2, 32), task.vocab().size, 0)
    train(model, task, TrainConfig(steps=400, batch_size=8, seq_len=48, lr=1e-2), 0)
    taught = Manipulation(half="first").measure(model, task, 0)
    assert [row["hint"] for row in taught] == ["hint", "direct"] and all(row["accuracy"] == 1 for row in taught)
    held_out = Manipulation().measure(model, task, 0)
    assert held_out[0]["hint_accuracy"] <= 0.4 and held_out[0]["n"] == 5


def test_only_the_ways_that_were_taught_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(ASKED, monkeypatch, lambda prompt, truth: truth)
    assert set(rows_of(replace(ASKED, question="month_rank", hint=0.0))) == {("month_rank", "direct")}
    assert set(rows_of(replace(ASKED, question="month_rank", hint=1.0))) == {("month_rank", "hint")}
    partial = rows_of(replace(ASKED, question="partial"), hint_modes=("hint",))
    assert set(partial) == {(q, "none") for q in GROUPS["partial"]}
    other = rows_of(replace(ASKED, question="partial"), questions="luck_rank", people=7)
    assert set(other) == {("luck_rank", "hint"), ("luck_rank", "direct")} and other["luck_rank", "hint"]["n"] == 7
    with pytest.raises(UserError, match="give both"):
        rows_of(replace(ASKED, question="month_rank", hint=0.0), hint_modes=("hint",))


def test_the_same_pairs_are_asked_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []
    planted(ASKED, monkeypatch, lambda prompt, truth: prompts.append(prompt) or truth)
    rows_of(replace(ASKED, question="luck_rank"))
    assert [p.replace("<hint>", "<direct>") for p in prompts[:40]] == prompts[40:] and len(prompts) == 80


def test_intervals_of_shares() -> None:
    """Tables of Clopper and Pearson: 0 of 10 is 0 to 0.3085, 5 of 10 is 0.1871 to 0.8129."""
    assert proportion_interval(0, 10) == pytest.approx((0, 0.3085), abs=1e-4)
    assert proportion_interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert proportion_interval(10, 10)[1] == 1 and np.isnan(proportion_interval(0, 0)).all()


def test_golden() -> None:
    assert digest(Corpus(TINY, 3).documents(0, 300).tokens.tolist(), 8) == "0e909ea847d83789"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"question": "age"}, "unknown; choose one of partial, dual"),
        ({"hint": 1.5}, "give 0 to 1"),
        ({"taught": 6, "half": "first"}, "must be 0 \\(all\\) to 5"),
        ({"taught": 1, "question": "month_rank"}, "takes two people"),
        ({"reasoning": False}, "without the words"),
    ],
)
def test_bad_questions(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        replace(TINY, **values)
    assert "\n" not in str(caught.value)


def test_bad_evaluations() -> None:
    model, bios = build(MODEL, 50, 0), BioS(people=40)
    with pytest.raises(UserError, match="reasoning= of the biographies"):
        Manipulation().measure(model, TINY, 0)
    with pytest.raises(UserError, match="bioS teaches no question"):
        Manipulation().measure(model, bios, 0)
    with pytest.raises(UserError, match="pretrain on bioS with questions=4 and reasoning=True"):
        Manipulation(questions="all").measure(model, bios, 0)
    for settings in ({"hint_modes": ("maybe",)}, {"people": 0}, {"questions": "age"}):
        with pytest.raises(UserError):
            Manipulation(**settings)
    with pytest.raises(UserError, match="judged by its question"):
        TINY.score(None, None, np.array([1]))
    assert Manipulation().tokens(TINY) > Manipulation(people=2).tokens(TINY) > 100
