"""What a loaded model says about itself: `Model.info()` and the model's part of a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import __version__
from .types import LayerInfo, ModelInfo

if TYPE_CHECKING:
    from .requests import Parts


def manifest_fields(parts: Parts) -> dict[str, Any]:
    """The fields of `types.Manifest` that do not depend on the prompt."""
    return {
        "version": __version__,
        "numerics": parts.numerics,
        "fingerprint": parts.fingerprint,
        "weights": "+".join(sorted(set(_formats(parts).values()))),
        "kv": parts.kv,
        "device": "cpu",
        "tier": parts.engine.tier,
        "arithmetic": parts.arithmetic,
    }


def _formats(parts: Parts) -> dict[str, str]:
    """Tensor class: format; the formats of a class with several are joined."""
    found: dict[str, set[str]] = {}
    for row in parts.plan.rows:
        found.setdefault(row.name, set()).add(row.format)
    return {name: "+".join(sorted(formats)) for name, formats in found.items()}


def _activations(parts: Parts) -> str:
    """What int8 and int4 matrices multiply with; where there are none, the others."""
    is_any_packed = any(row.format in ("int8", "int4") for row in parts.plan.rows)
    stored = "bf16" if parts.arithmetic == "fast" else "f32"
    return parts.engine.activations if is_any_packed else stored


def model_info(parts: Parts) -> ModelInfo:
    """What was loaded and how it runs."""
    config, plan, template = parts.config, parts.config.plan, parts.template
    return ModelInfo(
        name=parts.name,
        family=config.family,
        parameters=sum(row.parameters for row in parts.plan.rows if row.name != "head"),
        modalities=("text",),
        template=f"{template.name}, {template.sha256[:12]}" if template else None,
        formats=_formats(parts),
        activations=_activations(parts),
        kv=parts.kv,
        tier=parts.engine.tier,
        arithmetic=parts.arithmetic,
        numerics=parts.numerics,
        threads=parts.engine.threads,
        device="cpu",
        device_reason="this build has no other",
        context=parts.context,
        vocab_size=plan.vocab,
        config_defaults=config.defaulted,
        config_ignored=config.ignored,
        files=parts.files,
        memory=parts.engine.memory(),
        int4_blocks=parts.engine.int4_blocks(),
        layers=tuple(
            LayerInfo(
                layer=index,
                kind="sliding" if layer.window else "global",
                heads=layer.heads,
                kv_heads=layer.kv_heads,
                head_dim=layer.head_dim,
                window=layer.window,
                ffn=layer.ffn,
                experts=f"{layer.experts_per_token} of {layer.experts}" if layer.experts else "",
                kv_from=layer.kv_source,
            )
            for index, layer in enumerate(plan.layers)
        ),
    )
