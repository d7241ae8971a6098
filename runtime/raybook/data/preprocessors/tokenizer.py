"""Text into tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.utils import set_columns, simple_split_tokenizer
from raybook.data.preprocessors.version_support import SerializablePreprocessor


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.tokenizer")
class Tokenizer(SerializablePreprocessorBase):
    """Each text becomes a list of tokens. tokenization_fn: from a text to a list; None: its parts between blanks. Missing
    texts stay missing."""

    _is_fittable = False

    def __init__(
        self,
        columns: list[str],
        tokenization_fn: Callable[[str], list[str]] | None = None,
        output_columns: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.columns, self.tokenization_fn = columns, tokenization_fn or simple_split_tokenizer
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _transform_pandas(self, df: Any) -> Any:
        pairs = zip(self.columns, self.output_columns, strict=True)
        return set_columns(df, {output: tokenize(df[name], self.tokenization_fn) for name, output in pairs})

    def __repr__(self) -> str:
        name = getattr(self.tokenization_fn, "__name__", self.tokenization_fn)
        return (
            f"{type(self).__name__}(columns={self.columns!r}, tokenization_fn={name}, "
            f"output_columns={self.output_columns!r})"
        )


def tokenize(texts: Any, function: Callable[[str], list[str]]) -> Any:
    """The series' texts as lists of tokens; missing ones stay missing."""
    return texts.astype(object).map(function, na_action="ignore")
