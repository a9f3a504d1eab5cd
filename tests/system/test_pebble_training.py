"""A few steps of pebble's training: what is written loads here and in transformers, and agrees.

Needs the parity extra (torch, transformers). The smallest size, "grain", learns for seconds.
"""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import cabochon
from cabochon.tokenizer import Tokenizer

torch = pytest.importorskip("torch", reason="training needs torch: pip install '.[parity]'")
transformers = pytest.importorskip(
    "transformers", reason="training needs transformers: pip install '.[parity]'"
)
pytestmark = pytest.mark.parity

PEBBLE = Path(__file__).parents[2] / "benchmarks" / "pebble"
# Largest difference of two float32 computations of the same logits, which spread by about 1 and
# are sums of 32 products: 1e-5 is some hundred roundings; a wrong term moves them by 1e-2 and more.
BOUND = 1e-4
COMMON = ["--size", "grain", "--tokens", "1024", "--threads", "1", "--every", "2", "--save", "60"]


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PEBBLE)
        names = ("corpus", "shapes", "tokenizer", "train")
        yield {name: importlib.import_module(name) for name in names}


def run(scripts: dict[str, ModuleType], folder: Path, steps: int, **more: str) -> Path:
    folder.mkdir(exist_ok=True)
    if not (folder / "tokenizer.json").exists():
        texts = scripts["corpus"].texts("train", 0, 200)
        scripts["tokenizer"].write(folder, scripts["tokenizer"].train(texts, 640))
    given = dict(zip(COMMON[::2], COMMON[1::2], strict=True)) | more
    flat = [word for pair in given.items() for word in pair]
    train = scripts["train"]
    train.train(train.arguments_of([str(folder), "--steps", str(steps), *flat]))
    return folder


@pytest.fixture(scope="module")
def trained(scripts, tmp_path_factory) -> Path:
    return run(scripts, tmp_path_factory.mktemp("grain"), 8)


@pytest.mark.parametrize("size", ["grain", "pebble", "pebble-moe"])
def test_what_is_written_loads_in_both_and_the_logits_agree(scripts, trained, tmp_path, size):
    folder = trained
    if size != "grain":
        (tmp_path / "tokenizer.json").write_bytes((trained / "tokenizer.json").read_bytes())
        folder = run(scripts, tmp_path, 1, **{"--size": size})
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    case = scripts["corpus"].case("test", 0, 3, task="call")
    with cabochon.load(folder, kv="f32", context=512, progress=False) as model:
        prompt = model.render(case.prompt, tools=case.tools)
        got = model.logits(list(prompt.token_ids))
    with torch.no_grad():
        expected = reference(torch.tensor([list(prompt.token_ids)])).logits[0].numpy()
    assert np.abs(expected).max() > 0.5
    assert np.abs(got - expected).max() < BOUND


def test_transformers_reads_the_tokenizer_and_gives_the_same_ids(scripts, trained):
    theirs = transformers.AutoTokenizer.from_pretrained(trained)
    ours = Tokenizer.from_folder(trained)
    for index in range(20):
        case = scripts["corpus"].case("train", 0, index)
        for text, is_control in scripts["corpus"].printed(case):
            if not is_control:
                assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
    assert theirs.convert_tokens_to_ids("<|tool_call>") == ours.control_ids["<|tool_call>"]


def test_a_conversation_in_a_packed_row_gets_the_logits_that_it_has_alone(scripts, trained):
    model = transformers.AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32)
    tokenizer = Tokenizer.from_folder(trained)
    packer = scripts["train"].Packer(tokenizer, part="train", seed=0, tokens=768)
    ids, _, positions, places = packer.batch()
    with torch.no_grad():
        packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        second = [place for place in places if place[2] > 0]  # not the first of its row
        assert second
        for _, row, begin, end in second:
            alone = model(input_ids=ids[row : row + 1, begin:end]).logits[0]
            assert float((packed[row, begin:end] - alone).abs().max()) < BOUND


def test_training_lowers_the_loss_and_its_curve_says_so(trained):
    lines = [json.loads(line) for line in (trained / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_a_run_that_was_cut_goes_on_to_the_files_of_one_that_was_not(scripts, trained, tmp_path):
    """Its rate depends on the step, so the cut run is told the same number of steps."""
    (tmp_path / "tokenizer.json").write_bytes((trained / "tokenizer.json").read_bytes())
    train, real = scripts["train"], scripts["train"].Packer.batch

    def stop_at_fifth(self):
        if self.batches == 4:
            raise KeyboardInterrupt
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Packer, "batch", stop_at_fifth)
        with pytest.raises(KeyboardInterrupt):
            run(scripts, tmp_path, 8, **{"--save": "0"})
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 4
    run(scripts, tmp_path, 8)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


def test_an_hour_of_being_stopped_is_no_minute_of_training(scripts, trained, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((trained / "tokenizer.json").read_bytes())
    hours = itertools.count(step=3600.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts["train"].time, "monotonic", lambda: next(hours))
        run(scripts, tmp_path, 0, **{"--minutes": "0.02"})
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] > 2
