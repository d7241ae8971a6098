"""Preprocessors against scikit-learn and pandas, on datasets of several blocks and on single batches alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import preprocessing as sk
from sklearn.impute import SimpleImputer as SkImputer

from raybook import data
from raybook.data import preprocessors as pre
from raybook.data.preprocessor import (
    REGISTRY,
    Preprocessor,
    PreprocessorNotFittedException,
    SerializablePreprocessorBase,
)
from raybook.data.preprocessors.utils import simple_hash
from raybook.data.preprocessors.version_support import SerializablePreprocessor, UnknownPreprocessorError

pytestmark = pytest.mark.usefixtures("cluster")

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(5, 3, 60),
        "y": RNG.integers(-10, 10, 60),
        "f": RNG.random(60).astype(np.float32),
        "constant": np.full(60, 7.0),
        "word": RNG.choice(["red", "green", "blue"], 60),
    }
)


@pytest.fixture(scope="module")
def ds(cluster) -> data.Dataset:
    return data.from_pandas([FRAME.iloc[:25], FRAME.iloc[25:26], FRAME.iloc[26:]])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pre.StandardScaler, sk.StandardScaler()),
        (pre.MinMaxScaler, sk.MinMaxScaler()),
        (pre.MaxAbsScaler, sk.MaxAbsScaler()),
        (pre.RobustScaler, sk.RobustScaler()),
    ],
)
def test_scalers_are_scikit_learns(ds: data.Dataset, ours: type, theirs) -> None:
    columns = ["x", "y", "f"]
    scaler = ours(columns).fit(ds)
    expected = theirs.fit_transform(FRAME[columns].astype(float))
    found = scaler.transform(ds).to_pandas()
    np.testing.assert_allclose(found[columns].to_numpy(dtype=float), expected, rtol=1e-5, atol=1e-6)
    pd.testing.assert_series_equal(found["word"].astype(object), FRAME["word"].astype(object))
    # The same on a batch of each format, and the batch itself stays as it was.
    before = FRAME.copy()
    batch = scaler.transform_batch(FRAME)
    np.testing.assert_allclose(batch[columns].to_numpy(dtype=float), expected, rtol=1e-5, atol=1e-6)
    pd.testing.assert_frame_equal(FRAME, before)
    table = scaler.transform_batch(pa.Table.from_pandas(FRAME))
    assert isinstance(table, pa.Table) and table.schema.field("f").type == pa.float32()
    arrays = scaler.transform_batch({name: FRAME[name].to_numpy() for name in columns})
    np.testing.assert_allclose(arrays["x"], expected[:, 0], rtol=1e-6)


def test_constant_columns_are_not_divided_by_nothing(ds: data.Dataset) -> None:
    for scaler, value in (
        (pre.StandardScaler(["constant"]), 0),
        (pre.MinMaxScaler(["constant"]), 0),
        (pre.RobustScaler(["constant"]), 0),
        (pre.MaxAbsScaler(["constant"]), 1),
    ):
        assert set(scaler.fit_transform(ds).to_pandas()["constant"]) == {value}


def test_scalers_of_columns_without_values_give_nulls(cluster) -> None:
    empty = data.from_arrow(pa.table({"x": pa.nulls(3, pa.float64())}))
    for kind in (pre.StandardScaler, pre.MinMaxScaler, pre.MaxAbsScaler, pre.RobustScaler):
        assert kind(["x"]).fit_transform(empty).to_pandas()["x"].isna().all()


def test_output_columns_are_added_and_must_be_as_many(ds: data.Dataset) -> None:
    found = pre.StandardScaler(["x"], output_columns=["z"]).fit_transform(ds).to_pandas()
    assert list(found.columns) == [*FRAME.columns, "z"]
    with pytest.raises(ValueError, match="Invalid output_columns"):
        pre.StandardScaler(["x", "y"], output_columns=["z"])


def test_statistics_have_rays_names(ds: data.Dataset) -> None:
    scaler = pre.StandardScaler(["x"]).fit(ds)
    assert scaler.stats_ == pytest.approx({"mean(x)": FRAME["x"].mean(), "std(x)": FRAME["x"].std(ddof=0)})
    assert set(pre.MinMaxScaler(["x"]).fit(ds).stats_) == {"min(x)", "max(x)"}
    robust = pre.RobustScaler(["x"]).fit(ds)
    assert set(robust.stats_) == {"low_quantile(x)", "median(x)", "high_quantile(x)"}
    assert pre.OrdinalEncoder(["word"]).fit(ds).stats_ == {"unique_values(word)": {"blue": 0, "green": 1, "red": 2}}


def test_ordinal_and_label_encoders_are_scikit_learns(ds: data.Dataset) -> None:
    expected = sk.LabelEncoder().fit_transform(FRAME["word"])
    assert pre.OrdinalEncoder(["word"]).fit_transform(ds).to_pandas()["word"].tolist() == expected.tolist()
    label = pre.LabelEncoder("word").fit(ds)
    encoded = label.transform(ds)
    assert encoded.to_pandas()["word"].tolist() == expected.tolist()
    assert label.inverse_transform(encoded).to_pandas()["word"].tolist() == FRAME["word"].tolist()


def test_unseen_values_are_missing_or_all_zeros(ds: data.Dataset) -> None:
    new = pd.DataFrame({"word": ["red", "violet"]})
    ordinal = pre.OrdinalEncoder(["word"]).fit(ds)
    assert ordinal.transform(data.from_pandas(new)).to_pandas()["word"].tolist()[0] == 2
    assert ordinal.transform_batch(new)["word"].isna().tolist() == [False, True]
    hot = pre.OneHotEncoder(["word"]).fit(ds)
    assert [list(row) for row in hot.transform_batch(new)["word"]] == [[0, 0, 1], [0, 0, 0]]


def test_one_hot_vectors_are_scikit_learns_and_a_tensor(ds: data.Dataset) -> None:
    encoder = pre.OneHotEncoder(["word"], output_columns=["hot"]).fit(ds)
    batch = encoder.transform(ds).take_batch(60)
    expected = sk.OneHotEncoder(sparse_output=False).fit_transform(FRAME[["word"]])
    np.testing.assert_array_equal(batch["hot"], expected)
    assert batch["hot"].dtype == np.uint8


def test_only_the_most_frequent_categories_are_kept(cluster) -> None:
    words = data.from_items([{"w": word} for word in "aaabbc"])
    found = pre.OneHotEncoder(["w"], max_categories={"w": 2}).fit_transform(words).take_batch(6)["w"]
    assert found.tolist() == [[1, 0]] * 3 + [[0, 1]] * 2 + [[0, 0]]
    with pytest.raises(ValueError, match="not present in"):
        pre.OneHotEncoder(["w"], max_categories={"v": 2}).fit(words)


def test_lists_are_encoded_by_element_or_as_wholes(cluster) -> None:
    lists = data.from_items([{"g": ["comedy", "action"]}, {"g": ["drama"]}, {"g": ["comedy", "comedy"]}])
    by_element = pre.OrdinalEncoder(["g"]).fit_transform(lists).to_pandas()["g"]
    assert [list(row) for row in by_element] == [[1, 0], [2], [1, 1]]
    whole = pre.OrdinalEncoder(["g"], encode_lists=False).fit_transform(lists).to_pandas()["g"]
    assert whole.tolist() == [0, 2, 1]
    counts = pre.MultiHotEncoder(["g"]).fit_transform(lists).to_pandas()["g"]
    assert [list(row) for row in counts] == [[1, 1, 0], [0, 0, 1], [0, 2, 0]]


def test_encoders_refuse_nulls(cluster) -> None:
    holes = data.from_items([{"w": "a"}, {"w": None}])
    with pytest.raises(ValueError, match="Unable to fit column because it contains null values"):
        pre.OrdinalEncoder(["w"]).fit(holes)
    fitted = pre.OrdinalEncoder(["w"]).fit(data.from_items([{"w": "a"}]))
    for batch in (pd.DataFrame({"w": ["a", None]}), pa.table({"w": ["a", None]})):
        with pytest.raises(ValueError, match=r"Unable to transform columns \['w'\]"):
            fitted.transform_batch(batch)


def test_a_column_that_is_not_there_is_named(ds: data.Dataset) -> None:
    with pytest.raises(Exception, match="Column 'nope' does not exist"):
        pre.OrdinalEncoder(["nope"]).fit(ds)


def test_categories_are_pandas(ds: data.Dataset) -> None:
    categorizer = pre.Categorizer(["word"]).fit(ds)
    assert categorizer.stats_ == {"word": pd.CategoricalDtype(["blue", "green", "red"])}
    found = categorizer.transform(ds).to_pandas()["word"]
    assert found.astype(str).tolist() == FRAME["word"].tolist()
    given = pre.Categorizer(["word"], dtypes={"word": pd.CategoricalDtype(["red"])}).fit(ds)
    assert given.transform_batch(FRAME)["word"].isna().sum() == (FRAME["word"] != "red").sum()


def test_imputing_is_scikit_learns(cluster) -> None:
    frame = pd.DataFrame({"a": [1.0, None, 4.0, None], "w": ["x", "y", None, "y"]})
    holes = data.from_pandas([frame.iloc[:1], frame.iloc[1:]])
    mean = pre.SimpleImputer(["a"]).fit_transform(holes).to_pandas()["a"]
    np.testing.assert_allclose(mean, SkImputer().fit_transform(frame[["a"]])[:, 0])
    frequent = pre.SimpleImputer(["w"], strategy="most_frequent").fit(holes)
    assert frequent.stats_ == {"most_frequent(w)": "y"}
    assert frequent.transform(holes).to_pandas()["w"].tolist() == ["x", "y", "y", "y"]
    constant = pre.SimpleImputer(["a", "new"], strategy="constant", fill_value=0.0)
    assert constant.fit_status() == Preprocessor.FitStatus.NOT_FITTABLE
    assert constant.transform_batch(frame)[["a", "new"]].values.tolist() == [[1, 0], [0, 0], [4, 0], [0, 0]]
    with pytest.raises(ValueError, match="`fill_value` must be set"):
        pre.SimpleImputer(["a"], strategy="constant")
    with pytest.raises(ValueError, match="Strategy nope is not supported"):
        pre.SimpleImputer(["a"], strategy="nope")


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_normalizing_is_scikit_learns(ds: data.Dataset, norm: str) -> None:
    found = pre.Normalizer(["x", "y"], norm=norm).transform(ds).to_pandas()[["x", "y"]]
    np.testing.assert_allclose(found, sk.normalize(FRAME[["x", "y"]], norm=norm))


def test_power_transforms_are_scipys(ds: data.Dataset) -> None:
    stats = pytest.importorskip("scipy.stats")
    for power in (0, 0.5, 2, -1):
        found = pre.PowerTransformer(["x", "y"], power=power).transform_batch(FRAME)
        for column in ("x", "y"):
            np.testing.assert_allclose(found[column], stats.yeojohnson(FRAME[column].astype(float), power))
        positive = pd.DataFrame({"p": [0.5, 1.0, 3.0]})
        boxed = pre.PowerTransformer(["p"], power=power, method="box-cox").transform_batch(positive)["p"]
        np.testing.assert_allclose(boxed, stats.boxcox(positive["p"], power))
    with pytest.raises(ValueError, match="Method nope"):
        pre.PowerTransformer(["x"], power=1, method="nope")


def test_bins_are_pandas_cut(ds: data.Dataset) -> None:
    uniform = pre.UniformKBinsDiscretizer(["x", "y"], bins={"x": 4, "y": 3}).fit(ds)
    found = uniform.transform(ds).to_pandas()
    assert found["x"].tolist() == pd.cut(FRAME["x"], 4, labels=False).tolist()
    assert found["y"].tolist() == pd.cut(FRAME["y"], 3, labels=False).tolist()
    edges = [-100, 0, 100]
    custom = pre.CustomKBinsDiscretizer(
        ["y"], bins=edges, dtypes={"y": pd.CategoricalDtype(["low", "high"], ordered=True)}
    )
    assert custom.transform_batch(FRAME)["y"].tolist() == pd.cut(FRAME["y"], edges, labels=["low", "high"]).tolist()
    with pytest.raises(ValueError, match="must be present in it"):
        pre.CustomKBinsDiscretizer(["x", "y"], bins={"x": [0, 1]})
    with pytest.raises(TypeError, match="`bins` must be an integer"):
        pre.UniformKBinsDiscretizer(["x"], bins=1.5).fit(ds)


def test_columns_are_concatenated_in_order(ds: data.Dataset) -> None:
    batch = pre.Concatenator(["y", "x"], dtype=np.float32).transform(ds).take_batch(60)
    assert set(batch) == {"f", "constant", "word", "concat_out"}
    np.testing.assert_array_equal(batch["concat_out"], FRAME[["y", "x"]].to_numpy().astype(np.float32))
    as_frame = pre.Concatenator(["y", "x"], output_column_name="v").transform_batch(FRAME)
    np.testing.assert_array_equal(np.stack(as_frame["v"].to_numpy()), FRAME[["y", "x"]].to_numpy())
    with pytest.raises(ValueError, match="Missing columns"):
        pre.Concatenator(["x", "nope"], raise_if_missing=True).transform_batch(FRAME)


def test_vectors_are_flattened_into_the_concatenation(cluster) -> None:
    vectors = data.from_arrow(
        pa.table({"v": pa.FixedShapeTensorArray.from_numpy_ndarray(np.eye(3)), "s": [7.0, 8.0, 9.0]})
    )
    found = pre.Concatenator(["v", "s"], flatten=True).transform(vectors).take_batch(3)["concat_out"]
    np.testing.assert_array_equal(found, np.column_stack([np.eye(3), [7, 8, 9]]))


def test_text_is_tokenized_counted_and_hashed(cluster) -> None:
    frame = pd.DataFrame({"t": ["a b a", None, "c"]})
    texts = data.from_pandas(frame)
    tokens = pre.Tokenizer(["t"]).transform(texts).to_pandas()["t"]
    assert [None if row is None else list(row) for row in tokens] == [["a", "b", "a"], None, ["c"]]
    counter = pre.CountVectorizer(["t"], max_features=2).fit(texts)
    assert counter.stats_["token_counts(t)"] == {"a": 2, "b": 1}
    assert [None if row is None else list(row) for row in counter.transform(texts).to_pandas()["t"]] == [
        [2, 1],
        None,
        [0, 0],
    ]
    hashed = pre.HashingVectorizer(["t"], num_features=8).transform_batch(frame)["t"]
    assert hashed[0][simple_hash("a", 8)] >= 2 and sum(hashed[0]) == 3 and hashed[1] is None
    folded = pre.FeatureHasher(["x", "y"], 4, "h").transform_batch(pd.DataFrame({"x": [1, 2], "y": [10, 20]}))["h"]
    expected = np.zeros((2, 4))
    for name, values in {"x": [1, 2], "y": [10, 20]}.items():
        expected[:, simple_hash(name, 4)] += values
    np.testing.assert_array_equal(np.stack(folded.to_numpy()), expected)


def test_a_chain_fits_each_on_what_those_before_make(cluster) -> None:
    frame = pd.DataFrame({"a": [1.0, None, 3.0], "w": ["x", "y", "x"]})
    holes = data.from_pandas(frame)
    chain = pre.Chain(pre.SimpleImputer(["a"]), pre.StandardScaler(["a"]), pre.OrdinalEncoder(["w"]))
    assert chain.fit_status() == Preprocessor.FitStatus.NOT_FITTED
    found = chain.fit_transform(holes).to_pandas()
    np.testing.assert_allclose(found["a"], sk.StandardScaler().fit_transform([[1.0], [2.0], [3.0]])[:, 0])
    assert chain.fit_status() == Preprocessor.FitStatus.FITTED
    pd.testing.assert_frame_equal(chain.transform_batch(frame), found, check_dtype=False)
    assert repr(chain).startswith("Chain(SimpleImputer(columns=['a'], strategy='mean'")


def test_transform_before_fit_is_refused(ds: data.Dataset) -> None:
    scaler = pre.StandardScaler(["x"])
    for call in (lambda: scaler.transform(ds), lambda: scaler.transform_batch(FRAME)):
        with pytest.raises(PreprocessorNotFittedException, match="`fit` must be called before"):
            call()
    with pytest.warns(UserWarning, match="already been called"):
        scaler.fit(ds).fit(ds)
    with pytest.raises(ValueError, match="only implemented for"):
        scaler.transform_batch([1, 2])


def test_what_is_learned_travels(ds: data.Dataset) -> None:
    scaler = pre.StandardScaler(["x"]).fit(ds)
    data_ = scaler.serialize()
    assert data_.startswith(b"CPKL:")
    again = SerializablePreprocessorBase.deserialize(data_)
    assert type(again) is pre.StandardScaler and again.stats_ == scaler.stats_
    pd.testing.assert_frame_equal(again.transform_batch(FRAME), scaler.transform_batch(FRAME))
    with pytest.raises(ValueError, match="Failed to deserialize"):
        SerializablePreprocessorBase.deserialize(b"nonsense")

    @SerializablePreprocessor(version=3, identifier="tests.mine")
    class Mine(SerializablePreprocessorBase):
        _is_fittable = False

    stored = Mine().serialize()
    del REGISTRY["tests.mine"]
    with pytest.raises(UnknownPreprocessorError, match=r"tests\.mine"):
        SerializablePreprocessorBase.deserialize(stored)


def test_users_preprocessors_run_in_their_format(ds: data.Dataset) -> None:
    # Defined here, it travels by value: workers need not import this module, and scikit-learn with it.
    class Doubled(Preprocessor):
        _is_fittable = False

        def _transform_numpy(self, np_data: dict) -> dict:
            return {**np_data, "x": np_data["x"] * 2}

    found = Doubled().transform(ds).to_pandas()["x"]
    np.testing.assert_allclose(found, FRAME["x"] * 2)
    again = Preprocessor.deserialize(Doubled().serialize())
    np.testing.assert_allclose(again.transform_batch({"x": np.ones(2)})["x"], [2, 2])

    class Nothing(Preprocessor):
        _is_fittable = False

    with pytest.raises(NotImplementedError, match="At least one of these"):
        Nothing().transform(ds)


def test_torchvision_transforms_get_tensors(cluster) -> None:
    torch = pytest.importorskip("torch")
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    table = data.from_arrow(pa.table({"i": pa.FixedShapeTensorArray.from_numpy_ndarray(images)}))

    def flip(image):
        assert isinstance(image, torch.Tensor)
        return image.flip(0)

    found = pre.TorchVisionPreprocessor(["i"], flip, output_columns=["o"]).transform(table).take_batch(2)["o"]
    np.testing.assert_array_equal(found, images[:, ::-1])
