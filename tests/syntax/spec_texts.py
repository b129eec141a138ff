"""Specs that the syntax tests read, written the way an author would write them."""
# ruff: noqa: E501

VAN = '''"""Visual Attention Network. Guo et al., 2022, arXiv:2202.09741."""

mixer lka(x: [B, C, H, W]) {
    gate = x |> conv0: dwconv(5) |> conv_spatial: dwconv(7, dilation=3) |> conv1: conv(C, 1)
    return x * gate
}

block attention(x: [B, C, H, W]) {
    return x + (x |> proj_1: conv(C, 1) |> gelu |> spatial_gating_unit: lka |> proj_2: conv(C, 1))
}

block layer(x: [B, C, H, W], ratio: int, drop: float) {
    param layer_scale_1: [C] = 1e-2
    x += (layer_scale_1 * (x |> norm1: batch_norm |> attn: attention)) |> drop_path(drop)
    return x
}

model van(dims: list[int], depths: list[int], ratios: list[int] = [8, 8, 4, 4], drop: float = 0.1, classes: int = 1000) {
    input image: [B, C=3, H, W]
    rates = linspace(0, drop, sum(depths))
    x = image
    stages: stage i, dim in enumerate(dims) {
        x = x |> proj: conv(dim, 7 if i == 0 else 3, stride=4 if i == 0 else 2) |> stem_norm: batch_norm
        blocks: repeat depths[i] as j {
            x = x |> _: layer(ratios[i], rates[sum(depths[:i]) + j])
        }
        x = x |> norm: layer_norm(eps=1e-6)
    }
    output logits = x |> mean(H, W) |> head: linear(classes)

    init conv.weight = normal(sqrt(2 * groups / (kernel * kernel * out)))
}

published = van(dims=[64, 128, 320, 512], depths=[3, 3, 12, 3]) {
    weights {
        "patch_embed{i}.proj.*"          -> "stages.{i-1}.proj.*"
        "block{i}.{j}.mlp.dwconv.dwconv.*" -> "stages.{i-1}.blocks.{j}.mlp.dwconv.*"
        "rpb.0", "rpb.1" -> "rpb" |> reshape(heads=4) |> permute(heads, dy, dx)
        "head.*" -> drop
    }
}
van_b2 = published() {
    claim params == 26.6M
    claim macs(image=224) == 5.0G within 0.05
    matches "van_b2.json"
}
'''

COLORMNET = '''"""ColorMNet: memory read with a squared distance. arXiv:2404.06251."""
from .std import gru_update

# Where: every remembered position, or the `keep` best.
mixer read(query: [B, C, H, W], keys: [B, C, M], shrink: [B, M], values: [B, objects, C=E, M], keep: int = 0) {
    distance = dot(keys ** 2, keys, C) - 2 * dot(query, keys, C) + sum(query ** 2, C)
    s = -distance * shrink / sqrt(C)                         # [B, H, W, M]
    if keep > 0 {
        s, best = top_k(s, keep, M)                          # M is now `keep` long
        values = gather(values, best, M)
    }
    return dot(softmax(s, M), values, M)                     # [B, H, W, objects, C=E]
}

model memory(width: int = 1024, value: int = 512) {
    input frame: [B, C=width, H, W]
    input remember: [B, objects, C=value, H, W] = none
    state keys: [B, C=64, M] = empty
    state = frame |> key_proj: project
    if remember != none {
        next keys = cat([keys, state |> rearrange("H W -> M=(H W)")], M)
    } else if width == 3 { state = keys } else {
        require width % 2 == 0, "even widths"
    }
    q, k, v = [t |> rearrange("B objects -> B=(B objects)") for t in (state, keys, frame)]
    new = update: gru_update(q[0], k[1:])
    output aux when training = new
    output read = cat([new, q[N=1:], q[N=:1], q[box=[1, 0]], q[:]], C)
}
memory_1 = memory()
'''

TRACKER = """model siamrpn(size: int, features: int, anchors: int = 5) {
    module backbone = alexnet(size)

    # Once per object: the template becomes one kernel per output channel.
    entry template(z: [B, C=3, H=Hz, W=Wz]) -> [B, out, C, kh, kw], bool[B, ...] {
        f = backbone(z)
        kernel_r = f |> conv_r1: conv(features * 4 * anchors, 3, pad=0) |> rearrange("C=(out C) -> out C", C=features) |> rename(H="kh", W="kw")
        return kernel_r, f
    }
    param pos_embed: [C=dim, Hp=grid] = trunc_normal(0.02) with (decay=false)
    cca: loop turns { a += a |> _: criss_cross }
    stage { x = x }
    for l, memory in enumerate(levels) { parts += [sample(v, at[level=l], xy)] }
    exit early = not admits(x) and a < b <= c or -x ** -2 != none
    k, v = (k |> rename(N="M"), v |> rename(N="M"))
}

block merge_heads(x: [B, heads, C, H, W]) { return x |> rearrange("heads C -> C=(heads C)") }
block tokens(x: [B, heads, C, H, W], name: str) { return x |> rename(N=name) }
fn round_up(n: int, to: int) = (n + to - 1) // to * to

# ---- sizes ------------------------------------------------------------------
vig_t = vig(192, 3, act=silu) { claim params == 5.8M }
vig_s = vig(384, 6) { claim params == 22.6M }
"""

ALL = {"van": VAN, "colormnet": COLORMNET, "tracker": TRACKER}
