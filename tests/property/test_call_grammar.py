"""Random tools: a call that is written under their masks is valid, or was cut by its length.

`jsonschema`, in Python and independent of what compiles and checks in the package, is the judge.
RANDOM_TOOLS says how many.
"""

from __future__ import annotations

import json
import os
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema
import numpy as np
import pytest

from cabochon.chat.call_grammar import compile_calls
from cabochon.chat.constraints import Compiler
from cabochon.chat.marks import split_marks
from cabochon.chat.masking import Masking
from cabochon.chat.native import gemma4
from cabochon.chat.parser import AnswerParser
from cabochon.chat.tools import Tool, check_calls, read_tools
from cabochon.demo import _pieces, _tokenizer
from cabochon.errors import CabochonWarning
from cabochon.tokenizer import SPACE, Tokenizer
from cabochon.types import ToolCall
from schemas import random_tool

COUNT = int(os.environ.get("RANDOM_TOOLS", "40"))
TOKENIZER = Tokenizer(_tokenizer(*_pieces()))
IDS = TOKENIZER.control_ids
STOPS = (IDS["<eos>"], IDS["<turn|>"], IDS["<|tool_response>"])
CLOSING = {IDS['<|"|>'], IDS["<tool_call|>"], *STOPS, *(TOKENIZER.encode(c)[0] for c in "}],")}


def tools_of(seed: int) -> tuple[Tool, ...]:
    rng = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CabochonWarning)
        return read_tools([random_tool(rng, name) for name in ("f", "f_1")[: rng.randint(1, 2)]])


def drawn(masking: Masking, rng: random.Random, most: int) -> Iterator[int]:
    """Tokens of one answer, at times the first that closes something."""
    masker = masking.masker("answer")
    for _ in range(most):
        mask = masker.mask()
        assert mask is not None
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        assert allowed.size, "a mask without a token"
        ends = [token for token in allowed.tolist() if token in CLOSING]
        token = rng.choice(ends) if ends and rng.random() < 0.5 else int(rng.choice(allowed))
        masker.push(token)
        yield token
        if token in STOPS:
            return


def read(ids: list[int]) -> AnswerParser:
    parser = AnswerParser(TOKENIZER)
    for token in ids:
        parser.push(token)
    parser.finish()
    return parser


def printed_and_read(call: ToolCall) -> Any:
    """The arguments after a template printed them."""
    said = {"name": call.name, "arguments": dict(call.arguments)}
    question = {"role": "user", "content": "?"}
    answer = {"role": "assistant", "content": "", "tool_calls": [{"id": "0", "function": said}]}
    pieces = [IDS[p] if is_control else p for p, is_control in split_marks(
        gemma4([question, answer], add_generation_prompt=False)
    )]  # fmt: skip
    ids = TOKENIZER.encode_rendered(pieces)
    (again,) = read(ids[ids.index(IDS["<|tool_call>"]) :]).tool_calls
    assert again.error is None
    return again.arguments


def as_written(arguments: Any) -> str:
    """The vocabulary has no U+2581 of its own: a prompt with one says a space."""
    return json.dumps(arguments, sort_keys=True, ensure_ascii=False).replace(SPACE, " ")


def is_valid(tool: Tool, arguments: Any) -> bool:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    judge = jsonschema.Draft202012Validator(dict(tool.parameters), format_checker=checker)
    return judge.is_valid(arguments)


@pytest.mark.parametrize("is_thinking", [False, True])
def test_every_call_that_is_finished_is_valid_and_survives_a_prompt(is_thinking: bool) -> None:
    compiler = Compiler(TOKENIZER, TOKENIZER.vocab_size)
    seen = Counter[str]()
    for seed in range(COUNT):
        tools = tools_of(seed)
        masking = Masking(
            tokenizer=TOKENIZER,
            vocab_size=TOKENIZER.vocab_size,
            stop_ids=STOPS,
            thinking=is_thinking,
            budget=12 if is_thinking else None,
            calls=compile_calls(compiler, tools, IDS['<|"|>']),
            must_call=True,
        )

        ids = list(drawn(masking, random.Random(seed), 400))

        answer = read(ids)
        assert answer.text == ""
        assert is_thinking or answer.thinking is None
        calls = check_calls(answer.tool_calls, tools)
        seen["thought"] += IDS["<|channel>"] in ids
        if ids[-1] not in STOPS:
            seen["cut"] += 1
            calls = calls[: ids.count(IDS["<tool_call|>"])]
        seen["whole"] += len(calls)
        for call in calls:
            if call.error and "each key once" in call.error:  # of a key that no schema names
                seen["twice"] += 1
                continue
            assert call.error is None, (seed, call.error, call.raw)
            (tool,) = (tool for tool in tools if tool.name == call.name)
            assert is_valid(tool, call.arguments), (seed, tool.parameters, call.raw)
            assert as_written(printed_and_read(call)) == as_written(call.arguments), (
                seed,
                call.raw,
            )
    print(dict(seen))
    assert seen["whole"] >= COUNT * 0.8
    assert seen["twice"] <= COUNT * 0.05
    assert (seen["thought"] > 0) == is_thinking
