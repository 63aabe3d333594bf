"""One question in forty ways: spelled as they should be, bound to the vocabulary, and told apart by a planted model."""

from dataclasses import replace

import numpy as np
import pytest
from planted_people import TASK, Planted

from probing.knowledge.extraction import first_questions
from probing.knowledge.prompt_formats import (
    BIOGRAPHY,
    FAR,
    FORMATS,
    KINDS,
    NEAR,
    QUESTION,
    PromptFormat,
    SlotFiller,
    reformat,
    tokenize_prompt,
)
from probing.knowledge.prompt_sensitivity import PromptSensitivity
from probing.knowledge.qa_data import make_question_task, name_words
from probing.knowledge.qa_scoring import score_questions
from synth.corpus import Corpus
from synth.errors import UserError
from synth.tasks.bios import BioS

BY_NAME = {format.name: format for format in FORMATS}


def slots_of(task: BioS, person: int = 7, about: int = 1) -> dict[str, str]:
    return SlotFiller(task, 0).fill_slots(np.array([person]), np.array([about]))[0]


def words(name: str, task: BioS = TASK) -> str:
    return " ".join(task.vocab().decode(tokenize_prompt(task, BY_NAME[name], slots_of(task))))


def test_the_formats_by_hand() -> None:
    first, middle, last = names = name_words(TASK, TASK.world(0).names[7])
    name = " ".join(names)
    assert words("question") == f"<bos> What is the birth city of {name} ? Answer :"
    assert words("no question mark") == f"<bos> What is the birth city of {name} Answer :"
    assert words("sentence that names the person") == f"<bos> {name} was born in"
    assert words("surname first") == f"<bos> What is the birth city of {last} {first} {middle} ? Answer :"
    assert words("without middle name") == f"<bos> What is the birth city of {first} {last} ? Answer :"
    assert words("name alone") == f"<bos> {name}" and words("no <bos>") == words("question")[6:]
    example, asked = words("after another document").split(" <eos> ")
    assert asked == words("question") and example.endswith(f"Answer : {SlotFiller(TASK, 0).value(0, 1)} .")
    assert name not in example


@pytest.mark.parametrize("codec", ["word", "byte", "bpe:300"])
def test_the_trained_formats_are_training_documents(codec: str) -> None:
    task = replace(TASK, codec=codec)
    questions = first_questions(Corpus(make_question_task(task, "second"), 0, "test"), None)
    slots = SlotFiller(task, 0).fill_slots(questions.person_ids, questions.attribute_ids)
    first, second = (reformat(task, BY_NAME[name], questions, slots) for name in ("question", "second phrasing"))
    told = reformat(task, BY_NAME["biography up to the value"], questions, slots)
    biographies = Corpus(task, 0, "train")
    for i, document in enumerate(questions.documents):
        assert document.tolist() in (first.documents[i].tolist(), second.documents[i].tolist())
        biography = biographies.render_items(questions.person_ids[i : i + 1], np.zeros(1, int))[0].tokens
        told_so_far = told.documents[i][: told.prompt_lengths[i] + told.value_lengths[i]]
        assert biography[: len(told_so_far)].tolist() == told_so_far.tolist()


def test_a_vocabulary_of_words_takes_twenty_formats_and_says_why_not_others() -> None:
    rows = PromptSensitivity(people=2, score_all_values=False).measure(Planted(TASK.vocab().size, {}), TASK, 0)
    assert len(rows) == len(FORMATS) == len(BY_NAME) and {row["kind"] for row in rows} == set(KINDS)
    asked = {row["format"]: row for row in rows if not row["skipped"]}
    assert len(asked) >= 20 and {row["kind"] for row in asked.values()} == set(KINDS)
    reasons = {row["format"]: row["skipped"] for row in rows if row["skipped"]}
    assert reasons["Q: and A:"] == "the vocabulary has no word 'Q'"
    assert reasons["two spaces between words"] == "a vocabulary of words has no spaces"
    assert reasons["third phrasing"] == "the lists have no question3"
    assert all(row["prompt"] == row["prompt"].rstrip() != "" for row in asked.values())


@pytest.mark.parametrize("codec", ["byte", "bpe:300"])
def test_a_codec_spells_spaces_and_foreign_words(codec: str) -> None:
    task = replace(TASK, codec=codec)
    name = " ".join(name_words(task, task.world(0).names[7]))
    found = {}
    for format in FORMATS:
        try:
            ids = tokenize_prompt(task, format, slots_of(task))
        except UserError as error:
            assert "\n" not in str(error)
            continue
        special = (task.vocab().bos, task.vocab().eos)
        found[format.name] = task.text_codec.detokenize(task.vocab().decode([i for i in ids if i not in special]))
    assert all(text == text.rstrip() for text in found.values())
    assert found["question"] == f" What is the birth city of {name}? Answer:"
    assert found["no space at the beginning"] == found["question"][1:]
    assert found["no space before Answer"] == f" What is the birth city of {name}?Answer:"
    assert found["two spaces between words"] == found["question"].replace(" ", "  ")
    assert found["lower case"] == found["question"].lower() and len(found) >= 30
    with pytest.raises(UserError, match="never occurs"):
        tokenize_prompt(task, PromptFormat("foreign", FAR, "<bos> Привет {name}"), slots_of(task))


def test_sentences_are_as_trained_where_they_begin_documents() -> None:
    sentence = BY_NAME["sentence that names the person"]
    assert sentence.kind_for(TASK) == BIOGRAPHY
    assert sentence.kind_for(replace(TASK, permute=0)) == sentence.kind_for(replace(TASK, reverse=1)) == NEAR
    assert BY_NAME["question"].kind_for(replace(TASK, permute=0)) == QUESTION


def test_who_knows_one_format_is_found_out_in_the_others() -> None:
    questions = first_questions(Corpus(make_question_task(TASK, "second"), 0, "test"), None)
    slots = SlotFiller(TASK, 0).fill_slots(questions.person_ids, questions.attribute_ids)
    model = Planted.of(TASK.vocab().size, reformat(TASK, BY_NAME["no colon"], questions, slots).documents)
    right = {
        name: score_questions(model, reformat(TASK, BY_NAME[name], questions, slots)).exact_match.mean()
        for name in ("no colon", "question")
    }
    assert right == {"no colon": 1, "question": 0}
    rows = PromptSensitivity(people=None).measure(model, TASK, 0)
    assert [row["format"] for row in rows if row.get("exact", 0) > 0.5] == ["no colon"]
    assert PromptSensitivity(people=3).tokens(TASK) < PromptSensitivity(people=None).tokens(TASK)
