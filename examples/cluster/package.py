# ruff: noqa: F403, F405
"""Spack recipe: copy it to packages/py-chemtomo/ of a repository of your own, with the version that you serve."""

from spack.package import *


class PyChemtomo(PythonPackage):
    """Chemical electron tomography: from an EDS tilt series to one quantitative 3D volume per element."""

    license("GPL-3.0-or-later")
    version("main", branch="main")

    variant("cuda", default=False, description="Reconstruct on NVIDIA GPUs through CuPy")
    variant("mpi", default=False, description="One volume over several processes")

    depends_on("python@3.11:3.13", type=("build", "run"))
    depends_on("py-setuptools@77:", type="build")
    for name in (
        "py-click@8.1:", "py-h5py@3.11:", "py-matplotlib@3.9:", "py-mrcfile@1.5:", "py-numba@0.63:0.68", "py-numpy@2:",
        "py-pillow@10.3:", "py-psutil@6:", "py-pydantic@2.9:", "py-rich@13.7:", "py-rosettasciio@0.15:",
        "py-scikit-image@0.24:", "py-scipy@1.14:", "py-sparse@0.15:", "py-tifffile@2024.8:", "py-zarr@3:",
        "py-xraydb@4.5.6:", "astra-toolbox@2.5: +python",
    ):  # fmt: skip
        depends_on(name, type=("build", "run"))
    depends_on("py-cupy@13.3:", when="+cuda", type=("build", "run"))
    depends_on("py-mpi4py@4:", when="+mpi", type=("build", "run"))
