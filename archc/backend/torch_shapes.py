"""What torch's own modules and tensor makers register, from their documented signatures: shapes alone, without torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from archc.records import dataclass

Shape = tuple[int, ...]
Rows = list[tuple[str, str, Shape]]
Shapes = Counter[tuple[str, Shape]]


class Refused(Exception):
    """torch itself would refuse these arguments, or it is not known what it makes of them."""


@dataclass(eq=False)
class Tensor:
    """A tensor's shape. `owner` is the name it is registered under, once it is."""

    shape: Shape
    is_parameter: bool = False
    owner: str | None = None


@dataclass(eq=False)
class Body:
    """What a module registers, in order. Modules made from equal arguments share one."""

    kind: str
    parameters: dict[str, Tensor | None] = field(default_factory=dict)
    buffers: dict[str, tuple[Tensor, bool]] = field(default_factory=dict)
    children: dict[str, Module] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    first: Body | None = None  # the body that registers what this one does, where it is not the first
    sealed: bool = False  # its constructor is done

    def keeping(self, attributes: dict[str, Any]) -> Body:
        """The same body with other attributes."""
        if all(self.attributes[name] == value for name, value in attributes.items()):
            return self
        kept = {**self.attributes, **attributes}
        return Body(self.kind, self.parameters, self.buffers, self.children, kept, self.registered, self.sealed)

    @property
    def registered(self) -> Body:
        """One body for all that differ in their attributes alone."""
        return self.first or self

    def own(self) -> Rows:
        """(name, kind, shape) of the module's own tensors, in torch's order; kind is param, buffer or table."""
        rows = [(name, "param", t.shape) for name, t in self.parameters.items() if t is not None]
        return rows + [(name, "buffer" if kept else "table", t.shape) for name, (t, kept) in self.buffers.items()]

    def rows(self, known: dict[int, Rows] | None = None) -> Rows:
        """The same of all tensors below it; `known` are those of bodies."""
        known = {} if known is None else known
        body = self.registered
        if id(body) not in known:
            rows = body.own()
            for name, child in body.children.items():
                rows += [(f"{name}.{inner}", kind, shape) for inner, kind, shape in child.body.rows(known)]
            known[id(body)] = rows
        return known[id(body)]

    def shapes(self, known: dict[int, Shapes] | None = None) -> Shapes:
        """How many tensors below it there are of each kind and shape, of copies one counted; `known` as in `rows`."""
        known = {} if known is None else known
        body = self.registered
        if id(body) not in known:
            found = Counter((kind, shape) for _, kind, shape in body.own())
            bodies = {id(child.body.registered): child.body for child in body.children.values()}
            for number, times in Counter(id(child.body.registered) for child in body.children.values()).items():
                for key, tensors in bodies[number].shapes(known).items():
                    found[key] += times * tensors
            known[id(body)] = found
        return known[id(body)]


@dataclass(eq=False)
class Module:
    """One module. `owner` is the name it is registered under, once it is."""

    body: Body
    owner: str | None = None
    ready: bool = True


# What nn.Module has of its own: nothing can be registered under these names and be found again.
RESERVED = frozenset(
    "T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval "
    "extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia "
    "named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer "
    "register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook "
    "register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory "
    "state_dict to to_empty train training type xpu zero_grad".split()
)


# ---- signatures


_Arguments = Mapping[str, Any]


def _bind(signature: str, name: str, args: Sequence[Any], keywords: _Arguments) -> dict[str, Any]:
    """Arguments by name, for a signature like "in_features out_features bias=True"."""
    bound: dict[str, Any] = {}
    names = []
    for word in signature.split():
        key, given, default = word.partition("=")
        names.append(key)
        if given:
            bound[key] = _DEFAULTS.get(default, default) if not _number(default) else float(default)
    if len(args) > len(names):
        raise Refused(f"{name} takes {len(names)} arguments")
    taken = dict(zip(names, args, strict=False))
    for key, value in keywords.items():
        if key in ("device", "dtype"):
            continue
        if key not in names or key in taken:
            raise Refused(f"{name} has no argument `{key}`, or has it twice")
        taken[key] = value
    bound |= taken
    missing = [key for key in names if key not in bound]
    if missing:
        raise Refused(f"{name} needs `{missing[0]}`")
    return {key: bound[key] for key in names}


_DEFAULTS: dict[str, Any] = {"True": True, "False": False, "None": None, "0": 0, "1": 1}


def _number(text: str) -> bool:
    return text not in _DEFAULTS and text.replace(".", "").replace("e-", "").isdigit()


def count(value: Any, what: str, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise Refused(f"{what} is {value!r}")
    return value


def _each(value: Any, axes: int, what: str) -> Shape:
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,) * axes
    if len(values) != axes:
        raise Refused(f"{what} has {len(values)} numbers for {axes} axes")
    return tuple(count(one, what) for one in values)


def _flag(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{what} is {value!r}")
    return value


def _grouped(a: dict[str, Any]) -> tuple[int, int, int]:
    given, out = count(a["in_channels"], "in_channels"), count(a["out_channels"], "out_channels")
    groups = count(a["groups"], "groups")
    if given % groups or out % groups:
        raise Refused(f"groups={groups} does not divide {given} and {out} channels")
    return given, out, groups


# ---- modules: what each registers, as (name, shape) rows

_Rows = list[tuple[str, Shape]]


def _conv(axes: int) -> Callable[[dict[str, Any]], _Rows]:
    def rows(a: dict[str, Any]) -> _Rows:
        given, out, groups = _grouped(a)
        weight = ("weight", (out, given // groups, *_each(a["kernel_size"], axes, "kernel_size")))
        return [weight, ("bias", (out,))] if _flag(a["bias"], "bias") else [weight]

    return rows


def _conv_transpose(axes: int) -> Callable[[dict[str, Any]], _Rows]:
    def rows(a: dict[str, Any]) -> _Rows:
        given, out, groups = _grouped(a)
        weight = ("weight", (given, out // groups, *_each(a["kernel_size"], axes, "kernel_size")))
        return [weight, ("bias", (out,))] if _flag(a["bias"], "bias") else [weight]

    return rows


def _linear(a: dict[str, Any]) -> _Rows:
    given, out = count(a["in_features"], "in_features"), count(a["out_features"], "out_features")
    return [("weight", (out, given)), ("bias", (out,))] if _flag(a["bias"], "bias") else [("weight", (out, given))]


def _affine(a: dict[str, Any]) -> _Rows:
    shape = (count(a["num_features"], "num_features"),)
    return [("weight", shape), ("bias", shape)] if _flag(a["affine"], "affine") else []


def _tracked(a: dict[str, Any]) -> _Rows:
    if not _flag(a["track_running_stats"], "track_running_stats"):
        return []
    shape = (a["num_features"],)
    return [("running_mean", shape), ("running_var", shape), ("num_batches_tracked", ())]


def _normalized(a: dict[str, Any]) -> Shape:
    given = a["normalized_shape"]
    return tuple(count(one, "normalized_shape") for one in (given if isinstance(given, (list, tuple)) else (given,)))


def _layer_norm(a: dict[str, Any]) -> _Rows:
    shape = _normalized(a)
    if not _flag(a["elementwise_affine"], "elementwise_affine"):
        return []
    return [("weight", shape), ("bias", shape)] if _flag(a["bias"], "bias") else [("weight", shape)]


def _rms_norm(a: dict[str, Any]) -> _Rows:
    shape = _normalized(a)
    return [("weight", shape)] if _flag(a["elementwise_affine"], "elementwise_affine") else []


def _group_norm(a: dict[str, Any]) -> _Rows:
    groups, channels = count(a["num_groups"], "num_groups"), count(a["num_channels"], "num_channels")
    if channels % groups:
        raise Refused(f"{groups} groups do not divide {channels} channels")
    return [("weight", (channels,)), ("bias", (channels,))] if _flag(a["affine"], "affine") else []


def _embedding(a: dict[str, Any]) -> _Rows:
    return [("weight", (count(a["num_embeddings"], "num_embeddings"), count(a["embedding_dim"], "embedding_dim")))]


def _recurrent(gates: int) -> Callable[[dict[str, Any]], _Rows]:
    def rows(a: dict[str, Any]) -> _Rows:
        size, given = count(a["hidden_size"], "hidden_size"), count(a["input_size"], "input_size")
        ways = ("", "_reverse") if _flag(a["bidirectional"], "bidirectional") else ("",)
        found: _Rows = []
        for layer in range(count(a["num_layers"], "num_layers")):
            width = given if layer == 0 else size * len(ways)
            for way in ways:
                end = f"l{layer}{way}"
                found += [(f"weight_ih_{end}", (gates * size, width)), (f"weight_hh_{end}", (gates * size, size))]
                if _flag(a["bias"], "bias"):
                    found += [(f"bias_ih_{end}", (gates * size,)), (f"bias_hh_{end}", (gates * size,))]
        return found

    return rows


def _none(a: dict[str, Any]) -> _Rows:
    return []


_CONV = "in_channels out_channels kernel_size stride=1 padding=0 dilation=1 groups=1 bias=True padding_mode=zeros"
_CONV_T = "in_channels out_channels kernel_size stride=1 padding=0 output_padding=0 groups=1 bias=True dilation=1"
_BATCH = "num_features eps=1e-05 momentum=0.1 affine=True track_running_stats=True"
_INSTANCE = "num_features eps=1e-05 momentum=0.1 affine=False track_running_stats=False"
_RECURRENT = "input_size hidden_size num_layers=1 bias=True batch_first=False dropout=0 bidirectional=False"

# name: (signature, parameters, persistent buffers)
_Makers = tuple[str, Callable[[dict[str, Any]], _Rows], Callable[[dict[str, Any]], _Rows]]
MODULES: dict[str, _Makers] = {
    **{f"Conv{n}d": (_CONV, _conv(n), _none) for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": (_CONV_T, _conv_transpose(n), _none) for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": (_BATCH, _affine, _tracked) for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": (_INSTANCE, _affine, _tracked) for n in (1, 2, 3)},
    "Linear": ("in_features out_features bias=True", _linear, _none),
    "LayerNorm": ("normalized_shape eps=1e-05 elementwise_affine=True bias=True", _layer_norm, _none),
    "RMSNorm": ("normalized_shape eps=None elementwise_affine=True", _rms_norm, _none),
    "GroupNorm": ("num_groups num_channels eps=1e-05 affine=True", _group_norm, _none),
    "Embedding": ("num_embeddings embedding_dim padding_idx=None", _embedding, _none),
    "LSTM": (_RECURRENT, _recurrent(4), _none),
    "GRU": (_RECURRENT, _recurrent(3), _none),
}
# Modules that register nothing, whatever their arguments.
PLAIN = frozenset(
    f"{name}{n}d" for name in ("AvgPool", "MaxPool", "AdaptiveAvgPool", "AdaptiveMaxPool") for n in (1, 2, 3)
) | frozenset(
    "Identity GELU SiLU ReLU ReLU6 LeakyReLU ELU Sigmoid Tanh Softplus Softmax LogSoftmax Hardswish Hardsigmoid Mish "
    "Dropout Dropout1d Dropout2d Dropout3d Flatten Unflatten PixelShuffle PixelUnshuffle Upsample ZeroPad2d".split()
)


def module(name: str, args: Sequence[Any], keywords: _Arguments) -> Module:
    """`nn.NAME(*args, **keywords)`. Raises Refused, and KeyError for a class that is not known here."""
    if name in PLAIN:
        return Module(Body(name))
    signature, parameters, buffers = MODULES[name]
    bound = _bind(signature, f"nn.{name}", args, keywords)
    body = Body(name, attributes=dict(bound))
    body.parameters = {key: Tensor(shape, True, key) for key, shape in parameters(bound)}
    body.buffers = {key: (Tensor(shape, owner=key), True) for key, shape in buffers(bound)}
    return Module(body)


# ---- tensors


def _sizes(args: Sequence[Any], what: str) -> Shape:
    given = args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args
    return tuple(count(size, what, 0) for size in given)


def _nested(value: Any, what: str) -> Shape:
    if isinstance(value, (list, tuple)):
        inner = {_nested(item, what) for item in value}
        if len(inner) > 1:
            raise Refused(f"{what} is given lists of different lengths")
        return (len(value), *(inner.pop() if inner else ()))
    if not isinstance(value, (int, float)):
        raise Refused(f"{what} is given {value!r}")
    return ()


def tensor(name: str, args: Sequence[Any], keywords: _Arguments) -> Tensor:
    """`torch.NAME(*args, **keywords)`. Raises Refused, and KeyError for a function that is not known here."""
    unknown = set(keywords) - {"dtype", "device", "requires_grad", "size", "fill_value"}
    if unknown:
        raise Refused(f"torch.{name} is given `{min(unknown)}`")
    what = f"a size of torch.{name}"
    match name:
        case "zeros" | "ones" | "empty" | "rand" | "randn":
            return Tensor(_sizes(args or [keywords.get("size", ())], what))
        case "full":
            return Tensor(_sizes([args[0] if args else keywords.get("size")], what))
        case "eye" if len(args) in (1, 2):
            return Tensor((count(args[0], what, 0), count(args[-1], what, 0)))
        case "tensor" if len(args) == 1:
            return Tensor(_nested(args[0], "torch.tensor"))
        case "arange" if 1 <= len(args) <= 3:
            start, stop, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
            return Tensor((max(0, math.ceil((stop - start) / step)),))
        case "linspace" if len(args) == 3:
            return Tensor((count(args[2], what, 0),))
    raise KeyError(name)
