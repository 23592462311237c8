"""Reports of made-up runs: what there is, what is missing, and several side by side."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
import yaml

from lightning_emerge.analysis.timeline import run_timeline, tell_mastery, tell_time
from lightning_emerge.records import Axis, Measurement
from lightning_emerge.report import make as module
from lightning_emerge.report.construction import how_filters_couple
from lightning_emerge.report.content import Report, Section
from lightning_emerge.report.filters import choose_filters
from lightning_emerge.report.make import SECTIONS, make_report
from lightning_emerge.report.overlay import mean_of, spread
from lightning_emerge.report.runs import read_runs
from lightning_emerge.store.write import ArraySink

NAN = float("nan")
MANY = (0, 1, 2, 3, 5, 7, 10, 12, 15, 20, 25, 30, 40, 50)


@pytest.fixture
def only(monkeypatch) -> Callable[..., None]:
    """Leaves some sections in the report, as drawing the others takes time."""

    def keep(*names: str) -> None:
        monkeypatch.setattr(module, "SECTIONS", tuple(entry for entry in SECTIONS if entry[0] in names))

    return keep


def section(report: Report, name: str) -> Section:
    return next(chapter.section for chapter in report.chapters if chapter.id == name)


def pictures(report: Report) -> set[str]:
    return {picture.name for chapter in report.chapters for picture in chapter.section.pictures}


def curves(report: Report, name: str) -> dict[str, list[np.ndarray]]:
    """By label, the y values of the lines of a picture's first panel."""
    shown = {picture.name: picture for chapter in report.chapters for picture in chapter.section.pictures}
    found: dict[str, list[np.ndarray]] = {}
    for line in shown[name].figure.axes[0].get_lines():
        found.setdefault(str(line.get_label()), []).append(np.asarray(line.get_ydata(), dtype=float))
    return found


def test_a_whole_run_has_every_section_and_only_umap_is_missing(make_run, tmp_path):
    report = make_report([make_run(tmp_path / "runs" / "one")])
    assert [chapter.id for chapter in report.chapters] == [name for name, _, _ in SECTIONS]
    assert report.title == "runs/one"
    assert pictures(report) >= {
        *("emergence", "read_outs", "rdm_0", "model_fit", "shape", "collapse", "components_0", "selective"),
        *("kernels_0_first", "kernels_0_last", "top_exemplars", "biography_0", "biography_1", "gradients"),
        *("coupling_0", "construction_0", "regime"),
    }
    (sentence,) = report.missing
    assert "lightning embed" in sentence
    for chapter in report.chapters:
        assert chapter.section.says or chapter.section.tables, chapter.id
        for picture in chapter.section.pictures:
            assert picture.alt
            assert picture.caption


def test_what_was_planted_is_in_the_tables(make_run, tmp_path, only):
    only("trained", "timeline", "costs", "repeat")
    report = make_report([make_run(tmp_path / "one", steps=MANY)])
    facts, accuracy = section(report, "trained").tables
    found = dict(facts.rows)
    assert found["weights"] == "1,234,567"
    assert found["network"] == "VGG: plan vgg11, width 4"
    assert found["looks"] == "14, from step 0 to 50"
    assert dict(zip(accuracy.head, accuracy.rows[0], strict=True))["bank"] == "0.900"
    assert dict(zip(accuracy.head, accuracy.rows[0], strict=True))["val/accuracy"] == "0.750"
    onsets, sizes = section(report, "timeline").tables
    times = dict(onsets.rows)
    assert (times["token dax"], times["token wug"]) == ("7 (7 to 10)", "15 (15 to 20)")
    dax = dict(zip(sizes.head, sizes.rows[0], strict=True))
    assert (dax["mastery"], dax["looks inside"]) == ("10 (7 to 10)", "0")
    assert section(report, "costs").tables[0].rows[0] == ["CategoryProbe", "6", "2.00 s", "5.0%", "1.00 s"]
    versions = dict(section(report, "repeat").tables[0].rows)
    assert versions == {
        "seed of the weights": "0",
        "seed of the data": "7",
        "lightning.pytorch": "2.6.6",
        "lightning_emerge": versions["lightning_emerge"],
        "torch": "2.15.0",
    }


def test_what_is_left_of_the_first_kernel_is_told_and_drawn(make_run, tmp_path, only):
    only("regime")
    report = make_report([make_run(tmp_path / "one"), make_run(tmp_path / "two", seed=1)])
    said = section(report, "regime").says
    assert len(said) == 3
    assert "/one has an alignment of 0.50 with that at step 0" in said[0]
    assert "from 0.40 to 0.40. 25% of the filters have turned" in said[0]
    assert "shuffled labels" in said[-1]
    (picture,) = section(report, "regime").pictures
    titles = [axes.get_title() for axes in picture.figure.axes]
    assert [title.partition(":")[0] for title in titles[::2]] == ["tangent kernel", "responses"]
    lines = curves(report, "regime")
    assert [*lines["all layers"][0]][-1] == 0.5
    assert {"conv1", "conv2", "fc"} <= {*lines}


def test_the_filter_that_was_planted_for_each_token_is_chosen(make_run, tmp_path):
    (run,) = read_runs([make_run(tmp_path / "one")])
    assert [(token, layer, number) for token, layer, number, _ in choose_filters(run)] == [
        ("dax", "fc", 0),
        ("wug", "fc", 1),
    ]


@pytest.mark.parametrize(
    ("record", "probe", "where", "gone"),
    [
        ("bank_confidence", "CategoryProbe", "learning", "emergence"),
        ("distance_ratio", "SimilarityProbe", "geometry", "rdm_0"),
        ("distances", "EmbeddingProbe", "embeddings", "components_0"),
        ("kernels", "FilterProbe", "filters", "kernels_0_first"),
        ("kernel_alignment_total", "RegimeProbe", "regime", None),
        ("top_crop", "TopExemplarProbe", "filters", "top_exemplars"),
        ("gradient_norm", "GradientProbe", "gradients", None),
        ("coupling_edges", "CouplingProbe", "coupling", "coupling_0"),
        ("part_auc", "PartProbe", "construction", None),
        ("ablation_drop", "AblationProbe", "construction", None),
    ],
)
def test_what_no_probe_recorded_is_named_with_the_probe_that_would(
    record, probe, where, gone, make_run, tmp_path, only
):
    only(where)
    report = make_report([make_run(tmp_path / "one", without=(record,))])
    said = " ".join(section(report, where).missing)
    assert record in said
    assert f"Add lightning_emerge.{probe} to trainer.callbacks" in said
    assert "could not be made" not in " ".join(report.missing)
    assert gone not in pictures(report)


def test_edges_by_correlation_which_an_earlier_version_counted_are_not_shown(make_run, tmp_path):
    (run,) = read_runs([make_run(tmp_path / "one")])
    edges = run.records.coupling_edges
    earlier = edges.isel(kind=[0, 0, 1]).assign_coords(kind=["weight", "activation", "effective"])
    earlier[:, :, 2] = 0
    run.records = run.records.drop_vars("coupling_edges").drop_dims("kind").assign(coupling_edges=earlier)
    said = " ".join(how_filters_couple([run]).says)
    assert "weight edges" in said
    assert "No effective edge exceeds its null" in said
    assert "activation" not in said


def test_a_run_that_has_not_ended_says_how_far_its_records_go(make_run, tmp_path, only):
    only("trained", "learning", "costs")
    report = make_report([make_run(tmp_path / "one", ended=False)])
    assert "records end at step 50" in " ".join(section(report, "trained").missing)
    assert "has no costs" in " ".join(section(report, "costs").missing)
    assert "emergence" in pictures(report)


def test_a_run_that_was_gone_on_with_after_its_end_has_not_ended(make_run, tmp_path, only):
    only("trained")
    run = make_run(tmp_path / "one")
    (run / "fit.json").write_text('{"step": 20, "seconds": 3}')
    assert "has not ended" in " ".join(section(make_report([run]), "trained").missing)


def test_a_run_without_records_reports_its_configuration(make_run, tmp_path):
    run = make_run(tmp_path / "one")
    shutil.rmtree(run / "records.zarr")
    report = make_report([run])
    assert "has no records" in report.missing[0]
    assert pictures(report) == set()
    assert "could not be made" not in " ".join(report.missing)
    assert section(report, "repeat").folds[0].text.startswith("# lightning.pytorch")


@pytest.mark.parametrize("file", ["records.zarr/zarr.json", "config.yaml", "fit.json"])
def test_a_damaged_file_is_named_and_the_others_are_read(file, make_run, tmp_path, only):
    only("trained", "learning", "costs", "repeat")
    run = make_run(tmp_path / "one")
    (run / file).write_text('{"half": [')
    report = make_report([run])
    assert "cannot be read" in report.missing[0]
    assert "could not be made" not in " ".join(report.missing)
    assert ("emergence" in pictures(report)) == (file != "records.zarr/zarr.json")


@pytest.mark.parametrize("name", ["rdm", "bank_confidence", "top_crop"])
def test_a_torn_chunk_costs_its_step_alone(name, make_run, tmp_path):
    run = make_run(tmp_path / "one")
    (chunk,) = (run / "records.zarr" / name).glob("c.3*")
    chunk.write_bytes(b"torn")
    report = make_report([run])
    if name == "bank_confidence":
        assert any(f"`{name}` of" in said and "torn at step 10," in said for said in report.missing)
        assert curves(report, "emergence")["dax"][0].shape == (5,)
    assert {"emergence", "shape", "gradients"} <= pictures(report)


def _put(run: Path, file: str, what: str) -> None:
    """Puts what a stranger may have put in the place of a run's file."""
    place = run / file
    place.unlink()
    if what == "a pipe":
        os.mkfifo(place)
    elif what == "a device":
        place.symlink_to("/dev/zero")
    elif what == "a folder":
        place.mkdir()
    elif what == "a link out":
        (run.parent / "private").write_text('{"private": "key"}')
        place.symlink_to(run.parent / "private")
    elif what == "a huge file":
        with place.open("wb") as content:
            content.truncate(1 << 40)  # takes no room on the disk
    else:
        place.write_text(what)


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))
STRANGE = {
    "a pipe": "is no plain file",
    "a device": "leads out of its folder",
    "a folder": "is no plain file",
    "a link out": "leads out of its folder",
    "a huge file": "bytes, of",
    "[" * 100_000: "nested too deeply",
    '{"a": ' * 40_000: "nested too deeply",
}


@pytest.mark.parametrize("what", [*STRANGE, BOMB, "<<: *a", "seed_everything: !!python/object/apply:os.getcwd []"])
@pytest.mark.parametrize("file", ["config.yaml", "fit.json"])
def test_what_a_stranger_put_in_a_files_place_is_named_and_the_others_are_read(file, what, make_run, tmp_path, only):
    only("trained", "costs", "repeat")
    run = make_run(tmp_path / "one")
    _put(run, file, what)
    report = make_report([run])
    said = next(sentence for sentence in report.missing if sentence.startswith(file))
    known = {BOMB: "aliases", "<<: *a": "aliases"} if file == "config.yaml" else {}
    assert {**STRANGE, **known}.get(what, "cannot be read") in said
    assert len(said) < 300
    assert "key" not in str(report)
    assert "could not be made" not in " ".join(report.missing)
    facts = dict(section(report, "trained").tables[0].rows)
    assert (facts["network"] == "VGG: plan vgg11, width 4") == (file != "config.yaml")
    assert (facts["weights"] == "1,234,567") == (file != "fit.json")


@pytest.mark.parametrize("what", ["a pipe", "a device", "[" * 100_000, '{"a": ' * 50_000])
def test_records_whose_metadata_are_a_strangers_are_named(what, make_run, tmp_path, only):
    only("trained", "learning")
    run = make_run(tmp_path / "one")
    _put(run, "records.zarr/zarr.json", what)
    report = make_report([run])
    assert "records" in report.missing[0]
    assert "could not be made" not in " ".join(report.missing)


@pytest.mark.parametrize("what", ["a pipe", "a device"])
def test_a_chunk_that_is_no_file_costs_its_step_alone(what, make_run, tmp_path, only):
    only("trained", "learning")
    run = make_run(tmp_path / "one")
    _put(run, "records.zarr/bank_confidence/c.3.0", what)
    report = make_report([run])
    assert any("`bank_confidence` of" in said and "torn at step 10," in said for said in report.missing)
    assert curves(report, "emergence")["dax"][0].shape == (5,)


def test_a_link_to_all_of_the_disk_is_not_followed_to_its_end(make_run, tmp_path, only, monkeypatch):
    only("costs")
    monkeypatch.setattr("lightning_emerge.report.trained._MOST_FILES", 50)
    run = make_run(tmp_path / "one")
    (run / "checkpoints").symlink_to("/")
    (sizes,) = [table for table in section(make_report([run]), "costs").tables if table.caption == "Room on disk."]
    assert sizes.rows[0][2].startswith("more than ")


@pytest.mark.parametrize("name", ["vgg5::lr0.1", "a:b", "file:x", "memory::x", "$HOME", "~"])
def test_a_runs_folder_is_taken_literally(name, make_run, tmp_path, only, monkeypatch):
    only("trained", "learning", "costs", "repeat")
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / name)
    report = make_report([name])
    assert report.missing == []
    assert report.title == f"{tmp_path.name}/{name}"
    assert "emergence" in pictures(report)
    assert section(report, "costs").tables[-1].rows[0][1].endswith(" MB")


def test_the_command_of_a_folder_with_odd_characters_is_quoted(make_run, tmp_path, only):
    only("repeat")
    run = make_run(tmp_path / "x; touch owned")
    assert f"lightning fit --config '{run}/config.yaml'" in section(make_report([run]), "repeat").says[0]


def test_a_section_that_fails_is_named_and_the_others_stand(make_run, tmp_path, monkeypatch):
    def fail(runs: object) -> Section:
        raise RuntimeError("planted")

    planted = tuple((name, head, fail if name == "learning" else make) for name, head, make in SECTIONS)
    monkeypatch.setattr(module, "SECTIONS", planted)
    report = make_report([make_run(tmp_path / "one")])
    assert section(report, "learning").missing == ["Learning could not be made: RuntimeError: planted"]
    assert "shape" in pictures(report)


def test_several_runs_have_a_line_each_and_their_mean(make_run, tmp_path, only):
    only("trained", "geometry")
    runs = [make_run(tmp_path / f"seed{k}" / "version_0", seed=k) for k in range(3)]
    report = make_report(runs)
    found = curves(report, "shape")
    mean = next(lines[0] for label, lines in found.items() if label == "conv1")
    values = [run.read("distance_ratio").values[:, 0] for run in read_runs(runs)]
    for step in range(6):
        assert mean[step] == pytest.approx(statistics.mean(float(row[step]) for row in values), rel=1e-5)
    thin = [line for label, lines in found.items() if label.startswith("_") for line in lines]
    assert any(np.array_equal(line, values[2]) for line in thin)
    table = section(report, "trained").tables[1]
    assert [row[0] for row in table.rows] == [
        *("seed0/version_0", "seed1/version_0", "seed2/version_0", "mean ± standard deviation"),
    ]
    assert table.rows[-1][table.head.index("bank")] == "0.900 ± 0.000"
    assert "rdm_2" in pictures(report)


def test_the_spread_of_emergence_is_that_of_the_runs(make_run, tmp_path, only):
    only("timeline")
    runs = [make_run(tmp_path / f"seed{k}", seed=k, steps=MANY) for k in range(2)]
    timeline = section(make_report(runs), "timeline").tables[0]
    assert timeline.rows[0] == ["token dax", "7 (7 to 10)", "7 (7 to 10)", "7 ± 0"]


def test_the_page_dates_as_the_file_and_the_closing_lines_do(make_run, tmp_path, only):
    only("timeline")
    run = make_run(tmp_path / "one", steps=MANY)
    table, sizes = section(make_report([run]), "timeline").tables
    events = run_timeline(run)
    assert [row[1] for row in table.rows] == [tell_time(event.emergence) for event in events]
    assert [row[1] for row in sizes.rows] == [tell_mastery(event.emergence) for event in events]
    assert {event.name for event in events if event.group == "token" and event.emergence.step} == {"dax", "wug"}


def test_runs_of_other_configurations_are_not_averaged(make_run, tmp_path, only):
    only("trained", "learning", "geometry", "timeline")
    many = [make_run(tmp_path / "many" / f"seed{k}", seed=k, steps=MANY) for k in range(2)]
    few = make_run(tmp_path / "few" / "seed0", seed=2, exemplars=5, steps=MANY[:9])
    report = make_report([many[0], few, many[1]])
    trained = section(report, "trained")
    _, differences, accuracy = trained.tables
    assert [row[0] for row in accuracy.rows][3:] == ["mean ± standard deviation of many/seed0 and 1 like it"]
    assert differences.head == ["", "many/seed0 and 1 like it", "few/seed0"]
    assert differences.rows == [["data.exemplars", "500", "5"]]
    times = section(report, "timeline").tables[0]
    assert times.head[1:] == [
        *("many/seed0", "few/seed0", "many/seed1"),
        "mean ± standard deviation of many/seed0 and 1 like it",
    ]
    shown = next(one for one in section(report, "geometry").pictures if one.name == "shape").figure
    lines = [line for line in shown.axes[0].get_lines() if line.get_label() == "conv1"]
    assert [(line.get_linestyle(), line.get_xdata()[-1]) for line in lines] == [("-", 50), ("--", 15)]
    ratios = [read.read("distance_ratio").values[:, 0] for read in read_runs([*many, few])]
    np.testing.assert_allclose(lines[0].get_ydata(), (ratios[0] + ratios[1]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(lines[1].get_ydata(), ratios[2])
    named = [text.get_text() for text in shown.legends[0].get_texts()]
    assert named[-2:] == ["many/seed0 and 1 like it", "few/seed0"]
    said = [sentence for sentence in section(report, "geometry").says if "Distance within" in sentence]
    assert [sentence.partition(":")[0] for sentence in said] == ["many/seed0 and 1 like it", "few/seed0"]
    assert "±" in said[0]
    assert "±" not in said[1]
    assert "3 runs of 2 configurations" in report.about[0]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("seed_everything: 5", True),
        ("data: {init_args: {seed: 9, exemplars: 500}}", True),
        ("data: {init_args: {exemplars: 501}}", False),
        ("data: {init_args: {exemplars: 500, shuffle_labels: true}}", False),
        ("trainer: {logger: {init_args: {save_dir: elsewhere, name: other}}, default_root_dir: /there}", True),
        ("trainer: {max_epochs: 3}", False),
        ("ckpt_path: last", True),
        ("ckpt_path: pretrained/epoch=9.ckpt", False),
        ("data: {class_path: other.TokenDataModule, init_args: {exemplars: 500}}", False),
        ("data: {init_args: {exemplars: 500}, dict_kwargs: {width: 64}}", False),
        ("trainer: {callbacks: [{class_path: lightning_emerge.FrozenLayers, init_args: {layers: [a]}}]}", False),
    ],
)
def test_runs_that_differ_in_seeds_and_places_alone_are_of_one_configuration(text, same, make_run, tmp_path):
    plain = {
        "seed_everything": 0,
        "trainer": {"max_epochs": 2, "logger": {"init_args": {"save_dir": "runs"}}, "callbacks": []},
        "data": {"class_path": "lightning_emerge.TokenDataModule", "init_args": {"seed": 7, "exemplars": 500}},
    }
    changed = yaml.safe_load(text)
    other = {key: {**own, **changed.get(key, {})} if isinstance(own, dict) else own for key, own in plain.items()}
    other["data"] = {**plain["data"], **changed.get("data", {})}
    other |= {key: own for key, own in changed.items() if key == "ckpt_path"}
    runs = [make_run(tmp_path / name) for name in "ab"]
    for run, config in zip(runs, (plain, {**other, "seed_everything": changed.get("seed_everything", 0)}), strict=True):
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert (len({run.group for run in read_runs(runs)}) == 1) == same


def test_parts_of_which_nothing_is_made_are_in_no_order(tmp_path, only):
    only("construction")
    feature = Axis("feature", ["disk", "bar"], notes={"kind": ["part", "part"], "tokens": ["dax", "wug"]})
    sink = ArraySink(tmp_path / "records.zarr", None)
    for step in range(3):
        areas = np.full((1, 2), 0.5, np.float32)
        sink.write(step, [Measurement("part_filter_auc", areas, (Axis("layer", ["fc"]), feature), step, unit="AUC")])
    sink.close()
    report = make_report([tmp_path])
    assert "could not be made" not in " ".join(report.missing)
    assert "emerged in that order" not in " ".join(section(report, "construction").says)


def test_runs_without_a_configuration_are_not_averaged(make_run, tmp_path):
    runs = [make_run(tmp_path / name) for name in "ab"]
    for run in runs:
        (run / "config.yaml").unlink()
    assert len({run.group for run in read_runs(runs)}) == 2


def test_more_configurations_than_can_be_told_apart_are_refused(make_run, tmp_path):
    runs = [make_run(tmp_path / str(k)) for k in range(9)]
    for k, run in enumerate(runs):
        (run / "config.yaml").write_text(f"data: {{exemplars: {k}}}")
    with pytest.raises(ValueError, match=r"8 configurations at most.* 9\."):
        read_runs(runs)


@pytest.mark.parametrize(
    ("values", "known", "of"),
    [([1.0, 2.0, 4.0], [1, 2, 4], ""), ([10, None, 40], [10, 40], " (2 of 3)"), ([NAN, 2, 3], [2, 3], " (2 of 3)")],
)
def test_a_spread_is_the_mean_and_the_deviation_of_a_sample(values, known, of):
    assert spread(values) == f"{statistics.mean(known):.3f} ± {statistics.stdev(known):.3f}{of}"


def test_a_spread_of_what_is_not_known():
    assert spread([None, None]) == "not seen"
    assert spread([NAN]) == "-"
    assert spread([0.25], 2) == "0.25"


def test_the_mean_over_runs_is_of_those_that_have_a_number():
    np.testing.assert_array_equal(mean_of([[1.0, NAN, NAN], [3.0, 5.0, NAN]]), [2, 5, NAN])


def test_runs_that_looked_at_other_steps_are_averaged_where_both_did(make_run, tmp_path, only):
    only("gradients")
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=1, steps=(0, 3, 50, 80))]
    shown = section(make_report(runs), "gradients").pictures[0].figure.axes[0].get_lines()
    mean = next(line for line in shown if line.get_label() == "conv1")
    assert list(mean.get_xdata()) == [0, 3, 50]
    assert mean.axes.get_xlim()[1] > 80  # a run that went on is drawn to its own end


def test_a_run_behind_a_url_is_read(make_run, tmp_path, only):
    only("trained", "learning", "costs")
    files = fsspec.filesystem("memory")
    files.put(str(make_run(tmp_path / "one")), "/behind/one", recursive=True)
    report = make_report(["memory://behind/one"])
    assert report.title == "behind/one"
    assert "emergence" in pictures(report)
    assert report.missing == []


def test_runs_of_other_tokens_are_refused(make_run, tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", tokens=("cat", "dog"))]
    with pytest.raises(ValueError, match=r"/a has dax, wug, and .*/b has cat, dog"):
        make_report(runs)


def test_runs_of_other_layers_are_left_out_of_what_they_do_not_share(make_run, tmp_path, only):
    only("geometry")
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", layers=("conv1", "out"))]
    report = make_report(runs)
    said = " ".join(section(report, "geometry").missing)
    assert said.count("layers are not those of") == 1
    assert {"rdm_0", "rdm_1"} <= pictures(report)
    assert "could not be made" not in " ".join(report.missing)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_couplings_of_an_earlier_run_are_laid_beside_those_of_a_new_one(order, make_run, tmp_path, only):
    only("coupling")
    runs = [make_run(tmp_path / name) for name in ("new", "old")]
    kinds, pair = ["weight", "activation", "effective"], Axis("pair", ["conv1 > conv2"])
    for run, axis in zip(runs, (["weight", "effective"], kinds), strict=True):
        shutil.rmtree(run / "records.zarr")
        sink = ArraySink(run / "records.zarr", None)
        shares = np.array([[{"weight": 0.2, "activation": 0.9, "effective": 0.1}[kind] for kind in axis]], np.float32)
        for step in (0, 5):
            sink.write(step, [Measurement("coupling_edges", shares, (pair, Axis("kind", axis)), step, unit="share")])
        sink.close()
    shown = make_report([runs[k] for k in order])
    assert "left out" not in " ".join(section(shown, "coupling").missing)
    for axes, share in zip(section(shown, "coupling").pictures[0].figure.axes, (0.2, 0.1), strict=False):
        np.testing.assert_allclose([line.get_ydata() for line in axes.get_lines() if len(line.get_xdata()) > 1], share)


def test_a_run_of_an_earlier_version_says_which_record_it_lacks(make_run, tmp_path, only):
    only("filters")
    run = make_run(tmp_path / "one")
    shutil.rmtree(run / "records.zarr")
    sink = ArraySink(run / "records.zarr", None)
    layer, filters, token = Axis("layer", ["conv1"]), Axis("filter", [0, 1]), Axis("token", ["dax", "wug"])
    rows = {"class_selectivity": (layer, filters), "selective_share": (layer, token)}
    for step in (0, 5):
        values = [
            Measurement(name, np.ones([len(a.labels) for a in axes], np.float32), axes, step)
            for name, axes in rows.items()
        ]
        sink.write(step, values)
    sink.close()
    filters = section(make_report([run]), "filters")
    assert any("no filter_selective, which its CategoryProbe of an earlier" in one for one in filters.missing)
    assert not any("no class_selectivity" in one for one in filters.missing)
    caption = next(one.caption for one in filters.pictures if one.name == "selective")
    assert "selective by chance" in caption


def test_a_run_beside_one_without_records_is_shown_alone(make_run, tmp_path, only):
    only("trained", "geometry")
    broken = make_run(tmp_path / "b")
    shutil.rmtree(broken / "records.zarr")
    report = make_report([make_run(tmp_path / "a"), broken])
    assert "has no records" in report.missing[0]
    assert "shape" in pictures(report)
    assert "could not be made" not in " ".join(report.missing)


def test_a_folder_that_is_no_run_is_refused_with_the_nearest_one(make_run, tmp_path):
    run = make_run(tmp_path / "runs" / "vgg5" / "version_0")
    with pytest.raises(FileNotFoundError, match=r"vgg/version_0\. Did you mean .*/vgg5/version_0\?"):
        make_report([tmp_path / "runs" / "vgg" / "version_0"])
    with pytest.raises(ValueError, match=r"vgg5 is none\..*did you mean .*/vgg5/version_0\?"):
        make_report([run.parent])
    with pytest.raises(ValueError, match="Name each once"):
        make_report([run, f"{run}/"])
    with pytest.raises(ValueError, match="one run or more"):
        make_report([])


@pytest.mark.slow
def test_the_points_by_umap_are_shown_when_they_were_made(make_run, tmp_path, only):
    only("embeddings")
    from lightning_emerge import embed_run

    tokens = tuple(f"token{k}" for k in range(7))
    run = make_run(tmp_path / "one", tokens=tokens)
    embed_run(Path(run), looks=2, neighbours=4)
    report = make_report([run])
    assert "embedding_0" in pictures(report)
    assert section(report, "embeddings").missing == []
    assert "trustworthiness" in section(report, "embeddings").says[0]
