"""Facts of one's own: what is told, counted and asked; identity by content; and one line for each bad file."""

from math import log2
from pathlib import Path

import numpy as np
import pytest

from synth import Corpus
from synth.errors import UserError
from synth.facts import log2_combinations, read_table
from synth.identity import digest
from synth.tasks.facts import FactQuestions, Facts

TABLE = "name,town,job\nAnn Lee,New York,cook\nBob Lee,Paris,nurse\nAnn Kay,Oslo,cook\nBob Kay,Paris,cook\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "my.csv"
    path.write_text(TABLE)
    return path


def texts(task: Facts, n: int, split: str = "train", seed: int = 0) -> list[str]:
    return [" ".join(task.vocab().decode(document)) for document in Corpus(task, seed, split).documents(0, n).documents]


def test_the_elements_are_those_of_the_periodic_table() -> None:
    """Groups by the noble gases: 18 - (next noble gas - number) in the p-block, 1 and 2 behind a noble gas."""
    table = read_table("elements")
    symbols, numbers, groups = ([" ".join(value) for value in column] for column in table.columns)
    assert symbols == "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca".split()
    assert numbers == [str(n) for n in range(1, 21)]
    for number, group in zip(range(1, 21), map(int, groups), strict=True):
        gas = min(z for z in (2, 10, 18, 36) if z >= number)
        before = max(z for z in (0, 2, 10, 18) if z < number)
        assert group == (number - before if number - before <= 2 and number != 2 else 18 - (gas - number))


def test_bits_by_hand(path: Path) -> None:
    """Names 2 x 2 of 4, all of them: 0 bits. Three towns, two jobs."""
    task = Facts(str(path))
    facts = task.information_content()
    assert facts.name_bits == pytest.approx(0) and facts.log2_values == {"town": log2(3), "job": 1}
    assert facts.bits == pytest.approx(4 * (log2(3) + 1))
    entropy = (2 * 0.25 * 2 + 0.5) + (0.75 * log2(4 / 3) + 0.25 * 2)
    assert task.frequency_bits() == pytest.approx(4 * (log2(3) + 1 - entropy))
    assert task.chance_accuracy == (0.5 + 0.75) / 2
    assert Facts().information_content().log2_values == {"symbol": log2(20), "atomic number": log2(20), "group": 3}


def test_long_names_have_more_combinations_than_a_float() -> None:
    """Two names of 2000 words, all different: 2^2000."""
    assert log2_combinations([("a",) * 2000, ("b",) * 2000]) == 2000
    assert log2_combinations([("a",), ("b",), ("c",), ("a", "b")]) == 2


def test_golden() -> None:
    found = [digest(Corpus(task, 3).documents(0, 100).tokens.tolist(), 8) for task in (Facts(), FactQuestions())]
    assert found == ["22a23c0095f56a64", "1c05246662286d0a"]


def test_a_text_tells_everything_under_its_heading(path: Path) -> None:
    task = Facts(str(path))
    block = Corpus(task, 0).documents(0, 40, labels=True)
    for i in range(40):
        example = block[i]
        row = int(example.slices["subject"])
        words = task.vocab().decode(example.tokens)
        assert words[1 : example.prompt_length] == ["About", *task.table.names[row], ":"]
        for about, column in enumerate(task.table.columns):
            marked = example.labels["attribute"] == about
            assert tuple(np.array(words)[marked]) == column[row] and (example.labels["part"][marked] == 2).all()
        assert (example.labels["part"][2:4] == 1).all()


def test_wordings_and_order() -> None:
    fixed = Facts(wordings=1, permute=False)
    assert len(set(texts(fixed, 200))) == 20 and len(set(texts(Facts(wordings=2), 400))) <= 40
    assert len(set(texts(Facts(), 200))) > 100
    assert all(text.index("symbol") < text.index("group") for text in texts(fixed, 20))


def test_halves_share_subjects_with_questions() -> None:
    first, second = (set(Corpus(FactQuestions(half=half), 0).documents(0, 30).slices["subject"]) for half in HALVES)
    assert len(first) == len(second) == 10 and not first & second
    assert first == set(Corpus(Facts(half="first"), 0).documents(0, 10).slices["subject"])
    assert first != set(Corpus(Facts(half="first"), 1).documents(0, 10).slices["subject"])
    assert Facts().vocab() == FactQuestions().vocab()


def test_mixed_questions_are_about_one_half_only() -> None:
    task = Facts(asked="first")
    corpus = Corpus(task, 0)
    assert corpus.num_items == 20 + 10 * 3
    slices = corpus.documents(0, 50).slices
    asked = slices["attribute"] != "all"
    assert asked.sum() == 30 and len(set(slices["subject"][~asked])) == 20
    taught = set(Corpus(task.as_questions("first"), 0).documents(0, 30).slices["subject"])
    assert set(slices["subject"][asked]) == taught


HALVES = ("first", "second")


def test_answers_and_texts_are_judged(path: Path) -> None:
    task = FactQuestions(str(path))
    corpus = Corpus(task, 0, "test")
    block = corpus.documents(0, 8)
    example = next(block[i] for i in range(8) if "York" in task.vocab().decode(block[i].tokens))
    for answer, right in (("New York .", 1), ("New York . <eos>", 1), ("New .", 0), ("Paris .", 0), ("New York", 0)):
        assert task.score(corpus.world, example, task.vocab().encode(answer.split())) == {"correct": right}
    told = Facts(str(path))
    score = lambda text: told.score(told.world(0), None, told.vocab().encode(text.split()))["correct"]  # noqa: E731
    assert score("About Bob Lee : The town of Bob Lee is Paris . Its job is nurse .") == 1
    assert score("About Bob Lee : The town of Bob Lee is Paris . Its job is cook .") == 0.5
    assert score("The town is Paris .") == 0


def test_a_run_is_known_by_what_the_file_says(path: Path, tmp_path: Path) -> None:
    key = Facts(str(path)).key
    (tmp_path / "other.csv").write_bytes(b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode() + b"\r\n")
    (tmp_path / "changed.csv").write_text(TABLE.replace("Oslo", "Bonn"))
    assert Facts(str(tmp_path / "other.csv")).key == key != Facts(str(tmp_path / "changed.csv")).key
    (tmp_path / "a.txt").write_text("The {attribute} of {name} is {value}.\n")
    (tmp_path / "b.txt").write_text("\n  The {attribute} of {name} is {value} .")
    worded = Facts(str(path), templates=str(tmp_path / "a.txt"))
    assert worded.key == Facts(str(path), templates=str(tmp_path / "b.txt")).key != key
    assert len(set(texts(worded, 30))) <= 8  # four subjects, two orders


def test_names_in_another_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,Ann\n2,Bob\n")
    assert read_table(str(tmp_path / "a.csv"), "name").names == (("Ann",), ("Bob",))


def test_questions_are_read_with_their_punctuation(path: Path) -> None:
    task = Facts(str(path))
    words = task.vocab().decode(task.encode_question("What is the town of Ann Lee?"))
    assert " ".join(words) == "<bos> What is the town of Ann Lee ? Answer :"
    with pytest.raises(UserError, match="token 'colour' at position 3"):
        task.encode_question("What is the colour of Ann Lee?")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "is empty"), (b"name,job\n", "0 rows below its header"), (b"name,job\nAnn,cook\n", "at least 2 subjects"),
        (b"name\nAnn\nBob\n", "one column 'name'"), (b"name;job\nAnn;cook\n", "separate them by commas"),
        (b"name,\nAnn,a\nBob,b\n", "column 2 has no name"),
        (b"name,job,job\nAnn,a,b\n", "two columns are called 'job'"),
        (b"who,name\nAnn,a\nBob,b\n", "cannot be called 'name'"),
        (b"name,job\nAnn,cook\nBob\n", "line 3: 1 cells under 2 columns"),
        (b"name,job\nAnn,cook\nBob, \n", "line 3: no job"), (b"name,job\n,cook\nBob,b\n", "line 2: no name"),
        (b"name,job\nAnn,cook\nBob,b\nAnn,nurse\n", "line 4: 'Ann' has line 2 already"),
        (b"name,town\nAnn,New York\nBob,New  York\n", "line 3: 'New  York' has the same words as 'New York'"),
        ("name,town\nAnn,Orl\u00e9ans\nBob,Orle\u0301ans\n".encode(), "has the same words"),
        (b"name,town\nAnn,a .\nBob,b\n", "line 2: '.' ends or pads"),
        (b"name,town\nAnn,<eos>\nBob,b\n", "'<eos>' ends"),
        ("name,town\nAnn,K\u00f6ln\nBob,b\n".encode("latin-1"), "not UTF-8"),
        (b'name,job\nAnn,"cook\nBob,b\n', "no CSV"),
    ],
)  # fmt: skip
def test_bad_tables_are_named_in_a_line(content: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_bytes(content)
    with pytest.raises(UserError, match=named.replace(".", r"\.")) as caught:
        Facts(str(tmp_path / "my.csv")).vocab()
    assert "\n" not in str(caught.value) and "my.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("\n", "holds no sentence"), ("It is {value}.", "line 1: the sentence has {value}"),
        ("\n{name} {name} {attribute} {value}", "line 2"), ("{colour} of {attribute} {value}", "{colour}"),
        ("What is the {attribute}?", "needs {name} and {attribute}"),
    ],
)  # fmt: skip
def test_bad_sentences_are_named_in_a_line(text: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError) as caught:
        Facts(templates=str(tmp_path / "a.txt")).vocab()
    assert named in str(caught.value) and "a.txt" in str(caught.value)


def test_bad_fields() -> None:
    for values in ({"path": "no.csv"}, {"name_column": "weight"}, {"half": "third"}, {"asked": "x"}, {"wordings": -1}):
        with pytest.raises(UserError):
            Facts(**values).vocab()
    with pytest.raises(UserError, match="asked is for texts"):
        FactQuestions(asked="first")
