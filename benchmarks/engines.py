"""cabochon and llama.cpp behind one small interface, each in a process of its own.

A process of its own keeps memory, threads and OpenMP settings apart. It reads one JSON command a
line and answers with one JSON line:

    {"do": "generate", "prompts": [[...]], "tokens": n}  -> {"first_s", "total_s", "ids"}
    {"do": "logits", "ids": [...], "positions": [...], "file": path}    -> {}, float32 rows in file

Both engines decode greedily, take token ids, never stop early, and hold nothing of one command when
the next comes. `first_s` is the wall clock to the first token drawn of the first sequence that has
one, `total_s` to the last of all, both around the engine's public call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
TICKS = os.sysconf("SC_CLK_TCK")  # a second


def busy_seconds() -> float:
    """CPU seconds of this machine that were not idle so far, those a hypervisor took among them."""
    user, nice, system, _, _, irq, softirq, steal = (
        int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS


class EngineError(RuntimeError):
    """What the process said when it could not do what it was asked."""


class Engine:
    """The parent's end: starts the process, sends commands, stops it."""

    def __init__(self, name: str, **options: Any) -> None:
        """`name` is "cabochon" or "llama.cpp"; `options` those of its class below."""
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, __file__, name, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts = self._answer()

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> dict[str, Any]:
        """The process's answer, with "others": the cores that anything else kept busy meanwhile."""
        start, busy, own = time.perf_counter(), busy_seconds(), self._cpu_seconds()
        answer = self._ask({"do": "generate", "prompts": prompts, "tokens": tokens})
        elapsed = time.perf_counter() - start
        others = busy_seconds() - busy - (self._cpu_seconds() - own)
        return answer | {"others": max(0.0, others / elapsed)}

    def logits(self, ids: Sequence[int], positions: Sequence[int]) -> Logits:
        """One row a position."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "logits.npy"
            self._ask({"do": "logits", "ids": ids, "positions": positions, "file": str(file)})
            rows: Logits = np.load(file)
        return rows

    def _cpu_seconds(self) -> float:
        """What the process has computed for so far, all its threads."""
        text = Path(f"/proc/{self._process.pid}/stat").read_text()
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICKS

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "ended without a word"}
        if "error" in answer:
            self.close()
            raise EngineError(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        # Its standard input ends, and so does it.
        self._process.communicate()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Served(Protocol):
    facts: dict[str, Any]

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]: ...

    def logits(self, ids: list[int], positions: list[int]) -> Logits: ...


class Cabochon:
    def __init__(self, folder: str, sequences: int = 1, **options: Any) -> None:
        import cabochon
        import report
        from runs import compute_all

        self._model = compute_all(
            cabochon.load(folder, max_sequences=sequences, progress=False, **options)
        )
        self.facts = report.facts(self._model, Path(folder))

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        start = time.perf_counter()
        results = self._model.generate(
            prompts, max_tokens=tokens, temperature=0, ignore_stops=True, progress=False
        )
        total_s = time.perf_counter() - start
        return {
            "first_s": min(result.timings.first_token_s for result in results),
            "total_s": total_s,
            "ids": [result.token_ids.tolist() for result in results],
        }

    def logits(self, ids: list[int], positions: list[int]) -> Logits:
        found: Logits = self._model.logits(ids, positions=positions, progress=False)
        return found


class Llama:
    """llama.cpp through the C interface of llama-cpp-python: no tokenizer, no sampler, no cache.

    Its defaults, so: weights repacked for this CPU, flash attention where it chooses it, an f16
    cache. The token is the arg-max that NumPy finds in the logits where llama.cpp left them, which
    is faster than its greedy sampler.
    """

    BATCH = 2048  # tokens of one call at most

    def __init__(
        self, file: str, *, threads: int, context: int, sequences: int = 1, kv: str = "f16"
    ) -> None:
        import llama_cpp

        self._api = llama_cpp
        # Kept alive: the library calls it until the process ends.
        self._log = llama_cpp.llama_log_callback(self._print_errors)
        llama_cpp.llama_log_set(self._log, None)
        llama_cpp.llama_backend_init()
        model_options = llama_cpp.llama_model_default_params()
        model_options.n_gpu_layers = 0
        # Nothing is read on demand: the per-layer table is in memory before the clock starts.
        model_options.lazy_mode = 0
        self._model = llama_cpp.llama_model_load_from_file(file.encode(), model_options)
        if not self._model:
            raise RuntimeError(f"{file}: llama.cpp cannot load it")
        self._threads, self._context, self._kv = threads, context, kv
        self._contexts: dict[int, Any] = {}
        self._batch = llama_cpp.llama_batch_init(self.BATCH, 0, 1)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(self._model)
        )
        for count in {1, sequences}:
            self._context_of(count)
        self.facts = {
            "name": "llama.cpp",
            "version": f"llama-cpp-python {llama_cpp.__version__}",
            "features": self._features(),
            "weights": Path(file).name,
            "kv": kv,
            "threads": threads,
        }

    def generate(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        context = self._context_of(len(prompts))
        self._api.llama_memory_clear(self._api.llama_get_memory(context), True)
        start = time.perf_counter()
        rows = self._feed(
            context,
            [
                (token, position, sequence, position == len(prompt) - 1)
                for sequence, prompt in enumerate(prompts)
                for position, token in enumerate(prompt)
            ],
        )
        newest = [self._best(context, row) for row in rows]
        first_s = time.perf_counter() - start
        ids = [[token] for token in newest]
        for step in range(tokens - 1):
            fed = [
                (token, len(prompts[sequence]) + step, sequence, True)
                for sequence, token in enumerate(newest)
            ]
            newest = [self._best(context, row) for row in self._feed(context, fed)]
            for written, token in zip(ids, newest, strict=True):
                written.append(token)
        return {"first_s": first_s, "total_s": time.perf_counter() - start, "ids": ids}

    def logits(self, ids: list[int], positions: list[int]) -> Logits:
        context = self._context_of(1)
        self._api.llama_memory_clear(self._api.llama_get_memory(context), True)
        wanted = set(positions)
        rows = self._feed(
            context, [(token, place, 0, place in wanted) for place, token in enumerate(ids)]
        )
        return np.stack([self._row(context, row) for row in rows])

    def _context_of(self, sequences: int) -> Any:
        """A context for so many sequences, as someone who needs just these would make it."""
        if sequences not in self._contexts:
            options = self._api.llama_context_default_params()
            options.n_ctx = self._context * sequences
            options.n_seq_max = sequences
            options.n_batch = self.BATCH
            options.n_threads = options.n_threads_batch = self._threads
            options.type_k = options.type_v = {"f32": 0, "f16": 1, "q8_0": 8}[self._kv]
            context = self._api.llama_init_from_model(self._model, options)
            if not context:
                raise RuntimeError(f"llama.cpp makes no context of {sequences} sequences")
            self._contexts[sequences] = context
        return self._contexts[sequences]

    def _feed(self, context: Any, tokens: list[tuple[int, int, int, bool]]) -> list[int]:
        """Runs (id, position, sequence, logits wanted); returns where rows of logits lie."""
        if len(tokens) > self.BATCH:
            raise ValueError(f"{len(tokens)} tokens at once, expected at most {self.BATCH}")
        batch = self._batch
        batch.n_tokens = len(tokens)
        for place, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[place] = token
            batch.pos[place] = position
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = sequence
            batch.logits[place] = wanted
        if status := self._api.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode returned {status}")
        return [place for place, token in enumerate(tokens) if token[3]]

    def _row(self, context: Any, place: int) -> Logits:
        pointer = self._api.llama_get_logits_ith(context, place)
        return np.ctypeslib.as_array(pointer, (self._vocab_size,))

    def _best(self, context: Any, place: int) -> int:
        return int(self._row(context, place).argmax())

    def _features(self) -> str:
        """Such as "AVX2 AVX512 REPACK": what the library was compiled with and the CPU has."""
        words = self._api.llama_print_system_info().decode().replace("CPU :", "").split("|")
        return " ".join(word.split("=")[0].strip() for word in words if word.strip().endswith("1"))

    @staticmethod
    def _print_errors(level: int, text: bytes, _: Any) -> None:
        if level == 4:  # GGML_LOG_LEVEL_ERROR
            sys.stderr.write(text.decode(errors="replace"))


def serve(engine: Served, answers: Any) -> None:
    print(json.dumps(engine.facts), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        if command["do"] == "generate":
            answer = engine.generate(command["prompts"], command["tokens"])
        else:
            np.save(command["file"], engine.logits(command["ids"], command["positions"]))
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    name, options = sys.argv[1], json.loads(sys.argv[2])
    # Answers keep the pipe; whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        serve({"cabochon": Cabochon, "llama.cpp": Llama}[name](**options), answers)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
