# SPDX-License-Identifier: Apache-2.0
"""Writes pictures.safetensors (and of some of them seeds of tests/fuzz): small PNG and JPEG files of every kind, and the pixels that a reader must find in them.

    python -m venv venv && venv/bin/pip install pillow numpy && venv/bin/python tests/golden/make_pictures.py

NAME/file: the bytes of a file. NAME/white, NAME/black: its picture, [height][width][3], with alpha over white and over black.
resize/input, resize/WxH: a picture and what Pillow's BICUBIC makes of it. JPEG files are decoded by Pillow; PNG files are written
here, and Pillow's opinion is asked where it has one.
"""

import io
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
random = np.random.default_rng(1)
tensors = {}


def add(name, array):
    tensors[name] = np.ascontiguousarray(array, np.uint8)


def over(rgba, background):
    rgb, alpha = rgba[..., :3].astype(np.int64), rgba[..., 3:].astype(np.int64)
    return (2 * (rgb * alpha + background * (255 - alpha)) + 255) // 510


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def pack(samples, depth):
    """[height][width][channels] as rows of bytes, filter 0."""
    rows = b""
    for row in samples:
        flat = row.reshape(-1).astype(np.int64)
        if depth == 16:
            data = flat.astype(">u2").tobytes()
        elif depth == 8:
            data = flat.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(v, f"0{depth}b") for v in flat)
            bits += "0" * (-len(bits) % 8)
            data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
        rows += b"\0" + data
    return rows


def png(name, samples, colour, depth, expected, chunks=b"", interlaced=False, pillow=True):
    height, width = samples.shape[:2]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        data = b"".join(pack(samples[y::dy, x::dx], depth) for y, x, dy, dx in passes if samples[y::dy, x::dx].size)
    else:
        data = pack(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    if pillow:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(file)).convert("RGBA")), expected), name
    add(name + "/file", np.frombuffer(file, np.uint8))
    add(name + "/white", over(expected, 255))
    add(name + "/black", over(expected, 0))


def rgba(*planes):
    return np.stack(np.broadcast_arrays(*planes), axis=-1).astype(np.int64)


def make_png():
    h, w = 11, 13
    opaque = np.full((h, w), 255)
    for depth in (1, 2, 4, 8, 16):
        top = 2**depth - 1
        grey = random.integers(0, top + 1, (h, w))
        value = (2 * 255 * grey + top) // (2 * top)
        pillow = depth != 16
        png(f"grey{depth}", grey[..., None], 0, depth, rgba(value, value, value, opaque), pillow=pillow)
        key = grey[3, 4]
        alpha = np.where(grey == key, 0, 255)
        png(f"grey{depth}_key", grey[..., None], 0, depth, rgba(value, value, value, alpha),
            chunk(b"tRNS", struct.pack(">H", key)), interlaced=depth == 4, pillow=depth == 8)
        if depth < 8:
            continue
        a = random.integers(0, top + 1, (h, w))
        a[:3] = 0
        a[-3:] = top
        alpha = (2 * 255 * a + top) // (2 * top)
        png(f"grey_alpha{depth}", np.stack([grey, a], -1), 4, depth, rgba(value, value, value, alpha), pillow=pillow)
        colour = random.integers(0, top + 1, (h, w, 3))
        values = (2 * 255 * colour + top) // (2 * top)
        both = np.concatenate([values, opaque[..., None]], -1)
        png(f"rgb{depth}", colour, 2, depth, both, pillow=pillow)
        both = np.concatenate([values, np.where(np.all(colour == colour[2, 2], -1), 0, 255)[..., None]], -1)
        png(f"rgb{depth}_key", colour, 2, depth, both, chunk(b"tRNS", struct.pack(">3H", *colour[2, 2])), pillow=pillow)
        for interlaced in (False, True):
            png(f"rgba{depth}" + "_interlaced" * interlaced, np.concatenate([colour, a[..., None]], -1), 6, depth,
                np.concatenate([values, alpha[..., None]], -1), interlaced=interlaced, pillow=pillow)
    for depth in (1, 2, 4, 8):
        size = 2**depth
        palette = random.integers(0, 256, (size, 3))
        index = random.integers(0, size, (h, w))
        plte = chunk(b"PLTE", palette.astype(np.uint8).tobytes())
        png(f"palette{depth}", index[..., None], 3, depth, np.concatenate([palette[index], opaque[..., None]], -1), plte)
        clear = random.integers(0, 256, (size + 1) // 2)  # fewer than colours: the others are opaque
        alpha = np.concatenate([clear, np.full(size - clear.size, 255)])[index]
        png(f"palette{depth}_alpha", index[..., None], 3, depth, np.concatenate([palette[index], alpha[..., None]], -1),
            plte + chunk(b"tRNS", clear.astype(np.uint8).tobytes()), interlaced=depth == 2)
    # Gamma is not looked at.
    grey = random.integers(0, 256, (h, w))
    png("gamma", grey[..., None], 0, 8, rgba(grey, grey, grey, opaque), chunk(b"gAMA", struct.pack(">I", 100000)))


def smooth(height, width, channels):
    """Colours that JPEG keeps apart, no two corners alike."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / width, 255 * y / height, 255 * (x + y) / (width + height), 120 * (1 - x / width)]
    return np.stack(planes[:channels], -1).astype(np.uint8)


def jpeg(name, picture, exif=None, edit=None, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92, **options, **({"exif": exif} if exif else {}))
    file = buffer.getvalue()
    if edit:
        file = edit(file)
    decoded = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB"))
    add(name + "/file", np.frombuffer(file, np.uint8))
    add(name + "/white", decoded)
    return decoded


def make_jpeg():
    colour = Image.fromarray(smooth(19, 29, 3))
    jpeg("jpeg444", colour, subsampling=0)
    jpeg("jpeg420", colour, subsampling=2)
    jpeg("jpeg_grey", colour.convert("L"))
    jpeg("jpeg_progressive", colour, progressive=True)
    jpeg("jpeg_restarts", colour, restart_marker_blocks=1)
    jpeg("jpeg_rgb", colour, keep_rgb=True)
    cmyk = smooth(19, 29, 4)
    as_cmyk = jpeg("jpeg_cmyk", Image.fromarray(cmyk, "CMYK"))
    # YCCK: inks are taken for RGB, which becomes YCbCr; black is stored inverted, as all of CMYK is.
    ycc = np.asarray(Image.fromarray(np.ascontiguousarray(cmyk[..., :3])).convert("YCbCr"))
    ycck = np.concatenate([ycc, 255 - cmyk[..., 3:]], -1)

    def mark(file):
        at = file.index(b"Adobe") + 11
        assert file[at] == 0
        return file[:at] + b"\2" + file[at + 1 :]

    as_ycck = jpeg("jpeg_ycck", Image.fromarray(255 - ycck, "CMYK"), edit=mark)
    assert np.abs(as_cmyk.astype(int) - as_ycck).max() < 12
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x010F] = "A camera"
        exif[0x0112] = orientation
        jpeg(f"jpeg_turned{orientation}", Image.fromarray(smooth(16, 24, 3)), exif=exif)


def make_resize():
    picture = Image.fromarray((smooth(43, 61, 3) * 0.7 + random.integers(0, 70, (43, 61, 3))).astype(np.uint8))
    add("resize/input", np.asarray(picture))
    for size in ((16, 16), (7, 30), (90, 20), (1, 1), (64, 50)):
        add(f"resize/{size[0]}x{size[1]}", np.asarray(picture.resize(size, Image.Resampling.BICUBIC)))


def save(path):
    header, data = {"__metadata__": {"pillow": PIL.__version__}}, b""
    for name, array in tensors.items():
        header[name] = {"dtype": "U8", "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.size]}
        data += array.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def save_seeds(folder):
    names = ["grey1", "grey16_key", "palette2_alpha", "palette4_alpha", "rgba16_interlaced", "jpeg420", "jpeg_progressive",
             "jpeg_restarts", "jpeg_turned6", "jpeg_ycck"]
    for name in names:
        (folder / f"valid-{name.replace('_', '-')}").write_bytes(tensors[name + "/file"].tobytes())


make_png()
make_jpeg()
make_resize()
save(HERE / "pictures.safetensors")
save_seeds(HERE.parent / "fuzz" / "corpus" / "image")
