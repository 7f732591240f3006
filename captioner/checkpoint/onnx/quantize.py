"""The encoder in 8 bits: static quantization, calibrated on photos.

Static: the ranges of all activations are measured once, on the photos of a folder, and then constant. With dynamic
quantization a range would be that of the batch at hand, so an image's caption would depend on its batch mates. Weights
have one scale per output channel. The decoder is not quantized: it is a seventh of a caption's time, and its
recurrence would add up the errors of every word.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.checkpoint.onnx.description import check_photos
from captioner.checkpoint.onnx.graphs import import_onnx
from captioner.config import TransformConfig
from captioner.data.images.decode import load_image
from captioner.data.images.pixels import image_to_array
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    import onnx

# With the activation functions: where only convolutions are quantized, the 256 values are spread over all that a
# convolution returns, and few of them are left for the 0 to 6 that a ReLU6 lets through.
_QUANTIZED = ["Conv", "Add", "Clip", "Relu"]


def quantize_encoder(model: onnx.ModelProto, photos: Sequence[Path], transform: TransformConfig) -> onnx.ModelProto:
    """The encoder's graph with convolutions in 8 bits. CaptionerError for too few photos: see `check_photos`."""
    import_onnx()
    check_photos(photos)
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ModuleNotFoundError as error:
        raise CaptionerError(f"8 bits need {error.name}: pip install 'captioner[onnx]'.") from error
    with tempfile.TemporaryDirectory(prefix="captioner-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, fused, small = (Path(scratch) / name for name in ("whole.onnx", "fused.onnx", "small.onnx"))
        whole.write_bytes(model.SerializeToString())
        logging.disable(logging.WARNING)
        try:
            quant_pre_process(str(whole), str(fused), skip_symbolic_shape=True)  # multiplies the factors of BatchNorm
            quantize_static(
                str(fused),
                str(small),
                _Photos(photos, transform),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                op_types_to_quantize=_QUANTIZED,
            )
        finally:
            logging.disable(logging.NOTSET)
        quantized = type(model)()
        quantized.ParseFromString(small.read_bytes())
    return quantized


class _Photos:
    """onnxruntime's `CalibrationDataReader`: one photo after another."""

    def __init__(self, photos: Sequence[Path], transform: TransformConfig) -> None:
        self._arrays = self._read(photos, transform)

    @staticmethod
    def _read(photos: Sequence[Path], transform: TransformConfig) -> Iterator[dict[str, np.ndarray]]:
        for path in photos:
            image = load_image(path, transform.size, transform.stretch)
            yield {"images": image_to_array(image, transform)[None]}

    def get_next(self) -> Any:
        """The inputs for the next photo; None after the last."""
        return next(self._arrays, None)
