"""`load`: files, then the plan, then the engine, then a Model. Weights are read last."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import _core
from .chat.template import EDGE, GEMMA3, LARGE, Template, load_template
from .checkpoint import (
    EXTRA_FILES,
    TEXT_FILES,
    Shards,
    fingerprint,
    read_json,
    read_shards,
)
from .config import GenerationConfig, ModelConfig, read_config, read_generation_config
from .display import Bar
from .errors import CheckpointError, DeviceError
from .hub import find
from .model import Model
from .options import (
    DefaultContext,
    LoadOptions,
    SamplingDefaults,
    check_load,
    refuse_unknown,
)
from .packed_cache import TABLE, PackedCache, place
from .planner import LoadPlan, check_fits, plan_load
from .requests import Parts
from .scheduler.scheduler import Scheduler
from .tokenizer import Tokenizer

_CHAT_STOPS = ("<eos>", "<turn|>", "<|tool_response>")  # of instruction-tuned Gemma 4
_PLACEHOLDERS = ("<|image|>", "<|audio|>", "<|video|>", "<image_soft_token>")


def load(
    path_or_id: str | os.PathLike[str],
    *,
    weights: str | Mapping[str, str] = "auto",
    kv: str = "auto",
    device: str = "auto",
    context: int = DefaultContext(8192),
    max_sequences: int = 16,
    threads: int | None = None,
    per_layer_embeddings: str = "auto",
    adapter: str | os.PathLike[str] | Mapping[str, str] | None = None,
    drafter: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    memory_limit: int | str | None = None,
    arithmetic: str = "exact",
    allow_custom_template: bool = False,
    progress: bool | Callable[[Any], object] | None = None,
    **unknown: Any,
) -> Model:
    """Opens a checkpoint and makes it ready to compute.

    Args:
        path_or_id: a folder with config.json and safetensors files, or a Hugging Face id: found in
            the local hub cache, else downloaded (extra `hub`).
        weights: "auto" and "bf16" compute with what is stored; "bf16" refuses float32 checkpoints.
            "int8" and "int4" round while loading; a mapping sets classes apart (policy.py):
            {"default": "int4", "head": "bf16"}. Matrices that were trained in int4 (-qat-w4a16-ct,
            and -qat-q4_0-unquantized, told by its numbers) keep their codes under "auto" and
            "int4"; `Model.info().int4_blocks` counts them.
        kv: format of the KV cache: "f32" (nothing is rounded), "bf16", "int8" (with a scale for
            each position and head: half the memory of bf16), or "auto", which is "bf16".
        device: "auto" or "cpu".
        context: tokens of one sequence, prompt and output. The default is lowered to the
            checkpoint's maximum, a larger value given is an error.
        max_sequences: computed together at most, 1 to 4,096. Where fewer full-length ones fit,
            long ones wait or are computed again: same results, slower.
        threads: None: CABOCHON_THREADS, else the physical cores that this process may use.
        per_layer_embeddings: where the table of E2B and E4B stands. "disk": one row a token is
            read from the checkpoint's file, or where weights= rounds the table, from a file that
            the first load writes beside the packed weights (CABOCHON_CACHE). "memory": in
            anonymous memory. "auto": on disk as stored, in memory where it is rounded. Other
            models have none.
        adapter, drafter: to come.
        revision: branch, tag or commit of a hub id.
        memory_limit: bytes, or text such as "6GiB"; None: what is free.
        arithmetic: "exact", or "fast": bf16 matrices meet activations rounded to bf16, by an
            instruction of its own (docs/numerics.md), on CPUs that have it. Other bits than
            "exact", but still the same for any batch, chunks and threads. Routers, integer and
            float32 matrices are computed as ever.
        allow_custom_template: a chat template of unknown hash runs in a sandbox (docs/chat.md).
            Otherwise such a checkpoint is refused.
        progress: a bar on a terminal or in a notebook, False: none, or a callable that gets
            `types.Progress`.

    Returns:
        The model; close it, or use it as a context manager. A published vocabulary is parsed when
        text is first turned into ids or back, which takes about a second; ids never wait for it.

    Raises:
        CheckpointError: a file is damaged, missing or contradicts another. What is damaged inside
            a published vocabulary is found, with the same error, by what first needs it.
        TemplateError: its chat template is no published one, and not allowed; or is damaged.
        OutOfMemory: not even one full-length sequence fits; raised before weights are read.
        Unsupported: right, but not for this build.
        InvalidArgument: an option is out of range or unknown, or a rounded per-layer table is to be
            on disk and CABOCHON_CACHE is empty.
        DeviceError: a system call failed, or the disk has no room for that table.
        MissingExtra: an id must be downloaded and huggingface_hub is not installed.
    """
    given = {**locals()}
    for name in ("path_or_id", "progress", "unknown"):
        del given[name]
    refuse_unknown("load", unknown, [*given, "progress"])
    options = check_load(given)
    folder = find(path_or_id, revision=options.revision, progress=progress)
    return _build(os.fspath(path_or_id), _read_files(folder, options), options, progress)


def _build(
    name: str,
    files: _Files,
    options: LoadOptions,
    progress: bool | Callable[[Any], object] | None,
) -> Model:
    """The plan, the check that it fits, and only then what takes memory."""
    planned = plan_load(files.config, files.shards, options)
    check_fits(planned.plan, name=name, context=planned.context)
    memory = planned.memory
    global_pages = planned.sequences * memory.global_pages_per_sequence
    rings = planned.sequences * memory.sliding_pages_per_sequence
    sliding_pages = rings + planned.kept_ring_pages
    in_arena = dict(options.formats)
    if options.per_layer_table == "disk":
        in_arena.pop("per_layer_table", None)
    is_packed = in_arena or planned.lattices or files.config.int4_codes
    cache = (
        place(files.shards, files.fingerprint, in_arena, planned.lattices) if is_packed else None
    )
    table = _open_table(files, planned, options, progress) if memory.table_bytes else None

    def make_engine(packed: _core.PackedFile | None) -> _core.Engine:
        with Bar("load", "B", progress) as bar:
            return _core.Engine(
                planned.checkpoint,
                files.config.plan,
                formats=options.formats,
                kv=options.kv,
                threads=planned.threads,
                max_rows=planned.max_rows,
                global_pages=global_pages,
                sliding_pages=sliding_pages,
                per_layer_table=options.per_layer_table,
                packed=packed,
                packed_table=table,
                progress=bar.update,
                lattices=planned.lattices,
                is_fast=options.arithmetic == "fast",
            )

    engine = _from_cache(cache, make_engine)
    if engine is None:
        engine = make_engine(None)
        if cache is not None:
            cache.store(engine, memory.packed_bytes)
    scheduler = Scheduler(
        max_rows=planned.max_rows,
        max_sequences=options.max_sequences,
        global_pages=global_pages,
        sliding_pages=sliding_pages,
        ring_pages=memory.sliding_pages_per_sequence,
        page_positions=_core.PAGE_POSITIONS,
        window=max(layer.window for layer in files.config.plan.layers),
    )
    return Model(
        Parts(
            name=name,
            load_options=options.given,
            files=files.paths,
            fingerprint=files.fingerprint,
            config=files.config,
            tokenizer=files.tokenizer,
            template=files.template,
            bos_id=_bos_id(files),
            stop_ids=_stop_ids(files),
            banned=_banned(files),
            defaults=_sampling_defaults(files),
            context=planned.context,
            kv=options.kv,
            arithmetic=options.arithmetic,
            numerics=_core.numerics,
            plan=replace(planned.plan, measured=engine.memory()),
            engine=engine,
            scheduler=scheduler,
        )
    )


def _from_cache(
    cache: PackedCache | None, make_engine: Callable[[_core.PackedFile], _core.Engine]
) -> _core.Engine | None:
    """The engine with weights that were rounded before; None where there are none that serve."""
    path = cache.find() if cache else None
    if cache is None or path is None:
        return None
    try:
        return make_engine(_core.PackedFile(path, cache.key))
    except CheckpointError as error:
        if error.file != path:
            raise
        cache.discard(error)
        return None


def _open_table(
    files: _Files,
    planned: LoadPlan,
    options: LoadOptions,
    progress: bool | Callable[[Any], object] | None,
) -> _core.PackedFile:
    """The rounded per-layer table on disk, every block of it verified. Written where there is none
    that serves: rows are read from this file alone, so without it there is no model."""
    kind, size = options.formats["per_layer_table"], planned.memory.table_bytes
    cache = place(files.shards, files.fingerprint, {TABLE: kind}, ())
    assert cache is not None, "plan_load refuses a rounded table on disk without a cache"

    def verified(path: str) -> _core.PackedFile:
        file = _core.PackedFile(path, cache.key)
        file.verify(planned.threads)
        return file

    path = cache.find()
    if path is not None:
        try:
            return verified(path)
        except CheckpointError as error:
            cache.discard(error)

    def write(path: str) -> None:
        with Bar("per-layer table", "B", progress) as bar:
            _core.write_table(
                planned.checkpoint,
                files.config.plan,
                format=kind,
                path=path,
                key=cache.key,
                about=cache.about,
                threads=planned.threads,
                progress=bar.update,
            )

    try:
        cache.write(size, write)
        path = cache.find()
        if path is None:
            raise DeviceError(f"{cache.folder} is not this user's alone: others may write to it")
        return verified(path)
    except (OSError, DeviceError) as error:
        raise DeviceError(
            f"load: per_layer_embeddings='disk' with the table in {kind} needs a file of {size:,} "
            f"bytes, which cannot be kept: {error}. Set CABOCHON_CACHE to another folder, or load "
            "with per_layer_embeddings='memory', or leave the table in bf16, whose rows are read "
            "from the checkpoint"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """What a checkpoint's folder holds, read and checked; weights are not."""

    config: ModelConfig
    generation: GenerationConfig
    shards: Shards
    paths: tuple[str, ...]  # weights, and what of the others is there
    fingerprint: str
    tokenizer: Tokenizer | None
    template: Template | None


def _read_files(folder: Path, options: LoadOptions) -> _Files:
    config = read_config(read_json(folder / "config.json"))
    generation_file = folder / "generation_config.json"
    generation = read_generation_config(
        read_json(generation_file) if generation_file.exists() else {}
    )
    shards = read_shards(folder)
    has_tokenizer = (folder / "tokenizer.json").exists()
    tokenizer = Tokenizer.from_folder(folder) if has_tokenizer else None
    template = None
    if tokenizer is not None:
        ends = {tokenizer.control_ids.get(name) for name in ("<turn|>", "<end_of_turn>")}
        template = load_template(
            folder,
            variant=_template_variant(config),
            is_chat=not ends.isdisjoint(_eos_ids(config, generation)),
            allow_custom=options.allow_custom_template,
        )
    others = (folder / name for name in (*TEXT_FILES, *EXTRA_FILES))
    return _Files(
        config=config,
        generation=generation,
        shards=shards,
        paths=(*shards.paths, *(str(path) for path in others if path.exists())),
        fingerprint=fingerprint(folder, shards),
        tokenizer=tokenizer,
        template=template,
    )


def _template_variant(config: ModelConfig) -> str:
    """Which published template is this model's: of Gemma 4, E2B and E4B are those that read a
    per-layer table."""
    if config.family == "gemma3":
        return GEMMA3
    return EDGE if config.plan.per_layer_vocab else LARGE


def _eos_ids(config: ModelConfig, generation: GenerationConfig) -> tuple[int, ...]:
    """generation_config's, else config.json's."""
    ids = generation.eos_token_ids
    return config.eos_token_ids if ids is None else ids


def _bos_id(files: _Files) -> int | None:
    """By name in the tokenizer, else as config.json has it."""
    named = files.tokenizer.bos_id if files.tokenizer else None
    return files.config.bos_token_id if named is None else named


def _stop_ids(files: _Files) -> tuple[int, ...]:
    """Those of the files; chat checkpoints add their turn ends by name."""
    stops = set(_eos_ids(files.config, files.generation))
    if files.template is not None and files.tokenizer is not None:
        control = files.tokenizer.control_ids
        stops |= {control[name] for name in _CHAT_STOPS if name in control}
    return tuple(sorted(stops))


def _banned(files: _Files) -> tuple[int, ...]:
    """Never drawn: what generation_config suppresses, and placeholders of media."""
    banned = set(files.generation.suppress_tokens or ())
    vocab_size = files.config.plan.vocab
    for token in banned:
        if token >= vocab_size:
            raise CheckpointError(
                f"generation_config.json: suppress_tokens has {token}, expected ids below "
                f"{vocab_size}, the vocabulary of config.json",
                file="generation_config.json",
                key="suppress_tokens",
            )
    control = files.tokenizer.control_ids if files.tokenizer else {}
    banned |= {control[name] for name in _PLACEHOLDERS if name in control}
    return tuple(sorted(token for token in banned if token < vocab_size))


def _sampling_defaults(files: _Files) -> SamplingDefaults:
    """generation_config's values; the published ones where it says nothing."""
    said, published = files.generation, SamplingDefaults()
    temperature = published.temperature if said.temperature is None else said.temperature
    top_k = published.top_k if said.top_k is None else said.top_k
    return SamplingDefaults(
        temperature=0.0 if said.do_sample is False else temperature,
        top_p=published.top_p if said.top_p is None else said.top_p,
        top_k=min(top_k, files.config.plan.vocab),
    )
