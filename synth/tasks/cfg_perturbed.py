"""A grammar's sentences, some of the training ones with faults (Physics of Language Models, Part 1, arXiv 2305.13673,
results 11 to 13).

The full text of the paper was not at hand. From a reproduction's notes: three kinds of perturbation, and 15% for
prefixes; from memory: the strengths of the kinds (15%, 10%, 5%) and, less surely, level 3. That a random symbol may be
the one it replaces, and that the fixed permutation is each level's cycle, are our readings.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from synth import cfg
from synth.errors import UserError
from synth.task import Block
from synth.tasks.cfg import Cfg

Kind = Literal["terminal", "random", "fixed"]
STRENGTHS: dict[Kind, float] = {"terminal": 0.15, "random": 0.10, "fixed": 0.05}  # the paper's


@dataclass(frozen=True)
class PerturbedCfg(Cfg):
    """kind: what is replaced by what. "terminal": any terminal, by one drawn evenly from all terminals; "random": a
    nonterminal of one level, by one drawn evenly from that level; "fixed": a nonterminal of one level, by the next of
    that level, the last by the first. Below a replaced nonterminal grows what the one in its place stands for.
    strength: the probability that a symbol is replaced; share: the paper's gamma, the share of training sentences that
    are perturbed at all; level: of the nonterminals, as in the paper 1 for the root (kind "terminal" has no use of it).

    Documents for validation and test are clean, and scores and floors are those of Cfg, for a perturbed sentence is
    mostly no sentence of the grammar. The slice `faulty` is 1 for a perturbed document, even where nothing was hit.
    """

    kind: Kind = "terminal"
    strength: float = STRENGTHS["terminal"]
    share: float = 1.0
    level: int = 3

    name: ClassVar[str] = "cfg-perturbed"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 1 (arXiv 2305.13673), results 11 to 13; strengths and level from memory"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        f"cfg3b-{kind}": {"grammar": "cfg3b", "kind": kind, "strength": strength}
        for kind, strength in STRENGTHS.items()
    }

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UserError(f"kind={self.kind!r} is unknown; choose one of {', '.join(get_args(Kind))}")
        for name in ("strength", "share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)} is no probability; give a number from 0 to 1")

    def world(self, seed: int = 0) -> cfg.Grammar:
        """The grammar, as Cfg. Raises UserError also when it has no nonterminals to exchange on this level."""
        grammar = super().world(seed)
        if self.kind != "terminal" and not 2 <= self.level < grammar.depth:
            last = grammar.depth - 1
            raise UserError(
                f"level={self.level} of {grammar.name} has none of its inner nonterminals; give 2 to {last}"
            )
        return grammar

    def faults(self, world: cfg.Grammar) -> cfg.Faults:
        """What befalls the training sentences."""
        level = world.depth if self.kind == "terminal" else self.level
        size = len(world.levels[level - 1])
        images = [(symbol + 1) % size for symbol in range(size)] if self.kind == "fixed" else ()
        return cfg.Faults(level, self.strength, self.share, images)

    def sample_block(
        self, world: cfg.Grammar, rng: np.random.Generator, split: str, n: int, labels: bool = False
    ) -> Block:
        """n sentences as Cfg; labels of training sentences are those of the tree as it grew, faults included."""
        if split == "train":
            terminals, inner, truth, perturbed = cfg.sample_perturbed(world, rng, n, self.faults(world), labels)
            block = self.written(world, terminals, inner, truth)
        else:
            block, perturbed = super().sample_block(world, rng, split, n, labels), np.zeros(n, bool)
        return replace(block, slices={**block.slices, "faulty": perturbed.astype(np.int64)})
