"""Bugs planted into the kernels of generated modules, and whether the interpreter finds them.

`python tests/kernels/planted.py NETWORK [COUNT]` plants COUNT of them (all, without) into the module of a network, one
after another, and prints a line of JSON for each: caught by what, or survived. `planted.py NETWORK 0 FILE` reads such
lines, and gives what survived to the compiler.

A bug is one small change of the text of a kernel, of a function that kernels call, or of the class that launches them: a
wrong comparison, sign, constant or index, a dropped mask, tail, turn of a loop or statement, a lost conversion.
"""

from __future__ import annotations

import ast
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Bug:
    """`old` in line `line` (from 1) becomes `new`; `where` is the function or class."""

    kind: str
    where: str
    line: int
    start: int
    end: int
    old: str
    new: str

    @property
    def key(self) -> str:
        return f"{self.kind} in {self.where}: {self.old} -> {self.new}"


BOUNDS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
SIGNS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.Div: "*", ast.FloorDiv: "%", ast.Mod: "//"}
LOST = ("to", "float", "flip", "t", "contiguous", "transpose", "permute")


def bugs(text: str) -> list[Bug]:
    """Every bug that can be planted into a module, in the order of its text."""
    found: dict[tuple[int, int, int, str], Bug] = {}
    lines = text.splitlines()
    for node in ast.parse(text).body:
        device = isinstance(node, ast.FunctionDef) and [ast.unparse(d) for d in node.decorator_list] == ["jit"]
        host = isinstance(node, ast.ClassDef) and node.name != "FusedOp" and "FusedOp" in _ancestors(text, node)
        if device or host:
            for kind, place, new in _changes(node, device):
                if place.lineno != place.end_lineno:
                    continue
                old = lines[place.lineno - 1][place.col_offset : place.end_col_offset]
                if old != new:
                    bug = Bug(kind, node.name, place.lineno, place.col_offset, place.end_col_offset or 0, old, new)
                    found.setdefault((bug.line, bug.start, bug.end, new), bug)
    return sorted(found.values(), key=lambda bug: (bug.line, bug.start, bug.new))


def planted(text: str, bug: Bug) -> str:
    lines = text.splitlines(keepends=True)
    line = lines[bug.line - 1]
    lines[bug.line - 1] = line[: bug.start] + bug.new + line[bug.end :]
    return "".join(lines)


def _ancestors(text: str, node: ast.ClassDef) -> set[str]:
    classes = {n.name: n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)}
    found: set[str] = set()
    left = [node.name]
    while left:
        for base in (ast.unparse(b) for b in classes[left.pop()].bases):
            if base not in found:
                found.add(base)
                left += [base] if base in classes else []
    return found


def _changes(owner: ast.AST, device: bool) -> Iterator[tuple[str, Any, str]]:
    """What can be changed, where, and into what."""
    written: set[str] = set()
    # Counted operations are no matter of kernels, and a module gives the arguments of classes itself.
    ignored = {n for f in ast.walk(owner) if isinstance(f, ast.FunctionDef) for n in _within(f)}
    for node in ast.walk(owner):
        if node in ignored:
            continue
        match node:
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in BOUNDS:
                yield "bound", node, f"{ast.unparse(left)} {BOUNDS[type(op)]} {ast.unparse(right)}"
            case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
                yield "mask", node, ast.unparse(left)
                yield "mask", node, ast.unparse(right)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in SIGNS:
                yield "sign", node, f"({ast.unparse(left)} {SIGNS[type(op)]} {ast.unparse(right)})"
            case ast.Constant(value=bool() as value):
                yield "constant", node, str(not value)
            case ast.Constant(value=int() as value):
                yield "constant", node, str(value + 1)
            case ast.Constant(value=float() as value):
                yield "constant", node, repr(value * 1.01 if value else 1.0)
            case ast.Call(func=ast.Attribute(attr="program_id"), args=[ast.Constant(value=int() as axis)]):
                yield "index", node, f"tl.program_id({(axis + 1) % 3})"
            case ast.Call(func=ast.Attribute(attr="cdiv"), args=[a, b]):
                yield "tail", node, f"({ast.unparse(a)}) // ({ast.unparse(b)})"
            case ast.Call(func=ast.Attribute(attr="load"), args=[p, m, _]):
                yield "mask", node, f"tl.load({ast.unparse(p)}, {ast.unparse(m)})"
            case ast.Call(func=ast.Attribute(attr="dot"), args=[a, b, *_], keywords=keywords):
                rest = "".join(f", {k.arg}={ast.unparse(k.value)}" for k in keywords)
                yield "statement", node, f"tl.dot({ast.unparse(a)}, {ast.unparse(b)}{rest})"
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in LOST and not _is(value, "tl", "torch"):
                yield "conversion", node, ast.unparse(value)
            case ast.Call(func=func, args=[a, b, *_]) if isinstance(func, (ast.Subscript, ast.Attribute)) and not device:
                if isinstance(a, ast.Name) and isinstance(b, ast.Name):
                    yield "swap", a, b.id
            case ast.For(iter=ast.Call(func=func, args=args) as call) if ast.unparse(func).endswith("range"):
                said = [ast.unparse(a) for a in args]
                step = said[2] if len(said) == 3 else "1"
                first, last = (said[0], said[1]) if len(said) > 1 else ("0", said[0])
                rest = "".join(f", {k.arg}={ast.unparse(k.value)}" for k in call.keywords)
                yield "loop", call, f"{ast.unparse(func)}({first}, {last} - {step}, {step}{rest})"
                yield "loop", call, f"{ast.unparse(func)}({first} + {step}, {last}, {step}{rest})"
            case ast.Subscript(slice=ast.Tuple(elts=[a, b])) if {ast.unparse(a), ast.unparse(b)} == {":", "None"}:
                yield "index", node, f"({ast.unparse(node.value)})[{ast.unparse(b)}, {ast.unparse(a)}]"
            case ast.Attribute(attr="float32") if device and _is(node.value, "tl"):
                yield "precision", node, "tl.bfloat16"
            case ast.AugAssign() | ast.Expr(value=ast.Call()) if device:
                yield "statement", node, "pass"
            case ast.Assign(targets=[ast.Name(id=name)]) if device:
                if name in written:
                    yield "statement", node, "pass"
                written.add(name)
            case _:
                pass


def _within(function: ast.FunctionDef) -> Iterator[ast.AST]:
    parts = [function] if "flops" in function.name else function.args.defaults
    return (node for part in parts for node in ast.walk(part))


def _is(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names


# ---- judgement


@dataclass(frozen=True)
class Fate:
    """What became of a bug: `caught` is empty where it survived."""

    bug: Bug
    caught: str
    seconds: float


def fates(network: str, count: int | None) -> Iterator[Fate]:
    """Plants `count` bugs (all, without) into a network's module. Its operators run at both of its sizes."""
    import interpreted  # noqa: F401 (before any kernel)
    from planned import NETWORKS, small, with_kernels

    from archc.reference.seeded import seeded_weights
    from archc.trials import fused_calls, loaded, make, random_inputs

    program, contract = small(network)
    text = with_kernels(program, contract)
    weights = seeded_weights(program)
    with loaded(text) as module:
        net = make(module, program)
        net.load_state_dict(weights)
        given = [random_inputs({i.name: i.value for i in program.inputs}, s, program.root) for s in NETWORKS[network][1]]
        tasks = [called for inputs in given for called in fused_calls(module, lambda: net(**inputs))]  # noqa: B023
        tasks.sort(key=lambda called: sum(t.numel() for t in called[1]))
        names = [next(n for n, v in vars(module).items() if v is operator) for operator, _, _ in tasks]
        sound: list[str] = []
        lines = executed(module, lambda: sound.append(_caught(module, names, tasks)))
        assert sound == [""], sound
    every = [bug for bug in bugs(text) if bug.line in lines]
    chosen = every if count is None else random.Random(network).sample(every, min(count, len(every)))
    for bug in chosen:
        start, caught = time.perf_counter(), ""
        try:
            with loaded(planted(text, bug)) as broken:
                caught = _caught(broken, names, tasks)
        except Exception as error:
            caught = f"{type(error).__name__}: {str(error)[:100]}"
        yield Fate(bug, caught, round(time.perf_counter() - start, 2))


def executed(module: Any, run: Callable[[], object]) -> set[int]:
    """The lines of a module that `run` executes, in kernels too. A kernel may have parts for other networks."""
    found: set[int] = set()

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        found.add(frame.f_lineno)
        return trace

    sys.settrace(trace)
    threading.settrace(trace)  # backward passes run in threads of their own
    try:
        run()
    finally:
        sys.settrace(None)
        threading.settrace(None)  # pyright: ignore
    return found


WAYS = {
    "float32": ("float32", False), "float16": ("float16", False), "bfloat16": ("bfloat16", False),
    "autocast": ("bfloat16", True),
}  # fmt: skip


def _caught(broken: Any, names: list[str], tasks: list[Any]) -> str:
    """What is wrong first; empty where nothing is."""
    import torch
    from interpreted import judge

    for way, (dtype, mixed) in WAYS.items():
        for name, (operator, tensors, numbers) in zip(names, tasks, strict=True):
            verdict = judge(operator.torch_path, getattr(broken, name), tensors, numbers, getattr(torch, dtype), mixed)
            if not verdict.error <= verdict.limit:
                return f"{verdict.worst} in {way}"
    return ""


def compiled(network: str, survivors: list[Bug], target: str = "sm_90") -> Iterator[Fate]:
    """Bugs that the interpreter did not find, by the compiler: it refuses them, or a kernel needs or issues 5 % more."""
    from compiled import called, compiling, launch
    from planned import NETWORKS, small, with_kernels
    from resources import KEPT, SLACK, faults

    from archc.trials import loaded

    program, contract = small(network)
    text = with_kernels(program, contract)

    def kernels(text: str) -> dict[str, Any]:
        with compiling(target) as launches, loaded(text) as module:
            for one in called(module, program, NETWORKS[network][1][0]):
                launch(launches, one[0].name, one)
        return {name: asdict(one) for name, one in launches.made.items()}

    right = kernels(text)
    for bug in survivors:
        start, caught = time.perf_counter(), ""
        try:
            wrong = kernels(planted(text, bug))
            more = [w for n in wrong if n in right for w in KEPT if wrong[n][w] > SLACK * right[n][w]]
            worse = len(faults(target, wrong)) > len(faults(target, right))
            caught = f"compiler: more {more[0]}" if more else "compiler: a fault" if worse else ""
        except Exception as error:
            caught = f"compiler: {type(error).__name__}: {str(error)[:80]}"
        yield Fate(bug, caught, round(time.perf_counter() - start, 2))


def main(network: str, count: str = "", survivors: str = "") -> None:
    if survivors:
        rows = [json.loads(line) for line in Path(survivors).read_text().splitlines()]
        made = compiled(network, [Bug(**row["bug"]) for row in rows if not row["caught"]])
    else:
        made = fates(network, int(count) if count else None)
    for fate in made:
        print(json.dumps(asdict(fate) | {"key": fate.bug.key, "network": network}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
