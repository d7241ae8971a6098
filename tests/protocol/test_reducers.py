"""torch tensors and Arrow data: out of band, equal, and without their parents."""

from __future__ import annotations

import numpy
import pytest

from raybook.protocol.serialization import SerializationContext, deserialize, private_copy, serialize

torch = pytest.importorskip("torch")
pyarrow = pytest.importorskip("pyarrow")

CONTEXT = SerializationContext()


def there_and_back(value):
    return deserialize(memoryview(serialize(value, CONTEXT).to_bytes()))


TENSORS = {
    "floats": torch.arange(5000.0),
    "half": torch.arange(7).to(torch.bfloat16),
    "matrix": torch.arange(12).reshape(3, 4),
    "transposed": torch.arange(12).reshape(3, 4).T,
    "scalar": torch.tensor(3.5),
    "empty": torch.empty(0, 3),
    "bools": torch.tensor([True, False]),
    "complex conjugate": torch.tensor([1 + 2j]).conj(),
    "negated view": torch.tensor([1 + 2j]).conj().imag,
    "needs a gradient": torch.ones(3, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.ones(2000), requires_grad=False),
    "sparse": torch.eye(3).to_sparse(),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_come_back_equal(name):
    tensor = TENSORS[name]

    back = there_and_back([tensor])[0]

    assert type(back) is type(tensor)
    assert back.dtype == tensor.dtype and back.shape == tensor.shape and back.requires_grad == tensor.requires_grad
    if tensor.layout is torch.sparse_coo:
        back, tensor = back.to_dense(), tensor.to_dense()
    assert torch.equal(back, tensor)


def test_dense_cpu_tensor_goes_out_of_band():
    serialized = serialize(TENSORS["floats"], CONTEXT)

    assert [len(buffer) for buffer in serialized.buffers] == [20_000]
    assert serialized.inband_bytes < 300


def test_tensor_is_a_copy_so_that_writing_in_place_harms_nobody():
    data = serialize(TENSORS["floats"], CONTEXT).to_bytes()

    first, second = deserialize(memoryview(data)), deserialize(memoryview(data))
    first.add_(1)

    assert second[0] == 0
    assert deserialize(memoryview(data))[0] == 0


def test_slice_of_a_tensor_does_not_take_its_parent_along():
    assert serialize(torch.zeros(1_000_000)[:10], CONTEXT).total_bytes < 1000


def test_same_tensor_twice_stays_one_tensor():
    tensor = torch.zeros(10)

    back = there_and_back({"encoder": tensor, "decoder": tensor})

    assert back["encoder"] is back["decoder"]


def test_module_with_tied_weights_keeps_them_tied_and_computes_the_same():
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
    module[2].weight = module[0].weight
    given = torch.ones(1, 8)

    back = there_and_back(module)

    assert torch.equal(back(given), module(given))
    assert back[2].weight is back[0].weight


def test_tensor_with_attributes_of_its_own_keeps_them():
    tensor = torch.zeros(3)
    tensor.label = "mine"

    assert there_and_back(tensor).label == "mine"


TABLE = pyarrow.table({"n": list(range(100_000)), "text": [f"row {n}" for n in range(100_000)]})

ARROW = {
    "table": TABLE,
    "slice of a table": TABLE.slice(50, 10),
    "table without rows": TABLE.slice(0, 0),
    "table of two chunks": pyarrow.concat_tables([TABLE.slice(0, 5), TABLE.slice(9, 5)]),
    "batch": TABLE.to_batches()[0].slice(3, 7),
    "integers": pyarrow.array([1, None, 3]),
    "strings": pyarrow.array(["a", None, "ccc"]).slice(1),
    "nested": pyarrow.array([{"a": [1, 2]}, None]),
    "dictionary": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
    "chunks": pyarrow.chunked_array([[1, 2], [3]]),
    "no chunks": pyarrow.chunked_array([], type=pyarrow.int64()),
    "wide": pyarrow.table({f"c{n}": list(range(n, n + 20)) for n in range(500)}),
    "large and small columns": pyarrow.table(
        {"n": list(range(20_000)), "flag": [True, None] * 10_000, "none": [None] * 20_000}
    ),
    "many chunks": pyarrow.chunked_array([list(range(20_000)), [], [1], list(range(9_000))]),
    "schema": TABLE.schema,
    "scalar": pyarrow.scalar(3),
}


@pytest.mark.parametrize("name", ARROW)
def test_arrow_data_comes_back_equal(name):
    value = ARROW[name]

    back = there_and_back([value])[0]

    assert type(back) is type(value)
    assert back.equals(value)


def test_table_metadata_is_kept():
    table = TABLE.slice(0, 3).replace_schema_metadata({"source": "test"})

    assert there_and_back(table).schema.metadata == {b"source": b"test"}


def test_slice_of_a_table_does_not_take_its_parent_along():
    assert TABLE.nbytes > 1_000_000
    assert serialize(TABLE.slice(50, 10), CONTEXT).total_bytes < 2000


def test_large_columns_are_laid_out_from_where_they_are():
    column = TABLE.column("n").chunk(0).buffers()[1]

    parts = serialize([TABLE, b"x" * 10], CONTEXT).parts()

    addresses = [numpy.frombuffer(part, numpy.uint8).ctypes.data for part in parts if len(part) == column.size]
    assert column.address in addresses


def test_value_of_several_tables_and_arrays_comes_back_equal():
    array = numpy.arange(10_000.0)

    back = there_and_back({"a": TABLE, "x": array, "b": TABLE.slice(7), "c": TABLE.slice(0, 3)})

    assert back["a"].equals(TABLE) and back["b"].equals(TABLE.slice(7)) and back["c"].equals(TABLE.slice(0, 3))
    assert (back["x"] == array).all()


def test_table_reads_the_arena_without_a_copy():
    data = serialize(TABLE, CONTEXT).to_bytes()
    start = numpy.frombuffer(data, numpy.uint8).ctypes.data

    column = deserialize(memoryview(data)).column("n").chunk(0)

    assert start <= column.buffers()[1].address < start + len(data)


def test_pandas_frame_of_arrow_strings_and_numbers_comes_back_equal():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": numpy.arange(1000.0), "s": pandas.Series(["a", "b"] * 500, dtype="string")})

    pandas.testing.assert_frame_equal(there_and_back(frame), frame)


def test_private_copy_may_be_written_to_and_shares_nothing_with_the_value():
    small, large = numpy.arange(6).reshape(2, 3), numpy.zeros((300, 7), order="F")
    for array in (small, large):
        array.flags.writeable = False
    value = {
        "small": small,
        "large": large,
        "words": numpy.array(["a", None], object),
        "when": numpy.zeros(900, "M8[s]"),
    }

    copied = private_copy(value, CONTEXT)

    for name, array in value.items():
        assert (copied[name] == array).all() and copied[name].dtype == array.dtype
        assert copied[name].flags.writeable and not numpy.shares_memory(copied[name], array)
    assert copied["large"].flags.f_contiguous
    copied["small"][0, 0] = 9
    assert small[0, 0] == 0 and private_copy(large, CONTEXT).flags.writeable
