"""Specs from specs: parts exchanged for parts of the same kind, and tokens for what nobody would write.

A spec that parses is changed at a node of its parse tree: what replaces it is a node of the same rule, out of all
seeds, so that most children parse again and reach the stages behind the parser. One that does not parse is changed
token by token.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

from lark import Token, Tree
from lark.exceptions import UnexpectedInput

from archc.diagnostics import ArchError
from archc.source import Source
from archc.syntax.lines import split_statements
from archc.syntax.parse import _parser

TOKENS = re.compile(r'"""|"[^"\n]*"|\w+|\|>|->|//|\*\*|[^\w\s]|\s+')
NUMBERS = """0 1 2 3 7 -1 -7 0.5 1e-9 1e308 1e309 2147483647 2147483648 9223372036854775808 10**10 999999999999999999
999999999999999999999999999999 1000000 65537 1G 1T (1 / 3) (0 * inf) inf (-inf) (1 // 0) true none""".split()
NAMES = """self torch nn F class None print __init__ __class__ forward super type json B C H W N x y _ i range len input
math Tensor Any list int stage state next repeat loop init drop as with when in""".split()
TEXTS = [
    '""', '"C"', '"a b"', r'"\\"', r'"\""', r'"\n"', '"{{x}}"', '"{% x %}"', "\"'''\"", r'"\N{DASH}"', '"\u2028"', '"é"',
    '"%s{0}"', '"C=(a b) -> b a"', '"()"', '"C=("',
]  # fmt: skip
ODDITIES = ["\0", "\r", "\f", "\t", "\u2028", "\ufeff", "\u202e", "\u0301", "\ud7ff", "\U0001f600", "é", "'", "\\", ";"]


def mutate(text: str, seed: int, seeds: tuple[str, ...]) -> str:
    """A child of `text`; `seeds` are the specs that lend their parts."""
    dice = random.Random(seed)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        nodes = parts(text)
        text = _exchange(text, nodes, dice, seeds) if nodes and dice.random() < 0.7 else _token(text, dice)
    return text


def parts(text: str) -> list[tuple[str, int, int]]:
    """Rule or terminal, start and end of every node of a text that parses; nothing for another."""
    try:
        tree = _parser().parse(split_statements(Source("seed", text)).text)
    except (ArchError, UnexpectedInput):
        return []
    return list(_nodes(tree))


def _nodes(tree: Tree[Any]) -> Iterator[tuple[str, int, int]]:
    for child in tree.children:
        if isinstance(child, Token):
            if child.start_pos is not None and child.end_pos is not None:
                yield child.type, child.start_pos, child.end_pos
        elif not child.meta.empty:
            yield str(child.data), child.meta.start_pos, child.meta.end_pos
            yield from _nodes(child)


@cache
def _pool(seeds: tuple[str, ...]) -> dict[str, list[str]]:
    pool: dict[str, set[str]] = defaultdict(set)
    for text in seeds:
        for kind, start, end in parts(text):
            pool[kind].add(text[start:end])
    return {kind: sorted(texts) for kind, texts in pool.items()}


def _exchange(text: str, nodes: list[tuple[str, int, int]], dice: random.Random, seeds: tuple[str, ...]) -> str:
    kind, start, end = dice.choice(nodes)
    pool = _pool(seeds)
    odd = {"NUMBER": NUMBERS, "NAME": NAMES, "STRING": TEXTS}.get(kind)
    same = [text[a:b] for other, a, b in nodes if other == kind]
    if odd and dice.random() < 0.3:
        new = dice.choice(odd)
    elif dice.random() < 0.4:
        new = dice.choice(same)
    elif dice.random() < 0.1:
        new = f"{text[start:end]} {text[start:end]}"
    elif dice.random() < 0.1:
        new = ""
    else:
        new = dice.choice(pool.get(kind, same))
    return text[:start] + new + text[end:]


def _token(text: str, dice: random.Random) -> str:
    found = list(TOKENS.finditer(text))
    if not found:
        return dice.choice(NAMES)
    start, end = dice.choice(found).span()
    new = dice.choice((
        "", dice.choice(ODDITIES), dice.choice(NUMBERS), dice.choice(NAMES), dice.choice(found).group(),
        text[start:end] * 2, dice.choice(["(", ")", "[", "]", "{", "}", "|>", ":", "=", ",", '"', '"""', "#", "\n"]),
    ))  # fmt: skip
    return text[:start] + new + text[end:]
