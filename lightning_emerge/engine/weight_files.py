"""Anyone's checkpoints: which files hold weights, those of which step, and their weights. Nothing in them is run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from safetensors import SafetensorError
from safetensors.torch import load_file

from lightning_emerge.engine.checkpoint_files import check_plain, read_tensors
from lightning_emerge.engine.conductor import PAST
from lightning_emerge.engine.loop import STEP
from lightning_emerge.store.regular import parse_json, read_regular

Checkpoints = str | Path | Sequence[str | Path] | Mapping[int, str | Path]
"""A folder of checkpoints, several files or folders, or those of steps that are said."""

_SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")
_WHOLE = ("model.safetensors", "pytorch_model.bin")
"""What a folder of Hugging Face's has its weights in, or in parts that a further file lists."""
_LISTS = tuple(f"{name}.index.json" for name in _WHOLE)
_STATE, _WATCHED = "trainer_state.json", "watch.pt"
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network")
_COPY = re.compile(r"(last|latest|best|final)(-v\d+)?", re.IGNORECASE)
"""What is called so is a copy of another checkpoint, if there is one of its step."""
_MOST = 1 << 28  # bytes of a list or of a Trainer's state


@dataclass(frozen=True)
class Weights:
    """What a checkpoint holds.

    Attributes:
        tensors: by their names in the network, or in what wraps it.
        step: optimizer steps taken; None if neither the file nor its name says.
        past: what probes left in it, if they were in the run.
    """

    tensors: dict[str, torch.Tensor]
    step: int | None
    past: Mapping[str, Any]


def warn(sentence: str) -> None:
    """Warns of a checkpoint that is left out."""
    rank_zero_warn(f"A checkpoint is left out: {sentence}")


def list_checkpoints(given: Checkpoints, say: Callable[[str], object] = warn) -> dict[int, Path]:
    """Finds checkpoints by their steps, in that order. Every file is read to see that it can be.

    A step is the `global_step` that a file has, that of a loop that was watched, or that of a Trainer in a folder;
    otherwise the last number of the name. What has none is left out of a folder.

    Args:
        given: a folder of checkpoints, or one of them; several; or those of steps that are said.
        say: told what is left out, and why.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if one is no checkpoint, has no step, or has the step of another.
        OSError: if one cannot be read.
    """
    if isinstance(given, Mapping):
        return dict(sorted((int(step), _readable(Path(path))) for step, path in given.items()))
    if not isinstance(given, str | Path):
        return _by_step({Path(path): read_weights(path).step for path in given}, "among those that were given")
    folder = Path(given)
    if not _is_folder(folder) or not (found := sorted(_look_into(folder))):
        raise FileNotFoundError(
            "--checkpoints is a folder of .ckpt files, .pt, .pth or .safetensors, or of folders that Hugging Face's "
            f"Trainer saves; {folder} has none."
        )
    steps = {path: read_weights(path).step for path in found}
    stepped = {path: step for path, step in steps.items() if step is not None}
    if stepped:
        for path in steps.keys() - stepped.keys():
            say(f"{path}, as neither it nor its name says of which step it is")
    return _by_step(stepped or steps, f"in {folder}")


def read_weights(path: str | Path) -> Weights:
    """Reads a checkpoint onto the CPU, as tensors and plain values.

    Args:
        path: of a file, or of a folder of Hugging Face's.

    Raises:
        ValueError: if it is none, is damaged, or holds other things.
        OSError: if it cannot be read.
    """
    path = Path(path)
    if _is_folder(path):
        return Weights(_read_folder(path), _step_of_folder(path), _find_watched(_read_watched(path)).get(PAST, {}))
    content = _read_file(path)
    tensors = _find_tensors(content)
    if tensors is None:
        raise ValueError(
            f"A checkpoint is a state dict, or has one under {', '.join(_KEYS)}; {path} has neither. Save "
            "network.state_dict()."
        )
    watched = _find_watched(content)
    told = (step for step in (content.get("global_step"), watched.get(STEP)) if type(step) is int)
    return Weights(tensors, next(told, _last_number(path.stem)), watched.get(PAST, {}))


def _look_into(folder: Path) -> Iterator[Path]:
    """The checkpoints in a folder, or the folder itself where it is one of a Trainer's."""
    if _has_weights(folder) and (folder / _STATE).exists():
        yield folder
        return
    for path in folder.iterdir():
        if path.name.startswith("."):  # what a save that was killed has left
            continue
        if _has_weights(path) if _is_folder(path) else path.suffix in _SUFFIXES:
            yield path


def _by_step(steps: Mapping[Path, int | None], where: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    # What is a copy comes first, and gives way to what it is a copy of.
    for path, step in sorted(steps.items(), key=lambda pair: not _COPY.fullmatch(pair[0].stem)):
        if step is None:
            raise ValueError(
                f"A checkpoint's step is the global_step in it, or the last number of its name; {path} has neither. "
                "Rename it, or give checkpoints by step in Python: {500: path}."
            )
        if step in found and not _COPY.fullmatch(found[step].stem):
            raise ValueError(
                f"Each step has one checkpoint; {found[step]} and {path} {where} are both of step {step}. Move one "
                "away, or give checkpoints by step in Python: {500: path}."
            )
        found[step] = path
    if not found:
        raise FileNotFoundError("Checkpoints are one or more files or folders; none was given.")
    return dict(sorted(found.items()))


def _readable(path: Path) -> Path:
    read_weights(path)
    return path


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)


def _has_weights(folder: Path) -> bool:
    return any((folder / name).exists() for name in (*_WHOLE, *_LISTS))


def _read_folder(folder: Path) -> dict[str, torch.Tensor]:
    for whole, parts in zip(_WHOLE, _LISTS, strict=True):
        if (folder / whole).exists():
            return _read_part(folder / whole)
        if (folder / parts).exists():
            return _read_parts(folder, folder / parts)
    raise ValueError(f"A folder of Hugging Face's has {' or '.join(_WHOLE)}; {folder} has neither.")


def _read_parts(folder: Path, index: Path) -> dict[str, torch.Tensor]:
    listed = _read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"A list of parts has a weight_map; {index} has none.")
    tensors: dict[str, torch.Tensor] = {}
    for name in sorted({str(part) for part in listed.values()}):
        if name != os.path.basename(name) or not (folder / name).exists():
            raise ValueError(f"A checkpoint's parts lie in its folder; {index} names {name}, which is not there.")
        tensors.update(_read_part(folder / name))
    missing = [name for name in listed if name not in tensors]
    if missing:
        raise ValueError(f"{index} says that the parts have {missing[0]}; none of them has.")
    return tensors


def _read_part(path: Path) -> dict[str, torch.Tensor]:
    tensors = _find_tensors(_read_file(path))
    if tensors is None:
        raise ValueError(f"{path.name} of Hugging Face's is a state dict; {path} is none.")
    return tensors


def _read_file(path: Path) -> Mapping[str, Any]:
    if path.suffix != ".safetensors":
        found = read_tensors(path)
        return found if isinstance(found, Mapping) else {}
    check_plain(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged, or no safetensors file, and was not loaded ({error}).") from None


def _find_tensors(content: Mapping[str, Any]) -> dict[str, torch.Tensor] | None:
    """The state dict among what was read."""
    inner = (content[key] for key in _KEYS if isinstance(content.get(key), Mapping))
    for found in (*inner, content):
        if any(isinstance(value, torch.Tensor) for value in found.values()):
            return {str(name): value for name, value in found.items()}
    return None


def _find_watched(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """What probes have left among what was read, or in a part of it that a loop has saved."""
    for found in (content, *content.values()):
        if isinstance(found, Mapping) and isinstance(found.get(PAST), Mapping):
            return found
    return {}


def _read_watched(folder: Path) -> Mapping[str, Any]:
    return _read_file(folder / _WATCHED) if (folder / _WATCHED).exists() else {}


def _step_of_folder(folder: Path) -> int | None:
    if (folder / _STATE).exists():
        step = _read_json(folder / _STATE).get("global_step")
        if type(step) is int:
            return step
    return _last_number(folder.name)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        # What a hub's cache holds are links.
        found = parse_json(read_regular(os.path.realpath(path), _MOST).decode())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    return found if isinstance(found, dict) else {}


def _last_number(name: str) -> int | None:
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else None
