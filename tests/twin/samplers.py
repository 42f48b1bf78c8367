# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/samplers.json: what diffusers' schedulers and PyTorch's generator do, for tests/diffusion/test_samplers.cpp
and tests/core/test_torch_random.cpp.

    pip install torch numpy diffusers==0.42.1
    python3 tests/twin/samplers.py tests/golden

A case is a scheduler's configuration, as it would stand in scheduler_config.json, a number of steps and a strength. Times and
latents (in the end, and after every step) come from the scheduler itself; the network is the function `network` below, new noise
is `noise`, both the same in the C++ test. Latents are divided as scale_model_input does, so that all are alpha x + sigma eps.
"""
import argparse
import importlib
import json
import math
import os
import pathlib
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import diffusers
import numpy
import torch

COUNT = 4
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
EPSILON, V, SAMPLE = ({"prediction_type": p} for p in ("epsilon", "v_prediction", "sample"))


def elements(f):
    return torch.tensor([f(i) for i in range(COUNT)], dtype=torch.float64)


PICTURE = elements(lambda i: math.cos(0.9 * i))
NOISE = elements(lambda i: 1.3 * math.sin(1.7 * i + 0.3))


def noise(draw):
    return elements(lambda i: 1.5 * math.sin(2.3 * (i + 1) + 4.1 * (draw + 1)))


def network(z, t):
    return torch.tanh(0.7 * z + 0.1 * float(t) / 1000 + elements(lambda i: 0.05 * i - 0.1).to(z))


class InDouble:
    """torch, but that its float32 is float64: for Euler's x where sigma reaches 4096 and more, and fp32 has an error of 1e-4."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def run(name, config, steps, strength=1.0, eta=None):
    module = importlib.import_module(getattr(diffusers, name).__module__)
    draws = 0

    def draw(shape, **_):
        nonlocal draws
        draws += 1
        return noise(draws - 1).to(dtype)

    module.randn_tensor = draw
    dtype = torch.float32
    high = config.get("rescale_betas_zero_snr", False) or config.get("beta_schedule") == "squaredcos_cap_v2"
    in_double = name.startswith("Euler") and high
    if in_double:
        module.torch, dtype = InDouble(), torch.float64
    try:
        scheduler = getattr(diffusers, name)(**config)
        start = 0
        distilled = name in ("LCMScheduler", "TCDScheduler")
        if distilled:
            scheduler.set_timesteps(steps, strength=strength)
            times = scheduler.timesteps
        else:
            scheduler.set_timesteps(steps)
            start = steps - max(1, min(int(steps * strength), steps))  # StableDiffusionImg2ImgPipeline.get_timesteps
            times = scheduler.timesteps[start:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        if strength < 1:
            x = scheduler.add_noise(PICTURE.to(dtype)[None], NOISE.to(dtype)[None], times[:1])[0]
        else:
            x = NOISE.to(dtype) * scheduler.init_noise_sigma
        trajectory = []
        for k, t in enumerate(times):
            z = scheduler.scale_model_input(x, t)
            trajectory.append(z)
            more = {} if eta is None else {"eta": eta}
            x = scheduler.step(network(z, t), t, x, return_dict=False, **more)[0]
        trajectory.append(x)
    finally:
        module.torch = torch
    case = {"config": {"_class_name": name, **config}, "steps": steps}
    if strength != 1.0:
        case["strength"] = strength
    if eta is not None:
        case["eta"] = eta
    if not all(torch.isfinite(z).all() for z in trajectory):
        raise ValueError(f"not finite: {case}: {trajectory}")
    case["times"] = [number(t) for t in times]
    case["latents"] = [[number(v) for v in z] for z in trajectory]
    return case


def number(value):
    value = float(f"{float(value):.8g}")
    return int(value) if value == int(value) else value


def cases():
    def spaced(**more):
        for spacing in ({"timestep_spacing": "leading", "steps_offset": 1}, {"timestep_spacing": "trailing"}, {"timestep_spacing": "linspace"}):
            yield {**STABLE_DIFFUSION, **spacing, **more}

    zero = {"rescale_betas_zero_snr": True, **V}
    for steps in (1, 2, 3, 4, 10):
        for c in spaced(clip_sample=False, set_alpha_to_one=False):
            yield run("DDIMScheduler", c, steps)
        for c in spaced(skip_prk_steps=True):
            yield run("PNDMScheduler", c, steps)
        for c in spaced():
            yield run("EulerDiscreteScheduler", c, steps)
            yield run("EulerAncestralDiscreteScheduler", c, steps)
            yield run("DPMSolverMultistepScheduler", c, steps)
        yield run("LCMScheduler", STABLE_DIFFUSION, steps)
        yield run("TCDScheduler", STABLE_DIFFUSION, steps)

    for prediction in (V, SAMPLE):
        yield run("DDIMScheduler", {**STABLE_DIFFUSION, "clip_sample": False, **prediction}, 4)
        yield run("EulerDiscreteScheduler", {**STABLE_DIFFUSION, **prediction}, 4)
        yield run("DPMSolverMultistepScheduler", {**STABLE_DIFFUSION, **prediction}, 4)
        yield run("LCMScheduler", {**STABLE_DIFFUSION, **prediction}, 4)
        yield run("TCDScheduler", {**STABLE_DIFFUSION, **prediction}, 4)
    yield run("EulerAncestralDiscreteScheduler", {**STABLE_DIFFUSION, **V}, 4)
    yield run("PNDMScheduler", {**STABLE_DIFFUSION, **V, "skip_prk_steps": True, "set_alpha_to_one": True, "steps_offset": 1}, 4)

    for eta in (0.4, 1.0):
        for c in spaced(clip_sample=False):
            yield run("DDIMScheduler", c, 4, eta=eta)
    for eta in (0.0, 0.7, 1.0):
        yield run("TCDScheduler", STABLE_DIFFUSION, 4, eta=eta)
    for steps in (1, 4):
        yield run("DDIMScheduler", {**STABLE_DIFFUSION, "clip_sample": False, "timestep_spacing": "trailing", **zero}, steps)
        yield run("EulerDiscreteScheduler", {**STABLE_DIFFUSION, "timestep_spacing": "trailing", **zero}, steps)
        yield run("EulerAncestralDiscreteScheduler", {**STABLE_DIFFUSION, "timestep_spacing": "trailing", **zero}, steps)
        yield run("DPMSolverMultistepScheduler", {**STABLE_DIFFUSION, "timestep_spacing": "trailing", **zero}, steps)
        yield run("LCMScheduler", {**STABLE_DIFFUSION, **zero}, steps)
        yield run("TCDScheduler", {**STABLE_DIFFUSION, **zero}, steps)

    karras = {**STABLE_DIFFUSION, "use_karras_sigmas": True}
    for steps in (1, 2, 4, 20):
        yield run("DPMSolverMultistepScheduler", karras, steps)
        yield run("EulerDiscreteScheduler", karras, steps)
    yield run("DPMSolverMultistepScheduler", karras, 18)  # one of its times is 0.0005 from lying between two whole ones
    yield run("EulerDiscreteScheduler", {**karras, "timestep_spacing": "trailing", "sigma_min": 0.05, "sigma_max": 10.0}, 4)
    yield run("EulerDiscreteScheduler", {**STABLE_DIFFUSION, "final_sigmas_type": "sigma_min"}, 4)
    for more in ({"solver_type": "heun"}, {"solver_order": 1}, {"solver_order": 3}, {"final_sigmas_type": "sigma_min"}, {"euler_at_final": True},
                 {"lower_order_final": False, "final_sigmas_type": "sigma_min"}, {"solver_order": 3, "lower_order_final": False, "solver_type": "heun"}):
        yield run("DPMSolverMultistepScheduler", {**STABLE_DIFFUSION, **more}, 6)
    yield run("DPMSolverMultistepScheduler", {**STABLE_DIFFUSION, "solver_order": 3, "final_sigmas_type": "sigma_min"}, 16)
    yield run("DPMSolverMultistepScheduler", {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True, **V}, 4)

    # From a picture.
    for strength in (0.6, 0.3):
        for c in spaced(clip_sample=False):
            yield run("DDIMScheduler", c, 10, strength)
        for c in spaced(skip_prk_steps=True):
            yield run("PNDMScheduler", c, 10, strength)
        for c in spaced():
            yield run("EulerDiscreteScheduler", c, 10, strength)
            yield run("EulerAncestralDiscreteScheduler", c, 10, strength)
            yield run("DPMSolverMultistepScheduler", c, 10, strength)
        yield run("DPMSolverMultistepScheduler", karras, 10, strength)
        yield run("LCMScheduler", STABLE_DIFFUSION, 4, strength)
        yield run("TCDScheduler", STABLE_DIFFUSION, 4, strength)
    yield run("LCMScheduler", STABLE_DIFFUSION, 4, 0.58)  # 50 x 0.58 is less than 29 in binary fractions
    yield run("DDIMScheduler", {**STABLE_DIFFUSION, "clip_sample": False}, 10, 0.7)
    yield run("DDIMScheduler", {**STABLE_DIFFUSION, "clip_sample": False}, 10, 0.01)  # no step is left: one

    # Other noise schedules, and what classes do by default.
    for schedule in ("linear", "squaredcos_cap_v2"):  # v: where sigma reaches 20,000, epsilon is lost in fp32
        yield run("DDIMScheduler", {"beta_schedule": schedule, "clip_sample": False, **V}, 4)
        yield run("EulerDiscreteScheduler", {"beta_schedule": schedule, **V}, 4)
        yield run("DPMSolverMultistepScheduler", {"beta_schedule": schedule, **V}, 4)
    yield run("LCMScheduler", {"original_inference_steps": 100, "timestep_scaling": 0.001}, 4)
    yield run("TCDScheduler", {"original_inference_steps": 40}, 4)


def normals():
    """Calls of torch.randn on one generator for each seed; of long ones the first and the last numbers."""
    for seed in (0, 42, 2**32 - 1, 123456789012345):
        generator = torch.Generator("cpu").manual_seed(seed)
        calls = []
        for count in (1, 2, 5, 16, 3, 17, 4, 20, 7, 15, 32, 1, 40, 16384, 19683):
            x = [float(f"{float(v):.9g}") for v in torch.randn(count, generator=generator)]
            calls.append({"count": count, "first": x[:20], "last": x[-20:]})
        x = torch.randn(1, 4, 3, 5, generator=generator)[0].permute(1, 2, 0).reshape(-1)
        yield {"seed": seed, "calls": calls, "channels_last": [float(f"{float(v):.9g}") for v in x]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    lines = [json.dumps(c, separators=(",", ":")) for c in cases()]
    seeds = [json.dumps(s, separators=(",", ":")) for s in normals()]
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__.split("+")[0]}
    text = '{"versions":%s,\n"cases":[\n%s\n],\n"normals":[\n%s\n]}\n' % (json.dumps(versions), ",\n".join(lines), ",\n".join(seeds))
    (folder / "samplers.json").write_text(text)
    print(f"{len(lines)} cases, {len(text)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
