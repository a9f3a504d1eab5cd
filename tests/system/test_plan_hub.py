"""`cabochon.plan` of a hub id that is not here: from its config and headers alone.

The hub is on this machine (local_hub.py) and counts what it sends.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cabochon
import local_hub
import qat
import tiny
from cabochon import _core
from cabochon.checkpoint import INDEX, read_json, read_shards
from cabochon.config import read_config
from cabochon.errors import CheckpointError
from data.hostile import make as hostile
from local_hub import COMMIT, Hub

CONFIGS = Path(__file__).parents[1] / "data" / "configs"

LIMIT = "64MiB"  # below what is free, so that plans of two processes have the same to go by

CLIENT = """
import json, sys
import cabochon
from cabochon import errors
answers = []
for name, options in json.loads(sys.argv[1]):
    try:
        answers.append(cabochon.plan(name, **options).to_dict())
    except errors.CabochonError as error:
        place = {key: getattr(error, key, None) for key in ("file", "tensor", "key")}
        answers.append({"error": type(error).__name__, "text": str(error), **place})
print(json.dumps(answers))
"""

Plans = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def plans(hub: Hub, tmp_path: Path) -> Plans:
    """The plans (or errors) of several (id, options), made by one process with an empty cache."""

    def run(*asked: tuple[str, dict[str, Any]], **variables: str) -> list[dict[str, Any]]:
        return local_hub.ask(hub, CLIENT, asked, tmp_path, **variables)

    return run


def files_of(folder: Path) -> dict[str, local_hub.Content]:
    return {path.name: path for path in sorted(folder.iterdir())}


def header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def without_hub(plan: dict[str, Any]) -> dict[str, Any]:
    """All that a plan of the same files on disk says too."""
    own = ("download_bytes", "fetched_bytes", "advice")
    return {key: value for key, value in plan.items() if key not in own}


OPTIONS: list[dict[str, Any]] = [
    {},
    {"weights": "int8", "kv": "f32", "context": 100, "max_sequences": 3},
    {"weights": "int4", "per_layer_embeddings": "memory"},
]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("name", ["gemma3", "e_type", "moe"])
def test_a_plan_of_a_hub_id_has_the_figures_of_the_same_files_on_disk(
    hub: Hub, plans: Plans, tmp_path: Path, name: str, shards: int
) -> None:
    folder = tiny.write(tmp_path / "model", name, shards=shards)
    hub.repositories["org/tiny"] = files_of(folder)
    options = [given | {"memory_limit": LIMIT} for given in OPTIONS]

    found = plans(*[("org/tiny", given) for given in options])

    for given, plan in zip(options, found, strict=True):
        expected = cabochon.plan(folder, **given)
        assert without_hub(plan) == without_hub(json.loads(json.dumps(expected.to_dict())))
        assert tuple(plan["advice"][: len(expected.advice)]) == expected.advice
        assert (expected.download_bytes, expected.fetched_bytes) == (0, 0)


@pytest.mark.parametrize("name", ["gemma-4-E2B", "gemma-4-26B-A4B"])
def test_a_published_model_is_planned_from_less_than_a_megabyte(
    hub: Hub, plans: Plans, tmp_path: Path, name: str
) -> None:
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    folder = tiny.write_headers(tmp_path / "model", config)
    hub.repositories["google/model"] = files_of(folder)
    options = {"weights": "int4", "memory_limit": LIMIT}

    (plan,) = plans(("google/model", options))

    assert without_hub(plan) == without_hub(
        json.loads(json.dumps(cabochon.plan(folder, **options).to_dict()))
    )
    assert plan["download_bytes"] > 9e9
    assert plan["fetched_bytes"] == sum(request.sent for request in hub.requests[1:]) < 1e6


@pytest.mark.parametrize("shards", [1, 5])
def test_config_index_and_headers_are_fetched_and_not_a_byte_more(
    hub: Hub, plans: Plans, tmp_path: Path, shards: int
) -> None:
    folder = tiny.write(tmp_path / "model", "e_type", shards=shards)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("not needed")
    hub.repositories["org/tiny"] = files_of(folder)

    (plan,) = plans(("org/tiny", {"revision": "v1"}))

    weights = sorted(folder.glob("*.safetensors"))
    assert len(weights) == shards
    small = [folder / "config.json", *folder.glob(INDEX)]
    expected = sum(path.stat().st_size for path in small) + sum(map(header_bytes, weights))
    listing, *files = hub.requests
    assert listing.line.split("?")[0] == "GET /api/models/org/tiny/revision/v1"
    # Once the branch is known, its commit is asked for: a push in between changes nothing.
    assert {request.line.split("/resolve/")[1].split("/")[0] for request in files} == {COMMIT}
    assert hub.fetched() == {path.name for path in (*small, *weights)}
    assert sum(request.sent for request in files) == plan["fetched_bytes"] == expected
    needed = [*small, *weights, folder / "tokenizer.json", folder / "generation_config.json"]
    assert plan["download_bytes"] == sum(path.stat().st_size for path in needed)
    assert not (tmp_path / "home").exists()  # nothing is written


def test_a_file_that_is_in_the_cache_already_is_no_download(
    hub: Hub, plans: Plans, tmp_path: Path
) -> None:
    folder = tiny.write(tmp_path / "model", "gemma3", shards=2)
    hub.repositories["org/tiny"] = files_of(folder)
    first = sorted(folder.glob("*.safetensors"))[0]
    root = tmp_path / "home" / "hub" / "models--org--tiny"
    (root / "snapshots" / COMMIT).mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)

    (before,) = plans(("org/tiny", {}))
    (root / "snapshots" / COMMIT / first.name).write_bytes(first.read_bytes())
    (after,) = plans(("org/tiny", {}))

    assert before["download_bytes"] - after["download_bytes"] == first.stat().st_size


def test_matrices_that_may_have_been_trained_in_int4_are_planned_as_stored_and_it_says_so(
    hub: Hub, plans: Plans, tmp_path: Path
) -> None:
    trained = qat.write(tmp_path / "trained", "kv_equal_dense", "unquantized")
    hub.repositories["org/trained"] = files_of(trained)
    hub.repositories["org/float"] = files_of(tiny.write(tmp_path / "float", "gemma3", dtype="f32"))
    limit = {"memory_limit": LIMIT}

    auto, most, int4, int8, bf16, no_bf16 = plans(
        ("org/trained", limit),
        ("org/trained", {"weights": {"attention": "int4", "mlp": "int4"}, **limit}),
        ("org/trained", {"weights": "int4", **limit}),
        ("org/trained", {"weights": "int8", **limit}),
        ("org/trained", {"weights": "bf16", **limit}),
        ("org/float", limit),
    )

    assert {row["format"] for row in auto["rows"]} == {"bf16", "f32"}
    needs = cabochon.display.size(most["device_bytes"])
    assert auto["advice"][-1].startswith("from headers alone: whether bf16 matrices were trained")
    assert auto["advice"][-1].endswith(f"load keeps their codes and needs at most {needs}")
    assert int4["advice"][-1].endswith("load keeps their codes and needs less")
    for plan in (int8, bf16, no_bf16):
        assert not any("headers alone" in said for said in plan["advice"])
    # What load finds when it has the weights: the advice was right, and neither plan too low.
    here = {
        weights: cabochon.plan(trained, weights=weights, **limit) for weights in ("auto", "int4")
    }
    assert "int4" in {row.format for row in here["auto"].rows}
    assert here["auto"].device_bytes <= most["device_bytes"] < auto["device_bytes"]
    assert here["int4"].device_bytes <= int4["device_bytes"]


def test_codes_of_a_w4a16_checkpoint_are_seen_in_the_headers(
    hub: Hub, plans: Plans, tmp_path: Path
) -> None:
    folder = qat.write(tmp_path / "model", "e_type", "w4a16")
    hub.repositories["org/codes"] = files_of(folder)

    found, refused = plans(
        ("org/codes", {"memory_limit": LIMIT}), ("org/codes", {"weights": "int8"})
    )

    expected = cabochon.plan(folder, memory_limit=LIMIT)
    assert without_hub(found) == without_hub(json.loads(json.dumps(expected.to_dict())))
    assert tuple(found["advice"]) == expected.advice
    assert refused["error"] == "Unsupported"


# What is no file, or is not there, has no equal among the contents that a hub serves.
MALFORMED = [
    case for case in hostile.CASES if case.group != "not a file" and case.name != "missing shard"
]


def test_a_malformed_header_on_a_hub_is_refused_as_it_is_on_disk(
    hub: Hub, plans: Plans, tmp_path: Path
) -> None:
    config = json.dumps(tiny.MODELS["gemma3"].config).encode()
    for number, case in enumerate(MALFORMED):
        folder = tmp_path / str(number)
        folder.mkdir()
        case.write(folder)
        hub.repositories[f"org/case-{number}"] = {**files_of(folder), "config.json": config}

    found = plans(*[(f"org/case-{number}", {}) for number in range(len(MALFORMED))])

    assert len(found) == len(MALFORMED) > 40
    for number, (case, error) in enumerate(zip(MALFORMED, found, strict=True)):
        with pytest.raises(CheckpointError) as caught:
            read_shards(tmp_path / str(number))
        assert error["error"] == "CheckpointError", case.name
        assert case.text in error["text"], case.name
        where = str(tmp_path / str(number))
        assert error["text"] == str(caught.value).replace(where, f"org/case-{number}"), case.name
        assert (error["file"], error["tensor"], error["key"]) == (case.file, case.tensor, case.key)


def test_a_config_that_is_too_large_is_not_fetched(hub: Hub, plans: Plans) -> None:
    hub.repositories["org/large"] = {
        "config.json": b" " * (2**20 + 1), "model.safetensors": b"never",
    }  # fmt: skip

    (error,) = plans(("org/large", {}))

    assert error["text"] == "config.json: has 1,048,577 bytes, expected at most 1,048,576"
    assert hub.fetched() == set()


@pytest.mark.parametrize(
    ("name", "revision", "text"),
    [
        ("org/nothing", "main", "org/nothing: no such folder here, and no such repository"),
        ("org/tiny", "v9", "org/tiny: the hub has no revision 'v9'"),
        ("org/gated", "main", "accept the model's terms first.*hf auth login.*HF_TOKEN"),
        ("org/gguf", "main", "org/gguf: has no safetensors file. model.gguf is a GGUF file"),
        ("org/bare", "main", "org/bare: has no config.json"),
        ("org/short", "main", "names model-1.safetensors, which org/short lacks"),
    ],
)
def test_a_repository_that_cannot_be_planned_says_why(
    hub: Hub, plans: Plans, tiny_checkpoint: Callable[[str], Path],
    name: str, revision: str, text: str,
) -> None:  # fmt: skip
    files = files_of(tiny_checkpoint("gemma3"))
    index = json.dumps({"weight_map": {"a": "model-1.safetensors"}}).encode()
    hub.repositories = {
        "org/tiny": files,
        "org/gated": files,
        "org/gguf": {"config.json": b"{}", "model.gguf": b"never"},
        "org/bare": {"model.safetensors": b"never"},
        "org/short": {"config.json": files["config.json"], INDEX: index},
    }
    hub.gated = {"org/gated"}

    (error,) = plans((name, {"revision": revision}))

    assert error["error"] == "CheckpointError"
    assert re.search(text, error["text"])
    assert hub.fetched() <= {"config.json", INDEX}


def test_what_the_hub_refuses_asks_to_log_in_and_a_token_is_sent(
    hub: Hub, plans: Plans, tiny_checkpoint: Callable[[str], Path]
) -> None:
    hub.repositories["org/tiny"] = files_of(tiny_checkpoint("gemma3"))
    hub.refused = {"model.safetensors": 403}

    (refused,) = plans(("org/tiny", {}), HF_TOKEN="hf_wrong")
    hub.refused["model.safetensors"] = 401
    (unknown,) = plans(("org/tiny", {}))

    assert (refused["error"], unknown["error"]) == ("CheckpointError", "CheckpointError")
    assert "org/tiny: reading headers from the hub was refused (403)" in refused["text"]
    assert "(401)" in unknown["text"] and "`hf auth login`" in unknown["text"]
    tokens = [request.token for request in hub.requests]
    assert tokens == ["Bearer hf_wrong"] * 3 + [None] * 3


def test_offline_nothing_is_asked_and_what_to_do_is_said(hub: Hub, plans: Plans) -> None:
    (error,) = plans(("org/tiny", {}), HF_HUB_OFFLINE="1")

    assert error["error"] == "CheckpointError"
    assert "HF_HUB_OFFLINE forbids reading headers from the hub. Unset it" in error["text"]
    assert hub.requests == []


def test_a_hub_that_does_not_answer_or_stops_amid_a_header_is_a_device_error(
    hub: Hub, plans: Plans, tiny_checkpoint: Callable[[str], Path]
) -> None:
    hub.repositories["org/tiny"] = files_of(tiny_checkpoint("gemma3"))
    hub.cut = {"model.safetensors": 7}

    (dead,) = plans(("org/tiny", {}), HF_ENDPOINT="http://127.0.0.1:9")
    (stopped,) = plans(("org/tiny", {}), HF_HUB_DOWNLOAD_TIMEOUT="1")

    for error in (dead, stopped):
        assert error["error"] == "DeviceError"
        assert error["text"].startswith("org/tiny: reading headers from the hub failed: ")
        assert error["text"].endswith("Try again, or download the files (`hf download org/tiny`)")
    assert "Timeout" in stopped["text"]


def test_a_hub_without_ranges_sends_no_whole_file(hub: Hub, plans: Plans, tmp_path: Path) -> None:
    config = json.loads((CONFIGS / "gemma-4-E2B.json").read_text())
    hub.repositories["org/large"] = files_of(tiny.write_headers(tmp_path / "model", config))
    hub.has_ranges = False

    (error,) = plans(("org/large", {}))

    assert error["error"] == "DeviceError"
    assert "org/large: model.safetensors: asked for the bytes 8 to" in error["text"]
    assert "Download it and plan again" in error["text"]
    # 9 GB were on their way: no more than what fits into buffers between the two.
    assert sum(request.sent for request in hub.requests) < 2**26


def test_without_huggingface_hub_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # an import of it raises

    with pytest.raises(cabochon.errors.MissingExtra, match=r"pip install 'cabochon\[hub\]'"):
        cabochon.plan("org/name")


def test_the_command_plans_a_hub_id_and_says_what_a_download_takes(
    hub: Hub, tmp_path: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not there")
    hub.repositories["org/tiny"] = files_of(tiny_checkpoint("gemma3"))

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cabochon", "plan", *arguments],
            env=local_hub.environment(hub, tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
        )

    found = command("org/tiny")
    parsed = json.loads(command("org/tiny", "--json").stdout)
    missing = command("org/nothing")

    assert (found.returncode, found.stderr) == (0, "")
    download, read = (
        cabochon.display.size(parsed[key]) for key in ("download_bytes", "fetched_bytes")
    )
    said = f"not here yet: load downloads {download} ({read} were read for this plan)"
    assert said in found.stdout
    assert "from headers alone" in found.stdout
    assert (missing.returncode, missing.stdout) == (3, "")


class TestCheckpointOfHeaders:
    """In the core: files that are elsewhere are planned with, and nothing is read of them."""

    def test_reading_a_weight_is_an_error_that_names_the_file(
        self, tiny_checkpoint: Callable[[str], Path]
    ) -> None:
        shards = read_shards(tiny_checkpoint("gemma3"))
        plan = read_config(read_json(tiny_checkpoint("gemma3") / "config.json")).plan
        checkpoint = _core.Checkpoint(
            ["org/x/model.safetensors"], list(shards.entries), sizes=shards.sizes
        )

        for use in (
            lambda: _core.find_lattices(checkpoint, plan, {"mlp"}),
            lambda: _core.Engine(
                checkpoint, plan, formats={}, kv="f32", threads=1, max_rows=1,
                global_pages=1, sliding_pages=1,
            ),
        ):  # fmt: skip
            with pytest.raises(CheckpointError, match="only the file's header is here") as caught:
                use()
            assert caught.value.file == "org/x/model.safetensors"

    def test_entries_are_checked_against_the_sizes(
        self, tiny_checkpoint: Callable[[str], Path]
    ) -> None:
        shards = read_shards(tiny_checkpoint("gemma3"))

        with pytest.raises(CheckpointError, match="do not lie in the file"):
            _core.Checkpoint(["x"], list(shards.entries), sizes=[shards.sizes[0] - 1])
        with pytest.raises(cabochon.errors.InvalidArgument, match="sizes has 2 numbers"):
            _core.Checkpoint(["x"], list(shards.entries), sizes=[*shards.sizes, 1])
