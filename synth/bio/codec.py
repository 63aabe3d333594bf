"""Other spellings of the same documents: bytes, or byte pair encoding as in the papers (GPT-2's; Part 3.3, section 2).

A codec spells every word of the closed vocabulary, with the space before it, by itself. So a prompt is spelled as it
was in training, whatever follows, and a text of known words has one spelling.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from synth.bio.tables import Ragged
from synth.errors import UserError
from synth.task import Block
from synth.vocab import Vocab

ATTACHED = (".", ",", "'s", "?", ";", ":")  # written without a space before them


def spelled(word: str) -> str:
    """A word as it stands inside a text, with its space."""
    return word if word in ATTACHED else f" {word}"


def sentence(words: Iterable[str]) -> str:
    """Words as one reads them: "October 2, 1996"."""
    return "".join(map(spelled, words)).strip()


def split(text: str, known: Vocab) -> list[str]:
    """The words of a text; punctuation is taken off until a known word is left."""
    found: list[str] = []
    for chunk in text.split():
        tail: list[str] = []
        while chunk and chunk not in known.index:
            mark = next((mark for mark in ATTACHED if chunk.endswith(mark)), None)
            if mark is None:
                break
            chunk, tail = chunk[: -len(mark)], [mark, *tail]
        found += [chunk, *tail] if chunk else tail
    return found


@dataclass(frozen=True)
class Codec:
    """words: the vocabulary of words; vocab: the vocabulary of spellings; table: row i holds the ids of word i; spell:
    from a text to the names of its ids; text_of: back."""

    words: Vocab
    vocab: Vocab
    table: Ragged
    spell: Callable[[str], list[str]]
    text_of: Callable[[list[str]], str]

    @classmethod
    def of(cls, words: Vocab, spell: Callable[[str], list[str]], text_of: Callable[[list[str]], str]) -> "Codec":
        """The codec that spells each word by `spell`, with the names that occur as its vocabulary."""
        rows = [spell(spelled(word)) for word in words.symbols]
        vocab = Vocab(tuple(dict.fromkeys(name for row in rows for name in row)))
        ids = [vocab.encode(row).tolist() for row in rows]
        return cls(words, vocab, Ragged.of([[vocab.bos], *ids, [vocab.eos], [vocab.pad]]), spell, text_of)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.table.starts)

    def block(self, block: Block) -> Block:
        """A block of words respelled: labels and masks are those of the word, for each of its ids."""
        counts = self.lengths[block.tokens]
        ends = np.concatenate([[0], np.cumsum(counts)])
        inside = np.arange(ends[-1]) - np.repeat(ends[:-1], counts)
        tokens = self.table.flat[np.repeat(self.table.starts[block.tokens], counts) + inside]
        return replace(
            block,
            tokens=tokens,
            offsets=ends[block.offsets],
            loss_mask=np.repeat(block.loss_mask, counts),
            prompt_lengths=ends[block.offsets[:-1] + block.prompt_lengths] - ends[block.offsets[:-1]],
            labels={name: np.repeat(column, counts) for name, column in block.labels.items()},
        )

    def decode(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The word ids of a document; what spells no known word becomes the padding."""
        vocab, words = self.vocab, self.words
        special = (vocab.bos, vocab.eos, vocab.pad)
        text = self.text_of(vocab.decode([i for i in np.asarray(ids).tolist() if i not in special]))
        return np.array([words.index.get(word, words.pad) for word in split(text, words)], np.int32)

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text as they were in training. Raises UserError on an unknown word, and on a space at the end,
        which belongs to the word that is to follow."""
        check_text(text)
        rows = self.table.rows
        return np.array([i for word in self.words.encode(split(text, self.words)) for i in rows[word]], np.int32)

    def spelling(self, text: str) -> np.ndarray:
        """The ids of any text as it is written, spaces and unknown words included. Raises UserError where it takes an
        id that no known word has."""
        return self.vocab.encode(self.spell(text))


def check_text(text: str) -> None:
    """Raise UserError on a prompt that ends in a space."""
    if text != text.rstrip():
        raise UserError(f"the prompt {text[-20:]!r} ends in a space, which belongs to the next word; leave it out")


def check(name: str) -> None:
    """Raise UserError on a codec's name that cannot be right."""
    size = name.removeprefix("bpe:")
    if not name or (name.startswith("bpe:") and not (size.isdecimal() and int(size) > 256)):
        raise UserError(f"codec {name!r}: give word, byte, bpe:SIZE with a SIZE above 256, or a tokenizer.json")


def by_name(words: Vocab, name: str, texts: Sequence[Sequence[str]]) -> Codec:
    """The codec "bpe:SIZE", learned from texts (lists of words), or the one of a tokenizer.json, checked on them."""
    size = name.removeprefix("bpe:")
    tokenizer = load_tokenizer(name) if size == name else train_tokenizer(texts, int(size))
    return by_tokenizer(words, tokenizer, texts, name)


def by_bytes(words: Vocab) -> Codec:
    """One id for each byte of UTF-8 that occurs: printable ones by their character, the space as in GPT-2."""
    names = {byte: chr(byte) if 33 <= byte < 127 else f"<0x{byte:02X}>" for byte in range(256)} | {32: "Ġ"}
    back = {name: byte for byte, name in names.items()}
    return Codec.of(
        words,
        lambda text: [names[byte] for byte in text.encode()],
        lambda found: bytes(back[name] for name in found).decode(errors="replace"),
    )


def by_tokenizer(words: Vocab, tokenizer: Any, texts: Iterable[Sequence[str]], name: str) -> Codec:
    """A codec by a tokenizer of the tokenizers library, which must not merge words with their neighbours.

    Raises UserError when it spells one of the texts (lists of words) differently from its words one by one, or cannot
    give a word back.
    """
    from tokenizers import decoders

    def spell(text: str) -> list[str]:
        return tokenizer.encode(text, add_special_tokens=False).tokens

    decoder = tokenizer.decoder or decoders.ByteLevel()
    codec = Codec.of(words, spell, lambda found: decoder.decode(found))
    for text in texts:
        whole, parts = spell("".join(map(spelled, text))), [part for word in text for part in spell(spelled(word))]
        if whole != parts:
            at = next(i for i, (a, b) in enumerate(zip(whole, parts, strict=False)) if a != b)
            raise UserError(
                f"codec {name} spells {parts[at]!r} otherwise inside a text; use a byte-level BPE as GPT-2's"
            )
    lost = next((w for w in words.symbols if codec.text_of(spell(spelled(w))) != spelled(w)), None)
    if lost:
        raise UserError(f"codec {name} cannot spell {lost!r}; use a byte-level BPE as GPT-2's")
    return codec


def load_tokenizer(path: str) -> Any:
    """A tokenizer.json, or the folder that holds one (a local copy of GPT-2's, for example)."""
    from tokenizers import Tokenizer

    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    try:
        return Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exceptions
        raise UserError(f"cannot read the tokenizer {file}: {error}; give a tokenizer.json or its folder") from None


def train_tokenizer(texts: Iterable[Sequence[str]], size: int) -> Any:
    """A byte-level BPE of `size` tokens learned from texts (lists of words)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(("".join(map(spelled, text)) for text in texts), trainer)
    return tokenizer
