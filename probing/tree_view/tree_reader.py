"""The tree of one sentence as linear probes read it from every layer of a trained model.

The probes are those of Part 1 (arXiv 2305.13673): at every position and level, which symbol stands above it, asked of
the states of all positions (equation 4.2), and whether a subtree ends there, asked of the state at that position alone
(equation 4.3). They are fitted once for a model and then kept beside it.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm import tqdm

from lm.training.checkpoint import digest as digest_of_bytes
from probing.grammar.ancestor_probe import checked
from probing.grammar.parse_states import Question, Reader
from probing.linear.position_probe import PositionProbes, fit
from synth.atomic_io import replacing
from synth.errors import UserError
from synth.identity import digest
from synth.task import Example
from synth.tasks.cfg import Cfg

VERSION = 1  # raise it when what is fitted changes, so that kept probes are fitted anew
PARTS = (Question(), Question(boundary=True))


@dataclass(frozen=True)
class Effort:
    """How the probes are fitted: a quick version of probing.grammar.ancestor_probe.AncestorProbe. sentences: held out,
    for the score that is shown beside that of the sentence."""

    updates: int = 300
    batch: int = 32
    heads: int = 4
    position_width: int = 64
    rate: float = 1e-2
    sentences: int = 200


class Both(Question):
    """Ancestors on every level, then ends on every level, in one fit."""

    def classes(self, task: Cfg) -> list[int]:
        return [count for part in PARTS for count in part.classes(task)]

    def labels(self, sentences: Sequence[Example], length: int) -> np.ndarray:
        return np.concatenate([part.labels(sentences, length) for part in PARTS])


class TreeProbes(nn.Module):
    """Probes of ancestors that look everywhere and probes of ends that look at one position, to be fitted together."""

    def __init__(self, layers: int, task: Cfg, width: int, effort: Effort) -> None:
        super().__init__()
        length = task.world().max_length
        sizes = {"heads": effort.heads, "position_width": effort.position_width}
        self.ancestors = PositionProbes(layers, PARTS[0].classes(task), width, length, **sizes)
        self.ends = PositionProbes(layers, PARTS[1].classes(task), width, length, reach=0)

    def forward(self, states: Float[Tensor, "Y B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "Y V2 B T C"]:
        """Logits of the ancestors on all levels, then of the ends on all levels."""
        both = [self.ancestors(states, lengths), self.ends(states, lengths)]
        most = max(logits.shape[-1] for logits in both)
        return torch.cat([F.pad(logits, (0, most - logits.shape[-1]), value=-torch.inf) for logits in both], 1)


class TreeReader:
    """Probes fitted on a model: layers (Y names), and score (Y,), the share of ancestors read right in sentences that
    were not learned on."""

    def __init__(self, model: nn.Module, task: Cfg, data_seed: int, effort: Effort) -> None:
        self.task, self.effort = checked(model, task), effort
        self.levels = task.world().depth - 2
        self.reader = Reader(model, task, data_seed, ("embed", "block.*"), Both(), effort.batch)
        self.layers = self.reader.layers
        self.probes = TreeProbes(len(self.layers), self.task, self.reader.width, effort).to(self.reader.device)
        self.score: Float[np.ndarray, " Y"] = np.zeros(len(self.layers))

    def fit(self) -> None:
        """Learn, with a line of progress on standard error, and score."""
        batches = self.reader.training(self.effort.updates)
        every = 1.0 if sys.stderr.isatty() else 10.0
        shown = tqdm(batches, "fitting probes", leave=False, total=self.effort.updates, mininterval=every)
        fit(self.probes, iter(shown), self.effort.updates, self.effort.rate)
        right, asked = torch.zeros(len(self.layers)), 0
        with torch.inference_mode():
            for batch in self.reader.test(self.effort.sentences):
                known = batch.labels[: self.levels]
                answers = self.probes(batch.states, batch.lengths)[:, : self.levels].argmax(-1)
                right += ((answers == known) & (known >= 0)).sum((1, 2, 3)).cpu()
                asked += int((known >= 0).sum())
        self.score = (right / asked).double().numpy()

    @torch.inference_mode()
    def read(self, document: Int[np.ndarray, " S"]) -> tuple[Int[np.ndarray, "Y V T"], Bool[np.ndarray, "Y V T"]]:
        """Ancestors (numbers within their level) and ends, of <bos> sentence (S = T + 1)."""
        states = self.reader.states([Example(document, np.ones(len(document), bool))])
        lengths = torch.tensor([len(document) - 1], device=states.device)
        answers = self.probes(states, lengths).argmax(-1)[:, :, 0].cpu().numpy()
        return answers[:, : self.levels], answers[:, self.levels :] == 1

    def save(self, path: Path) -> None:
        """Raises OSError where the file cannot be written."""
        with replacing(path) as temporary:
            safetensors.torch.save_file(self._tensors(), temporary)

    def load(self, path: Path) -> bool:
        """Whether a file of this very fit was there and is now in use."""
        try:
            kept = safetensors.torch.load(path.read_bytes())
            if {name: t.shape for name, t in kept.items()} != {name: t.shape for name, t in self._tensors().items()}:
                return False
        except (OSError, SafetensorError):
            return False
        device = self.reader.device
        self.score = kept.pop("score").numpy()
        self.reader.shift, self.reader.scale = kept.pop("shift").to(device), kept.pop("scale").to(device)
        self.probes.load_state_dict(kept)
        return True

    def _tensors(self) -> dict[str, torch.Tensor]:
        spread = torch.zeros(len(self.layers), 1, 1, self.reader.width)
        shift, scale = (t if t.numel() else spread for t in (self.reader.shift, self.reader.scale))
        own = {"score": torch.from_numpy(self.score), "shift": shift, "scale": scale}
        return {name: tensor.contiguous().cpu() for name, tensor in {**self.probes.state_dict(), **own}.items()}


def tree_reader(model: nn.Module, weights: Path, task: Cfg, data_seed: int, effort: Effort, folder: Path) -> TreeReader:
    """The probes of a model whose weights are in that file, from `folder` where they were kept, else fitted and kept.

    Raises UserError for a model that was not built for the grammar, or a grammar without levels to ask for.
    """
    if effort.updates < 1:
        raise UserError(f"--updates {effort.updates} teaches the probes nothing; give at least 1")
    found = TreeReader(model, task, data_seed, effort)
    key = digest([VERSION, asdict(effort), task.key, data_seed, digest_of_bytes(weights.read_bytes())], 6)
    path = folder / f"{key}.safetensors"
    if not found.load(path):
        found.fit()
        try:
            found.save(path)
        except OSError as error:
            print(f"the probes are not kept for the next page: {path}: {error.strerror}", file=sys.stderr)
    return found
