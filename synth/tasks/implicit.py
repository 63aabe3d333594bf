"""A grammar hidden behind bags of words (Physics of Language Models, Part 1, result 10: implicit CFGs).

Every terminal of a grammar is a bag of words, and where the terminal stood one of its words is written. That is a
grammar again, with one level more, whose rules are "terminal -> word"; so samples, labels and all exact oracles are
those of Cfg, and exact also where bags overlap and nobody can tell from a word which terminal it stands for.
"""

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
    """grammar and root: as for Cfg, the hidden grammar; its K terminals are never seen.
    words: how many words there are, w1, w2, ...
    bags: "disjoint": word i, counted from 0, belongs to terminal i mod K; "overlap": every terminal draws
        3 words / (2 K) words with replacement and keeps those that differ, so that a word may be in several bags or in
        none; the bags are drawn once a world.
    uniform: whether all words of a bag are equally probable, or the q-th of the bag, in order of disjoint bags' numbers
        and of overlapping bags' draws, q times as probable as the first.
    """

    words: int = 300
    bags: Bags = "disjoint"
    uniform: bool = True

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
        if self.words < (least := len(self.hidden().terminals)):
            raise UserError(f"{self.words} words cannot fill {least} bags; give at least {least}")

    def hidden(self) -> cfg.Grammar:
        """The grammar behind the bags."""
        return super().world()

    def world(self, seed: int = 0) -> cfg.Grammar:
        """The grammar of the words: the hidden one and a last level "terminal -> word". Words in no bag are listed too,
        so that the vocabulary is the same in every world. Raises UserError on a grammar that cannot be read."""
        return _worded(self.hidden(), self.words, self.bags, self.uniform, seed if self.bags == "overlap" else 0)

    def vocab(self) -> Vocab:
        return Vocab(_names(self.words))

    def floors(self, world: cfg.Grammar) -> dict[str, float]:
        """As for Cfg, but valid is what shuffled words reach: of 200 true sentences, all words put in random order.
        Overlapping bags allow so many readings that such noise is often valid."""
        tokens, offsets, _ = cfg.sample(world, rng("shuffled words"), 200)
        shuffled = rng("order of shuffled words").permutation(tokens)
        return super().floors(world) | {"valid": float(cfg.is_member(world, shuffled, offsets).mean())}


def memberships(world: cfg.Grammar) -> np.ndarray:
    """Pr[word | terminal], (K, words), of the world of an ImplicitCfg: zero where the word is not in the bag."""
    number = {word: i for i, word in enumerate(world.terminals)}
    chances = np.zeros((len(world.levels[-2]), len(number)))
    for row, terminal in zip(chances, world.levels[-2], strict=True):
        row[[number[word] for (word,) in world.rules[terminal]]] = world.weights[terminal]
    return chances


@lru_cache(maxsize=32)  # a world is asked for often, and compiled once
def _worded(hidden: cfg.Grammar, words: int, bags: Bags, uniform: bool, seed: int) -> cfg.Grammar:
    names, kinds = _names(words), len(hidden.terminals)
    rules, weights = dict(hidden.rules), dict(hidden.weights)
    for k, terminal in enumerate(hidden.terminals):
        # the same bags whether uniform or not, so that the two can be compared
        drawn = rng("bags", seed, words, kinds, k).integers(0, words, max(1, words * 3 // (2 * kinds)))
        bag = list(dict.fromkeys(drawn.tolist())) if bags == "overlap" else range(k, words, kinds)
        rules[terminal] = tuple((names[i],) for i in bag)
        chances = np.ones(len(bag)) if uniform else np.arange(1, len(bag) + 1)
        weights[terminal] = tuple((chances / chances.sum()).tolist())
    return cfg.Grammar(f"{hidden.name} in bags", (*hidden.levels, names), rules, weights)


def _names(words: int) -> tuple[str, ...]:
    return tuple(f"w{i + 1}" for i in range(words))
