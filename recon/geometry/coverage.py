"""What a tilt scheme covers of Fourier space, as a number and as a picture.

A parallel projection holds the object's Fourier transform on the plane through the origin across its ray (the central
slice theorem); a spatial frequency that lies far from all these planes is missing, as are those in the missing wedge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import GeometryError
from recon.geometry.parts import parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from recon.geometry.projections import Projections

DIRECTIONS = 4000  # of spatial frequencies that are asked about, spread evenly over a sphere


def distance(geometry: Projections, directions: ArrayLike) -> NDArray[np.float64]:
    """Angle in degrees between each direction ``(n, 3)``, ``(z, y, x)``, and the nearest plane that was measured."""
    k = np.asarray(directions, dtype=np.float64)
    k = k / np.linalg.norm(k, axis=1, keepdims=True)
    sine = np.full(len(k), 1.0)
    for ray in geometry.ray:
        np.minimum(sine, np.abs(k @ ray), out=sine)
    return np.asarray(np.degrees(np.arcsin(sine)))


def coverage(geometry: Projections, within_deg: float = 5.0) -> float:
    """Fraction of all directions in Fourier space within `within_deg` degrees of a plane that was measured.

    With half the tilt step, this is what the scheme covers but for its missing wedge, pyramid or cone.

    Raises:
        GeometryError: `within_deg` is not between 0 and 90.
    """
    if not 0 < within_deg < 90:
        raise GeometryError(f"within_deg is {within_deg:g}; it must lie between 0 and 90 degrees")
    return float(np.mean(distance(geometry, _even_directions()) <= within_deg))


def _even_directions() -> NDArray[np.float64]:
    """Points spread evenly over the unit sphere (Fibonacci's lattice), ``(n, 3)``."""
    n = np.arange(DIRECTIONS)
    z = 1 - (2 * n + 1) / DIRECTIONS
    angle, radius = np.pi * (1 + np.sqrt(5)) * n, np.sqrt(1 - z**2)
    return np.stack([z, radius * np.sin(angle), radius * np.cos(angle)], axis=1)


def plot(geometry: Projections) -> Figure:
    """See `recon.TiltGeometry.plot`."""
    # no pyplot: it would keep figures and choose a backend with a screen
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.9), layout="constrained")
    _draw_scheme(figure.add_subplot(1, 3, 1, projection="3d"), geometry)
    _draw_map(figure, figure.add_subplot(1, 3, 2), geometry)
    _draw_wedge(figure.add_subplot(1, 3, 3), geometry)
    return figure


def _draw_scheme(axes: Any, geometry: Projections) -> None:
    """Where the beam comes from, and the tilt axes, in the specimen's frame."""
    for number, part in enumerate(parts(geometry)):
        ray = geometry.ray[part.index]
        ray = ray * np.where(ray[:, :1] < 0, -1, 1)
        name = "general" if part.axis is None else f"about {part.axis}"
        axes.quiver(*ray[:, ::-1].T, *(-0.8 * ray[:, ::-1]).T, arrow_length_ratio=0.15, color=f"C{number}", label=name)
        if part.axis is not None:
            end = np.eye(3)["zyx".index(part.axis)][::-1]
            axes.plot(*np.stack([-end, end], axis=1), "--", color=f"C{number}", linewidth=1)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1), xlabel="x", ylabel="y", zlabel="z", title="beam directions")
    axes.set_box_aspect((1, 1, 1))
    axes.legend(fontsize=7, loc="upper left")


def _draw_map(figure: Figure, axes: Any, geometry: Projections) -> None:
    """The hemisphere of directions in Fourier space, seen along z, by their distance from what was measured."""
    x, y = np.meshgrid(np.linspace(-1, 1, 161), np.linspace(-1, 1, 161))
    inside = x**2 + y**2 <= 1
    k = np.stack([np.sqrt(1 - x[inside] ** 2 - y[inside] ** 2), y[inside], x[inside]], axis=1)
    away = np.full(x.shape, np.nan)
    away[inside] = distance(geometry, k)
    image = axes.imshow(away, extent=(-1, 1, -1, 1), origin="lower", vmin=0, vmax=30, cmap="magma_r")
    figure.colorbar(image, ax=axes, shrink=0.8, label="degrees to the nearest measured plane")
    axes.set(xlabel="$k_x / |k|$", ylabel="$k_y / |k|$", title=f"covered within 5 degrees: {coverage(geometry):.0%}")


def _draw_wedge(axes: Any, geometry: Projections) -> None:
    """The planes that were measured, cut by the plane of kx and kz: lines, and the wedge between them."""
    for number, part in enumerate(parts(geometry)):
        for ray in geometry.ray[part.index]:
            along = np.array([-ray[2], ray[0]])  # (z, x) in the plane, across the ray
            size = np.linalg.norm(along)
            if size > 1e-9:
                z, x = along / size
                axes.plot([-x, x], [-z, z], color=f"C{number}", linewidth=0.8)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="$k_x$", ylabel="$k_z$", title="measured at $k_y = 0$", aspect="equal")
