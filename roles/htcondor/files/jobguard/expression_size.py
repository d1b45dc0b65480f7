"""How much work the evaluation of a job's ClassAd expressions can be: an upper estimate, found in time linear in their text.

HTCondor evaluates a referenced attribute again at every reference, so `a = b + b`, `b = c + c` and so on double at every step. The size of
an attribute is the number of tokens of its text, plus the size of every attribute that a word of the text may refer to, once for each time
that the word occurs.

The estimate never depends on where a string or a comment ends, because the parser of HTCondor knows two kinds of escapes: every word
counts as a reference, those in strings too. Only a text that is certainly one string, number or constant has no references.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Iterable, Mapping

# A size from which on evaluation never ends in practice; greater ones are cut to it.
UNBOUNDED = 10**12
# HTCondor gives up at this depth of references (MAX_CLASSAD_RECURSION).
DEPTH = 400
# Calls whose work or result is a multiple of an argument's: a list that is walked, a text that is inserted for each match. The factor is
# more than what the arguments of a realistic call have; longer ones also count by their tokens.
GROWING = frozenset(["countmatches", "evalineachcontext", "regexps", "replace", "replaceall"])
GROWTH = 16
# Calls that build references while they run.
OPAQUE = frozenset(["eval", "unresolved"])
# Expressions of a slot ad, which refer back to the job.
SLOT = frozenset(["isowner", "preempt", "rank", "requirements", "start", "withinresourcelimits"])
SLOT_TOKENS = 64
# Characters of a string that cost as much as a token.
CHARACTERS = 16

# The last two alternatives are one string in both of HTCondor's parsers: one backslash before a quote, or no quote inside.
_LITERAL = re.compile(r'-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?|true|false|undefined|error|"(?:[^"\\]|\\[^\\])*"|"[^"]*"', re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9_]+|=\?=|=!=|[=!<>]=|\S")
_ESCAPE = re.compile(r"\\([0-7]{1,3})")
# An expression inside a string, which the schedd evaluates when the job starts.
_EMBEDDED = re.compile(r"\$\$\(\[.*\]", re.DOTALL)


@dataclass(frozen=True)
class Text:
    """What the text of an attribute costs by itself, and the words in it that may be references."""

    tokens: int
    references: Mapping[str, int]
    defined: frozenset[str] = frozenset()
    factor: int = 1


# A sign and a number.
LITERAL = Text(2, {})


def parse(text: str) -> Text:
    """The cost and references of an attribute's text; LITERAL for a short constant."""
    if _LITERAL.fullmatch(text):
        embedded = _EMBEDDED.search(text)
        if not embedded:
            return LITERAL if len(text) <= 64 * CHARACTERS else Text(1 + len(text) // CHARACTERS, {})
        text = embedded.group()
    # A quoted name may be written with escapes.
    decoded = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)
    return _parse(text if decoded == text else f"{text} {decoded}")


def _parse(text: str) -> Text:
    tokens = _TOKEN.findall(text)
    words = Counter(token.lower() for token in tokens if token[0].isalpha() or token[0] == "_")
    # An attribute of a nested ad: NAME = or 'NAME' =.
    equals = [at for at, token in enumerate(tokens) if token == "=" and at] if "[" in tokens else []
    names = [tokens[at - 2 if tokens[at - 1] == "'" else at - 1].lower() for at in equals]
    definitions = Counter(name for name in names if name in words)
    hidden = bool(definitions) and ("/*" in text or "//" in text)
    factor: int = GROWTH ** min(sum(words[name] for name in GROWING), 10)
    if hidden or any(name in words for name in OPAQUE):
        factor = UNBOUNDED
    return Text(len(tokens) + len(text) // CHARACTERS, dict(words - definitions), frozenset(definitions), factor)


def sizes(attributes: Mapping[str, Text]) -> dict[str, int]:
    """The size of each attribute by its name in lower case, at most UNBOUNDED."""
    nodes = _nodes(attributes)
    edges = {name: [ref for text in texts for ref in text.references if ref in nodes] for name, texts in nodes.items()}
    found: dict[str, int] = {}
    for component in _components(edges):
        members = set(component)
        if len(component) > 1 or component[0] in edges[component[0]]:
            total = sum(_cost(nodes[name], found) for name in component)
            branches = any(_inside(nodes[name], members) > 1 for name in component)
            # A cycle ends at HTCondor's depth. With two references it has branched as often by then.
            found.update(dict.fromkeys(component, UNBOUNDED if branches else min(total * DEPTH, UNBOUNDED)))
        else:
            found[component[0]] = min(_cost(nodes[component[0]], found), UNBOUNDED)
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


def _cost(texts: Iterable[Text], found: Mapping[str, int]) -> int:
    return sum(text.factor * (text.tokens + sum(count * found.get(name, 0) for name, count in text.references.items())) for text in texts)


def _inside(texts: Iterable[Text], members: set[str]) -> int:
    """References that stay in the cycle; a growing call counts as several."""
    return sum(text.factor * count for text in texts for name, count in text.references.items() if name in members)


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
