// bf16 weights x float32 rows, AVX2.
//
// Math      matmul_bf16 in cpu/kernels.h; cpu/scalar/matmul_bf16.cc defines it.
// Method    tiles of matmul.h.
// Numerics  same bits as scalar; see matmul.h. Widening bf16 is a shift, and exact.
#include "cpu/avx2/matmul.h"

namespace cabochon::cpu::avx2_tier {

void install_matmul_bf16(Kernels& kernels) noexcept { kernels.matmul_bf16 = matmul<uint16_t>; }

}  // namespace cabochon::cpu::avx2_tier
