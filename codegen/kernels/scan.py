from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .fused import jit, tl, triton
from .recurrence import Recurrence, Way, gradient_base, next_position, path_position, sample_base, way_loops


@jit
def scan_get(x, strides, p, o_s, o_f, m_s, m_f, S: tl.constexpr, F: tl.constexpr):
    """A tensor at position p in float32: [BS, BF], of size 1 along s or f where it has no such axis."""
    p_x = x + p * strides[2]
    if S and F:
        o_x = o_s[:, None] * strides[4] + o_f[None, :] * strides[5]
        return tl.load(p_x + o_x, m_s[:, None] & m_f[None, :], 0.0).to(tl.float32)
    elif S:
        return tl.load(p_x + o_s * strides[4], m_s, 0.0).to(tl.float32)[:, None]
    else:
        return tl.load(p_x + o_f * strides[5], m_f, 0.0).to(tl.float32)[None, :]


@jit
def scan_put(x, strides, p, b_x, o_s, o_f, m_s, m_f, S: tl.constexpr, F: tl.constexpr):
    """Store [BS, BF] at position p; summed over s or f where the tensor has no such axis."""
    p_x = x + p * strides[2]
    if S and F:
        o_x = o_s[:, None] * strides[4] + o_f[None, :] * strides[5]
        tl.store(p_x + o_x, b_x.to(x.dtype.element_ty), m_s[:, None] & m_f[None, :])
    elif S:
        tl.store(p_x + o_s * strides[4], tl.sum(b_x, 1).to(x.dtype.element_ty), m_s)
    elif F:
        tl.store(p_x + o_f * strides[5], tl.sum(b_x, 0).to(x.dtype.element_ty), m_f)
    else:
        tl.store(p_x, tl.sum(tl.sum(b_x, 1), 0).to(x.dtype.element_ty), tl.max(m_s.to(tl.int32), 0) > 0)


@jit
def scan_kernel(
    d, a, u, b, c, k, y, states, order, d_strides, a_strides, u_strides, b_strides, c_strides, k_strides, y_strides, ways,
    L, LINES, R, WAYS, F, S, D_S: tl.constexpr, D_F: tl.constexpr, EXP: tl.constexpr, TIMES: tl.constexpr,
    OUTER: tl.constexpr, U_S: tl.constexpr, U_F: tl.constexpr, READ: tl.constexpr, SKIP: tl.constexpr, KEEP: tl.constexpr,
    ORDERED: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BF: tl.constexpr,
):  # fmt: skip
    """h[t] = decay[t] h[t - 1] + update[t] along one sequence, and y[t] = sum_s c[t, s] h[t, s, f] + k[f] u[t, f]

    The decay is d or exp(d a), the update u or u b, its factor d u. KEEP stores the states before every BT steps instead.
    """
    i_n = tl.program_id(0).to(tl.int64)  # (b, way, line, r)
    i_r, i_q, i_w = i_n % R, i_n // R % LINES, i_n // (R * LINES) % WAYS
    sample = (i_n // (R * LINES * WAYS), i_w, i_r)
    o_f = tl.program_id(1) * BF + tl.arange(0, BF)  # [BF]
    o_s = tl.program_id(2) * BS + tl.arange(0, BS)  # [BS]
    m_f, m_s = o_f < F, o_s < S
    d, a, u = sample_base(d, d_strides, sample), sample_base(a, a_strides, sample), sample_base(u, u_strides, sample)
    b, c, k = sample_base(b, b_strides, sample), sample_base(c, c_strides, sample), sample_base(k, k_strides, sample)
    y = sample_base(y, y_strides, sample)
    loops = way_loops(ways, i_w)
    line = order + (i_w * LINES + i_q) * L
    if EXP:
        b_a = scan_get(a, a_strides, 0, o_s, o_f, m_s, m_f, True, True) * 1.4426950408889634  # for powers of 2
    if SKIP:
        b_k = scan_get(k, k_strides, 0, o_s, o_f, m_s, m_f, False, True)
    b_h = tl.zeros([BS, BF], tl.float32)
    for i_t in range(tl.cdiv(L, BT)):
        if KEEP:
            o_h = (i_n * tl.cdiv(L, BT) + i_t) * S * F + o_s[:, None] * F + o_f[None, :]
            tl.store(states + o_h, b_h, m_s[:, None] & m_f[None, :])
        t0 = i_t * BT
        # The loads of BT steps come before the first of their sums.
        p, j = path_position(t0, loops, line, L, ORDERED)
        at, b_d, b_u, b_b, b_c = (), (), (), (), ()
        for t in tl.static_range(BT):
            m_ft, m_st = m_f & (t0 + t < L), m_s & (t0 + t < L)
            b_d += (scan_get(d, d_strides, p, o_s, o_f, m_st, m_ft, D_S, D_F),)
            b_u += (scan_get(u, u_strides, p, o_s, o_f, m_st, m_ft, U_S, U_F),)
            if OUTER:
                b_b += (scan_get(b, b_strides, p, o_s, o_f, m_st, m_ft, True, False),)
            if READ and not KEEP:
                b_c += (scan_get(c, c_strides, p, o_s, o_f, m_st, m_ft, True, False),)
            at += (p,)
            p, j = next_position(t0 + t + 1, p, j, loops, line, L, ORDERED)
        for t in tl.static_range(BT):
            b_decay = tl.exp2(b_d[t] * b_a) if EXP else b_d[t]
            b_x = b_d[t] * b_u[t] if TIMES else b_u[t]
            b_h = b_decay * b_h + (b_x * b_b[t] if OUTER else b_x)
            if not KEEP:
                m_ft, m_st = m_f & (t0 + t < L), m_s & (t0 + t < L)
                if READ:
                    b_y = tl.sum(b_c[t] * b_h, 0)[None, :]
                    if SKIP:
                        b_y += b_k * b_u[t]
                    scan_put(y, y_strides, at[t], b_y, o_s, o_f, m_st, m_ft, False, True)
                else:
                    scan_put(y, y_strides, at[t], b_h, o_s, o_f, m_st, m_ft, True, True)


@jit
def scan_gradient_kernel(
    d, a, u, b, c, k, dy, states, order, d_strides, a_strides, u_strides, b_strides, c_strides, k_strides, y_strides,
    gd, ga, gu, gb, gc, gk, gd_strides, ga_strides, gu_strides, gb_strides, gc_strides, gk_strides, ways,
    L, LINES, R, WAYS, F, S, D_S: tl.constexpr, D_F: tl.constexpr, EXP: tl.constexpr, TIMES: tl.constexpr,
    OUTER: tl.constexpr, U_S: tl.constexpr, U_F: tl.constexpr, READ: tl.constexpr, SKIP: tl.constexpr,
    ORDERED: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BF: tl.constexpr,
):  # fmt: skip
    """The gradients of all that `scan_kernel` reads, from dy and the states before every BT steps.

    The states of BT steps are computed again and held; then their gradient g[t] = c[t] dy[t] + decay[t + 1] g[t + 1] runs
    through them, last step first. Sums over other programs are left: a tile of each for every f or s tile, and every line.
    """
    i_n = tl.program_id(0).to(tl.int64)  # (b, way, line, r)
    i_r, i_q, i_w = i_n % R, i_n // R % LINES, i_n // (R * LINES) % WAYS
    sample = (i_n // (R * LINES * WAYS), i_w, i_r)
    i_f, i_s = tl.program_id(1), tl.program_id(2)
    o_f = i_f * BF + tl.arange(0, BF)  # [BF]
    o_s = i_s * BS + tl.arange(0, BS)  # [BS]
    m_f, m_s = o_f < F, o_s < S
    d, a, u = sample_base(d, d_strides, sample), sample_base(a, a_strides, sample), sample_base(u, u_strides, sample)
    b, c, k = sample_base(b, b_strides, sample), sample_base(c, c_strides, sample), sample_base(k, k_strides, sample)
    dy = sample_base(dy, y_strides, sample)
    gd, ga = gradient_base(gd, gd_strides, sample, i_q, i_f, i_s), gradient_base(ga, ga_strides, sample, i_q, i_f, i_s)
    gu, gb = gradient_base(gu, gu_strides, sample, i_q, i_f, i_s), gradient_base(gb, gb_strides, sample, i_q, i_f, i_s)
    gc, gk = gradient_base(gc, gc_strides, sample, i_q, i_f, i_s), gradient_base(gk, gk_strides, sample, i_q, i_f, i_s)
    loops = way_loops(ways, i_w)
    line = order + (i_w * LINES + i_q) * L
    if EXP:
        b_a = scan_get(a, a_strides, 0, o_s, o_f, m_s, m_f, True, True) * 1.4426950408889634  # for powers of 2
    if SKIP:
        b_k = scan_get(k, k_strides, 0, o_s, o_f, m_s, m_f, False, True)
    b_ga = tl.zeros([BS, BF], tl.float32)
    b_gk = tl.zeros([1, BF], tl.float32)
    b_g = tl.zeros([BS, BF], tl.float32)
    for n in range(tl.cdiv(L, BT)):
        i_t = tl.cdiv(L, BT) - 1 - n
        o_h = (i_n * tl.cdiv(L, BT) + i_t) * S * F + o_s[:, None] * F + o_f[None, :]
        b_h = tl.load(states + o_h, m_s[:, None] & m_f[None, :], 0.0)
        p, j = path_position(i_t * BT, loops, line, L, ORDERED)
        # What the state before each step leaves in it, exp(d a) h; where the decay is given, the state before itself.
        at, before, b_ds, b_us, decays = (), (), (), (), ()
        for t in tl.static_range(BT):
            m_ft, m_st = m_f & (i_t * BT + t < L), m_s & (i_t * BT + t < L)
            b_d = scan_get(d, d_strides, p, o_s, o_f, m_st, m_ft, D_S, D_F)
            b_x = scan_get(u, u_strides, p, o_s, o_f, m_st, m_ft, U_S, U_F)
            b_ds += (b_d,)
            b_us += (b_x,)
            if TIMES:
                b_x *= b_d
            if OUTER:
                b_x = b_x * scan_get(b, b_strides, p, o_s, o_f, m_st, m_ft, True, False)
            b_decay = tl.exp2(b_d * b_a) if EXP else b_d
            b_left = b_decay * b_h
            decays += (b_decay,)
            before += (b_left if EXP else b_h,)
            b_h = b_left + b_x
            at += (p,)
            p, j = next_position(i_t * BT + t + 1, p, j, loops, line, L, ORDERED)
        for i in tl.static_range(BT):
            p, b_before = at[BT - 1 - i], before[BT - 1 - i]
            m_t = i_t * BT + BT - 1 - i < L
            m_ft, m_st = m_f & m_t, m_s & m_t
            b_d, b_u, b_decay = b_ds[BT - 1 - i], b_us[BT - 1 - i], decays[BT - 1 - i]
            if READ:
                b_c = scan_get(c, c_strides, p, o_s, o_f, m_st, m_ft, True, False)
                b_dy = scan_get(dy, y_strides, p, o_s, o_f, m_st, m_ft, False, True)
                b_g += b_c * b_dy
            else:
                b_g += scan_get(dy, y_strides, p, o_s, o_f, m_st, m_ft, True, True)
            if OUTER:
                b_b = scan_get(b, b_strides, p, o_s, o_f, m_st, m_ft, True, False)
                b_x = b_d * b_u if TIMES else b_u
                if READ:
                    b_h = (b_before if EXP else b_decay * b_before) + b_x * b_b
                    scan_put(gc, gc_strides, p, b_h * b_dy, o_s, o_f, m_st, m_ft, True, False)
                scan_put(gb, gb_strides, p, b_g * b_x, o_s, o_f, m_st, m_ft, True, False)
                b_gx = tl.sum(b_g * b_b, 0)[None, :]  # [1, BF]
                b_gu = b_gx * b_d if TIMES else b_gx
                if SKIP:
                    b_gu += b_k * b_dy
                    b_gk += b_u * b_dy
                scan_put(gu, gu_strides, p, b_gu, o_s, o_f, m_st, m_ft, False, True)
            else:
                if READ:
                    b_h = (b_before if EXP else b_decay * b_before) + b_u
                    scan_put(gc, gc_strides, p, b_h * b_dy, o_s, o_f, m_st, m_ft, True, False)
                scan_put(gu, gu_strides, p, b_g, o_s, o_f, m_st, m_ft, U_S, U_F)
            b_e = b_g * b_before
            if EXP:
                b_ga += b_e * b_d
                b_gd = tl.sum(b_e * b_a, 0)[None, :] * 0.6931471805599453
                if TIMES:
                    b_gd += b_gx * b_u
                scan_put(gd, gd_strides, p, b_gd, o_s, o_f, m_st, m_ft, False, True)
            else:
                scan_put(gd, gd_strides, p, b_e, o_s, o_f, m_st, m_ft, D_S, D_F)
            b_g = b_decay * b_g
    if EXP:
        scan_put(ga, ga_strides, 0, b_ga, o_s, o_f, m_s, m_f, True, True)
    if SKIP:
        scan_put(gk, gk_strides, 0, b_gk, o_s, o_f, m_s, m_f, False, True)


class Scan(Recurrence):
    """h[t] = decay[t] h[t - 1] + update[t], and what is read of the states: a state is held in registers, and all of one
    sequence is one program.

    `roles` say what the tensors are: d the decay, or with a its factor in exp(d a); u the update, or with b its factor in
    the product u b; or, with `times`, u in (d u) b; c reads the states, summed over s; k is the factor of u in what is
    added to that.
    """

    cast = 0

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], roles: str, axes: Sequence[str], result: str,
        ways: Sequence[Way], times: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path, axes, result, ways)
        self.roles, self.times = roles, times

    def letters(self, role: str) -> str:
        return self.axes[self.roles.index(role)]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float], **_: Any) -> int:
        sizes = self.folded(self.sizes(shapes))
        states = 1
        for size in sizes.values():
            states *= size
        return 2 * states * (1 + ("c" in self.roles))

    def tile(self, sizes: dict[str, int], held: bool) -> tuple[int, int, int]:
        """BT, BS and BF for one warp: lanes lie along f first, so that sums over s cross few of them. In the backward
        pass, where the states and decays of BT steps are held in registers, a lane has four numbers of each."""
        s, f = triton.next_power_of_2(sizes["s"]), triton.next_power_of_2(sizes["f"])
        bs = s if "c" in self.roles else min(s, 32)
        bf = 128 // bs if held else 128 if bs == 1 else min(32, max(8, 512 // bs))
        return 4, bs, min(f, bf)

    def given(self, tensors: Sequence[Tensor], sizes: dict[str, list[int]]) -> tuple[list[Tensor], list[tuple[int, ...]]]:
        """The tensors in the order of the kernels, and their strides; the first one where there is none."""
        found, strides = [], []
        for role in "daubck":
            at = self.roles.find(role)
            x = tensors[max(at, 0)]
            # What is read once for all steps decides how lanes lie: along f, as for all else.
            x, laid = self.laid(x.contiguous() if role == "a" else x, self.axes[max(at, 0)], sizes)
            found.append(x)
            strides.append(laid)
        return found, strides

    def switches(self) -> dict[str, Any]:
        update, decay = self.letters("u"), self.letters("d")
        return {
            "D_S": "s" in decay, "D_F": "f" in decay, "EXP": "a" in self.roles, "TIMES": self.times,
            "OUTER": "b" in self.roles, "U_S": "s" in update, "U_F": "f" in update,
            "READ": "c" in self.roles, "SKIP": "k" in self.roles,
        }  # fmt: skip

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        (y,) = self.results(tensors, numbers)
        self.run(tensors, y, y, self.tile(self.folded(self.sizes([x.shape for x in tensors])), True)[0], False)
        return [y]

    def run(self, tensors: Sequence[Tensor], y: Tensor, states: Tensor, every: int, keep: bool) -> None:
        """The forward pass: y, or with `keep` the states before every so many steps."""
        sizes = self.sizes([x.shape for x in tensors])
        folded = self.folded(sizes)
        given, strides = self.given(tensors, sizes)
        line, ways, count = self.paths(sizes, y.device)
        _, bs, bf = self.tile(folded, False)
        grid = self.grid(folded, count, bs, bf)
        scan_kernel[grid](
            *given, y, states, y if line is None else line, *strides, self.laid(y, self.result, sizes)[1], ways,
            folded["p"] // count, count, folded["r"], folded["w"], folded["f"], folded["s"], **self.switches(), KEEP=keep,
            ORDERED=line is not None, BT=every, BS=bs, BF=bf, num_warps=1,
        )  # fmt: skip

    def grid(self, sizes: dict[str, int], count: int, bs: int, bf: int) -> tuple[int, int, int]:
        return sizes["b"] * sizes["w"] * count * sizes["r"], triton.cdiv(sizes["f"], bf), triton.cdiv(sizes["s"], bs)

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        dy = grads[0].contiguous()
        sizes = self.sizes([x.shape for x in tensors])
        folded = self.folded(sizes)
        given, strides = self.given(tensors, sizes)
        line, ways, count = self.paths(sizes, dy.device)
        bt, bs, bf = self.tile(folded, True)
        n, *tiles = grid = self.grid(folded, count, bs, bf)
        steps = folded["p"] // count
        states = dy.new_empty((n, triton.cdiv(steps, bt), folded["s"], folded["f"]), dtype=torch.float32)
        self.run(tensors, dy, states, bt, True)
        # What a program stores of each gradient; sums over tiles, lines and ways follow.
        exp, update = "a" in self.roles, self.letters("u")
        has = {
            "d": "bwprf" if exp else "bwpr" + "".join(x for x in "fs" if x in self.letters("d")),
            "a": "bwrfs", "u": "bwprf" if "b" in self.roles else "bwpr" + "".join(x for x in "fs" if x in update),
            "b": "bwprs", "c": "bwprs", "k": "bwrf",
        }  # fmt: skip
        parts: dict[str, Tensor] = {}
        rooms: list[tuple[int, ...]] = []
        for role in "daubck":
            if role in self.roles:
                x = tensors[self.roles.index(role)]
                parts[role], room = self.stored(x, has[role], self.letters(role), folded, (count, *tiles))
            else:
                parts[role], room = dy, (0,) * 9
            rooms.append(room)
        scan_gradient_kernel[grid](
            *given, dy, states, dy if line is None else line, *strides, self.laid(dy, self.result, sizes)[1],
            *parts.values(), *rooms, ways, steps, count, folded["r"], folded["w"], folded["f"], folded["s"],
            **self.switches(), ORDERED=line is not None, BT=bt, BS=bs, BF=bf, num_warps=1,
        )  # fmt: skip
        found = [self.gathered(parts[r], has[r], x, self.letters(r), sizes) for r, x in zip(self.roles, tensors, strict=True)]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]
