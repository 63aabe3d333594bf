"""Decode the parse tree of a sentence from every layer of a trained model, by linear probes.

The probes are those of Part 1 (arXiv 2305.13673): at every position and level, the ancestor symbol, from the states of
all positions (equation 4.2), and whether a subtree ends there, from the state at that position alone (equation 4.3).
They are fitted once for a model and cached beside it.
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

from probing.grammar.ancestor_probe import require_grammar_model
from probing.grammar.parse_states import HiddenStateSampler, ProbeTarget
from probing.linear.position_probe import PositionProbes, fit_position_probes
from synth.atomic_io import atomic_replace, content_digest
from synth.errors import UserError
from synth.identity import digest
from synth.task import Example
from synth.tasks.cfg import Cfg

VERSION = 2  # raise it when the fit or the file changes, so that cached probes are fitted anew
TARGETS = (ProbeTarget(), ProbeTarget(boundary=True))


@dataclass(frozen=True)
class FitConfig:
    """Settings of the fit, a quick version of probing.grammar.ancestor_probe.AncestorProbe. sentences: held-out ones,
    for the accuracy of each layer."""

    updates: int = 300
    batch_size: int = 32
    heads: int = 4
    position_width: int = 64
    lr: float = 1e-2
    sentences: int = 200


class AncestorAndBoundary(ProbeTarget):
    """Ancestors on every level, then boundaries on every level, in one fit."""

    def classes(self, task: Cfg) -> list[int]:
        return [count for part in TARGETS for count in part.classes(task)]

    def labels(self, sentences: Sequence[Example], length: int) -> np.ndarray:
        return np.concatenate([part.labels(sentences, length) for part in TARGETS])


class TreeProbes(nn.Module):
    """Ancestor probes that read all positions and boundary probes that read one, to be fitted together."""

    def __init__(self, layers: int, task: Cfg, width: int, config: FitConfig) -> None:
        super().__init__()
        length = task.world().max_length
        sizes = {"heads": config.heads, "position_width": config.position_width}
        self.ancestors = PositionProbes(layers, TARGETS[0].classes(task), width, length, **sizes)
        self.boundaries = PositionProbes(layers, TARGETS[1].classes(task), width, length, max_offset=0)

    def forward(self, states: Float[Tensor, "Y B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "Y V2 B T C"]:
        """Logits of the ancestors on all levels, then of the boundaries on all levels."""
        both = [self.ancestors(states, lengths), self.boundaries(states, lengths)]
        most = max(logits.shape[-1] for logits in both)
        return torch.cat([F.pad(logits, (0, most - logits.shape[-1]), value=-torch.inf) for logits in both], 1)


class TreeReader:
    """Probes fitted on a model. layers: Y names; accuracy (Y,): share of correct ancestors in held-out sentences."""

    def __init__(self, model: nn.Module, task: Cfg, data_seed: int, config: FitConfig) -> None:
        self.task, self.config = require_grammar_model(model, task), config
        self.levels = task.world().depth - 2
        layers, target = ("embed", "block.*"), AncestorAndBoundary()
        self.sampler = HiddenStateSampler(model, task, data_seed, layers, target, config.batch_size)
        self.layers = self.sampler.layers
        self.probes = TreeProbes(len(self.layers), self.task, self.sampler.width, config).to(self.sampler.device)
        self.accuracy: Float[np.ndarray, " Y"] = np.zeros(len(self.layers))

    def fit(self) -> None:
        """Fit the probes, with a progress bar on standard error, and set accuracy."""
        batches = self.sampler.training_batches(self.config.updates)
        every = 1.0 if sys.stderr.isatty() else 10.0
        shown = tqdm(batches, "fitting probes", leave=False, total=self.config.updates, mininterval=every)
        fit_position_probes(self.probes, iter(shown), self.config.updates, self.config.lr)
        right, asked = torch.zeros(len(self.layers)), 0
        with torch.inference_mode():
            for batch in self.sampler.test_batches(self.config.sentences):
                known = batch.labels[: self.levels]
                answers = self.probes(batch.states, batch.lengths)[:, : self.levels].argmax(-1)
                right += ((answers == known) & (known >= 0)).sum((1, 2, 3)).cpu()
                asked += int((known >= 0).sum())
        self.accuracy = (right / asked).double().numpy()

    @torch.inference_mode()
    def predict(self, document: Int[np.ndarray, " S"]) -> tuple[Int[np.ndarray, "Y V T"], Bool[np.ndarray, "Y V T"]]:
        """Predicted ancestors (indices within their level) and subtree ends of a document <bos> sentence, S = T + 1."""
        states = self.sampler.standardized_states([Example(document, np.ones(len(document), bool))])
        lengths = torch.tensor([len(document) - 1], device=states.device)
        answers = self.probes(states, lengths).argmax(-1)[:, :, 0].cpu().numpy()
        return answers[:, : self.levels], answers[:, self.levels :] == 1

    def save(self, path: Path) -> None:
        """Raises OSError if the file cannot be written."""
        with atomic_replace(path) as temporary:
            safetensors.torch.save_file(self._tensors(), temporary)

    def load(self, path: Path) -> bool:
        """Load the probes from a file; returns False if it is missing, damaged or of other shapes."""
        try:
            kept = safetensors.torch.load(path.read_bytes())
            if {name: t.shape for name, t in kept.items()} != {name: t.shape for name, t in self._tensors().items()}:
                return False
        except (OSError, SafetensorError):
            return False
        device = self.sampler.device
        self.accuracy = kept.pop("score").numpy()
        self.sampler.mean, self.sampler.std = kept.pop("shift").to(device), kept.pop("scale").to(device)
        self.probes.load_state_dict(kept)
        return True

    def _tensors(self) -> dict[str, torch.Tensor]:
        spread = torch.zeros(len(self.layers), 1, 1, self.sampler.width)
        shift, scale = (t if t.numel() else spread for t in (self.sampler.mean, self.sampler.std))
        own = {"score": torch.from_numpy(self.accuracy), "shift": shift, "scale": scale}
        return {name: tensor.contiguous().cpu() for name, tensor in {**self.probes.state_dict(), **own}.items()}


def load_or_fit_tree_reader(
    model: nn.Module, weights_file: Path, task: Cfg, data_seed: int, config: FitConfig, cache_folder: Path
) -> TreeReader:
    """Probes of the model with the weights in that file: loaded from `cache_folder`, else fitted and saved there.

    Raises UserError for a model with another vocabulary than the grammar's, and a grammar without inner levels.
    """
    if config.updates < 1:
        raise UserError(f"--probe-steps {config.updates} trains nothing; give at least 1")
    found = TreeReader(model, task, data_seed, config)
    key = digest([VERSION, asdict(config), task.key, data_seed, content_digest(weights_file.read_bytes())], 6)
    path = cache_folder / f"{key}.safetensors"
    if not found.load(path):
        found.fit()
        try:
            found.save(path)
        except OSError as error:
            print(f"the probes are not saved for the next page: {path}: {error.strerror}", file=sys.stderr)
    return found
