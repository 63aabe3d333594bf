"""Sentences of a layered context-free grammar (Physics of Language Models, Part 1, section 2 and appendix A)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from synth import cfg
from synth.errors import UserError
from synth.task import Block, Example, Task
from synth.vocab import Vocab

PAPER_GRAMMARS = cfg.NAMES


STREAM_LENGTHS = (10_000, 100_000, 1_000_000)  # of training, in sentences


@dataclass(frozen=True)
class Cfg(Task):
    """Sentences of a layered probabilistic context-free grammar.

    Example (grammar="brackets"): `<bos> ( B * B ) <eos>`.
    Source: Part 1 (arXiv 2305.13673), Figure 1 and appendix A; Part 4.1 (arXiv 2512.17351) for cfg3j and cfg3k.
    Floors: loss is the entropy in nats per token, bits the entropy of a sentence, valid = 0.
    """

    grammar: str = "cfg3b"
    """A grammar of the papers, "brackets", or a file (nltk notation, or JSON of the public release)."""
    root: str | None = None
    """Nonterminal to start from; None: the grammar's root. A lower one gives shorter, simpler sentences."""

    name: ClassVar[str] = "cfg"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 1 (arXiv 2305.13673), Figure 1 and appendix A; Part 4.1 for cfg3j and cfg3k"
    presets: ClassVar[dict[str, dict[str, Any]]] = {name: {"grammar": name} for name in cfg.BUNDLED}

    def world(self, seed: int = 0) -> cfg.Grammar:
        """The grammar, the same for every seed. Raises UserError if it cannot be read or is not layered."""
        return cfg.load(self.grammar, self.root)

    def contents(self) -> dict[str, str]:
        """For the hash of a run: the digest of a grammar from a file in place of its path."""
        return {} if self.grammar in cfg.BUNDLED else {"grammar": self.world().digest}

    def citation(self) -> str:
        if self.grammar in PAPER_GRAMMARS:
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
        """n sentences; labels are those of `cfg.sample`, -1 at <bos> and <eos>."""
        return self.to_block(world, *cfg.sample(world, rng, n, labels))

    def to_block(
        self, world: cfg.Grammar, terminals: np.ndarray, inner: np.ndarray, truth: dict[str, np.ndarray] | None
    ) -> Block:
        """The documents of terminal numbers (N,), offsets (n+1,) and labels from the sampler."""
        n = len(inner) - 1
        offsets = inner + 2 * np.arange(n + 1)
        tokens = np.empty(offsets[-1], np.int32)
        is_terminal = np.ones(len(tokens), bool)
        is_terminal[offsets[:-1]] = is_terminal[offsets[1:] - 1] = False
        tokens[offsets[:-1]] = 0
        tokens[offsets[1:] - 1] = len(world.terminals) + 1
        tokens[is_terminal] = terminals + 1
        mask = np.ones(len(tokens), bool)
        mask[offsets[:-1]] = False
        columns = {}
        for name, values in (truth or {}).items():
            columns[name] = np.full((len(tokens), *values.shape[1:]), -1, values.dtype)
            columns[name][is_terminal] = values
        return Block(tokens, offsets, mask, np.ones(n, np.int64), {"length": np.diff(inner)}, columns)

    def score(self, world: cfg.Grammar, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """valid: 1 if prompt and completion, without <bos> and <eos>, form a sentence of the grammar."""
        sentence = self._sentence(world, example, completion)
        offsets = np.array([0, 0 if sentence is None else len(sentence)])
        return {"valid": 0.0 if sentence is None else float(cfg.is_member(world, sentence, offsets)[0])}

    def detail(self, world: cfg.Grammar, example: Example | None, completion: np.ndarray) -> dict[str, Any]:
        """valid, parses, log2_probability (None if invalid), edits (least number of substitutions to a sentence; None
        if no sentence has this length) and next: for each prefix, the probabilities of the terminals and of the end
        (zero if no sentence has this prefix). With a special token inside, edits is None and next is empty."""
        sentence = self._sentence(world, example, completion)
        if sentence is None:
            return {"valid": False, "parses": 0, "log2_probability": None, "edits": None, "next": []}
        offsets = np.array([0, len(sentence)])
        parses = int(cfg.count_parses(world, sentence, offsets)[0])
        edits = int(cfg.hamming_distance(world, sentence, offsets)[0])
        log2 = float(cfg.log_probability(world, sentence, offsets)[0] / np.log(2)) if parses else None
        return {
            "valid": parses > 0,
            "parses": parses,
            "log2_probability": log2,
            "edits": edits if edits >= 0 else None,
            "next": cfg.next_token(world, sentence, offsets).tolist(),
        }

    def floors(self, world: cfg.Grammar) -> dict[str, float]:
        """loss: entropy in nats a token, <eos> included; bits: entropy of a sentence; valid: 0."""
        bits, _ = cfg.sentence_entropy(world, 500, 0)
        return {"loss": bits * np.log(2) / (world.mean_length + 1), "bits": bits, "valid": 0.0}

    def statistics(self, world: cfg.Grammar, block: Block) -> dict[str, float]:
        """Of the sentences: the share that has more than one parse, the mean number of parses, and the share that
        stands among so many sentences of training, expected from its exact probability."""
        lengths = block.lengths - 2
        inside = (block.tokens > 0) & (block.tokens <= len(world.terminals))
        if inside.sum() != lengths.sum():
            return {}
        sentences, offsets = block.tokens[inside] - 1, np.concatenate([[0], np.cumsum(lengths)])
        parses = cfg.count_parses(world, sentences, offsets)
        if not parses.all():
            return {}  # perturbed sentences are no longer the grammar's
        absent = np.log1p(-np.exp(cfg.log_probability(world, sentences, offsets)))
        seen = {f"among {n:,} drawn": float(1 - np.exp(n * absent).mean()) for n in STREAM_LENGTHS}
        return {"several parses": float((parses > 1).mean()), "mean parses": float(parses.mean()), **seen}

    def _sentence(self, world: cfg.Grammar, example: Example | None, completion: np.ndarray) -> np.ndarray | None:
        """Terminal numbers (T,) of a document without <bos> and <eos>; None if there is a special token inside."""
        ids = np.asarray(completion, np.int64)
        vocab = Vocab(world.terminals)
        if len(ids) and ids[0] == vocab.bos:
            ids = ids[1:]
        if example is not None:
            ids = np.concatenate([example.prompt[1:], ids])
        if len(ids) and ids[-1] == vocab.eos:
            ids = ids[:-1]
        if len(ids) and (ids.min() < 0 or ids.max() >= vocab.size):
            raise UserError(f"a token outside the vocabulary of {self.grammar} ({vocab.preview()})")
        inside = (ids > 0) & (ids < vocab.eos)
        return (ids - 1).astype(np.int32) if inside.all() else None
