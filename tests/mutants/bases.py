"""What a mutant is built as: the specs under `specs/` with one file changed, and small networks that use that file.

A file of components is used by networks of its own here, as narrow and shallow as they may be; where a component or a
model is the one that changed, `of_NAME` is the network that uses it. A file that binds a variant is built as it stands.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mutations import Mutation, mutations

from archc.driver import Spec, only
from archc.elaborate.loader import Library, load
from archc.elaborate.model import variant_names
from archc.source import Source
from archc.syntax import tree
from archc.syntax.parse import parse

SPECS = Path(__file__).parent.parent.parent / "specs"
FILES = tuple(sorted(str(p.relative_to(SPECS).with_suffix("")) for p in SPECS.rglob("*.arch")))

TINY = {
    "ccnet": """
from .ccnet import auxiliary, ccnet, ccnet_attention, ccnet_head, level, rcca
model small() {
    input image: [B, C=3, H, W]
    x = image |> near: level(8, 2, stride=2)
    output main = x |> far: level(8, 1, dilation=2) |> head: rcca(3, width=12)
    output dsn = x |> dsn: auxiliary(3)
}
tiny = small()
of_ccnet = ccnet(depths=[1, 1, 1, 1], num_classes=3)
of_ccnet_head = ccnet_head(in_chans=32, num_classes=3)
of_ccnet_attention = ccnet_attention(in_chans=16)
""",
    "conv_attention": """
from .conv_attention import conv_attention
tiny = conv_attention(dims=[32, 32, 64], depths=[1, 2, 2], num_classes=5)
""",
    "convnext": """
from .convnext import convnext
tiny = convnext(dims=[8, 16], depths=[1, 2], num_classes=5)
""",
    "dasiamrpn": """
from .dasiamrpn import siamrpn
tiny = siamrpn(features=8, anchors=2)
""",
    "deit": """
from .deit import deit
tiny = deit(dim=16, heads=2, depth=2, img_size=[32, 48], num_classes=5)
""",
    "mamba_attention": """
from .mamba_attention import mamba_attention
tiny = mamba_attention(dims=[32, 64], depths=[2, 2], num_classes=5)
""",
    "maxvit": """
from .maxvit import maxvit, maxvit_features
tiny = maxvit(dims=[32, 64], depths=[1, 2], stem_dim=16, hidden=24, img_size=64, num_classes=5)
of_maxvit_features = maxvit_features(dims=[32, 64], depths=[1, 2], stem_dim=16, img_size=64)
""",
    "poolformer": """
from .poolformer import poolformer
tiny = poolformer(dims=[8, 16], depths=[1, 2], num_classes=5)
""",
    "swin": """
from .swin import swin
tiny = swin(dim=8, depths=[2, 2], heads=[1, 2], extent=2, num_classes=5)
""",
    "van": """
from .van import van
tiny = van(dims=[8, 16], depths=[2, 1], ratios=[2, 3], num_classes=5)
""",
    "vig": """
from .vig import vig
tiny = vig(dim=32, heads=2, depth=2, num_classes=5)
""",
    "std/activations": """
from std.activations import leaky_relu, relu6, hardsigmoid, hardswish, log_sigmoid, elu_plus_one
model net() {
    input x: [B, C=8, H, W]
    y = x |> a: conv(8, 1) |> leaky_relu(0.1) |> b: conv(8, 1) |> relu6 |> c: conv(8, 1) |> hardsigmoid
    z = x |> d: conv(8, 1) |> hardswish |> e: linear(8) |> log_sigmoid |> f: linear(8) |> elu_plus_one
    output out = y * z
}
tiny = net()
""",
    "std/attention": """
from std.attention import attend, dynconv, linear_attention
from std.layout import split_heads, merge_heads
model attending() {
    input x: [B, C=8, H, W]
    param bias: [heads=2, tap=9] = normal(0.1)
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(24) |> split(3, C))]
    near = neighborhood(3)
    a = attend(q, k, v, near, bias=bias) |> merge_heads
    b = attend(q, k, v, near, mask=correlate(k, v, near) > -1) |> merge_heads
    output out = a + b + (attend(q, k, v) |> merge_heads)
}
model weighing() {
    input x: [B, C=8, H, W]
    output out = dynconv(x, x |> w: conv(9, 1), neighborhood(3))
}
model feeling() {
    input x: [B, C=8, H, W]
    q, k, v = x |> qkv: linear(28) |> split([8, 8, 12], C)
    q, k = [split_heads(t, 2) for t in (q, k)]
    output out = linear_attention(q, k, v |> split_heads(2)) |> merge_heads
}
tiny = attending()
of_attend = attending()
of_dynconv = weighing()
of_linear_attention = feeling()
""",
    "std/conv": """
from std.conv import dwconv
model net() {
    input x: [B, C=6, H, W]
    output y = x |> a: dwconv(5) |> b: dwconv(3, stride=2, bias=false) |> c: dwconv([3, 1], dilation=2, pad=1)
}
tiny = net()
""",
    "std/layout": """
from std.layout import split_heads, merge_heads, pad_to, crop_like, all, total
model heads() {
    input x: [B, C=8, H, W]
    output y = x |> split_heads(2) |> f: linear(6) |> merge_heads
}
model borders() {
    input x: [B, C=4, H, W]
    output y = x |> pad_to(3) |> f: conv(4, 3, stride=3) |> g: conv(4, 1)
}
model cropping() {
    input x: [B, C=4, H, W]
    input z: [B, C=3, H=Hz, W=Wz]
    output y = z |> crop_like(x) |> f: conv(4, 1)
}
model truths() {
    input x: [B, N, C=4]
    output y = where(all(x > 0, C), 1.0, 0.0) * (x |> mean(C))
}
model sums() {
    input x: [B, N, C=4]
    output y = total([x |> a: linear(4), x |> b: linear(4), x])
}
tiny = heads()
of_pad_to = borders()
of_crop_like = cropping()
of_all = truths()
of_total = sums()
""",
    "std/mlp": """
from std.mlp import mlp, swiglu, squeeze_excite
model mlps() {
    input x: [B, C=8, H, W]
    output y = x |> a: mlp |> b: mlp(2, relu)
}
model gates() {
    input x: [B, N, C=8]
    output y = x |> a: swiglu(12) |> b: swiglu(6, bias=true)
}
model squeezes() {
    input x: [B, C=8, H, W]
    output y = x |> a: squeeze_excite(4) |> b: squeeze_excite(2, act=silu)
}
tiny = mlps()
of_swiglu = gates()
of_squeeze_excite = squeezes()
""",
    "std/norm": """
from std.norm import abn, grn
model first() {
    input x: [B, C=6, H, W]
    output y = x |> a: abn |> b: abn(act=relu, eps=1e-3)
}
model second() {
    input x: [B, C=6, H, W]
    output y = x |> a: conv(6, 1) |> b: grn
}
tiny = first()
of_grn = second()
""",
    "std/recurrence": """
from std.recurrence import gated_linear, selective_scan
model gated() {
    input x: [B, C=8, H, W]
    q, k, v = x |> qkv: linear(24) |> split(3, C)
    output y = gated_linear(q, k, v, sigmoid(k), raster(H, W))
}
model scanning() {
    input x: [B, C=8, H, W]
    output y = x |> ssm: selective_scan(cross(H, W), states=3) |> sum(way)
}
tiny = gated()
of_selective_scan = scanning()
""",
    "std/regularise": """
from std.regularise import drop_path
model net() {
    input x: [B, C=4, H, W]
    output y = x + (x |> f: conv(4, 3) |> drop_path(0.1))
}
tiny = net()
""",
}


@cache
def text_of(file: str) -> str:
    return (SPECS / f"{file}.arch").read_text(encoding="utf-8")


@cache
def mutations_of(file: str) -> tuple[Mutation, ...]:
    return tuple(mutations(file, text_of(file)))


@cache
def _unchanged() -> dict[Path, tree.File]:
    paths = {(SPECS / f"{file}.arch").resolve(): file for file in FILES}
    return {path: parse(Source(f"{file}.arch", text_of(file), path)) for path, file in paths.items()}


@cache
def _tiny(file: str) -> Source:
    return Source("tiny.arch", TINY[file], SPECS.resolve() / "tiny.arch")


def network(file: str, text: str, owner: str) -> tuple[Library, str]:
    """The networks that use `file`, with `text` in its place, and which of them shows a change of `owner`.

    Raises ArchError.
    """
    path = (SPECS / f"{file}.arch").resolve()
    source = Source(f"{file}.arch", text, path)
    files = _unchanged() | {path: parse(source)}
    if file in TINY:
        tiny = _tiny(file)
        made = load(tiny, files | {tiny.path: _parsed(tiny)})
        return made, f"of_{owner}" if f"of_{owner}" in made.main.bindings else "tiny"
    made = load(source, files)
    spec = Spec(made, tuple(variant_names(made)), file)
    return made, only(spec)


_parsed = cache(parse)
