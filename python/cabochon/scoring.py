"""Log-probabilities of continuations: what has to be computed for them, each row of it once.

All that follows one prompt is a trie of token ids. Its prompt is one sequence, which turns back to
where the next continuation departs; a row of logits answers for every token that is asked for
after it. So single tokens cost the prompt and one row, and m tokens cost m - 1 rows more.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .errors import CabochonError, ContextOverflow, InvalidArgument
from .prompts import PromptReader, check_ids, named, within
from .reading import warn_of_raw_text
from .scheduler.scheduler import CHUNK_TOKENS
from .scheduler.sequence import Answer, Branch, Sequence, Want
from .types import Bools, Floats, Ints, Prompt, Score, Scores

BOUNDARIES = ("separate", "joint")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """One continuation after what stands before it."""

    before: Ints  # [p], at least one
    after: Ints  # [m]
    num_bytes: int | None  # of the continuation's text, None: nobody knows


# --- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReader:
    """Turns what callers give into pairs of ids, for one model and one call."""

    prompts: PromptReader
    raw: bool
    boundary: str
    tools: List[Any]  # declarations
    preserve_thinking: bool

    def read(self, prompts: List[Any], continuations: Any, *, is_list: bool) -> list[list[Pair]]:
        """The pairs of each prompt, in the order given.

        Raises:
            InvalidArgument, ContextOverflow, TemplateError, Unsupported: with the prompt's and the
                continuation's index.
        """
        if not is_list:
            return [self._of_prompt(prompts[0], _listed("continuations", continuations))]
        lists = _listed("continuations", continuations)
        if len(lists) != len(prompts):
            _refuse(
                "continuations",
                f"a list of {len(lists)}",
                f"{len(prompts)} lists, one for each prompt",
            )
        pairs = []
        for index, (prompt, given) in enumerate(zip(prompts, lists, strict=True)):
            try:
                pairs.append(self._of_prompt(prompt, _listed(f"continuations[{index}]", given)))
            except CabochonError as error:
                raise named(error, index) from None
        return pairs

    def _of_prompt(self, prompt: Any, continuations: List[Any]) -> list[Pair]:
        is_joint = self.boundary == "joint"
        if is_joint:
            self._check_joint(prompt)
        before = np.empty(0, np.int32) if is_joint else self._before(prompt)
        pairs = []
        for index, given in enumerate(continuations):
            name = f"continuations[{index}]"
            try:
                pair = (
                    self._joint(prompt, given, name)
                    if is_joint
                    else self._separate(before, given, name)
                )
            except ContextOverflow as error:
                raise within(error, f"{name}: ") from None
            self._check_length(pair, name)
            pairs.append(pair)
        return pairs

    def _before(self, prompt: Any) -> Ints:
        if isinstance(prompt, str) and not prompt:
            return self._with_bos(np.empty(0, np.int32))
        return self.prompts.to_continue(
            prompt,
            raw=self.raw,
            tools=self.tools,
            thinking=False,
            preserve_thinking=self.preserve_thinking,
            continue_final=False,
            allow_control=False,
        ).token_ids

    def _separate(self, before: Ints, given: Any, name: str) -> Pair:
        if isinstance(given, str):
            ids = self.prompts.encode(given, bos=False, special=False)
            return Pair(before=before, after=ids, num_bytes=len(given.encode()))
        if isinstance(given, Prompt) or not isinstance(given, (list, tuple, np.ndarray)):
            _refuse(name, _kind(given), "text or token ids")
        ids = check_ids(given, self.prompts.vocab_size, name=name)
        tokenizer = self.prompts.tokenizer
        num_bytes = tokenizer.count_bytes(ids.tolist()) if tokenizer else None
        return Pair(before=before, after=ids, num_bytes=num_bytes)

    def _check_joint(self, prompt: Any) -> None:
        is_plain = self.raw or self.prompts.template is None or prompt == ""
        if not isinstance(prompt, str) or not is_plain:
            _refuse("boundary", "'joint'", "'separate' for all but plain text (raw=True)")
        if self.tools:
            self._before(prompt or " ")  # says what is wrong with tools for plain text

    def _joint(self, prompt: str, given: Any, name: str) -> Pair:
        if not isinstance(given, str):
            _refuse(name, _kind(given), "text, since boundary is 'joint'")
        ids, count = self.prompts.encode_split(prompt + given, len(prompt.rstrip()))
        before = self._with_bos(ids[:count])
        return Pair(before=before, after=ids[count:], num_bytes=len(given.encode()))

    def _with_bos(self, ids: Ints) -> Ints:
        bos = self.prompts.bos_id
        if bos is None and ids.size == 0:
            _refuse("prompt", "empty", "text: this checkpoint has no BOS to stand alone")
        return ids if bos is None else np.concatenate([np.array([bos], np.int32), ids])

    def _check_length(self, pair: Pair, name: str) -> None:
        tokens, context = pair.before.size + pair.after.size, self.prompts.context
        if tokens > context:
            raise ContextOverflow(
                f"{name} has {pair.after.size:,} tokens after "
                f"{pair.before.size:,} of its prompt, expected at most {context:,} in all: load "
                "with a larger context, or shorten them",
                tokens=tokens,
                context=context,
            )


def _listed(name: str, given: Any) -> List[Any]:
    if not isinstance(given, (list, tuple)):
        _refuse(name, _kind(given), "a list of texts or of lists of token ids")
    if len(given) == 0:
        _refuse(name, "empty", "at least one continuation")
    return given


def _kind(given: Any) -> str:
    return repr(given) if isinstance(given, (bool, int, float)) else type(given).__name__


def _refuse(name: str, found: str, expected: str) -> NoReturn:
    raise InvalidArgument(f"{name} is {found}, expected {expected}", argument=name.split("[")[0])


# --- text of any length --------------------------------------------------------------------------


def windows(ids: Ints, *, bos: Ints, context: int) -> list[tuple[Ints, Ints]]:
    """Text of any length as pairs of what stands before and what is predicted.

    Every window begins with BOS and every token is predicted once: in the first window and those
    that follow after BOS alone and what the window has before it, in the last one, which is as
    long as the others, after the end of the window before.

    Args:
        ids: of the text, without BOS, [n]; n may be 0.
        bos: BOS alone, [1].
        context: tokens of a window with its BOS, at least 2.

    Returns:
        Pairs whose second parts, joined, are `ids`; one pair where it is empty.
    """
    room, count = context - 1, int(ids.size)
    found = []
    for begin in range(0, max(1, count), room):
        end = min(begin + room, count)
        first = max(0, end - room)
        found.append((np.concatenate([bos, ids[first:begin]]), ids[begin:end]))
    return found


def rolling(model: Any, texts: List[str], *, progress: Any = None) -> list[Score]:
    """Log-probabilities of whole raw texts of any length, in windows of the model's context.

    Args:
        model: a `Model`; of an instruction-tuned one raw text says little (CabochonWarning).
        texts: any number of them; an empty one has log-probability 0.
        progress: as for `load`.

    Returns:
        A `types.Score` for each text, of all its tokens.

    Raises:
        InvalidArgument: what is no text; a model without BOS, or loaded for a context of 1.
    """
    bos = model.encode("", bos=True)
    if bos.size == 0 or model.context < 2:
        raise InvalidArgument(
            f"rolling: found {bos.size} BOS tokens and a context of {model.context}, expected one "
            "and at least 2: every window begins with BOS and predicts a token"
        )
    if model.info().template is not None:
        warn_of_raw_text(stacklevel=2)
    ids = model.encode(list(texts))
    split = [windows(item, bos=bos, context=model.context) for item in ids]
    pairs = [pair for found in split for pair in found]
    if not pairs:
        return []
    scored = iter(model.score([p for p, _ in pairs], [[x] for _, x in pairs], progress=progress))
    return [
        _joined(text, [next(scored).scores[0] for _ in found])
        for text, found in zip(texts, split, strict=True)
    ]


def _joined(text: str, scores: List[Score]) -> Score:
    return Score.of(
        np.concatenate([score.token_ids for score in scores]),
        np.concatenate([score.logprobs for score in scores]),
        all(score.is_greedy for score in scores),
        len(text.encode()),
    )


# --- computing -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Run:
    """Nodes of a trie whose rows are computed one after the other."""

    after: Ints  # a continuation that goes through them
    begin: int  # its tokens `begin` to `end` - 1 are computed, and end in the last node
    end: int
    nodes: range


class Trie:
    """Continuations of one prompt. A node is a row of logits, the root that of the prompt's end;
    an edge is a token that is asked for after it. Both are numbered in the order in which they are
    computed."""

    def __init__(self, afters: List[Ints]) -> None:
        """afters: none empty, no two equal, in the order of `sort_key`."""
        self.runs = [Run(afters[0], 0, 0, range(1))]
        edges: list[list[int]] = [[]]  # tokens after each node
        nodes: list[int] = [0]  # that the continuation goes along, and which edge of each
        order: list[int] = []
        paths = []
        previous = afters[0][:0]
        for after in afters:
            common = _common(previous, after)
            del nodes[common + 1 :], order[common:]
            begin, known, count = len(nodes) - 1, len(edges), int(after.size) - len(nodes)
            nodes += range(known, known + count)
            edges += [[] for _ in range(count)]
            if count and self.runs[-1].nodes[-1] == nodes[begin]:
                last = self.runs[-1]
                last.after, last.end = after, int(after.size) - 1
                last.nodes = range(last.nodes.start, len(edges))
            elif count:
                self.runs.append(Run(after, begin, int(after.size) - 1, range(known, len(edges))))
            for node, token in zip(nodes[common:], after[common:].tolist(), strict=True):
                order.append(len(edges[node]))
                edges[node].append(token)
            paths.append((np.array(nodes), np.array(order)))
            previous = after
        self.tokens = np.array([token for after_node in edges for token in after_node], np.int32)
        self.counts = np.array([len(after_node) for after_node in edges])
        self.firsts = np.cumsum(self.counts) - self.counts  # first edge of each node
        self.edges = [(self.firsts[along] + which).astype(np.int32) for along, which in paths]

    def asked(self, run: Run, size: int) -> tuple[Ints, Ints]:
        """Rows and targets of a run, after a prompt of so many tokens."""
        nodes = slice(run.nodes.start, run.nodes.stop)
        begin = size + run.end - len(run.nodes)
        rows = np.repeat(np.arange(begin, size + run.end, dtype=np.int32), self.counts[nodes])
        first = int(self.firsts[run.nodes.start])
        return rows, self.tokens[first : first + rows.size]


def _common(one: Ints, other: Ints) -> int:
    """How many ids at their beginnings are the same."""
    most = min(one.size, other.size)
    differs = one[:most] != other[:most]
    return int(differs.argmax()) if differs.any() else most


def sort_key(ids: Ints) -> bytes:
    """Bytes in whose order what begins alike stands together."""
    return ids.astype(">u4").tobytes()


class Group:
    """All that is asked after one prompt; takes the answers."""

    def __init__(self, before: Ints, index: int) -> None:
        self.before, self.index = before, index  # of the first prompt that is this one
        self._afters: dict[bytes, Ints] = {}
        self._edges: dict[bytes, Ints] = {}  # of each continuation
        self._logprobs: Floats = np.empty(0, np.float32)  # of each edge
        self._is_greedy: Bools = np.empty(0, np.bool_)
        self._taken = 0

    def add(self, after: Ints) -> None:
        """One more continuation; any number of equal ones are one."""
        if after.size:
            self._afters[sort_key(after)] = after

    def sequences(self) -> list[Sequence]:
        """What computes all rows, each once. They share their prompt, so they are one, but where
        a continuation departs so far back that a ring may not reach there."""
        if not self._afters:
            return []
        keys = sorted(self._afters)
        trie = Trie([self._afters[key] for key in keys])
        self._edges = dict(zip(keys, trie.edges, strict=True))
        self._afters.clear()
        self._logprobs = np.full(trie.tokens.size, np.nan, np.float32)
        self._is_greedy = np.zeros(trie.tokens.size, np.bool_)
        parts: list[list[Run]] = []
        for run in trie.runs:
            if parts and parts[-1][-1].end - run.begin <= CHUNK_TOKENS:
                parts[-1].append(run)
            else:
                parts.append([run])
        return [self._sequence(trie, part) for part in parts]

    def _sequence(self, trie: Trie, runs: List[Run]) -> Sequence:
        size = int(self.before.size)
        first, *others = runs
        rows, targets = trie.asked(first, size)
        branches = []
        for run in others:
            asked = trie.asked(run, size)
            tokens = run.after[run.begin : run.end]
            branches.append(
                Branch(position=size + run.begin, tokens=tokens, rows=asked[0], targets=asked[1])
            )
        edges = sum(branch.rows.size for branch in branches) + rows.size
        begin = int(trie.firsts[first.nodes.start])
        return Sequence(
            np.concatenate([self.before, first.after[: first.end]]),
            consumer=_Taker(self, begin, begin + edges),
            want=Want.TARGET,
            limit=size + max(run.end for run in runs),
            rows=rows,
            targets=targets,
            branches=branches,
        )

    def take(self, edge: int, answer: Answer) -> None:
        """What is known of one edge."""
        self._logprobs[edge] = answer.logprob
        self._is_greedy[edge] = answer.best == answer.token

    def score(self, pair: Pair) -> Score:
        """One that was added, or an empty one."""
        edges = self._edges[sort_key(pair.after)] if pair.after.size else np.empty(0, np.int32)
        return Score.of(
            pair.after, self._logprobs[edges], bool(self._is_greedy[edges].all()), pair.num_bytes
        )


class _Taker:
    """The consumer of one sequence: edges `begin` to `end` - 1 of its group."""

    def __init__(self, group: Group, begin: int, end: int) -> None:
        self._group, self._next, self._end = group, begin, end

    def take(self, answer: Answer) -> bool:
        """One more edge."""
        self._group.take(self._next, answer)
        self._next += 1
        return self._next == self._end


class Scoring:
    """Every pair of one call, computed once, whoever asks for it and how often."""

    def __init__(self, asked: list[list[Pair]]) -> None:
        self._asked = asked
        groups: dict[bytes, Group] = {}
        self._groups: list[list[Group]] = []
        for index, pairs in enumerate(asked):
            of_prompt = []
            for pair in pairs:
                key = sort_key(pair.before)
                group = groups.get(key)
                if group is None:
                    group = groups[key] = Group(pair.before, index)
                group.add(pair.after)
                of_prompt.append(group)
            self._groups.append(of_prompt)
        self.sequences: list[Sequence] = []
        self._indices: list[int] = []  # of a prompt of each sequence
        # What begins alike runs together, so that it is found while it is still there.
        for key in sorted(groups):
            found = groups[key].sequences()
            self.sequences += found
            self._indices += [groups[key].index] * len(found)

    def results(self, *, is_list: bool) -> list[Scores]:
        """In the order asked for.

        Raises:
            NumericalError, DeviceError, InvalidArgument: what ended a sequence, with its prompt.
        """
        for sequence, index in zip(self.sequences, self._indices, strict=True):
            if sequence.error is not None:
                raise named(sequence.error, index if is_list else None)
        return [
            Scores.of([group.score(pair) for group, pair in zip(groups, pairs, strict=True)])
            for groups, pairs in zip(self._groups, self._asked, strict=True)
        ]
