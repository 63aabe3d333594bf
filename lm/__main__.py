"""Train a decoder on a task, score one, or sample from one.

    python -m lm train mano --ops 2 --modulus 5 --output-dir runs/first --train.steps 500 --model.positions rotary
    python -m lm train --config run.yaml --train.lr 2e-3
    python -m lm eval --output-dir runs/first
    python -m lm sample --output-dir runs/first --num-samples 4

TASK is a name from `python -m synth list`, or path/to/file.py:Class; its fields are options too, and
`python -m lm train TASK --help` explains them all. A configuration file holds any of the options as YAML, under the
names of the fields; flags override it, and a TASK on the command line replaces the file's task:

    task: {name: mano, ops: 2, modulus: 5}
    output_dir: runs/first
    model: {n_layers: 4, positions: rotary}
    train: {steps: 500, lr: 1e-3}
    init_seed: 1

Seeds are three: data (the documents), init (the weights), order (of a task's fixed items).
"""

import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lm.config import ModelConfig, TrainConfig
from lm.inference.commands import PROG, TASK_FILE, Eval, Sample, TrustedCode
from synth.atomic_io import read_at_most, write_bytes
from synth.commands.command_line import (
    changed_fields,
    choose_command,
    guarded,
    parse,
    parse_with_task,
    split_task,
    words_from_mapping,
)
from synth.errors import UserError
from synth.registry import task_class
from synth.task import Task
from synth.user_code import is_file_spec, require_trust, spec_path, trust

EVALUATED = 200  # test documents that are scored after a training
SECONDS = 10.0  # between lines of progress
MAX_FILE_BYTES = 1_000_000  # of a configuration file or a task file


@dataclass(frozen=True)
class Train:
    """Train on a task; the same command goes on where it stopped."""

    output_dir: Path
    """folder of metrics.jsonl, checkpoints and the finished model"""
    config: Path | None = None
    """YAML file with any of these options, which flags override; `python -m lm --help` shows one"""
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000))
    data_seed: int = 0
    """seed of the task's world and of the documents"""
    init_seed: int = 0
    """seed of the initial weights"""
    order_seed: int = 0
    """seed of the order in which a task's fixed items are seen"""
    checkpoint_every: int = 200
    """steps between checkpoints"""
    tracker: str = ""
    """tensorboard, wandb (offline) or trackio (local): show the training there, with files under the folder"""
    trust_code: TrustedCode = ()
    """file of your own code that the configuration file names, one each time; it runs only if named here"""

    def run(self, task: Task, spec: str, default: Task) -> None:
        """Train, save the model, and write the task beside it. default: the task as `spec` alone has it."""
        from lm.inference.evaluation import describe_skill
        from lm.model import build
        from lm.pretrained import load, save
        from lm.training.loop import train
        from lm.training.trackers import open_tracker

        if self.checkpoint_every < 1:
            raise UserError(f"--checkpoint-every {self.checkpoint_every} steps never come; give at least 1")
        set_fields = changed_fields(default, task)
        model = build(self.model, self.model.model_vocab_size(task.vocab()), self.init_seed)
        first = os.environ.get("RANK", "0") == "0"  # of the processes that accelerate or torchrun started
        lines = Lines() if first and not sys.stderr.isatty() else None
        seeds = (self.data_seed, self.order_seed)
        tracker = self.tracker if first else ""
        folder, settings = self.output_dir / "tracking" / tracker, self._tracker_settings(spec, set_fields)
        with open_tracker(tracker, folder, self.output_dir.resolve().name, settings) as follow:
            history = train(
                model, task, self.train, *seeds, self.output_dir, self.checkpoint_every, on_step=lines, on_log=follow
            )
        if not first:
            return
        home = self.output_dir / "model"
        save(model, home, task)
        record = {"task": spec, "fields": set_fields, "key": task.key, "data_seed": self.data_seed}
        try:
            write_bytes(home / TASK_FILE, json.dumps(record, default=str).encode())
        except OSError as error:
            raise UserError(f"cannot write {home / TASK_FILE} ({error.strerror}); free space and run again") from error
        print(f"loss {history[-1]['loss']:.4f} nats after {history.tokens} tokens; the model is in {home}")
        if self.model.causal:
            print(describe_skill(load(home), task, self.data_seed, EVALUATED))
            code = sorted({str(spec_path(each)) for each in (spec, self.model.mixer) if is_file_spec(each)})
            trusted = "".join(f" --trust-code {path}" for path in code)
            print(f"samples:      {PROG} sample --output-dir {self.output_dir}{trusted}")
        kind = "Causal" if self.model.causal else "Masked"
        print(f"transformers: import lm.hf, then AutoModelFor{kind}LM.from_pretrained({str(home)!r})")

    def _tracker_settings(self, spec: str, set_fields: dict[str, Any]) -> dict[str, Any]:
        seeds = {"data_seed": self.data_seed, "init_seed": self.init_seed, "order_seed": self.order_seed}
        return {"task": spec, **set_fields, **asdict(self.model), **asdict(self.train), **seeds}


class Lines:
    """Progress where there is no terminal for a bar: a plain line on standard error every ten seconds."""

    def __init__(self) -> None:
        self.start = self.last_line = time.monotonic()

    def __call__(self, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if now - self.last_line >= SECONDS:
            self.last_line = now
            print(f"step {step} of {steps}, loss {loss:.4f}, {now - self.start:.0f} s", file=sys.stderr, flush=True)


def _train(prog: str, argv: Sequence[str]) -> None:
    spec, words = split_task(argv)
    if spec is None and set(words) & {"-h", "--help"}:
        parse(Train, f"{prog} TASK", ["--help"])
    for path in _values(words, "--trust-code"):
        trust(path)
    for path in _values(words, "--config")[-1:]:
        spec, from_file = _read_config(Path(path), spec)
        words = from_file + words
    if spec is None:
        raise UserError(f"which task? {prog} TASK, or a task in --config FILE; `python -m synth list` names them")
    options, task, default = parse_with_task(Train, prog, spec, words)
    options.run(task, spec, default)


def _values(argv: Sequence[str], flag: str) -> list[str]:
    """What follows each use of a flag, also after =."""
    words = [(*word.partition("="), after) for word, after in zip(argv, [*argv[1:], ""], strict=False)]
    return [
        value if equals else after
        for name, equals, value, after in words
        if name.replace("_", "-") == flag and (value or after)
    ]


def _read_config(path: Path, spec: str | None) -> tuple[str, list[str]]:
    """The task, `spec` if one is given, and the arguments that a configuration file stands for.

    Raises UserError that names the file and the key for what is no option, and for code that only the file names.
    """
    record = _load_yaml(path)
    task = record.pop("task", {})
    task = dict(task) if isinstance(task, Mapping) else {"name": task}
    name = task.pop("name", None)
    if spec is None:
        if not isinstance(name, str):
            raise UserError(f"{path}: task takes a name; write task: mano, or task: {{name: mano, ops: 2}}")
        spec = name
        if is_file_spec(spec):
            require_trust(spec_path(spec), path)
    model = record.get("model")
    mixer = model.get("mixer") if isinstance(model, Mapping) else None
    if isinstance(mixer, str) and is_file_spec(mixer):
        require_trust(spec_path(mixer), path)
    for key in {"config", "trust_code"} & record.keys():
        raise UserError(f"{path}: {key} is an option of the command line only; give --{key.replace('_', '-')} there")
    try:
        words = words_from_mapping(record, Train)
        words += words_from_mapping(task if name in (None, spec) else {}, task_class(spec)[0])
        parse_with_task(Train, PROG, spec, ["--output-dir=.", *words])
    except UserError as error:
        message = re.sub(r"--(?!help)([\w.-]+)", lambda flag: flag[1].replace("-", "_"), str(error))  # keys, not flags
        raise UserError(f"{path}: {message}") from error
    return spec, words


def _load_yaml(path: Path) -> dict[Any, Any]:
    import yaml

    try:
        record = yaml.safe_load(read_at_most(path, MAX_FILE_BYTES))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); give a YAML file") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    except (UserError, ValueError, RecursionError) as error:
        raise error if isinstance(error, UserError) else UserError(f"{path} is no configuration; {error}") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} holds no keys; write, for example, task: mano")
    return record


COMMANDS: dict[str, type[Any]] = {"train": Train, "eval": Eval, "sample": Sample}


def _run(argv: Sequence[str] | None = None) -> None:
    name, rest = choose_command(PROG, __doc__ or "", COMMANDS, argv)
    if name == "train":
        _train(f"{PROG} train", rest)
    else:
        parse(COMMANDS[name], f"{PROG} {name}", rest).run()


def main() -> int:
    return guarded(_run, "run the same command to go on")


if __name__ == "__main__":
    sys.exit(main())
