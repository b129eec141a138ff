"""What an operation is: one class that says everything about it.

A class has the operands' names, typed fields for its compile-time arguments, a shape rule (`infer`), its
`weights`, its cost (`macs`, `flops`), its PyTorch text (`module`, `torch`) and its meaning (`reference`). Passes ask
these; none knows an operation by name. The table is made by importing every file of `archc.ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, field, fields
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from archc.backend.operand import Operand
from archc.fusion.cores import Elementwise
from archc.ir.sym import Const, Scalar, Sym, const
from archc.ir.types import Axis, Dim, TensorType
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.deploy.roles import Role
    from archc.fusion.cores import Core
    from archc.reference.named import Named, Run

ZERO = Size.of(0)


class OpError(Exception):
    """An operation refuses its operands or arguments; whoever applies it knows where and adds the span.

    `argument` names the argument or operand to put the caret under, if one is to blame.
    """

    def __init__(
        self, message: str, code: str = "E0301", *, argument: str | None = None, label: str = "", help: str = ""
    ):
        super().__init__(message)
        self.message, self.code, self.argument, self.label, self.help = message, code, argument, label, help
        self.items: tuple[int, ...] | None = None  # which tensors of a list do not agree


class Check(Protocol):
    """Where a shape rule states what must hold. Each is proved, refused at the line, or becomes part of the contract.

    `refuse` is for what a shape rule has found out by itself and could go on without: it raises the error, unless the
    shapes are wanted all the same.
    """

    def equal(self, left: Size, right: Size, why: str, code: str = "E0331") -> None: ...
    def divides(self, divisor: Size, size: Size, why: str, code: str = "E0312") -> None: ...
    def at_least(self, size: Size, least: Size | int, why: str, code: str = "E0333") -> None: ...
    def refuse(self, error: OpError) -> None: ...


class Code(Protocol):
    """What the emission of an operation may ask of the file being written."""

    functional: bool  # the weights stand in the class itself: use F.xxx and `weight`, not a child module

    @property
    def child(self) -> str:
        """The child module that holds the weights of this operation, e.g. `self.conv1`."""
        ...

    def weight(self, name: str) -> str:
        """A weight of this operation, e.g. `self.conv1.weight`."""
        ...

    def number(self, value: Scalar | Dim | Sym) -> str:
        """A compile-time number where it is used: `7`, `self.heads`, `dim // 32`."""
        ...

    def extent(self, x: Operand, axis: str) -> str:
        """The size of an axis of `x`: a number where it is static, else `x.shape[2]`."""
        ...

    def helper(self, name: str) -> str:
        """The name of a function of `codegen/helpers/`, which is then part of the file."""
        ...

    def let(self, text: str, hint: str) -> str:
        """Bind an expression to a new local name, and give the name."""
        ...

    def beside(self, dtype: str) -> str:
        """Where a tensor made of nothing goes, and its element type (float, int or bool), as keyword arguments:
        `dtype=x.dtype, device=x.device`, from a real tensor that the method has at hand."""
        ...


@dataclass(frozen=True)
class Reach:
    """Position p along `axis` of a result sees positions `stride * p + low` to `stride * p + high` of an operand's axis.

    Where it sees different numbers of positions at different p (a window that is partitioned, an edge), the bounds
    hold for all p, and `exact` is False.
    """

    axis: str
    stride: Fraction | int = 1
    low: Fraction | int = 0
    high: Fraction | int = 0
    exact: bool = True


@dataclass(frozen=True)
class Init:
    """How a weight starts: `kind` is normal, trunc_normal, uniform, fill, eye or default, with its numbers; `text` is
    the torch statement for kinds that only one operation has."""

    kind: str
    args: tuple[Scalar, ...] = ()


@dataclass(frozen=True)
class Note:
    """A tensor that only the backward pass reads, of `elements` of an element type: a statistic, a mask, a copy.

    It is kept where the operand called `of` needs a gradient; without a name, where any operand or weight does.
    """

    dtype: str
    elements: Size
    of: str = ""


@dataclass(frozen=True)
class Weight:
    """A tensor that an operation or component owns. `shape` is the shape in the state dict, outermost first."""

    name: str
    axes: tuple[Axis, ...]
    init: Init
    kind: str = "param"  # param | buffer | table (a buffer that is not saved) | counter (an integer buffer)
    dtype: str = "float"
    decay: bool = True

    @property
    def elements(self) -> int:
        total = 1
        for axis in self.axes:
            assert axis.size.constant is not None
            total *= axis.size.constant
        return total

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size.constant or 0 for axis in self.axes)


@dataclass(frozen=True)
class Op:
    """Base of every operation; subclasses are frozen dataclasses named by `name`."""

    name: ClassVar[str]
    # The tensors it takes, by name: "a b", "x mask?" (may be none), "xs*" (a list of tensors).
    operands: ClassVar[str] = "x"
    # The torch modules that hold its weights, for `init` rules.
    classes: ClassVar[tuple[str, ...]] = ()
    # Whether it is what a classifier ends in: a projection of the channels.
    projects: ClassVar[bool] = False
    # Whether a spec calls it by name; operators and subscripts are written otherwise.
    called: ClassVar[bool] = True
    # Which attribute of the torch child module gives a field, for `init` expressions: {"out": "out_channels"}.
    attributes: ClassVar[dict[str, str]] = {}
    # One number for each output element and operator, unless the operation says otherwise.
    examples: ClassVar[tuple[str, ...]] = ()
    # The kind of work it does, for the conventions of counting; where it says nothing, the name of its file.
    cost_class: ClassVar[str] = ""
    # What its backward pass reads: names of operands (or `operands`, all) and `result`. `a:b` is a, read only where b
    # needs a gradient.
    saves: ClassVar[str] = "operands"
    # Whether gradients pass it.
    differentiable: ClassVar[bool] = True
    # Whether it does nothing outside of training.
    idle: ClassVar[bool] = False

    def infer(self, check: Check, *xs: Any) -> tuple[TensorType, ...]:
        """The result types. Raises OpError, or states obligations through `check`."""
        raise NotImplementedError

    def weights(self, *xs: Any) -> tuple[Weight, ...]:
        """The tensors it owns, in state-dict order."""
        return ()

    def macs(self, xs: Sequence[Any], ys: Sequence[TensorType]) -> Size:
        """Multiply-accumulates."""
        return ZERO

    def flops(self, xs: Sequence[Any], ys: Sequence[TensorType]) -> Size:
        """Operations besides the multiply-accumulates (one for each output element)."""
        total = ZERO
        for y in ys:
            total = total + y.elements
        return total

    def work(self) -> str:
        """The kind of work it does: conv, linear, contraction, region, path, sampling, ..."""
        return self.cost_class or type(self).__module__.rpartition(".")[2]

    def saved(self, *xs: Any) -> str:
        """`saves` for these operands."""
        return self.saves

    def notes(self, xs: Sequence[Any], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """What its backward pass reads besides operands and results. Sizes are numbers here."""
        return ()

    def scratch(self, xs: Sequence[Any], ys: Sequence[TensorType]) -> Size:
        """How many elements its PyTorch text writes besides the results, and reads again."""
        return ZERO

    def is_view(self, *xs: Any) -> bool:
        """Whether the results share the memory of the first operand: nothing is moved."""
        return False

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        """What the results see of the position axis `axis` of an operand; None where an element may see all of it.

        Sizes are numbers here. Unless the operation says otherwise, an axis that keeps its size is seen one to one.
        """
        x = xs[operand]
        keeps = all(axis in y and y[axis].size == x[axis].size for y in ys)
        return Reach(axis) if keeps else None

    def module(self, code: Code, *xs: Any) -> str | None:
        """The constructor of the torch module that owns the weights, or None where there is none."""
        return None

    def torch(self, code: Code, *xs: Any) -> Operand | tuple[Operand, ...]:
        """The PyTorch expression."""
        raise NotImplementedError

    def reference(self, run: Run, *xs: Any) -> Named | tuple[Named, ...]:
        """The meaning, in float64, as plainly as it can be said."""
        raise NotImplementedError

    # ---- folding

    def channels(self, xs: Sequence[Any], constant: Sequence[bool]) -> Role | None:
        """How it acts on single channels in evaluation; None where there is nothing to say.

        `constant` tells which operands depend on weights alone.
        """
        return None

    # ---- kernels

    def core(self, *xs: Any) -> Core | None:
        """What a kernel may be built around it; None for nothing."""
        return Elementwise() if self.follows else None

    @property
    def follows(self) -> bool:
        """Whether a kernel may compute it, element by element, on results that it has at hand: `tile` and `slopes`
        say how."""
        return False

    @property
    def numbers(self) -> tuple[Scalar, ...]:
        """The numbers that a kernel computes with: of one that follows, those among its sides."""
        return ()

    def sides(self, xs: Sequence[Any]) -> Sequence[Any]:
        """All that it computes with, in order: the tensors `xs`, and its `numbers` in their places."""
        return xs

    def tile(self, *sides: str) -> str:
        """The Triton expression of the result, in float32, from the names of its sides."""
        raise NotImplementedError

    def sinks(self, at: int) -> bool:
        """Whether the result is -inf wherever side number `at` is, as for taps that are none."""
        return False

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        """The derivative by each side as Triton expressions; `result` is the name of what `tile` gave. Empty for a side
        that gradients do not pass."""
        raise NotImplementedError

    @property
    def draws(self) -> bool:
        """Whether chance decides by what each sample is multiplied: a kernel is given that as the last of the sides."""
        return False

    def drawn(self, code: Code, like: Operand) -> str:
        """The PyTorch text of what it draws for the samples of `like`; an empty tensor leaves them as they are."""
        raise NotImplementedError


# ---- compile-time arguments: `out: Any = arg("int")`


@dataclass(frozen=True)
class Parameter:
    """One compile-time argument of an operation, as the elaborator binds it.

    `kind`: int, float, bool, str; size (a number, or a list with one per position axis); axis, axes (names of axes of the
    first operand, `positions` for all positions; `*axes` takes the rest of the positional arguments); sizes (all
    further keyword arguments as a dict of Scalars); region, path, recipe, list; any (whatever compile-time value was given).
    `inert` tells the values that are alike in everything but what the operation computes: result type, cost, text.
    """

    name: str
    kind: str
    default: Any = field(default_factory=lambda: MISSING)
    inert: Callable[[Any], bool] | None = None

    @property
    def required(self) -> bool:
        return self.default is MISSING


def arg(kind: str, default: Any = MISSING, inert: Callable[[Any], bool] | None = None) -> Any:
    """A dataclass field for a compile-time argument. Defaults are plain values; they arrive as Scalars."""
    metadata = {"kind": kind, "inert": inert}
    if kind == "sizes":
        return field(default_factory=dict, metadata=metadata)
    if default is MISSING:
        return field(metadata=metadata)
    wrap = kind in ("int", "float", "bool", "str", "size", "list") and default is not None
    return field(default=const(default) if wrap else default, metadata=metadata)


@cache
def parameters(op: Any) -> tuple[Parameter, ...]:
    """The compile-time arguments of an operation, region or path (a dataclass), in order."""
    return tuple(
        Parameter(f.name, f.metadata["kind"], f.default, f.metadata["inert"])
        for f in fields(op)
        if "kind" in f.metadata
    )


def per_axis(value: Scalar, count: int) -> tuple[Scalar, ...]:
    """A size argument as one Scalar for each of `count` axes. Raises OpError where a list has another length."""
    if isinstance(value.value, tuple):
        if len(value.value) != count:
            raise OpError(f"{len(value.value)} numbers were given for {count} axes", "E0213")
        return value.value
    return (value,) * count


def need(x: TensorType, axis: str, what: str) -> Axis:
    """The axis of `x`. Raises OpError where it is missing."""
    if axis not in x:
        raise OpError(f"{what} needs an axis `{axis}`, and its operand is {x}", "E0302", help=_missing(x, axis))
    return x[axis]


def _missing(x: TensorType, axis: str) -> str:
    """Help for an operand without an axis."""
    if axis == "C" and x.dtype == "int":
        return "`embed(vocab, dim)` makes vectors of whole numbers: their width is C"
    if axis.isupper() and axis.lower() in x:
        return capitals(x)
    return f"write `{axis}=...` in the type, or name another axis with `axis=`"


def capitals(x: TensorType) -> str:
    """Help for axes in small letters where the batch, the channels or positions are meant."""
    shown = ", ".join(x.renamed({name: name.upper() for name in x.names if len(name) == 1}).names)
    return f"`B`, `C` and positions are capitalised, axes in small letters ride along: write `[{shown}]`"


def literal(value: int | float | bool) -> Scalar:
    return Scalar(value, Const(value))
