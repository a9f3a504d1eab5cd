"""Random schemas: what is written under a mask is valid, or was cut by its length.

`jsonschema`, in Python and independent of what compiles and checks in the package, is the judge.
RANDOM_SCHEMAS says how many.
"""

from __future__ import annotations

import json
import lzma
import os
import random
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from cabochon.chat.constraints import Compiler, read_structure
from cabochon.chat.masking import Masking
from cabochon.demo import write_demo
from cabochon.tokenizer import Tokenizer
from schemas import random_schema

COUNT = int(os.environ.get("RANDOM_SCHEMAS", "40"))
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "tokenizer" / "gemma4-tokenizer.json.xz"
NONE = dict.fromkeys(("schema", "regex", "choices", "grammar"))


def is_valid(schema: dict[str, Any], value: Any) -> bool:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid(value)


def write(masking: Masking, rng: random.Random, most: int, closing: set[int]) -> list[int] | None:
    """Tokens drawn from masks, at times the first that closes something; None: cut."""
    masker = masking.masker("answer")
    ids: list[int] = []
    while len(ids) < most:
        mask = masker.mask()
        assert mask is not None
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        assert allowed.size, "a mask without a token"
        ends = [token for token in allowed.tolist() if token in closing]
        token = rng.choice(ends) if ends and rng.random() < 0.5 else int(rng.choice(allowed))
        masker.push(token)
        if token in masking.stop_ids:
            return ids
        ids.append(token)
    return None


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published tokenizer is not here")
def test_whatever_masks_of_the_published_vocabulary_let_through_is_valid() -> None:
    tokenizer = Tokenizer(json.loads(lzma.decompress(PUBLISHED.read_bytes())))
    compiler = Compiler(tokenizer, tokenizer.vocab_size)
    controls = set(tokenizer.control_ids.values())
    stops = {tokenizer.control_ids[name] for name in ("<eos>", "<turn|>", "<|tool_response>")}
    closing = {tokenizer.encode(text)[0] for text in ('"', "}", "]", '"}', ",")} | stops
    whole = 0
    for seed in range(COUNT):
        rng = random.Random(seed)
        schema = random_schema(rng)
        structure = read_structure({**NONE, "schema": schema})
        assert structure is not None
        masking = Masking(
            tokenizer=tokenizer,
            vocab_size=tokenizer.vocab_size,
            stop_ids=stops,
            structure=structure,
            matcher=compiler.compile(structure),
        )

        ids = write(masking, rng, 300, closing)

        if ids is not None:
            whole += 1
            assert not controls & set(ids)
            text = tokenizer.decode(ids)
            assert is_valid(schema, json.loads(text)), (seed, schema, text)
    assert whole >= COUNT * 0.8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import cabochon

    folder = tmp_path_factory.mktemp("constraints") / "model"
    write_demo(folder)
    # The demo never writes a control token or a byte; here both must be possible.
    path = folder / "generation_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "suppress_tokens": []}))
    with cabochon.load(folder, context=512) as model:
        yield model


@pytest.mark.parametrize("is_thinking", [False, True])
def test_what_a_model_writes_is_valid_greedy_and_sampled(model: Any, is_thinking: bool) -> None:
    ids = model._parts.tokenizer.control_ids
    closing = {token: 6.0 for text in ('"', "}", "]") for token in model.encode(text).tolist()}
    bias = {**closing, **{token: 12.0 for token in model.stop_token_ids}}
    thought = {"thinking": True, "thinking_budget": 7} if is_thinking else {}
    if is_thinking:
        bias[ids["<|channel>"]] = 100.0
    outcomes = {"stop": 0, "length": 0}
    for seed in range(COUNT):
        schema = random_schema(random.Random(seed))
        for temperature in (0.0, 1.0):
            result = model.generate(
                "Write.", schema=schema, temperature=temperature, seed=seed, max_tokens=150,
                logit_bias=bias, **thought,
            )  # fmt: skip

            outcomes[result.finish_reason] += 1
            if is_thinking:
                assert result.usage.thinking_tokens <= 7
                assert result.raw_text.startswith("<|channel>")
            if result.finish_reason == "stop":
                value = json.loads(result.text)
                assert is_valid(schema, value), (seed, schema, result.text)
                assert result.parsed == value
            else:
                assert result.parsed is None
    # A random model may write until it is cut; most of the time it must not.
    assert outcomes["stop"] >= COUNT
