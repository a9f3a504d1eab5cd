"""How fast does a checkpoint read prompts, and how near is that to what the cores can compute?

    python benchmarks/prefill.py FOLDER [--prompt 512 ...] [--arithmetic fast] [--runs 5] [--save]

Two cases a length, of random token ids, through the public calls:

rows=last  `generate` of one token. Rows whose logits nobody wants stop at the last layer with keys
           and values of its own (docs/model.md, "Tail skip").
rows=all   `logprobs`: every layer, the head and its logarithm of a sum for every row. No call runs
           every layer without the head; what the head counts for is in the line.

The share is the rate of the operations of the matrices over the peak of all threads. They are
counted from the plan: 2 x weights of the layers run x rows, with the experts that a token takes;
attention, norms and rounding are not counted. The peak is a loop of probe.py just before and after
each run: vpdpbusd where most operations are on int4 or int8 weights, fma elsewhere, or
vdpbf16ps with --arithmetic fast. Where the two
differ by more than 15 % the run is unsteady and left out of the median.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import cabochon
import report
from cabochon.config import LayerPlan, ModelPlan
from probe import has_peaks, peak
from runs import (
    Run,
    counted,
    generate,
    in_turns,
    limits,
    load,
    note,
    parser_of,
    random_ids,
    read_plan,
    run_facts,
)

LENGTHS = (8, 32, 128, 512, 2048, 8192)
INTEGER = ("int4", "int8")
PEAKS_TO_GO_BY = 3  # of which the best counts


def layer_weights(plan: ModelPlan, layer: LayerPlan, *, owns_kv: bool) -> Counter[str]:
    """Weights that one token meets in a layer, by the class that model.plan calls them."""
    hidden, width = plan.hidden, layer.per_layer_input
    query = layer.heads * layer.head_dim
    kv = key_value_weights(plan, layer) if owns_kv else 0
    return Counter(
        {
            "attention": 2 * query * hidden + kv,
            "mlp": 3 * layer.ffn * hidden,
            "experts": 3 * layer.experts_per_token * layer.expert_ffn * hidden,
            "router": layer.experts * hidden,
            "per_layer": 2 * width * hidden,
            "per_layer_context": width * hidden,
        }
    )


def key_value_weights(plan: ModelPlan, layer: LayerPlan) -> int:
    return (1 if layer.values_from_keys else 2) * layer.kv_heads * layer.head_dim * plan.hidden


def operations(plan: ModelPlan, rows: int, wanted: int) -> Counter[str]:
    """Of the matrices, by class, where `wanted` of the rows have a result."""
    total: Counter[str] = Counter({"head": wanted * plan.vocab * plan.hidden})
    last_owner = plan.first_shared - 1
    for index, layer in enumerate(plan.layers):
        run = rows if index < last_owner else wanted
        for name, count in layer_weights(plan, layer, owns_kv=layer.kv_source == index).items():
            total[name] += run * count
        if index == last_owner:
            total["attention"] += (rows - wanted) * key_value_weights(plan, layer)
    return Counter({name: 2 * count for name, count in total.items() if count})


def integer_share(model: cabochon.Model, found: Counter[str]) -> float:
    """How much of the operations is done on integers."""
    formats = report.matrix_formats(model)
    formats.setdefault("head", formats.get("embedding and head", ""))
    return sum(found[name] for name in found if formats[name] in INTEGER) / found.total()


def works(model: cabochon.Model, ids: list[int]) -> dict[str, Callable[[], tuple[float, float]]]:
    def all_rows() -> tuple[float, float]:
        start = time.perf_counter()
        model.logprobs(ids, progress=False)
        return time.perf_counter() - start, 0.0

    return {"last": partial(generate, model, [ids], 1), "all": all_rows}


def main() -> None:
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, nargs="+", default=LENGTHS, help="tokens")
    arguments = parser.parse_args()
    config = read_plan(arguments.folder)
    model = load(arguments, context=max(arguments.prompt) + 1, sequences=1)
    facts = report.facts(model, arguments.folder)
    # What most operations take; the float loop where weights are as stored.
    whole = operations(config.plan, 1, 1)
    as_stored = "bf16" if arguments.arithmetic == "fast" else "float"
    kind = "integer" if integer_share(model, whole) > 0.5 else as_stored

    def best_peak() -> float:
        if not has_peaks():
            return 1.0
        return max(peak(kind, facts["threads"]) for _ in range(PEAKS_TO_GO_BY))

    with model:
        for length in arguments.prompt:
            named = works(model, random_ids(config, length))
            for work in named.values():
                work()
            done = in_turns(list(named.values()), best_peak, arguments.runs)
            for rows, runs in zip(named, done, strict=True):
                wanted = 1 if rows == "last" else length
                publish(
                    facts | {"prompt": length, "rows": rows, "peak_kind": kind},
                    runs,
                    operations(config.plan, length, wanted),
                    save=arguments.save,
                )


def publish(facts: dict[str, object], runs: list[Run], found: Counter[str], *, save: bool) -> None:
    length = int(str(facts["prompt"]))
    used = counted(runs)
    values = report.spread([length / run.first_s for run in used])
    rates = [found.total() / run.first_s / 1e9 for run in used]
    record = facts | run_facts(runs) | values
    record |= {
        "case": "prefill",
        "unit": "tok/s",
        "operations": dict(found),
        "share": None,
    }
    share = "no peak loops without AVX-512"
    if has_peaks():
        record["share"] = statistics.median(
            rate / run.limit for rate, run in zip(rates, used, strict=True)
        )
        share = (
            f"{statistics.median(rates):.0f} Gop/s = {record['share']:.2f} of the "
            f"{facts['peak_kind']} peak {limits(used)}"
        )
    head = found["head"] / length / 1e9
    each = found.total() / length / 1e9
    what = report.what(record, f"prompt={length}", f"rows={facts['rows']}")
    line = (
        f"{what} | "
        f"{values['median']:.1f} tok/s {note([run.steady for run in runs])} "
        f"(best {values['best']:.1f}) | {share}, {each:.2f} GFLOP a token, "
        f"{head:.2f} of them the head's | {report.how(record)}"
    )
    report.publish(line, record, save=save)


if __name__ == "__main__":
    main()
