// Overrides the entries that AVX2 does better: all of them.
#include "cpu/avx2/avx2.h"

namespace cabochon::cpu {

void install_avx2(Kernels& kernels) noexcept {
  kernels.tier = "avx2";
  avx2_tier::install_matmul_bf16(kernels);
  avx2_tier::install_matmul_f32(kernels);
  avx2_tier::install_attention(kernels);
  avx2_tier::install_norm(kernels);
  avx2_tier::install_rope(kernels);
  avx2_tier::install_activation(kernels);
  avx2_tier::install_rows(kernels);
  avx2_tier::install_quantize(kernels);
  avx2_tier::install_search_int4(kernels);
  avx2_tier::install_matmul_int4(kernels);
  avx2_tier::install_matmul_int8(kernels);
}

}  // namespace cabochon::cpu
