"""Log-probabilities of continuations: what has to be computed for them, each row of it once.

All that follows one prompt is a trie of token ids (trie.py), which is computed as one sequence: it
turns back to where the next continuation departs. A row of logits answers for every token that is
asked for after it. So single tokens cost the prompt and one row, and m tokens m - 1 rows more.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NoReturn

import numpy as np

from .errors import CabochonError, ContextOverflow, InvalidArgument
from .prompts import PromptReader, check_ids, named, within
from .reading import warn_of_raw_text
from .scheduler.past import common
from .scheduler.scheduler import CHUNK_TOKENS
from .scheduler.sequence import Answer, Branch, Sequence, Want
from .scheduler.waiting import WORTH_TOKENS
from .trie import Run, Trie, sort_key
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
        if isinstance(prompt, str) and not prompt and not self.tools:
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
            self._before(prompt)  # says what is wrong with tools for plain text

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


class Group:
    """All that is asked after one prompt; takes the answers."""

    def __init__(self, before: Ints, index: int) -> None:
        self.before, self.index = before, index  # of the first prompt that is this one
        self._afters: dict[bytes, Ints] = {}  # until they are a trie
        self._edges: dict[bytes, Ints] = {}  # of each continuation
        self._logprobs: Floats = np.empty(0, np.float32)  # of each edge
        self._is_greedy: Bools = np.empty(0, np.bool_)

    def add(self, after: Ints) -> None:
        """One more continuation, not empty; any number of equal ones are one."""
        self._afters[sort_key(after)] = after

    def sequences(self, departs: int) -> list[Sequence]:
        """What computes all rows, each once. They share their prompt, so they are one, but where
        a continuation departs so far back that a ring may not reach there.

        departs: how much of the prompt the next one begins with.
        """
        keys = sorted(self._afters)
        trie = Trie([self._afters[key] for key in keys])
        self._edges = dict(zip(keys, trie.edges, strict=True))
        self._afters.clear()
        self._logprobs = np.full(trie.tokens.size, np.nan, np.float32)
        self._is_greedy = np.zeros(trie.tokens.size, np.bool_)
        parts: list[list[Run]] = []
        furthest = 0  # that the last part has been, so that its ring holds what is before it
        for run in trie.runs:
            if parts and furthest - run.begin <= CHUNK_TOKENS:
                parts[-1].append(run)
                furthest = max(furthest, run.end)
            else:
                parts.append([run])
                furthest = run.end
        ends = [self.before.size] if len(parts) > 1 else []
        marks = [*([departs] if departs >= WORTH_TOKENS else []), *ends]
        return [self._sequence(trie, part, marks) for part in parts]

    def _sequence(self, trie: Trie, runs: List[Run], marks: List[int]) -> Sequence:
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
        ids = np.concatenate([self.before, first.after[: first.end]]) if first.end else self.before
        return Sequence(
            ids,
            consumer=_Taker(self, begin, begin + edges),
            want=Want.TARGET,
            limit=size + max(run.end for run in runs),
            rows=rows,
            targets=targets,
            branches=branches,
            marks=marks,
        )

    def take(self, edge: int, answer: Answer) -> None:
        """What is known of one edge."""
        self._logprobs[edge] = answer.logprob
        self._is_greedy[edge] = answer.best == answer.token

    def score(self, pair: Pair) -> Score:
        """One that was added."""
        edges = self._edges[sort_key(pair.after)]
        is_greedy = bool(self._is_greedy[edges].all())
        return Score.of(pair.after, self._logprobs[edges], is_greedy, pair.num_bytes)


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
        self._groups: list[list[Group | None]] = []  # of each pair; None: nothing is computed
        for index, pairs in enumerate(asked):
            found: list[Group | None] = []
            for pair in pairs:
                group = None
                if pair.after.size:
                    key = sort_key(pair.before)
                    group = groups.get(key) or groups.setdefault(key, Group(pair.before, index))
                    group.add(pair.after)
                found.append(group)
            self._groups.append(found)
        self.sequences: list[Sequence] = []
        self._indices: list[int] = []  # of a prompt of each sequence
        # What begins alike runs together, so that it is found while it is still there.
        ordered = [groups[key] for key in sorted(groups)]
        for one, following in zip_longest(ordered, ordered[1:]):
            departs = common(one.before, following.before) if following else 0
            sequences = one.sequences(departs)
            self.sequences += sequences
            self._indices += [one.index] * len(sequences)

    def results(self, *, is_list: bool) -> list[Scores]:
        """In the order asked for.

        Raises:
            NumericalError, DeviceError, InvalidArgument: what ended a sequence, with its prompt.
        """
        for sequence, index in zip(self.sequences, self._indices, strict=True):
            if sequence.error is not None:
                raise named(sequence.error, index if is_list else None)
        return [
            Scores.of(_score(group, pair) for group, pair in zip(groups, pairs, strict=True))
            for groups, pairs in zip(self._groups, self._asked, strict=True)
        ]


def _score(group: Group | None, pair: Pair) -> Score:
    if group is not None:
        return group.score(pair)
    return Score.of(pair.after, np.empty(0, np.float32), is_greedy=True, num_bytes=pair.num_bytes)
