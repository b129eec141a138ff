"""Decide where statements end, before parsing, in one scan that moves no character."""

from __future__ import annotations

import re
from dataclasses import field

from archc.diagnostics import MOST_FINDINGS, ArchError, Diagnostic, Label
from archc.records import dataclass
from archc.source import Source, Span
from archc.syntax.tree import Comment

MAX_BRACKETS = 100  # how deep brackets of all kinds may be nested
MOST_TOKENS = 100_000  # words, numbers, texts and signs of one file
LONGEST_NAME = 200

SCAN = re.compile(
    r'''(?P<text>"""(?:[^"\\]|\\.|"(?!""))*"""|"(?!"")(?:[^"\\\n]|\\.)*")
      | (?P<open_text>"""|"[^\n]*)
      | (?P<comment>\#[^\n]*)
      | (?P<newline>\n)
      | (?P<blank>[ \t\f\r]+)
      | (?P<word>(?:[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?[A-Za-z0-9_]*|[A-Za-z0-9_]+)(?!\w))
      | (?P<odd>'[^'\n]*'|&&|\|\||=>)
      | (?P<mark>\|>|->|//|\*\*|[-+*/]=|[=!<>]=|\.\.\.|[-+*/%&=<>.,:()\[\]{}])
      | (?P<unknown>\w+|.)''',
    re.X | re.S,
)
CONTINUE_AFTER = frozenset("{ ( [ , = : |> -> + - * / // % ** & += *= == != < > <= >= and or not if in".split())
CONTINUE_BEFORE = frozenset("|> } else ) ]".split())
CLOSERS = {"(": ")", "[": "]", "{": "}"}

TRUTH = "truth values and nothing are written `true`, `false` and `none`"
SUGGESTIONS = {
    "&&": "logical and is written `and`",
    "||": "logical or is written `or`",
    "!": "logical negation is written `not`",
    "|": "a pipeline step is written `|>`",
    ";": "a statement ends with its line: begin a new line",
    "^": "a power is written `**`",
    "@": "a matrix product is written `dot(a, b, axis)`; there are no decorators",
    "?": "a choice is written `a if condition else b`",
    "~": "logical negation is written `not`",
    "`": 'text is written in double quotes: `"..."`',
    "\\": "a line continues by itself after an operator, after a comma and inside brackets",
    "×": "multiplication is written `*`",
    "·": "multiplication is written `*`",
    "÷": "division is written `/`",
    "−": "minus is written `-`",
    "–": "minus is written `-`",
    "—": "minus is written `-`",
    "≤": "write `<=`",
    "≥": "write `>=`",
    "≠": "write `!=`",
    "→": "write `->`",
    "“": 'text is written in straight double quotes: `"..."`',
    "”": 'text is written in straight double quotes: `"..."`',
    "‘": 'text is written in straight double quotes: `"..."`',
    "’": 'text is written in straight double quotes: `"..."`',
    "\u00a0": "this is a no-break space: write an ordinary space",
    "\u200b": "this is an invisible zero-width space: delete it",
    "\ufeff": "this is an invisible byte-order mark: delete it",
}


@dataclass(frozen=True)
class Lines:
    """A text made ready for the parser.

    `text` is the source's text with every comment, and every newline that does not end a statement,
    overwritten with spaces (one newline may be added at the end). `closers` maps the offset of every opening
    bracket to the offset of the bracket that closes it.
    """

    text: str
    comments: tuple[Comment, ...]
    closers: dict[int, int]


@dataclass(frozen=True)
class _Bracket:
    mark: str
    start: int
    line: int  # number of the line it stands on
    indent: int  # indentation of that line


@dataclass
class _Scan:
    """What the scan has seen so far."""

    source: Source
    brackets: list[_Bracket] = field(default_factory=list)
    closers: dict[int, int] = field(default_factory=dict)
    # First token of each line: its offset, its indentation, its text and the end of the token before it.
    heads: list[tuple[int, int, str, int]] = field(default_factory=list)
    # A `{` whose partner stands further left than its line begins: likely it was never closed.
    suspect: _Bracket | None = None
    found: list[Diagnostic] = field(default_factory=list)

    def span(self, start: int, end: int) -> Span:
        return Span(self.source, start, end)


def split_statements(source: Source) -> Lines:
    """Prepare the text of `source` for the parser, in time linear in its length.

    Raises ArchError for unknown characters, unterminated strings, brackets that do not match, names that belong to
    Python, and for more than any spec has of tokens, of depth or of letters in a name.
    """
    scan = _Scan(source)
    text = source.text
    pieces: list[str] = []
    comments: list[Comment] = []
    last, last_end, pending, at_line_start, line_start, line, tokens = "{", 0, -1, True, 0, 0, 0
    for token in SCAN.finditer(text, 1 if text.startswith("\ufeff") else 0):
        kind, word, start, end = token.lastgroup, token.group(), token.start(), token.end()
        if kind == "blank":
            pieces.append(word)
            continue
        if kind == "comment":
            comments.append(Comment(start, word.rstrip()))
            pieces.append(" " * len(word))
            continue
        if kind == "newline":
            if pending < 0 and last not in CONTINUE_AFTER and not _in_parentheses(scan.brackets):
                pending = len(pieces)
            pieces.append(" ")
            at_line_start, line_start, line = True, end, line + 1
            continue
        if at_line_start:
            scan.heads.append((start, start - line_start, word, last_end))
            at_line_start = False
        if pending >= 0 and word not in CONTINUE_BEFORE:
            pieces[pending] = "\n"
        pending = -1
        tokens += 1
        if tokens > MOST_TOKENS:
            _too_many(scan, start, end)
        if kind == "word" and len(word) > LONGEST_NAME and not word[0].isdigit():
            _too_long(scan, start, end)
        if kind == "word" and word.startswith("__") and word.strip("_"):
            _private(scan, word, start)
        if len(scan.found) >= MOST_FINDINGS or tokens > MOST_TOKENS:
            break
        if kind == "mark" and word in CLOSERS:
            scan.brackets.append(_Bracket(word, start, line, scan.heads[-1][1]))
            if len(scan.brackets) > MAX_BRACKETS:
                _too_deep(scan, start)
                break
        elif kind == "mark" and word in ")]}":
            _close(scan, word, start, line, last_end)
        elif kind == "open_text":
            _unterminated(scan, word, start)
            if word == '"""':
                break
        elif kind in ("odd", "unknown"):
            _unknown(scan, word, start)
        elif kind == "text" and word.startswith('"""'):
            line += word.count("\n")
        pieces.append(word)
        last, last_end = ("text" if kind == "text" else word), end
    else:
        for bracket in _unclosed(scan):
            _never_closed(scan, bracket, last_end)
    if scan.found:
        raise ArchError(_independent(scan.found))
    if text.startswith("\ufeff"):
        pieces.insert(0, " ")
    if last != "{":
        pieces.append("\n")
    return Lines("".join(pieces), tuple(comments), scan.closers)


def _independent(found: list[Diagnostic]) -> list[Diagnostic]:
    """Findings in order, without those about brackets that a text which is never closed has swallowed."""
    ordered = sorted(found, key=lambda d: d.span.start if d.span else 0)
    swallowed = (n for n, d in enumerate(ordered) if d.code == "E0104" and d.span and {*d.span.text} & {*"()[]{}"})
    opened = next(swallowed, len(ordered))
    return [d for n, d in enumerate(ordered) if n <= opened or d.code not in ("E0102", "E0103")]


def _in_parentheses(brackets: list[_Bracket]) -> bool:
    return bool(brackets) and brackets[-1].mark != "{"


def _close(scan: _Scan, mark: str, start: int, line: int, last_end: int) -> None:
    """Pair the closing bracket at `start` with its opener, or say what is wrong with it."""
    span = scan.span(start, start + 1)
    if not scan.brackets or (mark != "}" and scan.brackets[-1].mark == "{"):
        helps = ()
        if scan.suspect is not None:
            helps = ("a bracket further up may be closed too early",)
        scan.found.append(Diagnostic("E0103", f"`{mark}` closes nothing", span, "no bracket is open here", helps=helps))
        return
    if CLOSERS[scan.brackets[-1].mark] == mark:
        bracket = scan.brackets.pop()
        scan.closers[bracket.start] = start
        head, indent, *_ = scan.heads[-1]
        begins_line = head == start and line > bracket.line
        if mark == "}" and begins_line and indent < bracket.indent and scan.suspect is None:
            scan.suspect = bracket
        return
    if any(CLOSERS[bracket.mark] == mark for bracket in scan.brackets):
        while CLOSERS[scan.brackets[-1].mark] != mark:
            _never_closed(scan, scan.brackets.pop(), last_end)
        scan.closers[scan.brackets.pop().start] = start
        return
    bracket = scan.brackets.pop()
    opened = Label(scan.span(bracket.start, bracket.start + 1), f"this `{bracket.mark}` is open")
    wanted = CLOSERS[bracket.mark]
    scan.found.append(
        Diagnostic("E0103", f"`{mark}` cannot close `{bracket.mark}`", span, f"expected `{wanted}`", (opened,))
    )


def _unclosed(scan: _Scan) -> list[_Bracket]:
    """The brackets to blame at the end of the file: by the layout, where that is more telling."""
    if scan.suspect is not None and scan.brackets and scan.brackets[-1].mark == "{":
        return [*scan.brackets[:-1], scan.suspect]
    return scan.brackets


def _never_closed(scan: _Scan, bracket: _Bracket, limit: int) -> None:
    """Report `bracket`, pointing at the place where the layout says that it should have been closed."""
    end = limit
    for start, indent, word, before in scan.heads:
        if bracket.start < start <= limit and indent <= bracket.indent and word not in CONTINUE_BEFORE:
            end = before
            break
    wanted = CLOSERS[bracket.mark]
    scan.found.append(
        Diagnostic(
            "E0102",
            f"`{bracket.mark}` is never closed",
            scan.span(end - 1, end),
            f"expected `{wanted}` here or before",
            (Label(scan.span(bracket.start, bracket.start + 1), "opened here"),),
        )
    )


def _too_deep(scan: _Scan, start: int) -> None:
    scan.found.append(
        Diagnostic(
            "E0106",
            f"brackets are nested more than {MAX_BRACKETS} deep",
            scan.span(start, start + 1),
            "one bracket too many",
            helps=("give a part of it a name, or move it to a component of its own",),
        )
    )


def _too_many(scan: _Scan, start: int, end: int) -> None:
    message = f"the file has more than {MOST_TOKENS:,} words and signs"
    scan.found.append(Diagnostic("E0404", message, scan.span(start, end), "the first one too many"))


def _too_long(scan: _Scan, start: int, end: int) -> None:
    message = f"a name has {end - start:,} characters, and may have {LONGEST_NAME}"
    scan.found.append(Diagnostic("E0404", message, scan.span(start, end)))


def _private(scan: _Scan, word: str, start: int) -> None:
    """In a class, Python writes its name into those that begin so, and gives some a meaning of its own."""
    scan.found.append(
        Diagnostic(
            "E0228",
            f"`{word}` begins with two underscores, as names that belong to Python do",
            scan.span(start, start + len(word)),
            helps=(f"write `{word.strip('_')}` or another word",),
        )
    )


def _unterminated(scan: _Scan, rest: str, start: int) -> None:
    """Report the string that begins at `start`; `rest` is its line, or the three quotes that begin it."""
    quotes = '"""' if rest == '"""' else '"'
    found = Diagnostic(
        "E0104",
        f"the text is never closed: `{quotes}` is missing",
        scan.span(start, start + len(rest.rstrip())),
        f"expected `{quotes}` to close this",
        notes=('a text between `"` ends on its line; one between `"""` may have many lines',),
    )
    scan.found.append(found)


def _unknown(scan: _Scan, word: str, start: int) -> None:
    helps: tuple[str, ...] = ()
    label = "not part of the language"
    if len(word) > 1 and word.startswith("'"):
        helps = (f'text is written in double quotes: `"{word[1:-1]}"`',)
        message = "text in single quotes"
    elif word == "'":
        helps = ('text is written in double quotes: `"..."`',)
        message = "unknown character `'`"
    elif word == "~" and scan.source.text[start + 1 : start + 2] == "=":
        helps = ("write `==`: a number means all that rounds to it; or `== 5.0G within 0.01`",)
        word, message = "~=", "unknown operator `~=`"
    elif word == "=>":
        helps = ("write `>=` to compare, `->` before a result",)
        message = "unknown operator `=>`"
    elif word[0].isalpha() or word[0].isdigit():
        message = f"`{word}` is not made of the letters that names are made of"
        label = "names are made of a-z, A-Z, 0-9 and _"
    else:
        shown = word if word.isprintable() and not word.isspace() else f"U+{ord(word):04X}"
        message = f"unknown {'operator' if len(word) > 1 else 'character'} `{shown}`"
        if word in SUGGESTIONS:
            helps = (SUGGESTIONS[word],)
    scan.found.append(Diagnostic("E0105", message, scan.span(start, start + len(word)), label, helps=helps))
