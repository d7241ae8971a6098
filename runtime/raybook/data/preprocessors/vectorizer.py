"""Text into counts of its tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.data.columns import to_list
from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.tokenizer import tokenize
from raybook.data.preprocessors.utils import column_of, count_over, is_null, simple_hash, simple_split_tokenizer
from raybook.data.preprocessors.version_support import SerializablePreprocessor

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset

TokenFunction = Callable[[str], list[str]]


class _Vectorizer(SerializablePreprocessorBase):
    """Texts become vectors of counts; missing texts stay missing."""

    columns: list[str]
    output_columns: list[str]
    tokenization_fn: TokenFunction

    def _places(self, column: str) -> tuple[Callable[[str], int | None], int]:
        """Of a token, the place where it counts, or None; and how many places there are."""
        raise NotImplementedError

    def _transform_pandas(self, df: Any) -> Any:
        import pandas as pd

        out = df.copy(deep=False)
        for name, output in zip(self.columns, self.output_columns, strict=True):
            place, width = self._places(name)
            rows: list[list[int] | None] = []
            for tokens in tokenize(df[name], self.tokenization_fn):
                rows.append(None if not isinstance(tokens, list) and is_null(tokens) else _counts(tokens, place, width))
            out[output] = pd.Series(rows, index=df.index, dtype=object)
        return out

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self._SHOWN}
        shown["tokenization_fn"] = getattr(self.tokenization_fn, "__name__", self.tokenization_fn)
        parts = ", ".join(f"{k}={v}" if k == "tokenization_fn" else f"{k}={v!r}" for k, v in shown.items())
        return f"{type(self).__name__}({parts})"


def _counts(tokens: list[str], place: Callable[[str], int | None], width: int) -> list[int]:
    row = [0] * width
    for token in tokens:
        where = place(token)
        if where is not None:
            row[where] += 1
    return row


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.hashing_vectorizer")
class HashingVectorizer(_Vectorizer):
    """Tokens are counted at the place that their hash says, so nothing has to be learned; two tokens may share one."""

    _is_fittable = False
    _SHOWN = ("columns", "num_features", "tokenization_fn", "output_columns")

    def __init__(
        self,
        columns: list[str],
        num_features: int,
        tokenization_fn: TokenFunction | None = None,
        *,
        output_columns: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.columns, self.num_features = columns, num_features
        self.tokenization_fn = tokenization_fn or simple_split_tokenizer
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _places(self, column: str) -> tuple[Callable[[str], int | None], int]:
        known: dict[str, int] = {}

        def place(token: str) -> int:
            if token not in known:
                known[token] = simple_hash(token, self.num_features)
            return known[token]

        return place, self.num_features


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.count_vectorizer")
class CountVectorizer(_Vectorizer):
    """A place for each token that was seen, most frequent first. max_features: only so many of them."""

    _SHOWN = ("columns", "tokenization_fn", "max_features", "output_columns")

    def __init__(
        self,
        columns: list[str],
        tokenization_fn: TokenFunction | None = None,
        max_features: int | None = None,
        *,
        output_columns: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.columns, self.max_features = columns, max_features
        self.tokenization_fn = tokenization_fn or simple_split_tokenizer
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _fit(self, ds: Dataset) -> CountVectorizer:
        counts = count_over(ds, partial(_count_tokens, self.columns, self.tokenization_fn), self.columns)
        self.stats_ = {
            f"token_counts({name})": Counter(dict(counter.most_common(self.max_features)))
            for name, counter in counts.items()
        }
        return self

    def _places(self, column: str) -> tuple[Callable[[str], int | None], int]:
        counts = self.stats_[f"token_counts({column})"]
        places = {token: index for index, (token, _) in enumerate(counts.most_common())}
        return places.get, len(places)


def _count_tokens(columns: list[str], function: TokenFunction, table: pa.Table) -> dict[str, Counter]:
    return {
        name: Counter(
            chain.from_iterable(function(text) for text in to_list(column_of(table, name)) if not is_null(text))
        )
        for name in columns
    }
