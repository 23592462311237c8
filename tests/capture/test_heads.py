"""Heads of attention: what is read of them is what the attention computes with, by hand."""

from __future__ import annotations

import pytest
import torch
from small import count_hooks, make_bank
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import find_weights, match_layers, open_network, run_bank
from lightning_emerge.capture.heads import heads_of
from lightning_emerge.engine.passes import sketch_network


class Torch(nn.Module):
    """An nn.MultiheadAttention, called by place or by name, with a mask."""

    def __init__(self, *, batch_first: bool, named: bool, masked: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attn = nn.MultiheadAttention(12, 3, batch_first=batch_first)
        self.fc, self.first, self.named, self.masked = nn.Linear(12, 2), batch_first, named, masked
        nn.init.normal_(self.attn.in_proj_bias)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(rows.shape[1], rows.shape[1]).triu(1).bool() if self.masked else None
        rows = rows if self.first else rows.transpose(0, 1)
        if self.named:
            mixed, _ = self.attn(query=rows, key=rows, value=rows, attn_mask=mask)
        else:
            mixed, _ = self.attn(rows, rows, rows, None, True, mask)
        return self.fc(mixed.mean(dim=1 if self.first else 0))


def by_hand(attention: nn.MultiheadAttention, rows: torch.Tensor, *, masked: bool) -> torch.Tensor:
    """Vectors of heads (stimulus, head, position, part)."""
    mapped = nn.functional.linear(rows, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (one.unflatten(-1, (3, 4)).transpose(1, 2) for one in mapped.chunk(3, dim=-1))
    scores = query @ key.transpose(2, 3) / 2
    if masked:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
    return scores.softmax(dim=-1) @ value


@pytest.mark.parametrize(
    ("batch_first", "named", "masked"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_heads_of_torch_are_filters_and_positions_their_places(batch_first, named, masked):
    network, bank = Torch(batch_first=batch_first, named=named, masked=masked).eval(), make_bank(5, 6, 12)
    assert match_layers(network, ["*@heads", "fc"]) == ("attn@heads", "fc")
    with torch.no_grad():
        vectors = by_hand(network.attn, bank.images, masked=masked)
        expected = network(bank.images)
    joined = network.attn.out_proj(vectors.transpose(1, 2).flatten(2)).mean(dim=1)
    torch.testing.assert_close(network.fc(joined), expected)  # these are the heads
    records = le.look(network, le.Stimuli(bank.images, bank.labels), [Seen(layers=["attn@heads", "fc"])])
    assert records.layer_channels.values.tolist() == [2, 1]
    found = torch.from_numpy(records.seen.values)
    torch.testing.assert_close(found[:, 0], vectors.norm(dim=-1).flatten(1), rtol=1e-4, atol=1e-5)
    assert count_hooks(network) == 0
    assert torch.equal(network(bank.images), expected)


class Seen(le.Probe):
    """What layers give, (stimulus, layer, number)."""

    needs = (le.Activations(), le.Filters())
    records = (le.Record("seen", ("stimulus", "layer", "number")),)

    def measure(self, capture: le.Capture) -> list[le.Measurement]:
        rows = [own.flatten(1) for own in capture.activations.values()]
        width = max(own.shape[1] for own in rows)
        padded = torch.stack([nn.functional.pad(own, (0, width - own.shape[1])) for own in rows], dim=1)
        axes = (
            le.Axis("stimulus", capture.bank.ids),
            le.Axis("layer", capture.layers),
            le.Axis("number", range(width)),
        )
        return [self.records[0].of(padded, *axes)]


class Projected(nn.Module):
    """As timm's and Hugging Face's: a projection of its own gets heads side by side."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.num_heads, self.qkv, self.proj = 3, nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(rows).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
        self.mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(self.mixed.transpose(1, 2).flatten(2))


def test_heads_are_read_where_a_projection_gets_them():
    attention = Projected().eval()
    network, bank = nn.Sequential(nn.Linear(12, 12), attention, nn.Flatten(), nn.Linear(72, 2)), make_bank(5, 6, 12)
    seen = run_bank(network, bank, {le.Activations(): ["1@heads"]})
    assert not seen.troubles
    network(bank.images)
    expected = attention.mixed.norm(dim=-1).transpose(1, 2)
    torch.testing.assert_close(seen.found[le.Activations()]["1@heads"], expected.detach(), rtol=1e-4, atol=1e-5)
    assert heads_of(nn.Linear(3, 3)) is None
    for pattern in ("0@heads", "fc@heads"):
        with pytest.raises(ValueError, match="matches none"):
            match_layers(network, [pattern])
    with pytest.raises(ValueError, match="or at heads; got '1@heads'"):
        find_weights(network, ["1@heads"])
    with open_network(network, ["1@heads"]) as live, pytest.raises(ValueError, match="not at heads; got '1@heads'"):
        live.respond("1@heads", bank.images)
    attention.num_heads = 5
    (error,) = run_bank(network, bank, {le.Activations(): ["1@heads"]}).troubles.values()
    assert "5 do not in" in str(error)


def make_hugging_face(kind: str) -> tuple[nn.Module, dict[str, torch.Tensor], str]:
    from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    settings = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 36}
    if kind == "vit":
        config = ViTConfig(**settings, image_size=16, patch_size=8, num_labels=3, attn_implementation="eager")
        return ViTForImageClassification(config), {"pixel_values": torch.randn(5, 3, 16, 16)}, "v_proj"
    config = BertConfig(**settings, vocab_size=50, num_labels=3, attn_implementation="eager")
    inputs = {"input_ids": torch.randint(0, 50, (5, 7)), "attention_mask": torch.ones(5, 7, dtype=torch.long)}
    return BertForSequenceClassification(config), inputs, "value"


@pytest.mark.parametrize("kind", ["vit", "bert"])
def test_heads_of_hugging_face_are_what_attention_makes_of_values(kind):
    network, inputs, values = make_hugging_face(kind)
    network.eval()
    bank = le.StimulusBank(inputs, torch.arange(5) % 3, tuple("abcde"), ("x", "y", "z"))
    layers = match_layers(
        network, [f"{kind}.layers.1.*@heads" if kind == "vit" else "bert.encoder.layer.1.*.self@heads"]
    )
    (layer,) = layers
    kept: list[torch.Tensor] = []
    attention = network.get_submodule(layer.removesuffix("@heads"))
    handle = attention.get_submodule(values).register_forward_hook(lambda *call: kept.append(call[2]))
    with torch.no_grad():
        weights = network(**inputs, output_attentions=True).attentions[1]
    handle.remove()
    vectors = weights @ kept[0].unflatten(-1, (3, 8)).transpose(1, 2)
    layouts = sketch_network(network, bank, torch.device("cpu")).layouts
    found = run_bank(network, bank, {le.Activations(): layers}, layouts=layouts).found[le.Activations()][layer]
    torch.testing.assert_close(found, vectors.norm(dim=-1).transpose(1, 2), rtol=1e-4, atol=1e-5)
