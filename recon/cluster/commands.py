"""The commands of a cluster: submit, status, gather, and the task that a batch script runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from recon.job.progress import Watcher

    Guarded = Callable[[str, Callable[[Watcher], None]], int]


def add_commands(group: click.Group, guarded: Guarded) -> None:
    """Add them to a group; `guarded` runs a function and turns its errors into a line and an exit status."""

    @group.command()
    @click.argument("jobs", nargs=-1, required=True, metavar="JOB.toml ...")
    @click.option("--folder", type=click.Path(path_type=Path), default=Path("recon-cluster"), show_default=True,
                  help="For manifest, scripts and logs.")  # fmt: skip
    @click.option("--scheduler", type=click.Choice(["slurm", "pbs", "lsf"]), help="By default of the site file.")
    @click.option("--out", type=click.Path(path_type=Path), help="Folder for the folders of results.")
    @click.option("--grid", multiple=True, metavar="KEY=[A, B]", help="A sweep: all combinations of all grids.")
    @click.option("--partition", help="Or queue.")
    @click.option("--account")
    @click.option("--time", help="Limit of a task: minutes, or hours:minutes; forecast by default.")
    @click.option("--memory", help="Of a task, such as '16 GB'; forecast by default.")
    @click.option("--gpus", type=click.IntRange(0), help="Of a task.")
    @click.option("--cores", type=click.IntRange(1), help="Of a task.")
    @click.option("--setup", multiple=True, help="A line of the shell before the program, such as 'module load cuda'.")
    @click.option("--dry-run", is_flag=True, help="Only write.")
    def submit(
        jobs: tuple[str, ...], folder: Path, scheduler: str | None, out: Path | None, grid: tuple[str, ...],
        partition: str | None, account: str | None, time: str | None, memory: str | None, gpus: int | None,
        cores: int | None, setup: tuple[str, ...], dry_run: bool,
    ) -> None:  # fmt: skip
        """Write a manifest and batch scripts for a cluster, and submit them.

        Each dataset is aligned once, then its elements are reconstructed side by side, then its results are put
        together; a task that has to leave early goes on where it was. What a task asks for comes from these options,
        the [cluster] table of the job files, or the site file.
        """

        def work(watch: Watcher) -> None:
            from recon.cluster.submit import submit as run_submit
            from recon.cluster.units import expand, parse_changes

            given = {
                "partition": partition, "account": account, "time": time, "memory": memory, "gpus": gpus,
                "cores": cores, "setup": setup,
            }  # fmt: skip
            run_submit(
                expand(jobs), folder, scheduler=scheduler, given=given, grid=parse_changes(grid), out=out,
                dry_run=dry_run, log=click.echo,
            )  # fmt: skip

        sys.exit(guarded("submit", work))

    @group.command()
    @click.argument("manifest", type=click.Path(path_type=Path), metavar="MANIFEST")
    @click.argument("row", type=int)
    @click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
    def task(manifest: Path, row: int, device: str) -> None:
        """Run one row of a manifest: what a batch script of `recon submit` calls."""

        def work(watch: Watcher) -> None:
            from recon.cluster.task import run_task

            run_task(manifest, row, device=device, watch=watch)

        sys.exit(guarded(f"row {row}", work))

    @group.command()
    @click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
    def warm(device: str) -> None:
        """Compile the kernels for this processor and GPU, once per type of node, so that no job does."""

        def work(watch: Watcher) -> None:
            from recon import backend

            for place in backend.compile_all(watch.log, backend.resolve_device(device)):
                click.echo(place)

        sys.exit(guarded("warm", work))

    @group.command()
    @click.argument("folder", type=click.Path(path_type=Path), default=Path("recon-cluster"), metavar="[FOLDER]")
    def status(folder: Path) -> None:
        """Show how far a submission has come. Exit status 1 while tasks are failed, 0 otherwise."""
        failed: list[bool] = []

        def work(watch: Watcher) -> None:
            from recon.cluster.follow import describe
            from recon.cluster.follow import status as find

            found = find(folder)
            failed.extend(p.state == "failed" for p in found)
            for line in describe(found):
                click.echo(line)

        sys.exit(guarded(str(folder), work) or int(any(failed)))

    @group.command()
    @click.argument("folder", type=click.Path(path_type=Path), default=Path("recon-cluster"), metavar="[FOLDER]")
    @click.option("--out", type=click.Path(path_type=Path), help="By default FOLDER/gathered.")
    @click.option("--overwrite", is_flag=True, help="Replace what was gathered before.")
    def gather(folder: Path, out: Path | None, overwrite: bool) -> None:
        """Put volumes, one table and one page of all datasets of a submission into one folder."""

        def work(watch: Watcher) -> None:
            from recon.cluster.follow import gather as run_gather
            from recon.cluster.summary import table

            target = out or folder / "gathered"
            for line in table(run_gather(folder, target, overwrite=overwrite)):
                click.echo(line)
            click.echo(f"gathered in {target}")

        sys.exit(guarded(str(folder), work))


__all__ = ["add_commands"]
