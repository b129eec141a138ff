"""Triton's interpreter made as strict as a GPU is, and exact in bfloat16. Import it before any kernel.

What it adds: bfloat16 is rounded to nearest even and computed in float32; a masked lane without `other` is NaN; an
access outside of the tensors of a launch, two lanes of one store on one address, and two programs of which one writes
what the other reads or writes, are errors; products have at least 16 terms. `hardened.backwards = True` runs the
programs of a launch in the opposite order.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

from typing import Any

import numpy as np
import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

# ---- bfloat16, which the interpreter holds as the upper halves of float32


def to_bf16(data: Any) -> Any:
    bits = np.ascontiguousarray(data, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(data), np.uint16(0x7FC0), rounded.astype(np.uint16))


def from_bf16(data: Any) -> Any:
    return (np.ascontiguousarray(data).astype(np.uint32) << np.uint32(16)).view(np.float32)


def is_bf16(handle: TensorHandle) -> bool:
    return handle.dtype.scalar == tl.bfloat16


_convert_float, _cast = interpreter._convert_float, InterpreterBuilder.cast_impl
_binary, _unary = InterpreterBuilder.binary_op, InterpreterBuilder.unary_op
_ARITHMETIC = (np.add, np.subtract, np.multiply, np.divide, np.fmod, np.minimum, np.maximum)
_COMPARISONS = (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)


def convert_float(data: Any, source: Any, target: Any, mode: Any) -> Any:
    if source == tl.float32 and target == tl.bfloat16 and mode != interpreter._ir.ROUNDING_MODE.RTZ:
        return to_bf16(data)
    if source == tl.bfloat16 and target == tl.float32:
        return from_bf16(data).view(np.uint32)
    return _convert_float(data, source, target, mode)


def cast(self: Any, source: TensorHandle, target: Any) -> TensorHandle:
    have, want = source.dtype.scalar, target.scalar
    if have == tl.bfloat16 and want not in (tl.float32, tl.bfloat16):
        return _cast(self, TensorHandle(from_bf16(source.data), tl.float32), target)
    if want == tl.bfloat16 and have not in (tl.float32, tl.bfloat16):
        between = tl.block_type(tl.float32, target.shape) if isinstance(target, tl.block_type) else tl.float32
        return _cast(self, _cast(self, source, between), target)
    return _cast(self, source, target)


def binary(self: Any, left: TensorHandle, right: TensorHandle, op: Any) -> TensorHandle:
    if is_bf16(left) and op in _ARITHMETIC:
        return TensorHandle(to_bf16(op(from_bf16(left.data), from_bf16(right.data))), tl.bfloat16)
    if is_bf16(left) and op in _COMPARISONS:
        return TensorHandle(op(from_bf16(left.data), from_bf16(right.data)), tl.int1)
    return _binary(self, left, right, op)


def unary(self: Any, operand: TensorHandle, op: Any) -> TensorHandle:
    if is_bf16(operand):
        return TensorHandle(to_bf16(op(from_bf16(operand.data))), tl.bfloat16)
    return _unary(self, operand, op)


def dot(self: Any, a: TensorHandle, b: TensorHandle, acc: TensorHandle, precision: Any, most: Any) -> TensorHandle:
    assert a.data.shape[-1] >= 16, f"tl.dot of {a.data.shape[-1]} terms: at least 16"
    sides = [from_bf16(x.data) if is_bf16(x) else x.data.astype(np.float32) for x in (a, b)]
    if a.dtype.scalar == tl.float32 and precision == interpreter._ir.INPUT_PRECISION.TF32:
        sides = [
            ((np.ascontiguousarray(x).view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
            for x in sides
        ]
    return TensorHandle((np.matmul(*sides) + acc.data).astype(acc.data.dtype), acc.dtype.scalar)


# ---- memory

_storages: list[tuple[int, int]] = []
_written: dict[int, tuple[int, ...]] = {}
_read: dict[int, tuple[int, ...]] = {}


def _addresses(self: Any, pointers: Any, mask: Any, size: int, what: str) -> Any:
    """The addresses of the lanes that are not masked off, all of them inside a tensor of the launch."""
    used = np.asarray(pointers)[np.asarray(mask, dtype=bool)].ravel() if np.ndim(mask) else np.asarray(pointers).ravel()
    starts = np.array([start for start, _ in _storages], dtype=np.uint64)
    ends = np.array([end for _, end in _storages], dtype=np.uint64)
    place = np.searchsorted(starts, used, side="right") - 1
    outside = (place < 0) | (used + np.uint64(size) > ends[np.maximum(place, 0)])
    assert not outside.any(), f"{what} outside of every tensor: {int(outside.sum())} lanes, program {self.grid_idx}"
    return used


def load(self: Any, pointers: TensorHandle, mask: TensorHandle, other: Any, *_: Any, **__: Any) -> TensorHandle:
    kind = pointers.get_element_ty()
    numbers = interpreter._get_np_dtype(kind)
    for address in _addresses(self, pointers.data, mask.data, numbers.itemsize, "load").tolist():
        writer = _written.get(address)
        assert writer in (None, self.grid_idx), f"program {self.grid_idx} reads what {writer} writes"
        _read[address] = self.grid_idx
    if other is None:
        poison = 0x7FC0 if kind == tl.bfloat16 else np.nan if kind.is_floating() else 0x5A5A5A
        other = TensorHandle(np.full(pointers.data.shape, poison).astype(numbers), kind)
    return TensorHandle(interpreter._interpreter.load(pointers.data, mask.data, other.data, numbers), kind)


def store(self: Any, pointers: TensorHandle, value: TensorHandle, mask: TensorHandle, *_: Any, **__: Any) -> Any:
    size = interpreter._get_np_dtype(pointers.get_element_ty()).itemsize
    used = _addresses(self, pointers.data, mask.data, size, "store")
    assert np.unique(used).size == used.size, f"two lanes of one store, program {self.grid_idx}"
    for address in used.tolist():
        writer, reader = _written.setdefault(address, self.grid_idx), _read.get(address)
        assert writer == self.grid_idx, f"programs {writer} and {self.grid_idx} write one address"
        assert reader in (None, self.grid_idx), f"program {self.grid_idx} writes what {reader} reads"
    return interpreter._interpreter.store(pointers.data, value.data, mask.data)


_set_grid_idx = InterpreterBuilder.set_grid_idx
backwards = False


def set_grid_idx(self: Any, x: int, y: int, z: int) -> None:
    """The programs of a launch, in their order or from the last to the first."""
    if backwards:
        x, y, z = (size - 1 - at for size, at in zip(self.grid_dim, (x, y, z), strict=True))
    _set_grid_idx(self, x, y, z)


_load_legacy = TritonSemantic._load_legacy


def load_legacy(self: Any, pointers: Any, mask: Any, other: Any, *rest: Any) -> Any:
    """An `other` of one element that is zero counts as none in the interpreter, where truth is that of the number."""
    made = _load_legacy(self, pointers, mask, other, *rest)
    if other is not None and made.handle.data.size == 1 and not np.all(mask.handle.data):
        value = self.cast(other, made.dtype.scalar).handle.data
        made.handle.data = np.broadcast_to(value, made.handle.data.shape).astype(made.handle.data.dtype)
    return made


_init_args = GridExecutor._init_args_hst


def init_args(self: Any, args: Any, keywords: Any) -> Any:
    """Notes the memory of the tensors of a launch, which the interpreter has copied."""
    made = _init_args(self, args, keywords)
    _storages.clear()
    _patched.clear()
    _written.clear()
    _read.clear()

    def note(item: Any) -> None:
        if isinstance(item, (tuple, list)):
            for one in item:
                note(one)
        elif hasattr(item, "untyped_storage"):
            storage = item.untyped_storage()
            _storages.append((storage.data_ptr(), storage.data_ptr() + storage.nbytes()))

    note([*made[0], *made[1].values()])
    _storages.sort()
    return made


_patch_lang = interpreter._patch_lang
_patched: set[int] = set()  # the modules whose functions this launch has called


def patch_lang(fn: Any) -> Any:
    """Makes the language that a function sees the interpreter's, which takes long: once for all functions of a module."""
    seen = id(fn.__globals__) in _patched
    _patched.add(id(fn.__globals__))
    return None if seen else _patch_lang(fn)


interpreter._convert_float = convert_float
interpreter._patch_lang = patch_lang
TritonSemantic._load_legacy = load_legacy
InterpreterBuilder.cast_impl = cast
InterpreterBuilder.binary_op = binary
InterpreterBuilder.unary_op = unary
InterpreterBuilder.create_dot = dot
InterpreterBuilder.set_grid_idx = set_grid_idx
InterpreterBuilder.create_masked_load = load
InterpreterBuilder.create_masked_store = store
GridExecutor._init_args_hst = init_args
for _name in ("create_si_to_fp", "create_ui_to_fp", "create_fp_to_si", "create_fp_to_ui", "create_fp_ext", "create_fp_trunc",
              "create_int_cast"):  # fmt: skip
    setattr(InterpreterBuilder, _name, lambda self, source, target, *_: self.cast_impl(source, target))
