"""`python -m lm eval` and `sample`: a trained model is scored on its task, or shown at it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro

from synth.atomic_io import read_at_most
from synth.commands.command_line import task_from_fields
from synth.errors import UserError
from synth.user_code import is_file_spec, require_trust, spec_path, trust

if TYPE_CHECKING:
    from lm.model import Decoder
    from synth.corpus import Corpus

PROG = "python -m lm"
TASK_FILE = "task.json"  # beside the model: the task as it was named, its fields that were set, its key, the data seed
MAX_FILE_BYTES = 1_000_000  # of a task file
TrustedCode = tyro.conf.UseAppendAction[tuple[Path, ...]]


@dataclass(frozen=True)
class Trained:
    """What `eval` and `sample` read: a trained model and its task."""

    output_dir: Path
    """the folder given to `train`"""
    trust_code: TrustedCode = ()
    """file of your own code that the model or its task is made of, one each time; it runs only if named here"""

    def read(self) -> tuple["Decoder", "Corpus"]:
        """The model, and the test documents of its task and seed. Raises UserError if they do not fit each other."""
        from lm.pretrained import load
        from synth.corpus import Corpus

        for path in self.trust_code:
            trust(path)
        model, path = load(self.output_dir / "model"), self.output_dir / "model" / TASK_FILE
        try:
            record = json.loads(read_at_most(path, MAX_FILE_BYTES))
            spec, set_fields, data_seed = str(record["task"]), dict(record["fields"]), int(record["data_seed"])
        except (OSError, ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
            raise UserError(f"{path} does not name a task; train with `{PROG} train`") from error
        if is_file_spec(spec):
            require_trust(spec_path(spec), path)
        task = task_from_fields(spec, set_fields, path)
        if task.key != record.get("key"):
            raise UserError(f"{path} names {spec} as it was when the model was trained; give that version of its files")
        corpus = Corpus(task, data_seed, "test")
        if model.vocab_size < (needed := model.config.model_vocab_size(corpus.vocab)):
            raise UserError(f"{self.output_dir} has a model of {model.vocab_size} ids and {spec} needs {needed}; "
                            "it is not the task that it was trained on")  # fmt: skip
        return model, corpus


@dataclass(frozen=True)
class Eval(Trained):
    """Score a trained model on test documents: completions beside chance, loss beside the floor."""

    num_samples: int = 1000
    """test documents"""

    def run(self) -> None:
        from lm.inference.evaluation import describe_skill
        from lm.model import require_causal

        if self.num_samples < 1:
            raise UserError(f"--num-samples {self.num_samples} asks for no documents; give at least 1")
        model, corpus = self.read()
        require_causal(model, "scoring completions")
        print(describe_skill(model, corpus.task, corpus.seed, self.num_samples))


@dataclass(frozen=True)
class Sample(Trained):
    """Print documents drawn from a trained model, one a line, and whether they are right.

    Where a task has prompts: those of its test split, |, and what the model wrote. An unfinished document ends in ...
    """

    num_samples: int = 10
    """documents to draw"""
    max_new_tokens: int | None = None
    """tokens after which an unfinished document is cut; by default the length of the answer, or twice that of the
    longest document"""
    temperature: float = 1.0
    """divides the logits; 0 takes the likeliest token"""
    seed: int = 0
    """seed of the sampling"""
    json: bool = False
    """print JSON lines, as `python -m synth score` reads them"""

    def run(self) -> None:
        from lm.inference.evaluation import complete

        if self.num_samples < 1:
            raise UserError(f"--num-samples {self.num_samples} asks for no documents; give at least 1")
        model, corpus = self.read()
        options = (self.num_samples, self.max_new_tokens, self.temperature, self.seed)
        for one in complete(model, corpus, *options):
            if self.json:
                row = {"index": one.index, "split": corpus.split, "seed": corpus.seed}
                print(json.dumps(row | {"tokens": corpus.vocab.decode(one.tokens), **(one.scores or {})}))
            else:
                print(_text(corpus, one.prompt, one.tokens) + _mark(one.scores))


def _mark(scores: dict[str, float] | None) -> str:
    """Whether a completion is right, where its task says so by a single score."""
    if not scores or len(scores) != 1:
        return ""
    (value,) = scores.values()
    return "  [right]" if value == 1 else "  [wrong]" if value == 0 else f"  [{value:.3g}]"


def _text(corpus: "Corpus", prompt: np.ndarray, tokens: np.ndarray) -> str:
    """A document as symbol names, without special tokens."""
    vocab = corpus.vocab
    prompt_ids, ids = ([t for t in each.tolist() if 0 < t < vocab.eos] for each in (prompt, tokens))
    unfinished = vocab.eos not in tokens and vocab.eos in corpus.documents(0, 1)[0].tokens
    words = [*vocab.decode(ids), "..."] if unfinished else vocab.decode(ids)
    return " ".join([*vocab.decode(prompt_ids), "|", *words] if prompt_ids else words)
