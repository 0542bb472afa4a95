"""A real Slurm of one node and two pretend GPUs on the loopback interface, for tests; started in seconds, as root."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "sinfo")

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port_of_node}
AuthType=auth/munge
AuthInfo=socket={dir}/munge/munge.socket,cred_expire=8
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={dir}/ctld
SlurmdSpoolDir={dir}/slurmd
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.pid
SlurmctldLogFile={dir}/log/slurmctld.log
SlurmdLogFile={dir}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MinJobAge=3600
InactiveLimit=0
KillWait=30
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=normal Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=ALL Default=NO MaxTime=60 State=UP PriorityTier=100 PreemptMode=OFF
"""
# a requeued job waits for cred_expire seconds, 120 by default


def missing() -> str | None:
    """Why Slurm cannot be started here, or None."""
    if os.name != "posix" or os.geteuid() != 0:
        return "Slurm's daemons need root"
    gone = [name for name in NEEDED if shutil.which(name) is None]
    return f"{', '.join(gone)} not installed: see .ci/slurm" if gone else None


@contextlib.contextmanager
def slurm(folder: Path):
    """Start it in a folder, with SLURM_CONF set; stopped in the end.

    Raises:
        OSError, subprocess.SubprocessError: the machine does not let it (no munge key, no device files).
    """
    for name in ("ctld", "slurmd", "munge", "log", "dev"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o711)
    host = socket.gethostname().split(".")[0]
    ports = _free_ports(2)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
    values = {"dir": folder, "host": host, "port": ports[0], "port_of_node": ports[1], "cpus": os.cpu_count()}
    (folder / "slurm.conf").write_text(CONF.format(memory=memory, **values))
    for i in range(2):  # stand-ins for /dev/nvidia0 and 1
        os.mknod(folder / "dev" / f"nvidia{i}", 0o020666, os.makedev(1, 3))
    gres = f"AutoDetect=off\nNodeName={host} Name=gpu Flags=nvidia_gpu_env File={folder}/dev/nvidia[0-1]\n"
    (folder / "gres.conf").write_text(gres)
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    key = folder / "munge" / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    m = folder / "munge"
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        _call("munged", f"--key-file={key}", f"--socket={m}/munge.socket", f"--pid-file={m}/munged.pid",
              f"--log-file={m}/munged.log", f"--seed-file={m}/munge.seed", "--num-threads=2", "--force")  # fmt: skip
        _call("slurmctld")
        _call("slurmd")
        until = time.monotonic() + 60
        while set(_call("sinfo", "-h", "-o", "%T").split()) != {"idle"}:
            if time.monotonic() > until:
                raise OSError(f"no idle node after 60 s: {(folder / 'log' / 'slurmctld.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield folder
    finally:
        for pid in ("slurmd.pid", "slurmctld.pid", "munge/munged.pid"):
            _end(folder / pid)
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


def _call(*words: str) -> str:
    """Run a command; the daemons keep their pipes open, so only sinfo has one."""
    asks = words[0] == "sinfo"
    out = subprocess.PIPE if asks else subprocess.DEVNULL
    done = subprocess.run(words, stdout=out, stderr=subprocess.DEVNULL, text=True, timeout=60, check=not asks)
    return done.stdout or ""


def _end(pid_file: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, 15)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.1)


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
