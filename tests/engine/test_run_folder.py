"""A run's folder is found by process zero, which tells the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from lightning_emerge.engine.run_folder import run_folder


def ask(*loggers: Any, zero: bool = True, said: str = "") -> str:
    strategy = SimpleNamespace(broadcast=lambda found: found if zero else said)
    return run_folder(
        SimpleNamespace(loggers=list(loggers), default_root_dir="/given", is_global_zero=zero, strategy=strategy)  # pyright: ignore[reportArgumentType]
    )


def named(save_dir: Any, name: Any, version: Any) -> Any:
    return SimpleNamespace(save_dir=save_dir, name=name, version=version)


@pytest.mark.parametrize(
    ("logger", "folder"),
    [
        (named("./runs/", "tokens", "3k2jd81x"), "runs/tokens/3k2jd81x"),
        (named("runs", "tokens", 0), "runs/tokens/version_0"),
        (named(None, "1", "ab"), "/given/1/ab"),
        (named(None, None, None), "/given"),
        (named("", "", ""), "/given"),
        (named("///mlruns", 5, "ab"), "/mlruns/5/ab"),
        (named("s3://bucket//runs", "a", "b"), "s3://bucket//runs/a/b"),
    ],
)
def test_a_folder_is_named_as_the_logger_names_the_run(logger, folder):
    assert ask(logger) == folder
    assert ask(logger, named("other", "other", "other")) == folder


def test_a_logger_with_a_folder_of_its_own_keeps_it(tmp_path):
    assert ask(CSVLogger(tmp_path, name="a", version=3)) == f"{tmp_path}/a/version_3"


def test_without_loggers_it_is_the_root():
    assert ask() == "/given"


def test_other_processes_ask_no_logger_and_take_what_they_are_told():
    assert ask(object(), zero=False, said="/there") == "/there"
