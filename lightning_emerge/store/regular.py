"""Reading what lies in a run's folder, which may be a stranger's: plain files of limited size and depth."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from lightning_emerge.store.places import is_url, open_place, to_local


def read_regular(path: str, limit: int) -> bytes:
    """Reads a plain file of this machine's disks. It never waits for a pipe, and opens no device.

    Args:
        path: of the file; a link is not followed.
        limit: how many bytes it may have.

    Raises:
        OSError: if it is not there, cannot be read, or is a link.
        ValueError: if it is no plain file or is larger; the words follow the file's name.
    """
    # Looked at first, as opening some devices does something; not blocking, as a pipe may take its place meanwhile.
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError("is no plain file")
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    with open(number, "rb") as file:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is no plain file")
        if found.st_size > limit:
            raise ValueError(f"has {found.st_size} bytes, of {limit} at most")
        content = file.read(found.st_size + 1)  # room is made for as much; one more, as it may have grown
    if len(content) > limit:
        raise ValueError(f"has more than {limit} bytes")
    return content


def read_within(folder: str, name: str, limit: int) -> bytes:
    """Reads a plain file of a folder, and nothing outside of it: links that lead out are refused.

    Args:
        folder: on this machine's disks, or an fsspec URL.
        name: of the file in it.
        limit: how many bytes it may have.

    Raises:
        OSError: if it is not there, or cannot be read.
        ValueError: as for `read_regular`, or if it lies elsewhere.
    """
    if is_url(folder):
        files, root = open_place(folder)
        return read_far(files, f"{root.rstrip('/')}/{name}", limit)
    home = os.path.realpath(to_local(folder))
    real = os.path.realpath(f"{home}/{name}")
    if not real.startswith(f"{home.rstrip('/')}/"):
        raise ValueError("is a link that leads out of its folder")
    return read_regular(real, limit)


def read_far(files: Any, path: str, limit: int) -> bytes:
    """Reads a file of an fsspec file system.

    Raises:
        OSError: if it is not there, or cannot be read.
        ValueError: if it has more bytes than the limit; the words follow the file's name.
    """
    size = files.size(path)
    if size is None or size > limit:
        raise ValueError(f"has {size} bytes, of {limit} at most")
    return bytes(files.cat_file(path))


def parse_json(content: bytes | str) -> Any:
    """Reads JSON.

    Raises:
        ValueError: if it is none, or is nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_yaml(content: str) -> Any:
    """Reads YAML as a fit writes it: plain values, and no aliases, which let a few lines stand for a billion.

    Raises:
        ValueError: if it is none, has aliases or tags, or is nested too deeply.
    """
    import yaml  # not needed by TensorBoard's process

    class PlainSafeLoader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("it has aliases (*), and what a fit writes has none")
            return super().compose_node(parent, index)

    try:
        return yaml.load(content, PlainSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
