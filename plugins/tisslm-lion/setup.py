"""The compiled kernel; everything else is in pyproject.toml."""

from setuptools import setup

from tisslm.ops.building import kernel_extensions

setup(ext_modules=kernel_extensions({"tisslm_lion._update": ["src/tisslm_lion/_update.pyx"]}))
