"""Spellings: the same documents in bytes or byte pairs, with prompts spelled as in training."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synth import Corpus, UserError
from synth.bio.codec import byte_codec, split_words, train_tokenizer
from synth.bio.value_lists import FOLDER, load_value_lists
from synth.identity import digest
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS
from tests.synth.tasks.test_bios import TINY

CODECS = ["byte", "bpe:400", "file"]


@pytest.fixture
def named(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param != "file":
        return request.param
    words = TINY.vocab().symbols
    train_tokenizer([words], 500).save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path)


@pytest.mark.parametrize("named", CODECS, indirect=True)
@pytest.mark.parametrize("style", [{}, {"style": "prose"}, {"fullname": True}, {"reverse": 6}])
def test_documents_say_the_same_in_every_spelling(named: str, style: dict) -> None:
    task = replace(TINY, **style, codec=named)
    world = task.world(0)
    items = np.arange(12)
    block = task.render_block(world, items, items, ("t",), "train", labels=True)
    plain = replace(task, codec="word").render_block(world, items, items, ("t",), "train", labels=True)
    assert task.text_codec is not None
    for i in range(12):
        mine, words = block[i], plain[i]
        decoded = task.text_codec.decode(mine.tokens)
        assert np.array_equal(decoded, words.tokens[1:-1])
        assert task.parse(world, mine.tokens) == (i, {a: task.value_ids(world, i, a) for a in range(6)})
        assert np.array_equal(task.text_codec.decode(mine.prompt), words.prompt[1:])
        assert (~mine.loss_mask).sum() == 1 and task.score(world, None, mine.tokens) == {"facts": 1.0}
        for a in range(6):
            value = task.text_codec.decode(mine.tokens[mine.labels["attribute"] == a])
            assert tuple(value.tolist()) == task.value_ids(world, i, a)


@pytest.mark.parametrize("codec", ["word", "byte", "bpe:400"])
def test_a_prompt_is_spelled_as_in_training(codec: str) -> None:
    """Text, ids, text again: and the ids of a question are the beginning of the ids of question and answer."""
    task = BioQuestions(people=40, templates=2, codec=codec)
    corpus = Corpus(task, 0)
    assert task.vocab() == BioS(people=40, templates=2, questions=4, codec=codec).vocab()
    for i in range(30):
        example = corpus.documents(i, i + 1)[0]
        ids = example.tokens[1:-1]
        words = task.lexicon.vocab.decode(task.text_codec.decode(ids) if task.text_codec else ids)
        text = " ".join(words).replace(" ,", ",").replace(" .", ".").replace(" 's", "'s")
        assert np.array_equal(task.encode(text), ids) and np.array_equal(task.encode(" ".join(words)), ids)
        question = text[: text.index(":") + 1]
        assert np.array_equal(task.encode(question), example.prompt[1:])
        assert task.score(corpus.world, example, example.tokens[example.prompt_length :]) == {"exact": 1.0}
    with pytest.raises(UserError, match="ends in a space"):
        task.encode(question + " ")
    with pytest.raises(UserError, match="'Xyzzy' at position"):
        task.encode("Who employs Xyzzy ?")


def test_splitting() -> None:
    words = TINY.vocab()
    assert split_words("Wade Adell Orr's company, Reno.", words)[-4:] == ["company", ",", "Reno", "."]
    assert split_words("", words) == [] and split_words(".", words) == ["."]


def test_a_learned_codec_is_always_the_same() -> None:
    first, second = (replace(TINY, people=100, codec="bpe:350").vocab() for _ in range(2))
    assert first == second and first.size < TINY.vocab().size + 350
    assert digest(first.symbols, 8) == digest(second.symbols, 8)


def test_bytes_beyond_ascii() -> None:
    words = replace(TINY).lexicon.vocab
    codec = byte_codec(type(words)((*words.symbols, "Zoë")))
    assert codec.words.decode(codec.decode(codec.encode("Zoë ."))) == ["Zoë", "."]


def test_a_codec_that_merges_words_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, trainers

    merging = Tokenizer(models.BPE())  # without a pre-tokenizer nothing stops it at spaces
    texts = [TINY.vocab().decode(Corpus(TINY, 0).documents(i, i + 1)[0].tokens[1:-1]) for i in range(12)]
    merging.train_from_iterator([" " + " ".join(text) for text in texts], trainers.BpeTrainer(show_progress=False))
    merging.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="otherwise inside a text|cannot spell") as caught:
        replace(TINY, codec=str(tmp_path)).vocab()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("codec", ["", "bpe:", "bpe:100", "bpe:many"])
def test_bad_names(codec: str) -> None:
    with pytest.raises(UserError, match="bpe:SIZE"):
        replace(TINY, codec=codec)


def test_no_such_file() -> None:
    with pytest.raises(UserError, match="cannot read the tokenizer"):
        replace(TINY, codec="/nowhere/tokenizer.json").vocab()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"last.txt": ["Lowe"], "employers.txt": ["Lowe's | Reno, NV"]}, "'Lowe' and \"Lowe's\" are both in the lists"),
        ({"majors.txt": ["Acme Inc", "Zed Inc."]}, "'Inc' and 'Inc.' are both in the lists"),
    ],
)
def test_texts_of_two_readings_are_refused(changes: dict, message: str, tmp_path: Path) -> None:
    pools = tmp_path / "pools"
    shutil.copytree(FOLDER, pools)
    for name, lines in changes.items():
        (pools / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=re.escape(message)):
        load_value_lists(str(pools))


def test_marks_and_separators_in_lists_are_no_letters_of_names(tmp_path: Path) -> None:
    pools = tmp_path / "pools"
    shutil.copytree(FOLDER, pools)
    (pools / "first.txt").write_bytes(b"\xef\xbb\xbfAda\r\nZo\xc3\xab\r\n")
    assert load_value_lists(str(pools)).first == ("Ada", "Zoë")


def test_a_tokenizer_that_cuts_and_pads_spells_whole_words(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([TINY.vocab().symbols], 500)
    tokenizer.save(str(tmp_path / "plain.json"))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "cut.json"))
    plain, cut = (replace(TINY, codec=str(tmp_path / f"{name}.json")) for name in ("plain", "cut"))
    assert plain.vocab() == cut.vocab()
