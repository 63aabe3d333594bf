"""Files beside a saved model by which other tools know its vocabulary and what it is: a tokenizer and a model card."""

import json
from typing import Any

from synth.task import TrainingData
from synth.vocab import BOS, EOS, PAD, Vocab

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [physics-of-language-models, synthetic]
---
# A small language model of the task {name}

Trained on documents of `{task}`. Source of the task: {source}.
{parameters:,} parameters; vocabulary of {size} tokens, separated by spaces in texts; every text begins with {bos}.

```python
import lm.hf  # registers the architecture with transformers
from transformers import pipeline

write = pipeline("text-generation", model="this folder")
print(write("{example}", max_new_tokens=32))
```

Within the suite: `lm.load("this folder")`.
"""


def tokenizer_files(vocab: Vocab, max_length: int) -> dict[str, str]:
    """Texts by file name of a tokenizer that splits a text at spaces into the names of a vocabulary, and puts <bos> in
    front. It has no token for unknown words and raises an error for one. Decoded tokens have a space before them, the
    first too, so that a text can be put together from parts."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(vocab.names)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Sequence([decoders.Replace(Regex("^"), " "), decoders.Fuse()])
    tokenizer.add_special_tokens([BOS, EOS, PAD])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, vocab.bos)])
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length}
    settings |= {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "padding_side": "left"}
    settings |= {"model_input_names": ["input_ids", "attention_mask"], "clean_up_tokenization_spaces": False}
    return {"tokenizer.json": tokenizer.to_str(), "tokenizer_config.json": json.dumps(settings, indent=2) + "\n"}


def special_ids(vocab: Vocab) -> dict[str, int]:
    """Ids of the special tokens, as transformers' configurations name them."""
    return {"bos_token_id": vocab.bos, "eos_token_id": vocab.eos, "pad_token_id": vocab.pad}


def model_card(data: TrainingData, parameters: int) -> str:
    """README.md of a model that was trained on a task or a mixture of tasks."""
    vocab = data.vocab()
    return CARD.format(
        name=data.name, task=data, source=data.citation(), parameters=parameters, size=vocab.size, bos=BOS,
        example=vocab.symbols[0] if vocab.symbols else "",
    )  # fmt: skip
