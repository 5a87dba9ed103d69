"""Packages of snnkit. Metadata and the settings of pytest and mypy are in setup.cfg."""

from setuptools import find_packages, setup

# cuda/ stays at the top level and travels as snnkit._sources. It must never get an __init__.py: that would hide
# NVIDIA's own namespace package `cuda` whenever the repository root is on sys.path.
setup(
    packages=[*find_packages(include=["snnkit", "snnkit.*"]), "snnkit._sources"],
    package_dir={"snnkit._sources": "cuda"},
)
