# SPDX-License-Identifier: Apache-2.0
# Mistakes that must not compile, one for each rule of the headers, with the words that the user must see. A configuration's
# mistake is a change to the preset `tiny`, which is valid (control.cpp).
include_guard()

# mistake(<name> <words>): lines that follow `code` in a source of their own.
function(mistake name words code)
  set(source "${CMAKE_CURRENT_BINARY_DIR}/compile_fail/${name}.cpp")
  file(CONFIGURE OUTPUT "${source}" CONTENT "// expect: mobilediffusion: @words@\n@code@\n" @ONLY)
  set_property(GLOBAL APPEND PROPERTY mobilediffusion_mistakes "${source}")
endfunction()

# configuration(<part of the preset> <change> <what checks it> <words> [header])
function(configuration name part change checks words)
  set(header config/validate.hpp)
  if(ARGC GREATER 5)
    set(header ${ARGV5})
  endif()
  mistake(${name} "${words}" "#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/${header}>
inline constexpr auto config = [] {
  auto c = mobilediffusion::presets::tiny${part};
  ${change}
  return c;
}();
static_assert(mobilediffusion::${checks});")
endfunction()
function(unet name change words)
  configuration(unet_${name} .unet "${change}" "ValidUnet<config>::value" "${words}")
endfunction()
function(vae name change words)
  configuration(vae_${name} .vae "${change}" "ValidVae<config>::value" "${words}")
endfunction()
function(text name change words)
  configuration(text_${name} .text "${change}" "ValidTextEncoder<config>::value" "${words}")
endfunction()
function(model name change words)
  configuration(model_${name} "" "${change}" "ValidModel<config>::value" "${words}")
endfunction()

unet(levels "c.levels = 5;" "a UNet has 1 to 4 levels")
unet(latents "c.latent_channels = 0;" "latents need at least one channel")
unet(no_channels "c.stages[2].channels = 0;" "every level needs channels")
unet(groups "c.stages[0].channels += 1;" "every stage's channels must be a multiple of `groups`")
unet(down_resnets "c.stages[0].down_resnets = 0, c.stages[0].up_resnets = 1;" "a stage has 1 to 4 residual blocks on the way down")
unet(skips "c.stages[0].up_resnets = c.stages[0].down_resnets;" "a stage has one residual block more on the way up than down")
unet(transformer_alone "c.stages[0].down_transformers[3].depth = 1;" "a transformer stands behind a residual block")
unet(size "c.height += 1;" "the latent height and width must be divisible by 2^(levels-1)")
unet(middle "c.middle.resnets = 3;" "the middle has 0, 1 or 2 residual blocks")
unet(middle_transformer "c.middle.resnets = 0;" "a middle without residual blocks has no transformers")
unet(heads "c.attention.head_dim = c.attention.heads = 8;" "give either the dimension of a head or the number of heads")
unet(context "c.context_length = 0;" "transformers attend to the text")
unet(feed_forward "c.feed_forward.ratio = 5;" "the feed-forward ratio counts value and gate and must be even")
unet(input_channels "c.input_channels = 1;" "a UNet reads its latents and what follows them")
unet(guidance "c.guidance_width = 5;" "the guidance's sinusoids come in pairs")
unet(self_reads_context "c.stages[1].down_transformers[0].self_reads_context = true;" "attn1 cannot read the text where it is left out")
vae(levels "c.levels = 5;" "a VAE has 1 to 4 levels")
vae(patch "c.patch = 3;" "the VAE's patch is 1, 2 or 4")
vae(decoder_patch "c.decoder_patch = 8;" "the decoder's patch is the VAE's or twice, four or eight times that")
vae(size "c.height += 1;" "the picture must be divisible by the VAE's down-sampling")
vae(widths "c.decoder_channels[0] += 1;" "every VAE width must be a positive multiple of `groups`")
vae(resnets "c.decoder_resnets = 0;" "the VAE needs at least one residual block per level")
vae(attention "c.middle = false, c.middle_attention = true;" "the VAE's attention stands in its middle")
vae(attention_norm "c.groups = 0, c.middle = c.middle_attention = true;" "the VAE's attention is normalized")
vae(decoder_norms "c.middle = c.middle_attention = true, c.decoder_norms = false;" "the decoder's attention is normalized")
vae(latents "c.latent_channels = 0;" "latents need at least one channel")
set(taesd "c = mobilediffusion::presets::taesd;")
vae(tiny_parts "${taesd} c.groups = 32;" "a tiny autoencoder has convolutions and ReLU alone")
vae(tiny_width "${taesd} c.decoder_channels[0] = 32;" "a tiny autoencoder has one width at all levels")
vae(tiny_scaling "${taesd} c.scaling_millionths = 182'150;" "a tiny autoencoder reads and writes latents as they are")
text(heads "c.heads = c.width + 1;" "the text width must be a multiple of its heads")
text(pooled "c.projection = 8;" "a text encoder pools in one way")
text(penultimate "c.layers = 1, c.penultimate = true;" "there is no layer before the last one")
text(length "c.length = 2;" "a caption needs room for its start, one token and its end")
text(vocabulary "c.vocabulary = 4;" "the vocabulary holds four special tokens and at least one more")
set(two "c.text_2 = c.text, c.text_2.pooled = 0, c.text_2.projection = 8, c.text.pooled = 0, c.unet.context_width = 32, c.unet.pooled_width = 8 + 6 * 256;")
configuration(two_trained "" "${two}" "train::DiffusionWeights<config>{}.unet.conv_in.weight.data == nullptr" "training knows of one text encoder" train/diffusion_loss.hpp)
model(two_contexts "${two} c.unet.context_width = 16;" "the UNet's `context_width` must equal the text encoder's `width`, or the sum of both")
model(two_pooled "${two} c.text.pooled = 1;" "of two text encoders the second alone pools")
model(two_projection "${two} c.text_2.projection = 0;" "of two text encoders the second alone pools")
model(two_lengths "${two} c.text_2.vocabulary += 1;" "two text encoders read the same tokens")
model(two_sizes "${two} c.unet.pooled_width = 8;" "with two text encoders the UNet's `pooled_width` must equal the second's `projection` and 6")
model(context_width "c.unet.context_width += 8;" "the UNet's `context_width` must equal the text encoder's `width`")
model(context_length "c.unet.context_length += 1;" "the UNet reads whole chunks of a prompt")
model(pooled "c.unet.pooled_width += 1;" "the UNet's `pooled_width` must equal the text encoder's `pooled` times its `width`")
model(latents "c.unet.latent_channels += 1;" "UNet and VAE must agree on `latent_channels`")
model(picture "c.vae.height *= 2;" "the VAE's picture must be the UNet's latents times the VAE's down-sampling")
model(steps "c.sampler.steps = 0;" "the sampler takes 1 to 1000 steps")
model(shift "c.sampler.shift_percent = 9;" "the sampler's shift is at least 0.1")

# What a model refuses when it is made of its parts.
configuration(session_beside "" "c.unet.input_channels = 2 * c.unet.latent_channels;" "Session<config>::activation_bytes > 0"
  "a session knows of a mask and a masked picture beside the latents" session.hpp)
configuration(net_refuses .unet "c.feed_forward.ratio = 5;" "Unet<config>::parameters > 0"
  "the feed-forward ratio counts value and gate and must be even" models/unet.hpp)
configuration(net_outputs .unet "" "Unet<config, 0>::parameters > 0" "a UNet puts out at least one channel" models/unet.hpp)
configuration(net_heads .unet "c.attention.head_dim = 0, c.attention.heads = 5;" "Unet<config>::parameters > 0"
  "attention width must be a multiple of its heads" models/unet.hpp)
configuration(net_head_dim .unet "c.attention.head_dim = 0, c.attention.heads = 4;" "Unet<config>::parameters > 0"
  "a head's dimension must be a multiple of 8" models/unet.hpp)
mistake(group_norm "channels of a GroupNorm must be a multiple of its groups" "#include <mobilediffusion/layers/norm.hpp>
static_assert(sizeof(mobilediffusion::GroupNorm<mobilediffusion::GroupNormSpec{.channels = 6, .groups = 4, .pixels = 1}>) > 0);")
mistake(joined_without_norm "skips join in front of a GroupNorm" "#include <mobilediffusion/layers/norm.hpp>
using Norm = mobilediffusion::GroupNorm<mobilediffusion::GroupNormSpec{.channels = 6, .groups = 0, .pixels = 1}>;
auto* const forward = &Norm::forward_joined;")
mistake(separable_padding "a separable convolution pads on all sides" "#include <mobilediffusion/layers/convolution.hpp>
using namespace mobilediffusion;
using Down = Convolution<ConvolutionSpec{.in = 8, .out = 8, .height = 4, .width = 4, .stride = 2, .pad_end = true, .separable = true}>;
auto* const forward = &Down::forward;")
mistake(convolution_bias "a separable convolution has biases" "#include <mobilediffusion/layers/convolution.hpp>
using namespace mobilediffusion;
static_assert(Convolution<ConvolutionSpec{.in = 8, .out = 8, .height = 4, .width = 4, .separable = true, .bias = false}>::macs > 0);")
mistake(tiny_trainer "the VAE's trainer needs the means and variances of an AutoencoderKL"
  "#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/train/vae_trainer.hpp>
static_assert(sizeof(mobilediffusion::train::VaeTrainer<mobilediffusion::presets::taesd>) > 0);")
mistake(latents_with_quant "normalize_latents folds the scale into conv_out and conv_in"
  "#include <mobilediffusion/config/presets.hpp>
#include <mobilediffusion/train/vae_trainer.hpp>
auto const scale = &mobilediffusion::train::VaeTrainer<mobilediffusion::presets::tiny.vae>::normalize_latents;")

# Weights that cannot be reflected.
mistake(weights_with_constructor "weights are aggregates"
  "#include <mobilediffusion/reflect/reflect.hpp>
struct LinearWeights {
  explicit LinearWeights(int) {}
  mobilediffusion::Param<4> weight;
};
inline constexpr auto parameters = mobilediffusion::reflect::parameters<LinearWeights>();")
set(fields "")
foreach(i RANGE 33)
  string(APPEND fields "mobilediffusion::Param<4> f${i}; ")
endforeach()
mistake(weights_with_many_fields "a weights struct has at most 32 fields" "#include <mobilediffusion/reflect/reflect.hpp>
struct Weights { ${fields} };
inline constexpr auto parameters = mobilediffusion::reflect::parameters<Weights>();")

# Callbacks.
mistake(callback_parameters "on_step is called with a Progress" "#include <mobilediffusion/sampling.hpp>
auto callback = [](int) { return true; };
const bool answer = mobilediffusion::detail::goes_on(callback, {1, 2});")
mistake(callback_answer "on_step returns whether to go on" "#include <mobilediffusion/sampling.hpp>
auto callback = [](mobilediffusion::Progress) { return mobilediffusion::Progress{}; };
const bool answer = mobilediffusion::detail::goes_on(callback, {1, 2});")

# Flags of others.
mistake(fast_math "-ffast-math (also -Ofast, -ffinite-math-only, /fp:fast) removes the checks" "#define __FAST_MATH__ 1
#include <mobilediffusion/core/error.hpp>")
mistake(dispatch_count "MOBILEDIFFUSION_DISPATCH is a number that" "#define MOBILEDIFFUSION_DISPATCH 99
#include <mobilediffusion/kernels/kernels.hpp>")
