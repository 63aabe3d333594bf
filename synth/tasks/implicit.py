"""Implicit context-free grammars: terminals as bags of words (Physics of Language Models, Part 1, result 10)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from synth import cfg
from synth.errors import UserError
from synth.random.rng import rng
from synth.tasks.cfg import Cfg
from synth.vocab import Vocab

Bags = Literal["disjoint", "overlap"]


@dataclass(frozen=True)
class ImplicitCfg(Cfg):
    """Sentences of a grammar in which every terminal is replaced by a random word of its bag (implicit CFG).

    Example (grammar="brackets", words=10): `<bos> w1 w1 w1 w10 w3 w10 w2 w4 w7 w2 w6 w8 w2 <eos>`. The K terminals of
    the hidden grammar are never shown. Overlapping bags are drawn once per world: 3 words / (2 K) draws with
    replacement for each terminal, duplicates dropped, so that a word may be in several bags or in none.
    Source: Part 1 (arXiv 2305.13673), result 10; kinds of bags as in the public PhysicsLM4 release.
    Floors: as Cfg, but valid is the share of valid sentences after shuffling the words of 200.
    """

    words: int = 300
    """Number of words: w1, w2, ..."""
    bags: Bags = "disjoint"
    """"disjoint": word i (from 0) belongs to terminal i mod K; "overlap": random bags."""
    uniform: bool = True
    """Words of a bag are equally likely; else the q-th is q times as likely as the first."""

    name: ClassVar[str] = "implicit_cfg"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 1 (arXiv 2305.13673), result 10; kinds of bags as in the public PhysicsLM4 release"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "implicit_disjoint": {},
        "implicit_overlap": {"bags": "overlap"},
        "implicit_nonuniform": {"bags": "overlap", "uniform": False},
    }

    def __post_init__(self) -> None:
        if self.bags not in get_args(Bags):
            raise UserError(f"bags={self.bags!r} is unknown; choose one of {', '.join(get_args(Bags))}")
        if self.words < (least := len(self.hidden_grammar().terminals)):
            raise UserError(f"{self.words} words cannot fill {least} bags; give at least {least}")

    def hidden_grammar(self) -> cfg.Grammar:
        """The grammar whose terminals are the bags."""
        return super().world()

    def world(self, seed: int = 0) -> cfg.Grammar:
        """The hidden grammar with a further level of rules "terminal -> word", so that all oracles of Cfg stay exact.

        Words in no bag are terminals too, for one vocabulary in all worlds. Raises UserError on an unreadable grammar.
        """
        return _grammar_of_words(
            self.hidden_grammar(), self.words, self.bags, self.uniform, seed if self.bags == "overlap" else 0
        )

    def vocab(self) -> Vocab:
        return Vocab(_word_names(self.words))

    def floors(self, world: cfg.Grammar) -> dict[str, float]:
        """As Cfg, but valid is the share of valid sentences after shuffling the words of 200 (with overlapping bags,
        noise is often valid)."""
        tokens, offsets, _ = cfg.sample(world, rng("shuffled words"), 200)
        shuffled = rng("order of shuffled words").permutation(tokens)
        return super().floors(world) | {"valid": float(cfg.is_member(world, shuffled, offsets).mean())}


def memberships(world: cfg.Grammar) -> np.ndarray:
    """Pr[word | terminal], (K, words), in the world of an ImplicitCfg."""
    number = {word: i for i, word in enumerate(world.terminals)}
    chances = np.zeros((len(world.levels[-2]), len(number)))
    for row, terminal in zip(chances, world.levels[-2], strict=True):
        row[[number[word] for (word,) in world.rules[terminal]]] = world.weights[terminal]
    return chances


@lru_cache(maxsize=32)  # a world is needed often and slow to compile
def _grammar_of_words(hidden: cfg.Grammar, words: int, bags: Bags, uniform: bool, seed: int) -> cfg.Grammar:
    names, kinds = _word_names(words), len(hidden.terminals)
    rules, weights = dict(hidden.rules), dict(hidden.weights)
    for k, terminal in enumerate(hidden.terminals):
        # the same bags whether uniform or not, so that the two can be compared
        members = rng("bags", seed, words, kinds, k).integers(0, words, max(1, words * 3 // (2 * kinds)))
        bag = list(dict.fromkeys(members.tolist())) if bags == "overlap" else range(k, words, kinds)
        rules[terminal] = tuple((names[i],) for i in bag)
        chances = np.ones(len(bag)) if uniform else np.arange(1, len(bag) + 1)
        weights[terminal] = tuple((chances / chances.sum()).tolist())
    return cfg.Grammar(f"{hidden.name} in bags", (*hidden.levels, names), rules, weights)


def _word_names(words: int) -> tuple[str, ...]:
    return tuple(f"w{i + 1}" for i in range(words))
