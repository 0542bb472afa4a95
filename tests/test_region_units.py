"""What a place holds does not depend on the unit of scaled maps."""

from __future__ import annotations

import numpy as np

import recon
from recon.analysis.places import Ellipsoid
from recon.simulate import simulate


def test_answers_do_not_depend_on_the_unit():
    recorded, truth = simulate(size=16, seed=0, drift=0, rotation_deg=0, axis_offset=0)
    places = {"core": Ellipsoid((7.5, 7.5, 6.0), (2, 2, 2))}
    found = []
    for unit in (1.0, 2.0**-40):
        maps = {n: recorded.counts[e].astype(float) * 0.5 * unit for e, n in enumerate(recorded.elements)}
        series = recon.read(maps, tilts=recorded.tilts_deg, pixel_size_nm=5.0, scaled=True)
        series = series.evolve(exposures=np.tile(truth.exposures, (2, 1)), isolated=True)
        volumes = recon.reconstruct(series, "tv", data_term="least-squares", strength=0.5 / unit, tolerance=0.05)
        answers = recon.composition(series, volumes, places, replicates=4, likelihood=False)
        found.append([(a.density / unit, a.fraction, a.low95, a.high95) for a in answers["core"].elements.values()])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert max(f[1] for f in found[0]) > 0.3
