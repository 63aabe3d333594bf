"""bioS: biographies from sentence templates (Part 3.1, arXiv 2309.14316, section 2.1; Part 3.3, arXiv 2404.05405).

Six facts a person, uniform and independent except that the employer determines its city; a sentence for each.
"""

from dataclasses import dataclass, field, fields
from functools import cached_property
from math import factorial, log, log2
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from synth.bio import Facts, PeopleTask
from synth.bio import codec as codecs
from synth.bio.lexicon import Kit, mentions
from synth.bio.prose import Prose, plan
from synth.bio.prose import load as load_prose
from synth.bio.value_lists import ATTRIBUTES, Pools, load
from synth.bio.world import check_names, choices, distinct
from synth.errors import UserError
from synth.random.rng import below, words
from synth.task import Block, Example
from synth.vocab import Vocab

CITY = 5  # the attribute that another determines: the employer's city
Half = Literal["all", "first", "second"]
Kin = TypeVar("Kin", bound="BioS")
Wording = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sentences (n, m), the attribute (n, m) that each is about, and how it speaks of the person (n, m)."""


@dataclass(frozen=True)
class World:
    """names (N, 3) numbers of the first, middle and last name; values (N, 6) numbers of birth date, birth city,
    university, major, employer and employer's city (numbered as its employer); genders (N,) 0 he, 1 she."""

    names: np.ndarray
    values: np.ndarray
    genders: np.ndarray

    @cached_property
    def person(self) -> dict[tuple[int, ...], int]:
        """From the numbers of a full name to the person's number."""
        return {tuple(name): i for i, name in enumerate(self.names.tolist())}


@dataclass(frozen=True)
class BioS(PeopleTask):
    """people N. wordings: how many wordings a person has, one an epoch in turn (1 is the papers' "single" and "simple",
    M "multiM"), or 0 for a fresh one in every exposure. permute: the sentences are shuffled, each wording in P ways
    that take turns ("permuteP"; fresh ones if wordings is 0). fullname: the name instead of pronouns. reverse 1, 2 or
    6: the name comes first in the second or third sentence, or after all six. style "prose" is the papers' bioR: free
    prose by a rewriting grammar instead of a template for each fact.

    first ... employers: how much of each list is used; templates: how many sentences (in prose: phrases of
    each kind) an attribute has. The vocabulary
    holds what can occur and nothing else, so that it shrinks with them. questions: phrasings of each question that the
    vocabulary is to have words for (see bioS-qa); reasoning: it has those of bioS-manipulate too. pools: a folder with
    your own lists. codec: "word" (an id a word),
    "byte", "bpe:SIZE" (learned from these biographies), or a tokenizer.json, such as GPT-2's, or its folder. A larger N
    adds people and changes nobody. half: whom documents tell of; the world and its vocabulary hold all N, items, facts
    and floors only the half.
    """

    people: int = 1000
    wordings: int = 0
    permute: int = 0
    fullname: bool = False
    reverse: int = 0
    style: Literal["templates", "prose"] = "templates"
    first: int = 400
    middle: int = 400
    last: int = 1000
    years: int = 200
    months: int = 12
    days: int = 28
    cities: int = 200
    universities: int = 300
    majors: int = 100
    employers: int = 263
    templates: int = 48
    questions: int = 0
    reasoning: bool = field(default=False, metadata={"neutral": False})
    pools: str | None = None
    codec: str = "word"
    half: Half = field(default="all", metadata={"neutral": "all"})

    name: ClassVar[str] = "bioS"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 3.1 (arXiv 2309.14316), section 2.1; Part 3.3 (arXiv 2404.05405), section 2"
    implied: ClassVar[dict[str, str]] = {ATTRIBUTES[CITY]: "employer"}
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
        codecs.check(self.codec)
        check_names(self.people, self.lists.names)
        if not self.span[0] < self.span[1]:
            raise UserError(f"{self.name}: the {self.half} half of {self.people} people is empty; raise people")

    @property
    def span(self) -> tuple[int, int]:
        """The numbers [a, b) of the people whom documents tell of."""
        middle = self.people // 2
        return {"all": (0, self.people), "first": (0, middle), "second": (middle, self.people)}[self.half]

    @cached_property
    def lists(self) -> Pools:
        """The lists in use."""
        sizes = {name: getattr(self, name) for name in ("first", "middle", "last")}
        sizes |= {name: getattr(self, name) for name in ("cities", "universities", "majors", "employers")}
        dates = {name: getattr(self, name) for name in ("years", "months", "days")}
        return load(self.pools).cut(**dates, templates=self.templates, questions=self.questions, **sizes)

    @cached_property
    def kit(self) -> Kit:
        """The vocabulary, and what documents are copied from."""
        return Kit.of(self.lists, self.fullname, self.reverse, self.prose, self.reasoning)

    @cached_property
    def prose(self) -> Prose | None:
        """The rewriting grammar, if the style is prose."""
        return load_prose(self.pools).cut(self.templates) if self.style == "prose" else None

    def recast(self, kind: "type[Kin]", **changes: Any) -> "Kin":
        """Another task about the same people: its fields are those that this has as a BioS, with these changes."""
        return kind(**{f.name: getattr(self, f.name) for f in fields(BioS)} | changes)

    @cached_property
    def speller(self) -> codecs.Codec | None:
        """What spells the words, unless each has an id of its own. It is the same for bioS-qa with equal fields."""
        if self.codec == "word":
            return None
        if self.codec == "byte":
            return codecs.by_bytes(self.kit.vocab)
        plain = self.recast(BioS, codec="word", half="all")
        people = np.arange(min(self.people, 2000))
        block = plain.render_block(plain.world(0), people, np.zeros_like(people), ("codec",), "train")
        texts = [plain.vocab().decode(block[i].tokens[1:-1]) for i in range(len(block))]
        return codecs.by_name(self.kit.vocab, self.codec, texts)

    def vocab(self) -> Vocab:
        return self.speller.vocab if self.speller else self.kit.vocab

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, such as a question, as they are in training. Raises UserError on a word that the
        vocabulary lacks, and on a space at the end."""
        if self.speller:
            return self.speller.encode(text)
        codecs.check_text(text)
        return self.kit.vocab.encode(codecs.split(text, self.kit.vocab))

    @property
    def attributes(self) -> tuple[str, ...]:
        """The six, then the pronoun; the employer's city is no fact of its own."""
        return (*ATTRIBUTES, "pronoun")

    def world(self, seed: int) -> World:
        """The people; with equal lists, those of a larger world begin with those of a smaller one."""
        lists = self.lists
        names = distinct(("bioS names", seed), (self.first, self.middle, self.last), self.people)
        drawn = choices(("bioS values", seed), (*lists.sizes, 2), self.people)
        return World(names, drawn[:, [0, 1, 2, 3, 4, 4]], drawn[:, 5])

    def items(self, world: World) -> int:
        return self.span[1] - self.span[0]

    def facts(self, world: World | None = None) -> Facts:
        """N log2(N0/N) and N log2 S0, N the people of the half. S0 counts the pronoun unless fullname leaves it out,
        and no employer's city."""
        sizes = (*self.lists.sizes, 1 if self.fullname else 2)
        counted = [name for name in self.attributes if name != ATTRIBUTES[CITY]]
        values = {name: log2(size) for name, size in zip(counted, sizes, strict=True)}
        return Facts(self.span[1] - self.span[0], log2(self.lists.names), values)

    def render_block(
        self, world: World, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Biographies end to end, of the people of the half."""
        return super().render_block(world, self.span[0] + items, epochs, stream, split, labels)

    def wording(self, stream: tuple[Any, ...], epochs: np.ndarray, people: np.ndarray) -> Wording:
        n, ways = len(people), self.wordings * max(self.permute, 1)
        entry = epochs % ways if ways else epochs
        wording = entry % self.wordings if ways else entry
        if self.prose:
            return plan(self.prose, stream, wording, people, self.fullname)[:3]
        about = np.tile(np.arange(6), (n, 1))
        sentences = about * self.templates + below(words((*stream, "wording"), wording, people, 6), self.templates)
        if self.permute:
            about = np.argsort(words((*stream, "order"), entry, people, 6), axis=1)
            sentences = np.take_along_axis(sentences, about, axis=1)
        if self.reverse == 6:
            about = np.pad(about, ((0, 0), (0, 1)))  # the naming sentence has no value, so any attribute will do
            sentences = np.pad(sentences, ((0, 0), (0, 1)), constant_values=6 * self.templates)
        return sentences, about, np.broadcast_to(mentions(self.fullname, self.reverse), about.shape)

    def write(
        self, world: World, people: np.ndarray, wording: Wording, labels: bool,
        prompt: Literal["name", "value"] = "name",
    ) -> Block:  # fmt: skip
        """Biographies of people (n,) end to end. The prompt reaches to the end of the first name, if that opens it, or
        to the first value."""
        from synth.bio import numba_writer

        sentences, about, spoken = wording
        kit, tables = self.kit, self.kit.tables
        names = np.stack([ids[world.names[people, i]] for i, ids in enumerate(kit.names)], axis=1)
        values = kit.bases[about] + world.values[people[:, None], about]
        texts = 6 if self.prose else spoken.shape[1]  # the other pieces of prose are one word, or a name and 's
        longest = 2 + 4 * spoken.shape[1] + texts * (tables.sentences.longest + kit.values.longest)
        arrays = numba_writer.block_arrays(len(people), longest, labels)
        tokens, part, attribute, offsets, named, valued = arrays
        total = numba_writer.write(
            names, world.genders[people], values, sentences, about, spoken,
            tables.sentences.flat, tables.sentences.starts, kit.values.flat, kit.values.starts,
            tables.pronouns, tables.somebody.flat, tables.somebody.starts, tables.possessive, kit.vocab.eos, *arrays,
        )  # fmt: skip
        columns = {"part": part[:total].copy(), "attribute": attribute[:total].copy()} if labels else {}
        mask = np.ones(total, bool)
        mask[offsets[:-1]] = False
        prompts = valued if prompt == "value" else np.ones_like(named) if self.reverse else named
        block = Block(tokens[:total].copy(), offsets, mask, prompts, {"person": people}, columns)
        return self.speller.block(block) if self.speller else block

    def value_ids(self, world: World, person: int, attribute: int) -> tuple[int, ...]:
        """The ids (in kit.vocab) of the words of a value."""
        texts, row = self.kit.values, self.kit.bases[attribute] + world.values[person, attribute]
        return tuple(texts.flat[texts.starts[row] : texts.starts[row + 1]].tolist())

    def read(self, world: World, document: np.ndarray) -> tuple[int | None, dict[int, tuple[int, ...]]]:
        """What a document (T,) says, from its text alone: the person it names (None if nobody here) and, for each
        attribute that it tells of that person, the ids (in kit.vocab) of the words of its value."""
        document = self.speller.decode(document) if self.speller else document
        name, said = self.kit.reader.read(np.asarray(document).tolist())
        return (world.person.get(name) if name else None), said

    def score(self, world: World, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """facts: share of the person's six attributes that the document tells rightly; 0 when it names nobody."""
        person, said = self.read(world, completion if example is None else np.concatenate([example.prompt, completion]))
        right = [person is not None and said.get(a) == self.value_ids(world, person, a) for a in range(6)]
        return {"facts": float(np.mean(right))}

    @property
    def guess(self) -> float:
        """Mean chance over the six attributes of the likeliest value: a city that many employers share."""
        cities = np.unique(self.lists.employer_cities, return_counts=True)[1]
        return float(np.mean([*(1 / size for size in self.lists.sizes), cities.max() / self.employers]))

    def floors(self, world: World) -> dict[str, float]:
        """facts: what knowing the lists but no person scores; loss: nats a token when all facts but not who
        comes next in which wording are known, with the mean length of 1000 biographies; bits: what the people hold."""
        n = self.span[1] - self.span[0]
        people = np.arange(min(n, 1000))
        fresh = 6 * log(self.templates) + (log(factorial(6)) if self.permute else 0.0)
        if self.prose:
            fresh = float(plan(self.prose, ("floors",), people, people, self.fullname)[3].mean())
        wording = min(fresh, log(self.wordings * max(self.permute, 1))) if self.wordings else fresh
        length = float(self.render_block(world, people, np.zeros_like(people), ("floors",), "train").lengths.mean()) - 1
        return {"facts": self.guess, "loss": (log(n) + wording) / length, "bits": self.facts().bits}
