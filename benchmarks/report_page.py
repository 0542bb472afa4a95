"""What a report costs: to write, to send, and to open in headless Chromium with WebGL in software.

    python benchmarks/report_page.py RUN [RUN ...] [--out FILE]

Each RUN is the folder of a finished run. The report is written anew; its CPU seconds stand beside those of the run's
stages, its size in MB, and of the browser the wall seconds until the page is ready and the CPU seconds that all its
processes took for it, and the same again from scrolling to the volume until it is drawn in three dimensions; all of
it without WebGL, and for an empty page, too. CPU seconds say what a machine that does
other things would take if it did nothing else.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import psutil

from recon.report.page import rebuild_report
from recon.report.record import read_job_record

FLAGS = (
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
NO_WEBGL = (
    "HTMLCanvasElement.prototype.getContext = (get => function (kind, ...rest) {"
    "return kind === 'webgl2' ? null : get.call(this, kind, ...rest); })(HTMLCanvasElement.prototype.getContext)"
)
EMPTY = "data:text/html,<title>empty</title><script>document.documentElement.dataset.ready = 1</script>"


def browser_cpu() -> float:
    """CPU seconds of the browser's processes so far."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def opened(address: str, script: str | None = None, drawn: bool = False) -> dict[str, Any]:
    """Open a page in a browser of its own, and wait until it says that it is ready."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        path = next(f for n in ("chromium", "chromium-browser", "google-chrome") if (f := shutil.which(n)))
        browser = p.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda m: said.append(m.text))
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
        if script:
            page.add_init_script(script)
        time.sleep(1)
        before, clock = browser_cpu(), time.perf_counter()
        page.goto(address, wait_until="domcontentloaded")
        page.wait_for_function("document.documentElement.dataset.ready", timeout=300_000)
        found = {"cpu_s": round(browser_cpu() - before, 2), "wall_s": round(time.perf_counter() - clock, 2)}
        if drawn:
            before, clock = browser_cpu(), time.perf_counter()
            page.locator(".stage").scroll_into_view_if_needed(timeout=300_000)
            page.wait_for_selector("#viewer[data-drawn]", state="attached", timeout=300_000)
            found |= {
                "drawn_cpu_s": round(browser_cpu() - before, 2), "drawn_wall_s": round(time.perf_counter() - clock, 2)
            }  # fmt: skip
        browser.close()
    return {**found, "console": said, "requests": len([a for a in asked if a != address])}


def one(folder: Path) -> dict[str, Any]:
    """One run's report."""
    rebuild_report(folder)  # imports, fonts
    clock = time.process_time()
    path = rebuild_report(folder)
    written = time.process_time() - clock
    timings = read_job_record(folder / "job.json").timings_s
    address = path.resolve().as_uri()
    return {
        "run": folder.name, "write_cpu_s": round(written, 2), "run_s": round(sum(timings.values()), 1),
        "megabytes": round(path.stat().st_size / 1e6, 2), "empty page": opened(EMPTY),
        "without webgl": opened(address, NO_WEBGL), "whole": opened(address, drawn=True),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "report-page.json")
    args = parser.parse_args()
    rows = [one(folder) for folder in args.runs]
    for row in rows:
        print(json.dumps(row, indent=1), flush=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
