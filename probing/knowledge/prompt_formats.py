"""Prompt formats for the same question, from the training text itself to texts far from it (claim 3.8).

A format is a template with slots (see `SlotFiller`). No prompt ends with a space, which belongs to the answer's first
token.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from probing.knowledge.qa_data import QuestionSet, fill_person, name_words
from synth.bio.codec import with_space
from synth.bio.tables import FEMALE_PRONOUNS, MALE_PRONOUNS
from synth.bio.value_lists import ATTRIBUTES, VALUE_SLOT
from synth.bio.world import VALUE_PART
from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import Example
from synth.tasks.bios import BioS
from synth.vocab import BOS, EOS

BIOGRAPHY, QUESTION = "as trained (biography sentence)", "as trained (question)"
NEAR, FAR = "near", "far"
KINDS = (BIOGRAPHY, QUESTION, NEAR, FAR)


@dataclass(frozen=True)
class PromptFormat:
    """kind: closeness to the training text, one of KINDS. template: words and {slots}, separated by spaces.
    transform: applied to the written text, for formats that differ in their spaces only."""

    name: str
    kind: str
    template: str
    transform: Callable[[str], str] | None = None

    def kind_for(self, task: BioS) -> str:
        """The kind for this task. A sentence with the person's name is a training text only if every sentence may be
        the first of a biography."""
        any_first = task.permute and not task.reverse and task.style == "templates"
        return self.kind if any_first or not self.template.startswith("<bos> {sentence") else NEAR


FORMATS = (
    PromptFormat("biography up to the value", BIOGRAPHY, "<bos> {biography}"),
    PromptFormat("sentence that names the person", BIOGRAPHY, "<bos> {sentence}"),
    PromptFormat("another such sentence", BIOGRAPHY, "<bos> {sentence2}"),
    PromptFormat("question", QUESTION, "<bos> {question} Answer :"),
    PromptFormat("second phrasing", QUESTION, "<bos> {question2} Answer :"),
    PromptFormat("third phrasing", QUESTION, "<bos> {question3} Answer :"),
    PromptFormat("fourth phrasing", QUESTION, "<bos> {question4} Answer :"),
    PromptFormat("after another document", QUESTION, "<bos> {example} <eos> <bos> {question} Answer :"),
    PromptFormat("no <bos>", NEAR, "{question} Answer :"),
    PromptFormat("no question mark", NEAR, "<bos> {bare} Answer :"),
    PromptFormat("full stop for question mark", NEAR, "<bos> {bare} . Answer :"),
    PromptFormat("comma for question mark", NEAR, "<bos> {bare} , Answer :"),
    PromptFormat("two question marks", NEAR, "<bos> {question} ? Answer :"),
    PromptFormat("no colon", NEAR, "<bos> {question} Answer"),
    PromptFormat("two colons", NEAR, "<bos> {question} Answer : :"),
    PromptFormat("no answer mark", NEAR, "<bos> {question}"),
    PromptFormat("full stop before", NEAR, "<bos> . {question} Answer :"),
    PromptFormat("asked twice", NEAR, "<bos> {question} {question} Answer :"),
    PromptFormat("after an example, not parted", NEAR, "<bos> {example} {question} Answer :"),
    PromptFormat("name before the question", NEAR, "<bos> {name} . {question} Answer :"),
    PromptFormat("question, then sentence", NEAR, "<bos> {question} {sentence}"),
    PromptFormat("name, then pronoun", NEAR, "<bos> {name} . {pronoun}"),
    PromptFormat("without middle name", NEAR, "<bos> {without_middle} Answer :"),
    PromptFormat("Q: and A:", NEAR, "<bos> Q : {question} A :"),
    PromptFormat("Question: and Answer:", NEAR, "<bos> Question : {question} Answer :"),
    PromptFormat("no space at the beginning", NEAR, "<bos> {question} Answer :", lambda text: text.lstrip()),
    PromptFormat("two spaces between words", NEAR, "<bos> {question} Answer :", lambda text: text.replace(" ", "  ")),
    PromptFormat("space before marks", NEAR, "<bos> {question} Answer :", lambda text: re.sub("[?:]", r" \g<0>", text)),
    PromptFormat("no space before Answer", NEAR, "<bos> {question} Answer :", lambda text: text.replace("? ", "?")),
    PromptFormat("line break before Answer", NEAR, "<bos> {question} Answer :", lambda text: text.replace("? ", "?\n")),
    PromptFormat("lower case", NEAR, "<bos> {lower} answer :"),
    PromptFormat("upper case", FAR, "<bos> {upper} ANSWER :"),
    PromptFormat("words in reverse", FAR, "<bos> {backwards} Answer :"),
    PromptFormat("surname first", FAR, "<bos> {surname_first} Answer :"),
    PromptFormat("first name alone", FAR, "<bos> {first_alone} Answer :"),
    PromptFormat("surname alone", FAR, "<bos> {last_alone} Answer :"),
    PromptFormat("name and attribute", FAR, "<bos> {name} , {attribute} :"),
    PromptFormat("answer mark first", FAR, "<bos> Answer : {question}"),
    PromptFormat("name and answer mark", FAR, "<bos> {name} Answer :"),
    PromptFormat("name alone", FAR, "<bos> {name}"),
)


class SlotFiller:
    """Fills the slots of formats for people and attributes of one world.

    name: the full name. question, question2, ...: the phrasings with the name. bare: the first phrasing without its
    question mark. lower, upper, backwards, surname_first, ...: variants of the first phrasing. example: the first
    phrasing about another person of the first half, with its answer. sentence, sentence2: a template up to the value,
    with the name. pronoun: the first template with a pronoun. biography: the first training document up to the value.
    """

    def __init__(self, task: BioS, data_seed: int) -> None:
        self.task, self.world = task, task.world(data_seed)
        self.biographies = Corpus(task.as_task(BioS, half="all"), data_seed, "train")

    def fill_slots(self, people: np.ndarray, attribute_ids: np.ndarray) -> list[dict[str, str]]:
        """The texts by slot, words separated by spaces, for each person and attribute (n,). A slot for which the lists
        have no text is missing."""
        block = self.biographies.render_items(people, np.zeros_like(people), labels=True)
        texts = []
        for i, (person, attribute) in enumerate(zip(people.tolist(), attribute_ids.tolist(), strict=True)):
            slots = self._question_slots(person, attribute) | self._sentence_slots(person, attribute)
            texts.append(slots | {"biography": self._biography_prefix(block[i], attribute)})
        return texts

    def _question_slots(self, person: int, attribute: int) -> dict[str, str]:
        first, middle, last = self._name(person)
        words, *other_phrasings = self.task.value_lists.questions[attribute]
        name, other_person = f"{first} {middle} {last}", int(person == 0)
        question = fill_person(words, name)
        bare = question.removesuffix(" ?")
        example = fill_person(words, " ".join(self._name(other_person)))
        return {
            **{f"question{k}": fill_person(phrasing, name) for k, phrasing in enumerate(other_phrasings, 2)},
            **{"name": name, "attribute": ATTRIBUTES[attribute], "question": question, "bare": bare},
            **{"lower": question.lower(), "upper": question.upper(), "backwards": f"{' '.join(bare.split()[::-1])} ?"},
            **{"without_middle": fill_person(words, f"{first} {last}"), "first_alone": fill_person(words, first)},
            **{"surname_first": fill_person(words, f"{last} {first} {middle}"), "last_alone": fill_person(words, last)},
            **{"example": f"{example} Answer : {self.value(other_person, attribute)} ."},
        }

    def _sentence_slots(self, person: int, attribute: int) -> dict[str, str]:
        name = " ".join(self._name(person))
        heads = [words[: words.index(VALUE_SLOT)] for words in self.task.value_lists.templates[attribute]]
        second = {"sentence2": fill_person(heads[1], name)} if len(heads) > 1 else {}
        pronouns = (MALE_PRONOUNS, FEMALE_PRONOUNS)[self.world.genders[person]]
        return second | {"sentence": fill_person(heads[0], name), "pronoun": fill_person(heads[0], name, pronouns)}

    def _biography_prefix(self, document: Example, attribute: int) -> str:
        is_value = (document.labels["part"] == VALUE_PART) & (document.labels["attribute"] == attribute)
        prefix = document.tokens[1 : is_value.argmax()]
        words = self.task.text_codec.decode(prefix) if self.task.text_codec else prefix
        return " ".join(self.task.lexicon.vocab.decode(words))

    def _name(self, person: int) -> tuple[str, ...]:
        return name_words(self.task, self.world.names[person])

    def value(self, person: int, attribute: int) -> str:
        """The words of the true value."""
        return " ".join(self.task.lexicon.vocab.decode(self.task.value_ids(self.world, person, attribute)))


def tokenize_prompt(task: BioS, prompt_format: PromptFormat, slots: dict[str, str]) -> np.ndarray:
    """The prompt's ids (T,). Raises UserError if the task has no word, space or text for a part of the format."""
    try:
        words = prompt_format.template.format(**slots).split()
    except KeyError as missing:
        raise UserError(f"the lists have no {missing.args[0]}") from None
    if prompt_format.transform and not task.text_codec:
        raise UserError("a vocabulary of words has no spaces")
    parts: list[np.ndarray] = []
    while words:
        special = next((i for i, word in enumerate(words) if word in (BOS, EOS)), len(words))
        parts.append(_tokenize_words(task, words[:special], prompt_format.transform))
        parts.append(task.vocab().encode(words[special : special + 1]))
        words = words[special + 1 :]
    return np.concatenate(parts)


def _tokenize_words(task: BioS, words: list[str], transform: Callable[[str], str] | None) -> np.ndarray:
    if task.text_codec:
        text = "".join(map(with_space, words))
        try:
            return task.text_codec.encode_verbatim(transform(text) if transform else text)
        except UserError as error:
            raise UserError(f"{error.args[0].partition(' (')[0]}: it never occurs") from None
    unknown = [word for word in words if word not in task.lexicon.vocab.index]
    if unknown:
        raise UserError(f"the vocabulary has no word {unknown[0]!r}")
    return task.lexicon.vocab.encode(words)


def reformat(
    task: BioS, prompt_format: PromptFormat, questions: QuestionSet, slots: list[dict[str, str]]
) -> QuestionSet:
    """The same questions in another format, filled with the slots of each. Raises UserError as `tokenize_prompt`."""
    prompts = [tokenize_prompt(task, prompt_format, texts) for texts in slots]
    rests = [document[p:] for document, p in zip(questions.documents, questions.prompt_lengths, strict=True)]
    return QuestionSet(
        [np.concatenate(pair) for pair in zip(prompts, rests, strict=True)], np.array([len(p) for p in prompts]),
        questions.value_lengths, questions.person_ids, questions.attribute_ids, questions.choices,
    )  # fmt: skip
