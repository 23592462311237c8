"""The thread that hears signals: with many files open, beside others' handlers, and while a checkpoint is saved."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from children import run_group
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

from lightning_emerge.engine import watch as watching
from lightning_emerge.engine.endings import saving, start_watch, stop_watch
from lightning_emerge.engine.watch import Watch


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watch]]:
    """Starts a watch that notes when it would end the process, in place of ending it."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(watching, "_TICK", 0.05)

    def make(**given: Any) -> Watch:
        one = Watch([signal.SIGTERM], lambda last: "", **given)
        left = one.left = []  # pyright: ignore[reportAttributeAccessIssue]

        def leave() -> None:
            left.append(time.monotonic())
            one._deadline = float("inf")

        monkeypatch.setattr(one, "_end_at_once", leave)
        start_watch(one)
        one.patient = True
        return one

    yield make
    stop_watch()
    signal.signal(signal.SIGTERM, before)


def until(what: Callable[[], object], limit: float = 20) -> None:
    end = time.monotonic() + limit
    while not what() and time.monotonic() < end:
        time.sleep(0.01)
    assert what()


MANY = """
import os, resource, signal, time
from lightning_emerge.engine.endings import start_watch
from lightning_emerge.engine.watch import Watch

null = os.open(os.devnull, os.O_RDONLY)
opened = [os.dup(null) for _ in range(1100)]
watch = Watch([signal.SIGTERM], lambda last: "")
start_watch(watch)
watch.patient = True
os.kill(os.getpid(), signal.SIGTERM)
end = time.monotonic() + 20
while not watch.asked and time.monotonic() < end:
    time.sleep(0.01)
os._exit(0 if watch.asked == signal.SIGTERM else 1)
"""


AGAIN = """
import os, signal, sys, time
from lightning_emerge.engine.endings import start_watch, stop_watch
from lightning_emerge.engine.watch import Watch

called, own = [], len(sys.argv) > 1
if own:
    signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
for _ in range(3):
    watch = Watch([signal.SIGTERM], lambda last: "")
    start_watch(watch)
    stop_watch()
    signal.signal(signal.SIGTERM, watch._note)  # as Lightning does
start_watch(watch := Watch([signal.SIGTERM], lambda last: ""))
watch.patient = True
os.kill(os.getpid(), signal.SIGTERM)
end = time.monotonic() + 20
while not watch.asked and time.monotonic() < end:
    time.sleep(0.01)
os._exit(0 if watch.asked == signal.SIGTERM and called == [signal.SIGTERM] * own else 1)
"""


@pytest.mark.parametrize("own", [[], ["a handler of its own"]])
def test_a_second_fit_of_a_process_is_ended_as_the_first_one_is(own):
    ended = run_group([sys.executable, "-c", AGAIN, *own], 120, ready=True)
    assert ended.returncode == 0, ended.stderr


def test_a_signal_is_heard_with_more_files_open_than_select_can_watch():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("no more than 2,048 files may be open here")
    raised = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (2048, {hard}))"
    ended = run_group([sys.executable, "-c", f"{raised}\n{MANY}"], 120, ready=True)
    assert ended.returncode == 0, ended.stderr


def test_a_handler_that_was_there_before_is_called_as_well(watch):
    called: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
    one = watch()
    one.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    until(lambda: one.asked)
    assert called == [signal.SIGTERM]


def test_a_checkpoint_that_is_saved_has_more_time_than_a_batch(watch, monkeypatch):
    monkeypatch.setattr(watching, "LIMIT", 0.2)
    monkeypatch.setattr(watching, "_SAVING", 0.6)
    one = watch()
    with saving():
        os.kill(os.getpid(), signal.SIGTERM)
        began = time.monotonic()
        until(lambda: one.left)
    assert 0.7 < one.left[0] - began < 10
    assert not one.saving


def test_without_a_save_the_limit_is_that_of_a_batch(watch, monkeypatch):
    monkeypatch.setattr(watching, "LIMIT", 0.2)
    monkeypatch.setattr(watching, "_SAVING", 60.0)
    one = watch()
    with saving(), saving():
        assert one.saving
    os.kill(os.getpid(), signal.SIGTERM)
    until(lambda: one.left)


class _Saver:
    def save_last(self, trainer: Any) -> None: ...
    def find_last(self) -> None: ...


@pytest.mark.parametrize(
    ("requeues", "callbacks", "taken"), [(True, [_Saver()], True), (False, [_Saver()], False), (True, [], False)]
)
def test_slurms_signal_is_taken_only_where_a_queued_job_resumes_from_our_checkpoint(watch, requeues, callbacks, taken):
    before = signal.getsignal(signal.SIGUSR1)
    one = watch(requeues=requeues)
    cluster = SLURMEnvironment.__new__(SLURMEnvironment)
    cluster.auto_requeue, cluster.requeue_signal = True, signal.SIGUSR1
    strategy = SimpleNamespace(cluster_environment=LightningEnvironment())
    connector = SimpleNamespace(cluster_environment=cluster)
    trainer: Any = SimpleNamespace(callbacks=callbacks, strategy=strategy, _accelerator_connector=connector)
    try:
        one.attach(trainer, fitting=True)
        assert (signal.getsignal(signal.SIGUSR1) == one._note) is taken
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_its_thread_is_gone_when_it_has_stopped(watch):
    one = watch()
    assert one._thread.is_alive()
    one.stop()
    assert not one._thread.is_alive()
