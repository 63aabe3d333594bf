"""Train a decoder on a task, or sample from one, from the command line.

    python -m lm train cfg3b --folder runs/first --train.steps 500 --model.positions rotary
    python -m lm sample --folder runs/first --n 4

Seeds are three: data (the documents), init (the weights), order (of a task's fixed items).
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lm.config import ModelConfig, TrainConfig
from synth.errors import UserError


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

    def run(self) -> None:
        from lm.checkpoint import save
        from lm.model import build
        from lm.train import train
        from synth.registry import get_task

        task = get_task(self.task)
        model = build(self.model, task.vocab().size, self.init_seed)
        history = train(model, task, self.train, self.data_seed, self.order_seed, self.folder, self.checkpoint_every)
        save(model, self.folder / "model")
        (self.folder / "model" / "task.txt").write_text(self.task + "\n")
        last = history[-1]
        print(f"loss {last['loss']:.4f} nats after {history.tokens} tokens; the model is in {self.folder / 'model'}")


@dataclass(frozen=True)
class Sample:
    """Print documents drawn from a trained model, one a line."""

    folder: Path
    """The folder given to `train`."""
    n: int = 10
    max_new_tokens: int = 512
    temperature: float = 1.0
    seed: int = 0

    def run(self) -> None:
        from lm.checkpoint import load
        from lm.generate import generate
        from synth.registry import get_task

        model = load(self.folder / "model")
        vocab = get_task((self.folder / "model" / "task.txt").read_text().strip()).vocab()
        prompts = [[vocab.bos]] * self.n
        for tokens in generate(model, prompts, self.max_new_tokens, self.temperature, vocab.eos, self.seed):
            print(" ".join(vocab.decode(tokens)))


def main() -> int:
    commands: type = Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Sample, tyro.conf.subcommand("sample")]  # type: ignore[assignment]
    try:
        tyro.cli(commands, description=__doc__, prog="python -m lm").run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
