"""Ways to put one and the same question, from the training text itself to something far from it.

Seed of claim 3.8: the prompt is the key to what is stored. A format is a text with slots (see `slots`); where its words
or spaces cannot be written in a task's closed vocabulary, `spelled` says what is missing. No prompt ends in a space: it
belongs to the answer's first token.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from probing.knowledge.qa_data import Questions
from synth.bio.codec import spelled as with_space
from synth.bio.tables import HE, POSSESSIVE, SHE
from synth.bio.value_lists import ATTRIBUTES, PERSON, VALUE
from synth.bio.world import VALUE as VALUE_PART
from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import Example
from synth.tasks.bios import BioS
from synth.vocab import BOS, EOS

BIOGRAPHY, QUESTION = "as trained (biography sentence)", "as trained (question)"
NEAR, FAR = "near", "far"
KINDS = (BIOGRAPHY, QUESTION, NEAR, FAR)


@dataclass(frozen=True)
class Format:
    """kind: one of KINDS; text: words and {slots} with spaces between; respaced: what becomes of the text as it is
    written, for formats that differ in their spaces alone."""

    name: str
    kind: str
    text: str
    respaced: Callable[[str], str] | None = None

    def kind_for(self, task: BioS) -> str:
        """The kind in this task: a sentence that names the person begins documents only where every template may."""
        begins = task.permute and not task.reverse and task.style == "templates"
        return self.kind if begins or not self.text.startswith("<bos> {sentence") else NEAR


FORMATS = (
    Format("biography up to the value", BIOGRAPHY, "<bos> {biography}"),
    Format("sentence that names the person", BIOGRAPHY, "<bos> {sentence}"),
    Format("another such sentence", BIOGRAPHY, "<bos> {sentence2}"),
    Format("question", QUESTION, "<bos> {question} Answer :"),
    Format("second phrasing", QUESTION, "<bos> {question2} Answer :"),
    Format("third phrasing", QUESTION, "<bos> {question3} Answer :"),
    Format("fourth phrasing", QUESTION, "<bos> {question4} Answer :"),
    Format("after another document", QUESTION, "<bos> {example} <eos> <bos> {question} Answer :"),
    Format("no <bos>", NEAR, "{question} Answer :"),
    Format("no question mark", NEAR, "<bos> {bare} Answer :"),
    Format("full stop for question mark", NEAR, "<bos> {bare} . Answer :"),
    Format("comma for question mark", NEAR, "<bos> {bare} , Answer :"),
    Format("two question marks", NEAR, "<bos> {question} ? Answer :"),
    Format("no colon", NEAR, "<bos> {question} Answer"),
    Format("two colons", NEAR, "<bos> {question} Answer : :"),
    Format("no answer mark", NEAR, "<bos> {question}"),
    Format("full stop before", NEAR, "<bos> . {question} Answer :"),
    Format("asked twice", NEAR, "<bos> {question} {question} Answer :"),
    Format("after an example, not parted", NEAR, "<bos> {example} {question} Answer :"),
    Format("name before the question", NEAR, "<bos> {name} . {question} Answer :"),
    Format("question, then sentence", NEAR, "<bos> {question} {sentence}"),
    Format("name, then pronoun", NEAR, "<bos> {name} . {pronoun}"),
    Format("without middle name", NEAR, "<bos> {without_middle} Answer :"),
    Format("Q: and A:", NEAR, "<bos> Q : {question} A :"),
    Format("Question: and Answer:", NEAR, "<bos> Question : {question} Answer :"),
    Format("no space at the beginning", NEAR, "<bos> {question} Answer :", lambda text: text.lstrip()),
    Format("two spaces between words", NEAR, "<bos> {question} Answer :", lambda text: text.replace(" ", "  ")),
    Format("space before marks", NEAR, "<bos> {question} Answer :", lambda t: t.replace("?", " ?").replace(":", " :")),
    Format("no space before Answer", NEAR, "<bos> {question} Answer :", lambda text: text.replace("? ", "?")),
    Format("line break before Answer", NEAR, "<bos> {question} Answer :", lambda text: text.replace("? ", "?\n")),
    Format("lower case", NEAR, "<bos> {lower} answer :"),
    Format("upper case", FAR, "<bos> {upper} ANSWER :"),
    Format("words in reverse", FAR, "<bos> {backwards} Answer :"),
    Format("surname first", FAR, "<bos> {surname_first} Answer :"),
    Format("first name alone", FAR, "<bos> {first_alone} Answer :"),
    Format("surname alone", FAR, "<bos> {last_alone} Answer :"),
    Format("name and attribute", FAR, "<bos> {name} , {attribute} :"),
    Format("answer mark first", FAR, "<bos> Answer : {question}"),
    Format("name and answer mark", FAR, "<bos> {name} Answer :"),
    Format("name alone", FAR, "<bos> {name}"),
)


class Slots:
    """What fills the slots of a format, for a person and an attribute of one world.

    name: the full name; question, question2, ...: the phrasings with it; bare: the first without its question mark;
    lower, upper, backwards, surname_first, ...: the first, changed; example: it, answered, about somebody else of the
    first half; sentence, sentence2: a template up to the value, with the name; pronoun: with a pronoun; biography: the
    first training document up to the value.
    """

    def __init__(self, task: BioS, data_seed: int) -> None:
        self.task, self.world = task, task.world(data_seed)
        self.biographies = Corpus(task.recast(BioS, half="all"), data_seed, "train")

    def of(self, people: np.ndarray, about: np.ndarray) -> list[dict[str, str]]:
        """For each person and attribute (n,) the texts by slot, words parted by spaces; a slot for which the lists have
        nothing is left out."""
        block = self.biographies.about(people, np.zeros_like(people), labels=True)
        pairs = zip(people.tolist(), about.tolist(), strict=True)
        return [
            {**self._asked(person, a), **self._told(person, a), "biography": self._until_value(block[i], a)}
            for i, (person, a) in enumerate(pairs)
        ]

    def _asked(self, person: int, about: int) -> dict[str, str]:
        first, middle, last = self.names(person)
        phrasings = self.task.lists.questions[about]
        asked, name, somebody = phrasings[0], f"{first} {middle} {last}", int(person == 0)
        question = filled(asked, name)
        bare = question.removesuffix(" ?")
        example = filled(asked, " ".join(self.names(somebody)))
        return {
            **{f"question{k}": filled(words, name) for k, words in enumerate(phrasings[1:], 2)},
            **{"name": name, "attribute": ATTRIBUTES[about], "question": question, "bare": bare},
            **{"lower": question.lower(), "upper": question.upper(), "backwards": f"{' '.join(bare.split()[::-1])} ?"},
            **{"without_middle": filled(asked, f"{first} {last}"), "first_alone": filled(asked, first)},
            **{"surname_first": filled(asked, f"{last} {first} {middle}"), "last_alone": filled(asked, last)},
            **{"example": f"{example} Answer : {self.value(somebody, about)} ."},
        }

    def _told(self, person: int, about: int) -> dict[str, str]:
        name = " ".join(self.names(person))
        heads = [words[: words.index(VALUE)] for words in self.task.lists.templates[about]]
        found = {"sentence2": filled(heads[1], name)} if len(heads) > 1 else {}
        pronouns = (HE, SHE)[self.world.genders[person]]
        return found | {"sentence": filled(heads[0], name), "pronoun": filled(heads[0], name, pronouns)}

    def _until_value(self, document: Example, about: int) -> str:
        told = (document.labels["part"] == VALUE_PART) & (document.labels["attribute"] == about)
        read = document.tokens[1 : told.argmax()]
        words = self.task.speller.decode(read) if self.task.speller else read
        return " ".join(self.task.kit.vocab.decode(words))

    def names(self, person: int) -> list[str]:
        """First, middle and last name."""
        lists = self.task.lists
        parts = zip((lists.first, lists.middle, lists.last), self.world.names[person], strict=True)
        return [entries[number] for entries, number in parts]

    def value(self, person: int, about: int) -> str:
        """The words of the true value."""
        return " ".join(self.task.kit.vocab.decode(self.task.value_ids(self.world, person, about)))


def filled(words: tuple[str, ...], name: str, pronouns: tuple[str, ...] | None = None) -> str:
    """The words of a sentence with the name, or with the pronouns (in the order of PERSON), for the person."""
    by_name = [f"{name} 's" if slot in POSSESSIVE else name for slot in PERSON]
    person = dict(zip(PERSON, pronouns or by_name, strict=True))
    return " ".join(person.get(word, word) for word in words)


def spelled(task: BioS, format: Format, slots: dict[str, str]) -> np.ndarray:
    """The prompt's ids (T,). Raises UserError that says what the task has no words, spaces or sentences for."""
    try:
        words = format.text.format(**slots).split()
    except KeyError as missing:
        raise UserError(f"the lists have no {missing.args[0]}") from None
    if format.respaced and not task.speller:
        raise UserError("a vocabulary of words has no spaces")
    parts: list[np.ndarray] = []
    while words:
        special = next((i for i, word in enumerate(words) if word in (BOS, EOS)), len(words))
        parts.append(_plain(task, words[:special], format.respaced))
        parts.append(task.vocab().encode(words[special : special + 1]))
        words = words[special + 1 :]
    return np.concatenate(parts)


def _plain(task: BioS, words: list[str], respaced: Callable[[str], str] | None) -> np.ndarray:
    if task.speller:
        text = "".join(map(with_space, words))
        try:
            return task.speller.spelling(respaced(text) if respaced else text)
        except UserError as error:
            raise UserError(f"{error.args[0].partition(' (')[0]}: it never occurs") from None
    unknown = [word for word in words if word not in task.kit.vocab.index]
    if unknown:
        raise UserError(f"the vocabulary has no word {unknown[0]!r}")
    return task.kit.vocab.encode(words)


def put(task: BioS, format: Format, questions: Questions, slots: list[dict[str, str]]) -> Questions:
    """The same questions in another format; slots: of each. Raises UserError as `spelled` does."""
    prompts = [spelled(task, format, found) for found in slots]
    rests = [document[p:] for document, p in zip(questions.documents, questions.prompts, strict=True)]
    return Questions(
        [np.concatenate(pair) for pair in zip(prompts, rests, strict=True)], np.array([len(p) for p in prompts]),
        questions.values, questions.people, questions.about, questions.choices,
    )  # fmt: skip
