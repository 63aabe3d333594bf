"""Questions put to a model, and what it answers: the one way in which extraction, its controls and capacity ask.

The measures of Part 3.1 (arXiv 2309.14316, sections 2.2 and 6): the first token of the answer, the whole answer as
greedy decoding writes it, and beside the paper's the likeliest of all answers that there are. A causal model goes on
after the prompt; an encoder is shown <mask> in the place of every token of the value, as many as it has, and what is
behind them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from lm.inference.batching import padded, ragged_batches
from lm.inference.hooks import evaluating
from lm.model import Decoder
from probing.knowledge.qa_data import Choices, Questions
from probing.scoring.closed_set import Trie, likelihoods
from probing.scoring.likelihood import TOKENS_A_BATCH, judged_targets
from synth.bio.value_lists import ATTRIBUTES
from synth.errors import UserError
from synth.tasks.bios import BioS

TIE = 1e-4  # nats: what is as close as this is as likely, as batches of other shapes round otherwise


@dataclass(frozen=True)
class Answers:
    """Of each question (n,): whether the first token is right and whether all of the answer is, decoding greedily; the
    loss of the value in nats; the number of the likeliest value, -1 where two are as likely or nobody asked."""

    first: np.ndarray
    exact: np.ndarray
    nats: np.ndarray
    likeliest: np.ndarray


def check_model(model: Decoder, task: BioS) -> None:
    """Raise UserError for a model that cannot have learned from this task's people."""
    needed = model.config.ids(task.vocab())
    if model.vocab_size != needed:
        raise UserError(
            f"the model has {model.vocab_size} tokens and these people's texts need {needed}; "
            "ask it about the people that it was trained on"
        )


def ask(model: Decoder, questions: Questions, candidates: bool = True) -> Answers:
    """Put all questions to a model. candidates: also find the likeliest value. The model is in eval mode meanwhile and
    afterwards as it was. Raises UserError for documents longer than its context."""
    with evaluating(model):
        return (_written if model.config.causal else _filled)(model, questions, candidates)


def _written(model: Decoder, questions: Questions, candidates: bool) -> Answers:
    first, exact, nats = [], [], []
    judged = judged_targets(model, questions.documents)
    for (hits, said), prompt, value, about in zip(
        judged, questions.prompts, questions.values, questions.about, strict=True
    ):
        stop = prompt - 1 + value + len(questions.choices[about].stop)
        first.append(hits[prompt - 1])
        exact.append(hits[prompt - 1 : stop].all())
        nats.append(-said[prompt - 1 : prompt - 1 + value].sum(dtype=np.float64))
    prompts = [d[:p] for d, p in zip(questions.documents, questions.prompts, strict=True)]

    def scores(rows: np.ndarray, among: Choices) -> np.ndarray:
        return likelihoods(model, [prompts[i] for i in rows], Trie.of(among.candidates), within=2 * TIE)

    said = _likeliest(questions, scores) if candidates else np.full(len(prompts), -1)
    return Answers(np.array(first), np.array(exact), np.array(nats), said)


def _filled(model: Decoder, questions: Questions, candidates: bool) -> Answers:
    rows = _in_masks(model, questions)
    first, exact, nats = [], [], []
    for said, document, prompt, value in zip(
        rows, questions.documents, questions.prompts, questions.values, strict=True
    ):
        truth = document[prompt : prompt + value]
        hits = said.argmax(-1) == truth
        first.append(hits[0])
        exact.append(hits.all())
        nats.append(-said[np.arange(value), truth].sum(dtype=np.float64))

    def scores(numbers: np.ndarray, among: Choices) -> np.ndarray:
        found = np.full((len(numbers), len(among.values)), -np.inf)
        for row, i in zip(found, numbers, strict=True):
            fitting = [c for c, value in enumerate(among.values) if len(value) == len(rows[i])]
            ids = np.array([among.values[c] for c in fitting])
            row[fitting] = rows[i][np.arange(ids.shape[1]), ids].sum(-1, dtype=np.float64)
        return found

    said = _likeliest(questions, scores) if candidates else np.full(len(rows), -1)
    return Answers(np.array(first), np.array(exact), np.array(nats), said)


@torch.inference_mode()
def _in_masks(model: Decoder, questions: Questions) -> list[np.ndarray]:
    """An encoder's log-probabilities (value, V) in the place of each value, whose tokens it does not see."""
    mask, device = model.vocab_size - 1, model.embed.weight.device
    hidden = []
    for document, prompt, value in zip(questions.documents, questions.prompts, questions.values, strict=True):
        hidden.append(document.astype(np.int64))
        hidden[-1][prompt : prompt + value] = mask
    lengths = np.array([len(document) for document in hidden])
    found = [np.zeros((0, 0), np.float32)] * len(hidden)
    for rows in ragged_batches(lengths, TOKENS_A_BATCH):
        tokens = padded(hidden, rows)
        real = np.arange(tokens.shape[1]) < lengths[rows, None]  # padding is another document
        logits = model(torch.from_numpy(tokens).to(device), torch.from_numpy(real.astype(np.int64)).to(device))
        for row, i in zip(logits, rows, strict=True):
            place = slice(questions.prompts[i], questions.prompts[i] + questions.values[i])
            found[i] = row[place].float().log_softmax(-1).cpu().numpy()
    return found


def _likeliest(questions: Questions, scores: Callable[[np.ndarray, Choices], np.ndarray]) -> np.ndarray:
    """The likeliest value (n,) of each question, -1 for a tie; scores(rows, choices) gives log-probabilities (R, C)."""
    found = np.full(len(questions.about), -1)
    for number in range(len(ATTRIBUTES)):
        rows = np.flatnonzero(questions.about == number)
        if len(rows):
            found[rows] = winners(scores(rows, questions.choices[number]))
    return found


def winners(scores: np.ndarray) -> np.ndarray:
    """The largest of each row (R, C): its column, or -1 when another is as large (a lone candidate always wins)."""
    best = scores.argmax(-1)
    close = (scores > scores.max(-1, keepdims=True) - TIE).sum(-1)
    return np.where(close == 1, best, -1)
