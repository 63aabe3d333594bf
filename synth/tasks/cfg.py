"""Sentences of a layered context-free grammar (Physics of Language Models, Part 1, section 2 and appendix A).

A document is <bos> sentence <eos>. Every position knows its true ancestors, and every prefix its true next-token
distribution, so that a model can be held against the exact truth.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from synth import cfg
from synth.errors import UserError
from synth.task import Block, Example, Task
from synth.vocab import Vocab

NINE = cfg.NAMES


@dataclass(frozen=True)
class Cfg(Task):
    """grammar: one of the nine names, "brackets", or a path to a grammar in nltk notation or the public release's JSON.
    root: a nonterminal to start from instead of the grammar's own root; a lower root gives shorter, simpler sentences.
    """

    grammar: str = "cfg3b"
    root: str | None = None

    name: ClassVar[str] = "cfg"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 1 (arXiv 2305.13673), Figure 1 and appendix A; Part 4.1 for cfg3j and cfg3k"
    presets: ClassVar[dict[str, dict[str, Any]]] = {name: {"grammar": name} for name in cfg.BUNDLED}

    def world(self, seed: int = 0) -> cfg.Grammar:
        """The grammar; the same for every seed. Raises UserError on a grammar that cannot be read or is not layered."""
        return cfg.load(self.grammar, self.root)

    def contents(self) -> dict[str, str]:
        """For the identity of a run: a grammar from a file is known by what is in it, not by where it lies."""
        return {} if self.grammar in cfg.BUNDLED else {"grammar": self.world().digest}

    def cited(self) -> str:
        if self.grammar in NINE:
            return self.source
        own = self.grammar in cfg.BUNDLED
        return f"our own {self.grammar}, not the papers'" if own else f"the grammar file {self.grammar}"

    def vocab(self) -> Vocab:
        return Vocab(self.world().terminals)

    def sample(self, world: cfg.Grammar, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(
        self, world: cfg.Grammar, rng: np.random.Generator, split: str, n: int, labels: bool = False
    ) -> Block:
        """n sentences; with labels also the ancestors, subtree numbers and subtree ends of every position."""
        return self.written(world, *cfg.sample(world, rng, n, labels))

    def written(
        self, world: cfg.Grammar, terminals: np.ndarray, inner: np.ndarray, truth: dict[str, np.ndarray] | None
    ) -> Block:
        """The documents of sampled sentences: terminal numbers (N,), offsets (n+1,) and labels of the sampler."""
        n = len(inner) - 1
        offsets = inner + 2 * np.arange(n + 1)
        tokens = np.empty(offsets[-1], np.int32)
        real = np.ones(len(tokens), bool)
        real[offsets[:-1]] = real[offsets[1:] - 1] = False
        tokens[offsets[:-1]] = 0
        tokens[offsets[1:] - 1] = len(world.terminals) + 1
        tokens[real] = terminals + 1
        mask = np.ones(len(tokens), bool)
        mask[offsets[:-1]] = False
        columns = {}
        for name, values in (truth or {}).items():
            columns[name] = np.full((len(tokens), *values.shape[1:]), -1, values.dtype)
            columns[name][real] = values
        return Block(tokens, offsets, mask, np.ones(n, np.int64), {"length": np.diff(inner)}, columns)

    def score(self, world: cfg.Grammar, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """valid: 1 when prompt + completion, freed of <bos> and <eos>, is a sentence of the grammar."""
        sentence = self._sentence(world, example, completion)
        offsets = np.array([0, 0 if sentence is None else len(sentence)])
        return {"valid": 0.0 if sentence is None else float(cfg.is_member(world, sentence, offsets)[0])}

    def detail(self, world: cfg.Grammar, example: Example | None, completion: np.ndarray) -> dict[str, Any]:
        """valid, parses, log2_probability (None if invalid), edits (least substitutions to a sentence; None where no
        sentence has this length) and next: one row a prefix, the probability of each terminal in order, then of the
        end (all zero once the prefix begins no sentence). A stray special token inside leaves edits and next empty."""
        sentence = self._sentence(world, example, completion)
        if sentence is None:
            return {"valid": False, "parses": 0, "log2_probability": None, "edits": None, "next": []}
        offsets = np.array([0, len(sentence)])
        parses = int(cfg.count_parses(world, sentence, offsets)[0])
        edits = int(cfg.edits(world, sentence, offsets)[0])
        log2 = float(cfg.log_probability(world, sentence, offsets)[0] / np.log(2)) if parses else None
        return {
            "valid": parses > 0,
            "parses": parses,
            "log2_probability": log2,
            "edits": edits if edits >= 0 else None,
            "next": cfg.next_token(world, sentence, offsets).tolist(),
        }

    def floors(self, world: cfg.Grammar) -> dict[str, float]:
        """loss: entropy floor in nats a token (<eos> counted); bits: entropy of a sentence; valid: chance of noise."""
        bits, _ = cfg.sentence_entropy(world, 500, 0)
        return {"loss": bits * np.log(2) / (world.mean_length + 1), "bits": bits, "valid": 0.0}

    def _sentence(self, world: cfg.Grammar, example: Example | None, completion: np.ndarray) -> np.ndarray | None:
        """Terminal numbers (T,) of a document without its <bos> and <eos>; None when a special token stands inside."""
        ids = np.asarray(completion, np.int64)
        vocab = Vocab(world.terminals)
        if len(ids) and ids[0] == vocab.bos:
            ids = ids[1:]
        if example is not None:
            ids = np.concatenate([example.prompt[1:], ids])
        if len(ids) and ids[-1] == vocab.eos:
            ids = ids[:-1]
        if len(ids) and (ids.min() < 0 or ids.max() >= vocab.size):
            raise UserError(f"a token outside the vocabulary of {self.grammar} ({vocab.shown()})")
        inside = (ids > 0) & (ids < vocab.eos)
        return (ids - 1).astype(np.int32) if inside.all() else None
