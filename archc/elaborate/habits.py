"""What other libraries call things, and what is written here instead: help for names that are not known."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

from archc.diagnostics import did_you_mean
from archc.resources import folder
from archc.syntax.lines import TRUTH

# Modules and objects of Python programs before a dot.
BASES = frozenset("nn torch F np numpy math self super timm einops tf jnp jax".split())

_CONV = "`conv(out, kernel)`: the width of the input is read from the tensor, and a label names the weights"
_LINEAR = "`linear(out)`: the width of the input is read from the tensor, and a label names the weights"
_NORM = "`{0}` without a width: it is read from the tensor"
_ORDER = 'axes are known by name, so their order needs no change; where it matters: `rearrange(x, "C H W -> H W C")`'
_SHAPE = (
    '`rearrange(x, "C=(heads C) -> heads C", heads=4)` takes an axis apart, `rearrange(x, "H W -> N=(H W)")` merges'
)
_ONES = "axes of size 1 are not needed: operators match axes by name; `expand(x, N=4)` adds an axis"
_SIZE = "the size of an axis is written with its name: `x.C`, `x.H`"
_ATTEND = "`attend(q, k, v, everywhere)`, after `from std.attention import attend`"
_RESIZE = "`resize(x, H=2 * x.H, W=2 * x.W)`"
_SEQUENCE = "layers follow each other with `|>`: `x |> conv1: conv(C, 3) |> relu |> conv2: conv(C, 3)`"
_LIST = "`blocks: repeat n { ... }` or `blocks: for dim in dims { ... }` makes new weights each turn"
_PRODUCT = "`dot(a, b, C)` multiplies and sums over the axes that it names"
_STARTS = "weights start with `param x: [C] = trunc_normal(0.02)` or `init conv.weight = ...`"

# By the name in small letters, without `_`, and without 1d, 2d, 3d unless these say something else.
CALLS: dict[str, str] = {
    "conv": _CONV,
    "convtranspose": "`conv_transpose(out, kernel)`: the width of the input is read from the tensor",
    "deconv": "`conv_transpose(out, kernel)`: the width of the input is read from the tensor",
    "depthwiseconv": "`dwconv(kernel)`, after `from std.conv import dwconv`",
    "linear": _LINEAR, "dense": _LINEAR, "fc": _LINEAR,
    "bn": _NORM.format("batch_norm"),
    "batchnorm": _NORM.format("batch_norm"),
    "syncbatchnorm": _NORM.format("batch_norm"),
    "ln": _NORM.format("layer_norm"), "layernorm": _NORM.format("layer_norm"), "rmsnorm": _NORM.format("rms_norm"),
    "gn": "`group_norm(groups)`", "groupnorm": "`group_norm(groups)`",
    "instancenorm": "`standardize(axis=...)`, or `group_norm(C)`",
    "maxpool": "`max_pool(kernel)`", "avgpool": "`avg_pool(kernel)`",
    "adaptiveavgpool": "`mean(x, H, W)` for a size of 1, else `adaptive_pool(x, H=7, W=7)`",
    "adaptivemaxpool": "`max(x, H, W)` for a size of 1, else `adaptive_pool(x, H=7, W=7, kind=\"max\")`",
    "globalavgpool": "`mean(x, H, W)`", "gap": "`mean(x, H, W)`",
    "leakyrelu": "`leaky_relu`, after `from std.activations import leaky_relu`",
    "swish": "`silu`", "relu": "`relu`", "gelu": "`gelu`", "silu": "`silu`", "sigmoid": "`sigmoid`", "tanh": "`tanh`",
    "softmax": "`softmax(x, C)`, with the axis that is summed", "softplus": "`softplus`", "identity": "`identity`",
    "glu": "`a, b = split(x, 2, C)` and `a * sigmoid(b)`",
    "dropout": "`dropout(p)`",
    "dropout2d": "`dropout(p, whole=C)`", "dropout3d": "`dropout(p, whole=C)`", "dropout1d": "`dropout(p, whole=C)`",
    "droppath": "`drop_path(rate)`, after `from std.regularise import drop_path`",
    "embedding": "`embed(ids, vocab, dim)`", "lstm": "`lstm(x, size)`",
    "multiheadattention": _ATTEND, "scaleddotproductattention": _ATTEND, "attention": _ATTEND,
    "upsample": _RESIZE,
    "interpolate": _RESIZE,
    "pixelshuffle": '`rearrange(x, "C=(C h w) H W -> C H=(H h) W=(W w)", h=2, w=2)`',
    "sequential": _SEQUENCE,
    "modulelist": _LIST,
    "moduledict": _LIST,
    "module": "components begin with `mixer`, `block`, `stage` or `model`",
    "parameter": "`param gamma: [C] = 1`", "registerbuffer": "`buffer count: [C] = 0`",
    "concat": "`cat([a, b], C)`",
    "concatenate": "`cat([a, b], C)`",
    "cat": "`cat([a, b], C)`",
    "hstack": "`cat([a, b], C)`",
    "stack": "`stack([a, b], way)`", "chunk": "`a, b = split(x, 2, C)`", "split": "`a, b = split(x, 2, C)`",
    "unbind": "`unstack(x, way)`", "narrow": "`x[N=1:]`", "indexselect": "`x[N=[0, 2]]`",
    "matmul": _PRODUCT, "bmm": _PRODUCT, "mm": _PRODUCT, "einsum": _PRODUCT, "baddbmm": _PRODUCT,
    "view": _SHAPE, "reshape": _SHAPE, "flatten": _SHAPE, "unflatten": _SHAPE,
    "permute": _ORDER, "transpose": _ORDER, "t": _ORDER, "movedim": _ORDER, "swapaxes": _ORDER, "contiguous": _ORDER,
    "unsqueeze": _ONES,
    "squeeze": "`mean(x, H, W)` or `x[N=0]` removes axes",
    "expandas": _ONES,
    "repeat": "`expand(x, N=4)` repeats along a new axis",
    "expand": "`expand(x, B=4)` adds an axis of that size, `mean(x, N)` removes one",
    "mean": "`mean(x, H, W)`, with the axes by name", "sum": "`sum(x, H, W)`, with the axes by name",
    "shape": _SIZE, "size": _SIZE, "dim": _SIZE, "ndim": _SIZE, "numel": _SIZE,
    "zeros": "`full(0, N=4, C=8)`",
    "ones": "`full(1, N=4, C=8)`",
    "zeroslike": "`full(0, like=x)`",
    "oneslike": "`full(1, like=x)`",
    "arange": "`index(N=n)` is a tensor, `range(n)` a list",
    "masked_fill": "`where(mask, value, x)`",
    "maskedfill": "`where(mask, value, x)`",
    "topk": "`top_k(x, k, N)`",
    "pow": "`x ** 2`",
    "add": "`a + b`",
    "mul": "`a * b`",
    "sub": "`a - b`",
    "div": "`a / b`",
    "square": "`x ** 2`", "rsqrt": "`1 / sqrt(x)`", "clip": "`clamp(x, min, max)`", "norm": "`sqrt(sum(x ** 2, C))`",
    "normalize": "`x / sqrt(sum(x ** 2, C) + 1e-12)`", "std": "`sqrt(var(x, C))`",
    "slidingwindow": "`neighborhood(7)`: a window of its own around each position",
    "gridsample": "`sample(x, at, xy)`",
    "unfold": "`look(x, neighborhood(3))`",
    "float": "`cast(x, float)`",
    "int": "`cast(x, int)`",
    "to": "`cast(x, float)`",
    "detach": "`stop_gradient(x)`",
    "clone": "nothing is ever changed in place, so no copy is needed",
    "init": _STARTS,
    "truncnormal": _STARTS,
    "print": "nothing runs while a spec is read: `archc show SPEC --stage graph` prints the sizes",
    "true": TRUTH, "false": TRUTH, "none": TRUTH,
}  # fmt: skip

# Keyword: the arguments that may say the same here, and the ones that have no like here.
KEYWORDS: dict[str, str] = {
    "kernel_size": "kernel", "padding": "pad", "out_channels": "out", "out_features": "out", "out_dim": "out",
    "num_groups": "groups",
    "num_heads": "heads",
    "keepdim": "keep",
    "keepdims": "keep",
    "dim": "axis axes",
    "dims": "axes axis",
    "normalized_shape": "axis", "num_embeddings": "vocab", "embedding_dim": "dim", "hidden_size": "size",
    "num_layers": "layers", "return_indices": "index", "ceil_mode": "ceil", "count_include_pad": "count_pad",
    "align_corners": "align",
    "output_padding": "output_pad",
    "bidirectional": "both",
    "drop_prob": "p",
    "drop_rate": "p",
    "rate": "p", "epsilon": "eps", "negative_slope": "slope", "strides": "stride", "window_size": "size",
}  # fmt: skip
LEFT_OUT: dict[str, str] = {
    "in_channels": "leave it out: the width of the input is read from the tensor",
    "in_features": "leave it out: the width of the input is read from the tensor",
    "num_features": "leave it out: the width is read from the tensor",
    "input_size": "leave it out: the width of the input is read from the tensor",
    "inplace": "leave it out: nothing is ever changed in place",
    "padding_mode": "`pad(x, H=1, W=1, mode=\"reflect\")` before it, and `pad=0`",
    "affine": "`standardize` is a batch norm without weights",
    "elementwise_affine": "leave it out: write the norm by hand with `mean` and `var` where it has no weights",
    "shifts": "by axis: `roll(H=3, W=3)`",
    "dims": "axes are given by name, each with its own number: `roll(H=3, W=3)`",
    "scale": "sizes are given by axis: `resize(H=2 * x.H, W=2 * x.W)`",
    "scale_factor": "sizes are given by axis: `resize(H=2 * x.H, W=2 * x.W)`",
    "output_size": "sizes are given by axis: `H=7, W=7`",
    "batch_first": "leave it out: axes are known by name",
}  # fmt: skip


# A help that begins with what is to be written, and no sentence about it.
_CODE_ALONE = re.compile(r"`[^`]*`(?:$|[,:])")


def _plain(name: str) -> str:
    return re.sub(r"(?<=\D)[123]d$", "", name.lower()).replace("_", "").replace("lazy", "")


def foreign(name: str) -> bool:
    """Whether another library has something of this name."""
    return _plain(name) in CALLS


def call_helps(name: str, known: Collection[str]) -> tuple[str, ...]:
    """Help for an unknown name: what another library means by it, where it is imported from, or the closest known one."""
    plain = next((key for key in (name.lower().replace("_", ""), _plain(name)) if key in CALLS), _plain(name))
    component = components().get(name)
    if component is not None:
        return (f"it is imported first: `from std.{component} import {name}`",)
    close = did_you_mean(name, known)
    if plain in CALLS:
        text = CALLS[plain]
        return (f"write {text}" if _CODE_ALONE.match(text) else text,)
    return close or did_you_mean(name, components())


def name_helps(name: str, known: Collection[str]) -> tuple[str, ...]:
    """Help for an unknown name that is not called: only a word in capitals is taken for another library's."""
    return call_helps(name, known) if name[:1].isupper() or name in components() else did_you_mean(name, known)


def keyword_helps(name: str, legal: Collection[str]) -> tuple[str, ...]:
    """Help for an unknown keyword, or () where nothing is known of it."""
    word = next((word for word in KEYWORDS.get(name, "").split() if word in legal), "")
    if word == "axes":
        return ("axes are given by name and alone, as in `mean(x, H, W)`",)
    if word:
        return (f"here it is called `{word}`",)
    return (LEFT_OUT[name],) if name in LEFT_OUT else ()


@cache
def components() -> dict[str, str]:
    """What the standard library offers, and the file of each."""
    defined = re.compile(r"^(?:mixer|block|stage|fn) (\w+)", re.MULTILINE)
    files = sorted((folder("specs") / "std").glob("*.arch"))
    return {name: file.stem for file in files for name in defined.findall(file.read_text(encoding="utf-8"))}
