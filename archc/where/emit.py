"""The PyTorch text of scores and sums over the taps of a region that gathers its own keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archc.backend.operand import ATOM, PRODUCT, Operand
from archc.ir.types import TensorType
from archc.ops.base import Code
from archc.where.base import Form, Places, Region
from archc.where.text import GROUPS, QUERIES, TAP, bound, extents, opened, probe, then, tuple_text


def lift(x: Operand, lead: Sequence[str], tail: int) -> Operand:
    """`x` with the axes before its last `tail` ones in the order `lead`, and size 1 where it lacks one."""
    have = [name for name in lead if name in x.order]
    x = x.to((*have, *x.order[len(x.order) - tail :]))
    inner = lead[lead.index(have[0]) :] if have else ()
    return opened(x, (*inner, *x.order[len(have) :]))


def leads(a: Operand, b: Operand, tail_a: int, tail_b: int) -> tuple[str, ...]:
    """The axes before the tails of two operands: those of `a`, then the new ones of `b`."""
    first, second = a.order[: len(a.order) - tail_a], b.order[: len(b.order) - tail_b]
    return (*first, *(name for name in second if name not in first))


def form_of(region: Region, code: Code, q: Operand, at: Places) -> Form:
    """The form that tensors over the taps have where `q` lies in the order of the map."""
    return Form(region, at.names, extents(code, q, at.names))


def scores(region: Region, code: Code, q: Operand, k: Operand, at: Places) -> Operand:
    q, k = bound(code, q.last("C"), "q"), bound(code, k.last("C"), "k")
    mask = region.mask(code, k, at)
    form = form_of(region, code, q, at) if region.grouped else None
    type = q.type
    q, k = region.queries(code, q, at), region.keys(code, k, at)
    if region.grouped:
        several = QUERIES in q.order
        tail_q, tail_k = 1 + several + (GROUPS in q.order), 2 + (GROUPS in k.order)
    else:
        several = False
        tail_q, tail_k = len(at.names) + 1, len(at.names) + 2
    lead = leads(q, k, tail_q, tail_k)
    q, k = lift(q, lead, tail_q), lift(k, lead, tail_k)
    inner = q.order[len(q.order) - tail_q : -1]
    if several:
        text, binding = f"{q.inside(PRODUCT)} @ {k.atom}.transpose(-2, -1)", PRODUCT
    else:
        text, binding = f"({q.atom}.unsqueeze(-2) @ {k.atom}.transpose(-2, -1)).squeeze(-2)", ATOM
    s = Operand(text, type, (*lead, *inner, TAP), binding, form)
    if mask is not None:
        absent = f"~{mask.atom}" if QUERIES in mask.order or not region.grouped else f"~{mask.atom}.unsqueeze(-2)"
        s = replace(s, text=f'{s.atom}.masked_fill({absent}, float("-inf"))', binding=ATOM)
    return s


def mask(region: Region, code: Code, k: Operand, at: Places) -> Operand:
    """Which taps are there: where a map of ones, gathered like keys, has a one."""
    sizes = ", ".join((*(code.extent(k, axis.name) for axis in at.k), "1"))
    ones = probe(code.let(f"{k.atom}.new_ones(({sizes}), dtype=torch.bool)", "ones"), at.k)
    there = region.keys(code, ones, at)
    form = Form(region, at.names, query_sizes(code, k, at)) if region.grouped else None
    valid = code.let(f"{there.atom}[..., 0]", "valid")
    return Operand(valid, there.type, there.order[:-1], where=form)


def logical(code: Code, x: Operand) -> Operand:
    """`x` in the order of the map."""
    return x.where.merge(code, x) if x.where is not None else x


def there(region: Region, code: Code, k: Operand, at: Places, sizes: tuple[str, ...]) -> str:
    """Which taps are there, in the order of the map, as (positions, tap)."""
    mask = region.mask(code, k, at)
    if mask is not None:
        return logical(code, mask).atom
    shape = ", ".join((*sizes, region.count(code, k, at)))
    return f"{k.atom}.new_ones(({shape}), dtype=torch.bool)"


def validity(region: Region, code: Code, like: Operand, at: Places, sizes: dict[str, str]) -> Operand:
    """Which taps of each query are there, for a tensor `like` with the positions of the queries."""
    like = bound(code, like, "like")
    shape = []
    for query, key in zip(at.q, at.k, strict=True):
        ratio = key.size.exact_div(query.size)
        step = 1 if ratio is None or ratio.constant is None else ratio.constant
        shape.append(sizes[query.name] if step == 1 else f"{sizes[query.name]} * {step}")
    keys = code.let(f"{like}.new_empty({tuple_text(shape)})", "map")
    k = Operand(keys, TensorType("float", at.k), tuple(axis.name for axis in at.k))
    mask = region.mask(code, k, at)
    if mask is not None:
        return mask
    return Operand(there(region, code, k, at, tuple(sizes[n] for n in at.names)), k.type, (*at.names, TAP))


def taps_of_queries(region: Region, code: Code, text: str, at: Places, sizes: tuple[str, ...]) -> str:
    """A number for each key (positions, 1), as the taps of each query have it: (positions, tap)."""
    keys = probe(text, at.k)
    found = region.keys(code, keys, at)
    if not region.grouped:
        return f"{found.atom}[..., 0]"
    queries = region.queries(code, probe(text, at.q), at)
    both = f"({queries.atom} * 0 + {found.atom}.transpose(-2, -1))"
    order = (*(n for n in queries.order if n != "C"), TAP)
    merged = Form(region, at.names, sizes).merge(code, Operand(both, queries.type, order))
    return merged.atom


def weights_in_form(region: Region, code: Code, w: Operand, at: Places, sizes: tuple[str, ...]) -> Operand:
    """`w` in the form of the region, or in the order of the map where it has none; taps innermost."""
    here = Form(region, at.names, ())
    if w.where is not None and (w.where != here or not region.grouped):
        assert isinstance(w.where, Form)
        w = w.where.merge(code, w)
    if w.where is None and region.grouped and any(name in w.order for name in at.names):
        w = w.last(TAP)
        if not all(name in w.order for name in at.names):
            w = spread(w, at.names, sizes)
        w = region.queries(code, w, at)
    return w.last(TAP)


def spread(x: Operand, names: Sequence[str], sizes: Sequence[str]) -> Operand:
    """`x`, repeated along those of the position axes `names` that it lacks, in front of its last axis."""
    lead = tuple(name for name in x.order[:-1] if name not in names)
    x = x.to((*lead, *(name for name in names if name in x.order), x.order[-1]))
    shape = [
        *["-1"] * len(lead),
        *("-1" if n in x.order else size for n, size in zip(names, sizes, strict=True)),
    ]
    y = opened(x, (*lead, *names, x.order[-1]))
    return x if y is x else then(y, f"{y.atom}.expand({', '.join(shape)}, -1)", y.order)


def query_sizes(code: Code, k: Operand, at: Places) -> tuple[str, ...]:
    """The extents of the query positions, where only the keys of a local region are at hand."""
    texts = []
    for size, axis in zip(extents(code, k, at.names), at.q, strict=True):
        ratio = at.key(axis.name).size.exact_div(axis.size)
        step = 1 if ratio is None or ratio.constant is None else ratio.constant
        texts.append(size if step == 1 else str(int(size) // step) if size.isdigit() else f"({size} // {step})")
    return tuple(texts)


def without(w: Operand, mask: Operand) -> Operand:
    """`w`, taps innermost, with 0 for the taps that are none."""
    lead = tuple(name for name in w.order if name not in mask.order)
    w = opened(w.to((*lead, *(name for name in mask.order if name in w.order))), (*lead, *mask.order))
    return then(w, f"{w.atom}.where({mask}, 0.0)", w.order)


def mix(region: Region, code: Code, w: Operand, v: Operand, at: Places) -> Operand:
    v = bound(code, v if "C" not in v.order else v.last("C"), "v")
    sizes = tuple[str, ...]()
    if region.local:
        sizes = query_sizes(code, v, at) if region.grouped or not all(n in w.order for n in at.names) else ()
    elif isinstance(w.where, Form):
        sizes = w.where.extents
    else:
        w = bound(code, w, "w")
        sizes = extents(code, w, at.names)
    # Channels that the weights have too ride along; only taps are summed.
    shared = "C" in w.order and "C" in v.order
    if shared:
        w, v = (renamed(x, {"C": "@channels"}) for x in (w, v))
    w = weights_in_form(region, code, w, at, sizes)
    mask = region.mask(code, v, at) if region.leaks else None
    if mask is not None:
        w = without(w, mask)
    channels = "C" in v.order
    values = region.keys(code, v, at)
    if not channels:
        values = then(values, f"{values.atom}.unsqueeze(-1)", (*values.order, "@one"))
    last = values.order[-1]
    if region.grouped:
        several = QUERIES in w.order
        middle = tuple(n for n in (GROUPS,) if n in values.order)
        tail_v, tail_w = 2 + len(middle), 1 + several + (GROUPS in w.order)
    else:
        several, middle = False, at.names
        w = w.to((*(n for n in w.order if n not in (*at.names, TAP)), *(n for n in at.names if n in w.order), TAP))
        tail_v, tail_w = len(at.names) + 2, 1 + len([n for n in w.order if n in at.names])
    lead = leads(w, values, tail_w, tail_v)
    # A dimension that `w` lacks in the middle has size 1 in it.
    w, values = lift(w, (*lead, *middle), 1 + several), lift(values, lead, tail_v)
    if several:
        text, order, binding = (
            f"{w.inside(PRODUCT)} @ {values.atom}",
            (*lead, *middle, QUERIES, last),
            PRODUCT,
        )
    else:
        text, order, binding = (
            f"({w.atom}.unsqueeze(-2) @ {values.atom}).squeeze(-2)",
            (*lead, *middle, last),
            ATOM,
        )
    y = Operand(text, v.type, order, binding)
    if not channels:
        y = then(y, f"{y.atom}.squeeze(-1)", order[:-1])
    if region.grouped:
        y = Form(region, at.names, sizes).merge(code, y)
    return renamed(y, {"@channels": "C"}) if shared else y


def renamed(x: Operand, names: dict[str, str]) -> Operand:
    """The same tensor under other axis names."""
    order = tuple(names.get(name, name) for name in x.order)
    return replace(x, type=x.type.renamed(names), order=order)


def look(region: Region, code: Code, x: Operand, at: Places) -> Operand:
    """The taps of every query, in the order (lead, positions, tap), channels among the lead."""
    x = bound(code, x)
    sizes = query_sizes(code, x, at) if region.grouped else ()
    if "C" in x.order:
        x = renamed(x, {"C": "@channels"})
    found = region.keys(code, x, at)
    if region.grouped:
        form = Form(region, at.names, sizes)
        found = form.merge(code, region.merge(code, found, form))
    mask = region.mask(code, x, at) if region.leaks else None
    if mask is not None:
        found = then(found, f"{found.atom}.masked_fill(~{logical(code, mask).atom}, 0)", found.order)
    return renamed(found, {"@channels": "C"})
