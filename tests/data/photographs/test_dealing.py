from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from lightning_emerge.data.photographs.dealing import Deal, Row, hold

COUNTS = {"ant": 40, "bee": 55, "cow": 31}


def make(**changes) -> Deal:
    settings = {"seed": 0, "min_exemplars": 5, "val_share": 0.1, "test_share": 0.1, "bank_exemplars": 2}
    return Deal(**{**settings, **changes})


def contents(counts: Mapping[str, int] = COUNTS) -> dict[str, dict[str, bytes]]:
    return {token: {f"{token}/{k:02d}": f"{token} {k}".encode() for k in range(n)} for token, n in counts.items()}


def split_of(splits: Mapping[str, list[Row[str]]]) -> dict[str, str]:
    return {row.key: split for split, rows in splits.items() for row in rows}


def test_each_exemplar_is_in_one_split_with_the_label_of_its_token():
    rows = [row for rows in make()(contents()).values() for row in rows]
    expected = [(label, key) for label, found in enumerate(contents().values()) for key in found]
    assert sorted(rows) == expected


def test_splits_follow_content_and_not_names_or_order():
    names = contents()
    renamed = {token: {f"new {key}": names[token][key] for key in reversed(names[token])} for token in names}
    before, after = split_of(make()(names)), split_of(make()(renamed))
    assert {f"new {key}": split for key, split in before.items()} == after


def test_another_seed_is_another_split():
    assert split_of(make()(contents())) != split_of(make(seed=1)(contents()))


class TestCopies:
    def test_copies_are_never_held_out_be_they_of_two_tokens(self):
        # With one seed, chance alone might leave them in training.
        for seed in range(20):
            found = contents()
            for k in range(6):
                found["bee"][f"bee/copy{k}"] = found["ant"][f"ant/{k:02d}"]
                found["cow"][f"cow/copy{k}"] = found["cow"][f"cow/{k:02d}"]
            splits = split_of(make(seed=seed)(found))
            copies = [f"{a}/{b}" for a in ("bee", "cow") for b in (f"copy{k}" for k in range(6))]
            originals = [f"{token}/{k:02d}" for token in ("ant", "cow") for k in range(6)]
            assert {splits[key] for key in copies + originals} == {"train"}

    def test_too_many_copies_are_refused(self):
        found = contents({"ant": 40, "bee": 40})
        for k in range(9, 40):
            found["ant"][f"ant/{k:02d}"] = b"the same"
        with pytest.raises(ValueError, match=r"'ant' has 9 .* 10 are needed"):
            make()(found)
        found["ant"]["ant/39"] = b"another"
        assert set(split_of(make()(found)).values()) == {"train", "val", "test", "bank"}


class TestAtMost:
    def test_training_has_at_most_so_many_of_each_token(self):
        splits = make(exemplars=26)(contents())
        counts = Counter(row.label for row in splits["train"])
        assert counts == {0: 26, 1: 26, 2: 31 - 3 - 3 - 2}

    def test_the_other_splits_do_not_change_and_more_leave_the_first_ones(self):
        few, more, all_of_them = (make(exemplars=n)(contents()) for n in (5, 9, None))
        for split in ("val", "test", "bank"):
            assert few[split] == more[split] == all_of_them[split]
        assert set(few["train"]) < set(more["train"]) < set(all_of_them["train"])

    def test_they_are_not_the_first_ones_by_name(self):
        keys = [row.key for row in make(exemplars=9)(contents())["train"] if row.label == 0]
        assert max(keys) > "ant/20"

    def test_copies_are_the_last_to_be_taken(self):
        found = contents()
        for k in range(6):
            found["ant"][f"ant/copy{k}"] = found["ant"][f"ant/{k:02d}"]
        copies = {f"ant/{name}" for k in range(6) for name in (f"{k:02d}", f"copy{k}")}
        many = {row.key for row in make(exemplars=23)(found)["train"] if row.label == 0}
        few = {row.key for row in make(exemplars=22)(found)["train"] if row.label == 0}
        assert (len(many & copies), len(few & copies)) == (1, 0)

    def test_fewer_than_a_dense_sample_are_refused(self):
        make(exemplars=5)
        with pytest.raises(ValueError, match=r"data\.exemplars .*min_exemplars \(5\); got 4"):
            make(exemplars=4)


class TestRefusals:
    @pytest.mark.parametrize(
        ("argument", "value", "rule"),
        [
            ("val_share", 0.0, "above 0 and below 0.5; got 0.0"),
            ("val_share", 0.5, "above 0 and below 0.5; got 0.5"),
            ("test_share", -0.1, "above 0 and below 0.5; got -0.1"),
            ("min_exemplars", 0, "at least 1; got 0"),
            ("bank_exemplars", 1, "at least 2; got 1"),
        ],
    )
    def test_an_argument_out_of_its_range(self, argument, value, rule):
        with pytest.raises(ValueError, match=rf"data\.{argument} .*{rule}"):
            make(**{argument: value})

    def test_a_token_with_too_few_is_named(self):
        make().check_dense({"ant": 5, "bee": 6})
        with pytest.raises(ValueError, match=r"data\.min_exemplars \(5\) exemplars; bee has 4\. Add"):
            make().check_dense({"ant": 5, "bee": 4})

    def test_nothing_left_to_train_on_is_refused(self):
        make().check_left({"ant": 5})
        with pytest.raises(ValueError, match=r"'ant' to train on.*bank_exemplars \(2\)"):
            make().check_left({"ant": 4})


def test_held_exemplars_have_their_images_labels_and_ids():
    images = {k: np.full((3, 8, 8), k, np.uint8) for k in range(4)}
    splits = {"train": [Row(1, 3), Row(0, 0)], "bank": [Row(0, 2)]}
    held = hold(splits, images, lambda row: f"{row.label}/{row.key}")
    assert held["train"].pixels()[:, 0, 0, 0].tolist() == [3, 0]
    assert held["train"].labels.tolist() == [1, 0]
    assert held["train"].ids == ("1/3", "0/0")
    assert held["bank"].pixels().shape == (1, 3, 8, 8)
    assert held["train"].augment is None
