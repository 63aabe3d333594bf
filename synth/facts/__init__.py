"""Facts of one's own: a table with a line a subject, and the sentences that tell and ask them."""

from synth.facts.table import ELEMENTS, FactTable, log2_combinations, read_table
from synth.facts.wording import Wording, read_wording, words_of

__all__ = ["ELEMENTS", "FactTable", "Wording", "log2_combinations", "read_table", "read_wording", "words_of"]
