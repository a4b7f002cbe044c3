"""What the report of a run promises."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from batch.counting.domains import MOST_DOMAINS, NO_DOMAIN, domain_name, most_domains
from batch.kinds.multilabel import LabelTaskReport
from batch.kinds.sections import JointReport
from batch.report.build import notices
from batch.report.page import DETAILED_DOMAINS, render_html, write_report
from batch.report.stats import ChunkStats, RunStats
from batch.report.totals import TaskStats, merge_stats
from schemas.text.short_names import short_name
from tests.batch.report.label_stats import added, count_labels, label_report

NASTY = ("<script>alert(1)</script>", 'he said "no" & left', "Überwachung — قصص")
VOID = {"meta", "br", "path"}


def fake_stats(
    labels: Sequence[str], domains: Sequence[str | None], *, gold: bool = True, rows: int = 400
) -> ChunkStats:
    """Random rows over the domains, about 2 percent each empty and quarantined."""
    rng = np.random.default_rng(7)
    probabilities = rng.random((rows, len(labels)), dtype=np.float32) ** 3
    shares = [0.8, 0.16, 0.02, 0.02]
    return count_labels(
        domains=[domains[row % len(domains)] for row in range(rows)],
        statuses=rng.choice(["ok", "truncated", "empty", "quarantined"], rows, p=shares).tolist(),
        tokens=rng.integers(1, 700, rows),
        probabilities=probabilities,
        decided=probabilities >= np.float32(0.4),
        gold=probabilities >= np.float32(0.5) if gold else None,
        has_gold=rng.random(rows) < 0.9 if gold else None,
    )


def fake_report(
    labels: Sequence[str], domains: Sequence[str | None], *, gold: bool = True
) -> LabelTaskReport:
    """The report of `fake_stats`."""
    return report_of(fake_stats(labels, domains, gold=gold), labels, gold=gold)


def report_of(
    stats: ChunkStats | TaskStats, labels: Sequence[str], *, gold: bool = False
) -> LabelTaskReport:
    """A report with thresholds of 0.4."""
    total = added(stats) if isinstance(stats, ChunkStats) else stats
    return label_report(total, labels, gold_column="gold" if gold else None)


class Page(HTMLParser):
    """Collects the text and tags of a page, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_report_by_hand() -> None:
    """Shares, means and scores are those of a table of three rows."""
    stats = count_labels(
        domains=["a", "a", "a"],
        statuses=["ok", "ok", "empty"],
        tokens=np.array([10, 21, 0]),
        probabilities=np.array([[0.9, 0.2], [0.1, 0.3], [0.0, 0.0]], dtype=np.float32),
        decided=np.array([[True, False], [False, False], [False, False]]),
        gold=np.array([[True, False], [False, False], [True, False]]),
    )
    section = report_of(stats, ["x", "y"], gold=True).domains["a"]
    first, second = section.labels

    assert (section.rows, section.scored, section.empty) == (3, 2, 1)
    assert (section.unlabelled_share, section.tokens_mean) == (0.5, 15.5)
    assert (first.rows, first.share, first.mean_probability) == (1, 0.5, 0.5)
    assert (first.gold_rows, first.precision, first.recall, first.f1) == (2, 1.0, 0.5, 0.666667)
    assert (second.gold_rows, second.precision, second.recall, second.f1) == (0, None, None, None)
    assert section.gold is not None
    assert (section.gold.micro_f1, section.gold.exact_match) == (0.666667, 0.666667)


def test_report_json_validates(tmp_path: Path) -> None:
    """report.json reads back as the report it was written from, domains sorted by name."""
    report = fake_report(NASTY, ["b.example", None, "a.example"])
    write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")

    assert LabelTaskReport.model_validate_json(text) == report
    assert list(json.loads(text)["domains"]) == ["(none)", "a.example", "b.example"]


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    """Files do not depend on the order in which domains appeared, nor on a round trip by JSON."""
    stats = fake_stats(NASTY, ["b.example", "a.example"])
    written_stats = json.loads(json.dumps(RunStats({"narrative": stats}).to_json()))
    resumed = RunStats.from_json(written_stats).tasks["narrative"]
    written = []
    for name, counted in (("once", stats), ("resumed", resumed)):
        folder = tmp_path / name
        folder.mkdir()
        write_report(report_of(counted, NASTY, gold=True), folder)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})

    assert written[0] == written[1]
    assert set(written[0]) == {"report.json", "report.html"}


@pytest.mark.parametrize("gold", [True, False])
@pytest.mark.parametrize(("labels", "domains"), [(1, 1), (17, 3), (90, 1), (5, 40)])
def test_page_names_every_domain_and_label(labels: int, domains: int, gold: bool) -> None:
    """Whatever their number, each domain and label is in the text, and the page is well formed."""
    names = [f"label {index}" for index in range(labels)]
    sites = [f"site-{index}.example" for index in range(domains)]
    page = Page(render_html(fake_report(names, sites, gold=gold)))

    assert set(names) | set(sites) <= set(page.texts)
    assert page.open == []
    assert ("Recall" in page.texts) == gold


def test_page_escapes_names() -> None:
    """Markup in a label, a domain or the gold column stays text."""
    page = render_html(
        label_report(
            added(fake_stats(NASTY, ["<script>x</script>", '"><img src=x>'])),
            NASTY,
            gold_column="<b>gold</b>",
        )
    )
    parsed = Page(page)

    assert not {"script", "img"} & set(parsed.tags)
    assert {*NASTY, "<script>x</script>", '"><img src=x>'} <= set(parsed.texts)
    assert html.escape(NASTY[0]) in page


def test_page_loads_nothing() -> None:
    """The page stands alone: no script, and no address but those inside it."""
    page = Page(render_html(fake_report(NASTY, ["a.example", "b.example"])))
    addresses = {value for name, value in page.attributes if name in {"href", "src"}}

    assert all(address is not None and address.startswith("#") for address in addresses)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)


def test_links_lead_somewhere() -> None:
    """Every link on the page has its target on the page."""
    page = Page(render_html(fake_report(["x"], ["a.example", "b.example"])))
    targets = {f"#{value}" for name, value in page.attributes if name == "id"}

    assert {value for name, value in page.attributes if name == "href"} <= targets


def test_no_rows_give_a_report() -> None:
    """A corpus without rows, with gold or without, still has a report that says so."""
    for gold in (True, False):
        report = report_of(fake_stats(["x", "y"], [], gold=gold, rows=0), ["x", "y"], gold=gold)

        assert report.notes == ("The corpus has no articles.",)
        assert report.overall.gold is None
        assert {"x", "y"} <= set(Page(render_html(report)).texts)


def test_gold_column_without_gold_gives_a_report() -> None:
    """Where no row of the corpus or of a domain has gold labels, there are no scores, not zeros."""
    plain = fake_stats(["x"], ["plain.example"], gold=False)
    compared = fake_stats(["x"], ["gold.example"])
    mixed = report_of(added(plain, compared), ["x"], gold=True)
    none = report_of(plain, ["x"], gold=True)

    assert none.overall.gold is None
    assert none.notes[-1] == "No article has gold labels in column “gold”."
    assert mixed.domains["plain.example"].gold is None
    assert mixed.overall.gold == mixed.domains["gold.example"].gold
    assert {"plain.example", "gold.example"} <= set(Page(render_html(mixed)).texts)


def test_domain_of_quarantined_rows_gives_a_section() -> None:
    """A domain where nothing could be scored is shown, with what to do about it."""
    stats = count_labels(
        domains=["bad.example", "bad.example"],
        statuses=["quarantined", "quarantined"],
        tokens=np.zeros(2, dtype=np.int32),
        probabilities=np.zeros((2, 1), dtype=np.float32),
        decided=np.zeros((2, 1), dtype=np.bool_),
    )
    report = report_of(stats, ["x"])

    assert report.notes[0].startswith("2 articles (100.0%) could not be scored and are set aside")
    assert {"bad.example", "x"} <= set(Page(render_html(report)).texts)


def test_labels_nobody_got_are_folded() -> None:
    """A label that is neither given nor in gold is inside <details>; one that gold has is not."""
    stats = count_labels(
        domains=["a"],
        statuses=["ok"],
        tokens=np.array([5]),
        probabilities=np.array([[0.9, 0.1, 0.1]], dtype=np.float32),
        decided=np.array([[True, False, False]]),
        gold=np.array([[True, True, False]]),
    )
    page = render_html(report_of(stats, ["given", "overlooked", "unheard"], gold=True))
    folded = "".join(re.findall(r"<details.*?</details>", page, flags=re.DOTALL))

    assert "unheard" in folded
    assert "overlooked" in page
    assert "given" not in folded
    assert "overlooked" not in folded


def test_many_domains_keep_the_page_small() -> None:
    """Beyond a number of domains the smallest are in the table only, and the page says where."""
    sites = [f"site-{index}.example" for index in range(DETAILED_DOMAINS + 5)]
    page = render_html(fake_report(["x"], sites))

    assert page.count('<section id="domain-') == DETAILED_DOMAINS
    assert "The numbers of the other 5 are in report.json" in page
    assert set(sites) <= set(Page(page).texts)


def test_only_remarkable_trouble_is_repeated() -> None:
    """What concerns few rows is said once for the corpus and not again for each domain."""
    section = fake_report(["x"], ["a.example"]).overall

    assert len(notices(section)) == 3
    assert len(notices(section, remarkable=True)) <= 1


def joint_report(tasks: Sequence[str]) -> JointReport:
    """Reports of several tasks over the same rows, each with labels of its own."""
    domains = ["a.example", "b.example"]
    return JointReport(
        tasks={
            task: fake_report(
                [f"{task} one", f"{task} two"], domains, gold=task == tasks[0]
            ).model_copy(update={"task": task})
            for task in tasks
        }
    )


def test_joint_page_has_a_part_for_each_task() -> None:
    """Well formed, no anchor twice, every link leads somewhere, and every label is there."""
    page = Page(render_html(joint_report(["narrative", "topics"])))
    anchors = [value for name, value in page.attributes if name == "id"]
    links = [value for name, value in page.attributes if name == "href" and value]

    assert page.open == []
    assert len(set(anchors)) == len(anchors)
    assert {link.removeprefix("#") for link in links} <= set(anchors)
    assert page.tags.count("h1") == 1
    assert {"narrative one", "topics two"} <= set(page.texts)


def test_what_concerns_all_tasks_is_said_once() -> None:
    """Notes on articles that were cut, empty or set aside stand before the first task."""
    report = joint_report(["narrative", "topics"])
    page = html.unescape(render_html(report))
    common, own = report.tasks["topics"].notes, report.tasks["narrative"].notes
    gold = [note for note in own if note not in common]

    assert len(common) >= 2
    assert [page.count(note) for note in common] == [1] * len(common)
    assert [page.count(note) for note in gold] == [1]


def test_joint_report_json_validates(tmp_path: Path) -> None:
    """report.json reads back as the reports it was written from, in the order of the tasks."""
    report = joint_report(["topics", "narrative"])
    write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")

    read = json.loads(text)["tasks"]

    assert list(read) == ["topics", "narrative"]
    for task, stored in read.items():
        assert LabelTaskReport.model_validate_json(json.dumps(stored)) == report.tasks[task]


def of_domains(
    names: Sequence[str | None], *, labels: int = 2, gold: bool = False, seed: int = 0
) -> ChunkStats:
    """A chunk with one scored row for each name."""
    rows = len(names)
    probabilities = np.random.default_rng(seed).random((rows, labels), dtype=np.float32)
    return count_labels(
        domains=names,
        statuses=["ok"] * rows,
        tokens=np.full(rows, 10),
        probabilities=probabilities,
        decided=probabilities >= np.float32(0.4),
        gold=probabilities >= np.float32(0.5) if gold else None,
    )


def test_twenty_thousand_domains_give_a_small_report(tmp_path: Path) -> None:
    """The largest domains are described, the others are counted together, and all add up."""
    names = [f"https://news{number}.example/path" for number in range(20_000)]
    stats = added(
        *(of_domains(names[first : first + 4096], gold=True) for first in range(0, 20_000, 4096)),
        of_domains([*names[77:79], *names[19_000:19_010]], gold=True),
    )
    report = report_of(stats, ["x", "y"], gold=True)
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")

    assert len(report.domains) == MOST_DOMAINS
    assert {*names[77:79], *names[19_000:19_010]} <= set(report.domains)
    assert report.others is not None
    assert (report.others.domains, report.others.domains_exact) == (19_500, True)
    assert report.overall.rows == 20_012
    described = list(report.domains.values())
    assert sum(section.rows for section in described) + report.others.rows == 20_012
    assert report.others.gold is not None
    assert report.others.gold.rows == report.others.rows
    assert any("500 of 20,000" in note for note in report.notes)
    assert "19,500 other domains" in page
    assert Page(page).open == []
    assert all(path.stat().st_size < 2_000_000 for path in tmp_path.iterdir())


def test_many_labels_leave_fewer_domains() -> None:
    """Domains times labels are bounded, of all tasks together, and one domain always stays."""
    chunk = of_domains([f"site-{number}" for number in range(60)], labels=1000)
    runs = [RunStats({"a": chunk, "b": chunk})]
    merged = merge_stats(lambda: runs)

    assert [len(task.domains) for task in merged.tasks.values()] == [most_domains(2000)] * 2
    assert most_domains(2000) == 10
    assert most_domains(10**6) == 1


def test_page_of_many_labels_is_small() -> None:
    """Tables of labels show the most frequent; the page says where the others are."""
    labels = [f"label {number}" for number in range(1000)]
    report = report_of(of_domains(["a", "b"], labels=1000), labels)
    page = render_html(report)

    assert page.count('<tr><th scope="row"><bdi>label') < 3000
    assert "labels are in report.json" in page
    assert len(page) < 5_000_000


@pytest.mark.parametrize("reserved", [NO_DOMAIN, "(others)", "a other domain"])
def test_domains_named_like_ours_are_not_mixed_up(reserved: str) -> None:
    """A domain that is called what we call a group of rows has rows of its own."""
    report = report_of(of_domains([reserved, None, "", reserved, reserved]), ["x", "y"])
    rows = {name: section.rows for name, section in report.domains.items()}

    assert rows.pop(NO_DOMAIN) == 2
    assert list(rows.values()) == [3]


def test_long_names_are_cut_and_stay_apart(tmp_path: Path) -> None:
    """Domains and labels of a million characters make small files, and two are never one."""
    long = "x" * 1_000_000
    stats = of_domains([long + "a", long + "b", long + "b", domain_name(long + "a")])
    marker = json.dumps(RunStats({"narrative": stats}).to_json())
    report = report_of(stats, [long, long + "2"])
    write_report(report, tmp_path)

    assert sorted(section.rows for section in report.domains.values()) == [1, 1, 2]
    assert len(set(report.labels)) == 2
    assert all(len(name) < 200 for name in [*report.domains, *report.labels])
    assert len(marker) < 10_000
    assert all(path.stat().st_size < 100_000 for path in tmp_path.iterdir())
    assert short_name("economy: markets") == "economy: markets"


def test_rows_without_domain_are_described_among_many() -> None:
    """However few they are, rows without a domain have their line, beside the largest domains."""
    names = [f"site-{number}" for number in range(MOST_DOMAINS + 5)]
    report = report_of(of_domains([*names, *names, None]), ["x", "y"])

    assert report.domains[NO_DOMAIN].rows == 1
    assert len(report.domains) == MOST_DOMAINS + 1
    assert report.others is not None
    assert report.others.domains == 5


def test_style_of_the_page_is_what_its_policy_allows() -> None:
    """The one style sheet has the hash of the policy; there is no other style, script or source."""
    page = render_html(fake_report(NASTY, ["a.example", "b.example", "c.example"]))
    parsed = Page(page)
    policies = [value for name, value in parsed.attributes if name == "content" and value]
    policy = next(value for value in policies if "default-src" in value)
    sheets = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheets[0].encode()).digest()).decode()

    assert policy.split("; ")[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert len(sheets) == page.count("<style") == 1
    names = {name for name, _ in parsed.attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(parsed.tags)
