"""Does a model go on rightly after a prefix with faults? Part 1 (arXiv 2305.13673), results 11 to 13.

The model reads the first tokens of a sentence, some of them replaced, and writes the rest. What it writes is judged
behind the TRUE tokens: valid is true prefix + completion, as a prefix with faults mostly begins no sentence at all, and
the question is whether the model sees through the faults. That this is the paper's protocol, and its numbers (15% of 50
tokens replaced; 30% valid after clean training, 80% after training with faults) are from a reproduction's notes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int

from lm.inference.sampling import generate
from lm.model import Decoder
from probing.grammar.validity import check_cut, silent, valid_documents
from synth import Corpus, Task, UserError, cfg
from synth.random.rng import rng
from synth.task import Block
from synth.tasks.cfg import Cfg

PREFIXES = ("none", "clean", "corrupted")


@dataclass(frozen=True)
class Robustness:
    """samples: sentences for each kind of prefix and temperature; cut: tokens of a prefix; corruption: the probability
    that a token of a corrupted one is replaced by a terminal drawn evenly, itself included."""

    samples: int = 20_000
    cut: int = 50
    temperatures: tuple[float, ...] = (0.1, 0.2, 1.0)
    corruption: float = 0.15

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.samples < 2 or self.cut < 1 or not self.temperatures or min(self.temperatures) <= 0:
            raise UserError(f"{self}: needs 2 samples, a cut of at least 1 and temperatures above 0")
        if not 0 <= self.corruption <= 1:
            raise UserError(f"corruption={self.corruption} is no probability; give a number from 0 to 1")

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement writes and reads, for the cost of a dry run."""
        return int(len(PREFIXES) * len(self.temperatures) * self.samples * (task.world(0).mean_length + 1))

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> list[dict[str, Any]]:
        """A row for each prefix (none, clean, corrupted) and temperature: valid, the share of true prefix + completion
        that is a sentence; unfinished, the share of completions without an end; floor, the valid share when every
        completion is the rest of another sentence, which is what writing without reading is worth; and of the prefixes
        as the model read them unchanged, the share without a fault, and possible, the share that begin a sentence.

        All trainings on one grammar are given the same prefixes, by data seed. Raises UserError for a task without a
        grammar, and for a cut as long as the shortest sentence.
        """
        if not isinstance(task, Cfg):
            raise UserError(f"robustness needs a task whose truth is a grammar; {task.name} is none")
        plain = Cfg(task.grammar, task.root)
        grammar, vocab = plain.world(data_seed), plain.vocab()
        check_cut(grammar, self.cut)
        truth = Corpus(plain, data_seed, "test").documents(0, self.samples)
        rows = []
        for name in PREFIXES:
            given = firsts(truth, 0 if name == "none" else self.cut)
            faults = rng("corruption", plain.key, data_seed, self.corruption)
            read = corrupted(given, len(grammar.terminals), self.corruption, faults) if name == "corrupted" else given
            rests = [document[given.shape[1] :] for document in truth.documents]
            facts = {
                "prefix": name,
                "floor": float(judged(grammar, given, [*rests[1:], rests[0]], vocab.eos).mean()),
                "unchanged": float((read == given).all(1).mean()),
                "possible": float(possible(grammar, read).mean()),
            }
            room = min(grammar.max_length + 2, model.config.context + 1) - given.shape[1]
            for temperature in self.temperatures:
                written = generate(model, read, room, temperature, vocab.eos, seed, progress=silent)
                valid = judged(grammar, given, written, vocab.eos)
                unfinished = np.mean([completion[-1] != vocab.eos for completion in written])
                found = {"valid": float(valid.mean()), "unfinished": float(unfinished)}
                rows.append({**facts, "temperature": temperature, **found})
        return rows


def firsts(block: Block, cut: int) -> Int[np.ndarray, "n c"]:
    """<bos> and the first `cut` tokens of every document, c = 1 + cut."""
    return block.tokens[block.offsets[:-1, None] + np.arange(1 + cut)]


def corrupted(
    prefixes: Int[np.ndarray, "n c"], terminals: int, strength: float, random: np.random.Generator
) -> Int[np.ndarray, "n c"]:
    """Every token behind <bos> replaced with probability `strength` by one of the ids 1..terminals, drawn evenly."""
    found, shape = prefixes.copy(), (len(prefixes), prefixes.shape[1] - 1)
    hit, drawn = random.random(shape) < strength, random.integers(1, terminals + 1, shape)
    found[:, 1:] = np.where(hit, drawn, prefixes[:, 1:])
    return found


def judged(
    grammar: cfg.Grammar, prefixes: Int[np.ndarray, "n c"], completions: Sequence[np.ndarray], eos: int
) -> Bool[np.ndarray, " n"]:
    """Whether each prefix with its completion is a finished sentence."""
    documents = [np.concatenate([prefix, rest]) for prefix, rest in zip(prefixes, completions, strict=True)]
    return valid_documents(grammar, documents, eos)


def possible(grammar: cfg.Grammar, prefixes: Int[np.ndarray, "n c"]) -> Bool[np.ndarray, " n"]:
    """Whether each prefix begins a sentence."""
    n, cut = len(prefixes), prefixes.shape[1] - 1
    rows = cfg.next_token(grammar, (prefixes[:, 1:] - 1).ravel().astype(np.int32), cut * np.arange(n + 1))
    return rows.reshape(n, cut + 1, -1)[:, -1].sum(1) > 0
