"""The charts, in Altair: each is drawn from the rows of a figure, for the page or for paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import polars as pl

from analysis.frames.axes import FP32

# Okabe & Ito (2008): colour-blind readers can tell these apart. Shapes and dashes repeat the distinction.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "stroke")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [1, 2], [10, 4], [3, 6])
POINT: dict[str, Any] = {"filled": True, "size": 55, "opacity": 1}  # how a mark is drawn

Chart = alt.LayerChart | alt.FacetChart  # the types that layering returns
# The columns that the common scale of the panels spans
EXTENTS = {
    "accuracy": ("accuracy", "low", "high"),
    "ratios": ("effect", "effect_low", "effect_high"),
    "noise": ("accuracy",),
    "shifts": ("ks_d_dithered",),
}


@dataclass(frozen=True, slots=True)
class Style:
    """The look of a chart on its medium.

    Attributes:
        ink: the colour of text and axes.
        faint: the colour of grid lines.
        colours: the colours of categories.
        width: the width of a panel in pixels; None fills its container on the page.
        ends: the ends of the scale that the panels share; None takes those of the rows.
    """

    ink: str
    faint: str
    colours: tuple[str, ...]
    width: int | None
    ends: tuple[float, float] | None = None


PAPER = Style("#222222", "#dddddd", COLOURS, 330)
PAGE = Style("var(--ink)", "var(--line)", tuple(f"var(--c{n})" for n in range(len(COLOURS))), None)


def draw_chart(kind: str, rows: pl.DataFrame, style: Style = PAPER) -> Chart:
    """Draw one panel.

    Args:
        kind: a key of `CHARTS`.
        rows: the data of the panel; on `PAGE` the rows of any setting and panel: the page itself supplies the
            data under the name `source`.
        style: `PAPER` or `PAGE`.

    Raises:
        ValueError: if there is no such chart.
    """
    if kind not in CHARTS:
        raise ValueError(f"there is no chart {kind!r}: use one of {', '.join(CHARTS)}")
    return CHARTS[kind](rows, style)


def draw_panels(kind: str, rows: pl.DataFrame, panel: str) -> alt.HConcatChart:
    """Draw the panels of a figure side by side on one scale, for paper.

    Args:
        kind: a key of `CHARTS`.
        rows: the rows of one setting.
        panel: the column with one value per panel.
    """
    style = replace(PAPER, ends=find_extent(kind, rows))
    groups = rows.group_by(panel, maintain_order=True)
    return alt.hconcat(
        *(draw_chart(kind, part, style).properties(title=str(value)) for (value,), part in groups)
    )


def to_vega_lite(spec: alt.TopLevelMixin, style: Style) -> dict[str, Any]:
    """Convert a chart to its Vega-Lite specification, in the colours of `style`."""
    text = {"labelColor": style.ink, "titleColor": style.ink, "labelFontSize": 12, "titleFontSize": 12,
            "titleFontWeight": "normal"}  # fmt: skip
    axis = {"domainColor": style.ink, "tickColor": style.ink, "gridColor": style.faint, "labelLimit": 180}
    columns = {"signal": "width < 330 ? 2 : 4"} if style is PAGE else 4
    config = {
        "background": "transparent" if style is PAGE else "#ffffff",
        "font": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif",
        "view": {"stroke": None},
        "axis": text | axis,
        "legend": text | {"orient": "top", "symbolStrokeWidth": 0, "columns": columns},
        "title": {"color": style.ink, "anchor": "start", "fontSize": 14},
    }
    return spec.to_dict() | {"config": config}


def find_extent(kind: str, rows: pl.DataFrame) -> tuple[float, float]:
    """Find the smallest and the largest value of a figure, so that its panels can share one scale."""
    values = pl.concat([rows[name].cast(pl.Float64) for name in EXTENTS.get(kind, ())] or [pl.Series([0.0])])
    found = values.drop_nulls().to_numpy()
    return (float(found.min()), float(found.max())) if len(found) else (0.0, 100.0)


def _base(rows: pl.DataFrame, style: Style) -> alt.Chart:
    return alt.Chart(alt.NamedData("source") if style is PAGE else alt.InlineData(values=rows.to_dicts()))


def _layer(layers: Sequence[alt.Chart], style: Style, ends: Sequence[alt.Parameter] = (),
           height: int = 300) -> Chart:  # fmt: skip
    """Put layers on each other, in the size that `style` asks for."""
    layered = alt.layer(*layers).add_params(*ends).properties(height=height)
    if style is PAGE:
        return layered.properties(
            width="container", autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
        )
    return layered.properties(width=style.width)


def _scale(kind: str, rows: pl.DataFrame, style: Style) -> tuple[alt.Scale, tuple[alt.Parameter, ...]]:
    """Make the vertical scale; on the page its ends are signals that follow the selected setting."""
    low, high = style.ends or find_extent(kind, rows)
    if style.width is not None:
        room = max((high - low) * 0.05, 0.5)
        return alt.Scale(domain=[low - room, high + room], zero=False, nice=False), ()
    margin = "max((high - low) * 0.05, 0.5)"
    first, last = alt.ExprRef(f"low - {margin}"), alt.ExprRef(f"high + {margin}")
    return (
        alt.Scale(domainMin=first, domainMax=last, zero=False, nice=False),
        (alt.param(name="low", value=low), alt.param(name="high", value=high)),
    )


def _encode_category(
    rows: pl.DataFrame, column: str, style: Style, **legend: Any
) -> tuple[alt.Color, alt.Shape, alt.StrokeDash]:
    """Encode one column redundantly: as colour, as shape and as dash."""
    values = [str(value) for value in rows[column].unique(maintain_order=True)]

    def encode(signs: Sequence[Any]) -> dict[str, Any]:
        scale = alt.Scale(domain=values, range=[signs[n % len(signs)] for n in range(len(values))])
        return {"shorthand": f"{column}:N", "scale": scale, "legend": alt.Legend(**legend)}

    colour, shape, dash = map(encode, (style.colours, SHAPES, DASHES))
    return alt.Color(**colour), alt.Shape(**shape), alt.StrokeDash(**dash)


def _bits_axis(rows: pl.DataFrame, **options: Any) -> alt.X:
    widths = sorted(set(rows["width"]), key=lambda width: math.inf if width == FP32 else int(width))
    return alt.X("width:N", title="bits of the weights", sort=widths[::-1], axis=alt.Axis(labelAngle=0),
                 **options)  # fmt: skip


def _tooltips(*fields: str | tuple[str, ...]) -> list[alt.Tooltip]:
    """Make tooltips of fields: a field alone, or with a title and optionally a number format."""
    made = []
    for one in fields:
        field, *details = (one,) if isinstance(one, str) else one
        options: dict[str, Any] = dict(zip(("title", "format"), details, strict=False))
        made.append(alt.Tooltip(field, **options))
    return made


def _draw_intervals(
    kind: str, rows: pl.DataFrame, style: Style, names: tuple[str, str, str], title: str, legend: str,
    tooltip: list[alt.Tooltip], rules: Callable[[alt.Chart, alt.Scale], Sequence[alt.Chart]],
) -> Chart:  # fmt: skip
    """Draw a value and its interval by bits, one colour per class ratio, above the given rules.

    Args:
        kind: a key of `CHARTS`.
        rows: the data.
        style: `PAPER` or `PAGE`.
        names: the columns of the value and of both ends of its interval.
        title: the title of the vertical axis.
        legend: the title of the legend.
        tooltip: what a mark shows when it is pointed at.
        rules: draws the levels to compare with, given the chart's data and vertical scale.
    """
    base = _base(rows, style)
    value, low, high = names
    scale, ends = _scale(kind, rows, style)
    colour, shape, _ = _encode_category(rows, "class_ratio", style, title=legend)
    offset = alt.XOffset("class_ratio:N", sort=rows["class_ratio"].unique(maintain_order=True).to_list())
    base = base.encode(y=alt.Y(f"{value}:Q", title=title, scale=scale))
    placed = base.encode(x=_bits_axis(rows, scale=alt.Scale(padding=0.3)), xOffset=offset, color=colour)
    bars = placed.mark_rule(strokeWidth=1.5, opacity=0.8).encode(
        y=alt.Y(f"{low}:Q", title=title, scale=scale), y2=f"{high}:Q"
    )
    marks = placed.mark_point(**POINT).encode(shape=shape, tooltip=tooltip)
    shown = [bars, marks] if rows[low].count() else [marks]
    return _layer([*rules(base, scale), *shown], style, ends)


def draw_accuracy(rows: pl.DataFrame, style: Style) -> Chart:
    """Draw accuracy by bits, with the FP32 level, chance, and the interval of the loss."""

    def rules(base: alt.Chart, scale: alt.Scale) -> list[alt.Chart]:
        def level(field: str) -> alt.Y:
            return alt.Y(f"mean({field}):Q", title="accuracy, %", scale=scale)

        rule: dict[str, Any] = {"color": style.ink, "opacity": 0.7}
        fp32 = base.transform_filter(f"datum.width == '{FP32}'").mark_rule(strokeDash=[6, 4], **rule)
        chance = base.mark_rule(clip=True, strokeDash=[1, 4], **rule)
        return [chance.encode(y=level("chance")), fp32.encode(y=level("accuracy"))]

    tooltip = _tooltips(
        ("class_ratio:N", "calibration"), ("width:N", "bits"), ("accuracy:Q", "accuracy, %", ".1f"),
        ("accuracy_drop:Q", "lost, points", ".1f"), ("low:Q", "from, %", ".1f"), ("high:Q", "to, %", ".1f"),
        "seeds:Q", "documents:Q", "remark:N",
    )  # fmt: skip
    names = ("accuracy", "low", "high")
    return _draw_intervals("accuracy", rows, style, names, "accuracy, %", "calibration", tooltip, rules)


def draw_ratios(rows: pl.DataFrame, style: Style) -> Chart:
    """Draw the points lost against the balanced twin by bits."""

    def rules(base: alt.Chart, scale: alt.Scale) -> list[alt.Chart]:
        return [base.mark_rule(strokeDash=[6, 4], color=style.ink).encode(y=alt.YDatum(0, scale=scale))]

    tooltip = _tooltips(
        ("class_ratio:N", "calibrated on"), ("width:N", "bits"), ("effect:Q", "lost, points", ".1f"),
        ("effect_low:Q", "from, points", ".1f"), ("effect_high:Q", "to, points", ".1f"), "seeds:Q",
        "documents:Q", "remark:N",
    )  # fmt: skip
    title = "lost against balanced, points"
    return _draw_intervals(
        "ratios", rows, style, ("effect", "effect_low", "effect_high"), title, "calibrated on", tooltip, rules
    )


def draw_noise(rows: pl.DataFrame, style: Style) -> Chart:
    """Draw accuracy by the share of letters that noise changes."""
    scale, ends = _scale("noise", rows, style)
    order = pl.col("width").replace({FP32: "99"}).cast(pl.Int32)
    colour, shape, dash = _encode_category(rows.sort(order, descending=True), "width", style, title="bits")
    levels = alt.Axis(values=sorted(rows["level"].unique()))
    base = _base(rows, style).encode(
        x=alt.X("level:Q", title="letters changed, %", axis=levels),
        y=alt.Y("accuracy:Q", title="accuracy, %", scale=scale),
        color=colour,
    )
    tooltip = _tooltips(
        ("width:N", "bits"), ("input:N", "input"), ("accuracy:Q", "accuracy, %", ".1f"),
        ("accuracy_drop:Q", "lost against FP32, points", ".1f"), ("drop_low:Q", "from, points", ".1f"),
        ("drop_high:Q", "to, points", ".1f"), "seeds:Q", "documents:Q",
    )  # fmt: skip
    lines = base.mark_line(strokeWidth=1.5).encode(strokeDash=dash)
    return _layer([lines, base.mark_point(**POINT).encode(shape=shape, tooltip=tooltip)], style, ends)


def draw_shifts(rows: pl.DataFrame, style: Style) -> Chart:
    """Draw the dithered D of every tensor by bits, as a heat map with its numbers."""
    tensors = rows["tensor"].unique(maintain_order=True).to_list()
    high = (style.ends or find_extent("shifts", rows))[1]
    on_page = style.width is None
    base = _base(rows, style).encode(x=_bits_axis(rows), y=alt.Y("tensor:N", title=None, sort=tensors))
    tooltip = _tooltips(
        "tensor:N", "kind:N", ("width:N", "bits"), ("ks_d_dithered:Q", "D dithered", ".4f"),
        ("d:Q", "D", ".4f"), ("atom_floor:Q", "grid floor", ".4f"), ("clip_fraction:Q", "clipped, %", ".2f"),
        "seeds:Q",
    )  # fmt: skip
    end: Any = alt.ExprRef("high") if on_page else high
    colour = alt.Color(
        "ks_d_dithered:Q", title="D dithered", legend=alt.Legend(gradientLength=160),
        scale=alt.Scale(scheme="viridis", domainMin=0, domainMax=end),
    )  # fmt: skip
    is_light = f"datum.ks_d_dithered > 0.6 * {'high' if on_page else high}"
    numbers = base.mark_text(fontSize=11).encode(
        text=alt.Text("ks_d_dithered:Q", format=".2f"),
        color=alt.condition(is_light, alt.value("#000000"), alt.value("#ffffff")),
    )
    ends = [alt.param(name="high", value=high)] if on_page else []
    boxes = base.mark_rect().encode(color=colour, tooltip=tooltip)
    return _layer([boxes, numbers], style, ends, 24 * max(len(tensors), 2))


def draw_distributions(rows: pl.DataFrame, style: Style) -> Chart:
    """Draw the cumulative distributions of one tensor: FP32 as a line, quantized ones in steps."""
    colour, _, dash = _encode_category(
        rows, "side", style, title="side", symbolType="stroke", symbolStrokeWidth=2, symbolSize=300
    )
    base = _base(rows, style).encode(
        x=alt.X("value:Q", title="value, the tensor's unit", scale=alt.Scale(zero=False, nice=False)),
        y=alt.Y("share:Q", title="values at or below, %", scale=alt.Scale(domain=[0, 100])),
        order=alt.Order("share:Q"), color=colour, strokeDash=dash,
        tooltip=_tooltips(
            "side:N", ("value:Q", "value", ".4g"), ("share:Q", "values at or below, %", ".1f")
        ),
    )  # fmt: skip
    smooth = base.transform_filter(f"datum.side == '{FP32}'").mark_line(strokeWidth=2)
    steps = base.transform_filter(f"datum.side != '{FP32}'").mark_line(
        strokeWidth=1.75, interpolate="step-after"
    )
    return _layer([smooth, steps], style)


CHARTS: dict[str, Callable[[pl.DataFrame, Style], Chart]] = {
    "accuracy": draw_accuracy,
    "ratios": draw_ratios,
    "noise": draw_noise,
    "shifts": draw_shifts,
    "distributions": draw_distributions,
}
