"""Random statements of the shapes that generated modules have, each on one line."""

from __future__ import annotations

import ast
import random

NAMES = (
    "x y w qkv gate self self.dim self.norm1 torch size_h image channels self.training drop_path_rate "
    "running_mean q.shape heads decay self.running_var torch.float32 very_long_variable_name"
).split()
METHODS = "permute flatten transpose unflatten sum masked_fill chunk softmax to squeeze".split()
FUNCTIONS = (
    "torch.cat F.gelu run pair nn.Linear self.attn window_partition torch.nn.functional.scaled_dot_product f"
).split()
STRINGS = ['"bicubic"', '"archc::recur"', '"it needs H: any size with H mod 224 in"', '"..."']
FORMATTED = 'f"got {image.shape[2]} for a very long message of this {kind}"'
OPERATORS = [("or", 1), ("and", 2), ("==", 4), ("<", 4), ("in", 4), ("not in", 4), ("is not", 4), ("|", 5)]
OPERATORS += [("<<", 8), ("+", 9), ("-", 9), ("+", 9), ("*", 10), ("/", 10), ("//", 10), ("@", 10), ("%", 10)]
OPERATORS += [("&", 7), ("*", 10), ("**", 12)]
KINDS = ["int", "float", "Sequence[int]", "Tensor", "int | Sequence[int]", "tuple[int, ...] | None"]
RESULTS = ["Tensor", "None", "tuple[Tensor, Tensor]", "dict[str, list[Tensor | None]]", "list[float]"]
PARAMETERS = "dim depths over_size drop_path_rate image channels rates".split()


def statements(seed: int, number: int) -> list[tuple[int, str]]:
    """(indentation, text) of statements that parse."""
    made, out = _Random(seed), []
    while len(out) < number:
        text = made.statement()
        if len(text) <= 600 and _parses(text):
            out.append((4 * made.random.randint(0, 4), text))
    return out


def _parses(text: str) -> bool:
    source = text.removeprefix("el")
    try:
        ast.parse(f"{source} pass" if source.endswith(":") else source)
    except SyntaxError:
        return False
    return True


class _Random:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def some(self, *numbers: int) -> int:
        return self.random.choice(numbers)

    # ---- expressions, with how tightly they bind

    def inside(self, depth: int, least: int) -> str:
        text, binding = self.bound(depth)
        return text if binding >= least else f"({text})"

    def expression(self, depth: int) -> str:
        return self.bound(depth)[0]

    def bound(self, depth: int) -> tuple[str, int]:
        if depth <= 0 or self.random.random() < 0.12:
            return self.atom()
        kinds = [self.operation, self.call, self.chain, self.subscript, self.display, self.comprehension,
                 self.conditional, self.unary, self.atom]  # fmt: skip
        return self.random.choices(kinds, [27, 20, 16, 6, 13, 6, 6, 6, 2])[0](depth - 1)

    def atom(self, depth: int = 0) -> tuple[str, int]:
        kind = self.random.random()
        if kind < 0.7:
            return self.pick(*NAMES), 20
        if kind < 0.8:
            return self.pick("0", "1", "2", "32", "1e-05", "0.5", "1000"), 20
        if kind < 0.88:
            return self.pick(*STRINGS, FORMATTED), 20
        return self.pick("None", "True", "-1", "x"), 11

    def operation(self, depth: int) -> tuple[str, int]:
        operator, binding = self.random.choice(OPERATORS)
        if binding == 4:
            return f"{self.inside(depth, 5)} {operator} {self.inside(depth, 5)}", 4
        if operator == "**":
            return f"{self.inside(depth, 13)} {operator} {self.inside(depth, 11)}", 12
        parts = [self.inside(depth, binding)]
        for _ in range(self.some(1, 1, 1, 2, 3)):
            parts += [operator, self.inside(depth, binding + 1)]
        return " ".join(parts), binding

    def call(self, depth: int) -> tuple[str, int]:
        return f"{self.pick(*FUNCTIONS)}({self.arguments(depth)})", 20

    def chain(self, depth: int) -> tuple[str, int]:
        head = self.head(depth)
        for _ in range(self.some(0, 1, 1, 2, 3)):
            head += f".{self.pick(*METHODS)}({self.arguments(depth)})"
        return head if head.endswith(")") else f"{head}.shape", 20

    def subscript(self, depth: int) -> tuple[str, int]:
        return f"{self.head(depth)}[{', '.join(self.slice(depth) for _ in range(self.some(1, 1, 2, 3)))}]", 20

    def head(self, depth: int) -> str:
        head = self.inside(depth, 20)
        return "x" if head[0].isdigit() else head

    def display(self, depth: int) -> tuple[str, int]:
        items = [self.expression(depth) for _ in range(self.some(1, 2, 3, 4))]
        kind = self.random.random()
        if kind < 0.4:
            return f"[{', '.join(items)}]", 20
        if kind < 0.8:
            return f"({', '.join(items)}{',' if len(items) == 1 else ''})", 20
        keys = ('"num_chs"', '"reduction"', '"module"', '"stage"')
        return "{" + ", ".join(f"{k}: {v}" for k, v in zip(keys, items, strict=False)) + "}", 20

    def comprehension(self, depth: int) -> tuple[str, int]:
        loop = f" for {self.pick('i', 'i, j', 'name, _')} in {self.inside(depth, 1)}"
        loop += f" if {self.inside(depth, 1)}" if self.random.random() < 0.3 else ""
        if self.random.random() < 0.7:
            return f"[{self.expression(depth)}{loop}]", 20
        return f"{{{self.expression(depth)}: {self.expression(depth)}{loop}}}", 20

    def conditional(self, depth: int) -> tuple[str, int]:
        return f"{self.inside(depth, 1)} if {self.inside(depth, 1)} else {self.expression(depth)}", 0

    def unary(self, depth: int) -> tuple[str, int]:
        operator, binding = self.random.choice([("-", 11), ("-", 11), ("~", 11), ("not ", 3)])
        return f"{operator}{self.inside(depth, 13 if binding == 11 else 3)}", binding

    def arguments(self, depth: int) -> str:
        if self.random.random() < 0.06:
            return f"{self.expression(depth)} for i in {self.inside(depth, 1)}"
        parts = [self.expression(depth) for _ in range(self.some(0, 1, 1, 1, 2, 2, 3, 5))]
        parts += [f"*{self.inside(depth, 20)}"] * (self.random.random() < 0.1)
        names = self.random.sample(["dim", "bias", "eps", "padding"], self.some(0, 0, 0, 1, 2))
        parts += [f"{name}={self.expression(depth)}" for name in names]
        parts += [f"**{self.inside(depth, 20)}"] * (self.random.random() < 0.05)
        return ", ".join(parts)

    def slice(self, depth: int) -> str:
        kind = self.random.random()
        if kind < 0.6:
            return self.expression(depth) if kind < 0.5 else "..."
        return ":".join(self.inside(depth, 1) if self.random.random() < 0.5 else "" for _ in range(2))

    # ---- statements

    def statement(self) -> str:
        value, other = self.expression(self.some(1, 2, 2, 3, 3, 4)), self.expression(2)
        kinds = [
            (30, f"{self.pick('x', 'self.weight', 'multiply', 'relative_position')} = {value}"),
            (18, f"return {value}"),
            (5, f"return {', '.join([other, *(self.expression(1) for _ in range(self.some(1, 2)))])}"),
            (6, f"{self.pick('q, k, v', 'y, _', 'a, self.b')} = {value}"),
            (3, f"x[{self.slice(1)}] = {value}"),
            (3, f"{self.pick('states: list[Tensor]', 'head: nn.Module', 'n: int')} = {value}"),
            (2, f"x {self.pick('+=', '*=')} {value}"),
            (8, f"{self.pick('if', 'if', 'elif', 'while')} {value}:"),
            (5, f"for {self.pick('i', 'i, dim', 'block')} in {value}:"),
            (2, f"raise ValueError({self.arguments(2)})"),
            (2, f"assert {value}, {other}"),
            (7, f"self.blocks.append({value})"),
            (1, value),
            (8, self.function()),
        ]
        return self.random.choices([text for _, text in kinds], [weight for weight, _ in kinds])[0]

    def function(self) -> str:
        parts = ["self"] * (self.random.random() < 0.7)
        names = self.random.sample(PARAMETERS, self.random.randint(0, 6))
        first = self.random.randint(0, len(names))  # from here on with defaults
        for i, name in enumerate(names):
            default = f" = {self.expression(1)}" if i >= first else ""
            parts.append(f"{name}: {self.pick(*KINDS)}{default}")
        parts += ["**overrides: Any"] * (self.random.random() < 0.1)
        name = self.pick("f", "__init__", "forward_features", "reset_classifier")
        return f"def {name}({', '.join(parts)}) -> {self.pick(*RESULTS)}:"
