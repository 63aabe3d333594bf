"""Generating biographies (Physics of Language Models, Parts 3.1 and 3.3), and its cost in training.

First documents/s through the Corpus on one core; the peer is Hugging Face's tokenizers, which only look up the words of
finished texts. Then training on freshly worded documents, against training on the same batches made beforehand.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from benchmarks.peers import threads
from benchmarks.timing import ROUNDS, Row, compare, measure_in_turns, rate_of
from lm.config import ModelConfig, TrainConfig
from lm.data.batches import TrainBatch, prefetch_batches
from lm.model import build
from lm.training.history import History
from lm.training.loop import train
from synth.corpus import Corpus
from synth.task import Task
from synth.tasks.biod import BioD
from synth.tasks.bios import BioS

BAR = 200_000.0  # biographies/s on one core
SLOWDOWN = 0.97  # of the rate on batches made beforehand
RENDERED = {
    "bioS": (BioS(people=20_000, permute=1), BAR),
    "bioR": (BioS(people=20_000, style="prose"), None),
    "bioD": (BioD(people=20_000), None),
}
LOOKUP = "tokenizers, words of finished texts"
READY = "the same batches drawn beforehand"


@dataclass(frozen=True)
class Job:
    """A training run whose first `warm` steps are not timed."""

    task: Task
    model: ModelConfig
    config: TrainConfig
    warm: int

    @property
    def timed_tokens(self) -> int:
        """Number of trained tokens in the timed steps."""
        return (self.config.steps - self.warm) * self.config.batch_size * self.config.seq_len


def jobs(quick: bool) -> dict[str, Job]:
    """A small model on biographies, and as the worst case a tiny one on short documents."""
    bios, biod = BioS(people=5000, permute=1), BioD(people=2000)
    windows = TrainConfig(steps=4 if quick else 11, batch_size=8, compile=False)
    row = TrainConfig(
        steps=8 if quick else 400, batch_size=64, seq_len=biod.document_length - 1, packing="none", compile=False
    )
    return {
        "bioS 2 x 64, 8 x 512": Job(bios, ModelConfig(2, 2, 64), windows, warm=2 if quick else 3),
        "bioD 2 x 24, 64 documents": Job(biod, ModelConfig(2, 2, 24), row, warm=4 if quick else 100),
    }


def batches(job: Job) -> list[TrainBatch]:
    """All batches of a training run, in memory."""
    corpus = Corpus(job.task, 0, seq_len=job.config.seq_len, packing=job.config.packing)
    return list(prefetch_batches(corpus, job.config, corpus.start(), job.config.steps))


def train_job(job: Job, ready: list[TrainBatch] | None = None) -> History:
    """The history of a training run, on its normal stream or on the batches `ready`."""
    model = build(job.model, job.task.vocab().size, 0)

    def run() -> History:
        return train(model, job.task, job.config, data_seed=0, log_every=job.warm, on_step=lambda *_: None)

    if ready is None:
        return run()
    with patch("lm.training.loop.prefetch_batches", lambda *_: iter(ready)):
        return run()


def texts(task: Task, n: int) -> tuple[Any, list[str]]:
    """A word-level tokenizer with the task's vocabulary, and the texts of its first n documents."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    corpus = Corpus(task, 0)
    names = corpus.vocab.names
    tokenizer = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token=names[0]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    block = corpus.documents(0, n)
    return tokenizer, [" ".join(corpus.vocab.decode(block[i].tokens[1:-1])) for i in range(n)]


def run(quick: bool) -> Iterator[Row]:
    """Documents/s of three tasks, then tokens/s of two training runs, on one thread and the prefetch thread."""
    rounds = 2 if quick else ROUNDS
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core, as ours
    for name, (task, bar) in RENDERED.items():
        sides = rate_of(_ours(task, 1 if quick else 200)), rate_of(_theirs(task, 10 if quick else 4000))
        mine, other = measure_in_turns(*sides, rounds=rounds)
        yield compare(name, "documents/s", mine, LOOKUP, other, threads=1, bar=bar, bar_on="value")
    with threads(1):
        for case, job in jobs(quick).items():
            ready = batches(job)
            mine, other = measure_in_turns(_rate(job), _rate(job, ready), rounds=rounds)
            yield compare(f"training {case}", "tokens/s", mine, READY, other, threads=1, bar=SLOWDOWN)


def _ours(task: Task, blocks: int) -> Callable[[], float]:
    """A function that generates new blocks at every call and returns the number of documents."""
    corpus, fresh = Corpus(task, 0), iter(range(1 << 40))
    return lambda: sum(len(corpus.block(next(fresh))) for _ in range(blocks))


def _theirs(task: Task, n: int) -> Callable[[], float]:
    tokenizer, lines = texts(task, n)
    return lambda: len(tokenizer.encode_batch(lines))


def _rate(job: Job, ready: list[TrainBatch] | None = None) -> Callable[[], float]:
    def side() -> float:
        history = train_job(job, ready)
        return job.timed_tokens / (history[-1]["seconds"] - history[0]["seconds"])

    return side
