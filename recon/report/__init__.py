"""``report.html``: one self-contained page made from the files of a finished run."""
