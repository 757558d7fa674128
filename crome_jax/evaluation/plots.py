"""The report's pictures: figures in, a matplotlib Figure out, and from that SVG or PNG bytes."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

SERIES = ("#c2530a", "#0068a8", "#00805c", "#a83f7f", "#8a6d00", "#3f4fb5")
"""Colours of the methods in order (after Okabe and Ito: told apart with any colour vision), at least 4.5:1 on white."""

MARKERS = ("o", "D", "s", "^", "v", "P", "X")
"""One more than colours, so that the pairs of both differ for the first 42 methods."""

INK, MUTED, RULE = "#1c2530", "#5b6672", "#d5dae0"
LABEL_CHARACTERS = 30

_NO_DATE = {"Date": None, "Creator": None}
_VARIABLES = {
    **{color: f"var(--series-{m})" for m, color in enumerate(SERIES)},
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    "#ffffff": "var(--paper)",
}
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 10,
    "text.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "crome",
    # Text of the data may hold dollars, which must not be read as mathematics.
    "text.parse_math": False,
    "axes.unicode_minus": True,
}


class Row(NamedTuple):
    """One line of an interval plot: a heading where `measured` is None.

    Args:
        label: what is measured.
        measured: method to an accuracy figure ({accuracy, interval, comparisons, ...}).
    """

    label: str
    measured: Mapping[str, Mapping[str, Any]] | None = None


def plot_intervals(
    rows: Sequence[Row],
    methods: Mapping[str, str],
    *,
    detailed: bool = False,
    label: str = "pairwise accuracy (%)",
    counted: str = "pairs",
    chance: float | None = 0.5,
) -> Figure:
    """Plot accuracies as points with their intervals, one line per row and method, against chance.

    Args:
        methods: method to the name that is shown, in the order of the colours.
        detailed: whether each accuracy is written beside its interval.
        label: of the axis.
        counted: what a row rests on so many of.
        chance: what a random scorer gets; None where rows differ in that.

    The axis runs from 0 to 100%, so that no difference looks larger than it is; how many comparisons a row rests on is
    written at its end, where the figures say it.
    """
    order = list(methods)
    step = 0.21
    width, left, right = (5.8 if detailed else 4.9), 1.6, 0.5
    heights = [0.27 if row.measured is None else step * len(order) + 0.13 for row in rows]
    legend = _legend_height(methods)
    height = sum(heights) + 0.62 + legend
    with styled():
        figure = Figure(figsize=(width, height), layout="none")
        axes = figure.add_axes((left / width, 0.52 / height, (width - left - right) / width, sum(heights) / height))
        transform = axes.get_yaxis_transform()
        widest, counts_shown = 1.0, False
        y, ticks, labels = 0.0, [], []
        for row, tall in zip(rows, heights, strict=True):
            middle = y + tall / 2
            if row.measured is None:
                heading = {"va": "center", "color": MUTED, "fontsize": 9.5, "fontweight": "bold"}
                figure_left = -left / (width - left - right)
                axes.text(figure_left, middle, short_label(row.label), transform=transform, **heading)
            else:
                ticks.append(middle)
                labels.append(short_label(row.label, 20))
                axes.axhspan(y + 0.03, y + tall - 0.03, color=RULE, alpha=0.22, linewidth=0)
                for m, method in enumerate(order):
                    measured = row.measured.get(method)
                    if measured and measured["accuracy"] is not None:
                        at = middle + (m - (len(order) - 1) / 2) * step
                        _draw_interval(axes, measured, at, m, detailed)
                        widest = max(widest, measured["interval"][1] + (0.11 if detailed else 0.0))
                counts = [m["comparisons"] for m in row.measured.values() if m and "comparisons" in m]
                if counts:
                    counts_shown = True
                    aside = {"va": "center_baseline", "ha": "left", "color": MUTED, "fontsize": 8.5}
                    axes.text(1.03, middle, f"{max(counts):,}", transform=transform, **aside)
            y += tall
        if chance is not None:
            axes.axvline(chance, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            label += "; dashed: chance"
        axes.set_xlim(-0.02, widest + 0.02)
        axes.set_ylim(y, 0)
        axes.set_yticks(ticks, labels)
        axes.tick_params(axis="y", length=0, pad=6)
        axes.spines["left"].set_visible(False)
        _percent_axis(axes)
        axes.set_xlabel(label + (f"; right: {counted}" if counts_shown else ""), fontsize=10)
        _add_legend(figure, methods)
        return figure


def plot_effects(rows: Sequence[Row], methods: Mapping[str, str], label: str) -> Figure:
    """Plot effects as points with their intervals against zero, one line per row and method.

    Args:
        rows: as plot_intervals takes them; a figure's `accuracy` is the effect.
        methods: method to the name that is shown, in the order of the colours.
        label: of the axis, with its unit.
    """
    order = list(methods)
    step, width, left, right = 0.21, 5.8, 1.7, 0.15
    heights = [0.27 if row.measured is None else step * len(order) + 0.13 for row in rows]
    height = sum(heights) + 0.62 + _legend_height(methods)
    with styled():
        figure = Figure(figsize=(width, height), layout="none")
        axes = figure.add_axes((left / width, 0.52 / height, (width - left - right) / width, sum(heights) / height))
        y, ticks, labels = 0.0, [], []
        for row, tall in zip(rows, heights, strict=True):
            middle = y + tall / 2
            if row.measured is None:
                heading = {"va": "center", "color": MUTED, "fontsize": 9.5, "fontweight": "bold"}
                place = -left / (width - left - right)
                axes.text(place, middle, short_label(row.label), transform=axes.get_yaxis_transform(), **heading)
            else:
                ticks.append(middle)
                labels.append(short_label(row.label, 20))
                for m, method in enumerate(order):
                    measured = row.measured.get(method)
                    if measured and measured["accuracy"] is not None:
                        known = measured["interval"] or [measured["accuracy"]] * 2
                        at = middle + (m - (len(order) - 1) / 2) * step
                        _draw_interval(axes, {**measured, "interval": known}, at, m, False)
            y += tall
        axes.axvline(0.0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.margins(x=0.08)
        axes.set_ylim(y, 0)
        axes.set_yticks(ticks, labels)
        axes.tick_params(axis="y", length=0, pad=6)
        axes.spines["left"].set_visible(False)
        axes.grid(True, axis="x")
        axes.set_xlabel(label, fontsize=10)
        _add_legend(figure, methods)
        return figure


def plot_reward_length(panels: Mapping[str, Mapping[str, Any]], methods: Mapping[str, str]) -> Figure:
    """Plot the reward of responses against their length, one panel per method.

    Args:
        panels: method to what measure_reward_length gives.
        methods: method to the name that is shown, in the order of the colours.
    """
    shown = [method for method in methods if method in panels]
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    height = 0.2 + 2.3 * lines
    with styled():
        figure = Figure(figsize=(4.9, height), layout="constrained")
        grid = np.atleast_1d(figure.subplots(lines, columns, sharex=True, squeeze=False)).ravel()
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        for axes, method in zip(grid, shown, strict=False):
            m = list(methods).index(method)
            color, measured = SERIES[m % len(SERIES)], panels[method]
            points = np.array(measured["points"], np.float64).reshape(-1, 2)
            axes.scatter(points[:, 0], points[:, 1], s=9, color=color, alpha=0.4, linewidths=0, clip_on=False)
            axes.set_xscale("log", base=2)
            if len(points) and np.ptp(points[:, 0]) > 0:
                _draw_slope(axes, points, measured["slope_within_groups"])
            within = measured["correlation_within_groups"]
            said = "" if within is None else f" · r = {within:+.2f}".replace("-", "−")
            axes.set_title(short_label(methods[method], 18) + said, fontsize=10)
            axes.grid(True)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
            axes.xaxis.set_major_locator(LogLocator(base=2, numticks=4))
            axes.xaxis.minorticks_off()
            axes.tick_params(axis="y", labelcolor=MUTED, labelsize=9.5)
        figure.supxlabel("words in the response (log scale)", fontsize=10, color=MUTED)
        figure.supylabel("reward (nats)", fontsize=10, color=MUTED)
        return figure


def plot_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], label: str) -> Figure:
    """Plot best-of-N curves against N, with their intervals.

    Args:
        curves: name to points of `n`, `value` and `interval` (None draws none).
        label: of the axis of values.
    """
    with styled():
        figure = Figure(figsize=(5.8, 3.2), layout="constrained")
        axes = figure.subplots()
        for c, (name, points) in enumerate(curves.items()):
            n, values = [point["n"] for point in points], [point["value"] for point in points]
            color = SERIES[c % len(SERIES)]
            axes.plot(
                n, values, color=color, marker=MARKERS[c % len(MARKERS)], markersize=4, label=short_label(name, 24)
            )
            if points and all(point.get("interval") for point in points):
                low, high = zip(*(point["interval"] for point in points), strict=True)
                axes.fill_between(n, low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axes.xaxis.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        axes.grid(True)
        axes.set_xlabel("candidates N (log scale)", fontsize=10)
        axes.set_ylabel(label, fontsize=10)
        axes.legend(loc="best")
        return figure


def plot_training(
    curves: Mapping[str, Sequence[Mapping[str, float | None]]], methods: Mapping[str, str]
) -> Figure | None:
    """Plot every metric of training against the step, one panel per metric, up to six; those of one attribute stay out.

    Args:
        curves: method to records of `step` and named numbers; what is missing or None is left out.
        methods: method to the name that is shown, in the order of the colours.

    Returns:
        None where there is nothing to plot.
    """
    names = {name for records in curves.values() for record in records for name in record if name != "step"}
    names = {name for name in names if not name.startswith("causal/") or name.count("/") == 1}
    panels = sorted(names, key=lambda name: (name != "loss", not name.startswith("accuracy"), name))[:6]
    if not panels:
        return None
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    legend = _legend_height(methods)
    height = 0.2 + 2.0 * lines + legend
    with styled():
        figure = Figure(figsize=(5.8, height), layout="constrained")
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - legend / height))
        grid = np.atleast_1d(figure.subplots(lines, columns, sharex=True, squeeze=False)).ravel()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, name in zip(grid, panels, strict=False):
            for m, method in enumerate(methods):
                records = [r for r in curves.get(method, ()) if r.get(name) is not None]
                if records:
                    steps, values = [r["step"] for r in records], [r[name] for r in records]
                    style = {"color": SERIES[m % len(SERIES)], "linewidth": 1.6}
                    axes.plot(steps, values, marker=MARKERS[m % len(MARKERS)], markersize=3, markevery=0.1, **style)
            unit = " (nats)" if name == "loss" else ""
            axes.set_title(short_label(name.replace("_", " ") + unit), fontsize=10)
            axes.grid(True)
            axes.tick_params(axis="y", labelcolor=MUTED, labelsize=9.5)
            if name.startswith("accuracy"):
                axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        figure.supxlabel("optimizer step", fontsize=10, color=MUTED)
        _add_legend(figure, methods)
        return figure


def to_png(figure: Figure, dots_per_inch: int = 160) -> bytes:
    """Return the figure as a PNG on white."""
    return _save(figure, "png", dpi=dots_per_inch, facecolor="white", bbox_inches="tight")


def to_svg(figure: Figure) -> bytes:
    """Return the figure as an SVG file on white."""
    return _save(figure, "svg", facecolor="white", bbox_inches="tight", metadata=_NO_DATE)


def to_inline_svg(figure: Figure, name: str, title: str) -> Markup:
    """Return the figure as an `svg` element whose colours follow the page's CSS variables.

    Args:
        name: unique in the page; keeps the ids of its pictures apart.
        title: what the picture shows, for readers who cannot see it.
    """
    text = _save(figure, "svg", transparent=True, metadata=_NO_DATE).decode()
    text = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL
    )
    text = _keep_own_ids(text, name)
    text = re.sub(r'style="[^"]*"', lambda style: _follow_page(style[0]), text)
    text = re.sub(r"\n\s*", "\n", text)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[\d. ]+"', head)[0]
    return Markup(f'<svg {box} role="img" aria-label="{escape(short_label(title, 200))}">{body}')


def short_label(text: str, characters: int = LABEL_CHARACTERS) -> str:
    """Return a label on one line, cut to so many characters."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", " ", text).split())
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"


@contextmanager
def styled():
    """Let matplotlib draw in this page's style."""
    with matplotlib.rc_context(_STYLE):
        yield


def _draw_interval(axes, measured: Mapping[str, Any], y: float, m: int, values: bool) -> None:
    color = SERIES[m % len(SERIES)]
    low, high = measured["interval"]
    axes.plot([low, high], [y, y], color=color, linewidth=2.2, solid_capstyle="round", zorder=2)
    axes.plot(
        measured["accuracy"],
        y,
        MARKERS[m % len(MARKERS)],
        color=color,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=3,
        clip_on=False,
    )
    if values:
        axes.annotate(
            f"{100 * measured['accuracy']:.1f}",
            (high, y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center_baseline",
            color=color,
            fontsize=10,
            fontweight="bold",
        )


def _draw_slope(axes, points: np.ndarray, slope: float | None) -> None:
    if slope is None:
        return
    low, high = np.log2([points[:, 0].min(), points[:, 0].max()])
    middle = np.log2(points[:, 0]).mean()
    line = [points[:, 1].mean() + slope * (x - middle) for x in (low, high)]
    # The points set the scale: where prompts differ more than their responses the line leaves the picture.
    axes.plot([2**low, 2**high], line, color=INK, linewidth=1.4, scaley=False)


def _percent_axis(axes) -> None:
    low, high = axes.get_xlim()
    step = next(s for s in (0.05, 0.1, 0.2, 0.25) if (min(high, 1) - low) / s <= 6.5)
    ticks = [t for t in np.arange(0, 1.0001, step) if low <= t <= high]
    axes.set_xticks(ticks, [f"{100 * t:.0f}" for t in ticks])
    axes.grid(True, axis="x")


def _legend_height(methods: Mapping[str, str]) -> float:
    """Return the inches a legend takes; one method needs none."""
    return 0.3 * -(-len(methods) // 3) if len(methods) > 1 else 0.0


def _add_legend(figure: Figure, methods: Mapping[str, str]) -> None:
    if len(methods) < 2:
        return
    handles = [
        Line2D([], [], color=SERIES[m % len(SERIES)], marker=MARKERS[m % len(MARKERS)], linewidth=2.2, markersize=6.5)
        for m in range(len(methods))
    ]
    names = [short_label(name, 22) for name in methods.values()]
    place = {"loc": "upper left", "bbox_to_anchor": (0, 1), "borderpad": 0, "borderaxespad": 0.3}
    figure.legend(handles, names, ncols=3, handlelength=1.6, **place)


def _keep_own_ids(svg: str, name: str) -> str:
    """Drop the ids nothing refers to, and make the others this picture's own."""
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg))

    def own(tag: re.Match) -> str:
        return f'<{tag[1]} id="{name}-{tag[2]}"' if tag[2] in used else f"<{tag[1]}"

    svg = re.sub(r'<(\w+) id="([^"]*)"', own, svg)
    return re.sub(r'(url\(|href=")#([\w-]+)', rf"\1#{name}-\2", svg)


def _follow_page(style: str) -> str:
    """Let the page's font and colour scheme rule a style attribute."""
    style = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", style)
    for color, variable in _VARIABLES.items():
        style = style.replace(color, variable)
    return style


def _save(figure: Figure, kind: str, **options) -> bytes:
    out = io.BytesIO()
    with styled(), warnings.catch_warnings():
        # Browsers find a glyph for any script; matplotlib only measures with its own font, and warns.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(out, format=kind, **options)
    return out.getvalue()
