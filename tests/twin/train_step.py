# SPDX-License-Identifier: Apache-2.0
"""Times one training step of the preset `emoji` (UNet and text encoder, v-prediction, AdamW) in PyTorch, fp32 and bf16 autocast:
build/examples/inspect --json emoji | python train_step.py [--batch 64] [--threads 2] [--steps 5] [--compile]. The library's own
step is what it is compared with."""
import argparse
import math
import sys
import time

import torch

import twin


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--compile", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    text_of = sys.stdin.read()
    for name, autocast in (("fp32", False), ("bf16 autocast", True)):
        model = twin.from_json(text_of)
        c, unet, text = model.config.unet, model.unet, model.text_encoder
        unet, text = unet.to(memory_format=torch.channels_last), text  # what convolutions on a CPU are fastest with
        run = torch.compile(unet) if a.compile else unet
        optimizer = torch.optim.AdamW([*unet.parameters(), *text.parameters()], lr=1e-4, fused=True)
        z = torch.randn(a.batch, c.latent_channels, c.height, c.width).to(memory_format=torch.channels_last)
        ids = torch.randint(0, model.config.text.vocabulary, (a.batch, c.context_length))
        times = []
        for step in range(a.steps + 1):
            begin = time.perf_counter()
            t, noise = torch.rand(a.batch), torch.randn_like(z)
            alpha, sigma = (f(t * math.pi / 2)[:, None, None, None] for f in (torch.cos, torch.sin))
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                context, pooled = text(ids)
                v = run(alpha * z + sigma * noise, 1000 * t, context, pooled)
            loss = torch.nn.functional.mse_loss(v.float(), alpha * noise - sigma * z)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*unet.parameters(), *text.parameters()], 1.0)
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - begin)
        best = min(times[1:])  # the first step makes memory and plans
        print(f"{name}: batch {a.batch}, {a.threads} threads, torch {torch.__version__}: {best:.3f} s a step (median "
              f"{sorted(times[1:])[a.steps // 2]:.3f}), {a.batch / best:.1f} samples/s, loss {loss.item():.3f}", flush=True)


if __name__ == "__main__":
    main()
