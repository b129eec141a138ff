"""Declarations: parameters, buffers, tables, shared modules, and how weights start."""

from __future__ import annotations

from typing import Any

from archc.diagnostics import did_you_mean, fail
from archc.elaborate.assigning import bind_name
from archc.elaborate.expressions import evaluate, find_callable
from archc.elaborate.frame import Scope
from archc.elaborate.scalars import FUNCTIONS
from archc.elaborate.starts import check_start
from archc.elaborate.values import POISON, Deferred, Many, Module, Poison, kind_of
from archc.ir.graph import (
    InitRule,
    Value,
    WeightEntry,
)
from archc.ir.sym import Scalar, Sym, Var, const
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Init, Weight
from archc.sizes import Size
from archc.syntax import tree

DTYPES = ("float", "int", "bool")


INITS = {"normal": (1, 2), "trunc_normal": (1, 2), "uniform": (1, 2), "eye": (0, 0), "xavier_uniform": (0, 1),
         "xavier_normal": (0, 1), "kaiming_uniform": (0, 0), "kaiming_normal": (0, 0), "zeros": (0, 0), "ones": (0, 0)}  # fmt: skip


def declare(statement: tree.Declare, scope: Scope) -> None:
    """`param`, `buffer`, `const`: a tensor that the component owns."""
    if not isinstance(statement.type, tree.TensorDecl):
        raise fail("E0222", f"`{statement.keyword}` needs axes, e.g. `[C]`", statement.type.span)
    axes: list[Axis] = []
    for axis in statement.type.axes:
        if not isinstance(axis, tree.AxisDecl):
            raise fail("E0222", f"the axes of a {statement.keyword} are all written out", axis.span)
        size = evaluate(axis.size, scope) if axis.size is not None else scope.env.get(axis.name)
        if isinstance(size, Poison):
            scope.env[statement.name] = POISON
            return
        if not isinstance(size, Scalar) or not isinstance(size.value, (int, Size)) or isinstance(size.value, bool):
            raise fail(
                "E0222",
                f"the size of `{axis.name}` is not known here",
                axis.span,
                "an axis without a size",
                helps=_sizes_here(axis.name, scope),
            )
        if isinstance(size.value, Size):
            free = "free" if str(size.value) == axis.name else str(size.value)
            why = f"the shape of a {statement.keyword} cannot depend on the input, where `{axis.name}` is {free}"
            raise fail("E0304", why, axis.span,
                       helps=("give the model a parameter for the size it is built for (`img_size: int`)",
                              "or declare one size and use `resize(...)` where it is read"))  # fmt: skip
        if size.value < 1:
            raise fail("E0213", f"the size of `{axis.name}` must be at least 1, and is {size.value}", axis.span)
        axes.append(Axis(axis.name, Dim.of(size)))
    if statement.keyword == "const":
        if statement.value is None:
            raise fail("E0222", "a `const` needs a value", statement.span)
        bind_name(statement.name, evaluate(statement.value, scope), statement, scope)
        return
    options = {o.keyword: evaluate(o.value, scope) for o in statement.options}
    for option in statement.options:
        if option.keyword not in ("decay", "saved", "clamp"):
            raise fail("E0203", f"a {statement.keyword} has no option `{option.keyword}`", option.span,
                       helps=did_you_mean(option.keyword or "", ("decay", "saved", "clamp")))  # fmt: skip
    decay, saved = options.get("decay"), options.get("saved")
    init = initialiser(statement.value, scope) if statement.value is not None else Init("fill", (const(0),))
    kind = statement.keyword
    if kind == "buffer" and isinstance(saved, Scalar) and saved.value is False:
        kind = "table"
    weight = Weight(statement.name, tuple(axes), init, kind, statement.type.dtype,
                    decay=not (isinstance(decay, Scalar) and decay.value is False))  # fmt: skip
    check_start(weight, statement.value.span if statement.value is not None else statement.span)
    scope.frame.level.add(WeightEntry(statement.name, weight, statement.span))
    value = scope.frame.value(TensorType(statement.type.dtype, tuple(axes)), statement.span, statement.name)
    scope.session.templates[("weight", value.uid)] = statement.name
    from archc.ir.graph import Apply
    from archc.ops.parameter import Parameter as Own

    scope.frame.add(Apply(Own(name_=statement.name, type_=value.type), (), (value,), statement.span, statement.name))
    scope.env[statement.name] = value


def _sizes_here(axis: str, scope: Scope) -> tuple[str, ...]:
    """How an axis gets a size."""
    fixed = [f"`{name}`" for name, size in scope.sizes.items() if isinstance(size.value, int)]
    known = (f"an axis of the signature brings its size: {', '.join(fixed)}",) if fixed else ()
    return (*known, f"any other is written with its size: `{axis}=...`")


def initialiser(expr: tree.Expr, scope: Scope) -> Init:
    """What a weight starts with. Raises ArchError E0226."""
    inner = expr
    while isinstance(inner, tree.Paren):
        inner = inner.expr
    if isinstance(inner, tree.Call) and isinstance(inner.function, tree.Name) and inner.function.name in INITS:
        kind = inner.function.name
        least, most = INITS[kind]
        args = [evaluate(a.value, scope) for a in inner.arguments]
        if not least <= len(args) <= most:
            raise fail("E0205", f"`{kind}` takes {least} to {most} numbers, and {len(args)} were given", inner.span)
        if not all(isinstance(a, Scalar) and isinstance(a.value, (int, float)) for a in args):
            raise fail("E0206", f"`{kind}` takes numbers", inner.span)
        return Init(kind, tuple(args))
    if isinstance(inner, tree.Call) and isinstance(inner.function, tree.Name):
        _refuse_unknown(inner.function, scope)
    value = evaluate(expr, scope)
    if isinstance(value, Scalar) and isinstance(value.value, (int, float)):
        return Init("fill", (value,))
    raise fail("E0226", f"a weight starts as a number or an initialiser, not as {kind_of(value)}", expr.span,
               helps=("initialisers are " + ", ".join(INITS), *_as_table(value, expr)))  # fmt: skip


def _refuse_unknown(name: tree.Name, scope: Scope) -> None:
    """Raises ArchError E0226 for a call of nothing that is known, where an initialiser may stand."""
    if find_callable(name.name, scope) is not None or name.name in FUNCTIONS:
        return
    plain = name.name.rstrip("_")
    close = plain if plain in INITS else {"randn": "normal", "rand": "uniform", "gauss": "normal"}.get(plain)
    helps = (f"did you mean `{close}`?",) if close else did_you_mean(plain, INITS)
    known = f"initialisers are {', '.join(INITS)}"
    raise fail("E0226", f"there is no initialiser `{name.name}`", name.span, "unknown name", helps=(*helps, known))


def _as_table(value: Any, expr: tree.Expr) -> tuple[str, ...]:
    """What to do with numbers that differ from place to place."""
    if not isinstance(value, (Value, Many)) and not (isinstance(value, Scalar) and isinstance(value.value, tuple)):
        return ()
    text = expr.span.text if len(expr.span.text) < 60 else "the table"
    return (f"to learn what is added to a table, let it start at 0 and add the table where it is read: `... + {text}`",)


def init_rule(statement: tree.Init, scope: Scope) -> InitRule:
    """`init owner.weight = ...`: its numbers may read the owner's own arguments, which are left as variables."""
    inner = statement.value
    while isinstance(inner, tree.Paren):
        inner = inner.expr
    kind, arguments = "fill", (inner,)
    if isinstance(inner, tree.Call) and isinstance(inner.function, tree.Name) and inner.function.name in INITS:
        kind, arguments = inner.function.name, tuple(a.value for a in inner.arguments)
        least, most = INITS[kind]
        if not least <= len(arguments) <= most:
            raise fail(
                "E0205", f"`{kind}` takes {least} to {most} numbers, and {len(arguments)} were given", inner.span
            )
    from archc.elaborate.expressions import function_named
    from archc.elaborate.scalars import translate
    from archc.ops.table import OPERATIONS

    op = OPERATIONS.get(statement.owner)
    owned = set(op.attributes) if op is not None else set()
    if op is None and statement.owner not in scope.file.names:
        raise fail("E0201", f"no operation or component is called `{statement.owner}`", statement.span,
                   helps=did_you_mean(statement.owner, [*OPERATIONS, *scope.file.names]))  # fmt: skip

    def name(text: str) -> Sym:
        if text in owned:
            return Var(f"{statement.owner}.{text}")
        found = scope.env.get(text)
        if isinstance(found, Scalar):
            return found.sym
        raise KeyError(text)

    try:
        syms = tuple(translate(a, name, lambda text: function_named(text, scope)) for a in arguments)
    except KeyError as missing:
        raise fail("E0226", f"an initialiser cannot read {missing}", statement.value.span,
                   helps=(f"`{statement.owner}` has " + ", ".join(sorted(owned)),) if owned else ()) from None  # fmt: skip
    return InitRule(statement.owner, statement.weight, kind, syms, statement.span)


def _without_tensors(name: str, value: tree.Expr, scope: Scope) -> str:
    """Help for a module that is made of an application: the recipe, as far as names tell its tensors."""
    if isinstance(value, tree.Call):
        texts = [(a.span.text, isinstance(a.value, tree.Name) and scope.env.get(a.value.name)) for a in value.arguments]
        kept = [text for text, given in texts if not isinstance(given, Value)]
        if len(kept) < len(texts):
            recipe = f"{value.function.span.text}({', '.join(kept)})" if kept else value.function.span.text
            return f"leave out the tensor: `module {name} = {recipe}`"
    return "leave out the tensor: `module f = linear(C)`"


def declare_module(targets: tuple[str, ...], value: tree.Expr, statement: tree.Bind, scope: Scope) -> None:
    if len(targets) != 1:
        raise fail("E0208", "one name for one module", statement.span)
    recipe = evaluate(value, scope)
    if isinstance(recipe, Poison):
        scope.env[targets[0]] = POISON
        return
    if isinstance(recipe, Many):
        made: Any = Many(
            tuple(Module(f"{targets[0]}.{i}", r, statement.span, scope.frame.level) for i, r in enumerate(recipe.items))
        )
    elif isinstance(recipe, (Value, Scalar, Deferred)):
        raise fail("E0206", f"a module is made from a recipe, and this is {kind_of(recipe)}", value.span,
                   helps=(_without_tensors(targets[0], value, scope),))  # fmt: skip
    else:
        made = Module(targets[0], recipe, statement.span, scope.frame.level)
    scope.env[targets[0]] = made
