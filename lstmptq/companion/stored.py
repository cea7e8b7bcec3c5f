"""The size of a model on disk: its tensors at the width that they have, in one safetensors file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lstmptq.quantization.classifier import QuantizedClassifier


def measure_file(tensors: Iterable[tuple[str, Tensor]]) -> int:
    """Measure the bytes of the safetensors file that holds `tensors`."""
    with tempfile.TemporaryDirectory(prefix="stored-") as folder:
        path = Path(folder) / "model.safetensors"
        save_file(drop_shared(tensors), path)
        return path.stat().st_size


def drop_shared(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Copy named tensors, each storage once."""
    kept: dict[str, Tensor] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in list(tensors):  # all at once: a freed tensor leaves its address to another one
        address = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and address in seen:
            continue
        seen.add(address)
        kept[name] = tensor.detach().cpu().clone().contiguous()
    return kept


def list_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """List every tensor that inference needs, by name, integers as integers.

    Args:
        module: a float module, a quantized module of torch or torchao, or a 4-bit one of bitsandbytes.
    """
    for name, value in module.state_dict().items():
        yield from _plain(name, value)


def _plain(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Take a value of a state_dict apart into plain tensors."""
    if hasattr(value, "__tensor_flatten__") and type(value) not in (Tensor, nn.Parameter):
        for part in value.__tensor_flatten__()[0]:
            yield from _plain(f"{name}.{part}", getattr(value, part))
    elif isinstance(value, Tensor) and value.is_quantized:
        yield f"{name}.levels", value.int_repr()
        if value.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric):
            yield f"{name}.scale", value.q_per_channel_scales().float()
            yield f"{name}.zero_point", value.q_per_channel_zero_points().to(torch.int32)
        else:
            yield f"{name}.scale", torch.tensor(value.q_scale())
            yield f"{name}.zero_point", torch.tensor(value.q_zero_point(), dtype=torch.int32)
    elif isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, tuple | list):
        for number, part in enumerate(value):
            yield from _plain(f"{name}.{number}", part)
    elif hasattr(value, "unpack"):  # the packed weights of torch's quantized kernels
        yield from _plain(name, value.unpack())
    elif hasattr(value, "__getstate__") and isinstance(value, torch.ScriptObject):
        yield from _plain(name, value.__getstate__())


def list_levels(classifier: QuantizedClassifier) -> Iterator[tuple[str, Tensor]]:
    """List every tensor of a simulated classifier by name, its levels packed at their bits."""
    for weight in classifier.quantized_weights():
        scale = weight.quantizer.scale
        levels = (weight.quantized / scale).round().to(torch.int32).numpy()
        packed = pack_levels(levels.ravel() & (2**weight.quantizer.bits - 1), weight.quantizer.bits)
        yield f"{weight.name}.levels", torch.from_numpy(packed)
        yield f"{weight.name}.scale", scale.reshape(())
    model = classifier.model
    for name, parameter in model.named_parameters():
        if "bias" in name:
            yield name, parameter
    yield from model.named_buffers()


def pack_levels(levels: npt.NDArray[np.int32], bits: int) -> npt.NDArray[np.uint8]:
    """Pack non-negative levels below ``2**bits`` without gaps."""
    spread = np.unpackbits(levels.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(spread.ravel())
