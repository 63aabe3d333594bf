"""How good a model is at its task: scores of completions beside chance, and loss beside its floor."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from lm.inference.batching import pad_documents, ragged_batches
from lm.inference.hooks import eval_mode
from lm.inference.sampling import generate, no_progress
from lm.model import Decoder
from lm.options import TABLE_POSITIONS
from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import Task

BATCH = 64  # documents at a time, for the loss


@dataclass(frozen=True)
class Completion:
    """What a model wrote after the prompt of test document `index`: tokens (T,), and its scores by metric, None where
    the task cannot judge it."""

    index: int
    prompt: np.ndarray
    tokens: np.ndarray
    scores: dict[str, float] | None


def complete(
    model: Decoder, corpus: Corpus, samples: int, max_new_tokens: int | None = None, temperature: float = 1.0,
    seed: int = 0,
) -> list[Completion]:  # fmt: skip
    """Completions of the prompts of the first `samples` documents of a corpus.

    They end with <eos>, in a task without it with the length of the true answer, or after max_new_tokens (None: twice
    the longest answer, as far as the model's positions reach).
    """
    vocab, block = corpus.vocab, corpus.documents(0, samples)
    prompts, answers = [block[i].prompt for i in range(samples)], block.lengths - block.prompt_lengths
    has_eos = vocab.eos in block.tokens
    most = max_new_tokens
    if most is None:
        most = int(answers.max()) * (2 if has_eos else 1)
        if model.config.positions in TABLE_POSITIONS:
            most = max(1, min(most, model.config.max_seq_len - int(block.prompt_lengths.max())))
    drawn = generate(model, prompts, most, temperature, vocab.eos, seed, progress=no_progress)
    if not has_eos:
        drawn = [tokens[:length] for tokens, length in zip(drawn, answers, strict=True)]
    return [Completion(i, prompts[i], drawn[i], _score(corpus, i, drawn[i])) for i in range(samples)]


def _score(corpus: Corpus, index: int, tokens: np.ndarray) -> dict[str, float] | None:
    try:
        return dict(corpus.task.score(corpus.world, corpus.documents(index, index + 1)[0], tokens))
    except UserError:
        return None


def mean_scores(completions: Sequence[Completion]) -> dict[str, float]:
    """The mean of each metric over the completions that were judged."""
    judged = [one.scores for one in completions if one.scores is not None]
    return {name: float(np.mean([scores[name] for scores in judged])) for name in (judged[0] if judged else ())}


@torch.inference_mode()
def held_out_loss(model: Decoder, corpus: Corpus, samples: int) -> float:
    """Mean loss in nats over the targets of the first `samples` documents of a corpus, each by itself."""
    block = corpus.documents(0, samples)
    documents = block.documents
    trained = [np.where(block[i].loss_mask, block[i].tokens, 0) for i in range(samples)]
    device, total, count = model.embed.weight.device, 0.0, 0
    with eval_mode(model):
        for numbers in ragged_batches(block.lengths, BATCH * int(block.lengths.max())):
            # of padding the loss is not asked: in both arrays it is 0, which no target is (a document begins with it)
            tokens = pad_documents(documents, numbers)
            targets = pad_documents(trained, numbers)[:, 1:]
            logits = model(torch.from_numpy(tokens[:, :-1]).to(device)).float().flatten(0, 1)
            wanted = torch.from_numpy(targets).to(device).flatten()
            total += float(F.cross_entropy(logits, wanted, ignore_index=0, reduction="sum"))
            count += int((targets > 0).sum())
    return total / max(count, 1)


def describe_skill(model: Decoder, task: Task, data_seed: int, samples: int) -> str:
    """Scores of a model's completions of test documents beside chance, and its loss on them beside the floor, in
    words."""
    corpus = Corpus(task, data_seed, "test")
    floors, longest = corpus.task.floors(corpus.world), int(corpus.documents(0, samples).lengths.max())
    if model.config.positions in TABLE_POSITIONS and longest > model.config.max_seq_len:
        return f"a test document of {longest} tokens does not fit the model's {model.config.max_seq_len} positions"
    parts = [f"loss {held_out_loss(model, corpus, samples):.4f} nats" + _beside("floor", floors.get("loss"))]
    is_asked = int(corpus.documents(0, samples).prompt_lengths.max()) > 1  # then the likeliest answer counts
    scores = mean_scores(complete(model, corpus, samples, temperature=0.0 if is_asked else 1.0))
    parts += [f"{name} {value:.3f}" + _beside("chance", floors.get(name)) for name, value in scores.items()]
    return f"on {samples} {corpus.split} documents: {', '.join(parts)}"


def _beside(word: str, value: float | None) -> str:
    return "" if value is None else f" ({word} {value:.4g})"
