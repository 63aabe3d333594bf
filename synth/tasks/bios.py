"""bioS: biographies of six facts (Part 3.1, arXiv 2309.14316, section 2.1; Part 3.3, arXiv 2404.05405)."""

from dataclasses import dataclass, field, fields
from functools import cached_property
from math import factorial, log, log2
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from synth.bio import InformationContent, PeopleTask
from synth.bio import codec as codecs
from synth.bio.lexicon import Lexicon, mention_kinds
from synth.bio.prose_grammar import ProseGrammar, sample_prose_wording
from synth.bio.prose_grammar import load_prose_grammar as load_prose
from synth.bio.value_lists import ATTRIBUTES, ValueLists, load_value_lists
from synth.bio.world import check_enough_names, sample_distinct_rows, sample_rows
from synth.errors import UserError
from synth.mixture import parts_of
from synth.random.rng import bounded_integers, random_uint64
from synth.task import Block, Example, TrainingData
from synth.vocab import Vocab

EMPLOYER_CITY = 5  # the attribute that the employer determines
Half = Literal["all", "first", "second"]
BioSTask = TypeVar("BioSTask", bound="BioS")
Wording = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sentences, their attributes, and how they mention the person, each (n, m)."""


@dataclass(frozen=True)
class World:
    """names (N, 3): indices of first, middle and last name; values (N, 6): indices of birth date, birth city,
    university, major, employer and employer's city (that of the employer); genders (N,): 0 he, 1 she."""

    names: np.ndarray
    values: np.ndarray
    genders: np.ndarray

    @cached_property
    def person(self) -> dict[tuple[int, ...], int]:
        """Number of the person by the indices of the full name."""
        return {tuple(name): i for i, name in enumerate(self.names.tolist())}


@dataclass(frozen=True)
class BioS(PeopleTask):
    """Biographies of people with six facts each, from sentence templates or free prose.

    Example: `<bos> Ronnie Latoya Ramsey was brought into being on June 10 , 2036 . Her home town is Eureka , CA . Her
    higher education took place at New York College . She graduated in Creative Writing . These days her time belongs to
    Harbor Robotics . She earns a living in New York , NY . <eos>`.
    The vocabulary holds what can occur and nothing else, so it shrinks with the lists. A larger N only adds people.
    Source: Part 3.1 (arXiv 2309.14316), section 2.1; Part 3.3 (arXiv 2404.05405), section 2.
    Floors: facts of the most likely values, loss of knowing every fact, bits of information in the people.
    """

    people: int = 1000
    """Number of people, N."""
    wordings: int = 0
    """Wordings per person, one per epoch in turn (1: single, M: multiM); 0: fresh in every exposure."""
    permute: int = 0
    """Sentence orders per wording, in turn (permuteP; fresh if wordings is 0); 0: the usual order."""
    fullname: bool = False
    """Use the full name in place of pronouns."""
    reverse: int = 0
    """Where the name first occurs. 0: first sentence; 1, 2: second, third; 6: after all six."""
    style: Literal["templates", "prose"] = "templates"
    """A "templates" sentence per fact, or "prose" from a rewriting grammar (bioR)."""
    first: int = 400
    """First names in use."""
    middle: int = 400
    """Middle names in use."""
    last: int = 1000
    """Last names in use."""
    years: int = 200
    """Birth years in use."""
    months: int = 12
    """Birth months in use."""
    days: int = 28
    """Days of the month in use."""
    cities: int = 200
    """Birth cities in use."""
    universities: int = 300
    """Universities in use."""
    majors: int = 100
    """Majors in use."""
    employers: int = 263
    """Employers in use; the employer determines its city."""
    templates: int = 48
    """Sentences per attribute (in prose: phrases of each kind)."""
    questions: int = 0
    """Phrasings per question that the vocabulary covers (see bioS-qa)."""
    reasoning: bool = field(default=False, metadata={"neutral": False})
    """The vocabulary covers the questions of bioS-manipulate."""
    pools: str | None = None
    """Folder with your own lists of names, values and sentences."""
    codec: str = "word"
    """"word", "byte", "bpe:SIZE" (trained on these biographies), or a tokenizer.json or its folder."""
    half: Half = field(default="all", metadata={"neutral": "all"})
    """People whom the documents are about; the world and the vocabulary cover all N."""

    name: ClassVar[str] = "bioS"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 3.1 (arXiv 2309.14316), section 2.1; Part 3.3 (arXiv 2404.05405), section 2"
    implied: ClassVar[dict[str, str]] = {ATTRIBUTES[EMPLOYER_CITY]: "employer"}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "bioS-simple": {"wordings": 1},
        "bioS-multi5-permute": {"wordings": 5, "permute": 1},
        "bioS-reverse6": {"wordings": 5, "reverse": 6},
        "bioR": {"style": "prose"},
    }

    def __post_init__(self) -> None:
        if self.style not in ("templates", "prose"):
            raise UserError(f"bioS: style={self.style!r} must be templates or prose")
        if self.style == "prose" and (self.permute or self.reverse):
            raise UserError("bioS: prose has orders of its own; leave out permute and reverse")
        if self.wordings < 0 or self.permute < 0:
            raise UserError("bioS: wordings and permute must not be negative; 0 is fresh wording and the usual order")
        if self.reverse not in (0, 1, 2, 6) or (self.reverse and self.fullname):
            raise UserError("bioS: reverse must be 0, 1, 2 or 6, and goes without fullname")
        if self.half not in ("all", "first", "second"):
            raise UserError(f"{self.name}: half={self.half!r} must be all, first or second")
        codecs.check_codec_name(self.codec)
        check_enough_names(self.people, self.value_lists.names)
        if not self.people_range[0] < self.people_range[1]:
            raise UserError(f"{self.name}: the {self.half} half of {self.people} people is empty; raise people")

    @property
    def people_range(self) -> tuple[int, int]:
        """The range [a, b) of people whom documents are about."""
        middle = self.people // 2
        return {"all": (0, self.people), "first": (0, middle), "second": (middle, self.people)}[self.half]

    @cached_property
    def value_lists(self) -> ValueLists:
        """The lists of names, values and sentences in use."""
        sizes = {name: getattr(self, name) for name in ("first", "middle", "last")}
        sizes |= {name: getattr(self, name) for name in ("cities", "universities", "majors", "employers")}
        dates = {name: getattr(self, name) for name in ("years", "months", "days")}
        return load_value_lists(self.pools).truncate(
            **dates, templates=self.templates, questions=self.questions, **sizes
        )

    @cached_property
    def lexicon(self) -> Lexicon:
        """Word vocabulary, sentence tables and parser."""
        return Lexicon.build(self.value_lists, self.fullname, self.reverse, self.prose, self.reasoning)

    @cached_property
    def prose(self) -> ProseGrammar | None:
        """The rewriting grammar; None unless the style is prose."""
        return load_prose(self.pools).truncate(self.templates) if self.style == "prose" else None

    def as_task(self, kind: "type[BioSTask]", **changes: Any) -> "BioSTask":
        """A task of class `kind` about the same people: with the fields of BioS from this one, and changes."""
        return kind(**{f.name: getattr(self, f.name) for f in fields(BioS)} | changes)

    @cached_property
    def text_codec(self) -> codecs.Codec | None:
        """The subword codec (None for "word"); the same for bioS-qa with equal fields."""
        if self.codec == "word":
            return None
        if self.codec == "byte":
            return codecs.byte_codec(self.lexicon.vocab)
        plain = self.as_task(BioS, codec="word", half="all")
        people = np.arange(min(self.people, 2000))
        block = plain.render_block(plain.world(0), people, np.zeros_like(people), ("codec",), "train")
        texts = [plain.vocab().decode(block[i].tokens[1:-1]) for i in range(len(block))]
        return codecs.make_codec(self.lexicon.vocab, self.codec, texts)

    def vocab(self) -> Vocab:
        return self.text_codec.vocab if self.text_codec else self.lexicon.vocab

    def encode(self, text: str) -> np.ndarray:
        """Ids (T,) of a text as in training. Raises UserError for an unknown word or a space at the end."""
        if self.text_codec:
            return self.text_codec.encode(text)
        codecs.check_text(text)
        return self.lexicon.vocab.encode(codecs.split_words(text, self.lexicon.vocab))

    @property
    def attributes(self) -> tuple[str, ...]:
        """The six attributes and the pronoun."""
        return (*ATTRIBUTES, "pronoun")

    def world(self, seed: int) -> World:
        """The people; with otherwise equal fields, those of a larger world begin with those of a smaller one."""
        lists = self.value_lists
        names = sample_distinct_rows(("bioS names", seed), (self.first, self.middle, self.last), self.people)
        values = sample_rows(("bioS values", seed), (*lists.sizes, 2), self.people)
        return World(names, values[:, [0, 1, 2, 3, 4, 4]], values[:, 5])

    def num_items(self, world: World) -> int:
        return self.people_range[1] - self.people_range[0]

    def information_content(self, world: World | None = None) -> InformationContent:
        """N log2(N0/N) + N log2 S0 bits, with N the people of the half. S0 counts the pronoun (unless fullname), but
        not the employer's city."""
        sizes = (*self.value_lists.sizes, 1 if self.fullname else 2)
        counted = [name for name in self.attributes if name != ATTRIBUTES[EMPLOYER_CITY]]
        values = {name: log2(size) for name, size in zip(counted, sizes, strict=True)}
        return InformationContent(self.people_range[1] - self.people_range[0], log2(self.value_lists.names), values)

    def render_block(
        self, world: World, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Biographies of the people of the half."""
        return super().render_block(world, self.people_range[0] + items, epochs, stream, split, labels)

    def sample_wording(self, stream: tuple[Any, ...], epochs: np.ndarray, people: np.ndarray) -> Wording:
        n, ways = len(people), self.wordings * max(self.permute, 1)
        entry = epochs % ways if ways else epochs
        wording = entry % self.wordings if ways else entry
        if self.prose:
            return sample_prose_wording(self.prose, stream, wording, people, self.fullname)[:3]
        about = np.tile(np.arange(6), (n, 1))
        sentences = about * self.templates + bounded_integers(
            random_uint64((*stream, "wording"), wording, people, 6), self.templates
        )
        if self.permute:
            about = np.argsort(random_uint64((*stream, "order"), entry, people, 6), axis=1)
            sentences = np.take_along_axis(sentences, about, axis=1)
        if self.reverse == 6:
            about = np.pad(about, ((0, 0), (0, 1)))  # the naming sentence has no value: any attribute will do
            sentences = np.pad(sentences, ((0, 0), (0, 1)), constant_values=6 * self.templates)
        return sentences, about, np.broadcast_to(mention_kinds(self.fullname, self.reverse), about.shape)

    def write_documents(
        self, world: World, people: np.ndarray, wording: Wording, labels: bool,
        prompt: Literal["name", "value"] = "name",
    ) -> Block:  # fmt: skip
        """Biographies of people (n,). The prompt ends with the first name (with <bos> if `reverse`), or before the
        first value."""
        from synth.bio import numba_writer

        sentences, about, mentions = wording
        lexicon, tables = self.lexicon, self.lexicon.tables
        names = np.stack([ids[world.names[people, i]] for i, ids in enumerate(lexicon.names)], axis=1)
        values = lexicon.value_offsets[about] + world.values[people[:, None], about]
        texts = 6 if self.prose else mentions.shape[1]  # other pieces of prose are one word, or a name and 's
        longest = 2 + 4 * mentions.shape[1] + texts * (tables.sentences.longest + lexicon.values.longest)
        arrays = numba_writer.allocate_block(len(people), longest, labels)
        tokens, part, attribute, offsets, name_end, first_value = arrays
        total = numba_writer.write_biographies(
            names, world.genders[people], values, sentences, about, mentions,
            tables.sentences.flat, tables.sentences.starts, lexicon.values.flat, lexicon.values.starts,
            tables.pronouns, tables.role_phrases.flat, tables.role_phrases.starts, tables.possessive_id,
            lexicon.vocab.eos, *arrays,
        )  # fmt: skip
        columns = {"part": part[:total].copy(), "attribute": attribute[:total].copy()} if labels else {}
        mask = np.ones(total, bool)
        mask[offsets[:-1]] = False
        prompts = first_value if prompt == "value" else np.ones_like(name_end) if self.reverse else name_end
        block = Block(tokens[:total].copy(), offsets, mask, prompts, {"person": people}, columns)
        return self.text_codec.encode_block(block) if self.text_codec else block

    def value_ids(self, world: World, person: int, attribute: int) -> tuple[int, ...]:
        """Word ids (in lexicon.vocab) of a person's value."""
        texts, row = self.lexicon.values, self.lexicon.value_offsets[attribute] + world.values[person, attribute]
        return tuple(texts.flat[texts.starts[row] : texts.starts[row + 1]].tolist())

    def parse(self, world: World, document: np.ndarray) -> tuple[int | None, dict[int, tuple[int, ...]]]:
        """The person that a document (T,) of ids names (None if nobody of the world), and the word ids (in
        lexicon.vocab) of the values it states, by attribute."""
        document = self.text_codec.decode(document) if self.text_codec else document
        name, values = self.lexicon.parser.parse(np.asarray(document).tolist())
        return (world.person.get(name) if name else None), values

    def score(self, world: World, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """facts: share of the person's six attributes that are right; 0 if the document names nobody."""
        document = completion if example is None else np.concatenate([example.prompt, completion])
        person, values = self.parse(world, document)
        right = [person is not None and values.get(a) == self.value_ids(world, person, a) for a in range(6)]
        return {"facts": float(np.mean(right))}

    @property
    def chance_accuracy(self) -> float:
        """Accuracy of the most likely value, as the mean over the six attributes."""
        cities = np.unique(self.value_lists.employer_cities, return_counts=True)[1]
        return float(np.mean([*(1 / size for size in self.value_lists.sizes), cities.max() / self.employers]))

    def floors(self, world: World) -> dict[str, float]:
        """facts: of the most likely values; loss: nats a token of a model that knows every fact, but not the person and
        wording (mean length of 1000 biographies); bits."""
        n = self.people_range[1] - self.people_range[0]
        people = np.arange(min(n, 1000))
        fresh = 6 * log(self.templates) + (log(factorial(6)) if self.permute else 0.0)
        if self.prose:
            fresh = float(sample_prose_wording(self.prose, ("floors",), people, people, self.fullname)[3].mean())
        wording = min(fresh, log(self.wordings * max(self.permute, 1))) if self.wordings else fresh
        length = float(self.render_block(world, people, np.zeros_like(people), ("floors",), "train").lengths.mean()) - 1
        return {
            "facts": self.chance_accuracy,
            "loss": (log(n) + wording) / length,
            "bits": self.information_content().bits,
        }


def biographies_of(data: TrainingData) -> BioS:
    """The first biography task of training data or, if there are only questions, BioS(half="all") with their fields.

    Raises UserError if the data are not about the people of bioS.
    """
    about = [part for part in parts_of(data) if isinstance(part, BioS)]
    for part in about:
        if type(part) is BioS:
            return part
    if not about:
        raise UserError(f"{data.name} is not about the people of bioS; use bioS, questions about it, or a mixture")
    return about[0].as_task(BioS, half="all")
