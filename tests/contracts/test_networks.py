"""Networks of other kinds than a classifier of images: what works says what plain hooks say."""

from __future__ import annotations

import networks
import pytest
from declared import shipped
from zoo import ZOO

LAYERS_ALONE = {
    "CategoryProbe",
    "SimilarityProbe",
    "EmbeddingProbe",
    "FilterProbe",
    "GradientProbe",
    "TopExemplarProbe",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LSTM on token ids", "GPT2ForSequenceClassification", "spectral_norm", "SimCLR"])
def test_records_are_what_hooks_find(name):
    (entry,) = (entry for entry in ZOO if entry.name == name)
    seen = networks.look_at(entry)
    assert {*seen.layers} >= LAYERS_ALONE
    assert seen.checked > 1000
    assert {*seen.why} >= {kind.__name__ for kind in shipped()} - {*seen.layers}  # what does not work says why


def test_the_page_has_each_network_and_each_probe():
    rows = [line for line in networks.PAGE.read_text().splitlines() if line.startswith("| ")]
    head, *others = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.count(" | ") > 5]
    assert head[2:-1] == [kind.__name__.removesuffix("Probe") for kind in shipped()]
    assert [row[:2] for row in others[1:]] == [[entry.name, entry.source] for entry in ZOO]
    assert all(int(row[-1].replace(",", "")) > 500 for row in others[1:])
