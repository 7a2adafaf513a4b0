"""Messages as bytes between the daemon and its hosts.

Ray would pickle them as well, but through a Python-level pickler, and dataclasses with slots copy their fields one by
one in Python: together 1 ms of a call of 2.6. Only processes of one Ray use it; they may run code in each other anyway.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any, TypeVar

from actors import messages

T = TypeVar("T")


def _by_arguments(message: type[T]) -> Callable[[T], tuple[type[T], tuple[Any, ...]]]:
    names = [field.name for field in fields(message)]  # type: ignore[arg-type]
    read = attrgetter(*names)
    if len(names) == 1:
        return lambda value: (message, (read(value),))
    return lambda value: (message, read(value))


_MESSAGES = [kind for kind in vars(messages).values() if isinstance(kind, type) and is_dataclass(kind)]


class _Pickler(pickle.Pickler):
    dispatch_table = copyreg.dispatch_table | {kind: _by_arguments(kind) for kind in _MESSAGES}


def pack(message: object) -> bytes:
    """A message as bytes."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(message)
    return buffer.getvalue()


def unpack(packed: bytes) -> Any:
    """The message that `pack` made bytes of."""
    return pickle.loads(packed)  # noqa: S301 (from our own processes, see above)
