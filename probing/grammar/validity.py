"""Does a model write the language it was trained on? Part 1 (arXiv 2305.13673), section 4.1, Figure 4.

Three questions, each against the exact truth: are its sentences valid (left panel), are they as diverse as the truth
(middle), and is its next-token distribution the true one (right)?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lm.inference.sampling import generate
from lm.model import Decoder
from probing.scoring.likelihood import log_probabilities, target_log_probabilities
from synth import Corpus, Task, UserError, cfg
from synth.tasks.cfg import Cfg


@dataclass(frozen=True)
class Validity:
    """The protocol of Part 1's results 1 to 3 on a CFG.

    samples: sentences generated for each cut (the paper: 20,000); cuts: tokens of a true sentence given as prefix
    (the paper: 0 and 50); temperature 1 is plain multinomial sampling; kl_sentences: true sentences over which the
    divergence to the exact next-token distribution is averaged. trained_tokens: length of the model's training stream;
    given that, sentences that stood in it are told from new ones, for a small grammar could be learned by heart.
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
        """About how many tokens a measurement writes and reads, for the cost of a dry run."""
        sentences = len(self.cuts) * self.samples + self.samples + self.kl_sentences
        return int(sentences * (task.world(0).mean_length + 1))

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> dict[str, Any]:
        """One row with, for each cut c: valid_c (share of prefix + completion that is a sentence) and unfinished_c;
        from cut 0 also bits (entropy of a generated sentence under the model), bits_truth, duplicates and
        duplicates_truth (share of repeats among as many true sentences); over true test sentences loss (nats a token),
        loss_floor and kl (nats a position, <eos> included). With trained_tokens also known_truth (share of true test
        sentences that stood in the training stream), known_c (of the generated ones), valid_new_c (valid share of those
        that did not; never above valid_c, as only valid ones can be known) and kl_new (kl over unknown test sentences).
        """
        if not isinstance(task, Cfg):
            raise UserError(f"validity needs a task whose truth is a grammar; {task.name} is none")
        trained = trained_on(task, data_seed, self.trained_tokens)
        row: dict[str, Any] = {}
        for cut in self.cuts:
            row |= self._generation(model, task, data_seed, seed, cut, trained)
        return row | self._divergence(model, task, data_seed, trained)

    def _generation(
        self, model: Decoder, task: Cfg, data_seed: int, seed: int, cut: int, trained: set[bytes]
    ) -> dict[str, Any]:
        grammar, vocab = task.world(data_seed), task.vocab()
        check_cut(grammar, cut)
        truth = Corpus(task, data_seed, "test").documents(0, self.samples)
        prompts = [truth.tokens[a : a + 1 + cut] for a in truth.offsets[:-1]]
        room = min(grammar.max_length + 1, model.config.context) - cut
        written = generate(model, prompts, room, self.temperature, vocab.eos, seed, progress=silent)
        documents = [np.concatenate([p, w]) for p, w in zip(prompts, written, strict=True)]
        finished = np.array([document[-1] == vocab.eos for document in documents])
        valid = valid_documents(grammar, documents, vocab.eos)
        found = {f"valid_{cut}": float(valid.mean()), f"unfinished_{cut}": float(1 - finished.mean())}
        if trained:
            known = _known(documents, trained)
            found |= {f"known_{cut}": float(known.mean()), f"valid_new_{cut}": _mean(valid[~known])}
        if cut == 0 and self.temperature == 1:  # elsewhere the model's own entropy is not that of what it writes
            spoken = target_log_probabilities(model, documents)
            found |= {
                "bits": float(np.mean([-values.sum() for values in spoken]) / np.log(2)),
                "bits_truth": cfg.sentence_entropy(grammar, 2_000, 0)[0],
                "duplicates": repeats(documents),
                "duplicates_truth": repeats([truth[i].tokens for i in range(len(truth))]),
            }
        return found

    def _divergence(self, model: Decoder, task: Cfg, data_seed: int, trained: set[bytes]) -> dict[str, Any]:
        """KL(true next token || model's), averaged over every position of every sentence (result 3)."""
        grammar = task.world(data_seed)
        block = Corpus(task, data_seed, "test").documents(0, self.kl_sentences)
        whole = block.documents
        documents = [document[: model.config.context + 1] for document in whole]
        rows = log_probabilities(model, documents)
        terminals = block.tokens[block.loss_mask & (block.tokens < task.vocab().eos)] - 1
        offsets = block.offsets - 2 * np.arange(len(block) + 1)
        truth = cfg.next_token(grammar, terminals, offsets)
        sums = np.zeros((len(documents), 3))  # of divergence, of loss, of positions
        for i, (document, row) in enumerate(zip(documents, rows, strict=True)):
            start = offsets[i] + i  # a sentence of T tokens has T+1 prefixes
            true = truth[start : start + len(row)]
            said = row[:, 1 : grammar_columns(grammar)]
            divergence = np.sum(true * (np.log(np.where(true > 0, true, 1)) - said))
            sums[i] = divergence, -row[np.arange(len(row)), document[1:]].sum(), len(row)
        floor = cfg.sentence_entropy(grammar, 2_000, 0)[0] * np.log(2) / (grammar.mean_length + 1)
        kl, loss, positions = sums.sum(0)
        found = {"loss": loss / positions, "loss_floor": floor, "kl": kl / positions}
        if trained:
            new = ~_known(whole, trained)
            found |= {"known_truth": float(1 - new.mean())}
            found |= {"kl_new": sums[new, 0].sum() / sums[new, 2].sum() if new.any() else float("nan")}
        return found


def check_cut(grammar: cfg.Grammar, cut: int) -> None:
    """Raise UserError unless every sentence goes on after its first `cut` tokens."""
    if cut >= grammar.min_length:
        raise UserError(
            f"a cut of {cut} tokens leaves nothing to complete: {grammar.name} has sentences of "
            f"{grammar.min_length}; choose a smaller cut"
        )


def silent(done: int, total: int) -> None:
    """In place of a bar of its own: an experiment shows one for all of its runs."""


def _mean(values: np.ndarray) -> float:
    """Mean of (n,), NaN without any: a missing value, never a 0."""
    return float(values.mean()) if len(values) else float("nan")


def _known(documents: Sequence[np.ndarray], trained: set[bytes]) -> np.ndarray:
    """Which documents stood in the training stream, (n,) bool."""
    return np.array([np.asarray(document, np.int32).tobytes() in trained for document in documents])


def grammar_columns(grammar: cfg.Grammar) -> int:
    """One past the id of <eos>: ids 1..K+1 are the terminals and the end, the columns of the exact rows."""
    return len(grammar.terminals) + 2


def valid_documents(grammar: cfg.Grammar, documents: Sequence[np.ndarray], eos: int) -> np.ndarray:
    """Whether each document, <bos> sentence <eos>, is a finished sentence of the grammar: (n,) bool."""
    clean = [d[1:-1] for d in documents]
    fit = np.array([d[-1] == eos and (s > 0).all() and (s < eos).all() for d, s in zip(documents, clean, strict=True)])
    kept = [s - 1 for s, good in zip(clean, fit, strict=True) if good]
    offsets = np.cumsum([0, *map(len, kept)])
    fit[fit] = cfg.is_member(grammar, np.concatenate([np.zeros(0, np.int32), *kept]).astype(np.int32), offsets)
    return fit


def trained_on(task: Task, data_seed: int, tokens: int) -> set[bytes]:
    """The documents that the first `tokens` tokens of a training stream hold; none for 0 tokens."""
    corpus, found, seen, number = Corpus(task, data_seed, "train"), set[bytes](), 0, 0
    while seen < tokens:
        block = corpus.block(number)
        number, seen = number + 1, seen + len(block.tokens)
        found.update(block[i].tokens.tobytes() for i in range(len(block)))
    return found


def repeats(documents: Sequence[np.ndarray]) -> float:
    """Share of documents that repeat an earlier one."""
    return 1 - len({np.asarray(d, np.int64).tobytes() for d in documents}) / len(documents)
