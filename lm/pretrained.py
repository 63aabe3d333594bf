"""Save and load a trained model: transformers' save_pretrained layout, file digests, and reference logits that `load`
recomputes."""

import json
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.data.tokenizer_files import model_card, special_ids, tokenizer_files
from lm.model import Decoder, meta_model
from lm.training.checkpoint import READ_ERRORS
from synth.atomic_io import content_digest, write_bytes
from synth.errors import UserError
from synth.task import TrainingData

CONFIG, WEIGHTS, REFERENCE = "config.json", "model.safetensors", "reference.json"
GENERATION = "generation_config.json"
BESIDE = ("tokenizer.json", "tokenizer_config.json", "README.md")
MAX_REFERENCE_TOKENS = 64  # in reference.json
TOLERANCE = 1e-3  # share of the largest reference logit; machines round differently, half precision more so
ROUNDINGS = 8  # of the weights' precision that are tolerated besides


def save(model: nn.Module, folder: str | Path, data: TrainingData | None = None) -> None:
    """Write the model; `load` and transformers' AutoModelForCausalLM (after `import lm.hf`) read it.

    data: the task or mixture that it was trained on; a tokenizer, for AutoTokenizer and pipelines, and a model card are
    written beside it.

    A compiled model is saved as what was compiled. Raises UserError for weights that are not numbers or that `load`
    could not read (adapters, pruned or resized layers), and when the folder cannot be written; an older model in it
    then stays.
    """
    plain = getattr(model, "_orig_mod", model)  # of torch.compile
    if not isinstance(plain, Decoder):
        raise UserError(f"a {type(model).__name__} is no Decoder; save it with the library that made it")
    _check_weights(plain)
    _save(plain, Path(folder).resolve(), data)


def _save(model: Decoder, folder: Path, data: TrainingData | None) -> None:
    scratch = folder.with_name(f".{folder.name}.{token_hex(4)}.part")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        _write_layout(model, scratch, data)
        tokens = _reference_tokens(model)
        digests = {name: content_digest((scratch / name).read_bytes()) for name in (CONFIG, WEIGHTS)}
        reference = {"tokens": tokens.tolist(), "logits": _reference_logits(model, tokens).tolist(), "digests": digests}
        write_bytes(scratch / REFERENCE, json.dumps(reference).encode())
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, CONFIG, REFERENCE, GENERATION, *BESIDE):
            if (scratch / name).exists():
                (scratch / name).replace(folder / name)
            elif name in BESIDE[:2]:  # a tokenizer of an older model there would give wrong ids
                (folder / name).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot save the model to {folder} ({error}); free space or use another folder") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_weights(model: Decoder) -> None:
    """Raise UserError unless the model has the tensors, of the shapes, that its configuration says, all of them
    finite."""
    expected = meta_model(model.config, model.vocab_size).state_dict()
    found = model.state_dict()
    mend = "merge adapters, undo pruning or weight norms, and save the plain model"
    for name in [*found, *expected]:
        if name not in expected or name not in found:
            raise UserError(f"the model has {'a' if name in found else 'no'} tensor {name}, unlike its config; {mend}")
        if found[name].shape != expected[name].shape:
            shapes = f"{tuple(found[name].shape)} and not {tuple(expected[name].shape)}"
            raise UserError(f"{name} has the shape {shapes}, as its config says; {mend}")
        if not bool(found[name].isfinite().all()):
            raise UserError(f"{name} holds NaN or infinity: this model diverged; train it again with a lower rate")


def load(folder: str | Path) -> Decoder:
    """The decoder that `save` wrote, in eval mode, on the CPU.

    Raises UserError when a file is missing, cut short or altered, or when the logits differ from those at saving.
    """
    folder = Path(folder)
    reference = _parse_json(folder, REFERENCE, _read(folder, REFERENCE))
    config = _parse_json(folder, CONFIG, _read(folder, CONFIG, reference))
    architecture = ModelConfig.read(config.get("architecture"), folder / CONFIG)
    try:
        weights = safetensors.torch.load(_read(folder, WEIGHTS, reference))
        _check_num_tensors(architecture, len(weights))
        model = meta_model(architecture, config["vocab_size"])
        model.load_state_dict({k.removeprefix("decoder."): v for k, v in weights.items()}, assign=True)
        tokens, wanted = (torch.tensor(reference[name]) for name in ("tokens", "logits"))
        if tokens.numel() > MAX_REFERENCE_TOKENS:
            raise ValueError("more reference tokens than were ever written")
        logits = _reference_logits(model, tokens)
    except UserError:
        raise
    except READ_ERRORS as error:
        raise _damaged(folder, WEIGHTS) from error
    # not (... <= ...), so that NaN fails
    tolerance = max(TOLERANCE, ROUNDINGS * torch.finfo(model.embed.weight.dtype).eps)
    if wanted.shape != logits.shape or not (logits - wanted).abs().max() <= tolerance * wanted.abs().max():
        raise UserError(f"{folder} computes other logits than when it was saved; use the version of the suite of then")
    return model.requires_grad_(True).eval()


def _check_num_tensors(config: ModelConfig, tensors: int) -> None:
    """Raise ValueError for more blocks or experts than tensors, before building what a bad file may number in
    millions."""
    if config.n_layers * max(1, config.n_experts) > tensors:
        raise ValueError(f"{config.n_layers} layers of {config.n_experts} experts in {tensors} tensors")


def _write_layout(model: Decoder, folder: Path, data: TrainingData | None) -> None:
    """Write what `lm.hf.PhysForCausalLM.wrap(model).save_pretrained(folder)` would, without the seconds that importing
    transformers takes."""
    folder.mkdir(parents=True)
    tensors = {f"decoder.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    written_by = {"transformers_version": version("transformers")}
    ids = special_ids(data.vocab()) if data is not None else {}
    generation = {"_from_model_config": True, "output_attentions": False, "output_hidden_states": False, **ids}
    _write_json(folder / GENERATION, generation | written_by)
    config = model.config
    sizes = {"hidden_size": config.d_model, "num_hidden_layers": config.n_layers, "num_attention_heads": config.n_heads}
    kind = {"architectures": ["PhysForCausalLM"], "model_type": "physics-lm", "tie_word_embeddings": False}
    numbers = {"dtype": str(model.embed.weight.dtype).removeprefix("torch."), "vocab_size": model.vocab_size}
    _write_json(folder / CONFIG, {"architecture": asdict(config), **sizes, **kind, **numbers, **ids, **written_by})
    if data is not None:
        card = {"README.md": model_card(data, sum(p.numel() for p in model.parameters()))}
        for name, text in {**tokenizer_files(data.vocab(), config.max_seq_len), **card}.items():
            (folder / name).write_text(text, encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _reference_tokens(model: Decoder) -> Tensor:
    return torch.arange(min(16, model.config.max_seq_len))[None] * 7919 % model.vocab_size


@torch.no_grad()
def _reference_logits(model: Decoder, tokens: Tensor) -> Tensor:
    """Logits of the last two positions, (2, V) fp32, or of the only one."""
    was_training = model.training
    rows = model.eval()(tokens.to(model.embed.weight.device))[0, -2:].float().cpu()
    model.train(was_training)
    return rows


def _read(folder: Path, name: str, reference: Any = None) -> bytes:
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise UserError(f"no model at {folder}: cannot read {name}; check the path or save the model again") from error
    if reference is not None:
        digests = reference.get("digests")
        if not isinstance(digests, dict) or content_digest(data) != digests.get(name):
            raise _damaged(folder, name)
    return data


def _parse_json(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, name) from error
    if not isinstance(parsed, dict):
        raise _damaged(folder, name)
    return parsed


def _damaged(folder: Path, name: str) -> UserError:
    return UserError(f"{folder / name} is cut or altered; save the model again or copy the whole folder anew")
