"""The version of this raybook, where every layer can read it. The same number stands in pyproject.toml and in the Lab
extension's package.json; a test compares them."""

__version__ = "0.1.0"
