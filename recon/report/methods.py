"""What a paper needs: a paragraph of methods with the run's own numbers, references, and what repeats the run."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path

from recon.analysis.resolution import THRESHOLD
from recon.report.drawing import table
from recon.report.resolution import period
from recon.report.run_folder import RunFolder
from recon.series.settings import MAX_ITERATIONS

REFERENCES = {
    "bredies2010": (
        "article", "K. Bredies and K. Kunisch and T. Pock", "Total generalized variation", "SIAM J. Imaging Sci.", "3",
        "492--526", "2010", "10.1137/090769521",
    ),
    "chambolle2011": (
        "article", "A. Chambolle and T. Pock", "A first-order primal-dual algorithm for convex problems with "
        "applications to imaging", "J. Math. Imaging Vis.", "40", "120--145", "2011", "10.1007/s10851-010-0251-1",
    ),
    "bredies2014": (
        "article", "K. Bredies and M. Holler", "Regularization of linear inverse problems with total generalized "
        "variation", "J. Inverse Ill-Posed Probl.", "22", "871--913", "2014", "10.1515/jip-2013-0068",
    ),
    "huber2019": (
        "article", "R. Huber and G. Haberfehlner and M. Holler and G. Kothleitner and K. Bredies", "Total generalized "
        "variation regularization for multi-modal electron tomography", "Nanoscale", "11", "5617--5632", "2019",
        "10.1039/C8NR09058K",
    ),
    "vanaarle2016": (
        "article", "W. van Aarle and W. J. Palenstijn and J. Cant and E. Janssens and F. Bleichrodt and A. Dabravolski "
        "and J. De Beenhouwer and K. J. Batenburg and J. Sijbers", "Fast and flexible X-ray tomography using the ASTRA "
        "toolbox", "Opt. Express", "24", "25129--25147", "2016", "10.1364/OE.24.025129",
    ),
    "longley2018": (
        "article", "L. Longley and others", "Liquid phase blending of metal-organic frameworks", "Nat. Commun.", "9",
        "2135", "2018", "10.1038/s41467-018-04553-6",
    ),
    "condat2013": (
        "article", "L. Condat", "A primal-dual splitting method for convex optimization involving Lipschitzian, "
        "proximable and linear composite terms", "J. Optim. Theory Appl.", "158", "460--479", "2013",
        "10.1007/s10957-012-0245-9",
    ),
    "harauz1986": (
        "article", "G. Harauz and M. van Heel", "Exact filters for general geometry three dimensional reconstruction",
        "Optik", "73", "146--156", "1986", "",
    ),
    "rosenthal2003": (
        "article", "P. B. Rosenthal and R. Henderson", "Optimal determination of particle orientation, absolute hand, "
        "and contrast loss in single-particle electron cryomicroscopy", "J. Mol. Biol.", "333", "721--745", "2003",
        "10.1016/j.jmb.2003.07.013",
    ),
    "quenouille1956": (
        "article", "M. H. Quenouille", "Notes on bias in estimation", "Biometrika", "43", "353--360", "1956",
        "10.1093/biomet/43.3-4.353",
    ),
    "manders1993": (
        "article", "E. M. M. Manders and F. J. Verbeek and J. A. Aten", "Measurement of co-localization of objects in "
        "dual-colour confocal images", "J. Microsc.", "169", "375--382", "1993", "10.1111/j.1365-2818.1993.tb03313.x",
    ),
    "efron1993": (
        "book", "B. Efron and R. J. Tibshirani", "An Introduction to the Bootstrap", "Chapman and Hall", "", "", "1993",
        "",
    ),
}  # fmt: skip


def paragraph(run: RunFolder) -> tuple[str, list[str]]:
    """Methods in the run's own numbers, plain text, and the keys of the works that it rests on."""
    job, alignment = run.job, run.alignment
    names = list(run.volumes)
    shape = " x ".join(map(str, run.inside.shape))
    said, keys = [], ["longley2018"]
    if alignment is not None:
        tilts = alignment.tilts_deg
        said.append(
            f"Maps of {_listed(names)} were recorded at {len(tilts)} tilts from {min(tilts):g} to {max(tilts):g} "
            f"degrees."
        )
        said.append(
            f"They were aligned by {alignment.method}; the tilt axis lies {alignment.axis_offset_pixels:+.2f} "
            f"pixels from "
            f"the frame's centre and is rotated by {alignment.rotation_deg:+.2f} degrees. Alignment, exposures and "
            "background are part of the model; the counts were not resampled."
            if not any("resample" in stage for stage in job.stages)
            else f"They were aligned by {alignment.method} and resampled once."
        )
        if alignment.left_out_deg:
            said.append(f"Left out were the tilts {', '.join(f'{t:g}' for t in alignment.left_out_deg)}.")
    for name, element in job.elements.items():
        s, p = element.settings, element.parameters
        if s.method in ("tgv", "tv", "none"):
            term = "the Poisson likelihood" if s.data_term == "poisson" else "weighted least squares"
            regulariser = {
                "tgv": "3D total generalised variation of second order", "tv": "3D total variation",
                "none": "no regulariser",
            }[s.method]  # fmt: skip
            keys += ["chambolle2011", "condat2013", *(["bredies2010"] if s.method == "tgv" else [])]
            text = f"{name} was reconstructed with {term} and {regulariser}"
            if element.coupling is not None and element.coupling.norm != "none":
                keys += ["bredies2014", "huber2019"]
                others = _listed([c for c in element.coupling.channels if c != name])
                norm = {"frobenius": "Frobenius", "nuclear": "nuclear"}[element.coupling.norm]
                text += f", together with {others} by the {norm} norm of their gradients in units of their strengths,"
            if p is not None and s.method != "none":
                a0 = f", a0 = {p.a0:.4g}" if s.method == "tgv" else ""
                how = f", chosen by {element.choice.split}" if element.choice is not None else ", as given"
                text += f" of strength a1 = {p.a1:.4g}{a0}{how}"
            gap = element.history[-1].gap if element.history else float("nan")
            text += f", by a primal-dual method, {element.iterations} iterations"
            text += f", to a certified relative duality gap of {gap:.1e}" if gap == gap else ""
            text += " of all of them together" if gap == gap and element.coupling is not None else ""
        else:
            text = f"{name} was reconstructed by {s.method.upper()}, {element.iterations} iterations"
        if s.projector == "astra":
            keys.append("vanaarle2016")
        said.append(f"{text}.")
    said.append(f"Volumes have {shape} voxels of {run.voxel_nm:g} nm; densities are {job.unit}.")
    if run.resolution:
        keys += ["harauz1986", "rosenthal2003"]
        found = ", ".join(f"{n} {period(c)} nm" for n, c in run.resolution.items())
        said.append(
            "The counts were divided by binomial thinning into independent halves, which were reconstructed likewise; "
            f"their Fourier shell correlation falls to {THRESHOLD:g} at: {found}."
        )
    if any(e.sure for pair in job.pairs.values() for e in pair.figures.values()):
        keys.append("quenouille1956")
        said.append(
            "Statistics of two elements were corrected by the jackknife of these halves, which gave their intervals."
        )
    if job.analysis.uncertainty:
        keys.append("efron1993")
        most = max(u.replicates for u in job.analysis.uncertainty.values())
        said.append(f"Repeatability was estimated from {most} replicates of a parametric bootstrap.")
    if len(names) > 1:
        keys.append("manders1993")
    said.append(f"All was done with recon {job.version}.")
    return " ".join(said), list(dict.fromkeys(keys))


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def bibtex(keys: list[str], version: str) -> str:
    """Entries of the works cited, and of this program."""
    out = []
    for key in keys:
        kind, authors, title, where, volume, pages, year, doi = REFERENCES[key]
        place = "publisher" if kind == "book" else "journal"
        fields = {"author": authors, "title": f"{{{title}}}", place: where, "volume": volume, "pages": pages,
                  "year": year, "doi": doi}  # fmt: skip
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        out.append(f"@{kind}{{{key},\n{lines}\n}}")
    out.append(f"@software{{recon,\n  title = {{recon: chemical electron tomography}},\n  version = {{{version}}}\n}}")
    return "\n\n".join(out) + "\n"


def methods_section(run: RunFolder) -> str:
    """Methods, references, and what repeats the run."""
    job = run.job
    text, keys = paragraph(run)
    steps = "".join(f"<li>{html.escape(s)}</li>" for s in job.stages)
    parts = [
        "<h3>Methods, for a paper</h3>",
        f"<pre id=methods tabindex=0>{html.escape(text)}</pre>",
        _save("methods", "methods.txt", "the paragraph"),
        "<h3>References</h3>",
        f"<pre id=references tabindex=0>{html.escape(bibtex(keys, job.version))}</pre>",
        _save("references", "references.bib", "BibTeX"),
        f"<h3>What was done, step by step</h3><ol>{steps}</ol>",
        "<h3>To repeat the run</h3>",
        f"<p class=note>recon {html.escape(job.version)} on {html.escape(job.device)}; "
        f"{sum(job.timings_s.values()):.1f} s. Densities are {html.escape(job.unit)}. "
        "All parameters are in job.json.</p>",
    ]
    versions = [[html.escape(n), html.escape(str(v or "not installed"))] for n, v in job.versions.items()]
    versions = [["recon", html.escape(job.version)], *versions]
    parts.append(table(["package", "version"], versions, "versions", "versions"))
    if job.inputs:
        rows = [[html.escape(n), html.escape(h)] for n, h in job.inputs.items()]
        parts.append(table(["input file", "SHA-256"], rows, "inputs", "input files and their hashes"))
    if job.job is not None:
        name = f"{Path(str(job.job.get('job_file', 'job.toml'))).stem}-resolved.toml"
        parts.append(
            "<details><summary>The job file, every parameter resolved</summary><p class=note>Its paths are relative to "
            "the folder of the job that was run; put it there.</p>"
            f"<pre id=job tabindex=0>{html.escape(job_toml(job.job))}</pre>"
            f"{_save('job', html.escape(name, quote=True), 'the job file')}</details>"
        )
    return "".join(parts)


def job_toml(resolved: Mapping[str, object]) -> str:
    """The job file that says what `recon.job.file.Job.resolved` holds; what is None there is left out, as in any job.

    Args:
        resolved: JSON values.
    """
    lines = ["# every parameter of a run of recon, as it was resolved"]
    tables = []
    given = resolved.get("input")
    of_spectra = isinstance(given, Mapping) and given.get("maps") is None
    for key, value in resolved.items():
        if key == "job_file" or value is None or (key == "maps" and not of_spectra):
            continue
        if isinstance(value, Mapping):
            if value.get("scheme") == "single-axis":
                continue  # there is nothing more to say of it
            if "scheme" in value and value["scheme"] != "dual-axis":
                value = {k: v for k, v in value.items() if k != "axis_deg"}
            if value.get("method") == "sirt" and value.get("max_iterations") == MAX_ITERATIONS:
                value = {k: v for k, v in value.items() if k != "max_iterations"}  # SIRT has a number of its own
            tables.append(f"\n[{_key(key)}]")
            tables += [f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None]
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _key(name: str) -> str:
    return (
        name
        if name.isascii() and name.replace("_", "").replace("-", "").isalnum()
        else json.dumps(name, ensure_ascii=False)
    )


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(v) for v in value if v is not None)}]"
    # TOML writes strings, true, false and numbers as JSON does, but for 1e400 and DEL, which no job holds
    return json.dumps(value, ensure_ascii=False)


def _save(source: str, name: str, what: str) -> str:
    return (
        f"<p class=keep><button type=button data-copy={source} data-name='{name}' aria-label='save {what}'>save {what}"
        "</button></p>"
    )
