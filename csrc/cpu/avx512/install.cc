// Overrides the entries that AVX-512 does better: all of them.
#include "cpu/avx512/avx512.h"

namespace cabochon::cpu {

void install_avx512(Kernels& kernels) noexcept {
  kernels.tier = "avx512";
  avx512_tier::install_matmul_bf16(kernels);
  avx512_tier::install_matmul_f32(kernels);
  avx512_tier::install_attention(kernels);
  avx512_tier::install_norm(kernels);
  avx512_tier::install_rope(kernels);
  avx512_tier::install_activation(kernels);
  avx512_tier::install_rows(kernels);
  avx512_tier::install_quantize(kernels);
  avx512_tier::install_search_int4(kernels);
  avx512_tier::install_matmul_int4(kernels);
  avx512_tier::install_matmul_int8(kernels);
}

}  // namespace cabochon::cpu
