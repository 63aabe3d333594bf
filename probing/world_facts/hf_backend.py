"""Whoever answers questions in words: any causal language model that transformers can load from a folder.

Nothing is fetched and nothing of the folder is run: local files, weights as safetensors, no code that comes with a
model. Greedy decoding, in batches padded on the left; a tokenizer's chat template is used if it has one.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from synth.errors import UserError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")
END = "\n\n"  # what stands between the examples: a model without a chat template goes on with a question of its own


@runtime_checkable
class Answerer(Protocol):
    """name: what the answers are kept under; identity: what decides the answers, beside the prompts."""

    name: str
    identity: dict[str, Any]

    def answer(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """The number of a prompt and its answer, in any order, each as soon as it is there: what comes after it may
        fail. Raises UserError where an answer cannot be had."""
        ...


def check_folder(folder: Path) -> None:
    """Raise UserError unless the folder holds weights as safetensors and a tokenizer. Needs no torch."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(f"{folder} holds an adapter only; merge it into its model and save that")
        raise UserError(f"{folder} holds no model (no config.json); give the folder that save_pretrained wrote")
    if not list(folder.glob("*.safetensors")):
        if any(list(folder.glob(pattern)) for pattern in PICKLES):
            raise UserError(f"{folder} holds weights as pickles only, which can run code; save them as safetensors")
        raise UserError(f"{folder} holds no weights (*.safetensors); give the folder that save_pretrained wrote")
    if not any((folder / name).is_file() for name in TOKENIZERS):
        if _kind(folder) == "physics-lm":
            raise UserError(
                f"{folder} is a model of this suite, without a tokenizer for real-world questions; "
                "ask it about its own people: python -m probing ask --run ID"
            )
        raise UserError(f"{folder} holds no tokenizer; save it there too: tokenizer.save_pretrained(folder)")


def _kind(folder: Path) -> Any:
    try:
        return json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / 'config.json'} cannot be read; save the model again") from error


class TransformersAnswerer:
    """The model of a folder; tokens: how many it may write; batch: prompts at once."""

    def __init__(self, folder: Path, tokens: int = 64, batch: int = 16) -> None:
        """Load it, onto a GPU if there is one. Raises UserError for a folder that will not do."""
        check_folder(folder)
        self.name = folder.resolve().name
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.glob("*.safetensors")]
        self.identity = {"model": str(folder.resolve()), "tokens": tokens, "weights": sorted(map(list, files))}
        self.tokens, self.batch = tokens, batch
        try:
            self.model, self.tokenizer = _load(folder, tokens)
        except UserError:
            raise
        except Exception as error:  # transformers and its tokenizers raise whatever comes to hand
            raise UserError(f"cannot load the model in {folder}: {_short(error)}") from error

    def answer(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Batch after batch, prompts of about one length together. Raises UserError where memory or context end."""
        texts = [self._as_read(prompt) for prompt in prompts]
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # the longest first: what fails, fails early
        for start in range(0, len(order), self.batch):
            numbers = order[start : start + self.batch]
            yield from zip(numbers, self._written([texts[i] for i in numbers]), strict=True)

    def _as_read(self, prompt: str) -> str:
        if not self.tokenizer.chat_template:
            return prompt
        turns = [{"role": "user", "content": prompt}]
        try:  # templates that know of thinking are asked for none, the others do not look at the switch
            return self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except Exception as error:
            raise UserError(f"the tokenizer's chat template fails on a question: {_short(error)}") from error

    def _written(self, texts: list[str]) -> list[str]:
        import torch

        chat = bool(self.tokenizer.chat_template)  # whose template has written the special tokens already
        read = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not chat)
        ids, seen = read["input_ids"].to(self.model.device), read["attention_mask"].to(self.model.device)
        self._check(ids)
        stop = [] if chat else [_ended(self.tokenizer, ids.shape[1])]
        try:
            with torch.inference_mode():
                found = self.model.generate(input_ids=ids, attention_mask=seen, stopping_criteria=stop)
        except torch.OutOfMemoryError as error:
            raise UserError(f"{self.batch} prompts at once do not fit into memory; give a smaller --batch") from error
        said = self.tokenizer.batch_decode(found[:, ids.shape[1] :], skip_special_tokens=True)
        return said if chat else [text.lstrip().split(END)[0] for text in said]

    def _check(self, ids: Any) -> None:
        rows = self.model.get_input_embeddings().weight.shape[0]
        if int(ids.max()) >= rows:
            raise UserError(f"the tokenizer has more tokens than the model ({rows}); it is another model's")
        context = getattr(self.model.config, "max_position_embeddings", None)
        if context and ids.shape[1] + self.tokens > context:
            raise UserError(
                f"a question of {ids.shape[1]} tokens and {self.tokens} for the answer exceed the model's context "
                f"of {context}; give fewer --tokens or a model that reads more"
            )


def _load(folder: Path, tokens: int) -> tuple[Any, Any]:
    import torch
    import transformers

    import lm.hf.modeling  # noqa: F401  the models of this suite, should one have a tokenizer

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left", **here)
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True, dtype="auto", **here
    )
    model, told = loaded
    if lacking := sorted(told["missing_keys"]):
        raise UserError(f"the weights in {folder} lack {lacking[0]}; a model with random parts answers nothing")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    model.generation_config = transformers.GenerationConfig(
        do_sample=False,
        max_new_tokens=tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=model.generation_config.eos_token_id or tokenizer.eos_token_id,
    )  # fmt: skip  greedy, whatever sampling or penalties the folder asks for
    gpu = torch.cuda.is_available()
    model = model.to("cuda") if gpu else model.float()  # half precision is slow on a CPU, or not there at all
    return model.eval(), tokenizer


def _ended(tokenizer: Any, start: int) -> Any:
    """Stops a row (of tokens from `start` on) where an answer is over: at an empty line behind a word."""
    import torch

    def over(ids: Any, *_: Any, **__: Any) -> Any:
        said = [text.lstrip() for text in tokenizer.batch_decode(ids[:, start:])]
        return torch.tensor([END in text for text in said], device=ids.device)

    return over


def _short(error: Exception) -> str:
    """The first line of a message, or the name of the error that has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
