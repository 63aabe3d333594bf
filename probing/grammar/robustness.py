"""How well a model completes sentences after a corrupted prefix: Part 1 (arXiv 2305.13673), results 11 to 13.

The model reads the first tokens of a sentence, some of them replaced, and generates the rest. The completion is graded
after the TRUE prefix, because a corrupted prefix rarely begins any sentence and the question is whether the model
recovers the original. That this is the paper's protocol, and its numbers (15% of 50 tokens replaced; 30% valid after
clean training, 80% after training on corrupted data), are from a reproduction's notes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int

from lm.inference.sampling import generate, no_progress
from lm.model import Decoder
from probing.grammar.validity import are_valid, check_cut
from synth import Corpus, Task, UserError, cfg
from synth.random.rng import rng
from synth.task import Block
from synth.tasks.cfg import Cfg

PREFIXES = ("none", "clean", "corrupted")


@dataclass(frozen=True)
class Robustness:
    """Share of valid completions after no prefix, a clean one and a corrupted one.

    samples: sentences for each kind of prefix and temperature. cut: prefix length in tokens. corruption: probability
    that a prefix token is replaced by a uniformly drawn terminal, possibly the same one.
    """

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
        """Estimated number of tokens generated and read, for the cost of a dry run."""
        return int(len(PREFIXES) * len(self.temperatures) * self.samples * (task.world(0).mean_length + 1))

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> list[dict[str, Any]]:
        """A row for each prefix (none, clean, corrupted) and temperature. valid: share of true prefix + completion that
        is a sentence; unfinished: share of completions without <eos>; floor: valid share when each completion is the
        rest of another sentence, the score of generating without reading the prefix. Of the prefixes as read by the
        model, unchanged: share without a replaced token; possible: share that begin a sentence.

        The prefixes depend on grammar and data seed alone, so all trainings share them. Raises UserError for a task
        without a grammar, and for a cut that is not shorter than every sentence.
        """
        if not isinstance(task, Cfg):
            raise UserError(f"robustness needs a task whose truth is a grammar; {task.name} is none")
        plain = Cfg(task.grammar, task.root)
        grammar, vocab = plain.world(data_seed), plain.vocab()
        check_cut(grammar, self.cut)
        truth = Corpus(plain, data_seed, "test").documents(0, self.samples)
        rows = []
        for name in PREFIXES:
            prefixes = read = take_prefixes(truth, 0 if name == "none" else self.cut)
            if name == "corrupted":
                generator = rng("corruption", plain.key, data_seed, self.corruption)
                read = corrupt_tokens(prefixes, len(grammar.terminals), self.corruption, generator)
            rests = [document[prefixes.shape[1] :] for document in truth.documents]
            shared = {
                "prefix": name,
                "floor": float(grade_completions(grammar, prefixes, [*rests[1:], rests[0]], vocab.eos).mean()),
                "unchanged": float((read == prefixes).all(1).mean()),
                "possible": float(begins_sentence(grammar, read).mean()),
            }
            max_new_tokens = min(grammar.max_length + 2, model.config.max_seq_len + 1) - prefixes.shape[1]
            for temperature in self.temperatures:
                completions = generate(model, read, max_new_tokens, temperature, vocab.eos, seed, progress=no_progress)
                valid = grade_completions(grammar, prefixes, completions, vocab.eos)
                unfinished = np.mean([completion[-1] != vocab.eos for completion in completions])
                scores = {"valid": float(valid.mean()), "unfinished": float(unfinished)}
                rows.append({**shared, "temperature": temperature, **scores})
        return rows


def take_prefixes(block: Block, cut: int) -> Int[np.ndarray, "n c"]:
    """<bos> and the first `cut` tokens of every document, c = 1 + cut."""
    return block.tokens[block.offsets[:-1, None] + np.arange(1 + cut)]


def corrupt_tokens(
    prefixes: Int[np.ndarray, "n c"], terminals: int, rate: float, generator: np.random.Generator
) -> Int[np.ndarray, "n c"]:
    """Replace each token after <bos> with probability `rate` by a uniformly drawn id from 1..terminals."""
    corrupted, shape = prefixes.copy(), (len(prefixes), prefixes.shape[1] - 1)
    hit, replacements = generator.random(shape) < rate, generator.integers(1, terminals + 1, shape)
    corrupted[:, 1:] = np.where(hit, replacements, prefixes[:, 1:])
    return corrupted


def grade_completions(
    grammar: cfg.Grammar, prefixes: Int[np.ndarray, "n c"], completions: Sequence[np.ndarray], eos: int
) -> Bool[np.ndarray, " n"]:
    """Whether each prefix with its completion is a finished sentence."""
    documents = [np.concatenate([prefix, rest]) for prefix, rest in zip(prefixes, completions, strict=True)]
    return are_valid(grammar, documents, eos)


def begins_sentence(grammar: cfg.Grammar, prefixes: Int[np.ndarray, "n c"]) -> Bool[np.ndarray, " n"]:
    """Whether each prefix begins a sentence."""
    n, cut = len(prefixes), prefixes.shape[1] - 1
    rows = cfg.next_token(grammar, (prefixes[:, 1:] - 1).ravel().astype(np.int32), cut * np.arange(n + 1))
    return rows.reshape(n, cut + 1, -1)[:, -1].sum(1) > 0
