"""The report's files: what they say, in which language, and that no name can break them."""

import csv
import dataclasses
import json
import re
import shutil
import string
import subprocess
from html.parser import HTMLParser

import pytest

from lightune.compare import chinese, drawings, english
from lightune.compare.findings import Note
from lightune.compare.judge import judge
from lightune.compare.report import write_report
from lightune.compare.wording import Words, plain, seconds, size
from lightune.errors import ConfigError
from tests.compare.made_outcomes import classification, outcomes, records, regression

BASELINES = ("majority class", "TF-IDF + logistic regression")
RATES = {
    "full": 0.93,
    "lora rank=2": 0.91,
    "lora rank=16": 0.92,
    "head": 0.8,
    BASELINES[1]: 0.75,
    BASELINES[0]: 0.5,
}
GRIDS = {"lora rank=2": {"method.rank": 2}, "lora rank=16": {"method.rank": 16}}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "=HYPERLINK(\"http://example.org\")",
    "{0.__class__} \u202edrow\x00",
    "]]> & </style><b>",
)  # fmt: skip


@pytest.fixture(scope="module")
def findings():
    rows = records(120)
    task, state = classification(rows)
    made = outcomes(rows, RATES, sizes=("32", "all"), baselines=BASELINES, grids=GRIDS)
    return judge(made, task, state, rows, metric="accuracy")


@pytest.fixture(scope="module")
def hostile():
    rows = records(60, labels=HOSTILE[:2])
    task, state = classification(rows)
    rates = {name: 0.9 - 0.1 * i for i, name in enumerate(HOSTILE)}
    made = outcomes(rows, rates, sizes=("16", "all"), labels=HOSTILE[:2], seeds=1)
    for outcome in made:
        outcome.settings["grid"] = {"method.name": outcome.contender}
        outcome.settings["method"] = {"name": "<i>"}
    return judge(made, task, state, rows, metric="accuracy")


class Reader(HTMLParser):
    """Collects tags, attributes and text, and that every tag is closed by its own."""

    VOID = {"meta", "link", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += f"{data} "


def read(path):
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    assert not reader.open
    return reader


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_the_same_with_the_same_values():
    assert english.TEXTS.keys() == chinese.TEXTS.keys()
    for key, text in english.TEXTS.items():
        assert placeholders(text) == placeholders(chinese.TEXTS[key]), key
        assert re.search("[\u4e00-\u9fff]", chinese.TEXTS[key]) or key in ("comma", "mcnemar"), key


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_has_every_section_and_loads_nothing(findings, tmp_path, lang):
    reader = read(write_report(findings, tmp_path, lang))
    texts = {"en": english, "zh": chinese}[lang].TEXTS
    for key in ("scores", "matrix", "front", "curves", "choices", "classes", "cost", "method"):
        assert texts[key] in reader.text
    assert reader.tags.count("svg") == 4
    assert not {"script", "img", "iframe", "object", "form"} & set(reader.tags)
    loaded = [v for k, v in reader.attributes if k in ("src", "href", "action", "data")]
    assert loaded == ["data:,"]
    assert "http" not in (tmp_path / "report.html").read_text().replace("http-equiv", "")
    style = (tmp_path / "report.html").read_text().split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_a_baseline_far_off_does_not_squeeze_the_pictures(findings, tmp_path):
    page = write_report(findings, tmp_path).read_text()
    assert page.count("Not drawn, being far off: \u2068majority class\u2069.") == 2
    assert page.count("<title>majority class</title>") == 0
    assert page.count("<title>TF-IDF + logistic regression</title>") == 3


def test_the_answer_comes_first_and_names_no_winner_where_there_is_none(findings, tmp_path):
    page = write_report(findings, tmp_path).read_text()
    said = json.loads((tmp_path / "report.json").read_text())["answer"]
    assert findings.crowned is None
    assert said[0].startswith("No winner can be named: \u2068full\u2069 has the best mean")
    assert page.index("No winner can be named") < page.index("<h2>")
    assert any("would probably have been found" in sentence for sentence in said)
    assert any("Against the best baseline" in sentence for sentence in said)


def test_a_winner_is_named_with_its_lead(tmp_path):
    rows = records(120)
    task, state = classification(rows)
    for rates, words in (
        ({"lora": 0.95, "head": 0.6}, "lora\u2069 is the best of 2: accuracy 93.8 %"),
        ({"head": 0.6, "majority class": 0.95}, "It is a baseline"),
    ):
        found = judge(outcomes(rows, rates), task, state, rows, metric="accuracy")
        assert words in " ".join(Words(found).answer())


def test_equals_are_called_equal(findings):
    pair = dataclasses.replace(findings.pairs[0], verdict="equivalent")
    leaders = [pair.one, pair.other]
    found = dataclasses.replace(findings, pairs=[pair, *findings.pairs[1:]], leaders=leaders)
    answer = Words(found).answer()
    assert (
        answer[0] == f"\u2068{pair.one}\u2069 and \u2068{pair.other}\u2069 are equally good "
        "within 1 point."
    )
    assert "No winner" not in " ".join(answer)


def test_what_no_difference_could_show_is_called_blind(findings):
    pairs = [dataclasses.replace(p, detectable=1.4, verdict="undecided") for p in findings.pairs]
    names = [s.contender for s in findings.standings]
    found = dataclasses.replace(findings, pairs=pairs, leaders=names)
    answer = " ".join(Words(found).answer())
    assert "could have shown no difference at all" in answer
    assert "140" not in answer + Words(found).pair(pairs[0])
    assert "Only a baseline, yet nothing was shown to be better" in answer


def test_one_training_each_is_not_called_a_search_that_found_nothing(tmp_path):
    rows = records(120)
    task, state = classification(rows)
    made = outcomes(rows, {"lora": 0.95, "majority class": 0.55}, folds=1, seeds=1)
    found = judge(made, task, state, rows, metric="accuracy")
    for lang, words in (("en", "one training each decides nothing"), ("zh", "各只训练一次")):
        said = [*Words(found, lang).answer(), Words(found, lang).pair(found.pairs[0])]
        assert sum(words in sentence for sentence in said) == 2
        assert "probably" not in " ".join(said)
        assert "pays" not in " ".join(said)
        assert "detect" not in " ".join(said)
    assert found.to_json()["pairs"][0]["detectable"] is None
    write_report(found, tmp_path)
    with (tmp_path / "pairs.csv").open(newline="") as file:
        assert [pair["detectable"] for pair in csv.DictReader(file)] == [""]


@pytest.mark.parametrize(("lang", "words"), [("en", "for want of time"), ("zh", "时间不够")])
def test_who_was_left_out_is_named_with_the_reason(findings, tmp_path, lang, words):
    why = {"rslora": "the loss is not finite after step 3"}
    found = dataclasses.replace(findings, untried=["bitfit", "ia3"], untrainable=why)
    page = write_report(found, tmp_path, lang).read_text("utf-8")
    assert words in page
    for name in (*why, *why.values(), "bitfit", "ia3"):
        assert name in page
    known = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert (known["untried"], known["untrainable"]) == (["bitfit", "ia3"], why)
    assert known["answer"][-2:] == Words(found, lang).answer()[-2:]


def test_what_is_missing_is_said(findings):
    words = Words(findings)
    assert "about 13 more minutes are needed" in " ".join(words.answer(12.2))
    assert "how much longer it takes cannot be told" in " ".join(words.answer(None))
    assert "within the time given" not in " ".join(words.answer())


def test_every_note_has_its_sentence(findings):
    values = {
        "undefined": {"metric": "roc_auc", "contender": "lora", "trials": 2},
        "one_seed": {},
        "one_training": {},
        "fewer_folds": {"contenders": ["lora", "head"], "folds": 5},
        "fewer_seeds": {"contenders": ["lora"]},
    }
    for lang in ("en", "zh"):
        for code, given in values.items():
            assert Words(findings, lang).note(Note(code, given))


def test_what_was_chosen_inside_training_parts_is_said(findings, tmp_path):
    first = dataclasses.replace(
        findings.standings[0],
        tuned=[{"train.learning_rate": 0.0005}, {"train.learning_rate": "<b>"}] * 2,
    )
    found = dataclasses.replace(findings, standings=[first, *findings.standings[1:]])
    page = write_report(found, tmp_path).read_text("utf-8")
    assert "train.learning_rate=0.0005 (2×), train.learning_rate=&lt;b&gt; (2×)" in page


def test_an_unknown_language_is_refused(findings, tmp_path):
    with pytest.raises(ConfigError, match="not written in 'fr'"):
        write_report(findings, tmp_path, "fr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_hostile_names_stay_text(hostile, tmp_path, lang):
    path = write_report(hostile, tmp_path, lang, dropped={HOSTILE[0]: 1})
    reader = read(path)
    assert not {"script", "img", "b", "i"} & set(reader.tags)
    assert not [k for k, _ in reader.attributes if k.startswith("on")]
    assert "alert(1)" in reader.text
    assert "\u202e" not in path.read_text("utf-8")
    for name in ("scores.csv", "pairs.csv"):
        with (tmp_path / name).open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [c for c in cells if c.startswith(("=", "+", "@"))]


def test_tables_hold_the_findings(findings, tmp_path):
    write_report(findings, tmp_path)
    known = json.loads((tmp_path / "report.json").read_text())
    assert known["standings"][0]["score"]["value"] == findings.standings[0].score.value
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(RATES)
    first = rows[0]
    assert (first["contender"], first["size"]) == (findings.standings[0].contender, "all")
    assert float(first["accuracy"]) == findings.standings[0].score.value
    with (tmp_path / "pairs.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))
    assert [p["verdict"] for p in pairs] == [p.verdict for p in findings.pairs]
    assert float(pairs[0]["p_holm"]) == findings.pairs[0].adjusted


def test_the_level_of_a_verdict_is_that_of_the_judgement(findings, tmp_path):
    strict = dataclasses.replace(findings, alpha=0.0125)
    assert "A verdict needs a p below 0.0125." in write_report(strict, tmp_path).read_text()


def test_the_same_findings_give_the_same_bytes(findings, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(findings, tmp_path / name)
    for file in ("report.html", "report.json", "scores.csv", "pairs.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (seconds(0.0008), "0.8 ms"),
        (seconds(0.9999), "1.0 s"),
        (seconds(200), "3 min 20 s"),
        (size(999), "999 B"),
        (size(48_200_000), "48.2 MB"),
        (plain("a\nb\u202e" + "x" * 99)[-3:], "xx…"),
    ],
)
def test_numbers_and_names_as_people_read_them(shown, wanted):
    assert shown == wanted


def test_ticks_are_round_and_labels_do_not_overlap():
    assert drawings.ticks(0.4, 1.0) == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert drawings.log_ticks(0.9, 900.0) == [1.0, 10.0, 100.0]
    placed = drawings.spread([50, 51, 52, 200], 19, 0, 300)
    assert placed == [50, 69, 88, 200]
    crowded = drawings.spread([290, 291, 292], 19, 0, 300)
    assert crowded == [262, 281, 300]


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


def browse(path, place):
    """Return the page as the browser has it, what it complained of, and what it asked for.

    Hosts of the browser's own maker are left out: it calls home even for an empty page.
    """
    place.mkdir()
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={place / 'user'}"),
            *(f"--log-net-log={place / 'net.json'}", "--enable-logging=stderr", "--dump-dom"),
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    urls = set(re.findall(r'"url":"(https?://[^"]*)', (place / "net.json").read_text()))
    return done.stdout, said, {url for url in urls if ".google.com/" not in url}


@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome is installed")
def test_a_browser_shows_it_without_complaint_or_request(findings, hostile, tmp_path):
    control = tmp_path / "control.html"
    control.write_text('<script>console.error("x")</script><img src="http://example.org/a.png">')
    _, said, asked = browse(control, tmp_path / "0")
    assert said
    assert asked == {"http://example.org/a.png"}
    for i, found in enumerate((findings, hostile), start=1):
        place = tmp_path / f"report-{i}"
        place.mkdir()
        shown, said, asked = browse(write_report(found, place), tmp_path / str(i))
        assert (said, asked) == ([], set())
        assert "How this was computed" in shown
        assert shown.count("<svg") == 4


def test_errors_without_a_highest_value_are_not_said_in_per_cent(tmp_path):
    found = judge(*regression({"worse": 0.5, "better": 0.1}), metric="rmse")
    words = Words(found)
    assert "better\u2069 is the best of 2: RMSE 0.1" in words.answer()[0]
    assert words.axis() == "RMSE (lower is better)"
    text = read(write_report(found, tmp_path)).text
    assert "points" not in text
    assert "%" not in text.replace("95 %", "").replace("5 %", "").replace("80 %", "")


def test_contenders_that_never_met_leave_their_cell_empty(tmp_path):
    rows = records(120)
    task, state = classification(rows)
    made = outcomes(rows, {"lora": 0.9, "head": 0.6}, seeds=1)
    apart = [o for o in made if o.fold == (0 if o.contender == "lora" else 1)]
    found = judge(apart, task, state, rows, metric="accuracy")
    text = read(write_report(found, tmp_path)).text
    assert "were never tried on the same records" in text
    assert "nan" not in text
    assert "inf " not in text
    json.loads((tmp_path / "report.json").read_text())
