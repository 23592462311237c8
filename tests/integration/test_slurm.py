"""A SLURM of one node, started here: the documentation's job script is queued again and resumes in its own folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import lightning_emerge as le
from lightning_emerge.engine.checkpoint_files import read_checkpoint

ROOT = Path(__file__).parents[2]
DAEMONS = ("munged", "slurmctld", "slurmd")
STEPS = 150
SMALL = (
    f"--trainer.max_epochs 1 --trainer.limit_train_batches {STEPS} --data.batch_size 4 "
    "--trainer.enable_progress_bar false --trainer.enable_model_summary false"
)
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={home}/munge.socket
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.distributed, pytest.mark.timeout(900)]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(what: Callable[[], object], limit: float, said: Callable[[], str] = str) -> None:
    end = time.monotonic() + limit
    while not what():
        if time.monotonic() > end:
            pytest.fail(f"not within {limit} s:\n{said()}")
        time.sleep(0.2)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Callable[..., str]]:
    """Runs SLURM's commands; its daemons end with the tests."""
    missing = [name for name in (*DAEMONS, "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no SLURM here: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("a SLURM of one's own needs root")
    home = Path(tempfile.mkdtemp(prefix="slurm"))  # munged wants a folder that all may enter
    home.chmod(0o755)
    for name in ("state", "spool"):
        (home / name).mkdir()
    (home / "key").write_bytes(os.urandom(1024))
    (home / "key").chmod(0o400)
    ports = [free_port(), free_port()]
    (home / "slurm.conf").write_text(CONFIGURATION.format(home=home, host=socket.gethostname(), ports=ports))
    environment = {**os.environ, "SLURM_CONF": str(home / "slurm.conf"), "PYTHONPATH": str(ROOT)}

    def run(*command: str, cwd: Path = home) -> str:
        how = {"cwd": cwd, "env": environment, "capture_output": True, "text": True, "timeout": 60}
        ended = subprocess.run(command, check=False, **how)
        assert ended.returncode == 0, f"{command}: {ended.stderr}"
        return ended.stdout

    options = {"key": "key", "socket": "munge.socket", "pid": "munged.pid", "log": "munged.log", "seed": "munge.seed"}
    files = [f"--{name}{'' if name == 'socket' else '-file'}={home / file}" for name, file in options.items()]
    try:
        run("munged", *files)
        run("slurmctld")
        run("slurmd")
        wait_for(lambda: "idle" in run("sinfo"), 60, lambda: (home / "slurmctld.log").read_text()[-3000:])
        yield run
    finally:
        with suppress(AssertionError, subprocess.SubprocessError):
            run("scancel", "--user=root")
        left = [number for name in reversed(DAEMONS) if (number := _number(home / f"{name}.pid"))]
        for kind, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
            end = time.monotonic() + patience
            left = [number for number in left if _send(number, kind)]
            while left and time.monotonic() < end:
                time.sleep(0.1)
                left = [number for number in left if _send(number, 0)]
        shutil.rmtree(home)


def _number(file: Path) -> int:
    """That of a daemon's process, or 0 if it does not say."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def _send(number: int, kind: int) -> bool:
    """Sends a signal; says whether the process was there."""
    try:
        os.kill(number, kind)
    except ProcessLookupError:
        return False
    return True


def script() -> str:
    """The script of the documentation, at the scale of a test."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/scale.md").read_text(), re.DOTALL)
    (text,) = (block for block in blocks if "#SBATCH" in block)
    for old, new in (
        ("--nodes=2", "--nodes=1"),
        ("--ntasks-per-node=1 ", "--ntasks-per-node=2 "),
        ("--cpus-per-task=8", "--cpus-per-task=1"),
        ("--trainer.num_nodes 2 --trainer.devices 1", f"--trainer.num_nodes 1 --trainer.devices 2 {SMALL}"),
        ("--config vgg5", "--config smoke"),
        ("srun python", f"export OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo\nsrun {sys.executable}"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_a_job_that_is_queued_again_resumes_in_its_own_folder_and_another_is_not_touched(slurm, tmp_path):
    (tmp_path / "job.sh").write_text(script())

    def submit() -> str:
        return slurm("sbatch", "job.sh", cwd=tmp_path).split()[-1]

    def said() -> str:
        return "\n".join(path.read_text() for path in tmp_path.glob("slurm-*.out"))

    def state(job: str) -> str:
        return re.findall(r"JobState=(\w+)", slurm("scontrol", "show", "job", job))[0]

    first = submit()
    run = tmp_path / f"runs/smoke/job_{first}"
    wait_for((run / "checkpoints/step=000010.ckpt").exists, 180, said)
    slurm("scancel", "--signal=USR1", first)
    wait_for(lambda: state(first) == "PENDING", 60, said)
    stopped = read_checkpoint(run / "checkpoints/last.ckpt")["global_step"]
    assert 10 <= stopped < STEPS
    assert f"SIGUSR1 ended the run at step {stopped}, between two batches" in said()

    second = submit()
    wait_for(lambda: state(second) == "COMPLETED", 180, said)
    slurm("scontrol", "update", f"JobId={first}", "StartTime=now")  # SLURM waits for two minutes
    wait_for(lambda: state(first) == "COMPLETED", 180, said)
    assert f"Going on from runs/smoke/job_{first}/checkpoints/last.ckpt" in said()
    assert {path.name for path in tmp_path.glob("runs/smoke/[!.]*")} == {f"job_{first}", f"job_{second}"}
    steps = [le.open_run(tmp_path / f"runs/smoke/job_{job}").step.values.tolist() for job in (first, second)]
    assert steps[0] == steps[1]
    assert (steps[0][0], steps[0][-1]) == (0, STEPS)
    assert not list(tmp_path.glob("hpc_ckpt*"))
    assert {path.name for path in tmp_path.iterdir()} == {"job.sh", "runs", f"slurm-{first}.out", f"slurm-{second}.out"}
