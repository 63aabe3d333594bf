"""Tokenization of biographies as bytes or by byte pair encoding, as in the papers (GPT-2's; Part 3.3, section 2).

Every word of the closed vocabulary is tokenized by itself, with the space before it, so the tokens of a prompt do not
depend on what follows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from synth.bio.tables import Ragged
from synth.bio.value_lists import NO_SPACE_BEFORE
from synth.errors import UserError
from synth.task import Block
from synth.vocab import Vocab


def with_space(word: str) -> str:
    """A word as inside a text, with the space before it if it has one."""
    return word if word in NO_SPACE_BEFORE else f" {word}"


def join_words(words: Iterable[str]) -> str:
    """Words as text, such as "October 2, 1996"."""
    return "".join(map(with_space, words)).strip()


def split_words(text: str, known: Vocab) -> list[str]:
    """The words of a text, punctuation separated from known words."""
    words: list[str] = []
    for chunk in text.split():
        tail: list[str] = []
        while chunk and chunk not in known.index:
            mark = next((mark for mark in NO_SPACE_BEFORE if chunk.endswith(mark)), None)
            if mark is None:
                break
            chunk, tail = chunk[: -len(mark)], [mark, *tail]
        words += [chunk, *tail] if chunk else tail
    return words


@dataclass(frozen=True)
class Codec:
    """Conversion between word ids and subword ids.

    words: vocabulary of words; vocab: vocabulary of subwords; word_ids: row i holds the subword ids of word i;
    tokenize: from a text to names of subwords; detokenize: the inverse.
    """

    words: Vocab
    vocab: Vocab
    word_ids: Ragged
    tokenize: Callable[[str], list[str]]
    detokenize: Callable[[list[str]], str]

    @classmethod
    def from_words(
        cls, words: Vocab, tokenize: Callable[[str], list[str]], detokenize: Callable[[list[str]], str]
    ) -> "Codec":
        """The codec that applies `tokenize` to each word; its vocabulary holds the subwords that occur."""
        rows = [tokenize(with_space(word)) for word in words.symbols]
        vocab = Vocab(tuple(dict.fromkeys(name for row in rows for name in row)))
        ids = [vocab.encode(row).tolist() for row in rows]
        return cls(words, vocab, Ragged.from_rows([[vocab.bos], *ids, [vocab.eos], [vocab.pad]]), tokenize, detokenize)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of subwords of each word (W,)."""
        return np.diff(self.word_ids.starts)

    def encode_block(self, block: Block) -> Block:
        """A block of word ids as subword ids; every subword has the label and mask of its word."""
        counts = self.lengths[block.tokens]
        ends = np.concatenate([[0], np.cumsum(counts)])
        inside = np.arange(ends[-1]) - np.repeat(ends[:-1], counts)
        tokens = self.word_ids.flat[np.repeat(self.word_ids.starts[block.tokens], counts) + inside]
        return replace(
            block,
            tokens=tokens,
            offsets=ends[block.offsets],
            loss_mask=np.repeat(block.loss_mask, counts),
            prompt_lengths=ends[block.offsets[:-1] + block.prompt_lengths] - ends[block.offsets[:-1]],
            labels={name: np.repeat(column, counts) for name, column in block.labels.items()},
        )

    def decode(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Word ids (W,) of a document of subword ids; unknown words become <pad>."""
        vocab, words = self.vocab, self.words
        special = (vocab.bos, vocab.eos, vocab.pad)
        text = self.detokenize(vocab.decode([i for i in np.asarray(ids).tolist() if i not in special]))
        return np.array([words.index.get(word, words.pad) for word in split_words(text, words)], np.int32)

    def encode(self, text: str) -> np.ndarray:
        """Subword ids (T,) of a text as in training. Raises UserError for an unknown word or a space at the end."""
        check_text(text)
        rows = self.word_ids.rows
        return np.array([i for word in self.words.encode(split_words(text, self.words)) for i in rows[word]], np.int32)

    def encode_verbatim(self, text: str) -> np.ndarray:
        """Subword ids of any text, also with unknown words. Raises UserError for a subword of no known word."""
        return self.vocab.encode(self.tokenize(text))


def check_text(text: str) -> None:
    """Raise UserError for a prompt that ends in a space, which would belong to the next word."""
    if text != text.rstrip():
        raise UserError(f"the prompt {text[-20:]!r} ends in a space, which belongs to the next word; leave it out")


def check_codec_name(name: str) -> None:
    """Raise UserError for a malformed codec name."""
    size = name.removeprefix("bpe:")
    if not name or (name.startswith("bpe:") and not (size.isdecimal() and int(size) > 256)):
        raise UserError(f"codec {name!r}: give word, byte, bpe:SIZE with a SIZE above 256, or a tokenizer.json")


def make_codec(words: Vocab, name: str, texts: Sequence[Sequence[str]]) -> Codec:
    """The codec "bpe:SIZE", trained on texts (lists of words), or that of a tokenizer.json, checked on them."""
    size = name.removeprefix("bpe:")
    tokenizer = load_tokenizer(name) if size == name else train_tokenizer(texts, int(size))
    return tokenizer_codec(words, tokenizer, texts, name)


def byte_codec(words: Vocab) -> Codec:
    """The codec with one id per UTF-8 byte that occurs, named by its character (the space as in GPT-2)."""
    names = {byte: chr(byte) if 33 <= byte < 127 else f"<0x{byte:02X}>" for byte in range(256)} | {32: "Ġ"}
    back = {name: byte for byte, name in names.items()}
    return Codec.from_words(
        words,
        lambda text: [names[byte] for byte in text.encode()],
        lambda tokens: bytes(back[name] for name in tokens).decode(errors="replace"),
    )


def tokenizer_codec(words: Vocab, tokenizer: Any, texts: Iterable[Sequence[str]], name: str) -> Codec:
    """The codec of a tokenizer (tokenizers library), which must not merge neighbouring words.

    Raises UserError if it tokenizes a text (list of words) differently from its single words, or cannot decode a word.
    """
    from tokenizers import decoders

    def tokenize_text(text: str) -> list[str]:
        return tokenizer.encode(text, add_special_tokens=False).tokens

    decoder = tokenizer.decoder or decoders.ByteLevel()
    codec = Codec.from_words(words, tokenize_text, lambda tokens: decoder.decode(tokens))
    for text in texts:
        whole = tokenize_text("".join(map(with_space, text)))
        parts = [part for word in text for part in tokenize_text(with_space(word))]
        if whole != parts:
            at = next(i for i, (a, b) in enumerate(zip(whole, parts, strict=False)) if a != b)
            raise UserError(
                f"codec {name} spells {parts[at]!r} otherwise inside a text; use a byte-level BPE as GPT-2's"
            )
    lost = next((w for w in words.symbols if codec.detokenize(tokenize_text(with_space(w))) != with_space(w)), None)
    if lost:
        raise UserError(f"codec {name} cannot spell {lost!r}; use a byte-level BPE as GPT-2's")
    return codec


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a tokenizer.json or of its folder. Raises UserError if it cannot be read."""
    from tokenizers import Tokenizer

    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    try:
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8-sig"))
    except Exception as error:  # the library raises bare Exceptions
        raise UserError(f"cannot read the tokenizer {file}: {error}; give a tokenizer.json or its folder") from None
    tokenizer.no_truncation()  # a file keeps how its last batch was cut and padded
    tokenizer.no_padding()
    return tokenizer


def train_tokenizer(texts: Iterable[Sequence[str]], size: int) -> Any:
    """Train a byte-level BPE of `size` tokens on texts (lists of words)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(("".join(map(with_space, text)) for text in texts), trainer)
    return tokenizer
