"""Log-probabilities of continuations: what score promises."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import cabochon
import tiny
from cabochon import scoring
from cabochon.errors import (
    CabochonWarning,
    ContextOverflow,
    InvalidArgument,
    NumericalError,
    Unsupported,
)

Load = Callable[..., Any]
Floats = npt.NDArray[np.float32]
SKY = "Why is the sky blue?"
ANSWERS = [" because of the air", " because of the sea", " because", "", " it is not", " because"]


class Counted:
    """An engine that notes how many rows, and rows of logits, it was asked for."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.rows, self.wanted, self.wishes = engine, 0, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, **arguments: Any) -> Any:
        self.rows += arguments["tokens"].size
        self.wishes += len(arguments["wishes"])
        self.wanted += np.unique(arguments["wishes"][:, 0]).size
        return self._engine.step(**arguments)


def counted(model: Any) -> Counted:
    model._loop._engine = Counted(model._loop._engine)
    return model._loop._engine  # type: ignore[no-any-return]


def same_bits(found: Floats, expected: Floats) -> None:
    # As bits: 0.0 == -0.0 would pass.
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def read_after(model: Any, before: list[int], after: list[int]) -> Floats:
    """The same by logprobs, which asks for every row and so skips no layer for any."""
    return model.logprobs([*before, *after]).logprobs[len(before) :]  # type: ignore[no-any-return]


# --- what it is ----------------------------------------------------------------------------------


def test_a_score_has_the_bits_of_logprobs_for_the_same_ids(model: Any) -> None:
    before = model.encode(SKY, bos=True).tolist()

    scores = model.score(SKY, ANSWERS, raw=True)

    for text, score in zip(ANSWERS, scores.scores, strict=True):
        assert score.token_ids.tolist() == model.encode(text).tolist()
        same_bits(score.logprobs, read_after(model, before, score.token_ids.tolist()))
        assert score.logprob == math.fsum(score.logprobs.tolist())
        assert score.num_bytes == len(text.encode())
        assert score.per_token == score.logprob / max(1, score.token_ids.size)
        assert score.per_byte == score.logprob / max(1, len(text))


def test_a_score_is_what_the_logits_say_in_float64(model: Any) -> None:
    before = model.encode(SKY, bos=True).tolist()

    scores = model.score(SKY, ANSWERS, raw=True)

    for score in scores.scores:
        ids = [*before, *score.token_ids.tolist()]
        logits = model.logits(ids)[len(before) - 1 : -1].astype(np.float64)
        normal = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected = normal[np.arange(score.token_ids.size), score.token_ids]
        # 4e-6 a token (docs/numerics.md), whatever the sum.
        np.testing.assert_allclose(score.logprobs, expected, rtol=0, atol=4e-6)
        assert score.logprob == pytest.approx(expected.sum(), abs=4e-6 * score.token_ids.size)
        assert score.is_greedy == bool((logits.argmax(axis=1) == score.token_ids).all())
    sums = np.array([score.logprob for score in scores.scores])
    shares = np.exp(sums) / np.exp(sums).sum()
    np.testing.assert_allclose(scores.probabilities, shares, rtol=1e-12)


def test_what_generate_wrote_is_scored_with_its_own_log_probabilities(model: Any) -> None:
    result = model.generate(SKY, temperature=0, max_tokens=9, ignore_stops=True, logprobs=True)
    drawn = model.generate(SKY, seed=5, max_tokens=9, ignore_stops=True, logprobs=True)

    greedy, other = model.score(SKY, [result.token_ids, drawn.token_ids.tolist()]).scores

    same_bits(greedy.logprobs, result.logprobs)
    same_bits(other.logprobs, drawn.logprobs)


def test_is_greedy_says_whether_every_token_was_the_most_likely_one(model: Any) -> None:
    ids = [2, 40, 41]
    for _ in range(4):
        ids.append(int(model.logits(ids, positions="last").argmax()))
    second = int(np.argsort(model.logits(ids[:5], positions="last")[0])[-2])

    scores = model.score(ids[:3], [ids[3:], [*ids[3:5], second], [*ids[3:5], second, ids[6]]])

    assert [score.is_greedy for score in scores.scores] == [True, False, False]


def test_a_prompt_is_read_as_generate_reads_it(model: Any) -> None:
    messages = [{"role": "user", "content": SKY}]
    rendered = model.render(messages)
    ids = rendered.token_ids.tolist()

    found = [model.score(prompt, [" a"]) for prompt in (SKY, messages, ids, rendered)]

    for scores in found:
        same_bits(scores.scores[0].logprobs, read_after(model, ids, model.encode(" a").tolist()))


def test_an_empty_prompt_is_bos_and_an_empty_continuation_costs_nothing(model: Any) -> None:
    bos = model.encode("", bos=True).tolist()
    engine = counted(model)

    empty = model.score("Hi", [""]).scores[0]
    assert engine.rows == 0
    after_bos = model.score("", ["Hi"]).scores[0]
    listed = model.score(["", "Hi"], [["Hi"], [""]])

    assert (empty.logprob, empty.is_greedy, empty.per_token, empty.per_byte) == (0.0, True, 0, 0)
    assert empty.logprobs.dtype == np.float32 and empty.token_ids.dtype == np.int32
    same_bits(after_bos.logprobs, read_after(model, bos, model.encode("Hi").tolist()))
    assert listed[0].scores[0].logprob == after_bos.logprob
    assert listed[1].scores[0].logprob == 0.0


def test_control_strings_in_a_continuation_are_text(model: Any) -> None:
    turn = model.encode("<turn|>", special=True)[0]

    for raw in (False, True):
        found = model.score("Hi", ["a<turn|>"], raw=raw).scores[0].token_ids.tolist()
        assert turn not in found
        assert model.decode(found) == "a<turn|>"
    joint = model.score("Hi", ["a<turn|>"], raw=True, boundary="joint").scores[0]
    assert turn not in joint.token_ids.tolist()


def test_ids_may_be_control_tokens_and_count_the_bytes_of_their_names(model: Any) -> None:
    ids = model.encode("é<turn|>", special=True)

    score = model.score("Hi", [ids]).scores[0]

    assert score.num_bytes == len("é<turn|>".encode())
    np.testing.assert_array_equal(score.token_ids, ids)


# --- boundary ------------------------------------------------------------------------------------


def test_jointly_a_token_that_straddles_counts_for_the_continuation(model: Any) -> None:
    # " the" is one token, " t" and "he" are others.
    bos, whole = model.encode("", bos=True).tolist(), model.encode("a the").tolist()
    alone = model.encode("a t").tolist()
    assert len(whole) == len(alone) == 2 and whole != alone

    joint = model.score("a t", ["he"], raw=True, boundary="joint").scores[0]
    separate = model.score("a t", ["he"], raw=True).scores[0]

    assert joint.token_ids.tolist() == whole[1:]
    same_bits(joint.logprobs, read_after(model, [*bos, *whole[:1]], whole[1:]))
    assert joint.num_bytes == separate.num_bytes == 2
    after = model.encode("he").tolist()
    assert separate.token_ids.tolist() == after
    same_bits(separate.logprobs, read_after(model, [*bos, *alone], after))


def test_jointly_spaces_at_the_end_of_a_prompt_go_to_the_continuation(model: Any) -> None:
    bos = model.encode("", bos=True).tolist()

    for prompt in ("a ", "a  \n"):
        joint = model.score(prompt, ["the"], raw=True, boundary="joint").scores[0]
        after = model.encode(prompt + "the").tolist()[1:]
        assert joint.token_ids.tolist() == after
        same_bits(joint.logprobs, read_after(model, [*bos, *model.encode("a").tolist()], after))


def test_jointly_a_prompt_may_dissolve_into_the_continuation(model: Any) -> None:
    bos, whole = model.encode("", bos=True).tolist(), model.encode(" the").tolist()

    for prompt in (" t", "", "  "):
        joint = model.score(prompt, [" the"[len(prompt.rstrip()) :]], raw=True, boundary="joint")
        expected = model.encode(prompt + " the"[len(prompt.rstrip()) :]).tolist()
        assert joint.scores[0].token_ids.tolist() == expected
    same_bits(
        model.score(" t", ["he"], raw=True, boundary="joint").scores[0].logprobs,
        read_after(model, bos, whole),
    )


# --- what is computed ----------------------------------------------------------------------------


def test_single_tokens_cost_the_prompt_and_one_row_of_logits(model: Any) -> None:
    prompt = model.encode("Which letter?", bos=True).tolist()
    engine = counted(model)

    scores = model.score(prompt, [[10], [11], [12], [13], [11]])

    assert engine.rows == len(prompt)
    assert (engine.wanted, engine.wishes) == (1, 4)
    assert scores.scores[1].logprob == scores.scores[4].logprob


def test_longer_continuations_cost_a_row_for_each_token_that_nobody_had_before(model: Any) -> None:
    engine = counted(model)

    scores = model.score(
        [2, 30, 31], [[5, 6, 7, 8], [5, 6, 9, 10], [5, 6], [5, 6, 9, 11], [12, 13]]
    )

    # After the prompt: 5, 6, 7 and, from 6 on, 9 and, from the prompt on, 12.
    assert engine.rows == 3 + 3 + 1 + 1
    assert engine.wanted == 1 + 3 + 1 + 1
    assert engine.wishes == 2 + 1 + 2 + 1 + 2 + 1  # of the nodes: prompt, 5, 6, 7, 9, 12
    for score, after in zip(
        scores.scores,
        [[5, 6, 7, 8], [5, 6, 9, 10], [5, 6], [5, 6, 9, 11], [12, 13]],
        strict=True,
    ):
        same_bits(score.logprobs, read_after(model, [2, 30, 31], after))


def test_equal_prompts_of_a_list_are_computed_once(model: Any) -> None:
    engine = counted(model)

    together = model.score([[2, 9, 9]] * 3, [[[5], [6]], [[6], [7, 8]], [[5]]])

    assert engine.rows == 3 + 1
    assert [scores.scores[0].logprob for scores in together] == [
        model.score([2, 9, 9], [after]).scores[0].logprob for after in ([5], [6], [5])
    ]


def test_what_prompts_have_in_common_is_computed_once_with_the_same_bits(load: Load) -> None:
    model = load(context=512)
    engine = counted(model)
    draw = np.random.default_rng(4)
    preamble = [2, *draw.integers(200, 300, 199).tolist()]
    prompts = [[*preamble, *draw.integers(200, 300, 20).tolist()] for _ in range(16)]
    afters = [[[5], [6], [7, 8]] for _ in prompts]

    model._scheduler.cache.is_reusing = False
    apart = model.score(prompts, afters)
    rows_apart, engine.rows = engine.rows, 0
    model._scheduler.cache.is_reusing = True
    shared = model.score(prompts, afters)

    assert rows_apart == 16 * (200 + 20 + 1)
    assert engine.rows == 200 + 16 * (20 + 1)
    for one, other in zip(apart, shared, strict=True):
        for score, expected in zip(one.scores, other.scores, strict=True):
            same_bits(score.logprobs, expected.logprobs)


def test_results_come_in_the_order_asked_for_with_the_same_bits_in_any_batch(load: Load) -> None:
    model, narrow = load(), load(max_sequences=1, threads=1)
    draw = np.random.default_rng(3)
    shared = [2, *draw.integers(200, 300, 80).tolist()]
    prompts = [[*shared[: draw.integers(1, 80)], int(draw.integers(200, 300))] for _ in range(12)]
    afters = [
        [draw.integers(200, 204, draw.integers(1, 6)).tolist() for _ in range(4)] for _ in prompts
    ]

    found = model.score(prompts, afters)

    for chunk, order in ((256, range(12)), (7, range(11, -1, -1)), (1, [3, 3, 0])):
        narrow._scheduler.chunk_tokens = chunk
        again = narrow.score([prompts[i] for i in order], [afters[i] for i in order])
        for index, scores in zip(order, again, strict=True):
            for one, other in zip(scores.scores, found[index].scores, strict=True):
                same_bits(one.logprobs, other.logprobs)
                assert one.is_greedy == other.is_greedy
    for prompt, many, scores in zip(prompts, afters, found, strict=True):
        for after, score in zip(many, scores.scores, strict=True):
            same_bits(score.logprobs, read_after(model, prompt, after))


@pytest.mark.parametrize("name", ["e_type", "gemma3", "moe"])
def test_continuations_longer_than_a_chunk_keep_their_bits(
    name: str, tiny_checkpoint: Callable[[str], Path]
) -> None:
    """They depart further back than the rings of these models reach."""
    draw = np.random.default_rng(8)
    long, longer = draw.integers(3, 200, 300).tolist(), draw.integers(3, 200, 420).tolist()
    afters = [long, longer, [*long[:250], 7, 8], [*longer[:10], 9], [4]]
    prompt = draw.integers(3, 200, 40).tolist()

    with cabochon.load(tiny_checkpoint(name), context=512) as model:
        found = model.score(prompt, afters)

        for after, score in zip(afters, found.scores, strict=True):
            same_bits(score.logprobs, read_after(model, prompt, after))


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "continuations", "message"),
    [
        ("Hi", [], r"continuations is empty, expected at least one"),
        ("Hi", "a", r"continuations is str, expected a list of texts"),
        ("Hi", None, r"continuations is NoneType, expected a list"),
        ("Hi", np.array([5, 6]), r"continuations is ndarray, expected a list"),
        ("Hi", [5, 6], r"continuations\[0\] is 5, expected text or token ids"),
        ("Hi", ["a", True], r"continuations\[1\] is True, expected text or token ids"),
        ("Hi", ["a", math.nan], r"continuations\[1\] is nan, expected text or token ids"),
        ("Hi", [[5, True]], r"continuations\[0\]\[1\] is True, expected integers from 0"),
        ("Hi", [[5, math.nan]], r"continuations\[0\]\[1\] is nan, expected integers from 0"),
        ("Hi", [[-1]], r"continuations\[0\]\[0\] is -1, expected integers from 0"),
        ("Hi", ["a", ["b"]], r"continuations\[1\]\[0\] is 'b', expected integers"),
        ("Hi", ["a\ud800"], r"U\+D800 at character 1, half of a surrogate pair"),
        (["a", "b"], ["c", "d"], r"prompt 0: continuations\[0\] is str, expected a list"),
        (["a", "b"], [["c"], []], r"prompt 1: continuations\[1\] is empty"),
        (["a", "b"], [["c"]], r"continuations is a list of 1, expected 2 lists"),
        (["a", ["b", 5]], [["c"], ["d"]], r"prompt 1: prompt\[0\] is 'b', expected integers"),
        ([], [["a"]], r"prompt is \[\], expected"),
        (5, ["a"], r"prompt is int, expected text"),
        ([[5], []], [["a"], ["a"]], r"prompt 1: prompt is empty"),
    ],
)
def test_what_is_no_prompt_or_continuation_is_refused_before_anything_is_computed(
    model: Any, prompt: Any, continuations: Any, message: str
) -> None:
    engine = counted(model)

    with pytest.raises(InvalidArgument, match=message):
        model.score(prompt, continuations)

    assert engine.rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boundary": "both"}, "boundary is 'both', expected one of 'separate', 'joint'"),
        ({"boundary": True}, "boundary is True"),
        ({"boundary": "joint"}, "boundary is 'joint', expected 'separate' for all but plain"),
        ({"raw": 1}, "raw is 1, expected True or False"),
        ({"image_tokens": 71}, "image_tokens is 71"),
        ({"temperature": 0}, "score: unknown keyword 'temperature'"),
        ({"boundry": "joint"}, "did you mean boundary"),
        ({"enable_thinking": False}, "write thinking="),
        ({"raw": True, "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ],
)
def test_an_option_that_is_none_is_refused(
    model: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        model.score("Hi", ["a"], **options)


def test_jointly_ids_have_no_boundary_to_move(model: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"continuations\[1\] is list, expected text, since"):
        model.score("Hi", ["a", [5]], raw=True, boundary="joint")
    with pytest.raises(InvalidArgument, match="'separate' for all but plain text"):
        model.score([5, 6], ["a"], raw=True, boundary="joint")


def test_a_continuation_that_leaves_the_context_is_named_with_both_lengths(load: Load) -> None:
    model = load(context=40)

    with pytest.raises(
        ContextOverflow, match=r"continuations\[1\] has 3 tokens after 38"
    ) as caught:
        model.score([5] * 38, [[6, 7], [6, 7, 8]])
    with pytest.raises(ContextOverflow, match=r"prompt 1: continuations\[0\] has 3 tokens after"):
        model.score([[5], [5] * 38], [[[6]], [[6, 7, 8]]])
    with pytest.raises(ContextOverflow, match=r"prompt has 40 tokens"):
        model.score([5] * 40, [[6]])
    with pytest.raises(ContextOverflow, match=r"continuations\[0\]: prompt has 50,000 bytes"):
        model.score("Hi", ["a" * 50_000])

    assert (caught.value.tokens, caught.value.context) == (41, 40)
    whole = model.score([5] * 38, [[6, 7]]).scores[0]
    same_bits(whole.logprobs, read_after(model, [5] * 38, [6, 7]))


def test_without_a_tokenizer_ids_are_scored_and_nobody_knows_their_bytes(
    tiny_checkpoint: Callable[[str], Path],
) -> None:
    with cabochon.load(tiny_checkpoint("e_type")) as model:
        scores = model.score([2, 5], [[6, 7], [8]])

        assert scores.scores[0].num_bytes is None
        assert math.isnan(scores.scores[0].per_byte)
        with pytest.raises(InvalidArgument, match="per_byte"):
            scores.choose("per_byte")
        with pytest.raises(Unsupported, match="no tokenizer"):
            model.score([2, 5], ["a"])


def test_a_failure_names_the_prompt_that_it_is_of(tmp_path: Path) -> None:
    config = tiny.MODELS["e_type"].config
    tensors = tiny.make_tensors(config, seed=13)
    name = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    tensors[name][7, 0] = 0x7F7F  # scaled by sqrt(hidden) it overflows
    folder = tiny.write_files(tmp_path, config, tensors)
    message = r"^prompt 2: position 3: the logits hold NaN"

    with cabochon.load(folder) as model:
        with pytest.raises(NumericalError, match=message):
            model.score([[2, 5], [2, 6], [2, 9]], [[[4]], [[4, 7]], [[8], [4, 7, 8]]])
        assert math.isfinite(model.score([2, 5], [[4, 8, 7]]).scores[0].logprob)


# --- texts of any length -------------------------------------------------------------------------


def test_rolling_predicts_every_token_once_after_bos_and_what_its_window_holds(
    load: Load, base_folder: Path
) -> None:
    model = load(base_folder, context=16)
    bos = model.encode("", bos=True).tolist()
    texts = [
        "It is said that they were on the way to be there, and not far from it",
        "",
        "the",
        "of" * 40,
    ]

    found = scoring.rolling(model, texts)

    for text, score in zip(texts, found, strict=True):
        ids = model.encode(text).tolist()
        assert score.token_ids.tolist() == ids
        assert score.num_bytes == len(text)
        expected = []
        for begin in range(0, len(ids), 15):
            first = max(0, min(begin, len(ids) - 15))
            read = model.logprobs([*bos, *ids[first : begin + 15]]).logprobs
            expected += read[1 + begin - first :].tolist()
        same_bits(score.logprobs, np.array(expected, np.float32))
        assert score.logprob == math.fsum(expected)
    assert [score.token_ids.size > 15 for score in found] == [True, False, False, True]
    assert found[1].logprob == 0.0
    assert scoring.rolling(model, []) == []


def test_rolling_over_an_instruction_tuned_model_says_that_it_says_little(model: Any) -> None:
    with pytest.warns(CabochonWarning, match="says little of it") as caught:
        found = scoring.rolling(model, ["Hi"])

    assert caught[0].filename == __file__
    ids = [*model.encode("Hi", bos=True).tolist()]
    same_bits(found[0].logprobs, model.logprobs(ids).logprobs[1:])


def test_rolling_needs_bos_and_room_for_a_token(load: Load, base_folder: Path) -> None:
    with pytest.raises(InvalidArgument, match="1 BOS tokens and a context of 1"):
        scoring.rolling(load(base_folder, context=1), ["Hi"])


# --- memory --------------------------------------------------------------------------------------

PEAK = """
import sys
import numpy as np, cabochon

def peak_mib():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

draw = np.random.default_rng(1)
with cabochon.load(sys.argv[1], context=512) as model:
    def ask(items):
        prompts = [draw.integers(3, model.vocab_size, 24) for _ in range(items)]
        sizes = [(1, 1, 1, 2)] * items
        afters = [[draw.integers(3, model.vocab_size, n) for n in some] for some in sizes]
        return model.score(prompts, afters)
    ask(1)
    before = peak_mib()
    found = ask(2500)
    print(sum(len(scores.scores) for scores in found), peak_mib() - before)
"""


def test_10_000_requests_take_at_most_64_mib_more_than_one(tmp_path: Path) -> None:
    # One layer, and all the ids of the published models: 5,000 rows of logits are 5 GiB.
    config = tiny.gemma3_text(
        layers=1, pattern=1, query_pre_attn_scalar=16, vocab_size=262_144, hidden_size=16,
        intermediate_size=32, sliding_window=16, num_attention_heads=1, num_key_value_heads=1,
        head_dim=16,
    )  # fmt: skip
    folder = tiny.write_checkpoint(tmp_path / "model", config, 1)

    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True
    )

    requests, grown_mib = done.stdout.split()
    assert int(requests) == 10_000
    # The first step of many rows touches the planned 48 MiB of logits.
    assert float(grown_mib) <= 64


# --- choosing ------------------------------------------------------------------------------------


def made(*scores: tuple[float, int, int]) -> cabochon.types.Scores:
    """Scores of the given sums, tokens and bytes."""
    return cabochon.types.Scores.of(
        cabochon.types.Score.of(
            np.arange(tokens, dtype=np.int32),
            np.full(tokens, total / tokens, np.float32),
            is_greedy=False,
            num_bytes=num_bytes,
        )
        for total, tokens, num_bytes in scores
    )


def test_the_best_is_chosen_by_sum_by_token_by_byte_or_without_the_prompt() -> None:
    scores = made((-4.0, 2, 16), (-3.0, 1, 2), (-8.0, 8, 16), (-3.0, 1, 2))
    alone = made((-16.0, 2, 16), (-4.0, 1, 2), (-16.0, 8, 16), (-4.0, 1, 2))

    chosen = [scores.choose(by) for by in ("logprob", "per_token", "per_byte")]

    assert scores.best == 1  # the first of equal ones
    assert chosen == [1, 2, 0]
    assert scores.choose(unconditional=alone) == 0
    assert scores.choose("per_token", unconditional=alone) == 0
    with pytest.raises(InvalidArgument, match="by is 'bytes'"):
        scores.choose("bytes")
    with pytest.raises(InvalidArgument, match="unconditional has 1 continuations, expected"):
        scores.choose(unconditional=made((-1.0, 1, 1)))


def test_scores_are_written_as_json_as_text_and_as_a_table(model: Any) -> None:
    scores = model.score("Hi", [" a", ""])

    found = json.loads(json.dumps(scores.to_dict()))

    assert found["best"] == 1
    assert found["scores"][0]["logprobs"] == scores.scores[0].logprobs.tolist()
    assert found["scores"][1]["token_ids"] == []
    assert sum(found["probabilities"]) == pytest.approx(1)
    assert (
        repr(scores)
        == f"Scores(2 continuations, best=1, probability={scores.probabilities[1]:.3f})"
    )
    assert repr(scores.scores[1]) == "Score(logprob=0.000, 0 tokens, is_greedy=True)"
    table = scores._repr_html_()
    assert table.count("<tr>") == 3
    assert "1 (best)" in table
