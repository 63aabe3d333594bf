"""Sentences of a grammar, perturbed in training (Physics of Language Models, Part 1, results 11 to 13).

The full text of the paper was not at hand. From a reproduction's notes: three kinds of perturbation, and 15% for
prefixes; from memory: the strengths (15%, 10%, 5%) and, less surely, level 3. Our readings: a random symbol may equal
the replaced one, and the fixed permutation is the cycle of each level.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from synth import cfg
from synth.errors import UserError
from synth.task import Block
from synth.tasks.cfg import Cfg

PerturbationKind = Literal["terminal", "random", "fixed"]
STRENGTHS: dict[PerturbationKind, float] = {"terminal": 0.15, "random": 0.10, "fixed": 0.05}  # the paper's


@dataclass(frozen=True)
class PerturbedCfg(Cfg):
    """Sentences of a grammar, some of the training sentences with random replacements.

    Example (grammar="brackets"): `<bos> ( D - D + <eos>`. A replaced nonterminal is expanded as its replacement.
    Documents for validation and test are clean; scores and floors are those of Cfg. The slice `faulty` is 1 for a
    document that was subject to replacement, even if no symbol was replaced.
    Source: Part 1 (arXiv 2305.13673), results 11 to 13; strengths and level from memory.
    """

    kind: PerturbationKind = "terminal"
    """"terminal": a terminal by a random one; "random", "fixed": a nonterminal by a random or the next one."""
    strength: float = STRENGTHS["terminal"]
    """Probability that a symbol is replaced."""
    share: float = 1.0
    """Share of training sentences that are subject to replacement (the paper's gamma)."""
    level: int = 3
    """Level of the replaced nonterminals, the root being 1 (unused for kind "terminal")."""

    name: ClassVar[str] = "cfg-perturbed"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 1 (arXiv 2305.13673), results 11 to 13; strengths and level from memory"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        f"cfg3b-{kind}": {"grammar": "cfg3b", "kind": kind, "strength": strength}
        for kind, strength in STRENGTHS.items()
    }

    def __post_init__(self) -> None:
        if self.kind not in get_args(PerturbationKind):
            raise UserError(f"kind={self.kind!r} is unknown; choose one of {', '.join(get_args(PerturbationKind))}")
        for name in ("strength", "share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)} is no probability; give a number from 0 to 1")

    def world(self, seed: int = 0) -> cfg.Grammar:
        """The grammar, as Cfg. Raises UserError also if the level has no inner nonterminals."""
        grammar = super().world(seed)
        if self.kind != "terminal" and not 2 <= self.level < grammar.depth:
            last = grammar.depth - 1
            raise UserError(
                f"level={self.level} of {grammar.name} has none of its inner nonterminals; give 2 to {last}"
            )
        return grammar

    def perturbation(self, world: cfg.Grammar) -> cfg.Perturbation:
        """The perturbation of training sentences."""
        level = world.depth if self.kind == "terminal" else self.level
        size = len(world.levels[level - 1])
        images = [(symbol + 1) % size for symbol in range(size)] if self.kind == "fixed" else ()
        return cfg.Perturbation(level, self.strength, self.share, images)

    def sample_block(
        self, world: cfg.Grammar, rng: np.random.Generator, split: str, n: int, labels: bool = False
    ) -> Block:
        """n sentences as Cfg; labels of training sentences describe the derivation after replacement."""
        if split == "train":
            terminals, inner, truth, perturbed = cfg.sample_perturbed(world, rng, n, self.perturbation(world), labels)
            block = self.to_block(world, terminals, inner, truth)
        else:
            block, perturbed = super().sample_block(world, rng, split, n, labels), np.zeros(n, bool)
        return replace(block, slices={**block.slices, "faulty": perturbed.astype(np.int64)})
