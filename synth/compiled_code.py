"""numba's njit with a cache on disk that a full disk, a read-only folder or a missing home cannot break."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
from numba.core.caching import FunctionCache


class HealingCache(FunctionCache):
    """A cache that is made again where it cannot be read, and left out where it cannot be written."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a file that was cut raises any of a dozen, and compiling again is always right
            with suppress(OSError):
                self.flush()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(Exception):  # the function is compiled: that it cannot be kept costs the next start some seconds
            super().save_overload(sig, data)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba.njit(nogil=True, **options) with a HealingCache; without a cache where no folder takes one."""

    def compile_lazily(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        with suppress(RuntimeError):  # no locator available: neither the source's folder nor a home can be written
            dispatcher._cache = HealingCache(dispatcher.py_func)
        return dispatcher

    return compile_lazily
