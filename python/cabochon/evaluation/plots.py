"""Plots as SVG that stands inside a page: no script, no reference to anything outside.

The one importer of matplotlib (extra `eval`), imported when something is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from ..errors import MissingExtra

Point = tuple[str, float, float]  # name, cost (less is better), score in per cent


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in cost and score at once, the cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point[1], -point[2])):
        if not front or point[2] > front[-1][2]:
            front.append(point)
    return front


def scatter(points: Sequence[Point], cost: str) -> str:
    """Score against a cost with the Pareto front, as SVG.

    Args:
        cost: the name of the horizontal axis with its unit.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure, axes = _figure(6.4, 4.0)
    front = pareto_front(points)
    if len(front) > 1:
        costs, scores = [point[1] for point in front], [point[2] for point in front]
        axes.step(costs, scores, where="post", color="#9ab", linewidth=1)
    for name, x, y in points:
        is_best = (name, x, y) in front
        axes.plot([x], [y], "o", color="#146" if is_best else "#999")
        # A name is never read as mathematics: "$" is a character.
        place = {"textcoords": "offset points", "xytext": (6, 4), "fontsize": 8}
        axes.annotate(name, (x, y), parse_math=False, **place)
    axes.set_xlabel(cost)
    axes.set_ylabel("score, %")
    axes.margins(0.15)
    axes.grid(alpha=0.3)
    return _svg(figure, cost)


def heat_map(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float]]) -> str:
    """Scores in per cent by row and column, NaN where there is none, as SVG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure, axes = _figure(1.5 + 0.8 * len(columns), 1.2 + 0.4 * len(rows))
    # A mesh is drawn as paths; an image would be embedded as one.
    axes.pcolormesh(cells, cmap="RdYlGn", vmin=0, vmax=100)
    axes.invert_yaxis()
    axes.set_xticks([index + 0.5 for index in range(len(columns))], columns)
    axes.set_yticks([index + 0.5 for index in range(len(rows))], rows)
    axes.set_xlabel("length, tokens")
    axes.set_ylabel("depth")
    for y, line in enumerate(cells):
        for x, cell in enumerate(line):
            if cell == cell:
                axes.text(x + 0.5, y + 0.5, f"{cell:.0f}", ha="center", va="center", fontsize=8)
    return _svg(figure, "heat map")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import (  # type: ignore[import-not-found, unused-ignore]
            Figure,
        )
    except ImportError:
        raise MissingExtra(
            "plots need matplotlib: pip install 'cabochon[eval]'", extra="eval"
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any, name: str) -> str:
    import matplotlib  # type: ignore[import-not-found, unused-ignore]

    # Text stays text, and ids depend on the name alone.
    options = {"svg.fonttype": "none", "svg.hashsalt": name}
    stream = io.BytesIO()
    with matplotlib.rc_context(options):
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    return _inline(stream.getvalue(), re.sub(r"\W+", "-", name))


def _inline(svg: bytes, name: str) -> str:
    """SVG as HTML takes it: without namespaces, metadata and declarations, ids with a name."""
    root = ElementTree.fromstring(svg)
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            key = key.rpartition("}")[2]
            if key == "id":
                value = f"{name}-{value}"
            element.set(key, re.sub(r"(^#|url\(#)", rf"\g<1>{name}-", value))
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
