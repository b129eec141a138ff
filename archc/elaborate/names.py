"""Which names may stand where: labels become attributes of torch modules, variants functions, sizes numbers."""

from __future__ import annotations

import builtins
import keyword
import sys

from archc.diagnostics import did_you_mean, fail
from archc.source import Span
from archc.syntax import tree

# What every torch.nn.Module has already, and what archc gives the modules that it writes.
TAKEN = frozenset(
    """add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval extra_repr
    float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia
    named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule
    share_memory state_dict to to_empty train training type xpu zero_grad T_destination
    forward_features forward_head get_classifier reset_classifier set_grad_checkpointing no_weight_decay init_weights
    num_classes num_features head_hidden_size feature_info grad_checkpointing""".split()
)


# What generated modules use under these names, beside Python's own.
USED = frozenset("torch nn math F Tensor checkpoint Any Callable Sequence annotations".split())
# A variant becomes a file. These would be found, or run, in place of what Python and its tools look for.
FILES = sys.stdlib_module_names | {"conftest", "numpy", "safetensors", "setup", "sitecustomize", "usercustomize"}


def check_variant(name: str, span: Span) -> None:
    """Raises ArchError E0228 for a variant that cannot name the function that makes it."""
    if keyword.iskeyword(name) or name in USED or hasattr(builtins, name):
        raise fail("E0228", f"`{name}` has a meaning in Python and cannot name a variant", span,
                   helps=(f"write `{name}_net` or another word",))  # fmt: skip
    if name in FILES:
        raise fail("E0228", f"`{name}` cannot name a variant: Python has a module of that name", span,
                   f"its file would be {name}.py", helps=(f"write `{name}_net` or another word",))  # fmt: skip


def check_label(name: str, span: Span) -> None:
    """Raises ArchError E0228 for a label that cannot name weights."""
    if name == "_" or name == "":
        return
    if keyword.iskeyword(name):
        raise fail(
            "E0228",
            f"`{name}` is a word of Python and cannot name weights",
            span,
            helps=(f"write `{name}_` or another word",),
        )
    if name.startswith("_"):
        raise fail("E0228", f"`{name}` cannot name weights: names that begin with `_` are torch's own", span)
    if name in TAKEN:
        raise fail("E0228", f"every module has an attribute `{name}` already", span, "cannot name weights",
                   helps=(f"write `{name}_1` or another word",))  # fmt: skip


KINDS = ("int", "float", "bool", "str", "size", "region", "path", "recipe", "module", "tensor")
DTYPES = ("float", "int", "bool")
# Kinds by their names in Python, and what is written instead.
FOREIGN_KINDS = {
    "Tensor": "`[B, C, H, W]`, with its axes, or `tensor`", "ndarray": "`[B, C, H, W]`, with its axes, or `tensor`",
    "Optional": "`ratio: int = none`: a default of `none` lets an argument be left out",
    "Union": "one kind: what may be two things is two parameters",
    "tuple": "`list[int]`", "Tuple": "`list[int]`", "List": "`list[int]`", "Sequence": "`list[int]`", "list": "`list[int]`",
    "string": "`str`", "integer": "`int`", "number": "`float`", "double": "`float`", "boolean": "`bool`",
    "Callable": "`recipe`", "Module": "`recipe`", "callable": "`recipe`",
}  # fmt: skip


def check_types(component: tree.Component) -> None:
    """Raises ArchError E0221 for unknown kinds, E0223 for a tensor of a model, E0405 where a tensor is declared with two
    axes of one name, or a size has a parameter's name."""
    numbers = {p.name for p in component.parameters if not isinstance(p.type, tree.TensorDecl)}
    for p in component.parameters:
        check_kinds(p.type)
        _check_axes(p.type)
        if component.role == "model" and _holds_tensors(p.type):
            axes = p.type.span.text if isinstance(p.type, tree.TensorDecl) else "[B, C=3, H, W]"
            raise fail("E0223", "a model has no tensor parameters", p.span, "no variant could give it one",
                       helps=(f"declare it in the body: `input {p.name}: {axes}`",))  # fmt: skip
        for axis in p.type.axes if isinstance(p.type, tree.TensorDecl) else ():
            if isinstance(axis, tree.AxisDecl) and axis.size is None and axis.name in numbers:
                raise fail("E0405", f"a size and a parameter are both called `{axis.name}`", axis.span, "this size")
    for result in component.results:
        _check_axes(result)
    _check_body(component.body)


def check_kinds(type: tree.TypeDecl) -> None:
    """Raises ArchError E0221 for a kind of parameter, or element type of a tensor, that does not exist."""
    match type:
        case tree.ListDecl(item=item):
            return check_kinds(item)
        case tree.TensorDecl(dtype=name):
            known, text = DTYPES, type.span.text
        case tree.Kind(name=name):
            known, text = KINDS, name
    if name in known:
        return
    close = did_you_mean(name, (*known, "list")) or (f"kinds are {', '.join(KINDS)}, lists of them, and tensors",)
    raise fail("E0221", f"there is no kind `{text}`", type.span, "unknown kind",
               helps=(f"write {FOREIGN_KINDS[name]}",) if name in FOREIGN_KINDS else close)  # fmt: skip


def _holds_tensors(type: tree.TypeDecl) -> bool:
    match type:
        case tree.ListDecl(item=item):
            return _holds_tensors(item)
        case tree.Kind(name=name):
            return name == "tensor"
        case _:
            return isinstance(type, tree.TensorDecl)


def _check_body(body: tuple[tree.Statement, ...]) -> None:
    for statement in body:
        match statement:
            case tree.Declare(type=type):
                _check_axes(type)
            case tree.Entry(parameters=parameters):
                for p in parameters:
                    _check_axes(p.type)
            case tree.Loop(body=inner):
                _check_body(inner)
            case tree.If(then=then, otherwise=otherwise):
                _check_body((*then, *otherwise))
            case _:
                pass


def _check_axes(type: tree.TypeDecl) -> None:
    if isinstance(type, tree.ListDecl):
        _check_axes(type.item)
    seen: set[str] = set()
    for axis in type.axes if isinstance(type, tree.TensorDecl) else ():
        if isinstance(axis, tree.AxisDecl) and axis.name in seen:
            raise fail("E0405", f"two axes are called `{axis.name}`", axis.span, "again")
        seen |= {axis.name} if isinstance(axis, tree.AxisDecl) else set()
