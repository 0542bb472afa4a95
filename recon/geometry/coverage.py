"""What a tilt scheme covers of Fourier space, as a number and as a picture.

A parallel projection holds the object's Fourier transform on the plane through the origin across its ray (the central
slice theorem); a spatial frequency that lies far from all these planes is missing, as are those in the missing wedge.
"""

from __future__ import annotations

import html
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


def sketch(geometry: Projections, text: str) -> str:
    """HTML for notebooks, without matplotlib: the beams seen along z, and the lines of kx and kz that they measure.

    Args:
        geometry: to show.
        text: of the line above.
    """
    colours = ("#1f6fb4", "#d1660a", "#2c8a3d", "#a33d8f")
    circle = "<circle r='1' fill='#fff' stroke='#888' stroke-width='.01'/>"
    dots, lines = [circle], [circle]
    for number, part in enumerate(parts(geometry)):
        colour = colours[number % len(colours)]
        for z, y, x in geometry.ray[part.index]:
            side = -1 if z < 0 else 1
            dots.append(f"<circle cx='{side * x:.4f}' cy='{side * y:.4f}' r='.035' fill='{colour}'/>")
            size = float(np.hypot(x, z))
            if size > 1e-9:  # across the beam
                kx, kz = z / size, -x / size
                ends = f"x1='{-kx:.4f}' y1='{-kz:.4f}' x2='{kx:.4f}' y2='{kz:.4f}'"
                lines.append(f"<line {ends} stroke='{colour}' stroke-width='.015'/>")
    frame = "width='180' height='180' viewBox='-1.06 -1.06 2.12 2.12' role='img'"
    shown = (
        ("beams seen along z: x right, y down", dots),
        ("measured of Fourier space at ky = 0: kx right, kz down", lines),
    )
    figures = "".join(
        f"<figure style='margin:0 8px 0 0;display:inline-block;width:190px'><svg {frame} aria-label='{said}'>"
        f"{''.join(marks)}</svg><figcaption>{said}</figcaption></figure>"
        for said, marks in shown
    )
    return f"<div><code>{html.escape(text)}</code></div><div>{figures}</div>"


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
    k = np.stack([np.sqrt(np.clip(1 - x[inside] ** 2 - y[inside] ** 2, 0, None)), y[inside], x[inside]], axis=1)
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
