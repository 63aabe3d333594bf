"""ModelConfig and TrainConfig: frozen descriptions of a model and of its training.

Training defaults follow Part 1 (Physics of Language Models, arXiv 2305.13673, section 4 and appendix: AdamW with
betas 0.9 and 0.98, weight decay 0.1, linear decay without warm-up, windows of 512 tokens).
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from lm.options import GATED, MLP, Norm, Objective, Packing, Positions, Precision, Schedule
from lm.validation import check_at_least, check_choice, check_model, check_saved_config
from synth.errors import UserError
from synth.identity import digest, names_by_identity
from synth.task import TrainingData
from synth.user_code import is_file_spec, spec_path
from synth.vocab import Vocab

VERSION = 1  # part of run ids: increase it when the same configs no longer give the same weights


def _field(default: Any, identity: str) -> Any:
    """A field that hashes know by another name (synth.identity)."""
    return field(default=default, metadata={"identity": identity})


def _since(default: Any, identity: str = "") -> Any:
    """A field added later: with its default it does not enter hashes (synth.identity)."""
    return field(default=default, metadata={"neutral": default} | ({"identity": identity} if identity else {}))


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a model (sources in docs/architectures.md). Raises UserError for invalid values."""

    n_layers: int = _field(2, "layers")
    """number of blocks L"""
    n_heads: int = _field(4, "heads")
    """number of attention heads H"""
    d_model: int = _field(64, "width")
    """width D of the residual stream"""
    max_seq_len: int = _field(512, "context")
    """longest sequence of position modes with a table"""
    positions: Positions = "rotary"
    """how attention encodes positions"""
    norm: Norm = "layer"
    """layer norm or RMS norm"""
    mlp: MLP = "gelu"
    """activation of the MLP, gated in swiglu, geglu and reglu2; none leaves the MLP out"""
    d_ff: int | None = _field(None, "mlp_width")
    """hidden width of the MLP (of one expert); None: 4 D, or 8/3 D where it is gated"""
    bias: bool = True
    """whether linear layers have biases"""
    tie_embeddings: bool = _field(True, "tied")
    """whether the output matrix is the embedding table"""
    rotary_fraction: float = 1.0
    """share of each head that is rotated"""
    rotary_base: float = 10000.0
    """base of the rotary wavelengths"""
    n_experts: int = _since(0, "experts")
    """experts per block; 0: one MLP and no router"""
    top_k: int = _since(1)
    """experts that the router chooses for each token"""
    capacity_factor: float = _since(2.0, "capacity")
    """in training an expert takes at most capacity_factor * top_k / n_experts of the tokens of a batch"""
    eval_capacity_factor: float = _since(8.0, "test_capacity")
    """capacity_factor outside training"""
    aux_loss_weight: float = _since(0.01, "balance")
    """weight of the load-balancing loss in the objective"""
    init_std: float = _since(0.02)
    """standard deviation of initial matrices and tables; 0.02 suits widths near a thousand, 1 / sqrt(D) small ones"""
    causal: bool = _since(True)
    """False: a bidirectional encoder, trained with objective=masked, with an additional token <mask>"""
    mixer: str = _since("attention")
    """attention, the name of another mixer under lm/mixers, or your own as path/to/file.py:Class"""
    use_short_conv: bool = _since(True, "conv")
    """whether a recurrent mixer has its own short convolution"""
    d_state: int = _since(64, "state")
    """state size of Mamba2"""
    canon: str = _since("")
    """places of Canon layers: A before the mixer, B on its projections, C before the MLP, D inside it"""
    canon_kernel: int = _since(4)
    """tokens that a Canon layer sees, the current one included"""
    canon_residual: bool = _since(True)
    """whether a Canon layer adds its input to its output"""
    canon_activation: bool = _since(False)
    """whether a Canon layer applies SiLU"""
    canon_learnable: bool = _since(True, "canon_trained")
    """whether the kernels of Canon layers are trained; False: they keep their random initial values"""
    qk_norm: bool = _since(False)
    """RMS norms over all queries and over all keys of a token"""
    rotary_heads: float = _since(1.0)
    """share of the heads that are rotated"""

    def __post_init__(self) -> None:
        check_choice("positions", self.positions, Positions)
        check_choice("norm", self.norm, Norm)
        check_choice("mlp", self.mlp, MLP)
        check_model(self)

    @classmethod
    def read(cls, saved: Any, where: str | Path) -> "ModelConfig":
        """The config saved as a dict in the file `where`.

        Raises UserError for invalid content, and for a mixer's file that is not trusted (synth.user_code.trust), as
        loading a model must not run unknown code.
        """
        if isinstance(saved, dict):  # models saved before a field was renamed hold the name that is its identity
            names = names_by_identity(cls)
            saved = {names.get(key, key): value for key, value in saved.items()}
        check_saved_config(saved, {f.name: f.default for f in fields(cls)}, where)
        try:
            return cls(**saved)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error

    def contents(self) -> dict[str, str]:
        """Part of the run's identity: a mixer's file counts by its content, not by its path."""
        from lm.mixers import mixer_class  # imports torch

        if not is_file_spec(self.mixer):
            return {}
        return {"mixer": f"{mixer_class(self.mixer).__name__} {digest(spec_path(self.mixer).read_text())}"}

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def rotary_dim(self) -> int:
        """Number of rotated coordinates of a head; even, as they rotate in pairs."""
        return int(self.d_head * self.rotary_fraction) // 2 * 2

    @property
    def n_rotary_heads(self) -> int:
        """Number of rotated heads, rounded down."""
        return int(self.n_heads * self.rotary_heads + 1e-9)

    @property
    def mlp_hidden_dim(self) -> int:
        """Hidden width of the MLP (of one expert), 0 without an MLP."""
        if self.mlp == "none":
            return 0
        return self.d_ff or (8 * self.d_model // 3 if self.mlp in GATED else 4 * self.d_model)

    def model_vocab_size(self, vocab: Vocab) -> int:
        """Vocabulary size of a model for a task's vocabulary: an encoder has <mask> as an additional last token."""
        return vocab.size if self.causal else vocab.size + 1

    @classmethod
    def gpt2(cls, n_layers: int, n_heads: int, d_model: int, **changes: Any) -> "ModelConfig":
        """GPT-2: learned positions, layer norm, gelu, biases, tied embeddings."""
        return replace(cls(n_layers, n_heads, d_model, positions="learned"), **changes)

    @classmethod
    def llama(cls, n_layers: int, n_heads: int, d_model: int, **changes: Any) -> "ModelConfig":
        """LLaMA: rotary positions, RMS norm, swiglu, no biases, separate output embedding."""
        llama = cls(n_layers, n_heads, d_model, norm="rms", mlp="swiglu", bias=False, tie_embeddings=False)
        return replace(llama, **changes)


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Raises UserError for invalid values."""

    steps: int
    """optimizer steps"""
    batch_size: int = _field(32, "batch")
    """rows of one optimizer step, over all ranks"""
    seq_len: int = _field(512, "window")
    """tokens per row"""
    packing: Packing = "cut"
    """cut: concatenate documents and cut rows; whole: pack whole documents, padded; none: one document per row"""
    document_mask: bool = _field(False, "isolate")
    """whether tokens see only their own document of a row, with positions that restart"""
    lr: float = 1e-3
    """peak learning rate"""
    betas: tuple[float, float] = (0.9, 0.98)
    """of AdamW"""
    eps: float = 1e-8
    """of AdamW"""
    weight_decay: float = 0.1
    """of AdamW"""
    warmup_steps: int = _field(0, "warmup")
    """steps in which the learning rate rises linearly from 0"""
    schedule: Schedule = "linear"
    """how the learning rate falls after warm-up"""
    min_lr_ratio: float = _field(0.0, "final_lr")
    """final learning rate / lr"""
    max_grad_norm: float = _field(1.0, "clip")
    """clip gradients to this norm; 0: no clipping"""
    grad_accum_steps: int = _field(1, "accumulate")
    """micro-batches per step and rank; the step is that of the whole batch"""
    precision: Precision = "auto"
    """fp32, without TF32; bf16: autocast; bf16-matmul: operands of products alone; auto: bf16 on a GPU, else fp32"""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile; auto: on a GPU"""
    checkpoint_activations: bool = _since(False)
    """keep only inputs of blocks for the backward pass, and compute the rest again: less memory, a third more time"""
    objective: Objective = field(default="causal", metadata={"neutral": "causal"})
    """causal: predict the next token; masked: predict hidden tokens, in an encoder (lm/data/mlm.py)"""

    def __post_init__(self) -> None:
        check_choice("packing", self.packing, Packing)
        check_choice("schedule", self.schedule, Schedule)
        check_choice("precision", self.precision, Precision)
        check_choice("objective", self.objective, Objective)
        if self.objective == "masked" and self.packing != "cut" and not self.document_mask:
            raise UserError(f"objective=masked sees the padding of packing={self.packing}; set document_mask=True")
        if self.compile not in (True, False, "auto"):
            raise UserError(f"compile={self.compile!r} is unknown; choose True, False or auto")
        check_at_least(self, 1, "steps", "batch_size", "seq_len", "grad_accum_steps")
        if self.lr == 0:
            raise UserError("lr=0.0 trains nothing; give a rate above 0, such as 1e-3")
        check_at_least(self, 0, "lr", "eps", "weight_decay", "warmup_steps", "min_lr_ratio", "max_grad_norm")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas={self.betas} must both lie in [0, 1)")
        if self.batch_size % self.grad_accum_steps:
            raise UserError(
                f"batch_size={self.batch_size} does not split into grad_accum_steps={self.grad_accum_steps} equal parts"
            )

    @classmethod
    def for_exposures(cls, task: TrainingData, exposures: int, **settings: Any) -> "TrainConfig":
        """A config with the steps that show every person (fixed item) of the task `exposures` times.

        Exact with packing "none", where a batch size that does not divide the examples raises UserError; with packing
        "cut" items are shown `exposures` times or once more (see lm.data.exposures.steps_for_exposures).
        """
        from lm.data.exposures import steps_for_exposures

        config = cls(steps=1, **settings)
        return replace(
            config, steps=steps_for_exposures(task, exposures, config.batch_size, config.seq_len, config.packing)
        )
