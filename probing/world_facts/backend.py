"""The interface of generation back ends, which answer prompts with text."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

STOP_STRING = "\n\n"  # separates the examples in a prompt; models without a chat template go on with a new question


@runtime_checkable
class GenerationBackend(Protocol):
    """name: of the model, part of the default name of the response log. identity: everything that determines the
    responses besides the prompts."""

    name: str
    identity: dict[str, Any]

    def generate(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield the index of each prompt with its response, in any order, as soon as it is complete.

        Raises UserError where a response cannot be generated.
        """
        ...
