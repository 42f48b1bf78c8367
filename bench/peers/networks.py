# SPDX-License-Identifier: Apache-2.0
"""The networks that are compared: PyTorch's twin of the library's, seeded weights and inputs in files that every engine reads."""
from pathlib import Path
import sys

import torch
from torch import nn
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "twin"))
import twin  # noqa: E402

NAMES = ("unet", "decoder")
RECIPE = "1"  # raise it when weights or inputs change: older files are then made again


class Decoder(nn.Module):
    """What decoding needs of the autoencoder."""

    def __init__(self, c):
        super().__init__()
        vae = twin.Vae(c)
        self.decoder, self.post_quant_conv = vae.decoder, vae.post_quant_conv

    def forward(self, z):
        return self.decoder(self.post_quant_conv(z))


def empty(name):
    """The module without memory for its weights."""
    full = twin.preset("full")
    with torch.device("meta"):
        return twin.Unet(full.unet) if name == "unet" else Decoder(full.vae)


def random_inputs(name, seed):
    """Channels first, in the order of the module's arguments."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(1, 8, 64, 64, generator=g)
    if name == "decoder":
        return {"z": z}
    return {"z": z, "timesteps": 1000 * torch.rand(1, generator=g), "context": torch.randn(1, 77, 768, generator=g)}


def channels_last(x):
    return x.permute(0, 2, 3, 1).contiguous() if x.ndim == 4 else x.contiguous()


def channels_first(x):
    return x.permute(0, 3, 1, 2).contiguous() if x.ndim == 4 else x


def weights_path(folder, name):
    return Path(folder) / f"{name}.safetensors"


def inputs_path(folder, name):
    return Path(folder) / f"{name}_inputs.safetensors"


def reference_path(folder, name):
    return Path(folder) / f"{name}_reference.safetensors"


def load(folder, name):
    """The module with the file's weights, for inference."""
    module = empty(name)
    module.load_state_dict(load_file(weights_path(folder, name)), strict=True, assign=True)
    return module.eval().requires_grad_(False)


def load_inputs(folder, name):
    """Channels first, in the order of the module's arguments."""
    tensors = load_file(inputs_path(folder, name))
    return [channels_first(tensors[k]) for k in random_inputs(name, 0)]


def seeded_weights(name):
    """PyTorch's own initialization of each layer; the norms' are moved off 1 and 0, so that none of them is without effect."""
    torch.manual_seed(1)
    module = empty(name).to_empty(device="cpu")
    with torch.no_grad():
        for m in module.modules():
            if hasattr(m, "reset_parameters"):
                m.reset_parameters()
            if isinstance(m, (nn.GroupNorm, nn.LayerNorm)):
                m.weight.add_(0.1 * torch.randn_like(m.weight))
                m.bias.add_(0.1 * torch.randn_like(m.bias))
    return module.state_dict()


def is_current(path):
    if not path.exists():
        return False
    with safe_open(path, "pt") as f:
        return (f.metadata() or {}).get("recipe") == RECIPE


def write(path, tensors):
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary, {"recipe": RECIPE})
    temporary.rename(path)


def prepare(folder, name):
    """Writes weights, inputs and PyTorch's fp32 output of them, where they are missing."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [f(folder, name) for f in (weights_path, inputs_path, reference_path)]
    if all(is_current(p) for p in paths):
        return
    weights, inputs, reference = paths
    write(weights, seeded_weights(name))
    write(inputs, {k: channels_last(x) for k, x in random_inputs(name, 2).items()})
    with torch.inference_mode():
        y = load(folder, name)(*load_inputs(folder, name))
    write(reference, {"output": channels_last(y)})
