"""Synthetic tasks with exactly known truth: samplers, vocabularies, corpora and oracles. numpy only, no torch."""

from synth.corpus import Batch, Corpus, Cursor
from synth.errors import UserError
from synth.registry import get_task
from synth.task import Block, Example, Task
from synth.vocab import Vocab

__all__ = ["Batch", "Block", "Corpus", "Cursor", "Example", "Task", "UserError", "Vocab", "get_task"]
