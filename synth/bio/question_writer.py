"""Writing and scoring questions about people; a document is a row of pieces, each a word or the text of a value."""

from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np

from synth.bio.lexicon import FIRST_YEAR, Lexicon
from synth.bio.manipulation import NAME_PARTS, NO, QUESTIONS, RESULT_SLOT, YES, Question, answer_range, luckiness
from synth.bio.tables import Ragged
from synth.bio.value_lists import ATTRIBUTES, MONTHS, ValueLists
from synth.bio.world import NAME_PART, VALUE_PART
from synth.task import Block

DATES = ("year", "month", "day")
FACT_COLUMNS = (*NAME_PARTS, *(name.replace(" ", "_") for name in ATTRIBUTES), *DATES)
SLOT_COLUMNS = [*(f"{{{fact}}}" for fact in FACT_COLUMNS), *(f"{{other_{fact}}}" for fact in FACT_COLUMNS), RESULT_SLOT]
DATE, MAJOR = ATTRIBUTES.index("birth date"), ATTRIBUTES.index("major")
QUESTION_LIST = list(QUESTIONS.values())


@cache
def _text_layout() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What `QuestionWriter._templates` holds whatever the vocabulary, with the texts (S, M) of fixed pieces, "" for
    none."""
    scripts = [(q.prompt(hinted), q.completion(hinted)) for q in QUESTION_LIST for hinted in (False, True)]
    size = len(scripts), max(len(prompt) + len(completion) for prompt, completion in scripts)
    texts, slot = np.full(size, "", object), np.full(size, -1)
    for row, (prompt, completion) in enumerate(scripts):
        for at, text in enumerate((*prompt, *completion)):
            if text in SLOT_COLUMNS:
                slot[row, at] = SLOT_COLUMNS.index(text)
            else:
                texts[row, at] = text
    owners = [*range(len(ATTRIBUTES)), *[DATE] * len(DATES)]
    kinds = [(NAME_PART, -1)] * len(NAME_PARTS) + [(VALUE_PART, attribute) for attribute in owners]
    part, attribute = np.array([*kinds, *kinds, (0, -1), (0, -1)], np.int8).T[:, slot]  # the last is for slot -1
    lengths = np.array([len(prompt) for prompt, _ in scripts])
    return texts, {"slot": slot, "part": part, "attribute": attribute, "prompt": lengths}


class QuestionWriter:
    """Writes and scores the questions of Part 3.2; names (N, 3) and values (N, 6) are those of a bios.World."""

    def __init__(self, lexicon: Lexicon, value_lists: ValueLists) -> None:
        self.lexicon, self.value_lists = lexicon, value_lists
        size = lexicon.vocab.size
        words = Ragged(np.arange(size, dtype=np.int32), np.arange(size + 1, dtype=np.int64))
        self.pieces, (_, self.empty_piece, values) = Ragged.concatenate([words, Ragged.from_rows([[]]), lexicon.values])
        self.value_offsets = values + lexicon.value_offsets
        years, months, days = value_lists.calendar
        texts = [range(FIRST_YEAR, FIRST_YEAR + years), MONTHS[:months], range(1, days + 1)]
        self.date_ids = dict(zip(DATES, (lexicon.vocab.encode(map(str, text)) for text in texts), strict=True))
        self.number_ids = lexicon.vocab.encode(map(str, answer_range(value_lists)))
        self.yes_no_ids = lexicon.vocab.encode((NO, YES))
        self.major_luckiness = luckiness(len(value_lists.majors))

    # ---- facts ---------------------------------------------------------------------------------------------------
    def _date_parts(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Year, month and day (n,), from 0, of the birth dates in values (n, 6)."""
        _, months, days = self.value_lists.calendar
        dates = values[:, DATE]
        return {"year": dates // (months * days), "month": dates // days % months, "day": dates % days}

    def _fact_pieces(self, names: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Pieces (n, F) of the FACT_COLUMNS of people."""
        parts = [ids[names[:, i]] for i, ids in enumerate(self.lexicon.names)]
        dates = [self.date_ids[part][numbers] for part, numbers in self._date_parts(values).items()]
        return np.concatenate([np.stack(parts, 1), self.value_offsets + values, np.stack(dates, 1)], axis=1)

    def _quantity(self, quantity: str, values: np.ndarray) -> np.ndarray:
        """The month or day (from 1) or the luckiness (n,) of people with values (n, 6)."""
        return self.major_luckiness[values[:, MAJOR]] if quantity == "luck" else self._date_parts(values)[quantity] + 1

    def _answer_word(self, question: Question, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Ids (n,) of the answers computed from the quantities x and y (n,) of both people."""
        result = question.result(x, y)
        if question.yes_or_no:
            return self.yes_no_ids[result]
        return self.number_ids[result - answer_range(self.value_lists).start]

    def _result_pieces(self, questions: np.ndarray, values: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Pieces (n, 1) of the computed answers from the values (n, 6) of both people; empty if not computed."""
        pieces = np.full((len(questions), 1), self.empty_piece)
        for number in np.unique(questions):
            question = QUESTION_LIST[number]
            if question.quantity:
                rows = np.flatnonzero(questions == number)
                x, y = (self._quantity(question.quantity, side[rows]) for side in (values, others))
                pieces[rows, 0] = self._answer_word(question, x, y)
        return pieces

    # ---- writing -------------------------------------------------------------------------------------------------
    @cached_property
    def _templates(self) -> dict[str, np.ndarray]:
        """Arrays (S, M) by question without and then with a hint: word, the fixed pieces; slot, the column of the facts
        of both people and the result, else -1; the labels part and attribute. And prompt (S,), pieces in the prompt."""
        texts, columns = _text_layout()
        index = self.lexicon.vocab.index
        pieces = {"": self.empty_piece} | {text: index[text] for text in set(texts.flat) if text}
        word = np.array([pieces[text] for text in texts.flat], np.int64).reshape(texts.shape)
        return {"word": word, **columns}

    def write(
        self, names: np.ndarray, values: np.ndarray, people: np.ndarray, others: np.ndarray, questions: np.ndarray,
        hinted: np.ndarray, labels: bool = False,
    ) -> Block:  # fmt: skip
        """Documents of questions (n,), by their position in QUESTIONS, about people (n,) and perhaps others (n,);
        hinted (n,) bool. All tokens but <bos> are targets; the prompt ends before the hint or answer."""
        layout = {name: table[2 * questions + hinted] for name, table in self._templates.items()}
        about = [self._fact_pieces(names[who], values[who]) for who in (people, others)]
        facts = np.concatenate([*about, self._result_pieces(questions, values[people], values[others])], axis=1)
        pieces = np.where(layout["slot"] < 0, layout["word"], np.take_along_axis(facts, layout["slot"], axis=1))
        eos = np.full((len(pieces), 1), self.lexicon.vocab.eos)
        tokens, lengths = self._expand_pieces(np.concatenate([np.zeros_like(eos), pieces, eos], axis=1))
        before = np.cumsum(lengths, axis=1)
        offsets = np.concatenate([[0], np.cumsum(before[:, -1])]).astype(np.int64)
        mask = np.ones(len(tokens), bool)
        mask[offsets[:-1]] = False
        marks = {"part": 0, "attribute": -1} if labels else {}
        rows = {name: np.pad(layout[name], ((0, 0), (1, 1)), constant_values=none) for name, none in marks.items()}
        columns = {name: np.repeat(row, lengths.ravel()) for name, row in rows.items()}
        return Block(tokens, offsets, mask, before[np.arange(len(before)), layout["prompt"]], {}, columns)

    def _expand_pieces(self, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The concatenated ids (N,) of pieces (n, m), and their lengths (n, m)."""
        starts = self.pieces.starts[pieces]
        lengths = self.pieces.starts[pieces + 1] - starts
        counts = lengths.ravel()
        ends = np.cumsum(counts)
        inside = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        return self.pieces.flat[np.repeat(starts.ravel(), counts) + inside], lengths

    # ---- judging -------------------------------------------------------------------------------------------------
    @cached_property
    def _fact_numbers(self) -> dict[str, dict[tuple[int, ...], int]]:
        """For each quantity, its number by the ids of the fact's text."""
        numbers: dict[str, dict[tuple[int, ...], int]] = {}
        for part in ("month", "day"):
            numbers[part] = {(word,): i + 1 for i, word in enumerate(self.date_ids[part].tolist())}
        first = int(self.value_offsets[MAJOR])
        rows = self.pieces.rows[first : first + len(self.major_luckiness)]
        return {**numbers, "luck": {row: int(score) for row, score in zip(rows, self.major_luckiness, strict=True)}}

    def infer_answer(self, question: Question, hint: Sequence[int]) -> tuple[int, ...] | None:
        """Ids of the answer that follows from a hint (without its full stop), be it true or not; None if the hint is
        malformed."""
        separator, facts = self.lexicon.vocab.index[";"], list[list[int]]([[]])
        for word in hint:
            if word == separator:
                facts.append([])
            else:
                facts[-1].append(word)
        numbers = [self._fact_numbers[question.quantity].get(tuple(fact)) for fact in facts]
        if len(numbers) != len(question.facts) or None in numbers:
            return None
        x, y = np.array([numbers[0]]), np.array([numbers[-1]])
        return (int(self._answer_word(question, x, y)[0]),)
