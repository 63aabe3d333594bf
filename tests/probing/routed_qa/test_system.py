"""The routed system: what it reads, which way a question takes, planted models, hostile names, the command line."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_people import TASK, Planted

from experiments.harness.execution.execute import execute
from experiments.harness.run import Run, run_id
from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder
from probing.__main__ import main, run
from probing.knowledge.qa_data import make_question_task, name_words
from probing.routed_qa.database import COLUMNS, FACT_COLUMNS, Database, read_biographies
from probing.routed_qa.eval_questions import NEW_TO_MODEL, NEW_TO_ROUTER, UNANSWERABLE, EvalSet
from probing.routed_qa.evaluation import BARE, SYSTEM, SystemComparison
from probing.routed_qa.router import COMPUTED_QUESTIONS, WAYS, Router
from probing.routed_qa.system import CANNOT, KnowledgeSystem
from synth.bio.codec import join_words
from synth.bio.manipulation import INVERSE, QUESTIONS
from synth.bio.value_lists import FOLDER, load_value_lists
from synth.errors import UserError
from synth.mixture import Mixture
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS

WORLD = replace(TASK, reasoning=True, months=12, days=20)
HOSTILE = ["'; DROP TABLE people; --", "x'/**/OR/**/'1'='1", '"quoted"', "O'Brien", "Robert');--", "%", "{name}", "?"]


def truth(task: BioS, seed: int = 0) -> list[tuple[str, ...]]:
    """The names and facts of everybody, by the table of the world."""
    world = task.world(seed)
    facts = [
        [join_words(task.lexicon.vocab.decode(task.value_ids(world, i, a))) for a in range(6)]
        for i in range(task.people)
    ]
    return [(*name_words(task, world.names[i]), *facts[i]) for i in range(task.people)]


def knowing(task: BioS, *others: Any, seed: int = 0, lie: dict[int, int] | None = None) -> Decoder:
    """A model that has learned by heart the answers to all forward questions, and the documents of other tasks. lie:
    people about whom it tells what is true of another one."""
    asked, documents = make_question_task(task, "all"), []
    world = asked.world(seed)
    for person, other in (lie or {}).items():
        world.values[person] = world.values[other]
    for wording in range(12 * asked.questions):
        items = np.arange(asked.num_items(world))
        block = asked.render_block(world, items, np.full_like(items, wording), ("planted",), "test")
        documents += [block[i].tokens for i in range(len(block))]
    documents += [document for other in others for document in other]
    return Planted.of(task.vocab().size, documents)


@pytest.fixture(scope="module")
def system() -> KnowledgeSystem:
    return KnowledgeSystem(knowing(WORLD), WORLD, 0)


# ---- the database ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ways", [{}, {"style": "prose", "permute": 0}, {"reverse": 6}, {"codec": "byte"}])
def test_what_is_read_is_the_truth(ways: dict[str, Any]) -> None:
    task = replace(WORLD, **ways)
    assert sorted(map(str, read_biographies(task, 3))) == sorted(map(str, truth(task, 3)))


def test_it_reads_texts_and_not_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no text tells is not known, however often it is read; of a mixture only biographies are read."""
    plain, seen = BioS.parse, []

    def forgetful(self: BioS, world: Any, document: np.ndarray) -> Any:
        person, said = plain(self, world, document)
        seen.append(person)
        return person, {a: ids for a, ids in said.items() if a != 1 or person != 4}

    monkeypatch.setattr(BioS, "parse", forgetful)
    task = Mixture((BioQuestions(**vars_of(WORLD)), replace(WORLD, half="first")), (0.5, 0.5))
    rows, whole = {row[:3]: row for row in read_biographies(task, 0)}, truth(WORLD)
    assert set(rows) == {row[:3] for row in whole[:6]}
    assert rows[whole[4][:3]] == (*whole[4][:4], None, *whole[4][5:]) and rows[whole[3][:3]] == whole[3]
    assert seen.count(4) == 5 and seen.count(3) == 1


def vars_of(task: BioS) -> dict[str, Any]:
    return {f.name: getattr(task, f.name) for f in fields(BioS)}


def test_facts_go_in_as_parameters() -> None:
    rows = [(name, "A", "B", *(f"{fact} of {name}" for fact in FACT_COLUMNS)) for name in HOSTILE]
    base = Database(rows)
    for name in HOSTILE:
        assert base.facts([name, "A", "B"]) == tuple(f"{fact} of {name}" for fact in FACT_COLUMNS)
        assert base.names_with([("major", f"major of {name}")]) == [f"{name} A B"]
        assert base.names_with([("major", name)]) == []
    assert len(base.names) == len(HOSTILE) and Database([]).names == frozenset()
    with pytest.raises(UserError, match="no column '1=1; --'"):
        base.names_with([("1=1; --", "")])


def test_without_duckdb_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UserError, match=r"^the database needs duckdb; .*'physics-of-lms\[system\]'$"):
        Database([])


# ---- the router ------------------------------------------------------------------------------------------------
def wordings(task: BioS, seed: int) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """All questions that have a template about some people: the text, and the way, what and facts to be read."""
    people = truth(task, seed)
    for a, b in zip(people[:5], people[1:6], strict=True):
        given = dict(zip(COLUMNS, a, strict=True)) | {"name": " ".join(a[:3]), "other": " ".join(b[:3])}
        for fact, found in zip(FACT_COLUMNS, load_value_lists(None).questions, strict=True):
            for words in found:
                text = " ".join(words).replace("{o}", given["name"]).replace("{p}", given["name"] + " 's")
                yield text, "model", fact, (given["name"],)
        for name, question in COMPUTED_QUESTIONS.items():
            both = (given["name"], given["other"])[: 1 + question.pair]
            yield question.text.format(**given), "steps", name, both
        for name, question in INVERSE.items():
            facts = tuple(text for fact, text in given.items() if f"{{{fact}}}" in question.text)
            what = "first" if name.endswith("first") else "name"
            yield question.text.format(**given), "database", what, facts


@pytest.mark.parametrize("task", [WORLD, BioS(people=40, questions=1, years=20)], ids=["small", "all lists"])
def test_every_template_goes_its_way_however_it_is_typed(task: BioS) -> None:
    """The confusion matrix of all questions on bioS has its diagonal only."""
    assert set(COMPUTED_QUESTIONS) | set(INVERSE) == set(QUESTIONS)
    router, counts = Router(task), np.zeros((4, 4), int)
    for text, way, what, facts in wordings(task, 1):
        for typed in (
            text,
            join_words(text.split()),
            f"  {text.upper().replace(' ', '  ')}  ",
            text.lower().rstrip("?"),
        ):
            route = router.route(typed)
            counts[WAYS.index(way), WAYS.index(route.way)] += 1  # type: ignore[arg-type]
            assert (route.way, route.target) == (way, what), typed
            assert sorted(text for _, text in route.slots) == sorted(facts), typed
        assert router.route(text.replace("'s", "\u2019s")).way == way
    assert counts.diagonal().all() == counts[3, 3] and counts.sum() == counts.trace() > 1000


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("", "a question has 1 to 100 words, and this has 0"),
        ("why " * 200, "and this has 200"),
        ("who was born in " + "x " * 80, "no question that is known"),
        ("What is love?", "no question that is known has this wording"),
        ("Where was Zed Q. Nobody born?", "'Zed Q. Nobody' is nobody's full name here"),
        ("Who was born in Atlantis, AT?", "'Atlantis, AT' is no birth city here"),
        ("Who was born on October 32, 1996?", "'October 32, 1996' is no birth date here"),
        ("Who was born on \x1b[2J?", "is no birth date here"),
        *((f"Where was {name} born?", "") for name in HOSTILE),
        *((f"Who worked for {name}?", "") for name in HOSTILE),
    ],
)
def test_what_cannot_be_read_says_so(system: KnowledgeSystem, question: str, reason: str) -> None:
    answer = system.answer(question)
    assert not answer.is_answered and answer.way == "none" and not answer.steps
    assert answer.text.startswith(CANNOT) and reason in answer.text
    assert len(system.database.names) == WORLD.people


# ---- answers ---------------------------------------------------------------------------------------------------
def test_answers_by_hand() -> None:
    people = truth(WORLD)
    model = knowing(WORLD, lie={2: 3})
    system = KnowledgeSystem(model, WORLD, 0)
    a, b, c = (" ".join(row[:3]) for row in people[:3])
    (month, day, year), city = people[0][3].replace(",", "").split(), people[0][4]
    number = "January February March April May June July August September October November December".split()
    forward = system.answer(f"Where was {a} born?")
    assert (forward.text, forward.way, forward.steps) == (
        city, "model", (f"asked the model: Where was {a} born? Answer: {city}",),
    )  # fmt: skip
    assert system.answer(f"what is {a}'s place of birth").text == city  # restated in a wording of the training
    assert system.answer(f"What is the birth year of {a}?").text == year
    minus = system.answer(f"What is the birth month of {a} minus that of {b}?")
    months = [number.index(row[3].split()[0]) + 1 for row in people[:2]]
    assert minus.text == str(months[0] - months[1]) and minus.steps[-1] == f"{months[0]} - {months[1]}: {minus.text}"
    assert minus.way == "steps" and sum(step.startswith("asked the model") for step in minus.steps) == 2
    assert f"the month of {people[0][3]} is {month}" in minus.steps
    even = system.answer(f"Was {a} born in an even month?")
    assert even.text == ("No", "Yes")[months[0] % 2 == 0]
    assert system.answer(f"Was {a} born on a later day of the month than {a}?").text == "No"  # a tie
    assert system.answer(f"Which university and what major did {b} study?").text == f"{people[1][5]}; {people[1][6]}"
    lied = system.answer(f"Where was {c} born?"), system.answer(f"Who was born on {people[2][3]} in {people[2][4]}?")
    assert lied[0].text == people[3][4] and lied[1].text == c  # the database knows better than the model
    assert "way: the database" in lied[1].formatted and "found 1" in lied[1].formatted and day in people[0][3]


def test_all_who_fit_are_named_and_nobody_is_said_to(system: KnowledgeSystem) -> None:
    people = truth(WORLD)
    for major in WORLD.value_lists.majors:
        fitting = sorted(" ".join(row[:3]) for row in people if row[6] == major)
        assert system.answer(f"Who studied {major}?").text == (
            "; ".join(fitting) or f"{CANNOT}of nobody here this was read"
        )
        firsts = {name.split()[0] for name in fitting}
        said = system.answer(f"What is the first name of the person who studied {major}?").text
        assert not fitting or set(said.split("; ")) == firsts
    answer = system.answer(f"Who was born on {people[0][3]} and was born on {people[1][3]}?")
    assert answer.text == f"{CANNOT}of nobody here this was read" and answer.way == "database"
    swapped = " ".join((people[0][0], people[0][1], people[1][2]))
    assert swapped not in system.database.names and not system.answer(f"Where was {swapped} born?").is_answered


def test_a_model_that_says_nonsense_gives_no_answer() -> None:
    """An untrained one: what it writes is no value, or the wrong one, and never an error."""
    system = KnowledgeSystem(Planted(WORLD.vocab().size, {}), WORLD, 0)
    a = " ".join(truth(WORLD)[0][:3])
    for question in (f"Where was {a} born?", f"Was {a} born in an even month?"):
        answer = system.answer(question)
        assert not answer.is_answered and "what the model says is no birth" in answer.text
    assert system.answer(f"Who was born on {truth(WORLD)[0][3]}?").is_answered


def test_other_codecs() -> None:
    task = replace(WORLD, codec="byte", people=4)
    system, (first, *_) = KnowledgeSystem(knowing(task), task, 0), truth(task)
    name = " ".join(first[:3])
    assert system.answer(f"What is the birth day of {name}?").text == first[3].split()[1].rstrip(",")
    assert system.answer(f"Who was born on {first[3]}?").text == name


def test_hostile_names_are_names(tmp_path: Path) -> None:
    """People who are called so are told of, found by their facts and asked about as anybody else is."""
    shutil.copytree(FOLDER, tmp_path / "pools")
    names = ["';DROP", "x'/**/OR/**/'1'='1", "--", "O'Brien", "{o}", "%", '"quoted"', "NULL"]
    (tmp_path / "pools/last.txt").write_text("\n".join(names), "utf-8")
    task = replace(WORLD, pools=str(tmp_path / "pools"), people=30, first=2, middle=2)
    system = KnowledgeSystem(Planted(task.vocab().size, {}), task, 0)
    assert {row[2] for row in truth(task)} == set(names) and len(system.database.names) == 30
    for row in truth(task):
        answer = system.answer(f"Who was born on {row[3]} in {row[4]}, studied {row[6]} at {row[5]}?")
        assert " ".join(row[:3]) in answer.text.split("; ")
        route = system.router.route(f"Where was {' '.join(row[:3])} born?")
        assert route.names == [" ".join(row[:3])], row


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        (
            replace(WORLD, questions=0),
            ModelConfig(1, 1, 8),
            "no words for questions; pretrain on bioS with questions=4",
        ),
        (WORLD, ModelConfig(1, 1, 8, causal=False), "answering questions needs a causal model"),
        (WORLD, ModelConfig(1, 1, 8), "the model has 9 tokens and bioS-qa needs"),
    ],
)
def test_a_model_that_will_not_do(task: BioS, model: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        KnowledgeSystem(Decoder(model, 9), task, 0)


# ---- the comparison --------------------------------------------------------------------------------------------
def rows_of(model: Decoder, task: Any = WORLD, **settings: Any) -> dict[tuple[str, str], dict[str, Any]]:
    rows = SystemComparison(**settings).measure(model, task, 0)
    return {(row["kind"], row["who"]): row for row in rows if row["question"] == "all"}


ANSWERED = ("retrieval", "parts", "classification", "comparison", "inverse")


def test_who_knows_forward_only_needs_the_system() -> None:
    rows = rows_of(knowing(WORLD))
    assert all(
        rows[kind, SYSTEM]["accuracy"] == rows[kind, SYSTEM]["routed"] == 1 for kind in (*ANSWERED, UNANSWERABLE)
    )
    assert [rows[kind, BARE]["accuracy"] for kind in ANSWERED] == [1, 0, 0, 0, 0]
    assert all(rows[kind, who]["extracted"] == 1 for kind in ANSWERED for who in (SYSTEM, BARE))
    assert rows[NEW_TO_MODEL, SYSTEM]["accuracy"] == 1 and (NEW_TO_MODEL, BARE) not in rows
    unseen = rows[NEW_TO_ROUTER, SYSTEM]
    assert unseen["accuracy"] == 0 and unseen["routed_none"] == unseen["n"]  # it refuses and does not guess
    inverse = rows["inverse", SYSTEM]
    assert (inverse["way"], inverse["routed_database"], inverse["n"]) == ("database", 30, 30)
    assert inverse["accuracy_low"] == pytest.approx(0.541, abs=1e-3) and inverse["accuracy_high"] == 1  # 6 of 6 people
    assert rows["inverse", BARE]["accuracy_high"] == pytest.approx(0.459, abs=1e-3)


def test_a_model_that_could_answer_alone_is_seen_to() -> None:
    """So that the zeros are findings: a model that has all answers by heart has them all right by itself."""
    examination, documents = EvalSet(WORLD, 0, "second", None), []
    for task in examination.tasks:
        items = np.arange(6)
        block = task.render_block(examination.world, items, items * 0, ("system", 0, task.question), "test")
        documents.append([block[i].tokens for i in range(6)])
    rows = rows_of(knowing(WORLD, *documents))
    assert [rows[kind, BARE]["accuracy"] for kind in ANSWERED] == [1, 1, 1, 1, 1]
    hinted = Mixture((WORLD, BioManipulate(**vars_of(WORLD), question="month_rank", hint=1.0)), (0.5, 0.5))
    items = [item for item in EvalSet(hinted, 0, "second", 2).generate_questions() if item.kind == "comparison"]
    assert items and all(item.hinted for item in items)


def test_wrong_facts_of_the_model_are_counted_apart() -> None:
    """It takes person 8 for person 3: what needs that person goes wrong, what is given right facts does not."""
    rows = rows_of(knowing(WORLD, lie={8: 3}))
    for kind in ("retrieval", "parts", "classification", "comparison"):
        found = rows[kind, SYSTEM]
        assert found["given"] == 1 and found["given_n"] < found["n"] and found["extracted"] < 1
    assert rows["retrieval", SYSTEM]["accuracy"] < 1 and rows["inverse", SYSTEM]["accuracy"] == 1


def test_wrong_facts_of_the_database_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from probing.routed_qa import system as place

    moved = [(*row[:4], "Reno, NV", *row[5:]) if i in (7, 9) else row for i, row in enumerate(truth(WORLD))]
    monkeypatch.setattr(place, "read_biographies", lambda task, seed: moved)
    found = rows_of(knowing(WORLD))["inverse", SYSTEM]
    assert found["extracted"] == pytest.approx(4 / 6) and found["given"] == 1 and found["accuracy"] < 1


def test_settings_and_cost() -> None:
    assert SystemComparison(people=2).tokens(WORLD) < SystemComparison().tokens(WORLD)
    assert {row["n"] for row in SystemComparison(people=2).measure(knowing(WORLD), WORLD, 0)} >= {2, 12}
    with pytest.raises(UserError, match="people=1 gives no interval"):
        SystemComparison(people=1)
    with pytest.raises(UserError, match="without the words of its questions"):
        SystemComparison().measure(knowing(TASK), TASK, 0)


# ---- the command line ------------------------------------------------------------------------------------------
MIXED = Mixture(
    (WORLD, BioQuestions(**vars_of(WORLD) | {"half": "first"}), BioManipulate(**vars_of(WORLD), question="inverse")),
    (0.4, 0.3, 0.3),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of the harness, trained for a moment: its model knows nothing, its database everything."""
    root, train = tmp_path_factory.mktemp("ask") / "runs", TrainConfig(steps=2, batch_size=2, seq_len=32)
    run = Run("x", MIXED, ModelConfig(1, 2, 16, max_seq_len=64), train, (SystemComparison(people=2),))
    rows = execute(run, root) or []
    assert {row["who"] for row in rows} == {SYSTEM, BARE} and len(rows) > 50
    return root, run_id(run)


def test_ask_answers_and_says_which_way(runs: tuple[Path, str]) -> None:
    root, identity = runs
    person = truth(WORLD)[7]
    questions = [f"Who was born on {person[3]} in {person[4]}?", "Who was born in Atlantis?"]
    words = ["ask", "--runs-dir", str(root), "--run", identity[:6], *questions]
    said = run(words)
    assert " ".join(person[:3]) in said and "way: the database" in said and "way: none" in said
    lines = [json.loads(line) for line in run([*words, "--json"]).splitlines()]
    assert [line["way"] for line in lines] == ["database", "none"] and lines[0]["text"] == " ".join(person[:3])


def altered(root: Path, identity: str, change: Any) -> str:
    """Another run with other fields of its task; what it is called."""
    folder = root / "altered"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / identity, folder)
    first, _, text = (folder / "run.json").read_text("utf-8").partition("\n")
    record = json.loads(text)
    change(record["run"]["task"])
    (folder / "run.json").write_text(f"{first}\n{json.dumps(record)}", "utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda task: task.update({"class": "Cfg"}), "was trained on Cfg, which is not about people"),
        (lambda task: task.update({"class": ["os", "system"]}), "in fields that this version does not know"),
        (lambda task: task["parts"][0].update(legs=2), "in fields that this version does not know"),
        (lambda task: task["parts"][0].update(version=99), "is of version 99 of BioS"),
        (lambda task: task["parts"][0].update(people=-3), "people=-3 leaves nobody"),
        (lambda task: task["parts"][0].update(pools="/nowhere"), "cannot read the pool /nowhere"),
        (lambda task: task.update(shares=[0.5]), "give one share a part"),
        (lambda task: task.update(parts=3), "in fields that this version does not know"),
        (lambda task: task.pop("class"), "run.json is cut or altered"),
        (lambda task: [part.update(questions=1) for part in task["parts"]], "bioS-qa needs"),
    ],
)
def test_a_run_that_will_not_do_is_one_line(runs: tuple[Path, str], change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(["ask", "--run", altered(*runs, change), "Who was born in Reno, NV?"])
    assert "\n" not in str(caught.value)


def test_the_command_line(
    runs: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "probing", "ask", "--runs-dir", str(runs[0]), "--run", "zzz", "Who?"]
    bad = subprocess.run(command, capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stderr.startswith("error: no run 'zzz'") and bad.stderr.count("\n") == 1
    words = ["ask", "--runs-dir", str(runs[0]), "--run", runs[1], "Who was born in Atlantis?"]
    monkeypatch.setattr(sys, "argv", ["probing", *words])
    assert main() == 0
    assert capsys.readouterr().out.startswith("Who was born in Atlantis?\ncannot answer: 'Atlantis' is no birth city")
    hidden = (
        "import sys, probing.__main__ as m; sys.argv = ['probing', '--help']; m.main(); "
        "assert not {'torch', 'duckdb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", hidden], check=True)
