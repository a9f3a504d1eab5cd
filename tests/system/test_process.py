"""The host process: interpreter exit, forks, threads that stay or go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import cabochon
import cabochon.checkpoint
import tiny
from cabochon import _core, ops
from cabochon._core import testing
from cabochon.errors import CheckpointError, InvalidArgument


def threads_here() -> int:
    return len(os.listdir("/proc/self/task"))


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("trial", range(3))
@pytest.mark.parametrize("work", ["model.generate('x', max_tokens=50)", "ops.matmul(a, a)"])
def test_the_interpreter_exits_cleanly_while_a_daemon_thread_computes(demo_folder, work, trial):
    done = run(
        f"""
        import sys, threading, time
        import numpy as np, cabochon
        from cabochon import ops
        model = cabochon.load(sys.argv[1])
        a = np.ones((400, 400), np.float32)
        def work():
            while True:
                {work}
        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
        """,
        demo_folder,
    )

    assert done.returncode == 0, done.stderr


def test_a_forked_child_computes_with_threads_of_its_own(demo_folder: Path) -> None:
    done = run(
        """
        import os, sys
        import numpy as np, cabochon
        from cabochon import ops
        a = np.ones((300, 300), np.float32)
        expected = ops.matmul(a, a)
        parent = cabochon.load(sys.argv[1], threads=3)
        child = os.fork()
        if child == 0:
            assert (ops.matmul(a, a) == expected).all()
            with cabochon.load(sys.argv[1], threads=2) as model:
                print(model.generate([3, 4], max_tokens=3, ignore_stops=True).usage.output_tokens)
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        parent.generate([3, 4], max_tokens=3)
        """,
        demo_folder,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def test_compute_threads_go_with_the_model_that_wanted_them(demo_folder: Path) -> None:
    before = threads_here()

    with cabochon.load(demo_folder, threads=6) as model:
        model.generate([3, 4], max_tokens=2, ignore_stops=True)
        during = threads_here()

    assert during >= before + 4  # 5 workers, of which another model may have had one
    assert threads_here() == before


def test_a_failed_load_leaves_no_thread(tmp_path: Path, demo_folder: Path) -> None:
    before = threads_here()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((demo_folder / name).read_bytes())
    data = bytearray((demo_folder / "model.safetensors").read_bytes())
    size = int.from_bytes(data[:8], "little")
    data[8 : 8 + size] = data[8 : 8 + size].replace(b"layer_scalar", b"layer_scalaX")
    (tmp_path / "model.safetensors").write_bytes(data)

    with pytest.raises(CheckpointError):
        cabochon.load(tmp_path, threads=6)

    assert threads_here() == before


def test_two_threads_in_one_engine_are_kept_apart(demo_folder: Path) -> None:
    model = cabochon.load(demo_folder)
    engine = model._parts.engine
    ids = np.arange(3, 203, dtype=np.int32)
    pages = np.arange(4, dtype=np.int32)
    refused: list[InvalidArgument] = []
    calls = 0

    def step() -> None:
        nonlocal calls
        for _ in range(200):
            try:
                engine.step(
                    ids, np.array([[0, 200, 0]]), [pages], [np.arange(6, dtype=np.int32)],
                    np.empty((0, 3), np.int32), [None], [None],
                )  # fmt: skip
            except InvalidArgument as error:
                refused.append(error)
            calls += 1

    threads = [threading.Thread(target=step) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert calls == 400
    assert all("in use by another thread" in str(error) for error in refused)
    model.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rows": 0}, "max_rows is 0, expected 1 to 65536"),
        ({"max_rows": 2**60}, "max_rows is"),
        ({"context": 2**63 - 1}, "context is"),
        ({"context": 0}, "context is 0"),
        ({"threads": 0}, "threads is 0, expected 1 to 1024"),
        ({"threads": 1025}, "threads is 1025"),
    ],
)
def test_sizes_that_cannot_be_computed_with_are_refused(demo_folder, options, message):
    parts = cabochon.load(demo_folder)._parts
    shards = cabochon.checkpoint.read_shards(demo_folder)
    checkpoint = _core.Checkpoint(list(shards.paths), list(shards.entries))
    sizes = {"formats": {}, "kv": "f32", "context": 64, "max_rows": 8, "threads": 1} | options

    with pytest.raises(InvalidArgument, match=message):
        _core.memory_plan(checkpoint, parts.config.plan, **sizes)


def test_an_operation_refuses_what_is_not_float32_and_unaligned_memory() -> None:
    halves = np.ones((2, 4), np.uint16)
    with pytest.raises(InvalidArgument, match="x is BF16, expected F32"):
        _core.matmul(halves, np.ones((3, 4), np.float32))
    with pytest.raises(InvalidArgument, match="x is BF16, expected F32"):
        _core.rope(np.ones((2, 1, 4), np.uint16), np.arange(2), 1e4, 1.0, 1.0)
    unaligned = np.frombuffer(bytes(33), np.uint8)[1:].view(np.float32).reshape(2, 4)
    with pytest.raises(InvalidArgument, match="aligned"):
        _core.rms_norm(unaligned, None, 1e-6)
    with pytest.raises(InvalidArgument, match="rotated is"):
        ops.rope(np.ones((2, 1, 4), np.float32), [0, 1], rotated=float("nan"))


def test_a_signal_handler_that_uses_the_model_in_its_own_step_is_refused(demo_folder):
    model = cabochon.load(demo_folder)
    refused = []

    def handler(*_):
        try:
            model.generate([3], max_tokens=1)  # between steps it works
        except InvalidArgument as error:
            refused.append(str(error))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        for _ in range(200):
            model.generate([3, 4, 5] * 300, max_tokens=20, ignore_stops=True)
            if refused:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if not refused:
        pytest.skip("no signal fell into a step: it is too short on this machine")

    assert "signal handler" in refused[0]


def test_a_bias_that_bans_every_token_is_an_error_of_the_argument(demo_folder):
    with cabochon.load(demo_folder) as model:
        bans = dict.fromkeys(range(model.vocab_size), float("-inf"))
        with pytest.raises(InvalidArgument, match="every token is banned"):
            model.generate([3, 4], max_tokens=1, logit_bias=bans)


def test_loading_does_not_depend_on_the_floating_point_mode_of_the_host(tmp_path):
    config = tiny.MODELS["gemma3"].config
    tensors = tiny.make_tensors(config, seed=16, dtype="f16")
    name = next(n for n in tensors if n.endswith("embed_tokens.weight"))
    # Subnormal halves: widening multiplies them, and with denormals flushed they would become 0.
    tensors[name] = np.full(tensors[name].shape, 0x0155, np.uint16).view(np.float16)
    folder = tiny.write_files(tmp_path, config, tensors)
    with cabochon.load(folder) as model:
        expected = model.logits([3, 4, 5])

    flushed = testing.with_flushing(lambda: cabochon.load(folder))

    assert expected.any()
    with flushed as model:
        np.testing.assert_array_equal(model.logits([3, 4, 5]), expected)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", -1.0), ("temperature", float("nan")), ("top_k", -5), ("top_p", 1.5),
        ("min_p", float("nan")), ("repetition_penalty", -1.0), ("repetition_penalty", 0.0),
        ("bias_values", np.array([np.nan], np.float32)),
    ],
)  # fmt: skip
def test_the_core_checks_sampling_options_itself(option, value):
    options = dict(
        temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0, seed=0,
        banned=np.empty(0, np.int32), bias_ids=np.zeros(1, np.int32),
        bias_values=np.zeros(1, np.float32),
    )  # fmt: skip
    _core.SamplingArgs(**options)

    with pytest.raises(InvalidArgument):
        _core.SamplingArgs(**(options | {option: value}))


def test_a_position_that_no_sequence_can_have_is_refused_at_once(demo_folder):
    with cabochon.load(demo_folder) as model:
        pages = np.arange(4, dtype=np.int32)
        with pytest.raises(InvalidArgument, match="position 9223372036854775807"):
            model._parts.engine.step(
                np.array([3], np.int32), np.array([[0, 1, 2**63 - 1]]), [pages], [pages],
                np.empty((0, 3), np.int32), [None], [None],
            )  # fmt: skip
