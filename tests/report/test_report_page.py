"""The page of a report and its files: whole, closed, and free of what runs write into it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lightning_emerge.report import write as module
from lightning_emerge.report.content import Chapter, Fold, Picture, Report, Section, Table
from lightning_emerge.report.make import SECTIONS, make_report
from lightning_emerge.report.write import check_folder, write_report

EVIL = "<script>alert(1)</script>"


class _Page(HTMLParser):
    """What elements a page has, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def picture(name: str = "line", title: str = "a line") -> Picture:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1])
    axes.set_title(title)
    return Picture(name, figure, f"alt of {name}", f"caption of {name}")


def small_report(*pictures: Picture, word: str = "plain") -> Report:
    section = Section([f"It is {word}: `code {word}`."], list(pictures))
    section.tables.append(Table(f"numbers of {word}", ["", word], [[word, "1"]]))
    section.folds.append(Fold(f"file of {word}", f"text: {word}\n"))
    section.missing.append(f"{word} is missing.")
    return Report(f"about {word}", [f"All about {word}."], [Chapter("first", "First", section)])


def test_a_report_is_a_page_and_its_pictures_beside_it(tmp_path):
    path = write_report(small_report(picture()), tmp_path / "report")
    assert path == tmp_path / "report" / "report.html"
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()) == [
        *("report/pictures/line.png", "report/pictures/line.svg", "report/report.html"),
    ]
    page = _Page(path.read_text())
    (image,) = page.all("img")
    assert image["alt"] == "alt of line"
    kind, content = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.*)", str(image["src"])).groups()
    ending = {"png": "png", "svg+xml": "svg"}[kind]
    assert base64.b64decode(content) == (path.parent / "pictures" / f"line.{ending}").read_bytes()
    others = [file.stat().st_size for file in (path.parent / "pictures").iterdir()]
    assert len(base64.b64decode(content)) == min(others)
    assert page.all("html") == [{"lang": "en"}]
    for said in (
        "All about plain.",
        "It is plain: code plain.",
        "numbers of plain",
        "text: plain",
        "plain is missing.",
    ):
        assert said in page.text
    assert "code" in {name for name, _ in page.elements}


def test_nothing_is_fetched_and_nothing_runs(tmp_path):
    page = _Page(write_report(small_report(picture()), tmp_path / "report").read_text())
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert page.all("script") == []
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#", "pictures/")), (tag, value)


def test_what_a_run_writes_is_shown_as_text(tmp_path):
    page = _Page(write_report(small_report(picture(title=EVIL), word=EVIL), tmp_path / "report").read_text())
    assert page.all("script") == []
    assert page.text.count(EVIL) >= 8
    assert b"<script" not in (tmp_path / "report" / "pictures" / "line.svg").read_bytes()


@pytest.mark.slow
def test_a_whole_run_of_evil_names_is_shown_as_text(make_run, tmp_path):
    tokens, layers = (EVIL, '"><img src=x onerror=alert(1)>'), ("<b>conv</b>", "conv2", "</style><script>1</script>")
    report = make_report([make_run(tmp_path / "run", tokens=tokens, layers=layers)])
    page = _Page(write_report(report, tmp_path / "report").read_text())
    assert "could not be" not in " ".join([*report.missing, page.text])
    assert page.all("script") == page.all("b") == []
    assert len(page.all("style")) == 1
    assert len(page.all("img")) == sum(len(chapter.section.pictures) for chapter in report.chapters)
    assert EVIL in page.text
    assert [link["href"] for link in page.all("a")][: len(SECTIONS)] == [f"#{name}" for name, _, _ in SECTIONS]
    assert {link["href"] for link in page.all("a")} >= {"pictures/rdm_0.svg", "pictures/biography_1.png"}


def test_the_same_report_is_the_same_file(tmp_path):
    first, second = (write_report(small_report(picture()), tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_a_picture_that_cannot_be_drawn_costs_itself_alone(tmp_path):
    report = small_report(picture("broken", r"$\nosuchcommand$"), picture("whole"))
    page = _Page(write_report(report, tmp_path / "report").read_text())
    assert [image["alt"] for image in page.all("img")] == ["alt of whole"]
    assert "broken could not be drawn: ValueError" in page.text


def test_pictures_for_which_there_is_no_room_are_linked_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 30_000)
    path = write_report(small_report(*(picture(f"p{k}") for k in range(9))), tmp_path / "report")
    page = _Page(path.read_text())
    assert 0 < len(page.all("img")) < 9
    assert path.stat().st_size < 60_000
    assert "p8 is beside the page" in page.text
    assert "pictures/p8.svg" in {link["href"] for link in page.all("a")}
    assert len(list((path.parent / "pictures").iterdir())) == 18


def test_a_report_takes_the_place_of_an_earlier_one(tmp_path):
    write_report(small_report(picture("old"), word="old"), tmp_path / "report")
    path = write_report(small_report(picture("new"), word="new"), tmp_path / "report")
    assert "about new" in path.read_text()
    assert sorted(file.name for file in (tmp_path / "report" / "pictures").iterdir()) == ["new.png", "new.svg"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("name", ["notes.txt", "pictures/data.csv", "records.zarr/zarr.json"])
def test_a_folder_with_other_things_is_refused_and_left_alone(name, tmp_path):
    write_report(small_report(picture()), tmp_path / "report")
    other = tmp_path / "report" / name
    other.parent.mkdir(exist_ok=True)
    other.write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for write in (check_folder, lambda folder: write_report(small_report(), folder)):
        with pytest.raises(ValueError, match="takes the place of an earlier report only"):
            write(tmp_path / "report")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(ValueError, match="holds report"):
        check_folder(tmp_path / "report")
    with pytest.raises(OSError, match="cannot be made in"):
        check_folder(tmp_path / "report" / "below")


@pytest.mark.parametrize("step", ["_page", "_take_place"])
def test_a_writer_that_is_stopped_leaves_the_earlier_report(step, tmp_path, monkeypatch):
    path = write_report(small_report(word="old"), tmp_path / "report")

    def stop(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(module, step, stop)
    with pytest.raises(OSError, match="disk full"):
        write_report(small_report(word="new"), tmp_path / "report")
    assert "about old" in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


def test_an_earlier_report_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = write_report(small_report(word="old"), tmp_path / "report")
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if (self / "report.html").exists() and "about new" in (self / "report.html").read_text():
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="disk full"):
        write_report(small_report(word="new"), tmp_path / "report")
    assert "about old" in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]
