"""`uir-run --calibrate`: int8 for a mix that the package was not exported with, found on the device itself."""

from __future__ import annotations

from pathlib import Path

import msgspec

from uir.runtime.atomic import atomic_output
from uir.runtime.composition import Composition
from uir.runtime.errors import OutputError
from uir.runtime.manifest import CompositionEntry, Precision, PrecisionEntry
from uir.runtime.manifest_file import MANIFEST, encode_manifest, file_entry, seal
from uir.runtime.merge import merge_package
from uir.runtime.package import Package
from uir.runtime.quantize import Network, best_method, enough_psnr, mean_error, psnr, ranges
from uir.runtime.samples import sample_frames

FRAMES = 24  # half of them to calibrate on, half to judge by


def calibrate(package: Package, composition: Composition, footage: str | Path) -> PrecisionEntry:
    """Find a composition's int8 ranges on footage, judge them on other frames of it, and keep them in the package.

    Args:
        footage: a photo, a video or a folder of them, as they come to be restored.

    Returns:
        What it came to. int8 that did not pass is kept as such, and is not used.

    Raises:
        UsageError: the composition names an adapter that the package does not have.
        MissingFileError, MediaError: the footage cannot be read.
        PackageError: the package is damaged, or its network gives NaN.
        OutputError: the package cannot be written to.
    """
    weights = merge_package(package, composition)
    frames = sample_frames(footage, FRAMES, package.manifest.frame.multiple_of)
    network = Network(package.graph(), weights)
    histograms = network.histograms(frames[::2])
    exact = network.run(network.graph, frames)
    method = best_method(network, histograms, frames[::2], exact=exact[::2])
    graph = network.int8(ranges(histograms, method))
    judged, wanted = frames[1::2] or frames, exact[1::2] or exact
    kept = psnr(mean_error(network.run(graph, judged), wanted))
    file = f"compositions/{composition.key}/int8.onnx"
    passed = kept >= enough_psnr(judged, wanted)
    entry = PrecisionEntry(passed=passed, psnr=kept, restoration=None, graph=file, method=method)
    _keep(package, composition, entry, file, graph)
    return entry


def _keep(package: Package, composition: Composition, entry: PrecisionEntry, file: str, graph: bytes) -> None:
    """Write the graph, and then the manifest that names it: whatever happens in between, the package stays whole."""
    path = package.path / file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path.parent}: cannot be written: {error.strerror}; the package keeps its ranges"
        ) from error
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_bytes(graph)
    listed = package.manifest.compositions.get(composition.key, CompositionEntry(recommended="fp32", precisions={}))
    tried = {**listed.precisions, "int8": entry}
    recommended: Precision = "int8" if entry.passed else "fp16" if listed.recommended != "fp32" else "fp32"
    changed = msgspec.structs.replace(
        package.manifest,
        compositions={
            **package.manifest.compositions,
            composition.key: CompositionEntry(recommended=recommended, precisions=tried),
        },
        files={**package.manifest.files, file: file_entry(graph)},
    )
    manifest = seal(changed)
    with atomic_output(package.path / MANIFEST, overwrite=True) as temporary:
        temporary.write_bytes(encode_manifest(manifest))
    package.manifest = manifest
