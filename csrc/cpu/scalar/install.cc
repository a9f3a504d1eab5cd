// Fills every entry of the table with the definition.
#include "cpu/scalar/scalar.h"

namespace cabochon::cpu {

void install_scalar(Kernels& kernels) noexcept {
  kernels.tier = "scalar";
  scalar_tier::install_matmul_bf16(kernels);
  scalar_tier::install_matmul_f32(kernels);
  scalar_tier::install_attention(kernels);
  scalar_tier::install_norm(kernels);
  scalar_tier::install_rope(kernels);
  scalar_tier::install_activation(kernels);
  scalar_tier::install_rows(kernels);
  scalar_tier::install_quantize(kernels);
  scalar_tier::install_search_int4(kernels);
  scalar_tier::install_matmul_int4(kernels);
  scalar_tier::install_matmul_int8(kernels);
}

}  // namespace cabochon::cpu
