"""Say what is wrong where the parser cannot go on, in the words of the language instead of the grammar's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from lark import Lark
from lark.exceptions import UnexpectedInput

from archc.diagnostics import ArchError, Diagnostic, Label, closest_slip
from archc.records import dataclass
from archc.source import Source, Span
from archc.syntax.lines import CLOSERS, SCAN

HARD = frozenset("for repeat loop if else return and or not true false none".split())
ROLES = ("mixer", "block", "stage", "model")
DECLARATIONS = ("param", "buffer", "const", "input", "state")
BINDINGS = ("module", "output", "exit", "next", "loss")
OPERATORS = frozenset("+ - * / // % ** & == != <= >= < > and or if . ( [ |>".split())
# Words with which a statement or a line of a file begins, and all words of the language.
LOOPS = ("for", "repeat", "loop", "stage")
STARTS = (
    *ROLES, *DECLARATIONS, *BINDINGS, *LOOPS, *"from fn return if else entry require init claim matches weights".split(),
)  # fmt: skip
WORDS = (*STARTS, *"import as in with when within and or not list drop true false none".split())
# Operators that bind more tightly than a pipeline.
MIXED = frozenset("+ - * / // % ** == != <= >= < > and or if".split())
CLOSING = frozenset(")]}")
COMPONENT = "a component begins with `mixer`, `block`, `stage` or `model`, a helper of one expression with `fn`"
BINDING = "a name is bound by `name = expression` alone"
# Words of other languages, and what is written instead.
FOREIGN = {
    "def": COMPONENT,
    "class": COMPONENT,
    "function": COMPONENT,
    "func": COMPONENT,
    "elif": "write `} else if condition {`",
    "while": "write `repeat n { }` for new weights each turn, `loop n { }` for the same weights",
    "import": "write `from path import name`",
    "lambda": "write `fn name(parameters) = expression` at the top level, or pass a recipe",
    "assert": 'write `require condition, "message"`',
    "let": BINDING,
    "var": BINDING,
    "val": BINDING,
    "pass": "an empty body is written `{ }`",
    "async": COMPONENT,
    "export": "every component can be imported",
}
# How groups of terminals are called, the most telling first: all of the first set and none of the second.
GROUPS: tuple[tuple[str, set[str], set[str]], ...] = (
    ("a statement", {"BIND", "RETURN"}, set()),
    ("a component, `fn`, `from` or a binding", {"ROLE", "_FROM"}, set()),
    ("a fact (`claim`, `matches`, `weights` or `init`)", {"_CLAIM"}, {"BIND"}),
    ("a loop (`for`, `repeat`, `loop` or `stage`)", {"FOR", "REPEAT", "_STAGE"}, {"BIND"}),
    ("an expression", {"NAME", "NUMBER"}, set()),
    ("a type", {"NAME", "LIST", "LSQB"}, set()),
    ("a name", {"NAME"}, {"NUMBER", "LIST", "BIND", "ROLE"}),
    ("a text in double quotes", {"STRING"}, {"NUMBER"}),
    ("`+=`", {"AUGMENT"}, set()),
    ("the end of the line", {"_NL"}, set()),
)


@dataclass(frozen=True)
class Word:
    text: str
    start: int
    kind: str  # the group of `SCAN` that it is


@dataclass(frozen=True)
class Place:
    """Where parsing stopped.

    `word` does not fit, `before` are the words of its statement before it, `wanted` are the words and kinds
    of words that would have fitted, `opener` is the bracket around it; `at_top` where no body is around it.
    `text` is that of `source` without comments and without newlines that end nothing.
    """

    word: Word
    before: tuple[Word, ...]
    wanted: frozenset[str]
    opener: Word | None
    at_top: bool
    text: str
    source: Source

    @property
    def first(self) -> str:
        return self.before[0].text if self.before else ""

    @property
    def last(self) -> str:
        return self.before[-1].text if self.before else ""

    @property
    def line_ends(self) -> bool:
        return self.word.kind == "newline"


@dataclass(frozen=True)
class Finding:
    """What a rule has recognised; the parts left empty stay as they would be without it."""

    message: str
    helps: tuple[str, ...] = ()
    at: Word | None = None
    label: str = ""
    notes: tuple[str, ...] = ()
    code: str = "E0101"


def explain(source: Source, text: str, error: UnexpectedInput, parser: Lark) -> ArchError:
    """The diagnostic for `error`, which `parser` met in `text`, the source's text without comments."""
    place, expected = _place(source, text, error, parser)
    rule, finding = next(((r, found) for r in _RULES if (found := r(place)) is not None), (None, None))
    word = finding.at if finding and finding.at else place.word
    if word.kind == "newline":
        start = len(text[: word.start].rstrip())
        span = Span(source, max(start - 1, 0), start)
        message = "the line ends too early"
        expected = expected + " after this" if expected else ""
    else:
        message = "unexpected text in quotes" if word.kind == "text" else f"unexpected `{word.text}`"
        span = Span(source, word.start, word.start + len(word.text))
    opened: tuple[Label, ...] = ()
    if place.opener is not None and finding is None:
        start = place.opener.start
        opened = (Label(Span(source, start, start + 1), f"inside this `{place.opener.text}`"),)
    # What these rules see may well be a word of the language with a slip in it.
    slip = _misspelled(place) if rule in (None, _value_unused, _misplaced_label) else None
    if slip is not None:
        meant, helps = slip[0], slip[1]
        span = Span(source, meant.start, meant.start + len(meant.text))
        message = f"`{meant.text}` is not a word of the language"
        return ArchError([Diagnostic("E0101", message, span, "not known here", helps=helps)])
    if finding is not None:
        label = finding.label or expected
        return ArchError([Diagnostic(finding.code, finding.message, span, label, (), finding.notes, finding.helps)])
    notes = (f"`{word.text}` is a word of the language and never a name",) if word.text in HARD else ()
    return ArchError([Diagnostic("E0101", message, span, expected, opened, notes)])


def _place(source: Source, text: str, error: UnexpectedInput, parser: Lark) -> tuple[Place, str]:
    at = error.pos_in_stream if error.pos_in_stream is not None and error.pos_in_stream >= 0 else len(text)
    at = min(at, len(text) - 1)
    words: list[Word] = []
    openers: list[Word] = []
    begin = 0
    for match in SCAN.finditer(text, 0, at):
        word = Word(match.group(), match.start(), match.lastgroup or "")
        if word.kind == "newline" or word.text in "{}":
            begin = len(words) + 1
        if word.kind != "blank":
            words.append(word)
        if word.kind == "mark" and word.text in CLOSERS:
            openers.append(word)
        elif word.kind == "mark" and word.text in ")]}" and openers:
            openers.pop()
    found = SCAN.match(text, at)
    assert found is not None
    word = Word(found.group(), at, found.lastgroup or "")
    if word.text == "}" and begin < len(words):
        end = words[-1].start + len(words[-1].text)
        # No newline is kept before `}`, but what is wrong is that the line before it has ended.
        if "\n" in source.text[end:at]:
            word = Word("\n", end, "newline")
    opener = openers[-1] if openers and openers[-1].text != "{" else None
    interactive: Any = getattr(error, "interactive_parser", None)
    accepted: set[str] = set(interactive.accepts()) if interactive is not None else set()
    spelled = {t.name: str(t.pattern.value) for t in parser.terminals if t.pattern.type == "str"}
    wanted: frozenset[str] = frozenset(spelled.get(name, name) for name in accepted)
    place = Place(word, tuple(words[begin:]), wanted, opener, not openers, text, source)
    return place, _expected(accepted, wanted)


def _expected(accepted: set[str], wanted: Iterable[str]) -> str:
    """`expected ...`: operators are only named where nothing else would fit."""
    # After an expression, `:` could make a label and `=` a keyword of what began it; nobody means that here.
    hidden = OPERATORS | HARD | {"with", "when", "as", "within", "list"}
    hidden |= {":", "="} if "+" in wanted else set()
    groups = [name for name, all_of, none_of in GROUPS if all_of <= accepted and not none_of & accepted]
    marks = sorted(f"`{word}`" for word in wanted if not word[0].isupper() and word[0] != "_")
    plain = [mark for mark in marks if mark[1:-1] not in hidden]
    if "the end of the line" in groups:
        plain = [mark for mark in plain if mark not in ("`}`", "`{`")]
    elif groups:
        plain = [mark for mark in plain if mark in ("`)`", "`]`", "`}`", "`:`", "`=`", "`,`")]
    closers_first = sorted(plain, key=lambda mark: (mark not in ("`)`", "`]`", "`}`"), mark))
    words = groups + closers_first if groups == ["an expression"] else closers_first + groups
    words = words or marks
    if not words:
        return ""
    return "expected " + (", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0])


def _misspelled(place: Place) -> tuple[Word, tuple[str, ...]] | None:
    """A word around the place that is one slip away from a word of the language which would do there."""
    labelled = len(place.before) > 1 and place.before[1].text == ":"
    begins = place.before[2:3] if labelled else place.before[:1]
    # What a statement begins with, what would have fitted at the place, and any word shortly before it.
    wanted = [word for word in place.wanted if word.isalpha()]
    starts = LOOPS if labelled else STARTS
    around = [(place.word, wanted if place.before[2 * labelled :] else starts)]
    for word, fits in (*((w, starts) for w in begins), *around, *((w, WORDS) for w in reversed(place.before[-3:]))):
        if word.kind == "word" and word.text not in WORDS and word.text.isidentifier() and len(word.text) > 1:
            meant = closest_slip(word.text, fits)
            if meant is not None:
                return word, (f"did you mean `{meant}`?",)
    return None


# ---- common mistakes: each rule looks at the place and names the mistake, or gives None


def _foreign(place: Place) -> Finding | None:
    for word in (place.word, *place.before[-1:]):
        begins = word in place.before[:1] or not place.before
        if word.text in FOREIGN and (begins or word.text in ("elif", "lambda")):
            return Finding(
                f"`{word.text}` is not a word of the language", (FOREIGN[word.text],), word, "not known here"
            )
    return None


def _nameless_axis(place: Place) -> Finding | None:
    """`input image: [B, 3, 224, 224]`, `param gamma: [C, 1, 1]`."""
    word = place.word.text
    if place.opener is None or place.opener.text != "[" or not word.isdigit() or "NAME" not in place.wanted:
        return None
    if place.last not in ("[", ",") or ":" not in [w.text for w in place.before]:
        return None
    axes = [axis.strip() for axis in place.text[place.opener.start + 1 :].partition("]")[0].split(",")]
    if word == "1":
        kept = [axis for axis in axes if axis != "1"]
        helps = (f"axes of size 1 are left out, as tensors meet by the names of their axes: `[{', '.join(kept)}]`",)
    else:
        helps = (f"an axis has a name and, behind `=`, its size: `[{', '.join(_named(axes))}]`",)
    return Finding(f"the axis of size {word} has no name", helps, label="a size alone")


def _named(axes: list[str]) -> list[str]:
    """The axes of a type with names for those that are a size alone, as far as their places tell them."""
    usual = {2: "B C", 3: "B N C", 4: "B C H W", 5: "B C T H W"}.get(len(axes), "").split()
    named = [f"{name}={axis}" if axis.isdigit() else axis for name, axis in zip(usual, axes, strict=False)]
    names = [axis.partition("=")[0] for axis in named]
    return named if named and len(set(names)) == len(names) else ["B", "C=3", "H=224", "W=224"]


def _operator_after_pipeline(place: Place) -> Finding | None:
    """`x |> norm |> conv(C, 3) + x`."""
    op = place.word.text
    if op not in MIXED or place.line_ends:
        return None
    words, depth = [], 0
    for word in reversed(place.before):
        depth += (word.text in CLOSING) - (word.text in CLOSERS)
        if depth < 0 or (depth == 0 and (word.text in (",", "return") or (word.text == "=" and words))):
            break
        words.append(word)
        if depth == 0 and word.text in ("+=", "*="):
            words.pop()
            break
    if "|>" not in [word.text for word in words]:
        return None
    left = " ".join(place.text[words[-1].start : place.word.start].split())
    right = _until_it_closes(place.text[place.word.start + len(op) :])
    shown = left if len(left) <= 48 else f"{left.partition('|>')[0]}|> ..."
    helps = (f"put parentheses around the pipeline: `({shown}) {op} {right or '...'}`",)
    if op == "+" and right == words[-1].text and place.first in (right, "return") and place.opener is None:
        helps = (f"for a residual write `{right} += {left.partition('|>')[0]}|> ...`", *helps)
    return Finding(
        f"`|>` and `{op}` are mixed without parentheses",
        helps,
        label="this would belong to the last step",
        notes=("`|>` binds more loosely than every other operator",),
        code="E0107",
    )


def _until_it_closes(text: str) -> str:
    """The rest of a line up to the bracket, comma or pipe that ends an expression."""
    depth = 0
    for number, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if depth < 0 or sign in "\n{}" or (depth == 0 and (sign == "," or text.startswith("|>", number))):
            return text[:number].strip()
    return text.strip()


def _ends_in_operator(place: Place) -> Finding | None:
    """A line that ends with `|>`, and a statement after it."""
    if (
        not place.before
        or place.word.text not in HARD | {"}", "output", "param"}
        or place.last not in OPERATORS - {"if", "."}
    ):
        return None
    last = place.before[-1]
    if "\n" not in place.source.text[last.start : place.word.start]:
        return None
    return Finding(
        f"nothing follows this `{last.text}`", ("the next line begins another statement",), last, "a step is missing"
    )


def _number_in_pieces(place: Place) -> Finding | None:
    """`784 k` or `26,600,000`."""
    word = place.word
    if not place.last.replace(".", "").isdigit() or place.first not in ("claim", "require"):
        return None
    if word.text in ("k", "K", "M", "G", "T", "B"):
        unit = {"K": "k", "B": "G"}.get(word.text, word.text)
        return Finding(
            "a unit follows its number at once", (f"write `{place.last}{unit}`",), label="apart from its number"
        )
    if word.text == ",":
        return Finding(
            "the digits of a number are not grouped", ("write `26600000`, or `26.6M`",), label="within a number"
        )
    return None


def _fact_outside(place: Place) -> Finding | None:
    words = [*place.before, place.word]
    if not place.at_top or words[0].text not in ("claim", "matches", "weights", "init") or len(words) != 2:
        return None
    if place.word.text in ("=", ":", ".", "("):
        return None
    helps = (f"write it in the braces of a variant: `net_s = net() {{ {words[0].text} ... }}`",)
    return Finding(f"a `{words[0].text}` belongs to a variant or a model", helps, words[0], "it stands alone here")


def _foreign_comment(place: Place) -> Finding | None:
    if place.before or place.word.text not in ("//", "/"):
        return None
    return Finding("a remark begins with `#`", (), label="write `#`")


def _label_after_loop(place: Place) -> Finding | None:
    """`for i in range(n) blocks: {`."""
    after = place.text[place.word.start + len(place.word.text) :].lstrip()
    if place.first not in ("for", "repeat", "loop", "stage") or place.word.kind != "word" or not after.startswith(":"):
        return None
    label, what = place.word.text, place.first
    return Finding("the label of a loop stands before it", (f"write `{label}: {what} ...`",), label="a label here")


def _leading_operator(place: Place) -> Finding | None:
    if place.before or place.line_ends or place.word.text not in OPERATORS - {"if", "(", "[", "."}:
        return None
    op = place.word.text
    helps = (f"end the line above with `{op}`, or put parentheses around the whole expression",)
    return Finding(f"a statement cannot begin with `{op}`", helps, label="the line above has ended its statement")


def _bad_number(place: Place) -> Finding | None:
    """The scan takes `3x` for one word, the lexer for a number and a name."""
    start = place.word.start
    while start > 0 and (place.text[start - 1].isalnum() or place.text[start - 1] in "_."):
        start -= 1
    number = place.text[start : place.word.start]
    if place.word.kind != "word" or not number[:1].isdigit() or number[-1] == ".":
        return None
    helps = ("a number may end in one of the units k, M, G, T; its digits are not grouped",)
    text = number + place.word.text
    return Finding(f"`{text}` is neither a number nor a name", helps, Word(text, start, "word"), "not a number")


def _bare_point(place: Place) -> Finding | None:
    after = place.text[place.word.start + 1 : place.word.start + 2]
    if place.word.text == "." and after.isdigit():
        return Finding("a number begins with a digit", (f"write `0.{after}`",))
    if place.last == "." and len(place.before) > 1 and place.before[-2].text.isdigit():
        number = place.before[-2]
        return Finding(
            "a number ends with a digit",
            (f"write `{number.text}.0`",),
            Word(number.text + ".", number.start, "word"),
        )
    return None


def _no_value(place: Place) -> Finding | None:
    if "=" not in place.wanted or place.first not in BINDINGS:
        return None
    what = " ".join(word.text for word in place.before).replace(" ,", ",")
    if place.line_ends:
        return Finding(f"`{what}` has no value", (f"write `{what} = ...`",), label="expected `=` after this")
    if place.word.text == ":":
        return Finding(f"the value of `{what}` follows `=`", (f"write `{what} = ...`",), label="expected `=`")
    return None


def _no_type(place: Place) -> Finding | None:
    if ":" not in place.wanted or not place.before:
        return None
    name = place.last
    if place.first in DECLARATIONS and len(place.before) == 2:
        axes = "[B, C, H, W]" if place.first in ("input", "state") else "[C]"
        helps = (f"write the axes of the tensor: `{place.first} {name}: {axes}`",)
        return Finding(f"`{name}` needs a type", helps, place.before[-1], "expected `:` and a type after this")
    in_parameters = place.first in (*ROLES, "fn", "entry") and place.opener is not None and "=" not in place.wanted
    if in_parameters and place.word.text in (",", ")", "=") and name.isidentifier():
        helps = (f"a tensor is written `{name}: [B, C, H, W]`, a build argument `{name}: int`",)
        return Finding(
            f"parameter `{name}` needs a type", helps, place.before[-1], "expected `:` and a type after this"
        )
    return None


def _subtract_and_assign(place: Place) -> Finding | None:
    if place.word.text not in ("-=", "/=") or "=" not in place.wanted:
        return None
    op = place.word.text
    helps = (f"write `{place.first} = {place.first} {op[0]} ...`; only `+=` and `*=` exist",)
    return Finding(f"`{op}` is not an operator of the language", helps, label="expected `=`, `+=` or `*=`")


def _nameless(place: Place) -> Finding | None:
    if place.first in (*ROLES, "fn", "entry") and len(place.before) == 1 and place.word.text == "(":
        helps = (f"write `{place.first} name(parameters)`",)
        return Finding(f"this `{place.first}` has no name", helps, place.before[0])
    return None


def _value_unused(place: Place) -> Finding | None:
    names = all(word.kind == "word" or word.text == "," for word in place.before)
    if not place.before or not names or "=" not in place.wanted or place.first in (*BINDINGS, *DECLARATIONS):
        return None
    if place.line_ends or place.word.text in OPERATORS:
        helps = ("give the value a name: `name = ...`, or `return` it",)
        if place.text[place.word.start :].startswith(".append("):
            helps = (f"to add to a list write `{place.last} += [x]`",)
        return Finding("an expression alone is not a statement", helps)
    return None


def _colon_before_body(place: Place) -> Finding | None:
    if place.word.text != ":" or "{" not in place.wanted:
        return None
    helps = ["a body is written between `{` and `}`"]
    rest_of_line = place.source.text[place.word.start + 1 :].partition("\n")[0].partition("#")[0]
    if "->" in place.wanted and rest_of_line.strip():
        helps.insert(0, "results are written `-> [B, C, H, W]`")
    return Finding("unexpected `:`", tuple(helps))


def _brace_on_next_line(place: Place) -> Finding | None:
    if not place.line_ends or "{" not in place.wanted:
        return None
    follows = place.text[place.word.start :].lstrip().startswith("{")
    helps = ("the `{` stands on the same line",) if follows else ()
    return Finding("the body is missing", helps, label="expected `{` after this")


def _misplaced_label(place: Place) -> Finding | None:
    if place.last != ":" or "for" not in place.wanted or len(place.before) != 2:
        return None
    name, word = place.first, place.word.text
    shown = "..." if place.line_ends else word
    helps = (
        f"to label a call write `x = x |> {name}: {shown}`",
        f"to bind a name write `{name} = ...`; types follow `param`, `buffer`, `const`, `input` and `state`",
    )
    return Finding("a label at the beginning of a statement belongs to a loop", helps)


def _compare_by_one_sign(place: Place) -> Finding | None:
    words = [word.text for word in place.before]
    if place.word.text == "=" and len(words) == 3 and words[1] == "=" and place.opener is None:
        first, _, second = words
        helps = (f"write `{second} = ...`, then `{first} = {second}`",)
        return Finding("one name gets a value at a time", helps, label="a second `=`")
    if place.word.text == "=" and "==" in place.wanted:
        return Finding("`=` does not compare", ("to compare write `==`",), label="this gives a name its value")
    return None


def _targets_in_parentheses(place: Place) -> Finding | None:
    if not place.before and place.word.text == "(":
        return Finding("a statement cannot begin with `(`", ("names are bound without parentheses: `a, b = ...`",))
    return None


def _nested_names(place: Place) -> Finding | None:
    """`for i, (a, b) in enumerate(zip(xs, ys))`, and the same of a `stage`."""
    words = [word.text for word in place.before]
    what = next((word for word in reversed(words) if word in ("for", "stage")), "")
    if place.word.text != "(" or not what or words[-1] not in (what, ","):
        return None
    names = words[len(words) - words[::-1].index(what) :]
    if "in" in names or not all(name.isidentifier() or name == "," for name in names):
        return None
    helps = (f"all names stand side by side: `{what} a, b in zip(xs, ys)`",)
    if names:
        helps = (f"to count beside it: `{what} i, a, b in zip(range(len(xs)), xs, ys)`",)
    return Finding("the names of a loop stand without parentheses", helps, label="expected a name")


def _dictionary(place: Place) -> Finding | None:
    if place.word.text != "{" or "NUMBER" not in place.wanted or place.last not in ("=", "(", "[", ","):
        return None
    helps = ("numbers are parameters, one each, or stand in a list: `dims: list[int]`",)
    return Finding("there are no dictionaries", helps, label="expected an expression")


def _computed_label(place: Place) -> Finding | None:
    """`x |> f"conv{i}": conv(8, 3)`, or `c{i}: conv(8, 3)`."""
    before = [word.text for word in place.before]
    quoted = place.word.kind == "text" and place.last in ("f", "|>") and "|>" in before
    pieces = before[-2:-1] == ["|>"] and re.match(r"\{\w+\}\w*\s*:", place.text[place.word.start :]) is not None
    if not quoted and not pieces:
        return None
    if pieces:
        helps = ("a label is a plain name; the turns of a loop with a label are numbered: `convs.0`, `convs.1`",)
        return Finding("a label is not computed", helps, label="a plain name ends here")
    helps = ("a label is a plain name; the turns of a loop with a label are numbered: `convs.0`, `convs.1`",)
    return Finding("a label is not a text", helps, label="a name is needed")


def _lone_text(place: Place) -> Finding | None:
    if not place.before and place.word.kind == "text" and not place.word.text.startswith('"""'):
        helps = ('a description is written between `"""` and `"""`, a remark after `#`',)
        return Finding("a text alone is not a statement", helps)
    return None


def _outside_component(place: Place) -> Finding | None:
    word = place.before[0] if place.before else place.word
    inside = word.text in BINDINGS + DECLARATIONS if place.before else word.text in HARD or word.text == "require"
    if not place.at_top or not inside or len(place.before) > 1 or "." in place.wanted:
        return None
    return Finding(f"`{word.text}` stands only in the body of a component", (COMPONENT,), word)


def _function_with_body(place: Place) -> Finding | None:
    if place.first != "fn" or place.word.text not in ("{", "->") or "=" not in place.wanted:
        return None
    helps = ("a `fn` is one expression: `fn name(parameters) = expression`",)
    return Finding(f"unexpected `{place.word.text}`", helps)


def _lone_else(place: Place) -> Finding | None:
    if place.word.text == "else" and not place.before:
        return Finding("`else` without an `if`", label="no `if` ends just before this")
    return None


def _shadowing_word(place: Place) -> Finding | None:
    """`for = 3`, or `x = for`: a word of the language where a name should be."""
    if place.word.text == "=" and len(place.before) == 1 and place.last in HARD:
        return Finding(f"`{place.last}` is a word of the language and never a name", at=place.before[0])
    return None


_RULES: tuple[Callable[[Place], Finding | None], ...] = (
    _foreign,
    _nameless_axis,
    _ends_in_operator,
    _operator_after_pipeline,
    _number_in_pieces,
    _fact_outside,
    _foreign_comment,
    _label_after_loop,
    _leading_operator,
    _bad_number,
    _bare_point,
    _shadowing_word,
    _nameless,
    _no_value,
    _no_type,
    _subtract_and_assign,
    _value_unused,
    _colon_before_body,
    _brace_on_next_line,
    _misplaced_label,
    _compare_by_one_sign,
    _targets_in_parentheses,
    _nested_names,
    _computed_label,
    _dictionary,
    _lone_text,
    _lone_else,
    _outside_component,
    _function_with_body,
)
