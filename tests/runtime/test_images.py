"""Still images: what is kept, what is said to be lost, what is refused. Every file is a real one."""

import io
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.ExifTags import IFD, Base

from uir.runtime.errors import MediaError, MissingFileError, OutputError, UirError, UsageError
from uir.runtime.images import process_image
from uir.runtime.picture_formats import is_image

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">five stars</x:xmpmeta>'
LOSSLESS = [".png", ".tif", ".bmp"]
WITH_METADATA = [".png", ".jpg", ".webp", ".tif"]


def scene(height=48, width=64, channels=3):
    """Smooth and asymmetric, so that JPEG keeps it closely and every turn of it differs."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = [4 * x, 5 * y, 2 * (x + y), 255 - 2 * x][:channels]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def deep_scene(channels=3):
    return (scene(channels=channels).astype(np.uint16) * 257) + np.arange(64, dtype=np.uint16)[:, None] % 100


def brighter(frame):
    return np.minimum(frame, 245) + np.uint8(10)


def same(frame):
    return frame


def exif_block(orientation):
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    exif[Base.Make] = "Maker"
    exif.get_ifd(IFD.Exif)[Base.ExposureTime] = 0.01
    exif.get_ifd(IFD.GPSInfo)[1] = "N"
    return exif.tobytes()


def shown(path):
    """The picture as a viewer shows it, RGB."""
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def deep_pixels(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]


@pytest.mark.parametrize("suffix", WITH_METADATA)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_kept_and_the_network_sees_the_picture_upright(tmp_path, suffix, orientation):
    source, result = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    Image.fromarray(scene()).save(source, exif=exif_block(orientation), quality=100)
    seen = []

    def process(frame):
        seen.append(frame)
        return brighter(frame)

    assert process_image(source, result, process) == []
    assert np.array_equal(seen[0], shown(source))
    assert np.abs(shown(result).astype(int) - brighter(shown(source))).max() <= 8
    with Image.open(result) as image:
        exif = image.getexif()
        assert exif[Base.Orientation] == orientation
        assert exif[Base.Make] == "Maker"
        assert float(exif.get_ifd(IFD.Exif)[Base.ExposureTime]) == 0.01
        assert exif.get_ifd(IFD.GPSInfo)[1] == "N"


@pytest.mark.parametrize("target", [".jpg", ".tif", ".webp", ".png"])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_metadata_survive_a_change_of_format(tmp_path, suffix, target):
    source, result = tmp_path / f"in{suffix}", tmp_path / f"out{target}"
    options = {"tiffinfo": exif_with_xmp()} if suffix == ".tif" else {"exif": exif_block(6), "xmp": XMP}
    Image.fromarray(scene()).save(source, icc_profile=ICC, **options)
    assert process_image(source, result, same) == []
    with Image.open(result) as image:
        assert image.info["icc_profile"] == ICC
        assert image.info["xmp"].rstrip(b"\0") == XMP
        exif = image.getexif()
        assert exif[Base.Orientation] == 6
        assert float(exif.get_ifd(IFD.Exif)[Base.ExposureTime]) == 0.01
    assert np.abs(shown(result).astype(int) - shown(source)).max() <= 8


def exif_with_xmp():
    exif = Image.Exif()
    exif.load(exif_block(6))
    exif[Base.XMLPacket] = XMP
    return exif


def test_bmp_is_written_upright_and_says_what_it_cannot_hold(tmp_path):
    source, result = tmp_path / "in.jpg", tmp_path / "out.bmp"
    Image.fromarray(scene()).save(source, exif=exif_block(6), icc_profile=ICC, xmp=XMP)
    notes = process_image(source, result, same)
    assert [note.split(" lost")[0] for note in notes] == ["EXIF", "ICC profile", "XMP"]
    assert np.array_equal(shown(result), shown(source))


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_hold_exactly_what_the_network_gave(tmp_path, suffix):
    source, result = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    Image.fromarray(scene()).save(source)
    assert process_image(source, result, brighter) == []
    assert np.array_equal(shown(result), brighter(scene()))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_carried_over_untouched(tmp_path, suffix, mode):
    source, result = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    rgba = Image.fromarray(scene(channels=4))
    (rgba if mode == "RGBA" else rgba.convert("LA")).save(source, lossless=True, exact=True)
    assert process_image(source, result, brighter) == []
    with Image.open(result) as image:
        assert np.array_equal(np.array(image.getchannel("A")), scene(channels=4)[..., 3])
        assert image.mode == ("RGBA" if suffix == ".webp" else mode)
        assert np.abs(np.array(image.convert("RGB")).astype(int) - brighter(shown(source))).max() <= 12


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_lost_alpha_is_said(tmp_path, suffix):
    source, result = tmp_path / "in.png", tmp_path / f"out{suffix}"
    Image.fromarray(scene(channels=4)).save(source)
    (note,) = process_image(source, result, same)
    assert note.startswith("transparency lost")
    assert np.abs(shown(result).astype(int) - scene()).max() <= 6


def test_a_palette_picture_with_transparency_becomes_full_colour(tmp_path):
    source, result = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(scene()).quantize(16).save(source, transparency=0)
    assert process_image(source, result, same) == []
    with Image.open(source) as before, Image.open(result) as after:
        assert after.mode == "RGBA"
        assert np.array_equal(np.array(after), np.array(before.convert("RGBA")))
        assert len(np.unique(np.array(after.getchannel("A")))) == 2


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_grey_stays_grey(tmp_path, suffix):
    source, result = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    Image.fromarray(scene()[..., 0]).save(source, quality=100)

    def tint(frame):
        assert frame.shape == (48, 64, 3)
        return frame + np.array([3, 0, 0], np.uint8)

    process_image(source, result, tint)
    with Image.open(result) as image, Image.open(source) as before:
        assert image.mode == "L"
        assert np.abs(np.array(image).astype(int) - np.array(before) - 1).max() <= (2 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_kept(tmp_path, suffix, channels):
    source, result = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    pixels = deep_scene(channels)
    samples = pixels[..., 0] if channels == 1 else pixels
    cv2.imwrite(str(source), samples if channels == 1 else samples[..., [2, 1, 0, 3][:channels]])
    assert process_image(source, result, same) == []
    after = cv2.imread(str(result), cv2.IMREAD_UNCHANGED)
    assert after.dtype == np.uint16
    assert np.array_equal(after, cv2.imread(str(source), cv2.IMREAD_UNCHANGED))


def test_a_change_in_eight_bits_keeps_the_fine_steps_of_sixteen(tmp_path):
    source, result = tmp_path / "in.png", tmp_path / "out.png"
    cv2.imwrite(str(source), deep_scene()[..., ::-1])
    process_image(source, result, brighter)
    before, after = deep_pixels(source).astype(int), deep_pixels(result).astype(int)
    dark = before < 240 * 257
    assert np.array_equal(after[dark], before[dark] + 10 * 257)
    coarse = brighter(((before + 128) // 257).astype(np.uint8)).astype(int) * 257
    assert np.abs(after - coarse).max() <= 129


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("between_suffix", [".png", ".tif"])
def test_sixteen_bits_come_with_orientation_and_profile(tmp_path, between_suffix, suffix):
    source, between, result = tmp_path / "in.tif", tmp_path / f"mid{between_suffix}", tmp_path / f"out{suffix}"
    tags = [(Base.Orientation, "H", 1, 6, True), (Base.InterColorProfile, "B", len(ICC), ICC, True)]
    tifffile.imwrite(source, deep_scene(), photometric="rgb", extratags=tags)
    seen = []
    process_image(source, between, lambda frame: seen.append(frame) or frame)
    process_image(between, result, same)
    assert np.array_equal(seen[0], np.rot90((deep_scene() / 257).round().astype(np.uint8), -1))
    with Image.open(result) as image:
        assert image.getexif()[Base.Orientation] == 6
        assert image.info["icc_profile"] == ICC
    stored = tifffile.imread(result) if suffix == ".tif" else deep_pixels(result)
    assert np.array_equal(stored, deep_scene())


def test_eight_bits_out_of_sixteen_are_said(tmp_path):
    source, result = tmp_path / "in.png", tmp_path / "out.jpg"
    cv2.imwrite(str(source), deep_scene()[..., ::-1])
    (note,) = process_image(source, result, same)
    assert note.startswith("16-bit picture written in 8 bits")
    assert np.abs(shown(result).astype(int) - scene()).max() <= 6


def test_jpeg_is_written_without_chroma_subsampling(tmp_path):
    source, result = tmp_path / "in.png", tmp_path / "out.jpg"
    Image.fromarray(scene()).save(source)
    process_image(source, result, same)
    with Image.open(result) as image:
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3


def test_cmyk_becomes_rgb_and_says_so(tmp_path):
    source, result = tmp_path / "in.jpg", tmp_path / "out.jpg"
    Image.fromarray(scene()).convert("CMYK").save(source, quality=100)
    assert process_image(source, result, same) == ["CMYK picture written in RGB (sRGB)"]
    assert np.abs(shown(result).astype(int) - scene()).mean() < 3


def test_further_pages_are_said_to_be_lost(tmp_path):
    source, result = tmp_path / "in.tif", tmp_path / "out.tif"
    first, second = Image.fromarray(scene()), Image.fromarray(255 - scene())
    first.save(source, save_all=True, append_images=[second])
    assert process_image(source, result, same) == ["only the first of 2 pages is restored; the others are left out"]
    assert np.array_equal(shown(result), scene())


def test_the_further_pictures_of_a_phone_are_said_to_be_lost(tmp_path):
    source, result = tmp_path / "in.jpg", tmp_path / "out.jpg"
    first, second = Image.fromarray(scene()), Image.fromarray(255 - scene())
    first.save(source, "MPO", quality=95, save_all=True, append_images=[second])
    (note,) = process_image(source, result, same)
    assert note.startswith("the further pictures")
    assert np.abs(shown(result).astype(int) - shown(source)).max() <= 6


def test_compare_puts_source_and_result_side_by_side_the_right_way_up(tmp_path):
    source, result = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(scene(channels=4)).save(source, exif=exif_block(6))
    process_image(source, result, brighter, compare=True)
    upright = shown(source)
    assert np.array_equal(shown(result), np.concatenate([upright, brighter(upright)], axis=1))


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_animations_are_refused(tmp_path, suffix):
    source = tmp_path / f"in{suffix}"
    Image.fromarray(scene()).save(source, save_all=True, append_images=[Image.fromarray(255 - scene())])
    refused(source, tmp_path, "animation of 2 frames")


def refused(source, folder, words, error=MediaError):
    result = folder / "result.png"
    with pytest.raises(error, match=words) as caught:
        process_image(source, result, same)
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not result.exists()
    assert not list(folder.glob(".*"))


def test_missing_empty_folder_and_text_are_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("This is not a picture.")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "no.png", tmp_path, "no such file", MissingFileError)
    refused(tmp_path / "empty.png", tmp_path, "empty file")
    refused(tmp_path / "text.png", tmp_path, "not a PNG")
    refused(tmp_path / "folder.png", tmp_path, "not a file")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_pictures_are_refused(tmp_path, suffix, share):
    whole, source = tmp_path / f"whole{suffix}", tmp_path / f"in{suffix}"
    rough = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(rough).save(whole)
    source.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    refused(source, tmp_path, "damaged|truncated")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_truncated_sixteen_bit_pictures_are_refused(tmp_path, suffix):
    whole, source = tmp_path / f"whole{suffix}", tmp_path / f"in{suffix}"
    cv2.imwrite(str(whole), np.random.default_rng(0).integers(0, 65536, (48, 64, 3), np.uint16))
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    refused(source, tmp_path, "damaged|truncated")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_damaged_bytes_never_end_in_anything_but_our_errors(tmp_path, suffix):
    source, result = tmp_path / f"in{suffix}", tmp_path / "out.png"
    Image.fromarray(scene()).save(source, **({} if suffix == ".bmp" else {"exif": exif_block(6), "icc_profile": ICC}))
    whole, random = source.read_bytes(), np.random.default_rng(0)
    refusals = 0
    for _ in range(100):
        damaged = bytearray(whole)
        for place in random.integers(0, min(len(whole), 1000), 3):
            damaged[place] = random.integers(0, 256)
        source.write_bytes(damaged)
        try:
            process_image(source, result, same, overwrite=True)
        except UirError:
            refusals += 1
    assert refusals


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path):
    source = tmp_path / "bomb.png"

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (100_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    source.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    refused(source, tmp_path, "too large")


@pytest.mark.parametrize(
    ("head", "name"),
    [(b"GIF89a", "GIF"), (b"\0\0\0\x18ftypheic", "HEIC"), (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000")],
)
def test_other_picture_formats_are_refused_by_name(tmp_path, head, name):
    source = tmp_path / "in.dat"
    source.write_bytes(head + bytes(40))
    assert is_image(source)
    refused(source, tmp_path, f"{name} pictures are not supported")
    with pytest.raises(MediaError, match=f"{name} pictures are not supported"):
        process_image(source, source.with_suffix(".gif"), same)


@pytest.mark.parametrize("options", [{"dtype": np.float32}, {"dtype": np.uint16, "planarconfig": "separate"}])
def test_kinds_of_tiff_that_would_come_out_wrong_are_refused(tmp_path, options):
    source = tmp_path / "in.tif"
    planes = deep_scene().astype(options["dtype"])
    planar = options.get("planarconfig")
    tifffile.imwrite(source, planes.transpose(2, 0, 1) if planar else planes, photometric="rgb", planarconfig=planar)
    refused(source, tmp_path, "not supported|not a PNG")


def test_destinations_that_cannot_be_written_are_refused_before_the_network_runs(tmp_path):
    source = tmp_path / "in.png"
    Image.fromarray(scene()).save(source)
    (tmp_path / "there.png").write_bytes(b"precious")

    def never(_frame):
        raise AssertionError("the network ran")

    with pytest.raises(UsageError, match=r"\.xyz.*\.png"):
        process_image(source, tmp_path / "out.xyz", never)
    with pytest.raises(OutputError, match="exists already"):
        process_image(source, tmp_path / "there.png", never)
    with pytest.raises(OutputError, match="no such folder"):
        process_image(source, tmp_path / "nowhere" / "out.png", never)
    with pytest.raises(OutputError, match="input itself"):
        process_image(source, source, never, overwrite=True)
    assert (tmp_path / "there.png").read_bytes() == b"precious"
    process_image(source, tmp_path / "there.png", same, overwrite=True)
    assert np.array_equal(shown(tmp_path / "there.png"), scene())


def test_a_format_that_is_too_small_says_so(tmp_path):
    source = tmp_path / "in.png"
    Image.fromarray(np.zeros((2, 16_400, 3), np.uint8)).save(source)
    with pytest.raises(OutputError, match="16400 x 2 pixels as WebP"):
        process_image(source, tmp_path / "out.webp", same)
    assert not (tmp_path / "out.webp").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    source = tmp_path / "in.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(source)
    code = (
        "import resource, sys; from pathlib import Path; from uir.runtime.images import process_image\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"  # a file may not grow over 4 KiB
        "process_image(Path(sys.argv[1]), Path(sys.argv[2]), lambda frame: frame)"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "out.png")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OutputError" in finished.stderr.splitlines()[-1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.png"]


def test_content_decides_what_is_a_picture(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "PNG")
    (tmp_path / "picture.mp4").write_bytes(stream.getvalue())
    (tmp_path / "text.txt").write_text("BMW and other words that begin alike")
    (tmp_path / "empty.jpg").touch()
    assert is_image(tmp_path / "picture.mp4")
    assert is_image(tmp_path / "empty.jpg")
    assert not is_image(tmp_path / "text.txt")
    assert not is_image(tmp_path)
    with pytest.raises(MissingFileError):
        is_image(Path("nowhere.png"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_an_8k_still_needs_few_copies_of_itself(tmp_path):
    """In a process of its own: the libraries take 60 MiB, each uint8 copy 95 MiB. Measured: 308 MiB."""
    source = tmp_path / "in.jpg"
    Image.fromarray(np.tile(scene(480, 640), (9, 12, 1))).save(source)
    code = (
        "import re, sys; from pathlib import Path; from uir.runtime.images import process_image\n"
        "process_image(Path(sys.argv[1]), Path(sys.argv[2]), lambda frame: frame.copy())\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "out.jpg")]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) // 1024
    assert 200 < peak < 450
