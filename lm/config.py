"""The two frozen configurations of the room: what a model is, and how it is trained.

Defaults of training follow Part 1 (Physics of Language Models, arXiv 2305.13673, section 4 and appendix: AdamW with
betas 0.9 and 0.98, weight decay 0.1, linear decay without warm-up, windows of 512 tokens).
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from lm.validation import at_least, check_model, check_read, choose
from synth.errors import UserError
from synth.identity import digest
from synth.task import Task
from synth.vocab import Vocab

VERSION = 1  # part of a run's identity: raise it when the same configurations no longer give the same weights
Positions = Literal["learned", "relative", "rotary", "none", "position_only", "uniform", "alibi", "half_alibi"]
Norm = Literal["layer", "rms"]
MLP = Literal["gelu", "silu", "relu2", "swiglu", "geglu", "reglu2", "none"]
Packing = Literal["cut", "whole", "none"]
Objective = Literal["causal", "masked"]
Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "fp32", "bf16"]

GATED = ("swiglu", "geglu", "reglu2")
BOUNDED = ("learned", "relative", "position_only")  # these hold a table with one row per position or distance
BOTH_WAYS = ("learned", "relative", "rotary")  # these tell left from right without a causal mask
ADDED = ("learned", "rotary", "none")  # these are no kind of attention, so that any mixer can have them
SOFTMAX = (*ADDED, "alibi", "half_alibi")  # with these attention is a softmax over queries and keys of the content


def _since(default: Any) -> Any:
    """A field that came later: with its default everything is as it was before."""
    return field(default=default, metadata={"neutral": default})


@dataclass(frozen=True)
class ModelConfig:
    """Every switch of the model (docs/architectures.md says where each comes from).

    layers, heads, width: L, H, D; context: the longest sequence of positions modes that hold a table; mlp_width: hidden
    width of the MLP, by default 4 D, and 8/3 D for the gated swiglu and geglu; rotary_fraction: share of each head that
    is rotated.

    experts: 0 for one MLP in a block, else so many of them, of which a router chooses top_k for each token; an expert
    takes at most capacity * top_k / experts of the tokens of a batch (test_capacity outside training) and leaves out
    the rest; balance: weight in the objective of the load-balancing loss.

    mixer: "attention", of the kind that `positions` say, the name of another under lm/mixers/, or a file of your own,
    path/to/file.py:Class; conv and state: a recurrent mixer's own short convolution, and the states of Mamba2.

    canon: at which of the places A (before the mixer), B (on its projections), C (before the MLP) and D (inside it) a
    Canon layer lets each token see the canon_kernel - 1 before it; canon_residual, canon_activation, canon_trained: its
    forms (lm/layers/canon.py). qk_norm: RMS norms over all queries and over all keys of a token. rotary_heads: share of
    the heads that are rotated.

    init_std: spread of the initial matrices and tables. GPT-2's 0.02 suits widths near a thousand; a model of width 16
    to 64 that starts so small first spends hundreds of steps on growing, and 1 / sqrt(width) or a little less suits it.

    causal: False makes an encoder, whose tokens see those after them as well; it is trained with objective="masked" and
    has one id more than the task's vocabulary, the last, for <mask> (see `ids`).

    Raises UserError for a value that no model can have.
    """

    layers: int = 2
    heads: int = 4
    width: int = 64
    context: int = 512
    positions: Positions = "rotary"
    norm: Norm = "layer"
    mlp: MLP = "gelu"
    mlp_width: int | None = None
    bias: bool = True
    tied: bool = True
    rotary_fraction: float = 1.0
    rotary_base: float = 10000.0
    experts: int = _since(0)
    top_k: int = _since(1)
    capacity: float = _since(2.0)
    test_capacity: float = _since(8.0)
    balance: float = _since(0.01)
    init_std: float = _since(0.02)
    causal: bool = _since(True)
    mixer: str = _since("attention")
    conv: bool = _since(True)
    state: int = _since(64)
    canon: str = _since("")
    canon_kernel: int = _since(4)
    canon_residual: bool = _since(True)
    canon_activation: bool = _since(False)
    canon_trained: bool = _since(True)
    qk_norm: bool = _since(False)
    rotary_heads: float = _since(1.0)

    def __post_init__(self) -> None:
        choose("positions", self.positions, Positions)
        choose("norm", self.norm, Norm)
        choose("mlp", self.mlp, MLP)
        check_model(self)

    @classmethod
    def read(cls, found: Any, where: str | Path) -> "ModelConfig":
        """The configuration that a file (`where`) says a model has, as a dict.

        Raises UserError for what no configuration has, and for a mixer's file that the caller has not named: a saved
        model is data and runs nothing (synth.registry.trust).
        """
        check_read(found, {f.name: f.default for f in fields(cls)}, where)
        try:
            return cls(**found)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error

    def contents(self) -> dict[str, str]:
        """For the identity of a run: a mixer from a file is known by what is in it, not by where it lies."""
        from lm.mixers import mixer_class
        from synth.registry import file_of, is_file

        if not is_file(self.mixer):
            return {}
        return {"mixer": f"{mixer_class(self.mixer).__name__} {digest(file_of(self.mixer).read_text())}"}

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def rotary_width(self) -> int:
        """How many of a head's coordinates are rotated: an even number, as they turn in pairs."""
        return int(self.head_width * self.rotary_fraction) // 2 * 2

    @property
    def turned_heads(self) -> int:
        """How many of the heads are rotated, rounded down."""
        return int(self.heads * self.rotary_heads + 1e-9)

    @property
    def hidden_width(self) -> int:
        """Hidden width of the MLP (of one expert where there are several); 0 without one."""
        if self.mlp == "none":
            return 0
        return self.mlp_width or (8 * self.width // 3 if self.mlp in GATED else 4 * self.width)

    def ids(self, vocab: Vocab) -> int:
        """How many ids a model of a task needs: those of its vocabulary, and in an encoder <mask> after them."""
        return vocab.size if self.causal else vocab.size + 1

    @classmethod
    def gpt2(cls, layers: int, heads: int, width: int, **changes: Any) -> "ModelConfig":
        """GPT-2: learned positions, layer norm, gelu, biases, tied embeddings."""
        return replace(cls(layers, heads, width, positions="learned"), **changes)

    @classmethod
    def llama(cls, layers: int, heads: int, width: int, **changes: Any) -> "ModelConfig":
        """LLaMA: rotary positions, RMS norm, swiglu, no biases, separate output embedding."""
        llama = cls(layers, heads, width, norm="rms", mlp="swiglu", bias=False, tied=False)
        return replace(llama, **changes)


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    batch: rows of one optimizer step, over all ranks; accumulate: into how many micro-batches a rank cuts its rows (the
    result is that of the whole batch); warmup: steps of linear rise; final_lr: the rate at the end as a share of lr;
    clip: largest gradient norm, 0 for none; isolate: documents of one row do not see each other and positions restart;
    precision "auto": bf16 autocast on a GPU, fp32 elsewhere; compile "auto": torch.compile on a GPU.

    objective: "causal" predicts the next token; "masked" finds hidden ones in an encoder (lm/data/mlm.py).

    Raises UserError for a value that cannot be trained with.
    """

    steps: int
    batch: int = 32
    window: int = 512
    packing: Packing = "cut"
    isolate: bool = False
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.1
    warmup: int = 0
    schedule: Schedule = "linear"
    final_lr: float = 0.0
    clip: float = 1.0
    accumulate: int = 1
    precision: Precision = "auto"
    compile: bool | Literal["auto"] = "auto"
    objective: Objective = field(default="causal", metadata={"neutral": "causal"})

    def __post_init__(self) -> None:
        choose("packing", self.packing, Packing)
        choose("schedule", self.schedule, Schedule)
        choose("precision", self.precision, Precision)
        choose("objective", self.objective, Objective)
        if self.objective == "masked" and self.packing != "cut" and not self.isolate:
            raise UserError(f"objective=masked sees the padding of packing={self.packing}; set isolate=True")
        if self.compile not in (True, False, "auto"):
            raise UserError(f"compile={self.compile!r} is unknown; choose True, False or auto")
        at_least(self, 1, "steps", "batch", "window", "accumulate")
        if self.lr == 0:
            raise UserError("lr=0.0 trains nothing; give a rate above 0, such as 1e-3")
        at_least(self, 0, "lr", "eps", "weight_decay", "warmup", "final_lr", "clip")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas={self.betas} must both lie in [0, 1)")
        if self.batch % self.accumulate:
            raise UserError(f"batch={self.batch} does not split into accumulate={self.accumulate} equal parts")

    @classmethod
    def for_exposures(cls, task: Task, exposures: int, **settings: Any) -> "TrainConfig":
        """Settings with the steps that show every person (fixed item) of the task `exposures` times.

        Exactly with packing "none", where UserError names a batch that divides if this one does not; with packing "cut"
        that often or once more (see lm.data.exposures.steps_for).
        """
        from lm.data.exposures import steps_for

        config = cls(steps=1, **settings)
        return replace(config, steps=steps_for(task, exposures, config.batch, config.window, config.packing))
