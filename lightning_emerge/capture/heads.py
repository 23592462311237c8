"""Heads of attention: how strongly each of them answers at each position."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import multi_head_attention_forward

from lightning_emerge.capture.hooks import first_tensor

HEADS = "@heads"
"""What ends the name of a layer whose heads are meant: `blocks.0.attn@heads`."""

_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_ENDS = ("proj", "o_proj", "out_proj", "c_proj", "out_lin")


class Heads(NamedTuple):
    """The heads of an attention.

    Attributes:
        part: the module whose calls are watched.
        read: makes of what it got, by place and by name, and of what it gave, the lengths of its heads' vectors
            (stimulus, position, head).
    """

    part: nn.Module
    read: Callable[[Sequence[Any], Mapping[str, Any], Any], torch.Tensor]


def heads_of(attention: nn.Module) -> Heads | None:
    """Finds the heads of an attention; None if a module is none whose heads are known.

    They are known of nn.MultiheadAttention; of a module with a number of heads whose own projection gets them side by
    side, as timm's and most of Hugging Face's do; and of a `...SelfAttention` without one, which gives them so.
    """
    if isinstance(attention, nn.MultiheadAttention):
        return Heads(attention, lambda given, named, _: _of_torch(attention, given, named))
    settings = (attention, getattr(attention, "config", None))
    counts = [getattr(owner, name, None) for owner in settings for name in _COUNTS]
    count = next((count for count in counts if isinstance(count, int)), None)
    ends = [end for end in (getattr(attention, name, None) for name in _ENDS) if isinstance(end, nn.Module)]
    if count is not None and not ends and type(attention).__name__.endswith("SelfAttention"):
        return Heads(attention, lambda _given, _named, output: _lengths(first_tensor(output), count))
    if count is None or len(ends) != 1:
        return None
    return Heads(ends[0], lambda given, _named, _output: _lengths(given[0], count))


def _lengths(rows: torch.Tensor | None, heads: int) -> torch.Tensor:
    if rows is None or rows.dim() != 3 or rows.shape[-1] % heads:
        raise ValueError(
            f"Heads lie side by side in (stimulus, position, channel); {heads} do not in "
            f"{None if rows is None else tuple(rows.shape)}. Name other layers."
        )
    return rows.unflatten(-1, (heads, -1)).norm(dim=-1)


def _of_torch(attention: nn.MultiheadAttention, given: Sequence[Any], named: Mapping[str, Any]) -> torch.Tensor:
    """Runs the attention again up to its projection, with one that changes nothing in its place."""
    rows = [*given, *(named[name] for name in ("query", "key", "value")[len(given) :])][:3]
    rows = [one.transpose(0, 1) if attention.batch_first and one.dim() == 3 else one for one in rows]
    size = attention.embed_dim
    shared = attention._qkv_same_embed_dim  # pyright: ignore[reportPrivateUsage]
    result, _ = multi_head_attention_forward(
        rows[0],
        rows[1],
        rows[2],
        size,
        attention.num_heads,
        attention.in_proj_weight,
        attention.in_proj_bias,
        attention.bias_k,
        attention.bias_v,
        attention.add_zero_attn,
        0.0,
        torch.eye(size, device=rows[0].device, dtype=rows[0].dtype),
        None,  # pyright: ignore[reportArgumentType]
        training=False,
        key_padding_mask=_named(given, named, "key_padding_mask", 3),
        need_weights=False,
        attn_mask=_named(given, named, "attn_mask", 5),
        use_separate_proj_weight=not shared,
        q_proj_weight=None if shared else attention.q_proj_weight,
        k_proj_weight=None if shared else attention.k_proj_weight,
        v_proj_weight=None if shared else attention.v_proj_weight,
        average_attn_weights=True,
        is_causal=bool(_named(given, named, "is_causal", 7)),
    )
    return _lengths(result.transpose(0, 1) if result.dim() == 3 else result, attention.num_heads)


def _named(given: Sequence[Any], named: Mapping[str, Any], name: str, place: int) -> Any:
    """What was given by its name or its place."""
    return given[place] if len(given) > place else named.get(name)
