"""How names in records are made of others, and taken apart again."""

from __future__ import annotations

from lightning_emerge.records.names import (
    join_pair,
    join_parts,
    join_tokens,
    nearest,
    split_pair,
    split_tokens,
)


def test_pairs_of_layers():
    assert join_pair("conv1_1", "conv1_2") == "conv1_1 > conv1_2"
    assert split_pair("conv1_1 > conv1_2") == ("conv1_1", "conv1_2")


def test_sets_of_tokens_and_conjunctions_of_parts():
    assert split_tokens(join_tokens(["dax", "wug"])) == ["dax", "wug"]
    assert join_parts(["disk", "bar", "ring"]) == "disk + bar + ring"
    assert join_parts(["disk"]) == "disk"


def test_the_nearest_name_ends_a_message_if_there_is_one():
    assert nearest("filters", ["layer", "filter"]) == " Did you mean 'filter'?"
    assert nearest("x", ["layer", "filter"]) == ""
