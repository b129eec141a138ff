"""Random models that rebind, alias, loop, branch and share: what the order of statements may break."""

from __future__ import annotations

import random

HEAD = """
block mixed(x: [B, C, N]) { return x + (x |> norm: layer_norm |> conv: conv(C, 3) |> gelu) }
block two(x: [B, C, N], y: [B, C, N], k: int) {
    param scale: [C] = 0.5
    a = x |> fc: linear(C)
    if k > 1 { a = (a * y) |> gate: linear(C) }
    b = y |> last: linear(C)
    return a + y * scale, b
}
block thin(x: [B, C, N]) { return x |> _: linear(C) }
"""


class Author:
    """Writes one model, keeping note of the names that nothing has read yet."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.labels = 0
        self.names = ["x", "y"]
        self.unread: set[str] = set()

    def read(self) -> str:
        """A name to read, those that nobody has read first."""
        waiting = sorted(self.unread)
        name = self.random.choice(waiting) if waiting and self.random.random() < 0.6 else self.random.choice(self.names)
        self.unread.discard(name)
        return name

    def bind(self) -> str:
        """A name to bind: new, or one whose value has been read."""
        free = [n for n in ("a", "b", "c", "x", "y", "z") if n not in self.unread]
        name = self.random.choice(free) if free else f"v{len(self.names)}"
        if name not in self.names:
            self.names.append(name)
        return name

    def label(self) -> str:
        """A label of its own, or the name of a tensor where that is free."""
        self.labels += 1
        return f"l{self.labels}"

    def expression(self, depth: int = 0) -> str:
        kind = self.random.randrange(9)
        if kind == 0:
            return f"({self.read()} |> {self.label()}: linear(4))"
        if kind == 1:
            return f"({self.read()} |> {self.label()}: conv(4, 3))"
        if kind == 2:
            return f"({self.read()} |> {self.label()}: layer_norm)"
        if kind == 3:
            return f"tanh({self.read()})"
        if kind == 4 and depth < 2:
            return f"({self.expression(depth + 1)} + {self.expression(depth + 1)})"
        if kind == 5 and depth < 2:
            return f"({self.expression(depth + 1)} * ({self.read()} |> mean(N)))"
        if kind == 6:
            return f"({self.read()} |> {self.label()}: {self.random.choice(['mixed', 'thin'])})"
        if kind == 7:
            return f"({self.read()} |> shared)"
        return f"({self.read()} * 0.5)"

    def add(self, indent: int, line: str) -> None:
        self.lines.append("    " * indent + line)

    def statements(self, count: int, indent: int, loops: int) -> None:
        for _ in range(count):
            self.statement(indent, loops)

    def statement(self, indent: int, loops: int) -> None:
        kind = self.random.randrange(12)
        if kind in (0, 1, 2):
            text = self.expression()
            name = self.bind()
            self.add(indent, f"{name} = {text}")
            self.unread.add(name)
        elif kind == 3:  # another name for the same tensor
            text, name = self.read(), self.bind()
            self.add(indent, f"{name} = {text}")
            self.unread.add(name)
        elif kind == 4:
            name, other = self.read(), self.expression()
            self.add(indent, f"{name} += {other}")
            self.unread.add(name)
        elif kind == 5:
            a, b = self.random.sample(self.names, 2)
            self.add(indent, f"{a}, {b} = {b}, {a}")
        elif kind == 6:
            text = self.read()
            self.add(indent, f"p, q = {text} |> split(2, C)")
            name = self.bind()
            self.add(indent, f"{name} = cat([q, p * 2], C)")
            self.unread.add(name)
        elif kind == 7:
            one, other = self.read(), self.read()
            a, b = self.random.sample(self.names, 2)
            self.add(
                indent, f"{a}, {b} = two({one}, {other}, {self.random.choice(['1', '2', 'k'])}, )".replace(", )", ")")
            )
            self.lines[-1] = self.lines[-1].replace("two(", f"{self.label()}: two(")
            self.unread |= {a, b}
        elif kind == 8:
            self.branch(indent, loops)
        elif loops < 2:
            self.loop(indent, loops)
        else:
            self.add(indent, f"{self.names[0]} = tanh({self.names[0]})")

    def branch(self, indent: int, loops: int) -> None:
        target = self.read()
        condition = self.random.choice(["k == 1", "k > 1", "N > 3"] if indent == 1 else ["k == 1", "k > 1"])
        plain = condition.startswith("N")
        for word in (f"if {condition} {{", "} else {"):
            self.add(indent, word)
            text = f"{target} * {self.random.choice('23')}" if plain else f"{target} + {self.expression()}"
            self.add(indent + 1, f"{target} = {text}")
        self.add(indent, "}")
        self.unread.add(target)

    def loop(self, indent: int, loops: int) -> None:
        self.labels += 1
        label, count = f"m{self.labels}", self.random.choice(["1", "2", "k + 1"])
        keyword = self.random.choice(["repeat", "repeat", "loop"])
        carried = self.read()
        self.add(indent, f"{label}: {keyword} {count} {{")
        before, known, outside = len(self.lines), list(self.names), set(self.unread)
        self.statements(self.random.randint(0, 2), indent + 1, loops + 1)
        self.add(indent + 1, f"{carried} = {carried} + ({carried} |> {self.label()}: linear(4))")
        # What is bound in the first turn alone is not known behind a loop of no turns: keep to names from outside.
        self.names = [n for n in self.names if n in known]
        self.unread = (self.unread & set(known)) | outside | {carried}
        self.add(indent, "}")
        del before


def random_spec(seed: int) -> str:
    """A model `m` with the variants `one` and `two_`, which differ in the number `k`."""
    author = Author(seed)
    author.statements(author.random.randint(3, 9), 1, 0)
    results = sorted(set(author.names))
    body = "\n".join(author.lines)
    outputs = "\n".join(f"    output out_{name} = {name} * 1.5" for name in results)
    return (
        f"{HEAD}model m(k: int = 1) {{\n    input x: [B, C=4, N]\n    input y: [B, C=4, N]\n"
        f"    module shared = linear(4)\n    once = shared(x)\n{body}\n    output first = once\n{outputs}\n}}\n"
        "one = m()\ntwo_ = m(k=2)\n"
    )
