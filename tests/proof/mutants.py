# SPDX-License-Identifier: MIT
"""Single mistakes that can be made in a C source of the library.

Sources are read as tokens, which is enough for code in one style. A mutant is a change within one line of a
function body. Left alone: assertions, log lines, counters and trace events (nothing depends on them), and what
is not code.
"""

import hashlib
import re

TOKEN = re.compile(r"""
    (?P<space>\s+ | //[^\n]* | /\*.*?\*/)
  | (?P<directive>^\#(?:[^\n\\]|\\.|\\\n)*)
  | (?P<text>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
  | (?P<number>(?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<op><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\.\.\.|[-+*/%&|^~!<>=?:;,.(){}\[\]])
  | (?P<other>.)
""", re.X | re.S | re.M)

# Calls that nothing but people depend on, and checks.
QUIET = re.compile(r"^(assert|svm_assert\w*|svm_(debug|info|warn|err|error|log\w*)|svm_trace_\w+|trace_\w+|"
                   r"static_assert|_Static_assert|svm_lock_(taken|given|check)\w*|svm_block_check|abort)$")
# Does nothing in the C libraries for Linux.
DESTROY = re.compile(r"^(must\()?pthread_\w+_destroy")
BOUNDARY = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
JUNCTION = {"&&": "||", "||": "&&"}
ASSIGN = {"=", "+=", "-=", "|=", "&=", "^=", "<<=", ">>="}
FLIP = {"true": "false", "false": "true"}
ARITHMETIC = {"+": "-", "-": "+", "|": "&", "&": "|", "<<": ">>", ">>": "<<"}
OPERAND_ENDS = (")", "]")


class Token:
    def __init__(self, kind, text, start):
        self.kind, self.text, self.start, self.end = kind, text, start, start + len(text)


class Mutant:
    """A change to one file: text[start:end] becomes new."""

    def __init__(self, file, text, function, operator, start, end, new):
        self.file, self.function, self.operator = file, function, operator
        self.start, self.end, self.new = start, end, new
        self.text = text  # the file may change while mutants are tried
        self.line = text.count("\n", 0, start) + 1
        first = text.rfind("\n", 0, start) + 1
        last = text.find("\n", end)
        self.again = 1  # the how many-th of its kind in the function
        self.before = " ".join(text[first:last].split())
        self.after = " ".join((text[first:start] + new + text[end:last]).split())

    def key(self):
        """What the mutant is, wherever its line may stand."""
        which = f" (#{self.again})" if self.again > 1 else ""
        return f"{self.file}: {self.function}: {self.before} => {self.after or '(nothing)'}{which}"

    def rank(self, seed):
        """A random number that only a change of the mutant itself changes."""
        return hashlib.sha256(f"{seed} {self.key()}".encode()).hexdigest()

    def apply(self):
        return self.text[:self.start] + self.new + self.text[self.end:]


def tokens_of(text):
    return [Token(match.lastgroup, match.group(), match.start()) for match in TOKEN.finditer(text)
            if match.lastgroup not in ("space", "directive")]


def closing(tokens, i):
    """Index of the bracket that closes the one at i."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    opened, closed, depth = tokens[i].text, pairs[tokens[i].text], 0
    while True:
        depth += (tokens[i].text == opened) - (tokens[i].text == closed)
        if depth == 0:
            return i
        i += 1


def functions(tokens):
    """(name, index of '{', index of '}') of each function body."""
    i = 0
    while i < len(tokens):
        if tokens[i].text == "{":
            end = closing(tokens, i)
            # A body follows the parameters: NAME ( ... ) {
            if i and tokens[i - 1].text == ")":
                j, depth = i - 1, 0
                while True:
                    depth += (tokens[j].text == ")") - (tokens[j].text == "(")
                    if depth == 0:
                        break
                    j -= 1
                yield tokens[j - 1].text, i, end
            i = end
        i += 1


class Finder:
    def __init__(self, file, text):
        self.file, self.text = file, text
        self.tokens = tokens_of(text)
        self.found = []

    def add(self, function, operator, first, last, new):
        self.found.append(Mutant(self.file, self.text, function, operator, self.tokens[first].start,
                                 self.tokens[last].end, new))

    def source(self, first, last):
        return self.text[self.tokens[first].start:self.tokens[last].end]

    def all(self):
        for name, start, end in functions(self.tokens):
            self.body(name, start + 1, end)
        return self.found

    def body(self, function, start, end):
        i = start
        while i < end:
            tokens = self.tokens
            text, kind = tokens[i].text, tokens[i].kind
            begins = tokens[i - 1].text in (";", "{", "}", "else") or self.closes_condition(i - 1)
            if begins and kind == "name":
                after = self.statement_end(i, end)
                if QUIET.match(text) or DESTROY.match(self.source(i, after)):
                    i = after + 1
                    continue
                self.statement(function, i, after)
            if text == "case":
                while tokens[i].text != ":":
                    i += 1
            elif text in ("if", "while") and tokens[i + 1].text == "(":
                last = closing(tokens, i + 1)
                inner = self.source(i + 2, last - 1)
                # An endless loop says nothing.
                if "\n" not in inner and inner not in ("true", "1"):
                    self.add(function, "negate", i + 2, last - 1, f"!({inner})")
            elif text == "return":
                self.result(function, i)
            else:
                self.token(function, i)
            i += 1

    def closes_condition(self, i):
        """Is this the ')' of if (...), for (...), while (...)?"""
        if self.tokens[i].text != ")":
            return False
        depth = 0
        while i >= 0:
            depth += (self.tokens[i].text == ")") - (self.tokens[i].text == "(")
            if depth == 0:
                return self.tokens[i - 1].text in ("if", "for", "while")
            i -= 1
        return False

    def statement_end(self, i, end):
        while i < end and self.tokens[i].text != ";":
            i = closing(self.tokens, i) + 1 if self.tokens[i].text in ("(", "{", "[") else i + 1
        return i

    def statement(self, function, first, after):
        """A call or an assignment that is a statement can be left out."""
        words = [token.text for token in self.tokens[first:after]]
        if not words or "\n" in self.source(first, after - 1) or words[0] in (
                "return", "goto", "break", "continue", "if", "for", "while", "do", "switch", "case", "default",
                "else", "struct", "enum", "const", "static", "unsigned", "sizeof"):
            return
        depth = 0
        assigns = None
        for i, word in enumerate(words):
            depth += (word in "([") - (word in ")]")
            if depth == 0 and word in ASSIGN and assigns is None:
                assigns = i
        if assigns is not None:
            # NAME NAME = is a declaration; a variable that is set nowhere would be one that is not initialised.
            left = self.tokens[first:first + assigns]
            if any(a.kind == b.kind == "name" for a, b in zip(left, left[1:])) or "*" in words[:assigns]:
                return
            self.add(function, "leave out", first, after - 1, "")
        elif words[1:2] == ["("] and closing(self.tokens, first + 1) == after - 1:
            self.add(function, "leave out", first, after - 1, "")

    def result(self, function, i):
        words = []
        j = i + 1
        while self.tokens[j].text != ";":
            words.append(self.tokens[j].text)
            j += 1
        if words == ["0"]:
            self.add(function, "result", i + 1, i + 1, "-5")
        elif words[:1] == ["-"] and len(words) == 2:
            self.add(function, "result", i + 1, i + 2, "0")
        elif words in (["r"], ["err"], ["ret"]):
            self.add(function, "result", i + 1, i + 1, "0")
        elif len(words) == 1 and words[0] in FLIP:
            self.add(function, "result", i + 1, i + 1, FLIP[words[0]])

    def binary(self, i):
        """Does an operand end before token i?"""
        before = self.tokens[i - 1]
        return (before.kind in ("name", "number") and before.text not in ("return", "case", "sizeof")) or \
            before.text in OPERAND_ENDS

    def token(self, function, i):
        token = self.tokens[i]
        if token.text in BOUNDARY:
            self.add(function, "boundary", i, i, BOUNDARY[token.text])
        elif token.text in JUNCTION:
            self.add(function, "junction", i, i, JUNCTION[token.text])
        elif token.text in ARITHMETIC and self.binary(i) and not self.is_cast(i):
            self.add(function, "arithmetic", i, i, ARITHMETIC[token.text])
        elif token.kind == "number" and self.tokens[i - 1].text not in ("[", "return"):
            new = {"0": "1", "0u": "1u"}.get(token.text)
            if not new and re.fullmatch(r"\d+u?", token.text):
                new = str(int(token.text.rstrip("u")) + 1) + token.text[len(token.text.rstrip("u")):]
            # = { 0 } and = 0 start a value that is set later, as a rule.
            if new and not (token.text.startswith("0") and self.tokens[i - 1].text in ("{", "=")):
                self.add(function, "constant", i, i, new)
        elif token.kind == "name" and token.text in FLIP and self.tokens[i - 1].text != "return":
            self.add(function, "constant", i, i, FLIP[token.text])

    def is_cast(self, i):
        """(type *)-x and (type)&x are no binary operators."""
        if self.tokens[i - 1].text == "*":
            return True
        if self.tokens[i - 1].text != ")":
            return False
        j = i - 1
        while self.tokens[j].text != "(":
            j -= 1
        inside = [token.text for token in self.tokens[j + 1:i - 1]]
        named = self.tokens[j - 1].kind == "name"
        return not named and bool(inside) and (inside[-1] == "*" or inside[0] in ("struct", "enum", "void", "unsigned")
                                               or inside[-1].endswith("_t") or inside == ["int"])


def find(file, text):
    """All mutants of a source, in order, each with a key of its own."""
    found, seen = Finder(file, text).all(), {}
    for mutant in found:
        mutant.again = seen[mutant.key()] = seen.get(mutant.key(), 0) + 1
    return found
