"""Objects of the core as Python may hold them: initialised or not at all, results read-only."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from cabochon import _core
from cabochon.checkpoint import read_json, read_shards
from cabochon.config import read_config

CLASSES = [member for member in vars(_core).values() if isinstance(member, type)]


@pytest.fixture
def engine(tiny_checkpoint):
    folder = tiny_checkpoint("gemma3")
    shards = read_shards(folder)
    return _core.Engine(
        _core.Checkpoint([str(path) for path in shards.paths], list(shards.entries)),
        read_config(read_json(folder / "config.json")).plan,
        formats={},
        kv="f32",
        threads=1,
        max_rows=8,
        global_pages=1,
        sliding_pages=1,
    )


def test_the_core_has_the_classes_that_the_next_test_goes_through():
    assert {_core.Engine, _core.StepResult, _core.MemoryPlan, _core.Checkpoint} <= set(CLASSES)


@pytest.mark.parametrize("core_class", CLASSES)
def test_no_object_exists_that_was_not_initialised(core_class):
    with pytest.raises(TypeError, match=r"__init__|No constructor"):
        core_class.__new__(core_class)


def test_a_checkpoint_of_none_is_refused():
    plan = read_config(tiny.MODELS["gemma3"].config).plan
    sizes = {"threads": 1, "max_rows": 1, "global_pages": 1, "sliding_pages": 1}

    with pytest.raises(TypeError, match="incompatible"):
        _core.Engine(None, plan, formats={}, kv="f32", **sizes)


def test_a_class_can_be_derived_from_and_is_initialised_once(tiny_checkpoint):
    class Counted(_core.Checkpoint):
        made = 0

        def __new__(cls, *arguments):
            cls.made += 1
            return super().__new__(cls, *arguments)

    shards = read_shards(tiny_checkpoint("gemma3"))
    checkpoint = Counted([str(path) for path in shards.paths], list(shards.entries))

    assert isinstance(checkpoint, _core.Checkpoint)
    assert Counted.made == 1


def test_the_arrays_of_a_step_cannot_be_written_to(engine):
    page = np.zeros(1, np.int32)
    result = engine.step(
        np.array([3, 4], np.int32),
        np.array([[0, 2, 0]]),
        [page],
        [page],
        np.array([[0, _core.WANT_LOGITS, 0], [1, _core.WANT_TOP, 0]], np.int32),
        [None],
        [None],
        top=2,
    )

    names = [name for name in dir(result) if not name.startswith("_")]
    assert {"tokens", "logits", "top_ids", "failures"} <= set(names)
    for name in names:
        array = getattr(result, name)
        assert array.size > 0
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
