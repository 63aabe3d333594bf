"""What a layer remembers between two steps of generation."""

from typing import Any

from torch import Tensor


class State(dict[str, Tensor]):
    """What one block remembers of the tokens so far: tensors whose first dimension is the row of the batch.

    `fixed` holds what does not depend on the row (tables computed once for a generation).
    """

    def __init__(self, rows: dict[str, Tensor], fixed: dict[str, Any] | None = None) -> None:
        super().__init__(rows)
        self.fixed = fixed or {}

    def keep(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        for name, tensor in self.items():
            self[name] = tensor[rows]
