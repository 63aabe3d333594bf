"""Generation back end for a local Hugging Face causal language model.

Nothing is downloaded and no code of the folder is run: local files and safetensors only. Greedy decoding, in batches
padded on the left; the tokenizer's chat template is used if it has one.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from probing.world_facts.backend import STOP_STRING
from synth.errors import UserError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")


def check_folder(folder: Path) -> None:
    """Raise UserError unless the folder has a config, safetensors weights and a tokenizer. Needs no torch."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(f"{folder} holds an adapter only; merge it into its model and save that")
        raise UserError(f"{folder} holds no model (no config.json); give the folder that save_pretrained wrote")
    if not list(folder.glob("*.safetensors")):
        if any(list(folder.glob(pattern)) for pattern in PICKLES):
            raise UserError(f"{folder} holds weights as pickles only, which can run code; save them as safetensors")
        raise UserError(f"{folder} holds no weights (*.safetensors); give the folder that save_pretrained wrote")
    if not any((folder / name).is_file() for name in TOKENIZERS):
        if _read_model_type(folder) == "physics-lm":
            raise UserError(
                f"{folder} is a model of this suite, without a tokenizer for real-world questions; "
                "ask it about its own people: python -m probing ask --run ID"
            )
        raise UserError(f"{folder} holds no tokenizer; save it there too: tokenizer.save_pretrained(folder)")


def _read_model_type(folder: Path) -> Any:
    try:
        return json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / 'config.json'} cannot be read; save the model again") from error


class HFBackend:
    """The model in a folder; batch_size: number of prompts generated together."""

    def __init__(self, folder: Path, max_new_tokens: int = 64, batch_size: int = 16) -> None:
        """Load the model, onto a GPU if there is one. Raises UserError for a folder that cannot be loaded."""
        check_folder(folder)
        self.name = folder.resolve().name
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.glob("*.safetensors")]
        self.identity = {"model": str(folder.resolve()), "tokens": max_new_tokens, "weights": sorted(map(list, files))}
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        try:
            self.model, self.tokenizer = _load(folder, max_new_tokens)
        except UserError:
            raise
        except Exception as error:  # transformers and tokenizers raise exceptions of any type
            raise UserError(f"cannot load the model in {folder}: {_first_line(error)}") from error

    def generate(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield (index, response) batch by batch, prompts of similar length together.

        Raises UserError when memory or the model's context is exceeded.
        """
        texts = [self._apply_chat_template(prompt) for prompt in prompts]
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # longest first, so that it fails early
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            yield from zip(batch, self._generate_batch([texts[i] for i in batch]), strict=True)

    def _apply_chat_template(self, prompt: str) -> str:
        if not self.tokenizer.chat_template:
            return prompt
        messages = [{"role": "user", "content": prompt}]
        try:  # templates without a thinking mode ignore enable_thinking
            options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
            return self.tokenizer.apply_chat_template(messages, **options)
        except Exception as error:
            raise UserError(f"the tokenizer's chat template fails on a question: {_first_line(error)}") from error

    def _generate_batch(self, texts: list[str]) -> list[str]:
        import torch

        chat = bool(self.tokenizer.chat_template)  # chat templates write the special tokens themselves
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not chat)
        ids, mask = inputs["input_ids"].to(self.model.device), inputs["attention_mask"].to(self.model.device)  # (B, T)
        self._check_limits(ids)
        stop = [] if chat else [_make_stopping_criterion(self.tokenizer, ids.shape[1])]
        try:
            with torch.inference_mode():
                output = self.model.generate(input_ids=ids, attention_mask=mask, stopping_criteria=stop)  # (B, T + new)
        except torch.OutOfMemoryError as error:
            problem = f"{self.batch_size} prompts at once do not fit into memory"
            raise UserError(f"{problem}; give a smaller --batch-size") from error
        responses = self.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        return responses if chat else [text.lstrip().split(STOP_STRING)[0] for text in responses]

    def _check_limits(self, ids: Any) -> None:
        """Raise UserError for ids (B, T) outside the model's vocabulary, or too long for its context."""
        rows = self.model.get_input_embeddings().weight.shape[0]
        if int(ids.max()) >= rows:
            raise UserError(f"the tokenizer has more tokens than the model ({rows}); it is another model's")
        context = getattr(self.model.config, "max_position_embeddings", None)
        if context and ids.shape[1] + self.max_new_tokens > context:
            raise UserError(
                f"a question of {ids.shape[1]} tokens and {self.max_new_tokens} for the answer exceed the model's "
                f"context of {context}; give fewer --max-new-tokens or a model that reads more"
            )


def _load(folder: Path, tokens: int) -> tuple[Any, Any]:
    import torch
    import transformers

    import lm.hf  # noqa: F401  registers the models of this suite with transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left", **safe)
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True, dtype="auto", **safe
    )
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"the weights in {folder} lack {missing[0]}; a model with random parts answers nothing")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    eos = model.generation_config.eos_token_id or tokenizer.eos_token_id
    greedy = {"do_sample": False, "max_new_tokens": tokens}  # sampling settings and penalties of the folder are ignored
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": eos}
    model.generation_config = transformers.GenerationConfig(**greedy, **ends)
    gpu = torch.cuda.is_available()
    model = model.to("cuda") if gpu else model.float()  # half precision is slow or unsupported on a CPU
    return model.eval(), tokenizer


def _make_stopping_criterion(tokenizer: Any, start: int) -> Any:
    """A criterion that stops a row when its new text, from token `start` on, has an empty line after a word."""
    import torch

    def is_done(ids: Any, *_: Any, **__: Any) -> Any:
        texts = [text.lstrip() for text in tokenizer.batch_decode(ids[:, start:])]
        return torch.tensor([STOP_STRING in text for text in texts], device=ids.device)  # (B,)

    return is_done


def _first_line(error: Exception) -> str:
    """The first line of the error's message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
