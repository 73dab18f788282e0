"""A CUDA graph's double: what is captured is a list of operations on tensors at fixed places.

A replay runs no Python of the work's. It does the same operations on the same tensors, after it has
scribbled over everything that the work made, so that whatever it reads is an input or is made anew.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from penstock.engine.graphs import Replay, Tensors, Work

_READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.item.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.unique_dim.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.resolve_neg.default,  # which `numpy` and `tolist` begin with
}
_INDEXING = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
}


class HostRead(AssertionError):
    """What a device computes was looked at while it was captured."""


class NoHostReads(TorchDispatchMode):
    """Refuses whatever would wait for a device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        picks = func in _INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func in _READS or picks:
            raise HostRead(f"{func} reads a tensor back")
        return func(*args, **(kwargs or {}))


class Tape(NoHostReads):
    """Also writes down what is done."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[torch.Tensor]]] = []
        self.made: list[torch.Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = super().__torch_dispatch__(func, types, args, kwargs)
        results = _tensors(found)
        given = {_memory(each) for each in _tensors((args, kwargs))}
        self.operations.append((func, args, kwargs or {}, results))
        self.made += [each for each in results if _memory(each) not in given]
        return found


class TapedReplay:
    def __init__(self, tape: Tape, outputs: Tensors) -> None:
        self._tape = tape
        self.outputs = outputs

    def __call__(self) -> None:
        for tensor in self._tape.made:
            _scribble(tensor)
        for func, args, kwargs, results in self._tape.operations:
            for result, found in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                if _memory(result) != _memory(found):
                    result.copy_(found)


class TapeCapture:
    """Captures on a CPU; counts what it has captured and replayed."""

    def __init__(self) -> None:
        self.replays: list[TapedReplay] = []

    def __call__(self, work: Work) -> Replay:
        tape = Tape()
        with tape:
            outputs = work()
        self.replays.append(TapedReplay(tape, outputs))
        return self.replays[-1]


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _scribble(tensor: torch.Tensor) -> None:
    if tensor.is_floating_point():
        tensor.fill_(torch.nan)
    elif tensor.dtype != torch.bool:
        tensor.fill_(torch.iinfo(tensor.dtype).max // 3)
