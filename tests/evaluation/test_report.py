"""A report holds its figures in both files, whatever the data says, and runs nothing of it."""

import html
import html.parser
import json
import math
import re
import subprocess

import numpy as np
import pytest
from browser import find_browser

from crome_jax.errors import CromeError
from crome_jax.evaluation.bootstrap import Bootstrap
from crome_jax.evaluation.page import _counted
from crome_jax.evaluation.report import build_report, write_report
from crome_jax.groups import Comparison, Kind, Origin, Response, build_group

SPLITS = ("in_distribution", "reversed", "unseen")
BOOTSTRAP = Bootstrap(resamples=100)
PAYLOAD = """</script><script>document.title='taken'</script><img src=x onerror="document.title='taken'">'"`{{7*7}}"""
HOSTILE = f"{PAYLOAD} \u202eright to left\u202c שלום 🎉 & &lt; \u2028 \x07 ]]> --> "


def _groups(count=12, words="answer", name="g", **metadata):
    """Return groups of two answers, the first one better, with a degraded, an upgraded and two neutral ones."""
    groups = []
    for i in range(count):
        responses = [
            Response(f"{words} good {i} and a little longer", metadata={"emoji": i % 2 == 0}),
            Response(f"{words} bad {i}", metadata={"emoji": i % 3 == 0}),
            Response(f"{words} spoilt {i}", Origin.DEGRADED, 0, "factuality", f"{words} made wrong"),
            Response(f"{words} bad {i}, mended", Origin.UPGRADED, 1, "clarity"),
            Response(f"{words} elsewhere {i}", Origin.IRRELEVANT),
        ]
        comparisons = [
            Comparison(0, 1),
            Comparison(0, 2, kind=Kind.CAUSAL, attribute="factuality"),
            Comparison(3, 1, kind=Kind.CAUSAL, attribute="clarity"),
            Comparison(3, 4, 0.5, Kind.NEUTRAL),
        ]
        facts = {"category": f"topic {i % 2}", "spurious_attributes": "emoji"} | metadata
        groups.append(
            build_group(
                id=f"{name}{i}", prompt=f"{words} {i}?", responses=responses, comparisons=comparisons, metadata=facts
            )
        )
    return groups


def _rewards(groups, right):
    """Return rewards that get the human comparison right in the first `right` groups."""
    return [np.array([1.0 if i < right else -1.0, 0.0, 0.5, 0.25, 0.0]) for i, _ in enumerate(groups)]


def _report(methods=("bradley_terry", "crome"), splits=SPLITS, groups=None, **options):
    groups = groups or _groups()
    rewards = {method: _rewards(groups, 6 + 4 * m) for m, method in enumerate(methods)}
    return build_report(
        {method: dict.fromkeys(splits, (groups, rewards[method])) for method in methods},
        counterfactuals=options.pop("counterfactuals", (groups, rewards)),
        bootstrap=BOOTSTRAP,
        **options,
    )


class _Page(html.parser.HTMLParser):
    """Collects a page's elements, attributes and visible text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag in ("script", "style"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if not self.open:
            self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)


def _full_report():
    return _report(
        training={"crome": [{"step": s, "loss": 1.0, "accuracy": {"human": 0.5}} for s in range(3)]},
        facts={"command": "crome run", "versions": {"jax": "1"}, "search": [{"lr": 0.1, "won": True}]},
        title="A title",
    )


@pytest.fixture(scope="module")
def report():
    return _full_report()


@pytest.fixture(scope="module")
def page(report):
    return report.to_html()


@pytest.fixture(scope="module")
def hostile():
    """Return a report whose every name and text comes from a hostile data set."""
    groups = _groups(6, words=HOSTILE, name=HOSTILE, category=HOSTILE)
    groups += _groups(1, words="big " * 25_000, name="big")
    return _report(
        methods=(HOSTILE, "crome"),
        splits=(HOSTILE, "reversed"),
        groups=groups,
        title=HOSTILE,
        facts={HOSTILE: HOSTILE, "section": {HOSTILE: HOSTILE}, "table": [{HOSTILE: HOSTILE}]},
        training={HOSTILE: [{"step": 0, HOSTILE: 1.0}, {"step": 1, HOSTILE: 2.0}]},
    )


@pytest.fixture(scope="module")
def hostile_page(hostile):
    return hostile.to_html()


def test_json_has_the_promised_keys(report):
    figures = json.loads(report.to_json())
    assert list(figures["methods"]) == ["bradley_terry", "crome"]
    for method in figures["methods"].values():
        assert list(method["splits"]) == list(SPLITS)
        for split in method["splits"].values():
            assert 0 <= split["interval"][0] <= split["accuracy"] <= split["interval"][1] <= 1
            assert split["comparisons"] == 36
            assert split["groups"] == 12
            assert set(split["by_kind"]) == {"human", "causal"}
            assert set(split["by_category"]) == {"topic 0", "topic 1"}
            assert set(split["by_attribute"]) == {"factuality", "clarity"}
            assert set(split["by_stratum"]) == {"cue", "length", "markdown", "attribute:emoji"}
            assert split["ties"]["comparisons"] == 12
            assert {"log_loss", "calibration_error"} <= set(split["calibration"])
            assert split["reward_length"]["points"]
    # bradley_terry: 6 of 12 human, 6 factuality, 12 clarity; crome: 10, 10, 12.
    assert figures["methods"]["bradley_terry"]["splits"]["reversed"]["accuracy"] == 24 / 36
    assert figures["methods"]["crome"]["splits"]["reversed"]["accuracy"] == 32 / 36
    difference = figures["differences"]["reversed"]["crome"]
    assert difference["baseline"] == "bradley_terry"
    assert difference["difference"] == pytest.approx(8 / 36)
    assert figures["methods"]["crome"]["training"][0] == {"step": 0, "loss": 1.0, "accuracy_human": 0.5}
    assert figures["facts"]["versions"] == {"jax": "1"}


def test_the_page_shows_the_figures(report, page):
    page = _Page(page)
    figures = json.loads(report.to_json())
    for statement in figures["statements"]:
        assert statement in page.text.replace("\u2060", "")
    assert "Crome scores 88.9%" in figures["statements"][1]
    assert "22.2 points more" in figures["statements"][1]
    for method in figures["methods"].values():
        for split in method["splits"].values():
            assert f"{100 * split['accuracy']:.1f}" in page.text
    pairs = figures["counterfactuals"]
    assert len(pairs) == 36
    assert page.tags.count("article") == len(pairs)
    for pair in pairs:
        assert pair["before"] in page.text
        assert pair["after"] in page.text
        assert all(f"{r['after']:+.2f}".replace("-", "−") in page.text for r in pair["rewards"].values())


def test_equal_figures_make_equal_files(report, page):
    assert _full_report().to_json() == report.to_json()
    assert report.to_html() == page


def test_both_files_are_written_and_replaced(tmp_path):
    folder = tmp_path / "runs" / "new"
    for title in ("One", "Another"):
        small = _report(("crome",), ("reversed",), counterfactuals=None, title=title, facts={"argv": "a\udcffb"})
        page, figures = write_report(small, folder)
        assert f"<title>{title}</title>" in page.read_text(encoding="utf-8")
        assert json.loads(figures.read_text(encoding="utf-8")) == small.figures
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]


def test_a_folder_that_is_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CromeError, match="cannot be written"):
        write_report(_report(("crome",), ("reversed",), counterfactuals=None), tmp_path / "file")


def test_the_page_needs_no_network(page):
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    page = _Page(page)
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and "default-src" in (value or ""))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:")
    references = [v for _, name, v in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    assert references
    assert all(reference.startswith("#") for reference in references)
    assert not {"link", "iframe", "object", "embed", "base", "img"} & set(page.tags)
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_text_stays_text(hostile, hostile_page, page):
    text, plain = _Page(hostile_page), _Page(page)
    assert text.tags.count("script") == plain.tags.count("script") == 1
    assert set(text.tags) <= set(plain.tags)
    names = {name for _, name, _ in plain.attributes}
    assert {name for _, name, _ in text.attributes} <= names
    assert PAYLOAD in text.text
    figures = json.loads(hostile.to_json())
    assert figures["settings"]["methods"] == [HOSTILE, "crome"]
    assert figures["methods"][HOSTILE]["splits"][HOSTILE]["comparisons"] == 21
    assert figures["facts"]["section"] == {HOSTILE: HOSTILE}


def test_long_texts_are_cut_and_say_so(hostile, hostile_page):
    pairs = [pair for pair in hostile.counterfactuals if pair.group == "big0"]
    assert len(pairs) == 3
    for pair in pairs:
        assert len(pair.before.text) <= 4000
        hidden = pair.before.skipped + pair.before.left
        assert hidden > 90_000
        shown = f"{pair.before.skipped:,} characters before this" if pair.related else f"{hidden:,} more characters"
        assert shown in hostile_page
    assert len(hostile_page.encode()) < 2_000_000


@pytest.mark.parametrize(("methods", "splits"), [(("only",), SPLITS), (tuple("abcdefgh"), ("one",))])
def test_any_number_of_methods_and_splits(methods, splits):
    report = _report(methods, splits, counterfactuals=None)
    page = _Page(report.to_html())
    assert "article" not in page.tags
    assert not {"pairs", "training", "run"} & {value for _, name, value in page.attributes if name == "id"}
    figures = json.loads(report.to_json())
    assert len(figures["statements"]) == len(splits)
    assert set(figures["differences"]) == (set(splits) if len(methods) > 1 else set())
    # A link to a section that is not there leads nowhere.
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"} <= ids


def test_what_was_not_measured_is_left_out():
    groups = _groups()
    tied = [build_group(id="t", prompt="?", responses=["a", "b"], comparisons=[Comparison(0, 1, 0.5)])]
    report = build_report(
        {
            "crome": {"reversed": (groups, _rewards(groups, 6)), "ties": (tied, [np.zeros(2)]), "none": ([], [])},
            "rrm": {"reversed": (groups[:5], _rewards(groups[:5], 5))},
        },
        training={"crome": [{"step": 1, "loss": math.nan}, {"step": 2, "loss": np.float32(0.5)}]},
        bootstrap=BOOTSTRAP,
    )
    assert report.to_html()
    figures = json.loads(report.to_json())
    assert figures["methods"]["crome"]["splits"]["ties"]["accuracy"] is None
    assert figures["methods"]["crome"]["splits"]["none"]["interval"] is None
    assert list(figures["methods"]["rrm"]["splits"]) == ["reversed"]
    assert figures["differences"] == {}  # not the same comparisons
    assert figures["methods"]["crome"]["training"] == [{"step": 1, "loss": None}, {"step": 2, "loss": 0.5}]
    assert figures["statements"][1] == "On the ties split no comparison prefers one side."


def test_a_difference_that_may_be_none_says_so():
    groups = _groups()
    rewards = [_rewards(groups, 6), _rewards(groups, 7)]
    measured = {m: {"s": (groups, r)} for m, r in zip(("base", "new"), rewards, strict=True)}
    (statement,) = build_report(measured, bootstrap=BOOTSTRAP).figures["statements"]
    assert "zero included" in statement
    measured = {m: {"s": (groups, r)} for m, r in zip(("new", "base"), rewards[::-1], strict=True)}
    (statement,) = build_report(measured, bootstrap=BOOTSTRAP).figures["statements"]
    assert "points less" in statement


def test_a_report_of_nothing_is_refused():
    with pytest.raises(CromeError, match="at least one method"):
        build_report({})


def test_a_diverged_model_is_refused():
    groups = _groups(2)
    rewards = [np.full(5, np.nan)] * 2
    with pytest.raises(CromeError, match="group 'g0'"):
        build_report({"crome": {"reversed": (groups, rewards)}})


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Return a function from a page's text to the document Chromium makes of it."""
    browser = find_browser()

    def run(page):
        folder = tmp_path_factory.mktemp("browser")
        (folder / "report.html").write_text(page, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
        flags += ["--window-size=400,800"]
        command = [browser, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
        done = subprocess.run(
            [*command, (folder / "report.html").as_uri()], capture_output=True, timeout=120, check=True
        )
        return done.stdout.decode()

    return run


def test_a_browser_shows_one_pair_at_a_time(browse, page):
    document = browse(page)
    articles = re.findall(r'<article class="pair"[^>]*>', document)
    assert len(articles) == 36
    assert sum("hidden" not in article for article in articles) == 1
    assert ">1 of 36</output>" in document


def test_a_browser_filters_pairs(browse, page):
    """Drive the page's own controls: choose causal pairs that some method gets wrong, then the next one."""
    script = """<script>
      const select = (name, value) => {
        const element = document.querySelector(`select[name=${name}]`);
        element.value = value;
        element.dispatchEvent(new Event("change"));
      };
      select("kind", "causal"); select("outcome", "wrong"); select("attribute", "factuality");
      document.querySelectorAll("#browser button")[1].click();
    </script></body>"""
    document = browse(page.replace("</body>", script))
    # bradley_terry gets 6 of the 12 factuality pairs wrong, crome 2 of the same.
    assert ">2 of 6</output>" in document
    (shown,) = [a for a in re.findall(r'<article class="pair"[^>]*>', document) if "hidden" not in a]
    assert 'data-kind="causal" data-attribute="factuality"' in shown
    assert "wrong" in shown


def test_a_browser_runs_nothing_of_the_data(browse, hostile_page):
    # The probe reports through the title, which is what the payload would change.
    probe = (
        "<script>document.title += document.documentElement.scrollWidth <= innerWidth ? ' fits' : ' spills'</script>"
    )
    document = browse(hostile_page.replace("</body>", f"{probe}</body>"))
    title = html.unescape(re.search(r"<title>(.*?)</title>", document, re.DOTALL)[1])
    assert title.startswith(PAYLOAD)
    # Wide tables scroll by themselves: a phone shows no text off its edge.
    assert title.endswith("fits")
    assert document.count("<script>") == 2
    assert "<img" not in document
    assert " of 21</output>" in document


def test_the_report_says_what_data_its_counterfactual_pairs_are_from():
    report = _report(counterfactuals_from="the <training> data")
    assert json.loads(report.to_json())["counterfactuals_from"] == "the <training> data"
    assert "from the &lt;training&gt; data." in report.to_html()
    assert _report(counterfactuals=None).figures["counterfactuals_from"] is None


def test_what_a_study_cut_is_said_of_its_splits():
    encoded = {"validation": 7, "reversed": 3, "reversed, pairs": 4, "absent": 0}
    figures = {
        "settings": {"splits": ["reversed", "absent"], "methods": ["crome"]},
        "facts": {"frozen layers": [{"data": name, "responses cut": n} for name, n in encoded.items()]},
    }
    assert _counted(figures, "equal once cut") is None
    assert _counted(figures, "responses cut") == [
        ("all methods", "reversed", 3),
        ("all methods that read pairs", "reversed, pairs", 4),
    ]


@pytest.mark.parametrize("count", [0, 1, 1200])
def test_comparisons_that_no_model_can_tell_apart_are_said_on_the_page(count):
    facts = {
        "frozen layers": [{"data": split, "responses cut": 2 * count, "equal once cut": count} for split in SPLITS]
    }
    page = re.sub(r"<[^>]+>", "", _report(facts=facts).to_html())
    said = f"{count:,} comparison{'s' if count > 1 else ''} of"
    assert ("Equal once cut, so that no model can tell their answers apart: " + said in page) == bool(count)
