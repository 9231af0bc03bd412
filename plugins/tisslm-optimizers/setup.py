"""The compiled kernels, one module for each optimizer; everything else is in pyproject.toml."""

from setuptools import setup

from tisslm.ops.building import kernel_extensions

NAMES = ("adafactor", "adam8bit", "lamb", "muon", "schedule_free")
FOLDER = "src/tisslm_optimizers/_kernels"

setup(
    ext_modules=kernel_extensions(
        {f"tisslm_optimizers._kernels.{name}": [f"{FOLDER}/{name}.pyx"] for name in NAMES}
    )
)
