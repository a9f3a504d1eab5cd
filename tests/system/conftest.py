"""The demo checkpoint (random, with a tokenizer, stops of a chat model), and a model of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cabochon.demo import write_demo

    folder = tmp_path_factory.mktemp("demo") / "model"
    write_demo(folder)
    return folder


@pytest.fixture(scope="session")
def base_folder(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without an end of a turn among its stops: a base model."""
    folder = tmp_path_factory.mktemp("base") / "model"
    folder.mkdir()
    for path in demo_folder.iterdir():
        if path.name != "generation_config.json":
            (folder / path.name).symlink_to(path)
    config = json.loads((demo_folder / "generation_config.json").read_text())
    config["eos_token_id"] = config["eos_token_id"][:1]
    (folder / "generation_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of packed weights, which is not there yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CABOCHON_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A small checkpoint with a per-layer table, which a test may change."""
    return Path(shutil.copytree(tiny_checkpoint("e_type"), tmp_path / "model"))


@pytest.fixture
def load(demo_folder: Path) -> Iterator[Callable[..., Any]]:
    """`cabochon.load` of the demo; what it gives is closed, and must have all its pages back."""
    import cabochon

    models = []

    def load(folder: Path = demo_folder, **options: Any) -> Any:
        models.append(cabochon.load(folder, **options))
        return models[-1]

    yield load
    for model in models:
        scheduler = model._scheduler
        assert scheduler.unfinished == []
        cache = scheduler.cache
        assert all(past.awaited == 0 for past in cache.pasts)
        cache.clear()  # pasts stay for whoever begins as they do
        assert cache.free_pages == cache.counts
        model.close()


@pytest.fixture
def model(load: Callable[..., Any]) -> Any:
    return load()


@pytest.fixture
def says(model: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts words into models' mouths, since those of random weights mean nothing: the next answers
    are these texts, control tokens by name, and the last of them is said again and again. Without
    a text they speak for themselves again."""
    from cabochon.generation import Generation

    take = Generation.take

    def says(*texts: str) -> None:
        left = [model.encode(text, special=True).tolist() for text in texts]

        def scripted(self: Any, answer: Any) -> bool:
            self._masker = self.sequence.mask = None  # what is put there was not drawn
            if not self._ids:
                self.script = left.pop(0) if len(left) > 1 else left[0]
            answer.token = self.script[len(self._ids)]
            self.sequence.tokens[self.sequence.count - 1] = answer.token
            return take(self, answer)

        monkeypatch.setattr(Generation, "take", scripted if texts else take)

    return says
