"""Preprocessor: learns from a dataset once, and changes datasets and single batches alike ever after.

The same object serves training (`fit_transform` on a dataset) and serving (`transform_batch` on a request), which is its
purpose: what is learned travels with it, also through `serialize`.
"""

from __future__ import annotations

import abc
import base64
import pickle
import warnings
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

import cloudpickle
import pyarrow as pa

from raybook.data.batches import is_frame, to_block, to_numpy_batch, to_pandas

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset

MAGIC_CLOUDPICKLE = b"CPKL:"


REGISTRY: dict[str, type[SerializablePreprocessorBase]] = {}
"""Classes by the id under which they are serialized (`preprocessors.version_support`)."""


class UnknownPreprocessorError(ValueError):
    """A serialized preprocessor is of a class that has not been imported here."""

    def __init__(self, preprocessor_type: str) -> None:
        self.preprocessor_type = preprocessor_type
        super().__init__(
            f"Unknown preprocessor type: {preprocessor_type}. Import the module that defines it before deserializing."
        )


class PreprocessorNotFittedException(RuntimeError):
    """`transform` came before `fit`."""


class Preprocessor(abc.ABC):  # noqa: B024  # which of its methods a subclass has is its choice
    """Base of preprocessors. A subclass implements `_fit` (or sets ``_is_fittable = False``) and one or more of
    `_transform_pandas`, `_transform_numpy` and `_transform_arrow`, each from a batch to a batch of its format."""

    class FitStatus(str, Enum):
        """PARTIALLY_FITTED: only some parts of a chain are."""

        NOT_FITTABLE = "NOT_FITTABLE"
        NOT_FITTED = "NOT_FITTED"
        PARTIALLY_FITTED = "PARTIALLY_FITTED"
        FITTED = "FITTED"

    _is_fittable = True

    def __init__(self) -> None:
        self.stats_: dict[str, Any] = {}

    def fit_status(self) -> FitStatus:
        """Whether there is something to learn, and whether it has been learned."""
        if not self._is_fittable:
            return Preprocessor.FitStatus.NOT_FITTABLE
        learned = any(name.endswith("_") and not name.startswith("_") and value for name, value in vars(self).items())
        if getattr(self, "_fitted", False) or learned:
            return Preprocessor.FitStatus.FITTED
        return Preprocessor.FitStatus.NOT_FITTED

    def has_stats(self) -> bool:
        return bool(getattr(self, "stats_", None))

    def fit(self, ds: Dataset) -> Preprocessor:
        """Learn from the dataset, which runs; what was learned before is forgotten. Returns self."""
        status = self.fit_status()
        if status is Preprocessor.FitStatus.NOT_FITTABLE:
            return self
        if status is not Preprocessor.FitStatus.NOT_FITTED:
            warnings.warn(
                "`fit` has already been called on the preprocessor (or at least one contained preprocessors if this is a "
                "chain). All previously fitted state will be overwritten!",
                stacklevel=2,
            )
        self.stats_ = {}
        fitted = self._fit(ds)
        self._fitted = True
        return fitted

    def fit_transform(
        self,
        ds: Dataset,
        *,
        transform_num_cpus: float | None = None,
        transform_memory: float | None = None,
        transform_batch_size: int | None = None,
        transform_concurrency: int | None = None,
    ) -> Dataset:
        """`fit`, then `transform` with these options. The fit runs now, the transform when its result is used."""
        self.fit(ds)
        return self.transform(
            ds,
            batch_size=transform_batch_size,
            num_cpus=transform_num_cpus,
            memory=transform_memory,
            concurrency=transform_concurrency,
        )

    def transform(
        self,
        ds: Dataset,
        *,
        batch_size: int | None = None,
        num_cpus: float | None = None,
        memory: float | None = None,
        concurrency: int | None = None,
    ) -> Dataset:
        """The dataset, changed; lazily. PreprocessorNotFittedException before `fit`."""
        self._check_is_fitted("transform", ", or simply use fit_transform() to run both steps")
        return self._transform(ds, batch_size, num_cpus, memory, concurrency)

    def transform_batch(self, data: Any) -> Any:
        """A batch (data frame, table, dict of arrays), changed. Its format is the input's where the preprocessor can do
        that, else pandas or numpy. PreprocessorNotFittedException before `fit`."""
        self._check_is_fitted("transform_batch", ".")
        return self._transform_batch(data)

    def _check_is_fitted(self, what: str, more: str) -> None:
        if self.fit_status() in (Preprocessor.FitStatus.NOT_FITTED, Preprocessor.FitStatus.PARTIALLY_FITTED):
            raise PreprocessorNotFittedException(f"`fit` must be called before `{what}`{more}")

    def _fit(self, ds: Dataset) -> Preprocessor:
        """Learn, and return self."""
        raise NotImplementedError

    def _formats(self) -> list[str]:
        """The formats that this class has a transform for, best first."""
        own = type(self)
        found = [
            name
            for name in ("pyarrow", "numpy", "pandas")
            if getattr(own, _METHODS[name]) is not getattr(Preprocessor, _METHODS[name])
        ]
        preferred = self.preferred_batch_format()
        if len(found) > 1 and preferred in found:
            found.sort(key=lambda name: name != preferred)
        if not found:
            raise NotImplementedError(
                "None of `_transform_numpy`, `_transform_pandas` or `_transform_arrow` are implemented. At least one of "
                "these transform functions must be implemented for Preprocessor transforms."
            )
        return found

    def _transform(
        self,
        ds: Dataset,
        batch_size: int | None,
        num_cpus: float | None = None,
        memory: float | None = None,
        concurrency: int | None = None,
    ) -> Dataset:
        options = dict(self._get_transform_config())
        told = {"num_cpus": num_cpus, "memory": memory, "batch_size": batch_size, "concurrency": concurrency}
        options.update({name: value for name, value in told.items() if value is not None})
        kind = self._formats()[0]
        return ds.map_batches(getattr(self, _METHODS[kind]), batch_format=kind, zero_copy_batch=True, **options)

    def _get_transform_config(self) -> dict[str, Any]:
        """More arguments of `map_batches`."""
        return {}

    def _transform_batch(self, data: Any) -> Any:
        if is_frame(data):
            given = "pandas"
        elif isinstance(data, pa.Table):
            given = "pyarrow"
        elif isinstance(data, Mapping) or hasattr(data, "__array__"):
            given = "numpy"
        else:
            raise ValueError(
                "`transform_batch` is currently only implemented for Pandas DataFrames, pyarrow Tables, NumPy ndarray and "
                f"dictionary of ndarray. Got {type(data)}."
            )
        formats = self._formats()
        if given in formats:
            return getattr(self, _METHODS[given])(data)
        # A dict of arrays is Ray's name for what is not a table; it comes back as a data frame.
        kind = "pandas" if "pandas" in formats else formats[0]
        table = to_block(data)
        batch = {"pandas": to_pandas, "numpy": to_numpy_batch, "pyarrow": lambda one: one}[kind](table)
        changed = getattr(self, _METHODS[kind])(batch)
        return to_pandas(changed) if kind == "pyarrow" and given != "pyarrow" else changed

    def _transform_pandas(self, df: Any) -> Any:
        raise NotImplementedError

    def _transform_numpy(self, np_data: Any) -> Any:
        raise NotImplementedError

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        raise NotImplementedError

    @classmethod
    def preferred_batch_format(cls) -> str:
        """Of several transforms, the one that datasets use."""
        return "pandas"

    def get_input_columns(self) -> list[str]:
        return list(getattr(self, "columns", None) or [])

    def get_output_columns(self) -> list[str]:
        return list(getattr(self, "output_columns", None) or [])

    @classmethod
    def _derive_and_validate_output_columns(cls, columns: list[str], output_columns: list[str] | None) -> list[str]:
        """The given names, or the input's. ValueError when there are more or fewer."""
        if output_columns and len(columns) != len(output_columns):
            raise ValueError(
                "Invalid output_columns: Got len(columns) != len(output_columns). The length of columns and output_columns "
                "must match."
            )
        return output_columns or columns

    def serialize(self) -> str | bytes:
        """This preprocessor with what it has learned, as text. Made and read by pickle: read only what you trust."""
        return base64.b64encode(cloudpickle.dumps(self)).decode("ascii")

    @staticmethod
    def deserialize(serialized: str | bytes) -> Preprocessor:
        """What `serialize` made."""
        return pickle.loads(base64.b64decode(serialized))


_METHODS = {"pandas": "_transform_pandas", "numpy": "_transform_numpy", "pyarrow": "_transform_arrow"}


class SerializablePreprocessorBase(Preprocessor, abc.ABC):
    """Base of preprocessors that serialize as named fields and statistics with a version, so that a later version of the
    class can read them: give it an id with ``@SerializablePreprocessor(version=1, identifier="my.scaler")``."""

    MAGIC_CLOUDPICKLE = MAGIC_CLOUDPICKLE
    SERIALIZER_FORMAT_VERSION = 1
    _class_id = ""
    _version = 1

    class SerializationFormat(Enum):
        CLOUDPICKLE = "cloudpickle"
        PICKLE = "pickle"

    def _get_serializable_fields(self) -> dict[str, Any]:
        """Attributes to keep, besides the statistics."""
        return {name: value for name, value in vars(self).items() if name != "stats_"}

    def _set_serializable_fields(self, fields: dict[str, Any], version: int) -> None:
        """Take the attributes back. version: that of the class that wrote them."""
        vars(self).update(fields)

    def _get_stats(self) -> dict[str, Any]:
        return getattr(self, "stats_", {})

    def _set_stats(self, stats: dict[str, Any]) -> None:
        self.stats_ = stats

    @classmethod
    def get_preprocessor_class_id(cls) -> str:
        return cls._class_id

    @classmethod
    def set_preprocessor_class_id(cls, identifier: str) -> None:
        cls._class_id = identifier

    @classmethod
    def get_version(cls) -> int:
        return cls._version

    @classmethod
    def set_version(cls, version: int) -> None:
        cls._version = version

    def serialize(self) -> str | bytes:
        """This preprocessor with what it has learned, as bytes."""
        return MAGIC_CLOUDPICKLE + cloudpickle.dumps(
            {
                "type": self.get_preprocessor_class_id(),
                "version": self.get_version(),
                "fields": self._get_serializable_fields(),
                "stats": self._get_stats(),
                "serializer_format_version": self.SERIALIZER_FORMAT_VERSION,
            }
        )

    @staticmethod
    def deserialize(serialized: str | bytes) -> Preprocessor:
        """What `serialize` made, of this class or of the base. ValueError for anything else;
        UnknownPreprocessorError when its class has not been imported."""
        try:
            if isinstance(serialized, str) or not serialized.startswith(MAGIC_CLOUDPICKLE):
                return pickle.loads(base64.b64decode(serialized, validate=True))
            found = pickle.loads(serialized[len(MAGIC_CLOUDPICKLE) :])
            kind, fields, version = found["type"], found["fields"], found["version"]
        except Exception as error:
            raise ValueError(f"Failed to deserialize preprocessor. Data preview: {serialized[:50]!r}...") from error
        if kind not in REGISTRY:
            raise UnknownPreprocessorError(kind)
        cls = REGISTRY[kind]
        if found["serializer_format_version"] != cls.SERIALIZER_FORMAT_VERSION:
            raise ValueError(f"Unsupported serializer format version: {found['serializer_format_version']}")
        made = cls.__new__(cls)
        made._set_serializable_fields(fields, version)
        made._set_stats(found["stats"])
        return made

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._SHOWN)
        return f"{type(self).__name__}({shown})"

    _SHOWN: tuple[str, ...] = ("columns", "output_columns")
