#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws a picture from words, through the C interface and ctypes alone:

   draw.py libmobilediffusion.so ../emoji_one_step.safetensors "a red apple" 7 apple.png
"""
import ctypes as c
import struct
import sys
import zlib


class Error(c.Structure):
    _fields_ = [("code", c.c_int32), ("message", c.c_char * 508)]


class Info(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("format", c.c_uint32), ("preset", c.c_char_p), ("sampler", c.c_char_p),
                ("width", c.c_uint32), ("height", c.c_uint32), ("steps", c.c_uint32), ("guidance", c.c_float),
                ("context_length", c.c_uint32), ("latent_floats", c.c_uint32), ("parameters", c.c_uint64),
                ("weight_bytes", c.c_uint64), ("activation_bytes", c.c_uint64), ("scratch_bytes", c.c_uint64)]


OnStep = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_uint32, c.c_uint32)


class Request(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("prompt", c.c_char_p), ("negative", c.c_char_p),
                ("seed", c.c_uint64), ("steps", c.c_uint32), ("guidance", c.c_float), ("sampler", c.c_char_p),
                ("picture", c.c_char_p), ("picture_bytes", c.c_size_t), ("mask", c.c_char_p), ("mask_bytes", c.c_size_t),
                ("strength", c.c_float), ("on_step", OnStep), ("user", c.c_void_p), ("noise", c.POINTER(c.c_float)),
                ("noise_floats", c.c_size_t)]


class Model:
    """A model and a session of it. Pictures are bytes, three a pixel."""

    def __init__(self, library, path):
        self.library = c.CDLL(library)
        for function in ("generate", "model_open", "model_info", "session_open"):
            getattr(self.library, "mobilediffusion_" + function).restype = c.c_int
        self.model, self.session = c.c_void_p(), c.c_void_p()
        self.call("model_open", path.encode(), None, c.byref(self.model))
        self.call("session_open", self.model, None, c.byref(self.session))
        self.info = Info(struct_size=c.sizeof(Info))
        self.call("model_info", self.model, c.byref(self.info))

    def call(self, name, *arguments):
        error = Error()
        if getattr(self.library, "mobilediffusion_" + name)(*arguments, c.byref(error)) != 0:
            raise RuntimeError(error.message.decode(errors="replace") or "cancelled")

    def draw(self, prompt, seed=0, steps=0, on_step=lambda step, steps: True):
        callback = OnStep(lambda user, step, steps: 0 if on_step(step, steps) else 1)
        request = Request(struct_size=c.sizeof(Request), prompt=prompt.encode(), seed=seed, steps=steps, on_step=callback)
        rgb = c.create_string_buffer(3 * self.info.width * self.info.height)
        self.call("generate", self.session, c.byref(request), rgb, c.c_size_t(len(rgb)))
        return rgb.raw

    def close(self):
        self.library.mobilediffusion_session_close(self.session)
        self.library.mobilediffusion_model_close(self.model)


def write_png(path, rgb, width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + rgb[3 * width * y:3 * width * (y + 1)] for y in range(height))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                   chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit("draw.py: expected LIBRARY MODEL PROMPT SEED FILE.png")
    try:
        model = Model(sys.argv[1], sys.argv[2])
        picture = model.draw(sys.argv[3], seed=int(sys.argv[4]))
        write_png(sys.argv[5], picture, model.info.width, model.info.height)
        model.close()
    except RuntimeError as error:
        sys.exit(f"draw.py: {error}")
