"""Preprocessors one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.data.preprocessor import Preprocessor, SerializablePreprocessorBase
from raybook.data.preprocessors.version_support import SerializablePreprocessor

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.chain")
class Chain(SerializablePreprocessorBase):
    """Each learns from what those before it make, and changes it."""

    def __init__(self, *preprocessors: Preprocessor) -> None:
        super().__init__()
        self.preprocessors = preprocessors

    def fit_status(self) -> Preprocessor.FitStatus:
        Status = Preprocessor.FitStatus
        found = [one.fit_status() for one in self.preprocessors]
        fittable = [status for status in found if status is not Status.NOT_FITTABLE]
        if not fittable:
            return Status.NOT_FITTABLE
        if all(status is Status.FITTED for status in fittable):
            return Status.FITTED
        if any(status in (Status.FITTED, Status.PARTIALLY_FITTED) for status in fittable):
            return Status.PARTIALLY_FITTED
        return Status.NOT_FITTED

    def _fit(self, ds: Dataset) -> Chain:
        for one in self.preprocessors[:-1]:
            ds = one.fit_transform(ds)
        self.preprocessors[-1].fit(ds)
        return self

    def fit_transform(self, ds: Dataset, **transform_options: Any) -> Dataset:
        """Each part's `fit_transform` in turn."""
        for one in self.preprocessors:
            ds = one.fit_transform(ds, **transform_options)
        self._fitted = True
        return ds

    def _transform(
        self,
        ds: Dataset,
        batch_size: int | None,
        num_cpus: float | None = None,
        memory: float | None = None,
        concurrency: int | None = None,
    ) -> Dataset:
        for one in self.preprocessors:
            ds = one.transform(ds, batch_size=batch_size, num_cpus=num_cpus, memory=memory, concurrency=concurrency)
        return ds

    def _transform_batch(self, data: Any) -> Any:
        for one in self.preprocessors:
            data = one.transform_batch(data)
        return data

    def _formats(self) -> list[str]:
        return self.preprocessors[0]._formats()

    def get_input_columns(self) -> list[str]:
        """What is needed from outside, in order of first use."""
        needed: dict[str, None] = {}
        made: set[str] = set()
        for one in self.preprocessors:
            needed.update({name: None for name in one.get_input_columns() if name not in made})
            made.update(one.get_output_columns())
        return list(needed)

    def get_output_columns(self) -> list[str]:
        return list(dict.fromkeys(name for one in self.preprocessors for name in one.get_output_columns()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.preprocessors))})"
