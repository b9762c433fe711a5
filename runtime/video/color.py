"""YUV to RGB and back so that an untouched frame comes back as it was.

swscale takes BT.601 for whatever says nothing, and rounds and subsamples coarsely unless told otherwise; here the
matrix and the range are always given, by one rule in both directions. The numbers are those of ISO/IEC 23091-2
(ITU-T H.273), which FFmpeg uses too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from uir.runtime.errors import MediaError

RGB, BT709, UNSPECIFIED = 0, 1, 2
SMPTE170M = 6
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}

# H.273's number -> swscale's (SWS_CS_*), as numbers: PyAV before 18 does not name them all.
_BT601, _BT709 = 5, 1
_SWSCALE = {BT709: _BT709, 4: 4, 5: _BT601, SMPTE170M: _BT601, 7: 7, 9: 9}

# Full chroma interpolation and exact rounding are what makes a round trip neutral: 1080p footage kept 48 dB in luma
# with them and 45 without. Bicubic chroma was no better there than bilinear (49 dB), and took twice as long.
# What is left: colours that RGB cannot hold, and swscale rounds full-range chroma down, half a code on average.
_FULL_CHROMA, _FULL_CHROMA_INPUT, _ACCURATE = 0x2000, 0x4000, 0x40000
_TO_RGB = Interpolation.BILINEAR | _ACCURATE | _FULL_CHROMA
_FROM_RGB = Interpolation.AREA | _ACCURATE | _FULL_CHROMA | _FULL_CHROMA_INPUT


@dataclass(frozen=True)
class Color:
    """What a stream says about its colours, as H.273 numbers, and what is made of it."""

    matrix_tag: int
    full_range: bool
    range_tag: int
    primaries: int
    transfer: int
    height: int
    is_rgb: bool

    @classmethod
    def of(cls, frame: VideoFrame, context: VideoCodecContext) -> Color:
        """Read the tags of a decoded frame and its decoder."""
        name, is_rgb = frame.format.name, frame.format.is_rgb
        full_by_nature = is_rgb or name.startswith(("yuvj", "gray", "pal", "mono"))
        tag = int(frame.color_range) or (int(ColorRange.JPEG) if full_by_nature else 0)
        return cls(
            matrix_tag=int(frame.colorspace),
            full_range=is_rgb or tag == ColorRange.JPEG,
            range_tag=tag,
            primaries=int(context.color_primaries),
            transfer=int(context.color_trc),
            height=frame.height,
            is_rgb=is_rgb,
        )

    @property
    def matrix(self) -> int:
        """The matrix that is used: the tagged one, or by the usual rule BT.709 from 720 lines on and BT.601 below."""
        if self.matrix_tag not in (RGB, UNSPECIFIED):
            return self.matrix_tag
        return BT709 if self.height >= 720 else SMPTE170M

    @property
    def swscale_matrix(self) -> int:
        """The matrix in swscale's numbers. Raises `MediaError` for one that it cannot convert."""
        try:
            return _SWSCALE[self.matrix]
        except KeyError:
            raise MediaError(f"colour matrix {self.matrix} (as of H.273) is not supported; convert to BT.709") from None

    def output(self, pix_fmt: str) -> Color:
        """The tags to write: the source's own, but explicit where RGB turns into YUV or full range is forced."""
        if pix_fmt.startswith("yuvj"):
            return replace(self, full_range=True, range_tag=int(ColorRange.JPEG), matrix_tag=self.matrix, is_rgb=False)
        if self.is_rgb:
            return replace(self, full_range=False, range_tag=int(ColorRange.MPEG), matrix_tag=self.matrix, is_rgb=False)
        return self


class ToRgb:
    """Converts decoded frames to `height` x `width` x 3 uint8 arrays; frames of another size are scaled."""

    def __init__(self, color: Color, width: int, height: int) -> None:
        self._matrix, self._full = color.swscale_matrix, color.full_range
        self._size = (width, height)
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert one frame; the array may be a view of padded rows."""
        full = self._full or frame.format.is_rgb
        rgb = self._reformatter.reformat(
            frame,
            *self._size,
            format="rgb24",
            src_colorspace=self._matrix,
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=int(_TO_RGB),
        )
        image: NDArray[np.uint8] = rgb.to_ndarray()  # type: ignore[assignment]
        return image


class FromRgb:
    """Converts H x W x 3 uint8 arrays to frames for an encoder."""

    def __init__(self, color: Color, pix_fmt: str) -> None:
        self._color, self._pix_fmt, self._matrix = color, pix_fmt, color.swscale_matrix
        self._reformatter = VideoReformatter()

    def __call__(self, image: NDArray[np.uint8]) -> VideoFrame:
        """Convert one image; its memory is read, not kept."""
        color = self._color
        rgb = VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="rgb24")
        rgb.colorspace = color.matrix  # PyAV 17 loses a BT.2020 that is only asked for
        frame = self._reformatter.reformat(
            rgb,
            format=self._pix_fmt,
            dst_colorspace=self._matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG if color.full_range else ColorRange.MPEG,
            interpolation=int(_FROM_RGB),
        )
        frame.colorspace = color.matrix_tag
        frame.color_range = color.range_tag
        return frame
