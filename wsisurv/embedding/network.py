"""A network on a device: bytes go there and features come back, the next batch on its way while one is computed."""

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from traceback import clear_frames

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import interpolate

from wsisurv.embedding.encoder import Pending
from wsisurv.embedding.encoder_row import Colour, Pooling
from wsisurv.errors import DeviceError, SettingsError
from wsisurv.formats.features import Making

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_NO_ROOM = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_ALLOC_FAILED")
"""What torch, cuBLAS (which can't make a handle then) and cuDNN say."""
_COMPILERS = ("torch._dynamo", "torch._inductor")
_CPU_BATCH = 8
"""For each thread of a processor; more are slower, since they don't fit its cache."""
_MPS_BATCH = 64
_MOST = 256
"""More tiles at once make no accelerator faster, only the wait for the first result longer."""
_PROBES = (2, 8)
_TRIED = 8
"""Tiles of a trial of bf16 on a processor."""
_FASTER, _ALIKE = 1.3, 0.9999
"""What bf16 must gain there, and the least cosine of a tile's features with those of fp32."""
_SHARE = 0.7
"""Share of the device's free memory that a batch may fill, by the use of the probes."""


@dataclass(frozen=True)
class Transform:
    """From the pixels of a tile to what a model wants."""

    resize_px: int  # side that a tile is resampled to, where it has another
    input_px: int  # side of the centre that the model sees
    mean: Colour  # subtracted, in 0 to 1
    std: Colour  # divided by
    interpolation: str = "bicubic"  # of the resampling, ``bicubic`` or ``bilinear``, antialiased

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """Normalised float32 (n, 3, input_px, input_px) of uint8 (n, side, side, 3), on the tiles' device."""
        return Normalise(self, tiles.device)(tiles)


class Normalise:
    """A transform on one device: its constants travel there once, not with every batch."""

    def __init__(self, transform: Transform, device: torch.device) -> None:
        self._transform = transform
        self._mean, self._std = (
            torch.tensor(colour, device=device).view(3, 1, 1) * 255 for colour in (transform.mean, transform.std)
        )

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """As the transform; channels last in memory, as the tiles are."""
        transform = self._transform
        pixels = tiles.permute(0, 3, 1, 2).float()
        if pixels.shape[-1] != transform.resize_px:
            size = (transform.resize_px, transform.resize_px)
            pixels = interpolate(pixels, size, mode=transform.interpolation, antialias=True, align_corners=False)
            pixels = pixels.round().clamp(0, 255)  # as an image of bytes, which models are trained on
        start = (transform.resize_px - transform.input_px) // 2
        pixels = pixels[..., start : start + transform.input_px, start : start + transform.input_px]
        return (pixels - self._mean) / self._std


def pool(tokens: torch.Tensor, pooling: Pooling, n_prefix: int) -> torch.Tensor:
    """One vector a tile from a transformer's tokens.

    Args:
        tokens: (n_tiles, n_prefix + n_patches, width); the class token first, then registers, then patches.
        pooling: ``class`` or ``class+mean``.
        n_prefix: the class token and the registers.

    Returns:
        (n_tiles, width), or (n_tiles, 2 · width) for ``class+mean``.
    """
    first = tokens[:, 0]
    return first if pooling == "class" else torch.cat([first, tokens[:, n_prefix:].mean(dim=1)], dim=-1)


class ModelEncoder:
    """A network, its transform and its pooling, on one device.

    Args:
        name: of the encoder.
        model: the network.
        transform: from tiles to its input.
        pooled: from its output to a vector a tile.
        n_features: of that vector.
        device: where to.
        precision: of the arithmetic on an accelerator: ``fp32``, ``fp16``, ``bf16``.
        weights: where the weights came from, in words.
    """

    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        transform: Transform,
        pooled: Callable[[torch.Tensor], torch.Tensor],
        n_features: int,
        device: torch.device,
        precision: str,
        *,
        weights: str = "",
    ) -> None:
        self.name, self.n_features = name, n_features
        # Half precision is for accelerators; most CPUs are slower in it, and fp32 agrees within its rounding.
        self._dtype = None if device.type == "cpu" else _DTYPES.get(precision)
        if self._dtype is not None:
            _round_transformers(model, self._dtype)
        self._plain = _on_device(model, device)
        self._model: Callable[[torch.Tensor], torch.Tensor] = self._plain
        self._normalise, self._pooled, self._device = Normalise(transform, device), pooled, device
        self._transform = transform
        if device.type == "cuda" and self._dtype is None:
            torch.backends.cudnn.allow_tf32 = False  # torch's default rounds what a convolution multiplies to ten bits
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.in_flight = 1 if device.type == "cpu" else 2
        self._whole: int | None = None
        self.making = Making(
            weights=weights,
            transform=asdict(transform),
            precision="fp32" if self._dtype is None else precision,
            device=_describe(device),
        )

    def try_bf16(self) -> None:
        """Compute in bf16 on a processor that is faster in it (one with AMX) and gives the features of fp32.

        A trial decides, since a processor may have bf16 and be slower in it: eight tiles in both, the quicker of two
        runs. Nothing changes on an accelerator, which has the encoder's own precision.
        """
        if self._device.type != "cpu":
            return
        side = self._transform.resize_px
        tiles = np.random.default_rng(0).integers(0, 256, (_TRIED, side, side, 3), np.uint8)
        exact, slow = self._timed(tiles)
        self._dtype = torch.bfloat16
        rounded, quick = self._timed(tiles)
        cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(exact), torch.from_numpy(rounded)).min()
        if slow < _FASTER * quick or not cosine >= _ALIKE:
            self._dtype = None
            return
        _round_transformers(self._plain, self._dtype)
        self.making = replace(self.making, precision="bf16")

    def _timed(self, tiles: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        """Features, and the seconds that they took."""
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            features = self.encode(tiles, 0.5)
            seconds.append(time.perf_counter() - start)
        return features, min(seconds)

    def compile(self) -> None:
        """Compile the network; batches are filled up to one size from now on, since each size is compiled anew."""
        self._model = torch.compile(self._plain, dynamic=False)
        self._whole = 0
        self.making = replace(self.making, precision=f"{self.making.precision} compiled")

    def buffer(self, n_tiles: int, side: int) -> NDArray[np.uint8]:
        """Room for a batch's pixels, from which a copy to the device need not be waited for."""
        shape = (n_tiles, side, side, 3)
        if self._copies is None:
            return np.empty(shape, np.uint8)
        try:
            with torch.cuda.device(self._device):
                pinned: NDArray[np.uint8] = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
        except RuntimeError:  # a machine may allow little of it; the copy is then waited for
            return np.empty(shape, np.uint8)
        return pinned

    def find_batch_size(self, side: int) -> int:
        """Tiles at once: what fills the device's free memory in part, by the peak use of two small batches.

        They go through the network as it is: compiled, each would be compiled for itself.
        """
        if self._device.type == "cpu":
            return min(_MOST, _CPU_BATCH * torch.get_num_threads())
        if self._device.type != "cuda":
            return _MPS_BATCH
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(self._device)
        free, _ = torch.cuda.mem_get_info(self._device)
        as_used = self._model, self._whole
        self._model, self._whole = self._plain, None
        try:
            few, more = (self._peak(n_tiles, side) for n_tiles in _PROBES)
        except DeviceError:
            return 1
        finally:
            self._model, self._whole = as_used
        a_tile = max(1.0, (more - few) / (_PROBES[1] - _PROBES[0]))
        fitting = max(1, int((_SHARE * free - max(0, few - before)) / a_tile))
        return min(_MOST, 1 << fitting.bit_length() - 1)

    def _peak(self, n_tiles: int, side: int) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        self.encode(np.zeros((n_tiles, side, side, 3), np.uint8), 0.5)
        return torch.cuda.max_memory_allocated(self._device)

    def encode(self, tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
        """Features float32 (n_tiles, n_features)."""
        return self.submit(tiles, tile_mpp)()

    def submit(self, tiles: NDArray[np.uint8], tile_mpp: float) -> Pending:
        """Begin a batch; what is returned waits for its features. The tiles must stay as they are until then.

        Raises:
            DeviceError: no room on the device; also what is returned may raise it.
            SettingsError: the network can't be compiled here.
        """
        del tile_mpp  # checked before; a network sees pixels
        n_tiles = len(tiles)
        with torch.inference_mode(), self._explained(n_tiles):
            if self._whole is not None:
                self._whole = max(self._whole, n_tiles)
                if n_tiles < self._whole:
                    tiles = np.concatenate([tiles, np.zeros((self._whole - n_tiles, *tiles.shape[1:]), np.uint8)])
            if self._copies is None:
                features: NDArray[np.float32] = self._forward(torch.from_numpy(tiles).to(self._device)).cpu().numpy()
                return lambda: features[:n_tiles]
            return self._submit_cuda(tiles, n_tiles)

    def _forward(self, tiles: torch.Tensor) -> torch.Tensor:
        with self._arithmetic():
            return self._pooled(self._model(self._normalise(tiles))).float()

    def _arithmetic(self) -> AbstractContextManager[object]:
        return nullcontext() if self._dtype is None else torch.autocast(self._device.type, self._dtype)

    def _submit_cuda(self, tiles: NDArray[np.uint8], n_tiles: int) -> Pending:
        """The copy there on a stream of its own, beside the batch that is computed; the copy back not waited for."""
        with torch.cuda.device(self._device):
            computing = torch.cuda.current_stream(self._device)
            with torch.cuda.stream(self._copies):
                there = torch.from_numpy(tiles).to(self._device, non_blocking=True)
            computing.wait_stream(self._copies)  # type: ignore[arg-type]
            there.record_stream(computing)
            features = self._forward(there)
            back = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
            back.copy_(features, non_blocking=True)
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # leaves the processor to readers
            done.record(computing)

        def wait() -> NDArray[np.float32]:
            with self._explained(n_tiles):
                done.synchronize()
            values: NDArray[np.float32] = back.numpy()
            return values[:n_tiles]

        return wait

    @contextmanager
    def _explained(self, n_tiles: int) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_ROOM)):
                if self._whole is None or not type(error).__module__.startswith(_COMPILERS):
                    raise
                raise SettingsError(
                    f"{self.name}: --compile can't be done here ({str(error).splitlines()[0]}). Leave it out."
                ) from error
            self._whole = None if self._whole is None else 0
            # Its frames name all that the batch had made so far, and from Python 3.12 on a generator that an error went
            # through keeps it in a circle: the device would stay as full for the smaller batches that are tried now.
            clear_frames(error.__traceback__)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise DeviceError(
                f"{self.name}: no room on {self._device} for {n_tiles} tiles at once ({str(error).splitlines()[0]}). "
                "Free it of other work, or take another --device."
            ) from error

    def close(self) -> None:
        """Nothing to let go of."""


def round_weights(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of products as autocast would round them for each batch: half the memory, and no other bit.

    Args:
        model: changed in place; its norms, embeddings and scales stay as they are.
        dtype: that autocast computes in.
    """
    for module in model.modules():
        if type(module) in (torch.nn.Linear, torch.nn.Conv2d):  # a class derived from them may do other things
            module.to(dtype)


def _round_transformers(model: torch.nn.Module, dtype: torch.dtype) -> None:
    for part in model.modules():
        if isinstance(part, VisionTransformer):  # others may compute in fp32 in places
            round_weights(part, dtype)


def _on_device(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    model = model.eval().requires_grad_(False).to(device)
    return model.to(memory_format=torch.channels_last)


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()})"
