"""The version, where neither the package nor an import of it is needed to know it."""

__version__ = "0.1.0"
