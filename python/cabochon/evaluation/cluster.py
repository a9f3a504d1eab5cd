"""`cluster="ray"`: a run shared out among processes of Ray, each with a model of its own.

The driver asks, writes and grades nothing twice: workers answer whole blocks of cases and give
their records back, which are those of a run in one process. Actors of Ray itself are used, and not
Ray Data: a block that kills its worker has to be halved before it is tried again, and a batch of
Ray Data is tried again as it is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..display import Bar
from ..errors import DeviceError, EvaluationError, MissingExtra
from .grading import ERROR
from .record import MAX_ATTEMPTS, Journal, Shard
from .run import Run, identity
from .so_far import SoFar
from .tasks import Settings, Task, facts

BLOCK = 64  # cases that go to a worker together, at most
_PER_WORKER = 4  # blocks, at least, so that workers end at about the same time

# What a worker is made of: gives a model. It is called once in each worker.
Loader = Callable[[], Any]


@dataclass(slots=True, eq=False)
class Block:
    """Tasks that are tried together."""

    tasks: list[Task]
    deaths: int = 0  # of workers that had this very block

    def halves(self) -> list[Block]:
        """What is tried after it killed its worker."""
        if len(self.tasks) == 1:
            return [Block(self.tasks, self.deaths + 1)]
        middle = len(self.tasks) // 2
        return [Block(self.tasks[:middle]), Block(self.tasks[middle:])]


def loader_of(model: Any) -> Loader:
    """How other processes get the same model: what `load` was called with. A worker computes with
    one thread unless that said otherwise, as there is a worker for each processor.

    Raises:
        EvaluationError: the model was not made by `cabochon.load`.
    """
    given = getattr(model, "load_options", None)
    if given is None:
        raise EvaluationError(
            "cluster: workers load the model themselves, and this one does not say how: expected a "
            "model of cabochon.load"
        )
    path = os.path.abspath(model.name) if os.path.exists(model.name) else model.name
    options = {**given, "threads": given.get("threads") or 1, "progress": False}

    def load() -> Any:
        import cabochon

        return cabochon.load(path, **options)

    return load


class Worker:
    """One process with one model: answers blocks of tasks. An actor of Ray."""

    def __init__(self, load: Loader, expected: Mapping[str, Any], settings: Settings) -> None:
        self._model, self._settings = load(), settings
        found = facts(self._model)
        if found != dict(expected):
            differs = next(name for name in expected if found.get(name) != expected[name])
            raise EvaluationError(
                f"cluster: a worker's model differs from the driver's in {differs}: found "
                f"{found.get(differs)!r}, expected {expected[differs]!r}"
            )

    def answer(self, tasks: Sequence[Task]) -> tuple[list[Any], list[Any]]:
        """Records of the finished ones, and (record, traceback) of those that failed."""
        journal = Journal(None, {}, (), shard=Shard(), resume=True)
        Run(self._model, tasks, journal, self._settings).go(False)
        failures = [
            (attempts[-1], attempts[-1]["traceback"]) for attempts in journal.attempts.values()
        ]
        return list(journal.records.values()), failures


def share_out(
    model: Any,
    tasks: Sequence[Task],
    journal: Journal,
    settings: Settings,
    expected: Mapping[str, Any],
    progress: Any,
) -> bool:
    """As `Run.go`: all that is not done yet, on the workers of Ray; False: Ctrl-C stopped it.

    Args:
        model: the driver's, which says how workers load theirs.
        expected: what `facts` says of it.

    Raises:
        EvaluationError: workers cannot have the same model, or die before they answer anything.
    """
    waiting = journal.unfinished(tasks)
    keys = {task.key for task in waiting}
    finished, so_far = len(tasks) - len(waiting), SoFar(journal.records.values())
    pool = Pool(loader_of(model), expected, settings)
    with Bar("evaluate", "cases", progress, len(tasks)) as bar:
        try:
            for records, failures in pool.run(waiting):
                for record in records:
                    if record["key"] not in keys:
                        raise EvaluationError(
                            f"cluster: a worker gave case {record['case_id']} under another key: "
                            "its model or its version of cabochon differs from the driver's"
                        )
                    journal.add(record)
                    so_far.add(record)
                for record, traceback in failures:
                    journal.fail(record, traceback)
                finished += len(records) + len(failures)
                bar.update(finished, note=str(so_far))
        except KeyboardInterrupt:
            return False
    return True


def check_cluster(cluster: Any) -> None:
    """Refuses what is no cluster.

    Raises:
        EvaluationError: another word than "ray".
        MissingExtra: Ray is not installed.
    """
    if cluster != "ray":
        raise EvaluationError(f"cluster is {cluster!r}, expected 'ray' or None")
    _ray()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("cluster='ray': pip install 'cabochon[ray]'", extra="ray") from error
    return ray


@dataclass(slots=True, eq=False)
class Pool:
    """Workers of Ray, and who has which block."""

    load: Loader
    expected: Mapping[str, Any]  # facts of the driver's model
    settings: Settings
    actors: list[Any] = field(default_factory=list)  # those that live
    _given: dict[Any, tuple[Any, Block]] = field(default_factory=dict)  # by Ray's reference

    def run(
        self, tasks: Sequence[Task]
    ) -> Iterator[tuple[list[Any], list[tuple[dict[str, Any], str]]]]:
        """Records and failures of block after block, as they come.

        A worker that dies is replaced. Its block is halved and tried again; a task that kills its
        worker for the third time is a failure.

        Raises:
            EvaluationError: workers die before they have answered anything at all.
        """
        ray = _ray()
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False)
        # As many as there are processors of the cluster, each with its share of threads.
        count = max(1, int(ray.cluster_resources().get("CPU", 1)))
        size = max(1, min(BLOCK, -(-len(tasks) // (count * _PER_WORKER))))
        waiting = deque(Block(list(tasks[at : at + size])) for at in range(0, len(tasks), size))
        remote = ray.remote(num_cpus=1, max_restarts=0, max_concurrency=1)(Worker)
        answered, died = 0, 0

        def start() -> Any:
            actor = remote.remote(self.load, self.expected, self.settings)
            self.actors.append(actor)
            return actor

        def give(actor: Any) -> None:
            if waiting:
                block = waiting.popleft()
                self._given[actor.answer.remote(block.tasks)] = (actor, block)

        try:
            for _ in range(min(count, len(waiting))):
                give(start())
            while self._given:
                (reference,), _ = ray.wait(list(self._given), num_returns=1)
                actor, block = self._given.pop(reference)
                try:
                    found = ray.get(reference)
                except ray.exceptions.RayActorError as error:
                    died += 1
                    self.actors.remove(actor)
                    self._refuse_broken(error, answered, died)
                    yield [], self._poisoned(block, waiting, str(error))
                    give(start())
                    continue
                answered += 1
                yield found
                give(actor)
        finally:
            for actor in self.actors:
                ray.kill(actor)

    def _poisoned(
        self, block: Block, waiting: deque[Block], error: str
    ) -> list[tuple[dict[str, Any], str]]:
        """What its worker's death means for a block: tried again, or a failure."""
        halves = block.halves()
        if halves[0].deaths < MAX_ATTEMPTS:
            waiting.extend(halves)
            return []
        (task,) = block.tasks
        reason = f"its worker died {MAX_ATTEMPTS} times"
        return [({**identity(task), "verdict": ERROR, "reason": reason}, error)]

    @staticmethod
    def _refuse_broken(error: Exception, answered: int, died: int) -> None:
        if getattr(error, "error_msg", "") and "creation task" in str(error):
            raise EvaluationError(f"cluster: a worker could not start: {error}") from error
        if answered == 0 and died >= 2 * MAX_ATTEMPTS:
            raise DeviceError(
                f"cluster: {died} workers died and none answered anything: {error}"
            ) from error
