"""Records and manifests as a run writes them, without a model."""

from __future__ import annotations

import random
from typing import Any

TEMPLATE = "0a2c8073c878ab1da004bee933a998606537bbb62016310352c7285c3f01c5b5"
WORDS = [
    *("amber", "barrel", "copper", "dune", "ember", "forge", "grain", "harbour", "ink"),
    *("juniper", "kiln", "lantern"),
]
SUITES = ("tools", "extraction", "classification", "summarisation", "rag")


def manifest(**more: Any) -> dict[str, Any]:
    """Of a run of E2B as stored."""
    return {
        "format": 1,
        "fingerprint": "f" * 64,
        "formats": {"weights": {"linear": "bf16"}, "kv": "bf16", "device": "cpu"},
        "numerics": 1,
        "version": "0.1.0",
        "recipe": {"version": 1, "prompting": ["zero-shot"], "thinking": False, "temperature": 0.0},
        "suites": {},
        "requests": 0,
        "shard": None,
        "machine": {"name": "gemma-4-E2B-it", "tier": "avx2", "threads": 2},
        **more,
    }


def record(suite: str, index: int, *, score: float | None = 1.0, **more: Any) -> dict[str, Any]:
    """One finished case; every key of a line of cases.jsonl."""
    names = random.Random(f"{suite!r}/{index}").sample(WORDS, 5)
    text = f"The {names[0]} of {names[1]} is {names[2]} and {names[3]}, number {index}, {names[4]}."
    if score is None:
        verdict = "error"
    else:
        verdict = "pass" if score == 1 else "partial" if score > 0 else "fail"
    repeat = more.get("repeat", 0)
    prompting = more.get("prompting", "zero-shot")
    found = {
        "key": f"{suite}/{index}/{prompting}/{repeat}",
        "case_id": f"{suite}-{index:03}",
        "version": 1,
        "suite": suite,
        "family": "plain",
        "tier": "medium",
        "cluster_id": f"{suite}-{index:03}",
        "language": "en",
        "prompting": prompting,
        "repeat": repeat,
        "seed": None,
        "prompt_sha256": f"{suite}-{index}",
        "prompt_tokens": 50,
        "cached_tokens": 0,
        "template": TEMPLATE,
        "max_tokens": 512,
        "output_text": text + "<turn|>",
        "controls": [len(text)],
        "turns": None,
        "output_ids_sha256": "0" * 64,
        "thinking_tokens": 0,
        "answer_tokens": 20 + index % 7,
        "wasted_tokens": 0,
        "finish_reason": "stop",
        "cut_in": None,
        "choice_logprobs": None,
        "choice_bytes": None,
        "choice_greedy": None,
        "grader": "label",
        "grader_hash": "1" * 64,
        "extracted": text,
        "extracted_lenient": text,
        "expected": {"label": names[0]},
        "score": score,
        "verdict": verdict,
        "reason": "" if score == 1 else f"wrong_{index % 3}",
        "near_miss": False,
        "parts": None,
        "first_token_s": 0.5 + index / 100,
        "total_s": 2.5,
        "prefill_s": 0.5,
        "decode_s": 2.0,
        "host": "a",
        "time": "2026-01-01T00:00:00+00:00",
    }
    assert more.keys() <= found.keys()
    return {**found, **more}


def said(text: str, *, controls: bool = False) -> dict[str, Any]:
    """Fields of a record whose answer is this text; `controls`: names of control tokens are
    control tokens."""
    return {"output_text": text, "controls": None if controls else [], "extracted": text}


def clean_run(count: int = 60, suites: tuple[str, ...] = SUITES) -> list[dict[str, Any]]:
    """Five suites of passes with one failure in six."""
    return [
        record(suite, index, score=0.0 if index % 6 == 5 else 1.0)
        for suite in suites
        for index in range(count)
    ]
