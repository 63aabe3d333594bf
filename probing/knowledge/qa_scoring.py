"""Scores of a model's answers to questions about people, used by extraction, its controls and extractable capacity.

The measures of Part 3.1 (arXiv 2309.14316, sections 2.2 and 6): the first token of the answer and the whole answer
under greedy decoding; beyond the paper, the most probable of all possible answers. A causal model continues the prompt;
an encoder sees <mask> for every token of the true value, and the text after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lm.inference.batching import pad_documents, ragged_batches
from lm.inference.hooks import eval_mode
from lm.inference.sampling import generate
from lm.model import Decoder
from probing.knowledge.qa_data import AnswerChoices, QuestionSet
from probing.scoring.closed_set import Trie, score_closed_set
from probing.scoring.likelihood import TOKENS_A_BATCH, argmax_and_log_probabilities
from synth.errors import UserError
from synth.task import TrainingData

TIE = 1e-4  # nats: smaller differences count as ties, because rounding depends on the shape of the batch
GENERATION_BATCH_SIZE = 512  # prompts


@dataclass(frozen=True)
class QAScores:
    """Scores of n questions, each array (n,).

    first_token_correct, exact_match: under greedy decoding, of the first token and of the value with its full stop
    (encoders: of the value). value_nats: loss of the true value, summed over its tokens. likeliest_value: index of the
    most probable value among the choices; -1 for a tie, or where it was not computed.
    """

    first_token_correct: np.ndarray
    exact_match: np.ndarray
    value_nats: np.ndarray
    likeliest_value: np.ndarray


def check_vocabulary(model: Decoder, task: TrainingData) -> None:
    """Raise UserError unless the model has the vocabulary of this task."""
    if model.vocab_size != (needed := model.config.model_vocab_size(task.vocab())):
        raise UserError(
            f"the model has {model.vocab_size} tokens and {task.name} needs {needed}; "
            "use the people, questions= and reasoning= of the biographies that it was trained on"
        )


def greedy_completions(
    model: Decoder, prompts: Sequence[np.ndarray], max_new_tokens: int, eos: int
) -> list[np.ndarray]:
    """The ids that greedy decoding writes after each prompt, until `eos` or for `max_new_tokens`, without progress
    bar."""
    batch = GENERATION_BATCH_SIZE
    return generate(model, prompts, max_new_tokens, 0.0, eos, batch=batch, progress=lambda *_: None)


def score_questions(model: Decoder, questions: QuestionSet, score_all_values: bool = True) -> QAScores:
    """Scores of a model's answers; score_all_values: also compute likeliest_value.

    The model is put into eval mode and its mode is restored afterwards. Raises UserError for documents longer than its
    context.
    """
    with eval_mode(model):
        return (_score_causal if model.config.causal else _score_masked)(model, questions, score_all_values)


def _score_causal(model: Decoder, questions: QuestionSet, score_all_values: bool) -> QAScores:
    first, exact, nats = [], [], []
    predictions = argmax_and_log_probabilities(model, questions.documents)
    parts = zip(predictions, questions.value_spans, questions.attribute_ids, strict=True)
    for (hits, log_probs), span, attribute in parts:
        start, end = span.start - 1, span.stop - 1  # logits at position i predict token i + 1
        first.append(hits[start])
        exact.append(hits[start : end + len(questions.choices[attribute].full_stop)].all())
        nats.append(-log_probs[start:end].sum(dtype=np.float64))
    prompts = [d[:p] for d, p in zip(questions.documents, questions.prompt_lengths, strict=True)]

    def scores(rows: np.ndarray, choices: AnswerChoices) -> np.ndarray:
        trie = Trie.from_sequences(choices.sequences)
        return score_closed_set(model, [prompts[i] for i in rows], trie, beam_nats=2 * TIE)

    likeliest = _pick_likeliest_values(questions, scores) if score_all_values else np.full(len(prompts), -1)
    return QAScores(np.array(first), np.array(exact), np.array(nats), likeliest)


def _score_masked(model: Decoder, questions: QuestionSet, score_all_values: bool) -> QAScores:
    log_probs = _masked_log_probabilities(model, questions)
    first, exact, nats = [], [], []
    for row, document, span in zip(log_probs, questions.documents, questions.value_spans, strict=True):
        truth = document[span]
        hits = row.argmax(-1) == truth
        first.append(hits[0])
        exact.append(hits.all())
        nats.append(-row[np.arange(len(truth)), truth].sum(dtype=np.float64))

    def scores(rows: np.ndarray, choices: AnswerChoices) -> np.ndarray:
        result = np.full((len(rows), len(choices.values)), -np.inf)
        for row, i in zip(result, rows, strict=True):
            same_length = [c for c, value in enumerate(choices.values) if len(value) == len(log_probs[i])]
            ids = np.array([choices.values[c] for c in same_length])
            row[same_length] = log_probs[i][np.arange(ids.shape[1]), ids].sum(-1, dtype=np.float64)
        return result

    likeliest = _pick_likeliest_values(questions, scores) if score_all_values else np.full(len(log_probs), -1)
    return QAScores(np.array(first), np.array(exact), np.array(nats), likeliest)


@torch.inference_mode()
def _masked_log_probabilities(model: Decoder, questions: QuestionSet) -> list[np.ndarray]:
    """For each question an encoder's log-probabilities (value length, V) at the masked tokens of the value."""
    mask, device = model.vocab_size - 1, model.embed.weight.device
    masked, spans = [], questions.value_spans
    for document, span in zip(questions.documents, spans, strict=True):
        masked.append(document.astype(np.int64))
        masked[-1][span] = mask
    lengths = np.array([len(document) for document in masked])
    log_probs = [np.zeros((0, 0), np.float32)] * len(masked)
    for rows in ragged_batches(lengths, TOKENS_A_BATCH):
        tokens = pad_documents(masked, rows)
        real = np.arange(tokens.shape[1]) < lengths[rows, None]  # padding counts as another document
        logits = model(torch.from_numpy(tokens).to(device), torch.from_numpy(real.astype(np.int64)).to(device))
        for row, i in zip(logits, rows, strict=True):
            log_probs[i] = row[spans[i]].float().log_softmax(-1).cpu().numpy()
    return log_probs


def _pick_likeliest_values(
    questions: QuestionSet, scores: Callable[[np.ndarray, AnswerChoices], np.ndarray]
) -> np.ndarray:
    """Index (n,) of the most probable value, -1 for a tie; scores(rows, choices) returns log-probabilities (R, C)."""
    likeliest = np.full(len(questions.attribute_ids), -1)
    for attribute in np.unique(questions.attribute_ids):
        rows = np.flatnonzero(questions.attribute_ids == attribute)
        likeliest[rows] = argmax_or_tie(scores(rows, questions.choices[attribute]))
    return likeliest


def argmax_or_tie(scores: np.ndarray) -> np.ndarray:
    """Column of the maximum of each row (R, C); -1 if another one is within TIE of it."""
    best = scores.argmax(-1)
    close = (scores > scores.max(-1, keepdims=True) - TIE).sum(-1)
    return np.where(close == 1, best, -1)
