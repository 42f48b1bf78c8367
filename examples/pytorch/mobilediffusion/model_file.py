# SPDX-License-Identifier: Apache-2.0
"""Files of weights: the library's own (one file is one model), and folders as diffusers lays out a model."""
import base64
import json
import os
from pathlib import Path
import re
import shutil

from safetensors import safe_open
from safetensors.torch import save_file
import torch

from .tokenizer import ClipTokenizer, SentencepieceTokenizer
from .words import known_words

TOKENIZER_KEY = "mobilediffusion.tokenizer"
PARTS = {  # of a folder: the names of its files, and of the state dict
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}


def write_safetensors(path, tensors, metadata=None):
    """The file is replaced in one step, so a kill at any moment leaves the old one or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, partial, metadata or {})
    os.umask(mask := os.umask(0))
    os.chmod(partial, 0o666 & ~mask)  # as any other file; safetensors makes them private
    os.replace(partial, path)


def read_safetensors(path):
    """(tensors, metadata)"""
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}, f.metadata() or {}


def read_part(folder, stem):
    """The tensors of one network of a diffusers folder: STEM.safetensors, sharded or not, else STEM.fp16.safetensors."""
    folder = Path(folder)
    whole, index, half = (folder / (stem + end) for end in (".safetensors", ".safetensors.index.json", ".fp16.safetensors"))
    if index.exists() and not whole.exists():
        tensors = {}
        for name in sorted(set(json.loads(index.read_text())["weight_map"].values())):
            tensors.update(read_safetensors(folder / name)[0])
        return tensors
    for path in (whole, half):
        if path.exists():
            return read_safetensors(path)[0]
    raise ValueError(f"folder {folder}: expected {whole.name}, found none")


def _renamed(part, tensors):
    """By the names of today's diffusers, as checkpoints of older and newer releases have them."""
    out = {}
    for name, t in tensors.items():
        if part.startswith("text_encoder"):
            if name.endswith("position_ids") or name in ("logit_scale", "visual_projection.weight") or "vision_model." in name:
                continue
            if not name.startswith(("text_model.", "text_projection.")):
                name = "text_model." + name  # transformers 5 saves none of the prefix
        elif part == "vae":
            for old, new in ((".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")):
                name = name.replace(old, new)
            if re.search(r"attentions\.0\.to_.*weight", name) and t.ndim == 4:
                t = t[:, :, 0, 0]
        out[name] = t
    return out


def _load(module, tensors, where, optional=()):
    """Strictly; `optional`: names that a file may have besides."""
    wanted = module.state_dict()
    tensors = {k: t for k, t in tensors.items() if k in wanted or k not in optional}
    for name in sorted(set(wanted) | set(tensors)):
        found = list(tensors[name].shape) if name in tensors else "none"
        expected = list(wanted[name].shape) if name in wanted else "none"
        if found != expected:
            raise ValueError(f"{where}: tensor {name}: expected {expected}, found {found}")
    with torch.no_grad():
        module.load_state_dict({k: t.float() for k, t in tensors.items()})


def _library_part(path, part):
    with safe_open(path, "pt") as f:
        names = [k for k in f.keys() if k.startswith(part + ".")]
        tensors = {k[len(part) + 1:]: f.get_tensor(k) for k in names}
    if any(t.dtype == torch.int8 for t in tensors.values()):
        raise ValueError(f"file {path}: weights of 8 bits, expected a file of fp16, bf16 or fp32 to train from")
    return tensors


def load_part(model, part, path):
    """The weights of `part` ("unet", "vae", "text_encoder") into the model: from a model file of the library, or from a folder as
    diffusers has it (for a part alone also its own folder). Raises ValueError for what is not exactly that network."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: cannot open: expected a model file or a folder")
    if path.is_dir():
        folder = path / part if (path / part).is_dir() else path
        if part == "vae" and (folder / "config.json").exists():
            said = json.loads((folder / "config.json").read_text()).get("scaling_factor")
            if said is not None and abs(said - model.config.vae.scaling) > 1e-6:
                raise ValueError(f"folder {folder}: expected a scaling_factor of {model.config.vae.scaling}, found {said}")
        tensors, where = _renamed(part, read_part(folder, PARTS[part])), f"folder {folder}"
    else:
        tensors, where = _library_part(path, part), f"file {path}"
    _load(getattr(model, part), tensors, where, optional=("text_projection.weight",) if part == "text_encoder" else ())


def has_part(path, part):
    path = Path(path)
    if path.is_dir():
        return (path / part).is_dir()
    with safe_open(path, "pt") as f:
        return any(k.startswith(part + ".") for k in f.keys())


def read_tokenizer(path):
    """Of a model file, or of a folder with CLIP's in tokenizer/; None where there is none."""
    path = Path(path)
    if path.is_dir():
        return ClipTokenizer(path / "tokenizer") if (path / "tokenizer").is_dir() else None
    with safe_open(path, "pt") as f:
        text = (f.metadata() or {}).get(TOKENIZER_KEY)
    return SentencepieceTokenizer(base64.b64decode(text)) if text else None


def write_model(path, model, state, tokenizer, captions=(), dtype=torch.float16, metadata=None):
    """What TextToImage opens: a file with everything in it, or with CLIP's tokenizer a folder as diffusers has it, since the
    library reads that tokenizer from there only. state: the weights by their names. captions: what the model learnt from."""
    def stored(t):
        t = t.to(dtype)
        if not torch.isfinite(t).all():
            raise ValueError(f"{path}: a weight does not fit into {dtype}; store another type")
        return t

    tensors = {k: stored(t) for k, t in state.items()}
    if tokenizer.is_clip:
        for part in dict.fromkeys(k.split(".", 1)[0] for k in tensors):
            write_safetensors(Path(path) / part / (PARTS[part] + ".safetensors"),
                              {k[len(part) + 1:]: t for k, t in tensors.items() if k.startswith(part + ".")}, {"format": "pt"})
        shutil.copytree(tokenizer.folder, Path(path) / "tokenizer", dirs_exist_ok=True)
        return
    write_safetensors(path, tensors, {
        **model.metadata, TOKENIZER_KEY: base64.b64encode(tokenizer.model).decode(), **known_words(captions), **(metadata or {})})
