"""Questions about people as blocks of ids: every document is a row of pieces, each a word or the text of a value."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from synth.bio.lexicon import YEAR, Kit
from synth.bio.manipulation import NAME, NO, QUESTIONS, RESULT, YES, Question, luckiness, numbers
from synth.bio.tables import Ragged
from synth.bio.value_lists import ATTRIBUTES, MONTHS, Pools
from synth.bio.world import NAME as NAMED
from synth.bio.world import VALUE
from synth.task import Block

DATES = ("year", "month", "day")
FACTS = (*NAME, *(name.replace(" ", "_") for name in ATTRIBUTES), *DATES)
COLUMNS = [*(f"{{{fact}}}" for fact in FACTS), *(f"{{other_{fact}}}" for fact in FACTS), RESULT]
DATE, MAJOR = ATTRIBUTES.index("birth date"), ATTRIBUTES.index("major")
LIST = list(QUESTIONS.values())


class Asker:
    """Writes and judges questions of Part 3.2. values (N, 6) and names (N, 3) are the columns of a bios.World."""

    def __init__(self, kit: Kit, pools: Pools) -> None:
        self.kit, self.pools = kit, pools
        size = kit.vocab.size
        words = Ragged(np.arange(size, dtype=np.int32), np.arange(size + 1, dtype=np.int64))
        self.pieces, (_, self.nothing, values) = Ragged.join([words, Ragged.of([[]]), kit.values])
        self.bases = values + kit.bases
        years, months, days = pools.calendar
        texts = [range(YEAR, YEAR + years), MONTHS[:months], range(1, days + 1)]
        self.dates = dict(zip(DATES, (kit.vocab.encode(map(str, text)) for text in texts), strict=True))
        self.numbers = kit.vocab.encode(map(str, numbers(pools)))
        self.yes_or_no = kit.vocab.encode((NO, YES))
        self.luck = luckiness(len(pools.majors))

    # ---- facts ---------------------------------------------------------------------------------------------------
    def _date(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """The numbers 0.. of year, month and day (n,) of the birth dates in values (n, 6)."""
        _, months, days = self.pools.calendar
        dates = values[:, DATE]
        return {"year": dates // (months * days), "month": dates // days % months, "day": dates % days}

    def _facts(self, names: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The pieces (n, F) of FACTS of people."""
        parts = [ids[names[:, i]] for i, ids in enumerate(self.kit.names)]
        dates = [self.dates[part][numbers] for part, numbers in self._date(values).items()]
        return np.concatenate([np.stack(parts, 1), self.bases + values, np.stack(dates, 1)], axis=1)

    def _number(self, over: str, values: np.ndarray) -> np.ndarray:
        """What a question is about (n,), of people with values (n, 6): the month or day from 1, or the luckiness."""
        return self.luck[values[:, MAJOR]] if over == "luck" else self._date(values)[over] + 1

    def _word(self, question: Question, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The word (n,) of what is worked out from the numbers of the person and of the other."""
        result = question.result(x, y)
        return self.yes_or_no[result] if question.yes_or_no else self.numbers[result - numbers(self.pools).start]

    def _results(self, questions: np.ndarray, values: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The word (n, 1) that is worked out of the values (n, 6) of both people; no piece where nothing is."""
        found = np.full((len(questions), 1), self.nothing)
        for number in np.unique(questions):
            question = LIST[number]
            if question.over:
                rows = np.flatnonzero(questions == number)
                x, y = (self._number(question.over, side[rows]) for side in (values, others))
                found[rows, 0] = self._word(question, x, y)
        return found

    # ---- writing -------------------------------------------------------------------------------------------------
    @cached_property
    def _layout(self) -> dict[str, np.ndarray]:
        """For each question without a hint, then with one (S, M): word, its pieces where they are fixed; slot, the
        column of the facts about both people and the result that stands there, else -1; labels part and attribute. And
        prompt (S,), how many pieces the prompt has."""
        scripts = [(q.prompt(hinted), q.completion(hinted)) for q in LIST for hinted in (False, True)]
        size = len(scripts), max(len(prompt) + len(completion) for prompt, completion in scripts)
        word, slot = np.full(size, self.nothing, np.int64), np.full(size, -1)
        for row, (prompt, completion) in enumerate(scripts):
            for at, text in enumerate((*prompt, *completion)):
                if text in COLUMNS:
                    slot[row, at] = COLUMNS.index(text)
                else:
                    word[row, at] = self.kit.vocab.index[text]
        kinds = [(NAMED, -1)] * len(NAME) + [(VALUE, a) for a in range(len(ATTRIBUTES))] + [(VALUE, DATE)] * 3
        part, attribute = np.array([*kinds, *kinds, (0, -1), (0, -1)], np.int8).T[:, slot]  # the last is of no slot
        return {
            "word": word, "slot": slot, "part": part, "attribute": attribute,
            "prompt": np.array([len(prompt) for prompt, _ in scripts]),
        }  # fmt: skip

    def write(
        self, names: np.ndarray, values: np.ndarray, people: np.ndarray, others: np.ndarray, questions: np.ndarray,
        hinted: np.ndarray, labels: bool = False,
    ) -> Block:  # fmt: skip
        """Documents end to end, all but <bos> to be predicted: questions (n,), by their place in QUESTIONS, about
        people (n,) and others (n,), of no account in a question about one; hinted (n,) bool."""
        layout = {name: table[2 * questions + hinted] for name, table in self._layout.items()}
        about = [self._facts(names[who], values[who]) for who in (people, others)]
        facts = np.concatenate([*about, self._results(questions, values[people], values[others])], axis=1)
        pieces = np.where(layout["slot"] < 0, layout["word"], np.take_along_axis(facts, layout["slot"], axis=1))
        eos = np.full((len(pieces), 1), self.kit.vocab.eos)
        tokens, lengths = self._spell(np.concatenate([np.zeros_like(eos), pieces, eos], axis=1))
        before = np.cumsum(lengths, axis=1)
        offsets = np.concatenate([[0], np.cumsum(before[:, -1])]).astype(np.int64)
        mask = np.ones(len(tokens), bool)
        mask[offsets[:-1]] = False
        marks = {"part": 0, "attribute": -1} if labels else {}
        rows = {name: np.pad(layout[name], ((0, 0), (1, 1)), constant_values=none) for name, none in marks.items()}
        columns = {name: np.repeat(row, lengths.ravel()) for name, row in rows.items()}
        return Block(tokens, offsets, mask, before[np.arange(len(before)), layout["prompt"]], {}, columns)

    def _spell(self, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids (N,) of pieces (n, m) end to end, and how many each has (n, m)."""
        starts = self.pieces.starts[pieces]
        lengths = self.pieces.starts[pieces + 1] - starts
        counts = lengths.ravel()
        ends = np.cumsum(counts)
        inside = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        return self.pieces.flat[np.repeat(starts.ravel(), counts) + inside], lengths

    # ---- judging -------------------------------------------------------------------------------------------------
    @cached_property
    def _meaning(self) -> dict[str, dict[tuple[int, ...], int]]:
        """From the ids of a written-out fact to its number."""
        found: dict[str, dict[tuple[int, ...], int]] = {}
        for part in ("month", "day"):
            found[part] = {(word,): i + 1 for i, word in enumerate(self.dates[part].tolist())}
        first = int(self.bases[MAJOR])
        rows = self.pieces.rows[first : first + len(self.luck)]
        return {**found, "luck": {row: int(score) for row, score in zip(rows, self.luck, strict=True)}}

    def concluded(self, question: Question, hint: Sequence[int]) -> tuple[int, ...] | None:
        """The ids of the answer that follows from a hint (without its full stop), right or wrong; None where it does
        not say what it should."""
        between, facts = self.kit.vocab.index[";"], list[list[int]]([[]])
        for word in hint:
            if word == between:
                facts.append([])
            else:
                facts[-1].append(word)
        said = [self._meaning[question.over].get(tuple(fact)) for fact in facts]
        if len(said) != len(question.facts) or None in said:
            return None
        x, y = np.array([said[0]]), np.array([said[-1]])
        return (int(self._word(question, x, y)[0]),)
