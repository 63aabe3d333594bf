"""The cache of a block during generation."""

from typing import Any

from torch import Tensor


class LayerCache(dict[str, Tensor]):
    """Tensors (B, ...) by name that a block needs to continue its sequences; fixed: values shared by all rows."""

    def __init__(self, rows: dict[str, Tensor], fixed: dict[str, Any] | None = None) -> None:
        super().__init__(rows)
        self.fixed = fixed or {}

    def select_rows(self, rows: Tensor) -> None:
        """Select rows of the batch, in the given order."""
        for name, tensor in self.items():
            self[name] = tensor[rows]
