"""How much work the evaluation of a job's ClassAd expressions can be: an upper estimate, found in time linear in their text.

HTCondor evaluates a referenced attribute again at every reference, so `a = b + b`, `b = c + c` and so on double at every step. The size of
an attribute is the number of tokens of its text, plus the size of every attribute that a word of the text may refer to, once for each time
that the word occurs. Calls whose work or result is the product of their arguments count so, by their tokens and by their characters.

The parser of HTCondor knows two kinds of escapes. Where both would end each string at the same place, words in strings do not count;
elsewhere every word counts as a reference.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Iterable, Iterator, Mapping, Sequence

# A size from which on evaluation never ends in practice; greater ones are cut to it.
UNBOUNDED = 10**12
# HTCondor gives up at this depth of references (MAX_CLASSAD_RECURSION).
DEPTH = 400
# Calls whose work or result can be the product of their arguments: a list that is walked, a text that is inserted for each match.
GROWING = frozenset(
    [
        *("countmatches", "evalineachcontext", "join", "regexps", "replace", "replaceall"),
        *("stringlistsintersect", "stringlistsubsetmatch", "stringlistisubsetmatch"),
    ]
)
# Calls that build references while they run.
OPAQUE = frozenset(["eval", "unresolved"])
# Prefixes of a reference.
SCOPES = frozenset(["my", "target"])
# Expressions of a slot ad, which refer back to the job.
SLOT = frozenset(["isowner", "preempt", "rank", "requirements", "start", "withinresourcelimits"])
SLOT_TOKENS = 64
# Characters that cost as much as a token: when a text is read, and when a string is copied.
CHARACTERS = 16
COPIED = 1024
# Longest string that counts as a constant; an attribute that is not an expression has at most this length.
SHORT = 256

_NUMBER = re.compile(r"-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?|true|false|undefined|error", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9_]+|=\?=|=!=|[=!<>]=|\S")
_ESCAPE = re.compile(r"\\([0-7]{1,3})")
# A string, or what makes unclear where strings begin: a quoted name, a comment, a string without an end.
_STRING = re.compile(r"""("(?:[^"\\]|\\.)*")|'|//|/\*|\"""", re.DOTALL)
# The parser for old files ends a string here, the other one goes on, or the other way round.
_EVEN = re.compile(r"(?<!\\)(?:\\\\)+\"")
_QUOTED_NAME = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INDEX = re.compile(r"[0-9]+")
# An expression inside a string, which the schedd evaluates when the job starts.
EMBEDDED = "$$(["


@dataclass(frozen=True)
class Call:
    """An outermost growing call: its tokens, characters, and references; `nesting` growing calls lie in each other."""

    tokens: int
    characters: int
    references: Mapping[str, int]
    nesting: int = 1


@dataclass(frozen=True)
class Text:
    """What the text of an attribute costs by itself, and the words in it that may be references. `opaque`: nothing is known of it."""

    tokens: int
    references: Mapping[str, int]
    characters: int = 0
    defined: frozenset[str] = frozenset()
    calls: tuple[Call, ...] = ()
    opaque: bool = False


# A sign and a number, or a short string.
LITERAL = Text(2, {}, SHORT)


def parse(text: str) -> Text:
    """The cost and references of an attribute's text; LITERAL for a short constant."""
    if _NUMBER.fullmatch(text):
        return _constant(text)
    outside, strings = _split(text)
    if outside is None and text[:1] == text[-1:] == '"' and len(text) > 1 and '"' not in text[1:-1]:
        outside, strings = '""', [text]
    if outside is None:
        return _unclear(text)
    embedded = [part for string in strings if EMBEDDED in string for part in _embedded(string)]
    if outside == '""' and not embedded:
        return _constant(text)
    return _sum([_parse(outside, len(text), [len(string) for string in strings]), *embedded])


def _constant(text: str) -> Text:
    return LITERAL if len(text) <= SHORT else Text(LITERAL.tokens + len(text) // CHARACTERS, {}, len(text))


def _split(text: str) -> tuple[str | None, list[str]]:
    """The text with empty strings, and its strings; None where it is not certain what is a string."""
    if _EVEN.search(text):
        return None, []
    outside, strings, end = [], [], 0
    for found in _STRING.finditer(text):
        if found[1] is None:
            return None, []
        outside.append(text[end : found.start()])
        strings.append(found[1])
        end = found.end()
    return '""'.join([*outside, text[end:]]), strings


def _embedded(string: str) -> Iterator[Text]:
    """The expressions in a string. Each ends at the first `])`, unless that may be in a string of its own."""
    _before, *parts = string.split(EMBEDDED)
    expressions = [part.partition("])")[0] for part in parts]
    if any(sign in expression for expression in expressions for sign in "\"'\\/"):
        yield _unclear(string[string.find(EMBEDDED) :])
    else:
        yield from (_parse(expression, len(expression)) for expression in expressions)


def _unclear(text: str) -> Text:
    """Every word counts as a reference, and the whole as one growing call if it may have one."""
    # A quoted name may be written with escapes.
    decoded = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)
    found = _parse(text if decoded == text else f"{text} {decoded}", len(text))
    names = [name[1] for name in _QUOTED_NAME.finditer(text)]
    # What stands before a bracket, or which name it defines, cannot be seen.
    hidden = "[" in text and ("/*" in text or "//" in text or not all(_WORD.fullmatch(name) for name in names))
    opaque = found.opaque or hidden
    calls = ()
    count = sum(found.references.get(name, 0) for name in GROWING)
    if count:
        calls = (Call(found.tokens, found.characters, found.references, min(count, 10)),)
    return Text(found.tokens, found.references, found.characters, found.defined, calls, opaque)


def _parse(text: str, characters: int, strings: Sequence[int] = ()) -> Text:
    """`characters` of the original, whose strings have these lengths and are empty here."""
    tokens = [token.lower() for token in _TOKEN.findall(text)]
    words = _words(tokens)
    # An attribute of a nested ad: NAME = or 'NAME' =.
    equals = [at for at, token in enumerate(tokens) if token == "=" and at] if "[" in tokens else []
    names = [tokens[at - 2 if tokens[at - 1] == "'" else at - 1] for at in equals]
    definitions = Counter(name for name in names if name in words)
    opaque = any(name in words for name in OPAQUE) or _computes_names(tokens)
    return Text(
        len(tokens) + characters // CHARACTERS,
        dict(words - definitions),
        characters,
        frozenset(definitions),
        tuple(_calls(tokens, strings)) if any(name in words for name in GROWING) else (),
        opaque,
    )


def _words(tokens: Iterable[str]) -> Counter[str]:
    return Counter(token for token in tokens if token[0].isalpha() or token[0] == "_")


def _computes_names(tokens: Sequence[str]) -> bool:
    """Whether something has a subscript other than a number: MY["x"] refers to an attribute by its name, without a limit of the depth."""
    for at, token in enumerate(tokens):
        if token != "[" or not at or not (tokens[at - 1] in ('"', "'", ")", "]", "}") or _is_name(tokens[at - 1])):
            continue
        if at + 2 >= len(tokens) or not _INDEX.fullmatch(tokens[at + 1]) or tokens[at + 2] != "]":
            return True
    return False


def _is_name(token: str) -> bool:
    return token[0].isalnum() or token[0] == "_"


def _calls(tokens: Sequence[str], strings: Sequence[int]) -> Iterator[Call]:
    """The outermost growing calls. A word needs its parenthesis to be one."""
    depth, begin, deepest = 0, 0, 0
    nesting: list[int] = []
    # Quotes before the call, and before its end.
    quotes = [0, 0]

    def call(end: int) -> Call:
        span = tokens[begin:end]
        inside = strings[quotes[0] // 2 : quotes[1] // 2]
        return Call(len(span), sum(map(len, span)) + sum(inside), _words(span), deepest)

    for at, token in enumerate(tokens):
        if token == '"':
            quotes[1] += 1
        elif token == "(":
            depth += 1
            if at and tokens[at - 1] in GROWING:
                if not nesting:
                    begin, deepest, quotes[0] = at, 0, quotes[1]
                nesting.append(depth)
                deepest = max(deepest, len(nesting))
        elif token == ")":
            if nesting and nesting[-1] == depth:
                nesting.pop()
                if not nesting:
                    yield call(at + 1)
            depth -= 1
    if nesting:
        yield call(len(tokens))


def _sum(texts: Sequence[Text]) -> Text:
    if len(texts) == 1:
        return texts[0]
    references: Counter[str] = Counter()
    for text in texts:
        references.update(text.references)
    return Text(
        sum(text.tokens for text in texts),
        dict(references),
        sum(text.characters for text in texts),
        frozenset[str]().union(*(text.defined for text in texts)),
        tuple(call for text in texts for call in text.calls),
        any(text.opaque for text in texts),
    )


def sizes(attributes: Mapping[str, Text]) -> dict[str, int]:
    """The size of each attribute by its name in lower case, at most UNBOUNDED."""
    nodes = _nodes(attributes)
    edges = {name: [ref for text in texts for ref in text.references if ref in nodes] for name, texts in nodes.items()}
    found: dict[str, int] = {}
    lengths: dict[str, int] = {}
    for component in _components(edges):
        members = set(component)
        texts = [text for name in component for text in nodes[name]]
        size = sum(_cost(text, found, lengths) for text in texts)
        length = sum(_length(text, lengths) for text in texts)
        if len(component) > 1 or component[0] in edges[component[0]]:
            # A cycle ends at HTCondor's depth. With two references it has branched as often by then.
            branches = any(_inside(nodes[name], members) > 1 for name in component)
            size, length = (UNBOUNDED, UNBOUNDED) if branches else (size * DEPTH, length * DEPTH)
        found.update(dict.fromkeys(component, min(size, UNBOUNDED)))
        lengths.update(dict.fromkeys(component, min(length, UNBOUNDED)))
    return {name: found[name] for name in attributes}


def _nodes(attributes: Mapping[str, Text]) -> dict[str, list[Text]]:
    """The texts behind each name: attributes, attributes of nested ads, and expressions of the slot that refer back to the job."""
    nodes = {name: [text] for name, text in attributes.items()}
    for text in attributes.values():
        for name in text.defined:
            nodes.setdefault(name, []).append(text)
    asked = {name: 2 for name in attributes if name.startswith("request")}
    for name in SLOT - attributes.keys():
        nodes.setdefault(name, []).append(Text(SLOT_TOKENS, asked))
    return nodes


def _cost(text: Text, found: Mapping[str, int], lengths: Mapping[str, int]) -> int:
    if text.opaque:
        return UNBOUNDED
    size = text.tokens + _referenced(text.references, found, 0)
    for call in text.calls:
        work = call.tokens + _referenced(call.references, found, 0)
        size += min(work, UNBOUNDED) ** (1 + call.nesting) + _result(call, lengths) // COPIED
    return size + _length(text, lengths) // COPIED


def _length(text: Text, lengths: Mapping[str, int]) -> int:
    """Characters of the longest result; every operand may be a part of it."""
    length = text.characters + _referenced(text.references, lengths, SHORT if text.calls else 0)
    return min(UNBOUNDED, length + sum(_result(call, lengths) for call in text.calls))


def _result(call: Call, lengths: Mapping[str, int]) -> int:
    """Characters of a growing call's result. Anything but an expression of the job is a short constant, or a value of the slot."""
    references = {name: count for name, count in call.references.items() if name not in GROWING | SCOPES}
    known = call.characters + _referenced(references, lengths, SHORT)
    return min(min(known, UNBOUNDED) ** (1 + call.nesting), UNBOUNDED)


def _inside(texts: Iterable[Text], members: Iterable[str]) -> int:
    """References that stay in the cycle; those of a text with growing calls count twice."""
    return sum((2 if text.calls else 1) * count for text in texts for name, count in text.references.items() if name in members)


def _referenced(references: Mapping[str, int], values: Mapping[str, int], default: int) -> int:
    return sum(count * values.get(name, default) for name, count in references.items())


def _components(edges: Mapping[str, list[str]]) -> list[list[str]]:
    """Strongly connected components, each after those that it refers to (Tarjan's algorithm without recursion)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    waiting: set[str] = set()
    done: list[list[str]] = []
    for root in edges:
        if root in order:
            continue
        walk = [(root, iter(edges[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        waiting.add(root)
        while walk:
            name, rest = walk[-1]
            for ref in rest:
                if ref not in order:
                    order[ref] = low[ref] = len(order)
                    stack.append(ref)
                    waiting.add(ref)
                    walk.append((ref, iter(edges[ref])))
                    break
                if ref in waiting:
                    low[name] = min(low[name], order[ref])
            else:
                walk.pop()
                if walk:
                    low[walk[-1][0]] = min(low[walk[-1][0]], low[name])
                if low[name] == order[name]:
                    component = [stack.pop()]
                    while component[-1] != name:
                        component.append(stack.pop())
                    waiting.difference_update(component)
                    done.append(component)
    return done
