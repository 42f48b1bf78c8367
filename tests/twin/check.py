# SPDX-License-Identifier: Apache-2.0
"""Shows that the twin equals diffusers' and transformers' models where an architecture exists in both: same weights by name
(strict), same inputs, outputs and gradients in double. Exits with 1 above 1e-9 (1e-4 for the UNets: diffusers computes the
timestep's sinusoids in float)."""
import sys

import torch

import twin


def unets():
    """(diffusers' model, the twin's configuration) of Stable Diffusion 1.x and 2.x in small."""
    from diffusers import UNet2DConditionModel
    for name, heads, linear in (("sd 1.x", dict(heads=2, head_dim=0), False), ("sd 2.x", dict(heads=0, head_dim=8), True)):
        widths = (16, 32, 32)
        theirs = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=widths, layers_per_block=2, norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=24,
            use_linear_projection=linear,
            # despite its name diffusers takes the number of heads here
            attention_head_dim=2 if heads["heads"] else [w // 8 for w in widths])
        one = twin.full_blocks(1)
        stages = [twin.StageConfig(w, 2, 3, [one] * 2 * has, [one] * 3 * has) for w, has in zip(widths, (1, 1, 0))]
        attention = twin.AttentionConfig(shared_kv=False, linear_projections=linear, **heads)
        yield name, theirs, sd_unet_config(widths, stages, attention)


def sd_unet_config(widths, stages, attention, context=(7, 24), latent_channels=4, groups=8):
    return twin.UnetConfig(8, 8, latent_channels, levels=len(widths), stages=stages,
                           middle=twin.MiddleConfig(2, twin.full_blocks(1)), attention=attention,
                           feed_forward=twin.FeedForwardConfig(8, "gelu"), context_length=context[0], context_width=context[1],
                           groups=groups)


def compare(name, theirs, mine, inputs, limit):
    """theirs, mine: (module, function of it)."""
    results = []
    for module, run in (theirs, mine):
        xs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
        y = run(module, *xs)
        module.zero_grad()
        (y * torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(9))).sum().backward()
        gradients = {k: p.grad for k, p in module.named_parameters() if p.grad is not None}
        results.append((y, gradients, [x.grad for x in xs if x.grad is not None]))
    (y, g, dx), (my_y, my_g, my_dx) = results
    prefix = "" if set(g) <= set(my_g) else "text_model."
    errors = {"output": twin.relative_error(my_y, y)}
    errors.update({"d " + k: twin.relative_error(my_g[prefix + k], v) for k, v in g.items()})
    errors.update({f"d input {i}": twin.relative_error(a, b) for i, (a, b) in enumerate(zip(my_dx, dx))})
    # The bias of softmax attention's keys has no gradient, only rounding.
    errors = {k: v for k, v in errors.items() if not k.endswith(("k_proj.bias", "to_k.bias"))}
    worst = max(errors, key=errors.get)
    print(f"{name:12s} output {errors['output']:.1e}, worst of {len(g)} weights and {len(dx)} inputs "
          f"{errors[worst]:.1e} ({worst})")
    return errors[worst] < limit


def main():
    torch.manual_seed(0)
    double = lambda *shape: torch.randn(*shape, dtype=torch.float64)
    good = True
    for name, theirs, config in unets():
        twin.randomize(theirs, 1).double()
        mine = twin.Unet(config).double()
        mine.load_state_dict(theirs.state_dict(), strict=True)
        t = torch.tensor([7.0, 431.0])
        good &= compare("UNet " + name, (theirs, lambda m, z, c: m(z, t, c).sample), (mine, lambda m, z, c: m(z, t, c)),
                        [double(2, 4, 8, 8), double(2, 7, 24)], 1e-4)

    from diffusers import AutoencoderKL
    theirs = twin.randomize(AutoencoderKL(
        block_out_channels=(16, 24, 32), layers_per_block=2, norm_num_groups=8, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3), 2).double()
    mine = twin.Vae(twin.VaeConfig(height=32, width=32, levels=3, encoder_channels=[16, 24, 32], decoder_channels=[16, 24, 32],
                                   groups=8)).double()
    mine.load_state_dict(theirs.state_dict(), strict=True)
    good &= compare("VAE encoder", (theirs, lambda m, x: m.quant_conv(m.encoder(x))), (mine, lambda m, x: m.encode(x)),
                    [double(2, 3, 32, 32)], 1e-9)
    good &= compare("VAE decoder", (theirs, lambda m, z: m.decode(z).sample), (mine, lambda m, z: m.decode(z)),
                    [double(2, 4, 8, 8)], 1e-9)

    from transformers import CLIPTextConfig, CLIPTextModel
    theirs = twin.randomize(CLIPTextModel(CLIPTextConfig(
        vocab_size=50, hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=7, hidden_act="quick_gelu", bos_token_id=48, eos_token_id=49, pad_token_id=49)), 3).double()
    mine = twin.TextEncoder(twin.TextEncoderConfig(50, 7, 32, 3, 4, 4)).double()
    state = {k: v for k, v in theirs.state_dict().items() if "position_ids" not in k}
    if not any(k.startswith("text_model.") for k in state):  # transformers 5 drops in memory the prefix that checkpoints have
        state = {"text_model." + k: v for k, v in state.items()}
    mine.load_state_dict(state, strict=True)
    ids = torch.tensor([[48, 3, 17, 22, 5, 49, 49], [48, 9, 49, 49, 49, 49, 49]])
    good &= compare("CLIP text", (theirs, lambda m, i: m(i).last_hidden_state), (mine, lambda m, i: m(i)[0]), [ids], 1e-9)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
