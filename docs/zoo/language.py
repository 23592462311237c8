"""Networks for token ids."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from zoo.common import Entry, stimuli, words


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(40, 16), nn.LSTM(16, 24, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        every, _ = self.lstm(self.embed(ids))
        return self.head(every[:, -1])


def _bert() -> nn.Module:
    settings = transformers.BertConfig(
        vocab_size=40, hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=96, num_labels=5
    )
    return transformers.BertForSequenceClassification(settings)


def _gpt() -> nn.Module:
    settings = transformers.GPT2Config(
        vocab_size=40,
        n_positions=16,
        n_embd=48,
        n_layer=3,
        n_head=3,
        num_labels=5,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2ForSequenceClassification(settings)


def _named() -> dict[str, Any]:
    ids = words()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


LANGUAGE = (
    Entry("BertForSequenceClassification", "transformers", _bert, stimuli(_named, positions="first")),
    Entry("GPT2ForSequenceClassification", "transformers", _gpt, stimuli(_named, positions="last")),
    Entry("LSTM on token ids", "own", _Recurrent, stimuli(words)),
)
"""All get ids of words; those of Transformers get them by name, with a mask, and return a `ModelOutput`."""
