"""SIGTERM and Ctrl-C end a run between two batches, in all its processes, and it resumes as if it had gone on."""

from __future__ import annotations

import copy
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from children import started

import lightning_emerge as le
from lightning_emerge.engine.checkpoint_files import read_checkpoint
from lightning_emerge.engine.watch import LIMIT

STEPS, EPOCHS = 7, 3
GONE = 15  # seconds in which all processes have to be gone
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
TWO = {"strategy": "ddp", "accelerator": "cpu", "devices": 2}

PACE = '''
import os, time
from pathlib import Path
from lightning.pytorch import Callback
from lightning_emerge.engine import watch

def tell(what):
    if os.environ.get("LOCAL_RANK", "0") == "0":
        Path("place").write_text(what)

class Pace(Callback):
    """Tells where a run is, and stays at one place for as long as it is told."""

    def __init__(self, at="", seconds=0.0, limit=watch.LIMIT):
        self.at, self.seconds, watch.LIMIT = at, seconds, limit

    def _be(self, place):
        tell(place)
        if place == self.at:
            time.sleep(self.seconds)

    def setup(self, trainer, *arguments, **named):
        self._be("setup")

    def on_train_batch_end(self, trainer, *arguments, **named):
        self._be(f"step {trainer.global_step}")

    def on_validation_batch_end(self, trainer, *arguments, **named):
        self._be("validation")

    def on_test_batch_end(self, trainer, *arguments, **named):
        self._be("test")

    def on_train_end(self, trainer, *arguments, **named):
        self._be("end")

    def on_fit_end(self, trainer, *arguments, **named):
        self._be("over")
'''

CLOSING = """
import lightning_emerge.cli.closing as closing
import time, pace
def close(*arguments):
    pace.tell("closing")
    time.sleep(60)
closing.close_fit = close
"""


def _has_come(found: str, place: str) -> bool:
    """Whether a run is at a place, or at a later step: a test that has to wait may miss one."""
    if found.startswith("step ") and place.startswith("step "):
        return int(found[5:]) >= int(place[5:])
    return found == place


class Run:
    """A command that was started in a group of its own."""

    def __init__(self, folder: Path, *arguments: str, ready: bool = True, spare: bool = False) -> None:
        self.folder, self.err = folder, folder / "err"
        (folder / "place").unlink(missing_ok=True)
        environment = {**ENVIRONMENT, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
        environment |= {"READY_SPARE": "1"} if spare else {}
        self._ends = ExitStack()
        with (folder / "out").open("w") as out, self.err.open("w") as err:
            streams = {"cwd": folder, "stdout": out, "stderr": err}
            one = started([sys.executable, *arguments], environment, ready=ready, **streams)
            self.process = self._ends.enter_context(one)

    def wait_for(self, place: str, limit: float = 120) -> None:
        end = time.monotonic() + limit
        path = self.folder / "place"
        while time.monotonic() < end and self.process.poll() is None:
            if path.exists() and _has_come(path.read_text(), place):
                return
            time.sleep(0.002)
        pytest.fail(f"never at {place}:\n{self.err.read_text()[-3000:]}")

    def end(self, *signals: int, apart: float = 1.0) -> int:
        """Sends signals; gives the status of the process, when all of its group are gone."""
        for place, number in enumerate(signals):
            time.sleep(apart if place else 0)
            self.process.send_signal(number)
        status, end = self.process.wait(GONE), time.monotonic() + GONE
        while self.alive() and time.monotonic() < end:
            time.sleep(0.1)
        assert not self.alive(), "a process is left"
        return status

    def alive(self) -> list[str]:
        """The processes of the group, but those that are dead and that nobody has asked for."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(group) == self.process.pid and state != "Z":
                found.append(stat.parent.name)
        return found

    def said(self) -> list[str]:
        return [line for line in self.err.read_text().splitlines() if line.startswith("lightning: ")]

    def kill(self) -> None:
        self._ends.close()


@pytest.fixture(scope="module")
def begin(configuration: dict[str, Any]) -> Iterator[Callable[..., Run]]:
    """Starts commands of a small run that looks at every step; what is left of them ends with the tests."""
    runs: list[Run] = []

    def run(home: Path, *arguments: str, pace: dict[str, Any] | None = None, spare: bool = True, **trainer: Any) -> Run:
        home.mkdir(exist_ok=True)
        own = copy.deepcopy(configuration)
        own["trainer"] |= {"limit_train_batches": STEPS, "max_epochs": EPOCHS, **trainer}
        for callback in own["trainer"]["callbacks"]:
            if "schedule" in callback.get("init_args", {}):
                callback["init_args"]["schedule"]["init_args"]["n"] = 1
        own["trainer"]["callbacks"][0]["init_args"] = pace or {}
        (home / "run.yaml").write_text(yaml.safe_dump(own))
        (home / "pace.py").write_text(PACE)
        command = ("-m", "lightning_emerge", *arguments, "--config", "run.yaml")
        runs.append(Run(home, *command, spare=spare and trainer.get("devices") == 2))
        return runs[-1]

    yield run
    for one in runs:
        one.kill()


@pytest.fixture
def start(tmp_path: Path, begin: Callable[..., Run]) -> Iterator[Callable[..., Run]]:
    """The same in a folder of the test, with which they end."""
    runs: list[Run] = []

    def run(*arguments: str, folder: str = "run", **settings: Any) -> Run:
        runs.append(begin(tmp_path / folder, *arguments, **settings))
        return runs[-1]

    yield run
    for one in runs:
        one.kill()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, begin: Callable[..., Run]) -> Path:
    """A run that was left alone."""
    home = tmp_path_factory.mktemp("alone")
    assert begin(home, "fit").process.wait(120) == 0
    return newest(home)


def newest(home: Path) -> Path:
    return max(home.glob("runs/killed/version_*"), key=lambda path: int(path.name[8:]))


def same(alone: Path, survivor: Path, steps: int = STEPS * EPOCHS) -> None:
    a, b = (read_checkpoint(run / "checkpoints/last.ckpt") for run in (alone, survivor))
    assert a["global_step"] == b["global_step"] == steps
    assert a["lightning_emerge"] == b["lightning_emerge"]
    assert [name for name, value in a["state_dict"].items() if not torch.equal(value, b["state_dict"][name])] == []
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (a, b)]
    for number, row in moments[0].items():
        assert all(torch.equal(value, moments[1][number][name]) for name, value in row.items())
    left, right = (le.open_run(run).load() for run in (alone, survivor))
    assert right.step.values.tolist() == left.step.values.tolist() == list(range(steps + 1))
    assert [name for name in left.variables if not left[name].equals(right[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "name"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")]
)
def test_a_signal_ends_a_run_between_two_batches_and_it_resumes(number, status, name, start, alone, tmp_path):
    run = start("fit", pace={"at": "step 9", "seconds": 1})
    run.wait_for("step 9")
    assert run.end(number) == status
    last = newest(tmp_path / "run").relative_to(tmp_path / "run") / "checkpoints/last.ckpt"
    assert run.said() == [
        f"lightning: {name} ended the run at step 9, between two batches. Checkpoint: {last}. Resume with the same "
        "command and --ckpt_path last."
    ]
    assert "Traceback" not in run.err.read_text()
    assert read_checkpoint(tmp_path / "run" / last)["global_step"] == 9
    assert start("fit", "--ckpt_path", "last").process.wait(120) == 0
    same(alone, newest(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(900)
def test_two_processes_end_at_random_moments_and_resume_as_if_they_had_gone_on(start, tmp_path):
    moments, count = random.Random(0), int(os.environ.get("EMERGE_SIGNALS", "2"))
    two = {**TWO, "limit_train_batches": 5, "max_epochs": 2 * count + 1}  # no start gets to the end
    steps = two["limit_train_batches"] * two["max_epochs"]
    assert start("fit", folder="alone", **two).process.wait(300) == 0
    status, begins = [], [0]
    for _ in range(count):
        run = start("fit", "--ckpt_path", "last", **two)
        run.wait_for(f"step {begins[-1] + moments.randint(1, 3)}")
        time.sleep(moments.uniform(0, 0.3))
        status.append(run.end(signal.SIGTERM))
        begins.append(read_checkpoint(newest(tmp_path / "run") / "checkpoints/last.ckpt")["global_step"])
    assert set(status) == {143}
    assert begins == sorted(set(begins))
    assert begins[-1] < steps
    assert start("fit", "--ckpt_path", "last", **two).process.wait(300) == 0
    assert len(list(tmp_path.glob("run/runs/killed/version_*"))) == 1
    same(newest(tmp_path / "alone"), newest(tmp_path / "run"), steps)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("place", ["setup", "validation", "end", "over"])
def test_at_other_moments_all_processes_are_gone_as_well(place, start):
    pace = {"at": place, "seconds": 40, "limit": 1}
    run = start("fit", pace=pace, **TWO, limit_train_batches=1, max_epochs=1)
    run.wait_for(place)
    assert run.end(signal.SIGTERM) == 143
    assert len(run.said()) == 1
    assert run.said()[0].startswith("lightning: SIGTERM ended the run")


@pytest.mark.slow
@pytest.mark.parametrize(("signals", "status"), [(["SIGTERM"], 143), (["SIGINT", "SIGINT"], 130)])
def test_a_step_that_never_ends_is_not_waited_for(signals, status, start):
    run = start("fit", pace={"at": "step 3", "seconds": 1000, "limit": 1 if len(signals) == 1 else LIMIT})
    run.wait_for("step 3")
    began = time.monotonic()
    assert run.end(*(signal.Signals[name] for name in signals)) == status
    assert len(signals) == 1 or time.monotonic() - began < LIMIT  # which a second one cuts short
    assert len(run.said()) == 1
    assert "before its next batch" in run.said()[0]


@pytest.mark.slow
def test_in_the_closing(start, tmp_path):
    start("--version").process.wait()  # writes the files
    (tmp_path / "run/closes.py").write_text(
        "import sys\nfrom lightning_emerge.cli import main\n" + CLOSING + "main(sys.argv[1:])\n"
    )
    run = Run(tmp_path / "run", "closes.py", "fit", "--config", "run.yaml")
    try:
        run.wait_for("closing")
        assert run.end(signal.SIGTERM) == 143
        (line,) = run.said()
        assert "checkpoints/last.ckpt. Resume with" in line
    finally:
        run.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_other_commands_end_at_once_in_one_line(number, status, start):
    run = start("test", pace={"at": "test", "seconds": 100})
    run.wait_for("test")
    assert run.end(number) == status
    assert run.said() == [f"lightning: {'Ctrl-C' if status == 130 else 'SIGTERM'} ended the command."]
    assert "Traceback" not in run.err.read_text()


PLAIN = """
import sys
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
import lightning_emerge as le
from pace import Pace

seed_everything(0)
data = le.TokenDataModule(val_exemplars=4, test_exemplars=4, bank_exemplars=4, image_size=16)
network = le.VGG(plan=[1, 1], width=4, head=[8], image_size=16)
trainer = Trainer(
    accelerator="cpu", devices=int(sys.argv[1]), strategy="ddp" if sys.argv[1] == "2" else "auto", max_steps=1000,
    logger=CSVLogger("runs", "killed"), enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    callbacks=[Pace(), le.CategoryProbe(le.EverySteps(1)), *([le.Checkpoints()] if len(sys.argv) > 2 else [])],
)
trainer.fit(le.TokenClassifier(network), datamodule=data)
"""


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("arguments", [["2", "checkpoints"], ["2"], ["1"]])
def test_a_plain_trainer_with_probes_ends_too(arguments, tmp_path):
    (tmp_path / "plain.py").write_text(PLAIN)
    (tmp_path / "pace.py").write_text(PACE)
    run = Run(tmp_path, "plain.py", *arguments, spare=arguments == ["2"])  # else started as ever
    try:
        run.wait_for("step 3")
        assert run.end(signal.SIGTERM) == 143
        (line,) = run.said()
        words = "Resume with trainer.fit(" if len(arguments) > 1 else "add lightning_emerge.Checkpoints"
        assert words in line
        assert "Traceback" not in run.err.read_text()
    finally:
        run.kill()


@pytest.mark.slow
@pytest.mark.distributed
def test_a_process_whose_starter_is_killed_does_not_wait_for_it(start):
    run = start("fit", pace={"at": "step 2", "seconds": 100}, **TWO)
    run.wait_for("step 2")
    assert run.end(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.distributed
def test_nothing_is_left_of_a_test_whose_run_was_killed_before_its_processes_met(start):
    run = start("fit", spare=False, **TWO)  # of a spare, another process waits than the one that was started
    end, second = time.monotonic() + 120, []
    while not second and time.monotonic() < end:
        with suppress(OSError):
            second = [one for one in run.alive() if b"LOCAL_RANK=1" in Path(f"/proc/{one}/environ").read_bytes()]
    run.process.send_signal(signal.SIGKILL)
    assert run.process.wait(GONE) == -signal.SIGKILL
    assert run.alive() == second != []  # it would wait for half an hour
    run.kill()
    end = time.monotonic() + GONE
    while run.alive() and time.monotonic() < end:
        time.sleep(0.01)
    assert run.alive() == []
