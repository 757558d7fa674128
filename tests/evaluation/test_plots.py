"""Pictures are valid, carry their labels as text, and keep to themselves."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from crome_jax.evaluation import plots

HOSTILE = ["</svg><script>alert(1)</script>", '$x_2$ & "q" --> <!--', "\u202eabc\u2028\x01", "名前 🎉 " * 20]


def _measured(accuracy, low, high):
    return {"accuracy": accuracy, "interval": [low, high], "comparisons": 10, "groups": 5}


def _intervals(labels=("reversed", "unseen"), methods=("crome", "rrm")):
    rows = [plots.Row(label, {m: _measured(0.8, 0.7, 0.9) for m in methods}) for label in labels]
    return plots.plot_intervals([plots.Row("a heading"), *rows], {m: m for m in methods}, detailed=True)


def _lengths(methods=("crome", "rrm")):
    panel = {"points": [[10, 0.5], [40, 1.5], [20, 1.0]], "slope_within_groups": 0.5, "correlation_within_groups": 0.9}
    return plots.plot_reward_length(dict.fromkeys(methods, panel), {m: m for m in methods})


def _training(methods=("crome", "rrm")):
    records = [{"step": s, "loss": 1 / (1 + s), "accuracy_human": None if s == 1 else 0.5} for s in range(5)]
    return plots.plot_training(dict.fromkeys(methods, records), {m: m for m in methods})


@pytest.mark.parametrize("draw", [_intervals, _lengths, _training])
def test_pictures_are_images(draw):
    assert plots.to_png(draw()).startswith(b"\x89PNG\r\n")
    file = ET.fromstring(plots.to_svg(draw()))
    assert file.tag == "{http://www.w3.org/2000/svg}svg"
    text = "".join(file.itertext())
    assert all(name in text for name in ("crome", "rrm"))


@pytest.mark.parametrize("draw", [_intervals, _lengths, _training])
def test_inline_pictures_follow_the_page(draw):
    text = str(plots.to_inline_svg(draw(), "one", "what it shows"))
    assert text.startswith("<svg viewBox=")
    assert "var(--series-0)" in text
    assert "var(--series-1)" in text
    assert "var(--sans)" in text
    # No colour is fixed, so none can vanish on a dark page.
    assert set(re.findall(r"#[0-9a-f]{6}\b", " ".join(re.findall(r'style="[^"]*"', text)))) <= {"#000000"}
    ids = re.findall(r' id="([^"]*)"', text)
    assert all(i.startswith("one-") for i in ids)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', text)) == set(ids)
    assert text == str(plots.to_inline_svg(draw(), "one", "what it shows"))


@pytest.mark.parametrize("label", HOSTILE)
def test_labels_are_text_whatever_they_hold(label):
    text = str(plots.to_inline_svg(_intervals([label], [label]), "one", label))
    root = ET.fromstring(text.replace("xlink:href", "href"))
    ours = {"svg", "defs", "g", "path", "use", "text", "tspan", "clipPath", "rect"}
    assert {element.tag.split("}")[-1] for element in root.iter()} <= ours
    assert plots.short_label(label, 20) in "".join(root.itertext())
    assert root.get("aria-label") == plots.short_label(label, 200)


@pytest.mark.parametrize(
    ("text", "short"),
    [("abc", "abc"), ("a\n b\tc", "a b c"), ("abcdefghij", "abcd…"), ("abc defgh", "abc…"), ("\u202ea\x07b", "a b")],
)
def test_short_label(text, short):
    assert plots.short_label(text, 5) == short


def test_methods_without_figures_leave_gaps():
    rows = [plots.Row("x", {"crome": _measured(None, None, None)}), plots.Row("y", {})]
    assert plots.to_png(plots.plot_intervals(rows, {"crome": "crome", "rrm": "rrm"}))


def test_nothing_trained_is_no_picture():
    assert plots.plot_training({}, {"crome": "crome"}) is None
    assert plots.plot_training({"crome": [{"step": 1}]}, {"crome": "crome"}) is None


def test_points_without_spread_can_be_plotted():
    panel = {"points": [[7, 0.5]], "slope_within_groups": None, "correlation_within_groups": None}
    assert plots.to_png(plots.plot_reward_length({"m": panel}, {"m": "m"}))


def test_methods_differ_in_colour_or_marker():
    looks = {(plots.SERIES[m % len(plots.SERIES)], plots.MARKERS[m % len(plots.MARKERS)]) for m in range(42)}
    assert len(looks) == 42


def _luminance(color):
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("color", [*plots.SERIES, plots.INK, plots.MUTED])
def test_colours_can_be_read_on_white(color):
    # 4.5:1 is WCAG 2's bound for text of ordinary size.
    assert 1.05 / (_luminance(color) + 0.05) >= 4.5
