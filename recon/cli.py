"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recon._version import __version__
from recon.cluster.commands import add_commands
from recon.errors import JobError, ReconError, StoppedError, SuspendedError
from recon.job.interrupts import ctrl_c_again, ignore_ctrl_c, unheard
from recon.job.progress import progress

if TYPE_CHECKING:
    from recon.job.progress import Watcher
    from recon.parallel import Ranks

DEVICES = click.Choice(["auto", "cpu", "cuda"])
# KEPT: stopped, and a result written; SUSPENDED: a batch system's signal, --resume goes on (EX_TEMPFAIL)
FAILED, KEPT, SUSPENDED, STOPPED = 2, 3, 75, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="recon")
def cli() -> None:
    """From an EDS tilt series to one quantitative 3D volume per element."""


@cli.command()
@click.option("--size", default=64, show_default=True, help="Pixels along each edge of the maps.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True, help="Output folder."
)
@click.option("--device", type=DEVICES, default="auto", show_default=True)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the particle, its noise and its drift."
)
@click.option(
    "--uncertainty",
    default=0,
    type=click.IntRange(0, 10_000),
    help="Replicates behind the repeatability of each voxel, such as 20; 0 for none.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output folder of an earlier run.")
def demo(size: int, out: Path, device: str, seed: int, uncertainty: int, overwrite: bool) -> None:
    """Simulate the two-metal particle, run everything blind, write a report."""

    def work(watch: Watcher) -> None:
        from recon.job.demo import demo as run_demo
        from recon.job.demo import summary

        clock = time.perf_counter()
        result, comparison, _ = run_demo(
            size, out, device=device, overwrite=overwrite, seed=seed, replicates=uncertainty, watch=watch
        )
        for line in summary(result, comparison):
            watch.log(line)
        watch.log(f"{out / 'report.html'} written after {time.perf_counter() - clock:.0f} s")

    sys.exit(guarded("demo", work))


@cli.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB.toml ...")
@click.option("--out", type=click.Path(path_type=Path), help="Output folder; with several jobs, the folder for theirs.")
@click.option("--device", type=DEVICES, default="auto", show_default=True)
@click.option("--resume", is_flag=True, help="Go on from checkpoints; leave finished jobs alone.")
@click.option("--overwrite", is_flag=True, help="Replace output folders of earlier runs.")
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="As reconstruct.strength=2; over the file's."
)
@click.option("--stage", type=click.Choice(["align", "finish"]), help="Align, no more; or put elements together.")
@click.option("--element", multiple=True, help="Reconstruct this one, no more; then --stage finish.")
@click.option("--workers", type=click.IntRange(1), help="Jobs and elements side by side; by default one a GPU or core.")
@click.option("--summary", type=click.Path(path_type=Path), help="CSV table of several jobs. [recon-summary.csv]")
@click.option("--threads", type=click.IntRange(1), envvar="RECON_THREADS", help="Of all cores given, by default all.")
@click.option("--leash", is_flag=True, hidden=True)
def run(
    jobs: tuple[str, ...],
    out: Path | None,
    device: str,
    resume: bool,
    overwrite: bool,
    changes: tuple[str, ...],
    stage: str | None,
    element: tuple[str, ...],
    workers: int | None,
    summary: Path | None,
    threads: int | None,
    leash: bool,
) -> None:
    """Reconstruct every element of one or more jobs, side by side; one that fails does not stop the others.

    Jobs may be patterns, such as ``day3/*.toml``. Ctrl-C during a reconstruction writes what there is, marked as not
    converged; once more stops at once. Exit status: 0 done, 2 failed, 3 stopped with a result, 75 left by SIGTERM or
    SIGUSR1 to --resume, 130 stopped.
    """
    from recon.cluster.units import expand, parse_changes

    if threads is not None:
        os.environ["RECON_THREADS"] = str(threads)
    try:
        paths, given = expand(jobs), parse_changes(changes)
        if (len(paths) > 1 or workers is not None) and (stage or element):
            raise JobError("--stage and --element are for one job; leave them out, jobs are shared out by themselves")
    except ReconError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(FAILED)
    ranks = _ranks(len(paths) > 1 or workers is not None)
    if len(paths) > 1 or workers is not None:
        from recon.cluster.batch import Options, run_batch

        sys.exit(run_batch(paths, Options(out, device, resume, overwrite, given), workers, summary))

    def work(watch: Watcher) -> None:
        from recon.cluster.leash import Leash
        from recon.job.file import load_job
        from recon.job.pipeline import Part, run_job

        admit = Leash().admit if leash else None
        part = Part(stage == "align", element, waits=stage == "finish")
        job = load_job(paths[0], changes=given)
        written = run_job(
            job, out=out, device=device, overwrite=overwrite, resume=resume, part=part, admit=admit, ranks=ranks,
            watch=watch,
        )  # fmt: skip
        watch.log(f"results in {written}" if part.whole else f"kept in {written}")

    status = guarded(paths[0], work)
    if status:
        ranks.abort(status)
    ranks.order(None)
    sys.exit(status)


def _ranks(several: bool) -> Ranks:
    """The ranks of mpirun; all but the first help until the job is done, and end here."""
    from recon.parallel import launched

    try:
        ranks = launched()
        if ranks.size > 1 and several:
            raise JobError("several jobs do not share the ranks of MPI; start them one by one, or without mpirun")
    except ReconError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(FAILED)
    if ranks.rank:
        from recon.job.together import serve

        serve(ranks)
        sys.exit(0)
    return ranks


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="JOB.toml")
@click.option("--device", type=DEVICES, default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Where the run would write.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With spectra: where spectrum and thumbnails are drawn; by default JOB-check.png beside the job file.",
)
def check(path: Path, device: str, out: Path | None, picture: Path | None) -> None:
    """Show what was read, the plan, and the memory and time a run will take.

    Nothing is written but, for spectra, one picture: the summed spectrum with its lines named, and the maps.
    """

    def work(watch: Watcher) -> None:
        from recon.io import check_target
        from recon.job.file import load_job
        from recon.job.inputs import read_job, read_spectra_job, spectra_series
        from recon.job.resources import admit, check_resources, describe, plan
        from recon.preparation.isolation import locate

        job, began = load_job(path), time.perf_counter()
        if job.input.maps is None:
            from recon.eds.preview import table
            from recon.eds.write import write_picture

            maps = read_spectra_job(job, watch.log)
            reading = time.perf_counter() - began
            for line in table(maps):
                click.echo(line)
            drawn = picture or job.path.with_name(f"{job.path.stem}-check.png")
            write_picture(maps, drawn)
            click.echo(f"picture: {drawn}")
            if job.maps.detectors == "each":
                return  # such maps are for `recon maps`
            series = spectra_series(job, maps)
        else:
            series = read_job(job)
            reading = time.perf_counter() - began
        needs = plan(job, locate(series), device, reading=reading)
        target = out or job.output_dir
        series = admit(job, series)
        for line in describe(job, series, needs, target):
            click.echo(line)
        check_resources(needs, target, job.reconstruct.memory)
        check_target(target, overwrite=True)
        if target.exists() and any(target.iterdir()):
            click.echo(f"note: {target} exists; a run needs --overwrite, --resume or another --out")

    sys.exit(guarded(str(path), work))


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="JOB.toml")
@click.option("--out", type=click.Path(path_type=Path), help="Output folder; by default JOB-maps beside the job file.")
@click.option("--overwrite", is_flag=True, help="Replace the output folder of an earlier run.")
def maps(path: Path, out: Path | None, overwrite: bool) -> None:
    """Make element maps from spectrum images and write them as files, in the formats of the job."""

    def work(watch: Watcher) -> None:
        from recon.eds.preview import table
        from recon.eds.write import write_maps
        from recon.io import check_target
        from recon.job.file import load_job
        from recon.job.inputs import read_spectra_job

        job = load_job(path)
        if job.input.maps is not None:
            raise JobError("it names maps already; `recon maps` makes them from [input] spectra and lines")
        target = out or job.path.with_name(f"{job.path.stem}-maps")
        check_target(target, overwrite=overwrite)
        found = read_spectra_job(job, watch.log)
        for line in table(found):
            watch.log(line)
        pixel = job.input.pixel_size_nm
        watch.log(f"maps in {write_maps(found, target, job.output.formats, pixel_size_nm=pixel, overwrite=overwrite)}")

    sys.exit(guarded(str(path), work))


@cli.command()
@click.argument("folders", type=click.Path(path_type=Path), metavar="DIR...", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Compare the runs on this page instead.")
def report(folders: tuple[Path, ...], out: Path | None) -> None:
    """Rebuild the report of finished runs, or with --out put several side by side on one page."""

    def rebuild(folder: Path, watch: Watcher) -> None:
        from recon.report.page import rebuild_report

        watch.log(f"{rebuild_report(folder)} written")

    def compare(watch: Watcher) -> None:
        from recon.report.compare import compare_runs

        watch.log(f"{compare_runs(folders, out or Path())} written")

    if out is not None:
        sys.exit(guarded(str(out), compare))
    sys.exit(max(guarded(str(f), partial(rebuild, f)) for f in folders))


def guarded(what: str, work: Callable[[Watcher], None]) -> int:
    """Run `work`; an error becomes one line on stderr. Returns the exit status."""
    with progress() as watch:
        status, line = attempt(what, work, watch)
    if line:
        with unheard():  # what came of the job is told, whatever is pressed now
            click.echo(line, err=True)
    return status


def attempt(what: str, work: Callable[[Watcher], None], watch: Watcher) -> tuple[int, str]:
    """Exit status of `work`, and what there is to say of how it ended."""
    try:
        with foreign_warnings():
            work(watch)
    except StoppedError as exc:
        return KEPT if exc.kept else STOPPED, f"{what}: {exc}"
    except SuspendedError as exc:
        return SUSPENDED, f"{what}: stopped by {exc}; run it again with --resume to go on"
    except KeyboardInterrupt:
        return STOPPED, f"{what}: stopped by Ctrl-C; nothing of this job was written"
    except (ReconError, MemoryError) as exc:
        text = " ".join(str(exc).split()) or "out of memory; bin the maps or use a larger machine"
        shown = text if text.startswith(what) else f"{what}: {text}"
        return FAILED, f"error: {shown}"
    except Exception as exc:
        if os.environ.get("RECON_DEBUG"):
            raise
        said = " ".join(str(exc).split())[:300] or "no words"
        where = f"{what}: " if what else ""
        return FAILED, (
            f"error: {where}unexpected {type(exc).__name__} ({said}); this is a fault of recon, please report it with "
            "what RECON_DEBUG=1 in the environment shows"
        )
    return 0, ""


@contextlib.contextmanager
def foreign_warnings() -> Iterator[None]:
    """Warnings of libraries, which tell a user nothing, stay off the terminal; ours are lines of the log."""
    with warnings.catch_warnings():
        if not os.environ.get("RECON_DEBUG"):
            import logging

            warnings.simplefilter("ignore")
            # tracebacks of zarr's tasks, which Python prints when it throws them away, maybe at its end
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        yield


add_commands(cli, guarded)


def main() -> None:
    """Entry point of the command `recon`."""
    sys.unraisablehook = ctrl_c_again
    try:
        # click would end with status 1 when Ctrl-C comes outside of `attempt`, before or after a job
        status = cli(prog_name="recon", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        status = exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = STOPPED
    except BrokenPipeError:  # the reader of our output has gone
        status = 1
    except SystemExit as exc:
        status = exc.code
    ignore_ctrl_c()  # what is left is to leave
    sys.exit(status)


__all__ = ["cli", "main"]
