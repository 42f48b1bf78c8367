# SPDX-License-Identifier: Apache-2.0
"""Pictures with captions from folders, and their latents, which are made once."""
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
import torch

from .model_file import write_safetensors

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def list_pictures(folder):
    """[(path, caption)] of a folder: metadata.jsonl with `file_name` and `text` on each line, as Hugging Face's imagefolder has it,
    or pictures with their captions beside them, NAME.png and NAME.txt. Raises ValueError for a picture that has none."""
    folder = Path(folder)
    listed = folder / "metadata.jsonl"
    pairs = []
    if listed.exists():
        for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            row = json.loads(line)
            for key in ("file_name", "text"):
                if not isinstance(row.get(key), str):
                    raise ValueError(f"file {listed}, line {number}: expected the text `{key}`")
            pairs.append((folder / row["file_name"], row["text"].strip()))
    else:
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES):
            beside = path.with_suffix(".txt")
            if not beside.exists():
                raise ValueError(f"picture {path}: expected its caption in {beside.name}, or {listed.name} in the folder")
            pairs.append((path, beside.read_text(encoding="utf-8").strip()))
    if not pairs:
        raise ValueError(f"folder {folder}: expected pictures with captions, found none")
    for path, caption in pairs:
        if not path.exists() or not caption:
            raise ValueError(f"picture {path}: expected {'a caption, found an empty one' if path.exists() else 'the file'}")
    return pairs


def read_picture(path, height, width):
    """[3][height][width] in [-1, 1]: turned as Exif says, transparency over white, cut to its middle and resized."""
    from PIL import Image, ImageOps
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image, np.float32) / 127.5 - 1).permute(2, 0, 1)


@torch.no_grad()
def encode_pictures(pairs, vae, path, device, batch=8, report=lambda done: None):
    """The latents of these pictures as one file: a tensor [pictures][channels][height][width] and the captions in its metadata."""
    c = vae.config
    latents = []
    for first in range(0, len(pairs), batch):
        pictures = torch.stack([read_picture(p, c.height, c.width) for p, _ in pairs[first:first + batch]])
        latents.append(vae.to_latents(pictures.to(device)).float().cpu())
        report(first + len(pictures))
    write_safetensors(path, {"latents": torch.cat(latents)}, {"captions": json.dumps([caption for _, caption in pairs])})


class Latents(torch.utils.data.Dataset):
    """The files of a folder: of a sample its latents and the ids of its caption. Latents stay on the disk until they are asked for."""

    def __init__(self, folder, shape):
        self.files, self.captions, self.places = sorted(Path(folder).glob("*.safetensors")), [], []
        self.open, self.encode = {}, None
        for number, path in enumerate(self.files):
            with safe_open(path, "pt") as f:
                captions = json.loads((f.metadata() or {}).get("captions", "[]"))
                found = f.get_slice("latents").get_shape()
            if found != [len(captions), *shape]:
                raise ValueError(f"file {path}: expected latents of {[len(captions), *shape]}, found {found}")
            self.captions += captions
            self.places += [(number, i) for i in range(len(captions))]
        if not self.places:
            raise ValueError(f"folder {folder}: expected files of latents, found none")

    def __len__(self):
        return len(self.places)

    def __getitem__(self, i):
        number, row = self.places[i]
        if number not in self.open:  # in each process anew
            self.open[number] = safe_open(self.files[number], "pt")
        return self.open[number].get_slice("latents")[row].float(), self.encode(self.captions[i])
