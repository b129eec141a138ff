"""Holds a program to the claims of its spec: `claim params == 26.6M`, `claim macs(image=224) == 5.0G within
0.01`.

A number is meant to the precision in which it is written: 26.6M is anything that rounds to it, a whole number
without a unit is exact.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from archc.analysis.cost import count, holdings, totals
from archc.analysis.figures import Cost, Row
from archc.analysis.setting import FLOATS
from archc.contract import Contract, solve
from archc.diagnostics import ArchError, Diagnostic, did_you_mean, fail
from archc.ir.program import Program
from archc.records import dataclass
from archc.sizing import USUAL, choose, parse_sizes
from archc.syntax import tree

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_NUMBER = re.compile(r"(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?([kMGT]?)")
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


@dataclass(frozen=True)
class Quantity:
    """A number of a claim.

    `slack`: half a unit of its last written digit. `bound`: it is only known to be at most this.
    """

    value: float
    slack: float = 0.0
    bound: bool = False


def check_claims(program: Program, contract: Contract | None = None, cost: Cost | None = None) -> list[Diagnostic]:
    """A finding for each claim that does not hold (E0501) or cannot be evaluated (E0502).

    `cost` are figures that are known already, for float32.
    """
    judge = _Judge(program, contract, cost)
    found = []
    for claim in program.claims:
        try:
            verdict = judge.holds(claim.condition, claim)
            if verdict is not None:
                found.append(verdict)
        except ArchError as error:
            found += error.diagnostics
    return found


def slack(text: str) -> float:
    """Half a unit of the last digit of a number as it was written; 0 for a whole number without a unit."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return 0.0
    _, decimals, exponent, unit = match.groups()
    if decimals is None and exponent is None and not unit:
        return 0.0
    return 0.5 * UNITS[unit] * 10.0 ** (int(exponent or 0) - len(decimals or ""))


class _Judge:
    """Evaluates claims; counts each set of sizes once."""

    def __init__(self, program: Program, contract: Contract | None, cost: Cost | None) -> None:
        self.program, self._contract = program, contract
        self._costs: dict[Any, Cost] = {} if cost is None else {_request(cost.sizes, {}): cost}

    # ---- conditions

    def holds(self, condition: tree.Expr, claim: tree.Claim) -> Diagnostic | None:
        """None where the condition holds, else what is wrong. Raises ArchError E0502."""
        match condition:
            case tree.Paren(expr=inner):
                return self.holds(inner, claim)
            case tree.Binary(op="and", left=left, right=right):
                return self.holds(left, claim) or self.holds(right, claim)
            case tree.Binary(op="or", left=left, right=right):
                first = self.holds(left, claim)
                return first and self.holds(right, claim)
            case tree.Unary(op="not", operand=operand):
                if self.holds(operand, claim) is None:
                    return Diagnostic(
                        "E0501", "a claim does not hold", condition.span, f"`{operand.span.text}` is true"
                    )
                return None
            case tree.Compare(ops=ops, operands=operands):
                within = self.number(claim.within).value if claim.within is not None else None
                for op, left, right in zip(ops, operands, operands[1:], strict=False):
                    wrong = self.compare(op, left, right, within, condition)
                    if wrong is not None:
                        return wrong
                return None
            case tree.Call(function=tree.Name(name="admits")):
                given = self.given(condition)
                try:
                    self.chosen(given)
                except ArchError as error:
                    (finding,) = error.diagnostics
                    notes = (finding.label, *finding.notes) if finding.label else finding.notes
                    return Diagnostic(
                        "E0501",
                        "a claim does not hold",
                        condition.span,
                        "these sizes are refused",
                        notes=notes,
                    )
                return None
        raise fail("E0502", "a claim compares figures", condition.span,
                   helps=("write `claim params == 26.6M` or `claim admits(image=224)`",))  # fmt: skip

    def compare(
        self, op: str, left: tree.Expr, right: tree.Expr, within: float | None, whole: tree.Expr
    ) -> Diagnostic | None:
        a, b = self.number(left), self.number(right)
        room = within * abs(b.value) if within is not None else a.slack + b.slack
        gap = a.value - b.value
        if op in ("==", "!="):
            # Rounding puts a half up or down: both are what the author may have seen.
            near = a.value == b.value or abs(gap) <= room * (1 + 1e-12)
            true = near == (op == "==")
        else:
            true = OPERATORS[op](a.value, b.value)
        for quantity, side, proves in ((a, left, ("<", "<=")), (b, right, (">", ">="))):
            if quantity.bound and not (true and op in proves):
                said = f"`{side.span.text}` is only known to be at most {shown(quantity.value)}"
                raise fail("E0502", said, whole.span, helps=("claim an upper bound: `<=`",))
        if true:
            return None
        known = [(e, q) for e, q in ((left, a), (right, b)) if not isinstance(e, tree.Number)]
        computed = ", ".join(f"{e.span.text} is {shown(q.value)}" for e, q in known)
        percent = f" ({_share(a.value / b.value)})" if b.value and math.isfinite(gap) else ""
        notes = (f"the difference is {shown(gap)}{percent}",) if math.isfinite(gap) else ()
        if op == "==" and room:
            notes += (f"{right.span.text} allows {shown(b.value - room)} to {shown(b.value + room)}",)
        return Diagnostic(
            "E0501", "a claim does not hold", whole.span, computed, notes=notes, helps=self.confused(left, b, room)
        )

    def confused(self, left: tree.Expr, claimed: Quantity, room: float) -> tuple[str, ...]:
        """Papers that write FLOPs mostly mean multiply-accumulates."""
        other = {"flops": "macs", "macs": "flops"}
        match left:
            case tree.Call(function=tree.Name(name=name)) if name in other:
                value = self.figure(other[name], left, left).value
                if abs(value - claimed.value) <= room:
                    return (
                        f"`{other[name]}` of the same sizes is {shown(value)}: papers that write FLOPs mostly mean MACs",
                    )
        return ()

    # ---- numbers

    def number(self, expr: tree.Expr) -> Quantity:
        """The value of an expression over figures. Raises ArchError E0502."""
        match expr:
            case tree.Paren(expr=inner):
                return self.number(inner)
            case tree.Number(value=value, text=text):
                return Quantity(value, slack(text))
            case tree.Unary(op="-", operand=operand):
                inner_value = self.number(operand)
                return Quantity(-inner_value.value, inner_value.slack)
            case tree.Binary(op=op, left=left, right=right) if op in ARITHMETIC:
                a, b = self.number(left), self.number(right)
                try:
                    return Quantity(ARITHMETIC[op](a.value, b.value), bound=a.bound or b.bound)
                except ZeroDivisionError:
                    raise fail("E0502", "a claim divides by zero", expr.span) from None
                except OverflowError:
                    raise fail("E0502", "a number in a claim is too large", expr.span) from None
            case tree.Name(name=name) if name in KNOWN:
                return self.figure(name, expr, None)
            case tree.Call(function=tree.Name(name=name)) if name in KNOWN:
                return self.figure(name, expr, expr)
        name = expr.name if isinstance(expr, tree.Name) else expr.span.text
        raise fail("E0502", f"`{name}` is no figure that a claim can be about", expr.span,
                   helps=did_you_mean(name, KNOWN) or (f"figures are {', '.join(KNOWN)}",))  # fmt: skip

    def figure(self, name: str, expr: tree.Expr, call: tree.Call | None) -> Quantity:
        options = self.options(call)
        if name in ("params", "buffers"):
            figures = totals(holdings(self.program.root))
            return Quantity(figures.params if name == "params" else figures.buffers)
        free = [s for s in self.program.symbols if s != "B"]
        if free and name != "receptive_field" and (call is None or not call.arguments):
            first = self.program.inputs[0].name
            helps = (f"write `{name}({first}=224)`, or `{name}({free[0]}=224)` for one size",)
            raise fail("E0502", f"`{name}` depends on the sizes of the inputs", expr.span, helps=helps)
        given = self.given(call)
        try:
            sizes = self.chosen(given)
        except ArchError as error:
            (finding,) = error.diagnostics
            notes = (finding.label, *finding.notes) if finding.label else finding.notes
            raise fail("E0502", "the model does not take inputs of these sizes", expr.span, notes=notes) from None
        cost = self.cost(sizes, options)
        if name == "receptive_field":
            return receptive_field(cost, expr)
        return Quantity(FIGURES[name](cost))

    def options(self, call: tree.Call | None) -> dict[str, str]:
        """`convention="fvcore"` and `dtype="float16"`, given as strings."""
        given = {}
        for argument in call.arguments if call is not None else ():
            if isinstance(argument.value, tree.String) and argument.keyword in ("convention", "dtype"):
                given[argument.keyword] = argument.value.value
        return given

    def given(self, call: tree.Expr | None) -> dict[str, int]:
        """The sizes that the arguments of a figure name: of an input, or a symbol. Raises ArchError E0502."""
        texts = []
        for argument in call.arguments if isinstance(call, tree.Call) else ():
            if isinstance(argument.value, tree.String):
                continue
            value = self.number(argument.value).value
            if argument.keyword is None or not math.isfinite(value) or value != int(value):
                raise fail("E0502", "sizes are given as `INPUT=n` or `SYMBOL=n`", argument.span)
            try:
                parse_sizes(self.program, [f"{argument.keyword}={int(value)}"])
            except ArchError as error:
                (finding,) = error.diagnostics
                raise fail("E0502", finding.message, argument.span, helps=finding.helps) from None
            texts.append(f"{argument.keyword}={int(value)}")
        return parse_sizes(self.program, texts)

    def chosen(self, given: dict[str, int]) -> dict[str, int]:
        """A value for every size. Raises ArchError E0902 where the model takes none with the given ones."""
        if self._contract is None:
            self._contract = solve(self.program.symbols, self.program.obligations)
        names = dict.fromkeys((*self.program.symbols, *self._contract.symbols))
        # Each figure stands alone: the sizes of another claim are not its own.
        batch = {name: 1 for name in names if name == "B"}
        sizes = dict.fromkeys(names, USUAL) | batch | given
        return sizes if self._contract.admits(sizes) else choose(self.program, self._contract, batch | given)

    def cost(self, sizes: dict[str, int], options: dict[str, str]) -> Cost:
        key = _request(sizes, options)
        if key not in self._costs:
            try:
                self._costs[key] = count(self.program, sizes, **options)  # type: ignore[arg-type]
            except KeyError as error:
                raise fail("E0502", f"there is no convention called {error}") from None
            except ValueError:
                raise fail("E0502", f"element types are {', '.join(FLOATS)}") from None
        return self._costs[key]


def _request(sizes: Mapping[str, int], options: Mapping[str, str]) -> Any:
    return tuple(sorted(sizes.items())), tuple(sorted(options.items()))


FIGURES: dict[str, Callable[[Cost], float]] = {
    "macs": lambda cost: cost.figures.macs if cost.convention.name == "exact" else cost.reported,
    "flops": lambda cost: cost.figures.flops,
    "weight_bytes": lambda cost: cost.weight_bytes,
    "peak_bytes": lambda cost: cost.figures.peak_bytes,
    "kept_bytes": lambda cost: cost.figures.kept_bytes,
}
KNOWN = ("params", "buffers", *FIGURES, "receptive_field")


def receptive_field(cost: Cost, expr: tree.Expr) -> Quantity:
    """What the last stage sees of the first input, the axis of which it sees least; without stages, the last
    map.

    Raises ArchError E0502 where no result has positions.
    """
    placed = [row for row in _flat(cost.rows) if any(a[0].isupper() and a not in ("B", "C") for a in row.axes)]
    stages = [row for row in placed if row.kind == "stage"]
    chosen = next((row for row in reversed(stages or placed) if row.receptive), None)
    if chosen is None:
        raise fail("E0502", "nothing here has positions that could see the input", expr.span)
    first = chosen.receptive[0].input
    sizes = [e for e in chosen.receptive if e.input == first]
    least = min(sizes, key=lambda e: math.inf if e.size is None else e.size)
    return Quantity(math.inf if least.size is None else least.size, bound=not least.exact)


def _flat(rows: tuple[Row, ...]) -> list[Row]:
    """Rows that follow each other in the model: stages and what stands beside them."""
    return [inner for row in rows for inner in (row, *(_flat(row.children) if row.kind != "stage" else ()))]


def _plainly(ratio: float) -> str:
    """A ratio with two digits that count, and no exponent where it is read at a glance: `2.1`, `2,051`."""
    return f"{ratio:,.0f}" if 100 <= ratio < 1e9 else f"{ratio:.2g}"


def _share(ratio: float) -> str:
    """How a figure stands to what is claimed: `+3.1 %`, or `2.1 times` where it is far from it."""
    return f"{100 * (ratio - 1):+.2g} %" if 0.5 < ratio < 1.5 else f"{_plainly(ratio)} times what is claimed"


def shown(number: float) -> str:
    if math.isnan(number):
        return "no number"
    if math.isinf(number):
        return "all of the input" if number > 0 else "-all of the input"
    return f"{number:,.0f}" if number == int(number) else f"{number:,.4g}"
