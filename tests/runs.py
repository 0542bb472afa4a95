"""What the tests of reports share: the folder of a run that never ran, from the shapes of a simulated particle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from recon.io import write_volumes
from recon.io.volumes import write_volume
from recon.series.volume import Volume
from recon.simulate import two_metal_particle

TILTS = [float(t) for t in range(-70, 71, 10)]
WHY = "certified: the relative gap is below the tolerance"


def element(strength: float) -> dict:
    history = [
        {"iteration": i, "objective": 1000 + 500 / i, "gap": 1 / i, "seconds": i / 100} for i in (50, 100, 150, 200)
    ]
    choice = {
        "strength": strength, "interval": [0.9 * strength, 1.1 * strength], "unit": strength,
        "factors": [0.5, 1.0, 2.0],
        "error": [3.0, 1.0, 2.0], "split": "thinned counts", "iterations": 500.0,
    }  # fmt: skip
    parameters = {
        "a1": strength, "a0": 2 * strength, "scheme": "relaxed", "upper": 2.0, "operator_norm": 31.0,
        "primal_weight": 100.0, "share": 0.4, "coarse_iterations": 20.0,
    }  # fmt: skip
    settings = {
        "method": "tgv", "data_term": "poisson", "strength": None, "tolerance": 0.01, "max_iterations": None,
        "projector": "auto", "thickness": "auto", "half_precision": False,
    }  # fmt: skip
    return {
        "status": "converged", "why": WHY, "iterations": 200, "settings": settings, "parameters": parameters,
        "choice": choice, "history": history,
    }  # fmt: skip


def amount(fraction: float) -> dict:
    spread = {"low68": -0.05, "high68": 0.05, "low95": -0.1, "high95": 0.1}
    return {"density": fraction, "fraction": fraction, **{k: fraction + v for k, v in spread.items()}}


def correlation() -> dict:
    """Halves that agree down to eight shells of ten."""
    shells = [k / 20 for k in range(1, 11)]
    falling = [1 - 0.1 * k for k in range(10)]
    return {
        "frequency": shells, "whole": falling, "along": [v**2 for v in falling], "across": falling, "axis": falling,
        "voxel_size_nm": 5.0,
    }  # fmt: skip


def statistics(a: str, b: str) -> dict:
    """What two elements share, with an interval of 0.1 about each figure."""
    names = (
        "only_first", "only_second", "both", "manders_first", "manders_second", "overlap", "correlation", "interface",
        "width", "edge",
    )  # fmt: skip
    one = {
        "value": 0.4, "shown": 0.38, "noise": 0.01, "pull": 0.02, "low68": 0.37, "high68": 0.43, "low95": 0.3,
        "high95": 0.5,
    }  # fmt: skip
    return {"first": a, "second": b, "figures": dict.fromkeys(names, one)}


def write_run(folder: Path, *, size: int = 32, names: tuple = ("Co", "Zn"), places: dict | None = None) -> Path:
    """The folder of a finished run, made of the particle's true volumes with a little noise."""
    folder.mkdir(parents=True)
    particle, rng = two_metal_particle(), np.random.default_rng(3)
    truth = dict(zip(names, particle.volume(size, samples=2), strict=True))
    found = {n: np.maximum(v + rng.normal(0, 0.03, v.shape), 0).astype(np.float32) for n, v in truth.items()}
    inside = sum(truth.values()) > 0.2
    write_volumes({n: Volume(v, 5.0, n) for n, v in found.items()}, folder, mask=inside)
    write_volumes({f"truth-{n}": Volume(v, 5.0, n) for n, v in truth.items()}, folder)
    sd = np.full(inside.shape, 0.03, np.float32)
    write_volumes({f"{n}-uncertainty": Volume(sd, 5.0, n) for n in names}, folder)
    labels = np.zeros(inside.shape, np.uint8)
    for k, name in enumerate(particle.regions, 1):
        labels[particle.inside(name, size)] = k
    write_volume(folder / "regions.tif", labels, 5.0)
    a, b = names
    interval = {"low": 0.9, "high": 1.1, "level": 0.68, "sd": 0.1, "bias": 0.0}
    sure = {
        "replicates": 4, "asked": 4, "converged": 4, "iterations": [200] * 4, "seed": 0, "noise": "poisson",
        "intervals": {"total": interval}, "drawn": {"total": [1.0] * 4},
    }  # fmt: skip
    job = {
        "program": "recon", "version": "0.1.0", "status": "done", "missing": [],
        "job": {"input": {"maps": {a: "a.tif", b: "b.tif"}}}, "inputs": {"a.tif": "0" * 64, "b.tif": "1" * 64},
        "device": "cpu", "machine": {"system": "Linux"}, "versions": {"numpy": "2.0", "astra-toolbox": None},
        "voxel_size_nm": 5.0, "unit": "counts per voxel length per unit exposure",
        "elements": {a: element(1.4), b: element(1.2)},
        "analysis": {
            "mask_fraction": 0.1,
            "elements": {
                n: {"total": 1000.0, "typical_density": p, "fraction_of_particle": 0.5}
                for n, p in zip(names, (1.0, 0.8), strict=True)
            },
            "pairs": {f"{a}-{b}": {"only": {a: 0.5, b: 0.4}, "both": 0.1, "correlation": -0.9}},
            "uncertainty": dict.fromkeys(names, sure),
            "truth": {
                "relative_rms_error": {a: 0.1, b: 0.2}, "axis_rotation_deg": 2.0, "axis_offset_pixels": 1.5,
                "fractions": {"interlocked": {a: 1.0, b: 0.3}},
            },
        },
        "composition": places or {
            "interlocked": {a: amount(1.0), b: amount(0.05), "verdict": f"{a} alone"},
            "mixed": {a: amount(0.55), b: amount(0.56), "verdict": f"{a} and {b}"},
        },
        "resolution": {a: correlation(), b: correlation()}, "pairs": {f"{a}-{b}": statistics(a, b)},
        "stages": ["read", "normalise", "align"], "timings_s": {"align": 1.0, "reconstruct": 2.0},
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    n = len(TILTS)
    ones = [1.0] * n
    alignment = {
        "method": "joint fit", "tilts_deg": TILTS, "frame_pixels": [size, size], "shifts_v_pixels": [0.5] * n,
        "shifts_u_pixels": [-0.5] * n, "rotation_deg": 1.7, "rotation_error_deg": 0.3, "axis_offset_pixels": 0.4,
        "converged": True, "isolated": True, "exposures": {a: ones, b: ones},
    }  # fmt: skip
    (folder / "alignment.json").write_text(json.dumps(alignment))
    frames = {
        k: rng.integers(0, 255, (n, size, size)).astype(np.uint8) for k in ("before", "after", "model", "residual")
    }
    np.savez_compressed(folder / "alignment-frames.npz", **frames)
    return folder
