# SPDX-License-Identifier: Apache-2.0
"""What diffusion trains on (diffusion/schedule.hpp, train/diffusion_loss.hpp) and with (train/adamw.hpp, train/state.hpp)."""
import math

import numpy as np
import torch


def shifted(t, s):
    return s * t / (1 + (s - 1) * t)


def _round(x):
    return math.floor(x + 0.5)


_betas = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
_signal = np.concatenate([[1.0], np.cumprod(1 - _betas)])


def noise_level(schedule, t):
    """(alpha, sigma) at time t in [0, 1]."""
    if schedule == "cosine":
        return math.cos(0.5 * math.pi * t), math.sin(0.5 * math.pi * t)
    product = float(_signal[_round(min(max(t, 0.0), 1.0) * 1000)])
    return math.sqrt(product), math.sqrt(1 - product)


def timestep(schedule, t):
    """The number that the time embedding reads, in [0, 1000)."""
    return min(t * 1000, 999.999) if schedule == "cosine" else max(0.0, _round(t * 1000) - 1.0)


class Samples(torch.utils.data.Dataset):
    """What the network learns from, by its number since the training began: which picture, with or without its caption, at which
    time, under which noise depends on the seed and this number only, so that a training goes on where it stood, on any number of
    processes. Times are stratified over the batch: every step sees all of [0, 1)."""

    def __init__(self, data, sampler, unconditional, batch, seed, caption_dropout):
        self.data, self.sampler, self.unconditional = data, sampler, unconditional
        self.batch, self.seed, self.caption_dropout = batch, seed, caption_dropout
        self.order = (-1, None)

    def __len__(self):
        return 2**62

    def picture(self, number):
        epoch, place = divmod(number, len(self.data))
        if self.order[0] != epoch:
            self.order = (epoch, np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], np.uint64))).permutation(len(self.data)))
        return int(self.order[1][place])

    def __getitem__(self, number):
        random = np.random.Generator(np.random.Philox(key=np.array([self.seed, 2**63 + number], np.uint64)))
        x, ids = self.data[self.picture(number)]
        t = shifted((number % self.batch + random.random()) / self.batch, self.sampler.shift_percent / 100)
        if random.random() < self.caption_dropout:
            ids = self.unconditional
        noise = torch.from_numpy(random.standard_normal(tuple(x.shape), np.float32))
        alpha, sigma = noise_level(self.sampler.schedule, t)
        z = alpha * x + sigma * noise
        goal = {"v": lambda: alpha * noise - sigma * x, "epsilon": lambda: noise, "sample": lambda: x}[self.sampler.prediction]()
        return {"z": z, "goal": goal, "t": t, "timestep": timestep(self.sampler.schedule, t), "ids": torch.tensor(ids)}


def learning_rate(step, peak, floor, warmup, decay_start, total):
    """Of step 1, 2, ...: a ramp, the peak, half a cosine down to the floor."""
    if step < warmup:
        return peak * step / warmup
    start = max(decay_start, warmup)
    if step <= start or total <= start:
        return peak
    if step >= total:
        return floor
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * (step - start) / (total - start)))


def decays(name, parameter):
    """Whether AdamW shrinks it: matrices and filters, but neither embeddings nor depthwise filters."""
    return parameter.ndim > 1 and "embedding.weight" not in name and "pos_embed" not in name and "depthwise" not in name


class Average:
    """The moving average of the weights, which is what draws; shorter at first."""

    def __init__(self, parameters, decay):
        self.decay = decay
        self.values = {k: p.detach().clone() for k, p in parameters.items()}

    @torch.no_grad()
    def update(self, parameters, step):
        rate = 1 - min(self.decay, (1 + step) / (20 + step))
        names = list(self.values)
        torch._foreach_lerp_([self.values[k] for k in names], [parameters[k].detach() for k in names], rate)
