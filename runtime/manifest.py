"""The manifest of a package: what the package holds, and what its network takes.

Every number and every list has bounds: a manifest may come from anyone.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

SCHEMA = 1
UNSEALED = "0" * 64
"""The digest of a manifest that was not written yet."""

Text = Annotated[str, msgspec.Meta(max_length=1000)]
FileName = Text
"""A path from the package's folder on, with slashes."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Decibel = Annotated[float, msgspec.Meta(ge=-1000, le=1000)]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the manifest."""


class FileEntry(Entry, frozen=True, kw_only=True):
    """What a file of the package is known by: its size in bytes and its SHA-256."""

    size: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    sha256: Sha256


class BaseEntry(Entry, frozen=True, kw_only=True):
    """The base of a package: its name, its architecture and its weights' file."""

    name: Text
    architecture: Text
    file: FileName
    parameters: Count
    licence: Text


class AdapterEntry(Entry, frozen=True, kw_only=True):
    """One adapter of a package, and the file of its canonical factors."""

    file: FileName
    rank: Annotated[int, msgspec.Meta(ge=0, le=2**16)]
    parameters: Count
    licence: Text


class FrameContract(Entry, frozen=True, kw_only=True):
    """What the graph takes and gives: uint8 RGB, N x H x W x 3.

    Attributes:
        multiple_of: H and W of what the graph is given are multiples of this.
        overlap: how far an output pixel looks, pixels, rounded up to a multiple of `multiple_of`: tiles that overlap by
            this much on each side join without a seam.
        exact_tiles: False where a pixel looks at the whole frame (global pooling), so that tiles are an approximation.
        bytes_per_pixel: memory that the largest set of live activations takes, for each pixel of the frame.
    """

    multiple_of: Annotated[int, msgspec.Meta(ge=1, le=512)]
    overlap: Annotated[int, msgspec.Meta(ge=0, le=2**13)]
    exact_tiles: bool
    bytes_per_pixel: Annotated[float, msgspec.Meta(ge=6, le=1e6)]


Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("int8", "fp16", "fp32")
"""From the fastest to the most exact."""


class PrecisionEntry(Entry, frozen=True, kw_only=True, omit_defaults=True):
    """What a precision costs a composition, as export measured it.

    Attributes:
        passed: it costs no more than the gate allows.
        psnr: of its frames against the float32 ones, dB, at most 100; None where it gives no frames, for want of range.
        restoration: change of the restored frames' mean PSNR against the truth, dB, negative for a loss; None where no
            truth is known.
        graph: the graph's file, of a precision whose graph is the composition's own.
        method: how the ranges of int8 were chosen.
        returned: the weights whose layers were left in float16 until the rest passed.
    """

    passed: bool
    psnr: Decibel | None
    restoration: Decibel | None
    graph: FileName | None = None
    method: Text | None = None
    returned: Annotated[list[Text], msgspec.Meta(max_length=10_000)] = []


class CompositionEntry(Entry, frozen=True, kw_only=True, omit_defaults=True):
    """One composition that was asked for at export.

    Attributes:
        recommended: the fastest precision that passed.
        precisions: those that were tried; fp32 needs no trial.
    """

    recommended: Precision = "fp32"
    precisions: dict[Precision, PrecisionEntry] = {}


Norm = Literal["sum", "softmax"]


class RouterSettings(Entry, frozen=True, kw_only=True):
    """How similarities become a composition: `s = norm_K(topK(similarity))`, as in UIR-LoRA.

    Attributes:
        threshold: an adapter that is less similar than this is not there.
        top_k: how many adapters are taken at most, the most similar ones.
        norm: what makes weights of the similarities, which sum to one: `sum` divides them by their sum, `softmax`
            raises e to each over the temperature first.
        temperature: of the softmax: the larger, the more alike the weights.
        lattice: weights are rounded to multiples of one over this, so that engines are few and are used again.
    """

    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)]
    top_k: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    norm: Norm
    temperature: Annotated[float, msgspec.Meta(ge=1e-3, le=1e3)]
    lattice: Annotated[int, msgspec.Meta(ge=1, le=1000)]


class RouterEntry(RouterSettings, frozen=True, kw_only=True):
    """The router of a package.

    Attributes:
        file: its network, ONNX.
        prototypes: safetensors; by name, the prototypes of the package's adapters (those that have one), and of the
            clean picture as `clean`.
    """

    file: FileName
    prototypes: FileName


class Provenance(Entry, frozen=True, kw_only=True):
    """What made the package."""

    tool: Text
    command: list[str]


class Manifest(Entry, frozen=True, kw_only=True):
    """The manifest of a package.

    Attributes:
        graphs: the graph's file for each precision whose graph all compositions share.
        compositions: by key, the compositions that were asked for at export.
        default: key of the composition that runs where none is named.
        files: size and SHA-256 of every other file in the package, by its path.
        router: what chooses a composition by a frame; None where none of the adapters has a prototype.
        digest: SHA-256 of all the rest of the manifest, see `uir.runtime.manifest_file.digest`.
    """

    schema: int
    base: BaseEntry
    graphs: dict[Precision, FileName]
    adapters: Annotated[dict[str, AdapterEntry], msgspec.Meta(max_length=1000)]
    compositions: Annotated[dict[str, CompositionEntry], msgspec.Meta(max_length=10_000)]
    default: str
    frame: FrameContract
    provenance: Provenance
    files: Annotated[dict[FileName, FileEntry], msgspec.Meta(max_length=100_000)]
    router: RouterEntry | None = None
    digest: Sha256 = UNSEALED
