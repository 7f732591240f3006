"""The cache returns the encoder's features, computes them once, and never uses incomplete or foreign data."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from captioner.config import CacheConfig, DataConfig, FolderConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.datasets.registry import load_dataset
from captioner.data.features import cache as cache_module
from captioner.data.features import fill as filling_module
from captioner.data.features import storage as storage_module
from captioner.data.features.cache import FLIPPED, FeatureCache, cached_features
from captioner.data.images.decode import load_image
from captioner.data.images.transforms import FULL_VIEW, View, image_to_tensor
from captioner.errors import DataError, ImageError
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.encoder import Encoder
from tests.tiny import ENCODER, write_tiny_data

CPU = torch.device("cpu")
COUNT = 10


@pytest.fixture
def dataset(tmp_path: Path) -> CaptionDataset:
    """Ten images of noise, 64 × 64."""
    generator = np.random.default_rng(0)
    images = []
    for number in range(COUNT):
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
        images.append(CaptionedImage(number, path, ("a caption",)))
    return CaptionDataset("noise", "train", tuple(images))


@pytest.fixture
def encoder() -> Encoder:
    return build_encoder(ENCODER)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of four images, encoded two by two: ten images are three shards."""
    monkeypatch.setattr(filling_module, "SHARD_ROWS", 4)
    monkeypatch.setattr(filling_module, "BATCH", 2)


class Filled(NamedTuple):
    features: FeatureCache
    encoded: int  # number of encoded images


class Cache:
    """A cache in one folder; `open` counts the images that are encoded."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(
        self,
        dataset: CaptionDataset,
        encoder: Encoder,
        *,
        with_grid: bool = True,
        skip: bool = False,
        flipped: bool = False,
        on_batch: Callable[[int], object] = lambda encoded: None,
    ) -> Filled:
        """`on_batch` is called before each batch with the number of images encoded so far."""
        encoded = 0

        def count(module: torch.nn.Module, arguments: tuple[Tensor]) -> None:
            nonlocal encoded
            on_batch(encoded)
            encoded += len(arguments[0])

        hook = encoder.register_forward_pre_hook(count)
        try:
            features = cached_features(
                dataset,
                encoder,
                with_grid=with_grid,
                cache=CacheConfig(directory=str(self.root)),
                data=DataConfig(num_workers=0, on_bad_image="skip" if skip else "error"),
                device=CPU,
                flipped=flipped,
            )
        finally:
            hook.remove()
        return Filled(features, encoded)

    @property
    def folders(self) -> list[Path]:
        return sorted((self.root / "features").iterdir())

    def files(self, ending: str) -> list[Path]:
        return sorted(path for folder in self.folders for path in folder.glob(f"shard-*.{ending}"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def encode(encoder: Encoder, dataset: CaptionDataset, view: View = FULL_VIEW) -> tuple[Tensor, Tensor]:
    """vector and grid of all images, straight from the encoder, one by one."""
    images = [image_to_tensor(load_image(image.path), encoder.transform, view) for image in dataset]
    with torch.no_grad():
        features = [encoder(tensor[None]) for tensor in images]
    return torch.cat([one.vector for one in features]), torch.cat([one.grid for one in features])


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal up to float16 rounding, 2⁻¹¹ of the value, and the summation order of convolutions."""
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2**-10, atol=1e-5)


# ------------------------------------------------------------------------------------- values


def test_returns_the_features_of_the_encoder(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    vector, grid = encode(encoder, dataset)
    assert vector.std(dim=0).mean() > 0.01  # the images differ, so the comparisons are meaningful
    features, encoded = cache.open(dataset, encoder)
    assert encoded == COUNT
    order = [7, 0, 9, 7]
    found = features.get(order)
    assert found.grid is not None
    assert_close(found.grid, grid[order])
    assert_close(found.vector, vector[order])


def test_vector_is_the_mean_of_the_grid(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    vectors, _ = cache.open(dataset, encoder, with_grid=False)
    assert len(cache.folders) == 1
    grids, _ = cache.open(dataset, encoder, with_grid=True)
    everything = list(range(COUNT))
    vector, both = vectors.get(everything), grids.get(everything)
    assert vector.grid is None
    assert both.grid is not None
    assert_close(vector.vector, both.grid.mean(dim=1))
    assert_close(vector.vector, both.vector)
    assert len(cache.folders) == 2


@pytest.mark.parametrize("with_grid", [True, False])
def test_flipped_images(cache: Cache, dataset: CaptionDataset, encoder: Encoder, with_grid: bool) -> None:
    """Stored in addition to the features of unflipped images, which are not computed again."""
    assert cache.open(dataset, encoder, with_grid=with_grid).encoded == COUNT
    features, encoded = cache.open(dataset, encoder, with_grid=with_grid, flipped=True)
    assert encoded == COUNT
    found = features.get(range(COUNT), flipped={2, 5})
    plain = encode(encoder, dataset)
    flipped = encode(encoder, dataset, FLIPPED)
    chosen = [flipped if index in (2, 5) else plain for index in range(COUNT)]
    assert_close(found.vector, torch.stack([vectors[i] for i, (vectors, _) in enumerate(chosen)]))
    assert (found.grid is not None) == with_grid
    if found.grid is not None:
        assert_close(found.grid, torch.stack([grids[i] for i, (_, grids) in enumerate(chosen)]))
    assert not torch.equal(plain[0][2], flipped[0][2])
    assert cache.open(dataset, encoder, with_grid=with_grid, flipped=True).encoded == 0


@pytest.mark.usefixtures("few_rows")
def test_vectors_are_computed_from_stored_grids(
    cache: Cache, dataset: CaptionDataset, encoder: Encoder, tmp_path: Path
) -> None:
    """No image is encoded again, and the vectors are the same."""
    cache.open(replace(dataset, images=dataset.images[:8]), encoder, with_grid=True)
    vectors, encoded = cache.open(dataset, encoder, with_grid=False)
    assert encoded == COUNT - 8
    vectors_only, encoded = Cache(tmp_path / "alone").open(dataset, encoder, with_grid=False)
    assert encoded == COUNT
    assert torch.equal(vectors.get(range(COUNT)).vector, vectors_only.get(range(COUNT)).vector)
    assert sum(len(shard) for shard in vectors.shards) == COUNT  # stored: no grid is read the next time


def test_damaged_grids_are_named_when_vectors_are_computed(
    cache: Cache, dataset: CaptionDataset, encoder: Encoder
) -> None:
    cache.open(dataset, encoder, with_grid=True)
    (data,) = cache.files("f16")
    flip(data)
    with pytest.raises(DataError, match="The feature cache is damaged"):
        cache.open(dataset, encoder, with_grid=False)


def test_values_beyond_float16_are_clamped(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    def huge(module: torch.nn.Module, arguments: Any, features: Any) -> Any:
        return type(features)(features.vector, torch.full_like(features.grid, 1e9))

    with encoder.register_forward_hook(huge):
        features, _ = cache.open(dataset, encoder)
    grid = features.get([0]).grid
    assert grid is not None
    assert grid.unique().tolist() == [65504.0]


# ------------------------------------------------------------------------------- computed once, stored


def test_is_filled_once_and_then_read(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    first, encoded = cache.open(dataset, encoder)
    assert encoded == COUNT
    second, encoded = cache.open(dataset, encoder)
    assert encoded == 0
    torch.testing.assert_close(first.get(range(COUNT)), second.get(range(COUNT)), rtol=0, atol=0)


@pytest.mark.usefixtures("few_rows")
def test_more_images_are_added_to_the_stored_ones(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    """First with a limit, then all; and other names, folders and orders of the same images."""
    assert cache.open(replace(dataset, images=dataset.images[:3]), encoder).encoded == 3
    whole, encoded = cache.open(dataset, encoder)
    assert encoded == COUNT - 3
    moved = Path(shutil.copytree(dataset.images[0].path.parent, cache.root.parent / "elsewhere"))
    images = tuple(replace(image, path=moved / image.path.name) for image in reversed(dataset.images))
    reversed_, encoded = cache.open(replace(dataset, images=images), encoder)
    assert encoded == 0
    torch.testing.assert_close(reversed_.get(range(COUNT)).vector, whole.get(range(COUNT)).vector.flip(0))


def test_limit_of_a_real_data_set(cache: Cache, encoder: Encoder, tmp_path: Path) -> None:
    config: FolderConfig = write_tiny_data(tmp_path / "data")
    few = load_dataset(replace(config, limit=2), "val")
    assert cache.open(few, encoder).encoded == 2
    assert cache.open(load_dataset(config, "val"), encoder).encoded == 6


def test_shards_are_not_kept_open(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    """COCO has 482, twice that with flipped images, and a process may open 1,024 files."""
    cache.open(dataset, encoder)
    before = len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0
    features = [cache.open(dataset, encoder).features for _ in range(3)]
    assert len(features[0].shards) == 1
    after = len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0
    assert after == before


def test_same_bytes_under_two_names(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    twin = dataset.images[1].path.with_name("twin.png")
    shutil.copy(dataset.images[1].path, twin)
    twins = replace(dataset, images=(*dataset.images, CaptionedImage("twin", twin, ())))
    features, _ = cache.open(twins, encoder)
    vector = features.get([1, COUNT]).vector
    assert torch.equal(vector[0], vector[1])
    assert cache.open(twins, encoder).encoded == 0


# ----------------------------------------------------------------- keys


def test_other_weights_are_another_cache(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    cache.open(dataset, encoder)
    with torch.no_grad():
        next(encoder.trunk.parameters())[0] += 0.5
    encoder.load_state_dict(encoder.state_dict())  # as when loading a checkpoint: folded weights are folded again
    features, encoded = cache.open(dataset, encoder)
    assert encoded == COUNT
    assert_close(features.get(range(COUNT)).vector, encode(encoder, dataset)[0])


def test_other_statistics_are_another_cache(cache: Cache, dataset: CaptionDataset) -> None:
    """BatchNorm's running mean is a buffer, not a parameter, but also part of the network."""
    encoder = build_encoder(replace(ENCODER, name="shufflenet_v2_x0_5"))
    cache.open(dataset, encoder)
    name = next(name for name, _ in encoder.named_buffers() if name.endswith("running_mean"))
    encoder.get_buffer(name).add_(1.0)
    assert cache.open(dataset, encoder).encoded == COUNT


@pytest.mark.parametrize("change", [{"resize": "crop"}, {"interpolation": "bicubic"}, {"mean": (0.4, 0.456, 0.406)}])
def test_other_transforms_are_another_cache(
    cache: Cache, dataset: CaptionDataset, encoder: Encoder, change: dict[str, Any]
) -> None:
    cache.open(dataset, encoder)
    encoder.transform = replace(encoder.transform, **change)
    assert cache.open(dataset, encoder).encoded == COUNT


def test_other_bytes_of_an_image_are_another_image(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    before, _ = cache.open(dataset, encoder)
    Image.new("RGB", (64, 64), "red").save(dataset.images[4].path)
    after, encoded = cache.open(dataset, encoder)
    assert encoded == 1
    assert_close(after.get([4]).vector, encode(encoder, dataset)[0][4:5])
    assert not torch.equal(before.get([4]).vector, after.get([4]).vector)


# ------------------------------------------------------------------------------ interruptions


@pytest.mark.usefixtures("few_rows")
def test_an_interrupted_fill_is_resumed(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    def interrupt(encoded: int) -> None:
        if encoded == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.open(dataset, encoder, on_batch=interrupt)
    features, encoded = cache.open(dataset, encoder)
    assert encoded == COUNT - 4  # one shard of four was written
    assert_close(features.get(range(COUNT)).vector, encode(encoder, dataset)[0])


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("ending", [".f16", ".json"])
def test_killed_while_a_shard_is_written(
    cache: Cache, dataset: CaptionDataset, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Before the second shard's data is written, or between data and listing: the shard is not used."""
    write, of_shards = storage_module.write_atomically, 0

    def kill_at_second(path: Path, content: bytes) -> None:
        nonlocal of_shards
        of_shards += path.name.startswith("shard-") and path.suffix == ending
        if of_shards == 2:
            raise SystemExit
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(storage_module, "write_atomically", kill_at_second)
        with pytest.raises(SystemExit):
            cache.open(dataset, encoder)
    assert len(cache.files("f16")) == (2 if ending == ".json" else 1)
    features, encoded = cache.open(dataset, encoder)
    assert encoded == COUNT - 4
    assert_close(features.get(range(COUNT)).vector, encode(encoder, dataset)[0])


# ------------------------------------------------------------------------------------ damaged or foreign files


def truncated_error(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def listing(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Rewrite the listing after `change`, which works on it in place."""

    def apply(path: Path) -> None:
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return apply


@pytest.mark.parametrize("damage", [truncated_error, grow, flip, Path.unlink])
def test_damaged_features_are_named(
    cache: Cache, dataset: CaptionDataset, encoder: Encoder, damage: Callable[[Path], None]
) -> None:
    cache.open(dataset, encoder)
    (data,), (listing_file,) = cache.files("f16"), cache.files("json")
    damage(data)
    with pytest.raises(DataError, match="The feature cache is damaged") as error:
        cache.open(dataset, encoder)
    assert str(data) in str(error.value)
    assert f"Delete {listing_file}" in str(error.value)
    listing_file.unlink()  # as the message says
    features, encoded = cache.open(dataset, encoder)
    assert encoded == COUNT
    assert_close(features.get(range(COUNT)).vector, encode(encoder, dataset)[0])


DAMAGED_LISTINGS: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: path.write_text(path.read_text()[:-5]),
    "not JSON": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "empty": lambda path: path.write_bytes(b""),
    "a list": lambda path: path.write_text("[1, 2]"),
    "null": lambda path: path.write_text("null"),
    "nested beyond reading": lambda path: path.write_text("[" * 100_000),
    "a row too few": listing(lambda values: values["keys"].pop()),
    "a row too many": listing(lambda values: values["keys"].append("0" * 32)),
    "another shape": listing(lambda values: values["shape"].reverse()),
    "shape of another encoder": listing(lambda values: values.update(shape=[COUNT, 9, 1024])),
    "no shape": listing(lambda values: values.pop("shape")),
    "no checksum": listing(lambda values: values.pop("crc32")),
    "checksum is text": listing(lambda values: values.update(crc32="many")),
    "keys is a number": listing(lambda values: values.update(keys=7)),
    "rows change places": listing(lambda values: values["keys"].reverse()),
    "of another cache": listing(lambda values: values.update(cache="resnet50-grid-0123456789ab")),
}


@pytest.mark.parametrize("damage", DAMAGED_LISTINGS.values(), ids=DAMAGED_LISTINGS.keys())
def test_damaged_listings_are_named(
    cache: Cache, dataset: CaptionDataset, encoder: Encoder, damage: Callable[[Path], object]
) -> None:
    cache.open(dataset, encoder)
    (listing_file,) = cache.files("json")
    damage(listing_file)
    with pytest.raises(DataError, match=f"The feature cache is damaged: .*Delete {re.escape(str(listing_file))} to"):
        cache.open(dataset, encoder)


def test_shards_of_other_weights_are_an_error(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    """The same shape, images and names: only the folder differs."""
    cache.open(dataset, encoder)
    stranger = build_encoder(ENCODER)
    others = Cache(cache.root.parent / "others")
    others.open(replace(dataset, images=dataset.images[:1]), stranger)
    for file in (*cache.files("f16"), *cache.files("json")):
        shutil.copy(file, others.folders[0])
    with pytest.raises(DataError, match="belongs to another cache"):
        others.open(dataset, stranger)


def test_a_changed_about_file_is_an_error(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    cache.open(dataset, encoder)
    about = cache.folders[0] / "about.json"
    about.write_text(about.read_text().replace("bilinear", "bicubic"))
    with pytest.raises(DataError, match=f"{re.escape(str(about))} was changed"):
        cache.open(dataset, encoder)


def test_another_order_of_resizing_has_a_cache_of_its_own(
    cache: Cache, dataset: CaptionDataset, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.open(dataset, encoder)
    monkeypatch.setattr(cache_module, "TALL_FIRST", not cache_module.TALL_FIRST)
    assert cache.open(dataset, encoder).encoded == COUNT
    assert len(cache.folders) == 2


# ----------------------------------------------------------------------------------- unusable folders


def test_a_disk_that_is_too_small(
    cache: Cache, dataset: CaptionDataset, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = COUNT * 9 * 512 * 2  # images × regions × features × bytes
    usage = shutil.disk_usage(cache.root.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(DataError, match=r"features of 10 images need 0\.0 GB, but .* cache\.enabled=false"):
        cache.open(dataset, encoder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    assert cache.open(dataset, encoder).encoded == COUNT


def test_a_folder_that_cannot_be_made(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    cache.root.write_text("a file is in the way")
    with pytest.raises(DataError, match=r"cannot be created \(.+\): name another folder"):
        cache.open(dataset, encoder)


def test_a_folder_that_cannot_be_written(
    cache: Cache, dataset: CaptionDataset, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only cache can be read; only missing features cannot be added."""
    some = replace(dataset, images=dataset.images[:6])
    cache.open(some, encoder)

    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(storage_module, "write_atomically", refuse)
    assert cache.open(some, encoder).encoded == 0
    with pytest.raises(DataError, match=r"cannot be written \(Permission denied\): name another folder"):
        cache.open(dataset, encoder)


# ----------------------------------------------------------------------------------------- bad images


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_bad_images(cache: Cache, dataset: CaptionDataset, encoder: Encoder, damage: Callable[[Path], object]) -> None:
    """A missing image and one that cannot be decoded."""
    damage(dataset.images[3].path)
    damage(dataset.images[8].path)
    with pytest.raises(ImageError, match=r"3\.png.*data\.on_bad_image=skip"):
        cache.open(dataset, encoder)
    for _ in range(2):  # filled, then read
        features, _ = cache.open(dataset, encoder, skip=True)
        assert set(features.bad) == {3, 8}
        assert "3.png" in features.bad[3]
        good = [0, 1, 2, 4, 5, 6, 7, 9]
        expected, _ = encode(encoder, replace(dataset, images=tuple(dataset.images[i] for i in good)))
        assert_close(features.get(good).vector, expected)
        with pytest.raises(KeyError, match="image 3 has no features"):
            features.get([2, 3])


@pytest.mark.usefixtures("few_rows")
def test_a_batch_of_bad_images_only(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    for index in (2, 3):
        dataset.images[index].path.write_bytes(b"no image")
    features, _ = cache.open(dataset, encoder, skip=True)
    assert set(features.bad) == {2, 3}
    assert np.count_nonzero(features.rows[:, 0] >= 0) == COUNT - 2


def test_both_copies_of_a_bad_image_are_named(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    for index in (2, 5):
        dataset.images[index].path.write_bytes(b"no image")
    bad = cache.open(dataset, encoder, skip=True).features.bad
    assert "2.png is not an image" in bad[2]
    assert "5.png is a copy of " in bad[5]


def test_nothing_but_bad_images(cache: Cache, dataset: CaptionDataset, encoder: Encoder) -> None:
    for image in dataset:
        image.path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"No image of noise's train split can be read: .*0\.png"):
        cache.open(dataset, encoder, skip=True)
