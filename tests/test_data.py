"""The data sets: what a batch holds, how pictures are made, how files are read and refused."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmvae_core import data
from mmvae_core.data.backgrounds import generator, invert, random_crops
from mmvae_core.data.dataset import MultimodalDataset
from mmvae_core.data.digits import SCENES, _originals, _photograph, _rendered, _shifted

TINY = {"train_size": 60, "test_size": 30}
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def same(a: MultimodalDataset, b: MultimodalDataset) -> bool:
    views = all(torch.equal(u, v) for u, v in zip(a.x, b.x, strict=True))
    return views and torch.equal(a.label, b.label) and a.names == b.names


def png(pixels: np.ndarray | bytes) -> bytes:
    """A file; of bytes, a picture of 40 by 40 pixels."""
    if isinstance(pixels, bytes):
        pixels = np.frombuffer(pixels, np.uint8).reshape(40, 40, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()


# ---------------------------------------------------------------- the data set and its batches


@pytest.fixture
def toy() -> MultimodalDataset:
    """Seven samples, two modalities of different shape, some of them absent."""
    draw = torch.Generator().manual_seed(1)
    return MultimodalDataset(
        x=(
            torch.randint(0, 256, (7, 3, 4, 4), dtype=torch.uint8, generator=draw),
            torch.randint(1, 256, (7, 1, 2, 2), dtype=torch.uint8, generator=draw),
        ),
        label=torch.arange(7) * 10,
        present=torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1], [1, 0], [1, 1], [0, 0]]).bool(),
    )


def test_a_batch_is_the_chosen_rows_as_floats_and_absent_views_are_zero(toy):
    rows = torch.tensor([4, 2, 0, 2])
    batch = toy.batch(rows)
    for m, view in enumerate(batch.x):
        assert view.dtype == torch.float32
        for position, row in enumerate(rows.tolist()):
            expected = toy.x[m][row].double() / 255 * toy.present[row, m]
            torch.testing.assert_close(view[position].double(), expected, atol=1e-7, rtol=0)
    assert batch.label.tolist() == [40, 20, 0, 20]
    assert torch.equal(batch.present, toy.present[rows])
    assert batch.x[1][0].abs().sum() == 0 and toy.x[1][4].min() > 0  # hidden, not changed


def test_white_is_exactly_one_and_black_zero():
    view = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    batch = MultimodalDataset(x=(view,)).batch(torch.arange(2))
    assert batch.x[0].flatten().tolist() == [0.0, 1.0] and batch.label is None


def test_batches_visit_every_sample_once_in_order(toy):
    batches = list(toy.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.cat([batch.label for batch in batches]).tolist() == toy.label.tolist()


def test_subsets_and_choices_of_modalities_keep_the_rows_together(toy):
    assert same(toy.subset(slice(2, 5)), toy.subset(torch.tensor([2, 3, 4])))
    chosen = toy.modalities(["m1"]).subset(torch.tensor([5, 3]))
    assert chosen.names == ("m1",) and chosen.label.tolist() == [50, 30]
    assert torch.equal(chosen.x[0], toy.x[1][[5, 3]])
    assert torch.equal(chosen.present, toy.present[[5, 3]][:, 1:])
    assert toy.modalities([1, 0]).names == ("m0", "m1")
    assert same(toy.to("cpu"), toy) and toy.to("meta").device.type == "meta"
    assert toy.shapes == ((3, 4, 4), (1, 2, 2)) and len(toy) == 7


def test_numbers_that_are_no_pictures_are_passed_on() -> None:
    vectors = torch.tensor([[-3.0, 500.0], [0.25, 1.0], [7.0, 8.0]])
    present = torch.tensor([[True, True], [True, True], [True, False]])
    data = MultimodalDataset(
        x=(torch.full((3, 1, 2, 2), 51, dtype=torch.uint8), vectors), present=present
    )
    batch = data.batch(torch.tensor([1, 0, 2]))
    assert torch.equal(batch.x[1], torch.tensor([[0.25, 1.0], [-3.0, 500.0], [0.0, 0.0]]))
    assert (batch.x[0] == 0.2).all() and torch.equal(data.x[1], vectors)


VIEW = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)


def spoilt(value: float) -> torch.Tensor:
    """Vectors, one of which holds ``value`` in row 2."""
    vectors = torch.randn(4, 3)
    vectors[2, 1] = value
    return vectors


def test_what_an_absent_view_holds_is_never_looked_at():
    present = torch.tensor([[True, True]] * 2 + [[True, False]] + [[True, True]])
    for value in (float("nan"), float("inf")):
        data = MultimodalDataset(x=(VIEW, spoilt(value)), present=present)
        assert data.batch(torch.arange(4)).x[1][2].tolist() == [0, 0, 0]


def test_arrays_and_lists_make_the_same_data_as_tensors():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (4, 1, 2, 2), dtype=np.uint8)
    vector = rng.normal(size=(4, 3)).astype(np.float32)
    picture.flags.writeable = False  # as a memory map is
    mask = np.array([[True, True], [True, False], [False, True], [True, True]])
    data = MultimodalDataset(x=[picture, vector], label=[3, 0, 1, 0], present=mask)
    same = MultimodalDataset(
        x=(torch.tensor(picture), torch.tensor(vector)), label=torch.tensor([3, 0, 1, 0]),
        present=torch.tensor(mask),
    )  # fmt: skip
    one, other = (d.batch(torch.arange(4)) for d in (data, same))
    assert all(torch.equal(a, b) for a, b in zip(one.x, other.x, strict=True))
    assert torch.equal(one.present, other.present) and torch.equal(one.label, other.label)
    assert data.label.dtype == torch.int64
    int32 = MultimodalDataset(x=(picture,), label=np.array([1, 2, 3, 4], dtype=np.int32))
    assert int32.label.tolist() == [1, 2, 3, 4] and int32.label.dtype == torch.int64


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"x": ()}, "at least one modality"),
        ({"x": (VIEW.double(),)}, r"m0 must be uint8 .* got torch.float64 of .*\. x\.float\(\)"),
        (
            {"x": (VIEW[:, 0, 0],)},
            r"\[N, C, H, W\]\) .* got torch.uint8 of shape \[4, 2\]",
        ),
        ({"x": (VIEW, VIEW[:3])}, r"m1 must have shape \[4, ...\].* got \[3, 1, 2, 2\]"),
        ({"x": (VIEW[:0],)}, r"shape \[N > 0, ...\]"),
        ({"x": (VIEW, VIEW), "names": ("a", "a")}, "2 distinct names"),
        ({"x": (VIEW,), "present": torch.ones(4, 2).bool()}, r"present .* shape \[4, 1\]"),
        ({"x": (VIEW,), "present": torch.ones(4, 1)}, "bool tensor .* got torch.float32"),
        ({"x": (VIEW,), "label": torch.arange(3)}, r"4 whole numbers.* got torch.int64 .* \[3\]"),
        ({"x": (VIEW,), "label": torch.zeros(4)}, "whole numbers.* got torch.float32"),
        ({"x": (VIEW,), "label": list("aabb")}, "whole numbers.* got <U1 .* numbers names"),
        ({"x": (VIEW,), "label": [0, 1, -1, 2]}, "counted from 0; got -1 in row 2"),
        ({"x": VIEW}, r"tuple .* got a Tensor of shape \[4, 1, 2, 2\]. Write x=\(view,\)"),
        ({"x": VIEW.numpy()}, "tuple .* got a ndarray"),
        ({"x": {"a": VIEW}}, "tuple .* got a dict"),
        ({"x": ([1, 2],)}, r"x\[0\] must be a tensor or an array of numbers; got \[1, 2\]"),
        ({"x": (np.array([["a"]] * 4),)}, r"x\[0\] must be a tensor or an array of numbers"),
        ({"x": (VIEW, VIEW), "names": "ab"}, "tuple .* got the text 'ab'"),
        ({"x": (VIEW,), "names": ("a+b",)}, r"without \+ .* got 'a\+b'"),
        ({"x": (VIEW,), "names": ("../a",)}, "names of subsets and files"),
        ({"x": (VIEW,), "names": ("..",)}, "names of subsets and files"),
        ({"x": (VIEW,), "names": ("",)}, "names of subsets and files"),
        ({"x": (VIEW,), "names": ("prior",)}, "none of .'prior', 'self'.; got 'prior'"),
        ({"x": (VIEW,), "names": (3,)}, "must be a text"),
        ({"x": (spoilt(float("nan")),)}, "finite numbers; got nan in row 2, and 1 rows"),
        ({"x": (spoilt(float("-inf")),), "names": ("sound",)}, "sound .* got -inf in row 2"),
        ({"x": (VIEW, 255 * VIEW.float().fill_(1))}, r"m1 .* \[0, 1\] .*got 255 in row 0, and 4"),
        ({"x": (VIEW, VIEW.to("meta"))}, r"one device; got \['cpu', 'meta'\].* \.to\(device\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(as_user, parts, message):
    with pytest.raises(ValueError, match=message):
        MultimodalDataset(**parts)


def test_bad_requests_to_a_data_set_are_refused(toy):
    with pytest.raises(ValueError, match=r"vector of whole numbers .* got torch.bool"):
        toy.batch(torch.ones(7).bool())
    with pytest.raises(ValueError, match=r"got torch.int64 with shape"):
        toy.subset(torch.zeros(2, 2).long())
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        toy.batches(0)
    with pytest.raises(ValueError, match="got 'm7'"):
        toy.modalities(["m7"])


def test_a_data_set_describes_itself_in_one_line(toy):
    assert repr(toy) == "MultimodalDataset('data', 7 samples, m0 [3, 4, 4], m1 [1, 2, 2])"


# ---------------------------------------------------------------- the construction


def test_inversion_follows_its_law_pixel_by_pixel():
    draw = torch.Generator().manual_seed(2)
    background = torch.randint(0, 256, (3, 3, 4, 5), dtype=torch.uint8, generator=draw)
    soft = torch.rand(3, 4, 5, generator=draw)
    for digit in (soft, soft > 0.5):
        made = invert(background, digit)
        for n, c, y, x in np.ndindex(3, 3, 4, 5):
            b, d = background[n, c, y, x].item() / 255, float(digit[n, y, x])
            assert made[n, c, y, x].item() == pytest.approx(
                255 * ((1 - d) * b + d * (1 - b)), abs=0.51 if digit is soft else 1e-9
            )
    assert torch.equal(invert(invert(background, soft > 0.5), soft > 0.5), background)


def test_crops_are_windows_of_the_photograph_from_corner_to_corner():
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(12), indexing="ij")
    photograph = torch.stack([rows, columns]).to(torch.uint8)  # every pixel names its place
    crops = random_crops(photograph, 4, 500, generator(0))
    corners = set()
    for crop in crops:
        top, left = crop[:, 0, 0].tolist()
        assert torch.equal(crop, photograph[:, top : top + 4, left : left + 4])
        corners.add((top, left))
    assert len(corners) == 6 * 9  # all; 500 draws miss one with chance 0.005
    with pytest.raises(ValueError, match=r"at least 10 x 10 pixels .* got 9 x 12"):
        random_crops(photograph, 10, 1, generator(0))


def test_streams_of_one_seed_differ_even_by_a_trailing_zero():
    draws = {generator(3, *s).random() for s in [(), (0,), (0, 0), (1,), (1, 0), (0, 1)]}
    assert len(draws) == 6
    with pytest.raises(ValueError, match="seed must be a whole number, at least 0; got -1"):
        generator(-1)


# ---------------------------------------------------------------- the embedded digits


@pytest.fixture(scope="module")
def small_digits() -> tuple[MultimodalDataset, MultimodalDataset]:
    # At 20 pixels all originals differ in black and white, so a picture tells its writer.
    return data.digits(8, image_size=20, train_size=600, test_size=400, max_shift=0)


@functools.cache
def patterns(image_size: int) -> dict[bytes, int]:
    """Every original's black-and-white picture, as bytes, with its number."""
    ink, _ = _originals()
    hard = _rendered(ink, image_size) > 0.5
    found = {picture.numpy().tobytes(): n for n, picture in enumerate(hard)}
    assert len(found) == len(ink)
    return found


def writers(part: MultimodalDataset) -> Tensor:
    """Which original each view shows ``[N, M]``: where a channel has crossed grey is digit."""
    columns = []
    for view, scene in zip(part.x, SCENES, strict=False):
        digit = (view[:, 0] > 127) != (scene.red[0] > 0.5)
        known = patterns(view.shape[-1])
        columns.append(torch.tensor([known[picture.numpy().tobytes()] for picture in digit]))
    return torch.stack(columns, dim=1)


def test_every_view_shows_the_labelled_digit_by_another_hand(small_digits):
    _, classes = _originals()
    for part in small_digits:
        who = writers(part)
        assert torch.equal(classes[who], part.label[:, None].expand(-1, 8))
        assert all(len(set(row)) == 8 for row in who.tolist())


def test_no_handwriting_of_the_test_set_is_seen_in_training(small_digits):
    train, test = (set(writers(part).flatten().tolist()) for part in small_digits)
    assert not train & test
    assert len(test) == 359  # all of them come up in 400 samples of eight


def test_digits_are_made_by_their_seed_alone():
    first, again, other = (data.digits(seed=seed, **TINY) for seed in (4, 4, 5))
    for part in range(2):
        assert same(first[part], again[part])
        assert not any(torch.equal(a, b) for a, b in zip(first[part].x, other[part].x, strict=True))


def test_the_first_modalities_do_not_depend_on_how_many_there_are():
    for two, five in zip(
        data.digits(modalities=2, **TINY), data.digits(modalities=5, **TINY), strict=True
    ):
        assert same(two, five.modalities(["m0", "m1"]))


def test_classes_are_balanced_and_sizes_as_asked(small_digits):
    assert [len(part) for part in small_digits] == [600, 400]
    assert all(part.label.bincount().tolist() == [len(part) // 10] * 10 for part in small_digits)
    train, _ = data.digits(modalities=2, image_size=20, train_size=13, test_size=1)
    assert train.shapes == ((3, 20, 20),) * 2 and train.label.bincount(minlength=10).max() == 2


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.picture)
def test_no_channel_of_a_scene_comes_near_grey(scene):
    photo = _photograph(scene, 16).double() / 255
    assert photo.shape[0] == 3 and min(photo.shape[1:]) == 80  # five crops of 16
    for channel in photo:
        assert (channel < 0.5).all() or (channel > 0.5).all()
        assert (2 * channel - 1).abs().min() >= 0.2 - 1 / 255  # between background and digit
        assert channel.std() > 0.02  # it is still a photograph


def test_scenes_are_the_eight_corners_of_the_colour_cube():
    corners = {(s.red[0] > 0.5, s.green[0] > 0.5, s.blue[0] > 0.5) for s in SCENES}
    assert len(corners) == len(SCENES) == 8


def test_shifts_move_a_digit_whole_by_at_most_the_given_pixels():
    mask = torch.zeros(300, 7, 7)
    mask[:, 3, 3], mask[:, 3, 4] = 1.0, 0.5
    moved = _shifted(mask, 1, generator(0))
    places = set()
    for picture in moved:
        y, x = (picture == 1).nonzero()[0].tolist()
        assert picture[y, x + 1] == 0.5 and picture.sum() == 1.5
        places.add((y - 3, x - 3))
    assert places == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert torch.equal(_shifted(mask, 0, generator(0)), mask)


def test_shifts_are_private_to_a_modality_and_to_training():
    """Nearly all originals fill their height, so the first row with ink tells the shift."""
    train, test = data.digits(modalities=2, image_size=20, train_size=400, test_size=100)
    tops = {}
    for part in (train, test):
        for view, scene in zip(part.x, SCENES, strict=False):
            ink = ((view[:, 0] > 127) != (scene.red[0] > 0.5)).any(dim=2)
            tops[part.name, len(tops)] = ink.int().argmax(dim=1)
    first, second, *held_out = tops.values()
    assert first.unique().tolist() == second.unique().tolist() == [0, 1, 2]
    share = (first == second).double().mean()
    assert abs(share - 1 / 3) < 0.1  # standard error 0.024
    assert all((top == 1).double().mean() > 0.95 for top in held_out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": 1}, "from 2 to 8, one background each; got 1"),
        ({"modalities": 9}, "from 2 to 8, one background each; got 9"),
        ({"modalities": True}, "whole number.* got True"),
        ({"image_size": 9}, "image_size must be at least 10.* got 9"),
        ({"train_size": 0}, "train_size must be a whole number, at least 1; got 0"),
        ({"test_size": -1}, "test_size must be a whole number, at least 1; got -1"),
        ({"max_shift": 4}, r"max_shift must lie in 0\.\.3 .* got 4"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
    ],
)
def test_digits_refuse_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        data.digits(**options)


# ---------------------------------------------------------------- MNIST


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Fifty training and thirty test pictures, all different, with greys about the threshold."""
    rng = np.random.default_rng(0)
    made = {}
    for split, count in (("train", 50), ("t10k", 30)):
        made[f"{split}-images-idx3-ubyte"] = rng.choice([0, 128, 129, 255], (count, 28, 28))
        made[f"{split}-labels-idx1-ubyte"] = rng.permutation(count) % 10
    return made


@pytest.fixture(scope="module")
def origin(arrays, tmp_path_factory) -> Path:
    """A folder with the four files, compressed, as the mirror has them."""
    folder = tmp_path_factory.mktemp("mirror")
    for name, array in arrays.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return folder


def checksums(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: hashlib.md5(idx(array)).hexdigest() for name, array in arrays.items()}


@pytest.fixture(scope="module")
def source(arrays) -> data.IdxSource:
    return data.IdxSource(url="http://nowhere.invalid", md5=checksums(arrays))


@pytest.fixture
def served(monkeypatch) -> Iterator[Callable[[Path], str]]:
    """Serve folders on this machine; gives their address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    def serve(folder: Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("compressed", [True, False])
def test_mnist_is_read_plain_or_compressed(arrays, source, tmp_path, folder, compressed):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        path = tmp_path / folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    parts = data.mnist(tmp_path, source=source)
    for (images, label), split in zip(parts, ("train", "t10k"), strict=True):
        assert np.array_equal(images, arrays[f"{split}-images-idx3-ubyte"])
        assert np.array_equal(label, arrays[f"{split}-labels-idx1-ubyte"])
        assert images.dtype == torch.uint8 and label.dtype == torch.int64


GOOD = idx(np.arange(12).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG" + GOOD, r"begin with the bytes 0, 0, 8 .* got \[137, 80, 78, 71\]"),
        (b"\0\0\x0d" + GOOD[3:], r"got \[0, 0, 13, 2\]"),
        (b"", r"got \[\]"),
        (GOOD[:-1], r"24 bytes for an array of shape \[3, 4\]; got 23.* fetch it again"),
        (GOOD[:6], "cut short or damaged .the sizes of its dimensions"),
        (GOOD + b"\0", "24 bytes .* got more"),
        (GOOD[:4] + b"\xff" * 8, r"at most \d+ bytes are read"),
        (gzip.compress(GOOD)[:-9], "cut short or damaged"),
        (gzip.compress(GOOD)[:12] + b"garbage" * 9, "begin with the bytes|cut short"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(GOOD)
    assert data.read_idx(path).tolist() == np.arange(12).reshape(3, 4).tolist()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.read_idx(path)


def test_an_array_without_rows_keeps_its_shape(tmp_path):
    (tmp_path / "file").write_bytes(idx(np.zeros((0, 3, 4))))
    assert data.read_idx(tmp_path / "file").shape == (0, 3, 4)


def test_mnist_with_another_content_is_refused(arrays, origin, source):
    md5 = {**source.md5, FILES[1]: "0" * 32}
    with pytest.raises(ValueError, match=f"{FILES[1]}.* must have the MD5 0000.* delete it"):
        data.mnist(origin, source=replace(source, md5=md5))


def test_mnist_with_pictures_and_labels_of_different_number_is_refused(arrays, tmp_path):
    arrays = {**arrays, FILES[1]: np.arange(49) % 10}
    for name, array in arrays.items():
        (tmp_path / name).write_bytes(idx(array))
    with pytest.raises(ValueError, match=r"N labels; got shapes \[50, 28, 28\] and \[49\]"):
        data.mnist(tmp_path, source=data.IdxSource(url="", md5=checksums(arrays)))


def test_a_missing_root_or_file_says_how_to_get_the_data(monkeypatch, tmp_path, origin, source):
    monkeypatch.delenv("MMVAE_DATA", raising=False)
    for load in (data.mnist, data.polymnist):
        with pytest.raises(ValueError, match=r"root=FOLDER or set .* MMVAE_DATA.*download=True"):
            load()
    with pytest.raises(FileNotFoundError, match=r"train-images.*download=True to fetch it"):
        data.mnist(tmp_path)
    monkeypatch.setenv("MMVAE_DATA", str(origin))
    assert len(data.mnist(source=source)[1][1]) == 30


def test_mnist_is_downloaded_once_and_only_on_request(arrays, origin, source, served, tmp_path):
    here = replace(source, url=served(origin))
    with pytest.raises(FileNotFoundError):
        data.mnist(tmp_path, source=here)
    (images, _), _ = data.mnist(tmp_path, download=True, source=here)
    assert np.array_equal(images, arrays[FILES[0]])
    assert sorted(p.name for p in (tmp_path / "mnist").iterdir()) == sorted(
        f"{name}.gz" for name in FILES
    )
    offline = replace(source, url="http://nowhere.invalid")
    assert torch.equal(data.mnist(tmp_path, download=True, source=offline)[0][0], images)


def test_a_wrong_download_is_refused_and_not_kept(origin, source, served, tmp_path):
    md5 = {**source.md5, FILES[0]: "0" * 32}
    here = replace(source, url=served(origin), md5=md5)
    with pytest.raises(ValueError, match="must have the MD5 0000") as caught:
        data.mnist(tmp_path, download=True, source=here)
    assert "by hand and save it as" in caught.value.__notes__[0]
    assert list((tmp_path / "mnist").iterdir()) == []
    with pytest.raises(OSError, match="404"):
        data.mnist(tmp_path, download=True, source=replace(here, url=here.url + "no/"))


# ---------------------------------------------------------------- PolyMNIST, made


COLOURS = ((10, 200, 60), (250, 30, 90), (0, 255, 128))


@pytest.fixture
def root(origin, tmp_path) -> Path:
    """A data root with the four files and three photographs of one colour each."""
    folder = tmp_path / "root"
    (folder / "backgrounds").mkdir(parents=True)
    for path in origin.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for m in (2, 0, 1):  # made in another order than their names have
        Image.new("RGB", (40, 30), COLOURS[m]).save(folder / "backgrounds" / f"photo{m}.png")
    (folder / "backgrounds" / "notes.txt").write_text("no photograph")
    return folder


@pytest.fixture
def make(root, source) -> Callable:
    return functools.partial(data.polymnist, root, modalities=3, mnist_source=source)


def test_made_polymnist_uses_every_original_once_a_modality_and_inverts_it(make, arrays):
    """On a background of one colour the digit can be read off again, exactly."""
    for part, split in zip(make(), ("train", "t10k"), strict=True):
        images, classes = (
            arrays[f"{split}-{kind}-ubyte"] for kind in ("images-idx3", "labels-idx1")
        )
        number = {(image > 128).tobytes(): n for n, image in enumerate(images)}
        orders = []
        for view, colour in zip(part.x, COLOURS, strict=True):
            background = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
            digit = view[:, 1] != background[1]
            for picture, mask in zip(view, digit, strict=True):
                assert torch.equal(picture, torch.where(mask, 255 - background, background))
            order = [number[mask.numpy().tobytes()] for mask in digit]
            assert sorted(order) == list(range(len(images)))
            assert classes[order].tolist() == part.label.tolist()
            orders.append(tuple(order))
        assert len(set(orders)) == 3  # every modality in another handwriting


def test_made_polymnist_crops_its_photograph_at_random(make, root):
    rows, columns = np.mgrid[0:30, 0:40]
    pixels = np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(root / "backgrounds" / "photo1.png")
    train, _ = make()
    places = set()
    for picture in train.x[1].numpy().astype(int):
        digit = picture[2] != 7
        plain = np.where(digit, 255 - picture, picture)
        top, left = plain[:2, 0, 0]
        assert np.array_equal(
            plain, pixels[top : top + 28, left : left + 28].transpose(2, 0, 1).astype(int)
        )
        places.add((top, left))
    assert len(places) > 15  # of 3 x 13


def test_made_polymnist_depends_on_its_seed_and_not_on_how_many_modalities(make):
    first, other = make(cache="a")[0], make(seed=1)[0]
    assert same(make(cache="b")[0], first)
    assert not any(torch.equal(a, b) for a, b in zip(first.x, other.x, strict=True))
    assert same(make(modalities=2, cache="c")[0], first.modalities([0, 1]))


def test_smaller_polymnist_is_the_mean_of_blocks_of_random_rows(make):
    whole, few = make()[0], make(train_size=5, image_size=7)[0]
    assert len(few) == 5 and few.shapes == ((3, 7, 7),) * 3
    blocks = whole.x[0].double().numpy().reshape(len(whole), 3, 7, 4, 7, 4).mean((3, 5)).round()
    rows = [int(np.abs(blocks - picture.numpy()).max((1, 2, 3)).argmin()) for picture in few.x[0]]
    assert len(set(rows)) == 5 and rows != [0, 1, 2, 3, 4]
    assert np.array_equal(blocks[rows], few.x[0].numpy())
    assert few.label.tolist() == whole.label[rows].tolist()
    assert same(
        make(train_size=5)[0].modalities([1]), whole.subset(torch.tensor(rows)).modalities([1])
    )


def test_a_noisy_copy_replaces_its_share_of_pixels_and_nothing_else():
    for noise in (0.0, 0.25, 1.0):
        train, _ = data.load("noisy_copy", noise=noise, train_size=200, test_size=20)
        clean = data.digits(2, train_size=200, test_size=20)[0].modalities(["m1"])
        assert torch.equal(train.x[1], clean.x[0]) and torch.equal(train.label, clean.label)
        replaced = (train.x[0] != train.x[1]).any(dim=1)  # all channels of a pixel, or none
        # A replaced pixel has its old colour by chance once in 16 million times.
        assert abs(replaced.float().mean().item() - noise) < 4 * (0.25 / replaced.numel()) ** 0.5
    random = train.x[0].float()
    assert abs(random.mean() - 127.5) < 1 and abs(random.std() - 256 / 12**0.5) < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": 1.5}, "share of the pixels, in .0, 1.; got 1.5"),
        ({"of": "cifar"}, "'digits', 'polymnist'.; got 'cifar'"),
        ({"modalities": 3}, "2 modalities; got modalities=3"),
        ({"view": -1}, "0 to 7; got -1"),
    ],
)
def test_a_noisy_copy_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        data.load("noisy_copy", **{**TINY, **options})


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)  # for caches named by a relative path


def test_the_cache_is_used_and_knows_what_it_was_made_of(make, root):
    first = make()
    assert len(list((root / "cache").iterdir())) == 3
    for name in FILES:
        (root / f"{name}.gz").rename(root / f"{name}.away")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(same(a, b) for a, b in zip(make(), first, strict=True))
    with pytest.raises(FileNotFoundError, match="train-images"):
        make(seed=1)
    Image.new("RGB", (40, 30), (1, 2, 3)).save(root / "backgrounds" / "photo2.png")
    with pytest.raises(FileNotFoundError, match="train-images"):
        make()
    assert same(make(modalities=2)[0], first[0].modalities([0, 1]))


def test_a_truncated_or_foreign_cache_file_is_rebuilt_with_a_warning(make, root):
    first, _ = make()
    m0, m1, m2 = sorted((root / "cache").iterdir())
    m0.write_bytes(m0.read_bytes()[:-100])
    m1.write_bytes(m2.read_bytes())
    with pytest.warns(UserWarning, match="built again") as caught:
        again, _ = make()
    assert same(again, first) and len(caught) == 2
    assert any("made for other data or other options" in str(w.message) for w in caught)
    flipped = bytearray(m2.read_bytes())
    flipped[-5000] ^= 1  # inside a picture
    m2.write_bytes(flipped)
    with pytest.warns(UserWarning, match="m2.*does not hold what was written"):
        assert same(make()[0], first)
    m0.write_bytes(b"this is no tensor")
    with pytest.warns(UserWarning, match="built again"):
        assert same(make()[0], first)
    assert len(list((root / "cache").iterdir())) == 3  # and nothing half-written is left


def test_a_folder_that_cannot_be_written_to_costs_a_warning_only(make, root):
    (root / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept .* cache=FOLDER"):
        unkept, _ = make()
    assert same(unkept, make(cache="elsewhere")[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": 1}, "from 2 to 8"),
        ({"modalities": 9}, "from 2 to 8"),
        ({"modalities": 4}, "4 modalities need 4 photographs .* found 3.*fewer modalities"),
        ({"source": "web"}, "'auto', 'archive' or 'mnist'; got 'web'"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
        ({"image_size": 20}, r"one of \(28, 14, 7\); got 20"),
        ({"train_size": 10**6}, "samples; 1000000 were asked for"),
    ],
)
def test_made_polymnist_refuses_bad_options(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_bad_photographs_are_refused_by_name(make, root):
    with pytest.raises(FileNotFoundError, match=r"no folder nowhere.*backgrounds="):
        make(backgrounds="nowhere")
    photo = root / "backgrounds" / "photo0.png"
    Image.new("RGB", (40, 27)).save(photo)
    with pytest.raises(ValueError, match=r"at least 28 x 28 pixels .* got 27 x 40"):
        make()
    photo.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"photo0\.png is no readable picture"):
        make()


def test_mnist_is_fetched_on_request_where_polymnist_is_made(make, root, origin, source, served):
    for name in FILES:
        (root / f"{name}.gz").unlink()
    with pytest.raises(FileNotFoundError, match="download=True"):
        make()
    assert len(make(download=True, mnist_source=replace(source, url=served(origin)))[0]) == 50


# ---------------------------------------------------------------- PolyMNIST, the archive


def members(count: int = 12) -> dict[str, Image.Image]:
    """The archive's files, in order; the red of a picture names its index, the green its digit."""
    return {
        f"MMNIST/{split}/m{m}/{index}.{digit}.png": Image.new(
            "RGB", (28, 28), (index, digit, 100 * (split == "test") + m)
        )
        for split in ("train", "test")
        for m in range(5)
        for index in range(count)
        for digit in (7, 3)
    }


def write(root: Path, files: dict[str, Image.Image], order: np.random.Generator) -> Path:
    names = list(files)
    for n in order.permutation(len(names)):
        path = root / names[n]
        path.parent.mkdir(parents=True, exist_ok=True)
        files[names[n]].save(path)
    return root


def zipped(root: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as file:
        for path in sorted(root.rglob("*.png"), reverse=True):
            file.write(path, path.relative_to(root))
        file.writestr("__MACOSX/MMNIST/train/m0/._0.7.png", b"not a picture")
        file.writestr("clf/pretrained_img_to_digit_clf_m0", b"a pickle, never opened")
    return target


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    return write(folder, members(), np.random.default_rng(0))


def test_the_archive_is_ordered_by_number_whatever_the_file_system_says(unpacked, tmp_path):
    first = data.polymnist(unpacked)
    again = data.polymnist(write(tmp_path / "other", members(), np.random.default_rng(1)))
    (tmp_path / "zip").mkdir()
    zipped(unpacked, tmp_path / "zip" / "PolyMNIST.zip")
    packed = data.polymnist(tmp_path / "zip")
    for n, part in enumerate(first):
        assert same(part, again[n]) and same(part, packed[n])
        assert part.label.tolist() == [3, 7] * 12
        for m, view in enumerate(part.x):
            assert view[:, 0, 0, 0].tolist() == [i for i in range(12) for _ in range(2)]
            assert view[:, 1, 5, 5].tolist() == [3, 7] * 12
            assert (view[:, 2] == 100 * n + m).all()
    assert same(data.polymnist(unpacked, modalities=2)[0], first[0].modalities([0, 1]))
    assert same(data.polymnist(unpacked / "MMNIST", modalities=5)[0], first[0])


def test_an_archive_whose_modalities_do_not_match_is_refused(tmp_path):
    files = members(2)
    files["MMNIST/train/m3/1.8.png"] = files.pop("MMNIST/train/m3/1.7.png")
    write(tmp_path, files, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"same samples; .*train/m3 has 4.*\[\(1, 7\), \(1, 8\)\]"):
        data.polymnist(tmp_path)
    assert len(data.polymnist(tmp_path, modalities=3)[0]) == 4
    with pytest.raises(ValueError, match=r"modalities \[0, 1, 2, 3, 4\], 6 were asked for.*mnist"):
        data.polymnist(tmp_path, modalities=6)


def test_damaged_archives_are_refused_by_name(tmp_path):
    write(tmp_path, members(1), np.random.default_rng(0))
    picture = tmp_path / "MMNIST/test/m1/0.7.png"
    Image.new("RGB", (28, 29)).save(picture)
    with pytest.raises(ValueError, match=r"test/m1/0\.7\.png must measure 28 x 28 .* got 29 x 28"):
        data.polymnist(tmp_path)
    picture.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"test/m1/0\.7\.png is no readable picture"):
        data.polymnist(tmp_path)
    (tmp_path / "zip").mkdir()
    (tmp_path / "zip" / "PolyMNIST.zip").write_bytes(b"PK but cut short")
    with pytest.raises(ValueError, match=r"no complete zip file .* fetch it again"):
        data.polymnist(tmp_path / "zip")


def rezipped(archive: Path, target: Path, name: Callable[[str], str]) -> Path:
    """The archive with other names for its members; no name leaves a member out."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            if (to := name(info.filename)) is not None:
                new.writestr(to, old.read(info))
    return target


def test_an_archive_packed_by_another_program_is_the_same_archive(unpacked, tmp_path):
    archive = zipped(unpacked, tmp_path / "first.zip")
    for n, name in enumerate(
        (
            lambda name: name.replace("/", "\\"),
            lambda name: name.replace(".png", ".PNG"),
            lambda name: name.replace("MMNIST/", "deep/below/MMNIST/"),
            lambda name: name.replace("train", "Train"),
        )
    ):
        rezipped(archive, tmp_path / str(n) / "PolyMNIST.zip", name)
        assert same(data.polymnist(tmp_path / str(n))[0], data.polymnist(unpacked)[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (lambda name: None if "/test/" in name else name, "has no pictures test/m0/"),
        (lambda name: None if "/train/m3" in name else name, "has no pictures train/m3/"),
        (lambda name: name.replace(".png", ".gif"), r"has the modalities \[\]"),
    ],
)
def test_an_archive_that_lacks_a_part_is_refused(unpacked, tmp_path, name, message):
    archive = zipped(unpacked, tmp_path / "first.zip")
    rezipped(archive, tmp_path / "some" / "PolyMNIST.zip", name)
    with pytest.raises(ValueError, match=f"PolyMNIST.zip {message}"):
        data.polymnist(tmp_path / "some")


def test_a_second_copy_of_the_tree_is_refused_by_name(unpacked, tmp_path):
    archive = zipped(unpacked, tmp_path / "PolyMNIST.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("copy/MMNIST/train/m2/5.3.jpeg", b"")
    with pytest.raises(ValueError, match=r"\(5, 3\) of train/m2 twice: MMNIST.* and copy/MMNIST"):
        data.polymnist(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\nshowpage\n", "one of BMP, JPEG"),
        (png(np.zeros((28, 28), np.uint16)), "more than 8 bits"),
        (
            png(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))[:-900],
            "no readable picture",
        ),
        (png(np.zeros((27, 28, 3), np.uint8)), "at least 28 x 28 .* got 27 x 28"),
        (b"", "no readable picture"),
    ],
    ids=["postscript", "deep", "cut", "small", "empty"],
)
def test_a_photograph_that_cannot_be_used_is_named(make, root, content, message):
    name = root / "backgrounds" / "photo0.png"
    name.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name.name} .*{message}"):
        make()


def test_a_photograph_is_read_by_its_content_whatever_it_is_called(make, root):
    first, want = root / "backgrounds" / "photo1.png", make()[0]
    picture = Image.open(first)
    first.unlink()
    picture.save(first.with_suffix(".jpg"), format="png")
    assert same(make()[0], want)


def test_a_pipe_is_no_file(root, make):
    os.mkfifo(root / "backgrounds" / "0.png")
    with pytest.raises(ValueError, match=r"0\.png must be a plain file; it is a pipe"):
        make()  # without it the views would stand on other photographs
    os.mkfifo(root / "pipe")
    with pytest.raises(ValueError, match="pipe must be a plain file"):
        data.read_idx(root / "pipe")
    with pytest.raises(ValueError, match="must be a plain file; it is a folder"):
        data.read_idx(root)


def test_what_would_unpack_to_gigabytes_is_not_unpacked(tmp_path):
    bomb = tmp_path / "bomb.gz"
    header = b"\0\0\x08\x02" + (3).to_bytes(4, "big") * 2
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(header + bytes(1 << 26))
    with pytest.raises(ValueError, match=r"must have 21 bytes .* got more"):
        data.read_idx(bomb)


def test_an_archive_of_another_spelling_is_kept_when_it_is_fetched(unpacked, served, tmp_path):
    archive = zipped(unpacked, tmp_path / "first.zip")
    rezipped(archive, tmp_path / "web" / "PolyMNIST.zip", lambda name: name.replace("/", "\\"))
    url = served(tmp_path / "web") + "PolyMNIST.zip"
    train, _ = data.polymnist(tmp_path / "root", download=True, archive_url=url)
    assert same(train, data.polymnist(unpacked)[0])


def test_a_page_that_says_why_there_is_no_archive_is_not_kept(served, tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "PolyMNIST.zip").write_text("<html>too many requests</html>")
    with zipfile.ZipFile(tmp_path / "web" / "empty.zip", "w") as file:
        file.writestr("README", "moved")
    for name, message in ("PolyMNIST.zip", "no complete zip"), ("empty.zip", "holds no pictures"):
        with pytest.raises(ValueError, match=message):
            data.polymnist(
                tmp_path / "root", download=True, archive_url=served(tmp_path / "web") + name
            )
        assert list((tmp_path / "root").iterdir()) == []


def test_a_missing_archive_says_the_three_ways_to_get_it(tmp_path):
    for options in ({}, {"source": "archive"}):
        with pytest.raises(
            FileNotFoundError, match=r"download=True fetches .*zenodo.* source='mnist'"
        ):
            data.polymnist(tmp_path, **options)


def test_the_archive_is_downloaded_and_its_checksum_verified_if_given(unpacked, served, tmp_path):
    (tmp_path / "web").mkdir()
    archive = zipped(unpacked, tmp_path / "web" / "PolyMNIST.zip")
    url = served(archive.parent) + "PolyMNIST.zip"
    fetch = functools.partial(data.polymnist, download=True, archive_url=url)
    with pytest.raises(ValueError, match="does not match the known hash"):
        fetch(tmp_path / "bad", archive_checksum="md5:" + "0" * 32)
    assert list((tmp_path / "bad").iterdir()) == []
    right = "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()
    train, _ = fetch(tmp_path / "good", archive_checksum=right)
    assert same(train, data.polymnist(unpacked)[0])
    assert same(fetch(tmp_path / "unchecked")[0], train)


def test_auto_takes_the_archive_before_photographs_unless_they_are_named(make, root, unpacked):
    made = make()[0]
    write(root, members(1), np.random.default_rng(0))
    assert len(make()[0]) == 2
    assert same(make(backgrounds=root / "backgrounds")[0], made)
    assert same(make(source="mnist")[0], made)


# ---------------------------------------------------------------- by name


def test_load_calls_the_data_set_by_its_name(make, root, source):
    train, test = data.load("digits", root="nowhere", modalities=4, seed=3, **TINY)
    assert same(train, data.digits(modalities=4, seed=3, **TINY)[0]) and len(test) == 30
    assert train.name == "digits train" and test.name == "digits test"
    loaded, _ = data.load("polymnist", root=root, modalities=3, mnist_source=source)
    assert same(loaded, make()[0])


def test_load_lists_the_choices():
    with pytest.raises(
        ValueError, match=r"one of \['digits', 'noisy_copy', 'polymnist'\]; got 'cifar'"
    ):
        data.load("cifar")
    with pytest.raises(ValueError, match=r"digits has the options .*'image_size'.*got \['size'\]"):
        data.load("digits", size=3)
