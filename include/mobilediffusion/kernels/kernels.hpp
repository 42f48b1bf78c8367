// SPDX-License-Identifier: Apache-2.0
// All kernels. With plain inclusion they are compiled here, for the user's flags. Where CMake's mobilediffusion_dispatch()
// defined MOBILEDIFFUSION_DISPATCH, they are declared only, and each call goes to those built for the best instruction set of the
// machine. Everything outside of kernels/ includes this header and none beside it.
#pragma once

#include "../core/begin.hpp"

#if defined(MOBILEDIFFUSION_DISPATCH)
#include "dispatch.hpp"
#else
#if defined(__GNUC__) && !defined(__OPTIMIZE__) && !defined(MOBILEDIFFUSION_UNOPTIMIZED)
#if defined(__clang__)  // a note also where warnings are errors
#pragma clang diagnostic push
#pragma clang diagnostic warning "-W#pragma-messages"
#endif
#pragma message( \
    "mobilediffusion: kernels are compiled without optimization, so a picture takes tens of times longer: add -O2 or -O3, let \
CMake's mobilediffusion_kernels() compile them, or define MOBILEDIFFUSION_UNOPTIMIZED to hear no more of it")
#if defined(__clang__)
#pragma clang diagnostic pop
#endif
#endif
#include "../simd/isa.hpp"
#include "activation.hpp"
#include "attention.hpp"
#include "backward/activation.hpp"
#include "backward/attention.hpp"
#include "backward/depthwise.hpp"
#include "backward/elementwise.hpp"
#include "backward/embedding.hpp"
#include "backward/norm.hpp"
#include "backward/resample.hpp"
#include "batch.hpp"
#include "column_sums.hpp"
#include "conv2d.hpp"
#include "depthwise.hpp"
#include "elementwise.hpp"
#include "embedding.hpp"
#include "embedding_bag.hpp"
#include "matmul.hpp"
#include "norm.hpp"
#include "resample.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels {

// The instruction set whose kernels run: one of simd::isa_names.
inline const char* instruction_set() { return simd::isa_names[static_cast<int>(simd::compiled_isa)]; }

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI::kernels
#endif

#include "../core/end.hpp"
