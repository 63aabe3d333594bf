"""Train a decoder on a task, or sample from one, from the command line.

    python -m lm train cfg3b --folder runs/first --train.steps 500 --model.positions rotary
    python -m lm sample --folder runs/first --n 4

Seeds are three: data (the documents), init (the weights), order (of a task's fixed items).
"""

import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from lm.config import ModelConfig, TrainConfig
from synth.__main__ import guarded, parse
from synth.errors import UserError
from synth.vocab import Vocab

TASK = "task.txt"  # beside the model: the task as it was named, and the data seed
SECONDS = 10.0  # between lines of progress


@dataclass(frozen=True)
class Train:
    """Train on a task; the same command goes on where it stopped."""

    task: tyro.conf.Positional[str]
    """Name, preset or path/to/file.py:Class of a task."""
    folder: Path
    """Where metrics.jsonl, checkpoints and the finished model go."""
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000))
    data_seed: int = 0
    init_seed: int = 0
    order_seed: int = 0
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    track: str = ""
    """tensorboard, wandb (offline) or trackio (local): show the training there, with files under the folder."""

    def run(self) -> None:
        from lm.model import build
        from lm.pretrained import save
        from lm.training.loop import train
        from lm.training.trackers import tracking
        from synth.registry import file_of, get_task, is_file

        task = get_task(self.task)
        model = build(self.model, self.model.ids(task.vocab()), self.init_seed)
        first = os.environ.get("RANK", "0") == "0"  # of the processes that accelerate or torchrun started
        lines = Lines() if first and not sys.stderr.isatty() else None
        seeds = (self.data_seed, self.order_seed)
        track = self.track if first else ""
        with tracking(track, self.folder / "tracking" / track, self.folder.resolve().name, self._settings()) as follow:
            history = train(
                model, task, self.train, *seeds, self.folder, self.checkpoint_every, progress=lines, follow=follow
            )
        if not first:
            return
        home = self.folder / "model"
        save(model, home)
        try:
            (home / TASK).write_text(f"{self.task}\n{self.data_seed}\n")
        except OSError as error:
            raise UserError(f"cannot write {home / TASK} ({error.strerror}); free space and run again") from error
        print(f"loss {history[-1]['loss']:.4f} nats after {history.tokens} tokens; the model is in {home}")
        if self.model.causal:
            code = sorted({str(file_of(spec)) for spec in (self.task, self.model.mixer) if is_file(spec)})
            trusted = "".join(f" --trust {path}" for path in code)
            print(f"samples:      python -m lm sample --folder {self.folder}{trusted}")
        kind = "Causal" if self.model.causal else "Masked"
        print(f"transformers: import lm.hf.modeling, then AutoModelFor{kind}LM.from_pretrained({str(home)!r})")

    def _settings(self) -> dict[str, Any]:
        """What a tracker shows beside the training."""
        seeds = {"data_seed": self.data_seed, "init_seed": self.init_seed, "order_seed": self.order_seed}
        return {"task": self.task, **asdict(self.model), **asdict(self.train), **seeds}


class Lines:
    """Progress where there is no terminal for a bar: a plain line on standard error every ten seconds."""

    def __init__(self) -> None:
        self.began = self.told = time.monotonic()

    def __call__(self, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if now - self.told >= SECONDS:
            self.told = now
            print(f"step {step} of {steps}, loss {loss:.4f}, {now - self.began:.0f} s", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Sample:
    """Print documents drawn from a trained model, one a line.

    Where a task has prompts: those of its test split, |, and what the model wrote. An unfinished document ends in ...
    """

    folder: Path
    """The folder given to `train`."""
    n: int = 10
    max_new_tokens: int = 512
    temperature: float = 1.0
    seed: int = 0
    trust: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Files of your own code that the model or its task is made of, each with a --trust; it runs only if named here."""

    def run(self) -> None:
        from lm.inference.sampling import generate
        from lm.pretrained import load
        from synth.corpus import Corpus
        from synth.registry import file_of, get_task, is_file, require_trust, trust

        if self.n < 1:
            raise UserError(f"--n {self.n} asks for no documents; give at least 1")
        for path in self.trust:
            trust(path)
        model, note = load(self.folder / "model"), self.folder / "model" / TASK
        try:
            name, *seed = note.read_text().splitlines()
            data_seed = int(seed[0]) if seed else 0
        except (OSError, ValueError) as error:
            raise UserError(f"{note} does not name a task; train with `lm train`") from error
        if is_file(name):
            require_trust(file_of(name), note)
        corpus = Corpus(get_task(name), data_seed, "test")
        if model.vocab_size < (needed := model.config.ids(corpus.vocab)):
            raise UserError(f"{self.folder} has a model of {model.vocab_size} ids and {name} needs {needed}; "
                            "it is not the task that it was trained on")  # fmt: skip
        block = corpus.documents(0, self.n)
        prompts = [block[i].prompt for i in range(self.n)]
        drawn = generate(model, prompts, self.max_new_tokens, self.temperature, corpus.vocab.eos, self.seed)
        for prompt, tokens in zip(prompts, drawn, strict=True):
            print(_text(corpus.vocab, prompt, tokens))


def _text(vocab: Vocab, prompt: np.ndarray, tokens: np.ndarray) -> str:
    """A document in words, freed of special tokens."""
    given, said = ([t for t in ids.tolist() if 0 < t < vocab.eos] for ids in (prompt, tokens))
    words = vocab.decode(said) if vocab.eos in tokens else [*vocab.decode(said), "..."]
    return " ".join([*vocab.decode(given), "|", *words] if given else words)


def main() -> int:
    commands: type = Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Sample, tyro.conf.subcommand("sample")]  # type: ignore[assignment]
    stopped = "run the same command to go on"
    return guarded(lambda: parse(commands, description=__doc__, prog="python -m lm").run(), stopped)


if __name__ == "__main__":
    sys.exit(main())
