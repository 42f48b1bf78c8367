# SPDX-License-Identifier: Apache-2.0
"""Everything that a training is, in one file of the layout of train/state.hpp: weights, their average, both moments of AdamW."""
import torch

from .model_file import read_safetensors, write_safetensors

MOMENTS = {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"}


def save_checkpoint(path, parameters, average, optimizer, step, identity):
    tensors = {}
    for name, p in parameters.items():
        tensors["weights." + name], tensors["average." + name] = p, average.values[name]
        for prefix, key in MOMENTS.items():
            state = optimizer.state.get(p, {})
            tensors[f"{prefix}.{name}"] = state[key] if key in state else torch.zeros_like(p)
    write_safetensors(path, tensors, {"step": str(step), **identity})


@torch.no_grad()
def load_checkpoint(path, parameters, average, optimizer, identity):
    """Returns the steps that are done. Raises ValueError for another network's, and where what must stay has changed."""
    tensors, metadata = read_safetensors(path)
    for key, value in identity.items():
        if metadata.get(key, value) != value:
            raise ValueError(f"file {path}: began with {key} {metadata[key]}, found {value}; give what it began with, or another "
                             "folder to begin anew")
    prefixes = ("weights", "average", *MOMENTS)
    for name in {f"{prefix}.{n}" for prefix in prefixes for n in parameters} ^ set(tensors):
        raise ValueError(f"file {path}: tensor {name}: {'unknown to this network' if name in tensors else 'missing'}")
    step = int(metadata["step"])
    for name, p in parameters.items():
        found = tensors["weights." + name]
        if found.shape != p.shape:
            raise ValueError(f"file {path}: tensor weights.{name}: expected {list(p.shape)}, found {list(found.shape)}")
        p.copy_(found)
        average.values[name].copy_(tensors["average." + name])
        if step:
            optimizer.state[p] = {"step": torch.tensor(float(step)),
                                  **{key: tensors[f"{prefix}.{name}"].to(p.device).clone() for prefix, key in MOMENTS.items()}}
    return step
