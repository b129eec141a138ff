"""How many instructions a compiled kernel issues, told from its machine code and the trip counts of its loops.

The machine code is split at its loops, and every loop weighs as much as it turns. Trip counts come from the
bounds of the same loops in Triton's own representation, evaluated at the arguments of a launch and, where they depend
on it, for a program in the middle of the grid. It is a lower bound of the time, which knows no latency and no cache;
but it is the same in every run, so that a kernel that became slower shows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Instructions:
    """`counts` by opcode, weighted by how often each runs; `static` unweighted. `loops`: all, and those with a trip count."""

    counts: Counter[str]
    static: Counter[str]
    loops: tuple[int, int]

    @property
    def slots(self) -> float:
        """How many instructions one thread issues."""
        return sum(self.counts.values())


# ---- loops of Triton's representation

_STEPS: dict[str, Callable[..., int]] = {
    "addi": lambda a, b: a + b,
    "subi": lambda a, b: a - b,
    "muli": lambda a, b: a * b,
    "divsi": lambda a, b: int(a / b),
    "divui": lambda a, b: a // b,
    "remsi": lambda a, b: a - b * int(a / b),
    "remui": lambda a, b: a % b,
    "minsi": min,
    "minui": min,
    "maxsi": max,
    "maxui": max,
    "ceildivsi": lambda a, b: -(-a // b),
    "extsi": lambda a: a,
    "extui": lambda a: a,
    "trunci": lambda a: a,
    "index_cast": lambda a: a,
    "select": lambda c, a, b: a if c else b,
    "andi": lambda a, b: a & b,
    "shrsi": lambda a, b: a >> b,
    "shli": lambda a, b: a << b,
}
_COMPARE: dict[str, Callable[[int, int], int]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "slt": lambda a, b: a < b,
    "sle": lambda a, b: a <= b,
    "sgt": lambda a, b: a > b,
    "sge": lambda a, b: a >= b,
}


@dataclass(frozen=True)
class Loop:
    """`turns` is None where the bounds depend on what lies in memory. `fixed`: the bounds are compile-time constants."""

    turns: int | None
    fixed: bool


def loops(ttir: str, arguments: Mapping[str, int], grid: Sequence[int]) -> list[Loop]:
    """The loops of a kernel in the order of the text, outer ones first."""
    known = {name: int(value) for name, value in arguments.items()}
    constant: set[str] = set()
    found = []
    body = ttir[ttir.index("tt.func public") :]
    for line in body.splitlines():
        made = re.match(r"\s*(%[\w#:]+) = ([\w.]+)(.*)", line)
        if made and made[2] == "scf.for":
            bounds = re.search(r"%([\w#]+) = (%[\w#]+) to (%[\w#]+) step (%[\w#]+)", made[3])
        else:
            bounds = re.match(r"\s*scf\.for %([\w#]+) = (%[\w#]+) to (%[\w#]+) step (%[\w#]+)", line)
        if bounds:
            ends = [known.get(name[1:]) for name in bounds.groups()[1:]]
            turns = None
            if None not in ends:
                first, last, step = (e for e in ends if e is not None)
                turns = max(0, -(-(last - first) // step))
                known[bounds[1]] = first + (turns // 2) * step
            found.append(Loop(turns, all(name[1:] in constant for name in bounds.groups()[1:])))
        elif re.match(r"\s*(?:%[\w#:]+ = )?scf\.while", line):
            found.append(Loop(None, False))
        elif made:
            name, operation, rest = made[1][1:], made[2], made[3]
            words = [w[1:] for w in re.findall(r"%[\w#]+", rest.split(" : ")[0])]
            if operation == "arith.constant" and (number := re.match(r" (-?\d+|true|false)\b", rest)):
                known[name] = {"true": 1, "false": 0}.get(number[1]) if number[1].isalpha() else int(number[1])  # type: ignore[assignment]
                constant.add(name)
            elif operation in ("tt.get_program_id", "tt.get_num_programs"):
                size = grid["xyz".index(rest.split()[0])]
                known[name] = size if operation.endswith("programs") else (size - 1) // 2
            elif operation == "arith.cmpi" and all(w in known for w in words):
                rule = _COMPARE.get(rest.split(",")[0].strip())
                if rule is not None:
                    known[name] = int(rule(*(known[w] for w in words)))
            elif operation.startswith("arith.") and all(w in known for w in words) and "tensor<" not in rest:
                rule = _STEPS.get(operation.removeprefix("arith."))
                if rule is not None:
                    known[name] = rule(*(known[w] for w in words))
    return found


# ---- machine code


@dataclass(frozen=True)
class Instruction:
    """`target` is the label that it may jump to; `passes` whether the next instruction may be next."""

    name: str
    target: str | None = None
    passes: bool = True


Code = tuple[list[Instruction], dict[str, int]]
"""The instructions, and where labels stand."""


def nvidia(sass: str) -> Code:
    """The text of `nvdisasm -c`."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif made := re.match(r"\s+/\*[0-9a-f]+\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)\s*(.*?);", line):
            jump = made[2].startswith("BRA")
            target = re.search(r"\.L_x_\d+", made[3]) if jump else None
            always = not made[1] and not re.match(r"!?U?P", made[3]) and (jump or made[2].startswith(("EXIT", "RET")))
            code.append(Instruction(made[2], target[0] if target else None, not always))
    return code, labels


def amd(text: str) -> Code:
    """The text of an amdgcn file."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := re.match(r"(\.LBB\w+):", line):
            labels[label[1]] = len(code)
        elif made := re.match(r"\t([a-z]\w+)(?:\s+(.*))?$", line.split(";")[0].rstrip()):
            target = re.search(r"\.LBB\w+", made[2] or "") if made[1].startswith(("s_cbranch", "s_branch")) else None
            code.append(Instruction(made[1], target[0] if target else None, made[1] not in ("s_branch", "s_endpgm")))
            if made[1] == "s_endpgm":
                break
    return code, labels


Stretches = list[tuple[int, int]]


def natural_loops(code: Code) -> tuple[Stretches, list[Stretches]]:
    """The stretches of instructions that can be reached, and those of each loop, outer ones first."""
    instructions, labels = code
    starts = {0, *(at for at in labels.values() if at < len(instructions))}
    starts |= {at + 1 for at, i in enumerate(instructions) if (i.target or not i.passes) and at + 1 < len(instructions)}
    blocks = sorted(starts)
    ends = [*blocks[1:], len(instructions)]
    place = {start: number for number, start in enumerate(blocks)}
    after: list[list[int]] = []
    for end in ends:
        last = instructions[end - 1]
        onward = [place[end]] if last.passes and end in place else []
        jump = place.get(labels.get(last.target, -1)) if last.target else None
        after.append(onward + ([] if jump is None else [jump]))
    order: list[int] = []  # reverse post-order
    seen: set[int] = set()
    stack = [(0, iter(after[0]))]
    seen.add(0)
    while stack:
        block, left = stack[-1]
        following = next((b for b in left if b not in seen), None)
        if following is None:
            order.append(block)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(after[following])))
    order.reverse()
    before: dict[int, list[int]] = {b: [] for b in order}
    for block in order:
        for following in after[block]:
            before[following].append(block)
    dominators = {b: set(order) for b in order} | {0: {0}}
    changed = True
    while changed:
        changed = False
        for block in order[1:]:
            new = {block} | set.intersection(*(dominators[b] for b in before[block]))
            changed |= new != dominators[block]
            dominators[block] = new
    bodies: dict[int, set[int]] = {}
    for block in order:
        for head in after[block]:
            if head in dominators[block]:
                body = bodies.setdefault(head, {head})
                left = [block]
                while left:
                    one = left.pop()
                    if one not in body:
                        body.add(one)
                        left += before[one]
    reached = [(blocks[b], ends[b]) for b in order]
    return reached, [[(blocks[b], ends[b]) for b in bodies[head]] for head in order if head in bodies]


def weigh(code: Code, written: Sequence[Loop]) -> Instructions:
    """Loops of the machine code are those of the kernel's text, in the same order, but for those that are unrolled."""
    instructions, _ = code
    reached, found = natural_loops(code)
    left = list(written)
    while len(left) > len(found) and any(loop.fixed for loop in left):
        # The innermost ones of constant bounds are unrolled first.
        left.pop(max(at for at, loop in enumerate(left) if loop.fixed))
    weights = [0.0] * len(instructions)
    for start, end in reached:
        weights[start:end] = [1.0] * (end - start)
    known = 0
    if len(left) == len(found):
        for stretches, loop in zip(found, left, strict=True):
            known += loop.turns is not None
            for start, end in stretches:
                for at in range(start, end):
                    weights[at] *= 1 if loop.turns is None else loop.turns
    counts: Counter[str] = Counter()
    for one, weight in zip(instructions, weights, strict=True):
        counts[one.name] += weight  # type: ignore[assignment]
    return Instructions(counts, Counter(one.name for one in instructions), (len(found), known))
