// float32 weights x float32 rows, AVX2.
//
// Math      matmul_f32 in cpu/kernels.h; cpu/scalar/matmul_f32.cc defines it.
// Method    tiles of matmul.h.
// Numerics  same bits as scalar; see matmul.h.
#include "cpu/avx2/matmul.h"

namespace cabochon::cpu::avx2_tier {

void install_matmul_f32(Kernels& kernels) noexcept { kernels.matmul_f32 = matmul<float>; }

}  // namespace cabochon::cpu::avx2_tier
