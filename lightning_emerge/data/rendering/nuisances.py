"""Nuisances: what varies from exemplar to exemplar and never tells the token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, TypeAlias, final

Preset: TypeAlias = Literal["easy", "default", "hard"]


class Limit(NamedTuple):
    """The range that a nuisance may be set to, its unit, and what it is."""

    lowest: float
    highest: float
    unit: str
    about: str


LIMITS: Mapping[str, Limit] = {
    "position": Limit(0, 0.5, "of the image's side", "largest shift of the token on each axis"),
    "scale": Limit(0.3, 1.5, "two thirds of the side", "smallest and largest size of the token's frame"),
    "rotation": Limit(0, 45, "degrees", "largest turn of the token, either way"),
    "jitter": Limit(0, 0.5, "half the token's frame", "largest shift of each part on each axis"),
    "colour": Limit(0, 1, "of full variety", "how far parts and ground depart from grey"),
    "light": Limit(0, 0.5, "of full range", "largest change of light from middle to edge on each axis"),
    "background": Limit(0, 1, "of full range", "largest amplitude of the 1/f background's coarsest octave"),
    "clutter": Limit(0, 8, "pieces", "largest number of pieces behind the token that belong to none"),
    "occlusion": Limit(0, 0.5, "of the token's frame", "largest area of a square patch before the token"),
    "blur": Limit(0, 0.05, "of the image's side", "largest standard deviation of the blur"),
    "noise": Limit(0, 0.5, "of full range", "standard deviation of the sensor's noise"),
}

_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "easy": {
        "position": 0.06,
        "scale": (0.9, 1.1),
        "rotation": 8.0,
        "jitter": 0.06,
        "colour": 1.0,
        "light": 0.05,
        "background": 0.2,
        "clutter": 0,
        "occlusion": 0.0,
        "blur": 0.0,
        "noise": 0.03,
    },
    "default": {
        "position": 0.12,
        "scale": (0.7, 1.1),
        "rotation": 15.0,
        "jitter": 0.12,
        "colour": 1.0,
        "light": 0.15,
        "background": 0.4,
        "clutter": 1,
        "occlusion": 0.05,
        "blur": 0.01,
        "noise": 0.06,
    },
    "hard": {
        "position": 0.16,
        "scale": (0.6, 1.1),
        "rotation": 25.0,
        "jitter": 0.16,
        "colour": 1.0,
        "light": 0.25,
        "background": 0.5,
        "clutter": 3,
        "occlusion": 0.1,
        "blur": 0.015,
        "noise": 0.08,
    },
}


@final
@dataclass(frozen=True, init=False)
class Nuisances:
    """How far exemplars vary: a preset, and whatever is set otherwise.

    Each exemplar's values are sampled evenly from the ranges that these set; `noise` is the same for all. Changing one
    leaves what is sampled for the others as it was.

    Args:
        preset: "easy", "default" or "hard": what holds for each argument that is not given.
        position: largest shift of the token's centre on each axis, as a share of the image's side (0 to 0.5).
        scale: smallest and largest size of the token; at 1 its frame fills two thirds of the image's side (0.3 to 1.5).
        rotation: largest turn of the whole token either way, in degrees (0 to 45).
        jitter: largest shift of each part on each axis, in the token's frame, whose half side is 1 (0 to 0.5).
        colour: how far the colours of parts, ground, clutter and patch depart from grey, each exemplar's and each
            part's sampled anew (0 to 1).
        light: largest change of light from the middle to an edge, on each axis, as a share of full range (0 to 0.5).
        background: largest amplitude of the coarsest octave of the 1/f background, as a share of full range (0 to 1);
            each of three finer octaves has half the amplitude of the one before.
        clutter: largest number of pieces, of any shape, that lie behind the token and belong to none (0 to 8).
        occlusion: largest area of a square patch before the token, as a share of the token's frame (0 to 0.5).
        blur: largest standard deviation of a Gaussian blur, as a share of the image's side (0 to 0.05).
        noise: standard deviation of the sensor's noise, as a share of full range (0 to 0.5).

    Raises:
        ValueError: if a value is out of its range.
    """

    position: float
    scale: tuple[float, float]
    rotation: float
    jitter: float
    colour: float
    light: float
    background: float
    clutter: int
    occlusion: float
    blur: float
    noise: float

    def __init__(
        self,
        preset: Preset = "default",
        *,
        position: float | None = None,
        scale: tuple[float, float] | None = None,
        rotation: float | None = None,
        jitter: float | None = None,
        colour: float | None = None,
        light: float | None = None,
        background: float | None = None,
        clutter: int | None = None,
        occlusion: float | None = None,
        blur: float | None = None,
        noise: float | None = None,
    ) -> None:
        if preset not in _PRESETS:
            raise ValueError(f"nuisances.preset is one of {', '.join(_PRESETS)}; got {preset!r}.")
        given = {
            "position": position,
            "scale": scale,
            "rotation": rotation,
            "jitter": jitter,
            "colour": colour,
            "light": light,
            "background": background,
            "clutter": clutter,
            "occlusion": occlusion,
            "blur": blur,
            "noise": noise,
        }
        for name, preset_value in _PRESETS[preset].items():
            value = preset_value if given[name] is None else given[name]
            object.__setattr__(self, name, tuple(value) if name == "scale" else value)
            self._check(name)

    def _check(self, name: str) -> None:
        limit, value = LIMITS[name], getattr(self, name)
        if name == "scale":
            if not (len(value) == 2 and limit.lowest <= value[0] <= value[1] <= limit.highest):
                raise ValueError(
                    f"nuisances.scale is a smallest and a largest size in {limit.lowest:g} to {limit.highest:g}; "
                    f"got {', '.join(map(str, value))}."
                )
        elif not limit.lowest <= value <= limit.highest or (name == "clutter" and value != int(value)):
            whole = "a whole number in" if name == "clutter" else "in"
            raise ValueError(f"nuisances.{name} lies {whole} {limit.lowest:g} to {limit.highest:g}; got {value}.")

    def values(self) -> dict[str, Any]:
        """Every nuisance by name, as set."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}
