from pathlib import Path

import pytest

from lightning_emerge.data.photographs.listing import list_splits, list_tokens

SPLITS = ("train", "val", "test", "bank")


def touch(root: Path, **files: int) -> Path:
    """Makes so many files in the folder of each token; what is in them is not looked at."""
    for token, count in files.items():
        (root / token).mkdir(parents=True)
        for number in range(count):
            (root / token / f"{number}.png").touch()
    return root


def make_splits(root: Path, **changes: dict[str, int]) -> Path:
    for split in SPLITS:
        touch(root / split, **changes.get(split, {"dax": 3, "wug": 3}))
    return root


class TestTokens:
    def test_names_are_in_order(self, tmp_path):
        assert list_tokens(touch(tmp_path, b=2, a=1)) == {
            "a": [tmp_path / "a/0.png"],
            "b": [tmp_path / "b/0.png", tmp_path / "b/1.png"],
        }

    def test_an_empty_folder_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"folder holds photographs .*empty has none\.$"):
            list_tokens(touch(tmp_path, one=1, two=1, empty=0))

    @pytest.mark.parametrize("count", [0, 1])
    def test_fewer_than_two_folders_are_refused(self, tmp_path, count):
        touch(tmp_path / "root", **dict.fromkeys(["one"][:count], 6))
        (tmp_path / "root").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match=rf"at least two; .*root has {count}"):
            list_tokens(tmp_path / "root")

    def test_a_missing_root_is_named_with_its_near_match(self, tmp_path):
        touch(tmp_path / "flowers", one=1, two=1)
        with pytest.raises(FileNotFoundError, match=r"flower5 is none\. Did you mean .*/flowers\?"):
            list_tokens(tmp_path / "flower5")

    def test_a_missing_root_like_nothing_else_has_no_hint(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"zebras is none\.$"):
            list_tokens(tmp_path / "nowhere" / "zebras")

    def test_a_file_is_no_root(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(FileNotFoundError, match="file is none"):
            list_tokens(tmp_path / "file")


class TestSplits:
    def test_four_folders_of_tokens(self, tmp_path):
        found = list_splits(make_splits(tmp_path, val={"wug": 1, "dax": 2}))
        assert found is not None
        assert tuple(found) == SPLITS
        assert found["val"] == {
            "dax": [tmp_path / "val/dax/0.png", tmp_path / "val/dax/1.png"],
            "wug": [tmp_path / "val/wug/0.png"],
        }

    @pytest.mark.parametrize("missing", SPLITS)
    def test_three_of_them_are_no_splits_and_the_error_says_what_would_be(self, tmp_path, missing):
        root = make_splits(tmp_path)
        (root / missing).rename(root.parent / f"{root.name}_elsewhere")
        assert list_splits(root) is None
        with pytest.raises(ValueError, match=r"has none\. .*train, val, test, bank"):
            list_tokens(root)

    @pytest.mark.parametrize("split", SPLITS[1:])
    def test_tokens_are_the_same_in_all(self, tmp_path, split):
        root = make_splits(tmp_path, **{split: {"dax": 3, "wugg": 3}})
        with pytest.raises(ValueError, match=rf"train and .*{split} .* wug, wugg\."):
            list_splits(root)

    def test_a_token_without_photographs_in_one_split_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"test/wug has none"):
            list_splits(make_splits(tmp_path, test={"dax": 3, "wug": 0}))

    @pytest.mark.parametrize("bank", [{"dax": 3, "wug": 2}, {"dax": 1, "wug": 1}])
    def test_a_bank_that_is_not_balanced_or_too_small_is_refused(self, tmp_path, bank):
        said = f"dax {bank['dax']}, wug {bank['wug']}"
        with pytest.raises(ValueError, match=rf"equally many .*bank has {said}\."):
            list_splits(make_splits(tmp_path, bank=bank))
