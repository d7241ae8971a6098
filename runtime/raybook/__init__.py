"""raybook: Ray's programming model for people who work in notebooks."""

from raybook.base.version import __version__ as __version__
