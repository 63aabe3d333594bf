"""How well a model generates the language it was trained on: Part 1 (arXiv 2305.13673), section 4.1, Figure 4.

Three measures, each against exact values of the grammar: validity of generated sentences (left panel), their diversity
(middle) and the divergence of the next-token distribution (right).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lm.inference.sampling import generate, no_progress
from lm.model import Decoder
from probing.scoring.likelihood import log_probabilities, target_log_probabilities
from probing.scoring.metrics import mean_or_nan
from synth import Corpus, Task, UserError, cfg
from synth.tasks.cfg import Cfg


@dataclass(frozen=True)
class Validity:
    """Results 1 to 3 of Part 1 on a CFG.

    samples: sentences generated for each cut (the paper: 20,000). cuts: lengths in tokens of the prefixes of true
    sentences (the paper: 0 and 50). temperature: 1 is plain multinomial sampling. kl_sentences: true sentences over
    which the divergence from the exact next-token distribution is averaged. trained_tokens: number of tokens the model
    was trained on; above 0, sentences of the training stream are scored apart from new ones, because a small grammar
    can be memorized.
    """

    samples: int = 20_000
    cuts: tuple[int, ...] = (0, 50)
    temperature: float = 1.0
    kl_sentences: int = 20_000
    trained_tokens: int = 0

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.samples < 1 or self.kl_sentences < 1 or not self.cuts or min(self.cuts) < 0 or self.temperature <= 0:
            raise UserError(f"{self}: samples and kl_sentences must be at least 1, cuts 0 or more, temperature above 0")

    def tokens(self, task: Task) -> int:
        """Estimated number of tokens generated and read, for the cost of a dry run."""
        sentences = len(self.cuts) * self.samples + self.samples + self.kl_sentences
        return int(sentences * (task.world(0).mean_length + 1))

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> dict[str, Any]:
        """One row with, for each cut c: valid_c (share of prefix + completion that is a sentence) and unfinished_c
        (share without <eos>); from cut 0 also bits (entropy of a generated sentence under the model), bits_truth,
        duplicates and duplicates_truth (share of repeats, among as many true sentences); over true test sentences loss
        (nats per token), loss_floor and kl (nats per position, <eos> included). With trained_tokens also known_truth
        (share of true test sentences that are in the training stream), known_c (of the generated ones), valid_new_c
        (valid share of those that are not; never above valid_c, as only valid ones can be known) and kl_new (kl over
        test sentences that are not).

        Raises UserError for a task without a grammar, and for a cut that is not shorter than every sentence.
        """
        if not isinstance(task, Cfg):
            raise UserError(f"validity needs a task whose truth is a grammar; {task.name} is none")
        trained = training_documents(task, data_seed, self.trained_tokens)
        row: dict[str, Any] = {}
        for cut in self.cuts:
            row |= self._generation_metrics(model, task, data_seed, seed, cut, trained)
        return row | self._divergence_metrics(model, task, data_seed, trained)

    def _generation_metrics(
        self, model: Decoder, task: Cfg, data_seed: int, seed: int, cut: int, trained: set[bytes]
    ) -> dict[str, Any]:
        grammar, vocab = task.world(data_seed), task.vocab()
        check_cut(grammar, cut)
        truth = Corpus(task, data_seed, "test").documents(0, self.samples)
        prompts = [truth.tokens[a : a + 1 + cut] for a in truth.offsets[:-1]]
        max_new_tokens = min(grammar.max_length + 1, model.config.max_seq_len) - cut
        completions = generate(model, prompts, max_new_tokens, self.temperature, vocab.eos, seed, progress=no_progress)
        documents = [np.concatenate([p, w]) for p, w in zip(prompts, completions, strict=True)]
        finished = np.array([document[-1] == vocab.eos for document in documents])
        valid = are_valid(grammar, documents, vocab.eos)
        row = {f"valid_{cut}": float(valid.mean()), f"unfinished_{cut}": float(1 - finished.mean())}
        if trained:
            known = _in_training_set(documents, trained)
            row |= {f"known_{cut}": float(known.mean()), f"valid_new_{cut}": mean_or_nan(valid[~known])}
        if cut == 0 and self.temperature == 1:  # else samples do not follow the model's distribution
            log_probs = target_log_probabilities(model, documents)
            row |= {
                "bits": float(np.mean([-values.sum() for values in log_probs]) / np.log(2)),
                "bits_truth": cfg.sentence_entropy(grammar, 2_000, 0)[0],
                "duplicates": duplicate_share(documents),
                "duplicates_truth": duplicate_share([truth[i].tokens for i in range(len(truth))]),
            }
        return row

    def _divergence_metrics(self, model: Decoder, task: Cfg, data_seed: int, trained: set[bytes]) -> dict[str, Any]:
        """Loss and KL(true || model) of the next token, averaged over every position of every sentence (result 3)."""
        grammar = task.world(data_seed)
        block = Corpus(task, data_seed, "test").documents(0, self.kl_sentences)
        documents = [document[: model.config.max_seq_len + 1] for document in block.documents]
        log_probs = log_probabilities(model, documents)
        terminals = block.tokens[block.loss_mask & (block.tokens < task.vocab().eos)] - 1
        offsets = block.offsets - 2 * np.arange(len(block) + 1)
        truth = cfg.next_token(grammar, terminals, offsets)
        sums = np.zeros((len(documents), 3))  # of divergence, of loss, of positions
        for i, (document, log_prob) in enumerate(zip(documents, log_probs, strict=True)):
            start = offsets[i] + i  # a sentence of T tokens has T+1 prefixes
            true = truth[start : start + len(log_prob)]
            predicted = log_prob[:, 1 : grammar_columns(grammar)]
            divergence = np.sum(true * (np.log(np.where(true > 0, true, 1)) - predicted))
            sums[i] = divergence, -log_prob[np.arange(len(log_prob)), document[1:]].sum(), len(log_prob)
        floor = cfg.sentence_entropy(grammar, 2_000, 0)[0] * np.log(2) / (grammar.mean_length + 1)
        kl, loss, positions = sums.sum(0)
        row = {"loss": loss / positions, "loss_floor": floor, "kl": kl / positions}
        if trained:
            new = ~_in_training_set(block.documents, trained)
            row |= {"known_truth": float(1 - new.mean())}
            row |= {"kl_new": sums[new, 0].sum() / sums[new, 2].sum() if new.any() else float("nan")}
        return row


def check_cut(grammar: cfg.Grammar, cut: int) -> None:
    """Raise UserError unless every sentence is longer than `cut` tokens."""
    if cut >= grammar.min_length:
        raise UserError(
            f"a cut of {cut} tokens leaves nothing to complete: {grammar.name} has sentences of "
            f"{grammar.min_length}; choose a smaller cut"
        )


def _in_training_set(documents: Sequence[np.ndarray], trained: set[bytes]) -> np.ndarray:
    """Whether each document is in the training stream, (n,) bool."""
    return np.array([np.asarray(document, np.int32).tobytes() in trained for document in documents])


def grammar_columns(grammar: cfg.Grammar) -> int:
    """End of the id range 1..K+1, the K terminals and <eos>: the columns of the exact next-token distribution."""
    return len(grammar.terminals) + 2


def are_valid(grammar: cfg.Grammar, documents: Sequence[np.ndarray], eos: int) -> np.ndarray:
    """Whether each document, <bos> sentence <eos>, is a finished sentence of the grammar: (n,) bool."""
    clean = [d[1:-1] for d in documents]
    fit = np.array([d[-1] == eos and (s > 0).all() and (s < eos).all() for d, s in zip(documents, clean, strict=True)])
    sentences = [s - 1 for s, good in zip(clean, fit, strict=True) if good]
    offsets = np.cumsum([0, *map(len, sentences)])
    fit[fit] = cfg.is_member(grammar, np.concatenate([np.zeros(0, np.int32), *sentences]).astype(np.int32), offsets)
    return fit


def training_documents(task: Task, data_seed: int, tokens: int) -> set[bytes]:
    """The documents, as bytes, in the first `tokens` tokens of a training stream."""
    corpus, found, seen, number = Corpus(task, data_seed, "train"), set[bytes](), 0, 0
    while seen < tokens:
        block = corpus.block(number)
        number, seen = number + 1, seen + len(block.tokens)
        found.update(block[i].tokens.tobytes() for i in range(len(block)))
    return found


def duplicate_share(documents: Sequence[np.ndarray]) -> float:
    """Share of documents that repeat an earlier one."""
    return 1 - len({np.asarray(d, np.int64).tobytes() for d in documents}) / len(documents)
