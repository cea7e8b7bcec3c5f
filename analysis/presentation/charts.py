"""The charts, in Altair: each is a function of the rows of a figure, for the page or for paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import polars as pl

from analysis.frames.settings import FP32

# Okabe & Ito (2008): told apart by colour-blind readers. Shapes and dashes repeat what colour says.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "stroke")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [1, 2], [10, 4], [3, 6])

Chart = alt.LayerChart | alt.FacetChart  # what layering gives
# Which columns the panels' common scale spans
EXTENTS = {
    "accuracy": ("accuracy", "low", "high"),
    "ratios": ("effect", "effect_low", "effect_high"),
    "noise": ("accuracy",),
    "shifts": ("ks_d_dithered",),
}


@dataclass(frozen=True, slots=True)
class Style:
    """Where a chart is going.

    Attributes:
        ink: of text and axes.
        faint: of grid lines.
        colours: of categories.
        width: of a panel, pixels; None fills its place on the page.
        ends: of the scale that the panels share; None takes those of the rows.
    """

    ink: str
    faint: str
    colours: tuple[str, ...]
    width: int | None
    ends: tuple[float, float] | None = None


PAPER = Style("#222222", "#dddddd", COLOURS, 330)
PAGE = Style("var(--ink)", "var(--line)", tuple(f"var(--c{n})" for n in range(len(COLOURS))), None)


def chart(kind: str, rows: pl.DataFrame, style: Style = PAPER) -> Chart:
    """One panel.

    Args:
        kind: a name of `CHARTS`.
        rows: what it shows; on `PAGE` the rows of any setting and panel, which the page puts in under the
            name `source`.
        style: `PAPER` or `PAGE`.

    Raises:
        ValueError: if there is no such chart.
    """
    if kind not in CHARTS:
        raise ValueError(f"there is no chart {kind!r}: use one of {', '.join(CHARTS)}")
    return CHARTS[kind](rows, style)


def panels(kind: str, rows: pl.DataFrame, panel: str) -> alt.HConcatChart:
    """The panels of a figure side by side, on one scale, for paper.

    Args:
        kind: a name of `CHARTS`.
        rows: of one setting.
        panel: the column that tells the panels apart.
    """
    parts = []
    ends = extent(kind, rows)
    for (value,), shown in rows.group_by(panel, maintain_order=True):
        parts.append(CHARTS[kind](shown, replace(PAPER, ends=ends)).properties(title=str(value)))
    return alt.hconcat(*parts)


def themed(spec: alt.TopLevelMixin, style: Style) -> dict[str, Any]:
    """The Vega-Lite specification of a chart, in the colours of `style`."""
    config = {
        "background": "transparent" if style is PAGE else "#ffffff",
        "font": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif",
        "view": {"stroke": None},
        "axis": {
            "labelColor": style.ink, "titleColor": style.ink, "domainColor": style.ink,
            "tickColor": style.ink, "gridColor": style.faint, "labelFontSize": 12, "titleFontSize": 12,
            "titleFontWeight": "normal", "labelLimit": 180,
        },
        "legend": {
            "labelColor": style.ink, "titleColor": style.ink, "orient": "top", "labelFontSize": 12,
            "titleFontSize": 12, "titleFontWeight": "normal", "symbolStrokeWidth": 0,
            "columns": {"signal": "width < 330 ? 2 : 4"} if style is PAGE else 4,
        },
        "title": {"color": style.ink, "anchor": "start", "fontSize": 14},
    }  # fmt: skip
    made: dict[str, Any] = spec.to_dict()
    made["config"] = config
    return made


def _base(rows: pl.DataFrame, style: Style) -> alt.Chart:
    if style is PAGE:
        return alt.Chart(alt.NamedData("source"))
    return alt.Chart(alt.InlineData(values=rows.to_dicts()))


def _sized(drawn: Chart, style: Style, height: int) -> Chart:
    sized = drawn.properties(width="container" if style.width is None else style.width, height=height)
    if style is PAGE:
        sized = sized.properties(autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
    return sized


def extent(kind: str, rows: pl.DataFrame) -> tuple[float, float]:
    """From where to where the panels of a figure reach, so that they share one scale."""
    values = pl.concat([rows[name].cast(pl.Float64) for name in EXTENTS.get(kind, ())] or [pl.Series([0.0])])
    found = values.drop_nulls().to_numpy()
    return (float(found.min()), float(found.max())) if len(found) else (0.0, 100.0)


def _scale(kind: str, rows: pl.DataFrame, style: Style) -> tuple[alt.Scale, tuple[alt.Parameter, ...]]:
    """The vertical scale; on the page its ends are signals, which move with the setting."""
    low, high = style.ends or extent(kind, rows)
    room = max((high - low) * 0.05, 0.5)
    if style.width is not None:
        return alt.Scale(domain=[low - room, high + room], zero=False, nice=False), ()
    ends = alt.param(name="low", value=low), alt.param(name="high", value=high)
    margin = "max((high - low) * 0.05, 0.5)"
    first, last = alt.ExprRef(f"low - {margin}"), alt.ExprRef(f"high + {margin}")
    return alt.Scale(domainMin=first, domainMax=last, zero=False, nice=False), ends


def _coded(rows: pl.DataFrame, column: str, title: str, style: Style) -> Mapping[str, Any]:
    """Colour, shape and dash of one column: three signs for one thing."""
    values = [str(value) for value in rows[column].unique(maintain_order=True)]
    repeated = range(len(values))
    colours = [style.colours[n % len(style.colours)] for n in repeated]
    shapes = [SHAPES[n % len(SHAPES)] for n in repeated]
    field = f"{column}:N"
    legend = alt.Legend(title=title)
    return {
        "color": alt.Color(field, scale=alt.Scale(domain=values, range=colours), legend=legend),
        "shape": alt.Shape(field, scale=alt.Scale(domain=values, range=shapes), legend=legend),
    }


def _dashed(rows: pl.DataFrame, column: str, title: str) -> alt.StrokeDash:
    values = [str(value) for value in rows[column].unique(maintain_order=True)]
    dashes = [DASHES[n % len(DASHES)] for n in range(len(values))]
    legend = alt.Legend(title=title)
    return alt.StrokeDash(f"{column}:N", scale=alt.Scale(domain=values, range=dashes), legend=legend)


def _widths(rows: pl.DataFrame) -> list[str]:
    numbers = sorted({int(width) for width in rows["width"] if width != FP32}, reverse=True)
    first = [FP32] if FP32 in rows["width"] else []
    return [*first, *map(str, numbers)]


def _bits_axis(rows: pl.DataFrame) -> alt.X:
    return alt.X("width:N", title="bits of the weights", sort=_widths(rows), scale=alt.Scale(padding=0.3),
                 axis=alt.Axis(labelAngle=0))  # fmt: skip


def accuracy_chart(rows: pl.DataFrame, style: Style) -> Chart:
    """Accuracy by bits, with the FP32 level, chance, and the interval of what is lost."""
    base = _base(rows, style)
    x = _bits_axis(rows)
    scale, ends = _scale("accuracy", rows, style)
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=scale)
    coded = _coded(rows, "class_ratio", "calibration", style)
    offset = alt.XOffset("class_ratio:N", sort=rows["class_ratio"].unique(maintain_order=True).to_list())
    tooltip = [
        alt.Tooltip("class_ratio:N", title="calibration"), alt.Tooltip("width:N", title="bits"),
        alt.Tooltip("accuracy:Q", title="accuracy, %", format=".1f"),
        alt.Tooltip("accuracy_drop:Q", title="lost, points", format=".1f"),
        alt.Tooltip("low:Q", title="from, %", format=".1f"),
        alt.Tooltip("high:Q", title="to, %", format=".1f"),
        alt.Tooltip("seeds:Q"), alt.Tooltip("documents:Q"), alt.Tooltip("remark:N"),
    ]  # fmt: skip
    fp32 = (
        base.transform_filter(f"datum.width == '{FP32}'")
        .mark_rule(strokeDash=[6, 4], color=style.ink, opacity=0.7)
        .encode(y=alt.Y("mean(accuracy):Q", title="accuracy, %", scale=scale))
    )
    chance = base.mark_rule(clip=True, strokeDash=[1, 4], color=style.ink, opacity=0.7).encode(
        y=alt.Y("mean(chance):Q", title="accuracy, %", scale=scale)
    )
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.8).encode(
        x=x, xOffset=offset, y=alt.Y("low:Q", title="accuracy, %", scale=scale), y2="high:Q",
        color=coded["color"]
    )  # fmt: skip
    marks = base.mark_point(filled=True, size=55, opacity=1).encode(
        x=x, xOffset=offset, y=y, **coded, tooltip=tooltip
    )
    return _sized(
        alt.layer(chance, fp32, *([bars] if rows["low"].count() else []), marks).add_params(*ends), style, 300
    )


def ratios_chart(rows: pl.DataFrame, style: Style) -> Chart:
    """Points lost against the balanced twin by bits."""
    base = _base(rows, style)
    scale, ends = _scale("ratios", rows, style)
    title = "lost against balanced, points"
    x = _bits_axis(rows)
    coded = _coded(rows, "class_ratio", "calibrated on", style)
    offset = alt.XOffset("class_ratio:N", sort=rows["class_ratio"].unique(maintain_order=True).to_list())
    tooltip = [
        alt.Tooltip("class_ratio:N", title="calibrated on"), alt.Tooltip("width:N", title="bits"),
        alt.Tooltip("effect:Q", title="lost, points", format=".1f"),
        alt.Tooltip("effect_low:Q", title="from, points", format=".1f"),
        alt.Tooltip("effect_high:Q", title="to, points", format=".1f"), alt.Tooltip("seeds:Q"),
        alt.Tooltip("documents:Q"), alt.Tooltip("remark:N"),
    ]  # fmt: skip
    zero = base.mark_rule(strokeDash=[6, 4], color=style.ink).encode(y=alt.YDatum(0, scale=scale))
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.8).encode(
        x=x, xOffset=offset, y=alt.Y("effect_low:Q", title=title, scale=scale), y2="effect_high:Q",
        color=coded["color"],
    )  # fmt: skip
    marks = base.mark_point(filled=True, size=55, opacity=1).encode(
        x=x, xOffset=offset, y=alt.Y("effect:Q", title=title, scale=scale), **coded, tooltip=tooltip
    )
    return _sized(
        alt.layer(zero, *([bars] if rows["effect_low"].count() else []), marks).add_params(*ends), style, 300
    )


def noise_chart(rows: pl.DataFrame, style: Style) -> Chart:
    """Accuracy by the share of letters touched."""
    base = _base(rows, style)
    scale, ends = _scale("noise", rows, style)
    ordered = rows.with_columns(pl.col("width").replace({FP32: "99"}).cast(pl.Int32).alias("order"))
    coded = _coded(ordered.sort("order", descending=True), "width", "bits", style)
    x = alt.X("level:Q", title="letters touched, %", axis=alt.Axis(values=sorted(rows["level"].unique())))
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=scale)
    tooltip = [
        alt.Tooltip("width:N", title="bits"), alt.Tooltip("input:N", title="input"),
        alt.Tooltip("accuracy:Q", title="accuracy, %", format=".1f"),
        alt.Tooltip("accuracy_drop:Q", title="lost against FP32, points", format=".1f"),
        alt.Tooltip("drop_low:Q", title="from, points", format=".1f"),
        alt.Tooltip("drop_high:Q", title="to, points", format=".1f"),
        alt.Tooltip("seeds:Q"), alt.Tooltip("documents:Q"),
    ]  # fmt: skip
    lines = base.mark_line(strokeWidth=1.5).encode(
        x=x,
        y=y,
        color=coded["color"],
        strokeDash=_dashed(ordered.sort("order", descending=True), "width", "bits"),
    )
    marks = base.mark_point(filled=True, size=55, opacity=1).encode(x=x, y=y, **coded, tooltip=tooltip)
    return _sized(alt.layer(lines, marks).add_params(*ends), style, 300)


def shifts_chart(rows: pl.DataFrame, style: Style) -> Chart:
    """D dithered of every tensor by bits, as a heat map with its numbers."""
    base = _base(rows, style)
    x = alt.X("width:N", title="bits of the weights", sort=_widths(rows), axis=alt.Axis(labelAngle=0))
    y = alt.Y("tensor:N", title=None, sort=rows["tensor"].unique(maintain_order=True).to_list())
    high = (style.ends or extent("shifts", rows))[1]
    end: Any = high if style.width is not None else alt.ExprRef("high")
    ends = () if style.width is not None else (alt.param(name="high", value=high),)
    tooltip = [
        alt.Tooltip("tensor:N"), alt.Tooltip("kind:N"), alt.Tooltip("width:N", title="bits"),
        alt.Tooltip("ks_d_dithered:Q", title="D dithered", format=".4f"),
        alt.Tooltip("d:Q", title="D", format=".4f"),
        alt.Tooltip("atom_floor:Q", title="grid floor", format=".4f"),
        alt.Tooltip("clip_fraction:Q", title="clipped, %", format=".2f"), alt.Tooltip("seeds:Q"),
    ]  # fmt: skip
    colour = alt.Color(
        "ks_d_dithered:Q", title="D dithered", legend=alt.Legend(gradientLength=160),
        scale=alt.Scale(scheme="viridis", domainMin=0, domainMax=end),
    )  # fmt: skip
    boxes = base.mark_rect().encode(x=x, y=y, color=colour, tooltip=tooltip)
    light = f"datum.ks_d_dithered > 0.6 * {'high' if ends else high}"
    numbers = base.mark_text(fontSize=11).encode(
        x=x, y=y, text=alt.Text("ks_d_dithered:Q", format=".2f"),
        color=alt.condition(light, alt.value("#000000"), alt.value("#ffffff")),
    )  # fmt: skip
    return _sized(alt.layer(boxes, numbers).add_params(*ends), style, 24 * max(rows["tensor"].n_unique(), 2))


def distributions_chart(rows: pl.DataFrame, style: Style) -> Chart:
    """Cumulative distributions of one tensor: FP32 as a line, quantized ones in steps."""
    base = _base(rows, style)
    legend = alt.Legend(title="side", symbolType="stroke", symbolStrokeWidth=2, symbolSize=300)
    colour = _coded(rows, "side", "side", style)["color"].legend(legend)
    dash = _dashed(rows, "side", "side").legend(legend)
    x = alt.X("value:Q", title="value, the tensor's unit", scale=alt.Scale(zero=False, nice=False))
    y = alt.Y("share:Q", title="values at or below, %", scale=alt.Scale(domain=[0, 100]))
    tooltip = [
        alt.Tooltip("side:N"), alt.Tooltip("value:Q", format=".4g"),
        alt.Tooltip("share:Q", title="values at or below, %", format=".1f"),
    ]  # fmt: skip
    encoded = {
        "x": x, "y": y, "order": alt.Order("share:Q"), "color": colour, "tooltip": tooltip,
        "strokeDash": dash,
    }  # fmt: skip
    smooth = base.transform_filter(f"datum.side == '{FP32}'").mark_line(strokeWidth=2).encode(**encoded)
    steps = (
        base.transform_filter(f"datum.side != '{FP32}'")
        .mark_line(strokeWidth=1.75, interpolate="step-after")
        .encode(**encoded)
    )
    return _sized(alt.layer(smooth, steps), style, 300)


CHARTS: dict[str, Callable[[pl.DataFrame, Style], Chart]] = {
    "accuracy": accuracy_chart,
    "ratios": ratios_chart,
    "noise": noise_chart,
    "shifts": shifts_chart,
    "distributions": distributions_chart,
}
