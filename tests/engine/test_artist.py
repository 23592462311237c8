"""The artist: a drawing that never ends, or ends the process, keeps nobody."""

from __future__ import annotations

import sys
import threading

import pytest

from lightning_emerge.engine.artist import Artist, TooSlowError


def interrupt() -> None:
    raise KeyboardInterrupt


def test_it_gives_what_is_made_and_raises_what_fails():
    artist = Artist()
    assert artist.make(lambda: threading.current_thread().name) == "lightning_emerge artist"
    with pytest.raises(KeyError, match="ink"):
        artist.make(lambda: {}["ink"])
    for leave in (lambda: sys.exit(3), interrupt):
        with pytest.raises(RuntimeError, match=r"it raised (SystemExit|KeyboardInterrupt)"):
            artist.make(leave)
    assert artist.make(lambda: 2) == 2
    artist.close()


def test_what_takes_too_long_is_left_alone_and_nothing_else_is_made_until_it_ends():
    artist, go = Artist(), threading.Event()
    artist.patience = 0.2
    with pytest.raises(TooSlowError, match=r"more than 0\.2 s and was left alone"):
        artist.make(lambda: go.wait(60))
    assert artist.stuck
    with pytest.raises(TooSlowError, match="an earlier drawing"):
        artist.make(lambda: 1)
    go.set()
    for _ in range(100):
        if not artist.stuck:
            break
        threading.Event().wait(0.05)
    assert artist.make(lambda: 1) == 1


def test_patience_that_ends_meanwhile_ends_the_wait():
    artist, go = Artist(), threading.Event()
    threading.Timer(0.3, lambda: setattr(artist, "patience", 0.1)).start()
    with pytest.raises(TooSlowError):
        artist.make(lambda: go.wait(60))
    go.set()
