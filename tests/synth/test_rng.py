"""Streams and identities: unrelated for different keys, equal for equal ones."""

from dataclasses import dataclass, field, make_dataclass

import numpy as np
import pytest

from synth.identity import canonical, digest
from synth.random import numba_rng
from synth.random.rng import bounded_integers, random_uint64, rng
from synth.vocab import Vocab


def test_equal_keys_give_equal_bytes_and_neighbours_do_not() -> None:
    draws = [rng("documents", seed, index).integers(0, 2**62, 50) for seed in range(12) for index in range(12)]
    assert np.array_equal(draws[0], rng("documents", 0, 0).integers(0, 2**62, 50))
    assert len({int(v) for draw in draws for v in draw}) == 12 * 12 * 50


def test_golden_stream() -> None:
    """These bytes decide every document of every run. If they change on purpose, raise the version of every task."""
    assert rng("golden", 1).integers(0, 1000, 5).tolist() == [575, 989, 989, 812, 426]
    bits = random_uint64(("golden", 1), np.array([0, 5]), np.array([2, 7]), 2)
    assert bits.tolist() == [
        [2284940022994221487, 9556010729607444053],
        [14879619766750332266, 9976774120337517985],
    ]
    assert bounded_integers(bits[0, 0], 1000) == 123
    assert bounded_integers(bits, 1000).tolist() == [[123, 518], [806, 540]]
    assert bounded_integers(bits, np.array([10, 2**31 - 1])).tolist() == [[1, 1112466063], [8, 1161449369]]
    state = np.empty(1, np.uint64)
    numba_rng.seed_state(state, np.array([1, 2], np.uint64), 3)
    assert [numba_rng.next_bounded(state, 1000) for _ in range(5)] == [963, 424, 487, 502, 511]


@dataclass(frozen=True)
class Old:
    width: int = 4


def test_a_new_switch_in_its_neutral_position_keeps_the_identity() -> None:
    new = make_dataclass(
        "Old", [("width", int, 4), ("canon", str, field(default="", metadata={"neutral": ""}))], frozen=True
    )
    assert digest(Old()) == digest(new()) and digest(new()) != digest(new(canon="ABCD"))
    assert digest(Old()) != digest(Old(5))


def test_what_is_renamed_keeps_its_identity() -> None:
    class Named:
        identity_name = "Old"

    renamed = make_dataclass(
        "Configuration",
        [("d_model", int, field(default=4, metadata={"identity": "width"}))],
        bases=(Named,),
        frozen=True,
    )
    assert digest(renamed()) != digest(Old()), "a subclass is another class"
    renamed.identity_name = "Old"
    assert digest(renamed()) == digest(Old()) and digest(renamed(5)) == digest(Old(5))


def test_what_cannot_be_hashed_raises() -> None:
    with pytest.raises(TypeError, match="cannot hold"):
        canonical({"f": print})


def test_vocabulary_round_trip_and_errors() -> None:
    vocab = Vocab(("a", "b"))
    assert vocab.encode(["<bos>", "a", "b", "<eos>"]).tolist() == [0, 1, 2, 3] and vocab.size == 5
    assert vocab.decode([1, 4]) == ["a", "<pad>"]
    with pytest.raises(ValueError, match="'c' at position 1"):
        vocab.encode(["a", "c"])
    with pytest.raises(ValueError, match="two tokens"):
        Vocab(("a", "a"))
