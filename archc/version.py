"""The version of archc: read by the build, by `archc --version` and by the header of generated files."""

__version__ = "0.1.0"
