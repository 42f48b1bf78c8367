// SPDX-License-Identifier: Apache-2.0
// Parameters and multiply-accumulates of published and of hand-countable architectures: computed by the compiler, so this
// file is checked when it compiles.
#include "mobilediffusion/config/presets.hpp"
#include "mobilediffusion/model_source.hpp"

namespace {

using namespace mobilediffusion;

using presets::cross_only;

template <ModelConfig M>
using UnetOf = Unet<M.unet>;
template <ModelConfig M>
constexpr bool unet_counts(std::size_t parameters, std::size_t macs, std::size_t tensors) {
  using U = UnetOf<M>;
  return U::parameters == parameters && U::macs == macs && reflect::leaf_count<typename U::Weights>() == tensors;
}

// The open family; 859,520,964 and 579,384,964 are also the published totals.
static_assert(unet_counts<presets::sd15>(859'520'964, 401'636'720'640, 686));
static_assert(unet_counts<presets::sd21_base>(865'910'724, 402'128'732'160, 686));
static_assert(unet_counts<presets::sd21>(865'910'724, 1'074'552'872'960, 686));
static_assert(unet_counts<presets::bk_sdm_base>(579'384'964, 261'496'995'840, 442));
static_assert(unet_counts<presets::bk_sdm_small>(482'346'884, 255'447'203'840, 396));
static_assert(unet_counts<presets::bk_sdm_tiny>(323'384'964, 242'754'519'040, 358));
// Their relatives, as diffusers counts them.
static_assert(unet_counts<presets::sd15_inpainting>(859'535'364, 401'695'703'040, 686));
static_assert(unet_counts<presets::sd2_inpainting>(865'925'124, 402'187'714'560, 686));
static_assert(unet_counts<presets::lcm_dreamshaper>(859'602'884, 401'636'802'560, 687));
static_assert(unet_counts<presets::bk_sdm_v2_base>(583'480'964, 261'812'387'840, 442));
static_assert(unet_counts<presets::bk_sdm_v2_small>(485'787'524, 255'712'133'120, 396));
static_assert(unet_counts<presets::bk_sdm_v2_tiny>(326'825'604, 243'019'448'320, 358));
static_assert(unet_counts<presets::sdxs_512_dreamshaper>(315'746'244, 184'657'346'560, 280));
static_assert(unet_counts<presets::sdxs_512_09>(328'177'284, 209'047'552'000, 358));
static_assert(std::is_same_v<UnetOf<presets::sd_turbo>, UnetOf<presets::sd21_base>> &&
              std::is_same_v<UnetOf<presets::small_sd>, UnetOf<presets::bk_sdm_base>> &&
              std::is_same_v<UnetOf<presets::tiny_sd>, UnetOf<presets::bk_sdm_tiny>>);

// What refusals call by name.
template <ModelConfig M>
constexpr bool is_known(std::string_view preset) {
  for (const detail::KnownUnet& k : detail::known_unets)
    if (k.preset == preset)
      return k.parameters == UnetOf<M>::parameters && k.tensors == reflect::leaf_count<typename UnetOf<M>::Weights>();
  return false;
}
static_assert(is_known<presets::sd15>("presets::sd15") && is_known<presets::sd15_inpainting>("presets::sd15_inpainting") &&
              is_known<presets::lcm_dreamshaper>("presets::lcm_dreamshaper") &&
              is_known<presets::sd2_inpainting>("presets::sd2_inpainting"));
constexpr const char* sd21s = "presets::sd21_base, presets::sd21 or presets::sd_turbo";
static_assert(is_known<presets::sd21_base>(sd21s) && is_known<presets::sd21>(sd21s) && is_known<presets::sd_turbo>(sd21s));
static_assert(is_known<presets::bk_sdm_base>("presets::bk_sdm_base") &&
              is_known<presets::bk_sdm_small>("presets::bk_sdm_small") && is_known<presets::bk_sdm_tiny>("presets::bk_sdm_tiny"));
static_assert(is_known<presets::bk_sdm_v2_base>("presets::bk_sdm_v2_base") &&
              is_known<presets::bk_sdm_v2_small>("presets::bk_sdm_v2_small") &&
              is_known<presets::bk_sdm_v2_tiny>("presets::bk_sdm_v2_tiny"));
static_assert(is_known<presets::sdxs_512_dreamshaper>("presets::sdxs_512_dreamshaper") &&
              is_known<presets::sdxs_512_09>("presets::sdxs_512_09"));
static_assert(is_known<presets::full>("presets::full") && is_known<presets::lite>("presets::lite"));

// MobileDiffusion with 8, 4 and 3 latent channels.
constexpr ModelConfig full4 = presets::with_latent_channels(presets::full, 4),
                      full3 = presets::with_latent_channels(presets::full, 3);
constexpr ModelConfig lite4 = presets::with_latent_channels(presets::lite, 4),
                      lite3 = presets::with_latent_channels(presets::lite, 3);
static_assert(unet_counts<presets::full>(391'726'152, 184'736'514'048, 496));
static_assert(unet_counts<full4>(391'703'108, 184'642'142'208, 496));
static_assert(unet_counts<full3>(391'697'347, 184'618'549'248, 496));
static_assert(unet_counts<presets::lite>(261'518'280, 119'302'127'616, 454));
static_assert(unet_counts<lite4>(261'495'236, 119'207'755'776, 454));
static_assert(unet_counts<lite3>(261'489'475, 119'184'162'816, 454));

// The paper's budgets: at most 400 million parameters and 200 GMACs; 46 and 30 per cent of Stable Diffusion 1.5's MACs (46.4 and
// 29.9 as published; 46.0 and 29.7 in these layouts).
constexpr double of_sd15(std::size_t macs) {
  return static_cast<double>(macs) / static_cast<double>(UnetOf<presets::sd15>::macs);
}
static_assert(UnetOf<presets::full>::parameters < 400'000'000 && UnetOf<presets::full>::macs < 200'000'000'000);
static_assert(UnetOf<presets::lite>::parameters < 400'000'000 && UnetOf<presets::lite>::macs < 200'000'000'000);
static_assert(of_sd15(UnetOf<presets::full>::macs) > 0.455 && of_sd15(UnetOf<presets::full>::macs) < 0.465);
static_assert(of_sd15(UnetOf<presets::lite>::macs) > 0.295 && of_sd15(UnetOf<presets::lite>::macs) < 0.305);

// Autoencoders.
template <VaeConfig C>
constexpr bool decoder_counts(std::size_t parameters, std::size_t macs) {
  using V = Vae<C>;
  return reflect::parameters<typename V::Decoder::Weights>() + reflect::parameters<typename V::Decoder::PostQuant::Weights>() ==
             parameters &&
         V::decoder_macs == macs;
}
static_assert(Vae<presets::sd_vae>::parameters == 83'653'863);
static_assert(Vae<presets::sd_vae>::encoder_macs == 558'329'233'408);
static_assert(decoder_counts<presets::sd_vae>(49'490'199, 1'257'259'466'752));
static_assert(reflect::leaf_count<Vae<presets::sd_vae>::Weights>() == 140 + 108);
static_assert(decoder_counts<presets::half_vae>(9'664'587, 256'079'298'560));
static_assert(decoder_counts<presets::tapered_vae>(10'473'995, 129'086'259'200));
// The light decoder; what an independent count gives: at most 40 GMACs, for the latents of the same encoder.
static_assert(decoder_counts<presets::light_vae>(2'889'812, 32'884'654'080));
static_assert(decoder_counts<lite4.vae>(2'878'240, 32'837'271'552));
static_assert(decoder_counts<lite3.vae>(2'875'352, 32'825'446'400));
static_assert(Vae<presets::light_vae>::encoder_macs == 144'217'997'312);
static_assert(Vae<presets::light_vae>::parameters == 2'889'812 + 8'576'736);
static_assert(Vae<presets::lite.vae>::decoder_macs <= 40'000'000'000 &&
              Vae<presets::full_light.vae>::decoder_macs <= 40'000'000'000);
static_assert(std::is_same_v<UnetOf<presets::full_light>, UnetOf<presets::full>> && ValidModel<presets::full_light>::value);
static_assert(decoder_counts<full3.vae>(10'459'535, 129'027'051'520));
static_assert(decoder_counts<full4.vae>(10'462'423, 129'038'876'672));
static_assert(Vae<presets::half_vae>::encoder_macs == 144'217'997'312);
static_assert(Vae<presets::half_vae>::parameters == 9'664'587 + 8'576'736);
static_assert(Vae<presets::tapered_vae>::encoder_macs == 144'217'997'312);
static_assert(Vae<presets::tapered_vae>::parameters == 10'473'995 + 8'576'736);
// TAESD as published (1,222,532 and 1,222,531), an eighteenth of Stable Diffusion's decoder in work; and with 16 channels.
template <VaeConfig C>
constexpr bool tiny_vae_counts(std::size_t encoder, std::size_t decoder, std::size_t encoder_macs, std::size_t decoder_macs) {
  using V = Vae<C>;
  return reflect::parameters<typename V::Encoder::Weights>() == encoder &&
         reflect::parameters<typename V::Decoder::Weights>() == decoder && V::encoder_macs == encoder_macs &&
         V::decoder_macs == decoder_macs;
}
static_assert(tiny_vae_counts<presets::taesd>(1'222'532, 1'222'531, 61'162'389'504, 70'675'070'976));
static_assert(tiny_vae_counts<presets::taesd_16>(1'229'456, 1'229'443, 61'190'701'056, 70'703'382'528));
static_assert(reflect::leaf_count<Vae<presets::taesd>::Weights>() == 67 + 67);
constexpr ModelConfig with_taesd = presets::with_vae(presets::with_picture_size(presets::sd15, 256, 512), presets::taesd);
static_assert(ValidModel<with_taesd>::value && with_taesd.vae.height == 256 && with_taesd.vae.width == 512);

// The text transformer of CLIP ViT-L/14, and of OpenCLIP ViT-H/14 as Stable Diffusion 2.1 uses it.
static_assert(TextEncoder<presets::clip_l>::parameters == 123'060'480);
static_assert(TextEncoder<presets::clip_l>::macs == 6'649'251'840);
static_assert(reflect::leaf_count<TextEncoder<presets::clip_l>::Weights>() == 196);
static_assert(TextEncoder<presets::sd21.text>::parameters == 340'387'840);
static_assert(TextEncoder<presets::sd21.text>::macs == 22'563'616'768);
static_assert(reflect::leaf_count<TextEncoder<presets::sd21.text>::Weights>() == 372);
// Stable Diffusion XL's parts, as diffusers and transformers count them. The first encoder's last layer has weights and no work.
static_assert(Unet<presets::sdxl_unet>::parameters == 2'567'463'684);
static_assert(Unet<presets::sdxl_unet>::macs == 3'380'618'199'040);
static_assert(reflect::leaf_count<Unet<presets::sdxl_unet>::Weights>() == 1680);
static_assert(TextEncoder<presets::sdxl_text_1>::parameters == 123'060'480);
static_assert(TextEncoder<presets::sdxl_text_1>::macs == 6'649'251'840 / 12 * 11);
static_assert(TextEncoder<presets::sdxl_text_2>::parameters == 694'659'840);
static_assert(reflect::leaf_count<TextEncoder<presets::sdxl_text_2>::Weights>() == 517);
static_assert(ValidModel<presets::sdxl>::value && ValidModel<presets::sdxl_turbo>::value && ValidModel<presets::ssd_1b>::value);
static_assert(Vae<presets::sdxl_vae>::parameters == Vae<presets::sd_vae>::parameters);
static_assert(reflect::parameters<ModelWeights<presets::sdxl>>() == 2'567'463'684 + 123'060'480 + 694'659'840 + 83'653'863);
static_assert(reflect::parameters<ModelWeights<presets::sdxl_turbo>>() == reflect::parameters<ModelWeights<presets::sdxl>>());
static_assert(presets::sdxl_turbo.vae.height == 512 && presets::sdxl_turbo.unet.width == 64);
static_assert(UnetOf<presets::ssd_1b>::parameters == 1'331'334'404);
static_assert(reflect::leaf_count<UnetOf<presets::ssd_1b>::Weights>() == 944);

// Another picture size is another type with the same weights.
constexpr ModelConfig wide = presets::with_picture_size(presets::full, 512, 768);
static_assert(wide.unet.height == 64 && wide.unet.width == 96);
static_assert(UnetOf<wide>::parameters == UnetOf<presets::full>::parameters);
static_assert(UnetOf<wide>::macs > UnetOf<presets::full>::macs * 3 / 2);

// One level of 4x4 pixels and 8 channels, one residual block down, two up, no middle and no text: by hand.
constexpr UnetConfig small{.height = 4,
                           .width = 4,
                           .latent_channels = 1,
                           .levels = 1,
                           .stages = {StageConfig{.channels = 8}},
                           .middle = {.resnets = 0},
                           .time_width = 10,
                           .groups = 4};
constexpr std::size_t conv_in = 8 * 9 + 8, time_mlp = 8 * 10 + 10 + 10 * 10 + 10;
constexpr std::size_t down = 2 * 8 + (8 * 8 * 9 + 8) + (10 * 8 + 8) + 2 * 8 + (8 * 8 * 9 + 8);
constexpr std::size_t up = 2 * 16 + (8 * 16 * 9 + 8) + (10 * 8 + 8) + 2 * 8 + (8 * 8 * 9 + 8) + (8 * 16 + 8);
constexpr std::size_t conv_out = 2 * 8 + 8 * 9 + 1;
static_assert(Unet<small>::parameters == conv_in + time_mlp + down + 2 * up + conv_out);
static_assert(Unet<small>::macs == 16 * 8 * 9 + (8 * 10 + 10 * 10) + (2 * 16 * 8 * 8 * 9 + 10 * 8) +
                                       2 * (16 * 8 * 16 * 9 + 16 * 8 * 8 * 9 + 16 * 8 * 16 + 10 * 8) + 16 * 8 * 9);
static_assert(Unet<small>::weight_bytes == 4 * Unet<small>::parameters);

// The same with one cross-attention block: shared keys and values save one projection of the text.
constexpr UnetConfig with_text(bool shared) {
  UnetConfig c = small;
  c.stages[0].down_transformers[0] = cross_only(1);
  c.attention = {.head_dim = 8, .shared_kv = shared};
  c.context_length = 3;
  c.context_width = 5;
  return c;
}
constexpr std::size_t attention = 2 * 8 + 8 * 8 + 2 * 5 * 8 + 8 * 8 + 8, gated = 2 * 8 + (8 * 48 + 48) + (24 * 8 + 8);
constexpr std::size_t around = 2 * 8 + 2 * (8 * 8 + 8);
static_assert(Unet<with_text(false)>::parameters - Unet<small>::parameters == around + attention + gated);
static_assert(Unet<with_text(false)>::parameters - Unet<with_text(true)>::parameters == 5 * 8);
static_assert(Unet<with_text(false)>::macs - Unet<with_text(true)>::macs == 3 * 5 * 8);
static_assert(Unet<with_text(true)>::macs - Unet<small>::macs ==
              16 * (2 * 8 * 8) + (16 * 8 * 8 + 3 * 5 * 8 + 16 * 8 * 8 + 2 * 16 * 3 * 8) + 16 * (8 * 48 + 24 * 8));

}  // namespace
