"""bioR: more renderings than anyone needs, every one of which tells its six facts to a reader of the text alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synth import Corpus, UserError
from synth.bio.prose_grammar import SENTENCE_SPLITS, load_prose_grammar, sample_prose_wording
from synth.bio.value_lists import FOLDER
from synth.tasks.bios import BioS

TASK = BioS(people=60, style="prose")


def test_at_least_a_million_renderings_a_person() -> None:
    assert load_prose_grammar().renderings > 1e15 and load_prose_grammar().truncate(2).renderings > 1e6
    assert len(SENTENCE_SPLITS) == 24 and all(sum(cut) == 6 for cut in SENTENCE_SPLITS)
    n = 3000
    block = TASK.render_block(TASK.world(0), np.full(n, 7), np.arange(n), ("t",), "train")
    texts = {block[i].tokens.tobytes() for i in range(n)}
    assert len(texts) == n, "with 1e15 equally likely texts two of 3000 agree once in 1e8 times"


def test_every_form_and_phrase_is_used_and_can_be_read() -> None:
    corpus = Corpus(TASK, 1)
    n, used = 1500, set()
    assert TASK.prose is not None
    for start in range(0, n, 256):
        block = corpus.documents(start, start + 256)
        for i in range(256):
            person, said = TASK.parse(corpus.world, block[i].tokens)
            assert person == block.slices["person"][i]
            assert said == {a: TASK.value_ids(corpus.world, person, a) for a in range(6)}
        pieces, *_ = sample_prose_wording(TASK.prose, ("t", start), np.arange(256), np.arange(256), False)
        used |= set(pieces.ravel().tolist())
    assert used == set(range(len(TASK.prose.pieces)))


def test_no_sentence_can_mean_two_things() -> None:
    corpus = Corpus(TASK, 2)
    block = corpus.documents(0, 256)
    reader, stop = TASK.lexicon.parser, corpus.vocab.index["."]
    for i in range(256):
        sentence: list[int] = []
        for token in block[i].tokens[1:-1].tolist():
            sentence.append(token)
            if token == stop:
                assert len(set(reader.sentence_parses(tuple(sentence)))) == 1
                sentence = []


def test_sentences_merge_and_change_their_order() -> None:
    corpus = Corpus(TASK, 0)
    block = corpus.documents(0, 256, labels=True)
    counts = {int((block[i].tokens == corpus.vocab.index["."]).sum()) for i in range(256)}
    assert counts == {2, 3, 4, 5, 6}
    orders = set()
    for i in range(256):
        attribute = block[i].labels["attribute"]
        orders.add(tuple(dict.fromkeys(attribute[(attribute >= 0) & (attribute < 6)].tolist())))
    assert len(orders) > 150 and all(len(order) == 6 for order in orders)


def test_the_choices_are_counted() -> None:
    """One form and one phrase everywhere leave only the order (720) and the cut (24)."""
    prose = load_prose_grammar()
    plain = replace(prose, templates=tuple(found[:1] for found in prose.templates)).truncate(1)
    *_, nats = sample_prose_wording(plain, ("t",), np.arange(50), np.arange(50), False)
    assert nats == pytest.approx(np.full(50, np.log(720 * 24)))
    floors = TASK.floors(TASK.world(0))
    assert 0.3 < floors["loss"] < 0.8 and floors["bits"] == TASK.information_content().bits


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Three ->", "Four ->", "no rule for Three"),
        ("VP_town -> 'works' 'in' 'V'", "VP_town -> 'works' 'there'", "a phrase has one 'V'"),
        ("'{P}' POSS_1 '.'", "'{P}' POSS_1", "must have its only '.' at the end"),
        ("'{S}' VP_1 'and' VP_2 '.'", "'{S}' VP_1 'and' VP_1 '.'", "each of its attributes once"),
        ("Enter -> 'began'", "Enter -> 'began", "cannot read the grammar"),
    ],
)
def test_bad_grammars(tmp_path: Path, old: str, new: str, message: str) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    content = (tmp_path / "prose.cfg").read_text()
    assert old in content
    (tmp_path / "prose.cfg").write_text(content.replace(old, new))
    with pytest.raises(UserError, match=message) as caught:
        BioS(pools=str(tmp_path), style="prose").vocab()
    assert "\n" not in str(caught.value)
