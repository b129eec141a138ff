"""The function of a deploy build's file that makes its weights from those of the network as it was trained.

Weights that are made alike in several places, such as the blocks of a network, are made in one loop over the places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from archc.backend.layout import lay_out
from archc.backend.operand import ATOM, PRODUCT, SUM, UNARY, Operand
from archc.backend.python import identifier, literal, quoted
from archc.deploy.fold import Deployed
from archc.deploy.rewrite import Mixed, Recipe, Shifted, Vector
from archc.deploy.roles import Weighted
from archc.deploy.terms import ONE, ZERO, Arithmetic, Key, Made, Number, Term, keys
from archc.ir.sym import plain
from archc.ir.types import TensorType
from archc.weights.keys import state_dict

NAME = "fold_weights"
_BINDING = {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT}
_TURN = re.compile(r"(.*\b)(\d+)(\.\D*)")  # a place within the last loop around it

Places = tuple[str, ...]  # prefixes of keys
Shapes = Mapping[str, tuple[int, ...]]


def fold_function(deployed: Deployed, model: str) -> list[str]:
    """`fold_weights(trained)`, from the state dict of the trained network to that of the class `model`."""
    shapes = {key: weight.shape for key, weight in state_dict(deployed.trained).items()}
    before, behind = deployed.trained.name, deployed.program.name
    head = f"def {NAME}(trained: Mapping[str, Tensor]) -> dict[str, Tensor]:"
    if list(shapes) == list(state_dict(deployed.program)) and not deployed.recipes:
        doc = f'    """The state dict of `{behind}` from that of `{before}`: nothing is folded."""'
        return [head, doc, "    return dict(trained)"]
    keys_wanted = ['    with torch.device("meta"):', f"        wanted = {model}().state_dict()"]
    if not deployed.recipes:
        doc = f'    """The state dict of `{behind}` from that of `{before}`: some of its tensors."""'
        return [head, doc, *keys_wanted, "    return {key: trained[key] for key in wanted}"]
    lines = [
        head,
        f'    """The state dict of `{behind}` from that of `{before}`, folded in float64."""',
        *lay_out(4, "dtype = next(t.dtype for t in trained.values() if t.is_floating_point())"),
        *lay_out(4, "w = {key: tensor.double() for key, tensor in trained.items()}"),
        "    folded = dict(trained)",
    ]
    for places, recipes in _alike(deployed.recipes).items():
        several = len(places) > 1
        if several:
            lines += lay_out(4, f"for at in {_listed(places)}:")
        for row in _Text(shapes, places[0], several).rows(recipes):
            lines += lay_out(8 if several else 4, row)
    return [
        *lines,
        *keys_wanted,
        "    made = {key: folded[key] for key in wanted}",
        *lay_out(4, "return {k: t.to(dtype) if t.is_floating_point() else t for k, t in made.items()}"),
    ]


# ---- what is alike in several places


def _alike(recipes: Mapping[str, Recipe]) -> dict[Places, list[tuple[str, Recipe]]]:
    """Recipes with keys relative to their places, by the places where they are the same."""
    forms: dict[tuple[str, Recipe], list[str]] = {}
    for target, recipe in recipes.items():
        place = _common((target, *_reads(recipe)))
        forms.setdefault((target[len(place) :], _rekeyed(recipe, len(place))), []).append(place)
    groups: dict[Places, list[tuple[str, Recipe]]] = {}
    for form, places in forms.items():
        groups.setdefault(tuple(places), []).append(form)
    return groups


def _common(names: Sequence[str]) -> str:
    """The longest prefix of whole levels that all keys have."""
    levels = [name.split(".")[:-1] for name in names]
    count = 0
    while all(len(one) > count and one[count] == levels[0][count] for one in levels):
        count += 1
    return "".join(f"{level}." for level in levels[0][:count])


def _terms(recipe: Recipe) -> tuple[Term, ...]:
    match recipe:
        case Vector(term):
            return (term,)
        case Mixed(before=before, behind=behind):
            return before, behind
        case Shifted(before=before, behind=behind, shift=shift):
            return before, behind, shift


def _reads(recipe: Recipe) -> Iterator[str]:
    """The keys that a recipe reads."""
    match recipe:
        case Mixed(key=key):
            yield key
        case Shifted(key=key, weight=weight, before=before):
            yield from (key,) if key is not None else ()
            yield from (weight,) if before != ZERO else ()
        case Vector():
            pass
    for term in _terms(recipe):
        yield from keys(term)


def _rekeyed(recipe: Recipe, cut: int) -> Recipe:
    """The recipe with keys that lack their first `cut` letters."""

    def go(term: Term) -> Term:
        match term:
            case Key(key):
                return Key(key[cut:])
            case Arithmetic(symbol, left, right):
                return Arithmetic(symbol, go(left), go(right))
            case Made(op, sides, types):
                return Made(op, tuple(map(go, sides)), tuple(map(_unsized, types)))
            case _:
                return term

    match recipe:
        case Vector(term):
            return Vector(go(term))
        case Mixed(key, role, before, behind):
            whole = before == ONE and role.out == 0
            return Mixed(key[cut:], _plain(role, whole), go(before), go(behind))
        case Shifted(key, weight, role, before, behind, shift):
            bias, whole = None if key is None else key[cut:], before == ZERO
            return Shifted(bias, weight[cut:], _plain(role, whole), go(before), go(behind), go(shift))


def _unsized(kind: TensorType) -> TensorType:
    """The type without its sizes, which the text does not tell."""
    return kind.resized(**dict.fromkeys(kind.names, 1))


def _plain(role: Weighted, whole: bool) -> Weighted:
    """The role without what the text does not tell, as operations differ from place to place: also without its groups
    where only axis 0 of the weight is looked at, which holds them all."""
    return replace(role, biased=None, padded=False, groups=1 if whole else role.groups)


def _listed(places: Places) -> str:
    """The places as an iterable, those that are numbered one after another by their range."""
    runs: list[list[tuple[str, str, int, str]]] = []
    for place in places:
        found = _TURN.fullmatch(place)
        head, number, tail = (found[1], int(found[2]), found[3]) if found else (place, -1, "")
        last = runs[-1][-1] if runs else None
        if found and last is not None and (last[1], last[2] + 1, last[3]) == (head, number, tail):
            runs[-1].append((place, head, number, tail))
        else:
            runs.append([(place, head, number, tail)])
    texts: list[str] = []
    for run in runs:
        if len(run) < 3:
            texts += [quoted(place) for place, *_ in run]
            continue
        (_, head, first, tail), last = run[0], run[-1][2]
        span = f"{first}, {last + 1}" if first else f"{last + 1}"
        texts.append(f'*(f"{head}{{i}}{tail}" for i in range({span}))')
    if len(texts) == 1 and texts[0].startswith("*"):
        return texts[0][1:]
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


# ---- the text of one place


class _Text:
    """Writes recipes with keys relative to `place` as statements; terms that several of them read get names. Where it is
    one of `several` places, `at` holds the place."""

    def __init__(self, shapes: Shapes, place: str, several: bool) -> None:
        self.shapes, self.place, self.several = shapes, place, several
        self.counts: Counter[Term] = Counter()
        self.names: dict[Term, str] = {}
        self.made: list[str] = []

    def rows(self, recipes: Sequence[tuple[str, Recipe]]) -> list[str]:
        for _, recipe in recipes:
            for term in _terms(recipe):
                self._count(term)
        for target, recipe in recipes:
            self._row(target, recipe)
        return self.made

    def _count(self, term: Term) -> None:
        self.counts[term] += 1
        if isinstance(term, Arithmetic) and self.counts[term] == 1:
            self._count(term.left)
            self._count(term.right)

    def _row(self, target: str, recipe: Recipe) -> None:
        match recipe:
            case Vector(term):
                text = self.term(term)[0]
            case Mixed():
                text = self._mixed(recipe)
            case Shifted():
                text = self._shifted(recipe)
        self.made.append(f"folded[{self._key(target)}] = {text}")

    def _mixed(self, recipe: Mixed) -> str:
        """The weight, times what is in front of its channels."""
        role, rank = recipe.role, len(self.shapes[self.place + recipe.key])
        text = self._weight(recipe.key, role)
        if recipe.behind != ONE:
            text += f" * {self._along(recipe.behind, role, role.out, rank)}"
        if recipe.before != ONE and role.inner is not None:
            text += f" * {self._along(recipe.before, role, role.inner, rank)}"
        return text if role.groups == 1 else f"({text}).flatten(0, 1)"

    def _shifted(self, recipe: Shifted) -> str:
        role, rank = recipe.role, len(self.shapes[self.place + recipe.weight])
        parts = [] if recipe.key is None else [f"w[{self._key(recipe.key)}]"]
        if recipe.before != ZERO and role.inner is not None:
            product = f"{self._weight(recipe.weight, role)} * {self._along(recipe.before, role, role.inner, rank)}"
            first = 0 if role.groups == 1 else 1  # behind the axis of the groups
            over = [axis + first for axis in range(rank) if axis != role.out]
            parts.append(f"({product}).sum({tuple(over) if len(over) > 1 else over[0]}){'.flatten()' * first}")
        text = " + ".join(parts)
        if recipe.behind != ONE and parts:
            inner = text if len(parts) == 1 else f"({text})"
            text = f"{inner} * {self.term(recipe.behind)[0] if self._bare(recipe.behind) else self._inside(recipe.behind)}"
        if recipe.shift != ZERO:
            text = f"{text} + {self.term(recipe.shift)[0]}" if text else self.term(recipe.shift)[0]
        if recipe.key is None and not self._is_vector(recipe):
            text = f"({text}).expand(w[{self._key(recipe.weight)}].shape[0])"
        return text

    def _bare(self, term: Term) -> bool:
        return self.term(term)[1] > PRODUCT

    def _inside(self, term: Term) -> str:
        return f"({self.term(term)[0]})"

    def _is_vector(self, recipe: Shifted) -> bool:
        """Whether there is a number for each channel in what a new bias is made of."""
        read = (*keys(recipe.shift), *(keys(recipe.behind) if recipe.before != ZERO else ()))
        return recipe.before != ZERO or any(len(self.shapes[self.place + key]) for key in read)

    def _weight(self, key: str, role: Weighted) -> str:
        text = f"w[{self._key(key)}]"
        return text if role.groups == 1 else f"{text}.unflatten(0, ({role.groups}, -1))"

    def _along(self, term: Term, role: Weighted, axis: int, rank: int) -> str:
        """A term so that it meets an axis of a weight."""
        text, binding = self.term(term)
        if not any(True for _ in keys(term)):
            return text if binding > PRODUCT else f"({text})"
        shape = ["-1" if at == axis else "1" for at in range(rank)]
        if role.groups > 1:
            shape = [f"{role.groups}", *shape]
        while len(shape) > 1 and shape[0] == "1":
            shape = shape[1:]
        if shape == ["-1"]:
            return text if binding > PRODUCT else f"({text})"
        return f"{text if binding == ATOM else f'({text})'}.reshape({', '.join(shape)})"

    def _key(self, key: str) -> str:
        return f'f"{{at}}{key}"' if self.several else quoted(self.place + key)

    # ---- terms

    def term(self, term: Term) -> tuple[str, int]:
        """A term and how tightly it binds; the name of one that is read several times."""
        if term in self.names:
            return self.names[term], ATOM
        text, binding = self._written(term)
        if self.counts[term] > 1 and isinstance(term, (Arithmetic, Made)):
            self.names[term] = name = self._name(term)
            self.made.append(f"{name} = {text}")
            return name, ATOM
        return text, binding

    def _name(self, term: Term) -> str:
        read = list(keys(term))
        owner, _, leaf = read[0].rpartition(".") if read else ("", "", "factor")
        part = "shift" if any(key.rpartition(".")[2] in ("bias", "running_mean") for key in read) else "scale"
        if isinstance(term, Arithmetic) and term.symbol == "**":
            part = "deviation"
        base = identifier(f"{owner.rpartition('.')[2] or leaf}_{part}")
        names = (base if n == 1 else f"{base}_{n}" for n in range(1, len(self.names) + 2))
        return next(name for name in names if name not in self.names.values())

    def _written(self, term: Term) -> tuple[str, int]:
        match term:
            case Number(number):
                return literal(number), ATOM if number >= 0 else UNARY
            case Key(key):
                return f"w[{self._key(key)}]", ATOM
            case Arithmetic("**", left, _):
                text, binding = self.term(left)
                return f"{text if binding == ATOM else f'({text})'}.sqrt()", ATOM
            case Arithmetic("-", left, right) if left == ZERO:
                text, binding = self.term(right)
                return f"-{text if binding >= PRODUCT else f'({text})'}", min(UNARY, binding)
            case Arithmetic(symbol, left, right):
                level = _BINDING[symbol]
                (a, one), (b, other) = self.term(left), self.term(right)
                a = a if one >= level else f"({a})"
                return f"{a} {symbol} {b if other > level else f'({b})'}", level
            case Made(op, sides, types):
                given = []
                for side, kind in zip(sides, types, strict=True):
                    text, binding = self.term(side)
                    given.append(Operand(text, kind, kind.names, binding))
                made = op.torch(_Code(), *given)
                return made.text, made.binding
        raise AssertionError(term)


class _Code:
    """What operations without weights ask while they are written; numbers are those of this build."""

    functional = False

    def number(self, value: Any) -> str:
        return literal(plain(value) if hasattr(value, "value") else value.size.constant)


