"""Continuations of one prompt as rows of logits, each of which is computed once.

Knows ids and positions alone: no model, no text, no sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .scheduler.past import common
from .types import Ints


@dataclass(slots=True)
class Run:
    """Nodes of a trie whose rows are computed one after the other."""

    after: Ints  # a continuation that goes through them
    begin: int  # its tokens `begin` to `end` - 1 are computed, and end in the last node
    end: int
    nodes: range


class Trie:
    """A node is a row of logits, the root that of the prompt's end; an edge is a token that is
    asked for after it. Both are numbered in the order in which they are computed."""

    def __init__(self, afters: Sequence[Ints]) -> None:
        """afters: none empty, no two equal, in the order of `sort_key`."""
        self.runs = [Run(afters[0], 0, 0, range(1))]
        edges: list[list[int]] = [[]]  # tokens after each node
        nodes: list[int] = [0]  # that the continuation goes along, and which edge of each
        order: list[int] = []
        paths = []
        previous = afters[0][:0]
        for after in afters:
            shared = common(previous, after)
            del nodes[shared + 1 :], order[shared:]
            known = len(nodes)
            nodes += range(len(edges), len(edges) + int(after.size) - known)
            edges += [[] for _ in nodes[known:]]
            if known < len(nodes):
                self._go_on(after, nodes[known - 1], range(nodes[known], len(edges)))
            for node, token in zip(nodes[shared:], after[shared:].tolist(), strict=True):
                order.append(len(edges[node]))
                edges[node].append(token)
            paths.append((np.array(nodes), np.array(order)))
            previous = after
        self.tokens = np.array([token for after_node in edges for token in after_node], np.int32)
        self.counts = np.array([len(after_node) for after_node in edges])
        self.firsts = np.cumsum(self.counts) - self.counts  # first edge of each node
        # Of each continuation.
        self.edges = [(self.firsts[along] + which).astype(np.int32) for along, which in paths]

    def _go_on(self, after: Ints, node: int, nodes: range) -> None:
        """Computes new nodes of a continuation, from one that is there: in the run that it ends,
        or in one that turns back to it."""
        last, end = self.runs[-1], int(after.size) - 1
        if last.nodes[-1] == node:
            last.after, last.end = after, end
            last.nodes = range(last.nodes.start, nodes.stop)
        else:
            self.runs.append(Run(after, end - len(nodes), end, nodes))

    def asked(self, run: Run, size: int) -> tuple[Ints, Ints]:
        """Rows and targets of a run, after a prompt of so many tokens."""
        nodes = slice(run.nodes.start, run.nodes.stop)
        begin = size + run.end - len(run.nodes)
        rows = np.repeat(np.arange(begin, size + run.end, dtype=np.int32), self.counts[nodes])
        first = int(self.firsts[run.nodes.start])
        return rows, self.tokens[first : first + rows.size]


def sort_key(ids: Ints) -> bytes:
    """Bytes in whose order what begins alike stands together."""
    return ids.astype(">u4").tobytes()
