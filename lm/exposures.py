"""How long a training lasts that shows every fixed item (person) a given number of times.

The exposures of Part 3.3 (Physics of Language Models, arXiv 2404.05405, section 2): 100 or 1000 of every person.
"""

from synth.corpus import BLOCK, Corpus, Packing
from synth.errors import UserError
from synth.task import Task

COUNTED = 1 << 16  # documents whose tokens are counted: a tenth of a second for biographies


def steps_for(task: Task, exposures: int, batch: int, window: int, packing: Packing) -> int:
    """Optimizer steps after which every fixed item of the task has had `exposures` exposures.

    packing "none": exactly. packing "cut": that many or one more, as the last window seldom ends where an epoch does
    (exactly, where batch * window divides the tokens of the epochs), if a batch holds no more than an epoch. Documents
    of varying length are counted in data seed 0, of very many only the first epochs: where the mean length of another
    seed differs (between biographies by about 0.06 / sqrt(people) of itself) exposures do too, but whatever the seed
    no two items ever differ by more than one.

    Raises UserError for a task without fixed items, for packing "whole", whose rows hold no fixed number of
    documents, and for packing "none" when `batch` does not divide the documents; it names the nearest that does.
    """
    if exposures < 1:
        raise UserError(f"exposures={exposures} is no training; give at least 1")
    corpus = Corpus(task, 0, window=window, packing=packing)
    if corpus.items is None:
        raise UserError(f"task {task.name} has no fixed items to be exposed; give steps instead of exposures")
    if packing == "whole":
        raise UserError("packing=whole has no fixed number of documents a row; plan exposures with none or cut")
    documents = exposures * corpus.items
    if packing == "cut":
        return -(-(_tokens(corpus, documents) - 1) // (batch * window))  # the first <bos> is nobody's target
    if documents % batch:
        raise UserError(
            f"batch={batch} does not divide {exposures} exposures of {corpus.items} items; "
            f"the nearest that does is batch={_nearest_divisor(documents, batch)}"
        )
    return documents // batch


def _tokens(corpus: Corpus, documents: int) -> int:
    """Tokens of the first `documents` documents; of many, from the mean over whole epochs of them if one fits."""
    items = corpus.items or 1
    counted = min(documents, COUNTED // items * items or COUNTED)
    blocks = (corpus.block(number).lengths for number in range(-(-counted // BLOCK)))
    seen = sum(int(lengths[: counted - number * BLOCK].sum()) for number, lengths in enumerate(blocks))
    return -(-seen * documents // counted)


def _nearest_divisor(number: int, near: int) -> int:
    distance = 0
    while True:
        for candidate in (near - distance, near + distance):
            if candidate > 0 and number % candidate == 0:
                return candidate
        distance += 1
