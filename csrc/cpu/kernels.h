// The inner loops a CPU tier may speed up: one function pointer per loop.
//
// cpu/scalar/ fills every entry and is the definition, bit for bit. A faster tier overrides the
// entries it does better (select.cc). A tier file includes this header, its intrinsics and nothing
// else of ours: declarations and constants only stand here, so that no weak symbol can carry a
// tier's instructions into the rest of the program. Knows no threads, no tensors, no Gemma.
//
// A kernel is what one thread does alone: no allocation, no checks, no exceptions. Pointers need no
// alignment beyond that of their element. Counts may be 0 unless said otherwise.
//
// Two orders of summation are used, and nothing else (docs/numerics.md):
//   16 lanes   lane j starts at +0 and takes elements j, j + 16, j + 32, ... in that order, the row
//              being padded with +0 to a multiple of 16; then lanes j and j + 8 are added, then
//              j and j + 4, j + 2, j + 1. Products enter by fma.
//   ascending  one running value, element by element.
// The padding is computed: fma(0, 0, -0) makes a lane +0. exp and tanh are the polynomials of
// scalar/activation.cc, the same steps in every tier; a NaN stays a NaN, but which NaN is not
// promised (narrow_bf16 excepted).
//
// matmul_* may prefetch past the end of the weights: a prefetch never faults.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cabochon::cpu {

inline constexpr size_t kLanes = 16;     // partial sums of a 16-lane sum
inline constexpr size_t kKeyBlock = 64;  // keys that share one step of the online softmax
inline constexpr size_t kMaxHeadDim = 1024;
inline constexpr size_t kMaxQueries = 24;  // that attend_* takes at once

// What a query sees of a block: keys first <= i < last, first < last <= kKeyBlock. The others may
// hold anything and are never read into its result.
struct KeyRange {
  size_t first, last;
};

// A part of every score: rows of queries against rows of keys.
struct ScoreTerm {
  const void* queries;        // [count, size] float32; for int8 keys int8
  const void* keys;           // [kKeyBlock, size] float32, bf16 bits or int8
  const float* query_scales;  // [count], for int8 keys alone
  const float* key_scales;    // [kKeyBlock], for int8 keys alone
  size_t size;                // 1 to kMaxHeadDim
};

// Some queries against one block of keys, so that keys and values are read once for all of them.
struct AttentionBlock {
  ScoreTerm terms[2];
  size_t term_count;          // 1 or 2
  const KeyRange* visible;    // [count]
  size_t count;               // 1 to kMaxQueries
  const void* values;         // [kKeyBlock, head_dim], of the keys' type
  const float* value_scales;  // [kKeyBlock], for int8 alone
  size_t head_dim;            // 1 to kMaxHeadDim
  float scale;
};

// A running softmax over keys: values weighted by exp(score - max) are in attended[head_dim].
// Before the first block: max = -infinity, sum = 0, attended all +0.
struct SoftmaxState {
  float max;
  float sum;
};

// Integer weights. A packed matrix is a row of panels of 32 weight rows; a panel runs along the
// columns in units, codes first, then one bf16 scale a row (docs/formats.md):
//   int4   a unit is 32 rows x 32 columns: 512 bytes of codes (weight + 8), 64 of scales.
//          Byte 64 v + 4 r + j, v = 2 g + t (g = 0..3, t = 0..1), holds row 16 t + r: column
//          8 g + j in its low nibble and column 8 g + 4 + j in its high one
//   int8   a unit is 32 rows x 128 columns: 4,096 bytes of codes (weight + 128), 64 of scales.
//          Byte 128 q + 4 r + j holds row r, column 4 q + j; a last short unit has fewer quads
// Rows are padded to 32 with weights 0 (and scale 0). Columns are a multiple of 32.
inline constexpr size_t kPanelRows = 32;
inline constexpr size_t kInt4Block = 32, kInt4UnitBytes = 576;
inline constexpr size_t kInt8Block = 128, kInt8UnitBytes = 4160;
inline constexpr size_t kSegment = 2048;   // columns summed apart before they are added up
inline constexpr size_t kSumColumns = 32;  // activation columns that share one sum of codes

// Rows of activations rounded to int8, as quantize_rows makes them.
struct QuantizedRows {
  const int8_t* codes;  // [tokens, cols], each in [-127, 127]
  const float* scales;  // [tokens, ceil(cols / granule)]
  const int32_t* sums;  // [tokens, cols / kSumColumns]
  size_t tokens, cols;  // cols a multiple of 32
  size_t granule;       // columns that share one scale: 32 or 128
};

// Rounding weights to int4 (docs/formats.md, "int4"): the scales that are tried are the block's
// largest |weight| / 7.5, then that number times each of these. Steps around 1/8 of either sign: a
// negative scale gives a largest weight that is positive the code -8.
static constexpr float kInt4Factors[] = {-1.05f / 8, -1.00f / 8, -0.96f / 8, -0.92f / 8, -0.88f / 8,
                                         -0.84f / 8, -0.80f / 8, 1.05f / 8,  1.00f / 8,  0.96f / 8,
                                         0.92f / 8,  0.88f / 8,  0.84f / 8,  0.80f / 8};
static constexpr size_t kInt4Tried = 1 + sizeof(kInt4Factors) / sizeof(kInt4Factors[0]);
static constexpr float kSmallestAbsmax = 0x1p-40f;  // and the largest is 2^40

struct Kernels {
  const char* tier;

  // out[t * out_stride + r] = dot(weight row r, x row t), in 16 lanes.
  //   x [tokens, cols], weight [rows, cols]; bf16 weights are widened exactly.
  // The order inside a dot never depends on tokens or rows.
  void (*matmul_f32)(float* out, size_t out_stride, const float* x, const float* weight,
                     size_t tokens, size_t rows, size_t cols) noexcept;
  void (*matmul_bf16)(float* out, size_t out_stride, const float* x, const uint16_t* weight,
                      size_t tokens, size_t rows, size_t cols) noexcept;

  // Null but where arithmetic "fast" was asked for (select.h): the one entry that no scalar code
  // defines. Like matmul_bf16, but x is bf16 bits too, and the order is that of vdpbf16ps:
  //   lane j starts at +0 and takes columns 32 b + 2 j + 1, then 32 b + 2 j, for b = 0, 1, ...,
  //   the row being padded with +0 to a multiple of 32; then lanes are added as in 16 lanes
  // Each product enters by an fma for which denormal operands are 0 and whose denormal results
  // become 0 of their sign, in every floating-point mode.
  void (*matmul_bf16_pairs)(float* out, size_t out_stride, const uint16_t* x,
                            const uint16_t* weight, size_t tokens, size_t rows,
                            size_t cols) noexcept;

  // For each granule (32 or 128 columns) of a row, of which the last may be short:
  //   absmax = the largest |x|, a NaN counting as the largest of all
  //   scale  = absmax / 127; code = round half to even (x * (127 / absmax)), 0 where absmax is
  //   below 2^-120 (127 / absmax would overflow near there)
  // A granule that holds a NaN or an infinity gets the scale NaN (its codes may be anything in
  // [-127, 127]), so that it shows in the result. x [tokens, cols], cols a multiple of 32.
  void (*quantize_rows)(int8_t* codes, float* scales, int32_t* sums, const float* x, size_t tokens,
                        size_t cols, size_t granule) noexcept;

  // out[t * out_stride + r] for r < rows, from ceil(rows / 32) panels:
  //   sum = 0
  //   for each segment of 2,048 columns:
  //     acc = 0
  //     for each span of the wider of granule (x) and block (weights: int4 32, int8 128 columns):
  //       f = 0
  //       for each of the narrower ones inside it (one where they are equal: the block's):
  //         f = fma(its scale, float(exact integer dot of weights and codes), f)
  //       acc = fma(scale of the wider one, f, acc)
  //     sum = acc for the first segment, sum + acc for the others
  // What is last may be short. The order never depends on tokens or rows.
  void (*matmul_int4)(float* out, size_t out_stride, const QuantizedRows* x, const uint8_t* panels,
                      size_t rows) noexcept;
  void (*matmul_int8)(float* out, size_t out_stride, const QuantizedRows* x, const uint8_t* panels,
                      size_t rows) noexcept;

  // Rounds 32 rows of 32 weights to one int4 unit, each row with the scale, of those tried, whose
  // codes have the least sum(importance * (weight - number * scale)^2):
  //   columns     [32, 32] float32, column after column: entry 32 c + r is column c of row r. A row
  //               is all zeros, or its largest |weight| is 2^-40 to 2^40
  //   importance  [32] of the columns, each 0 or 2^-40 to 1
  // For each row, with absmax its largest |weight|, but at least 2^-40:
  //   number(w, s) = clamp(round half to even (w * (1 / s)), -8, 7)
  //   error(s)     = the sum over columns, ascending from +0: e = fma(-number, s, w);
  //                  sum = fma(importance * e, e, sum)
  //   scales tried: bf16(absmax / 7.5), bf16(absmax * kInt4Factors[i]) ascending by i, and at last,
  //   for the numbers of the best of these, bf16(A / B): q = importance * number,
  //                  A = fma(q, w, A), B = fma(q, number, B), ascending from +0
  // A scale is taken where its error is smaller than that of all before it.
  void (*search_int4)(uint8_t* unit, const float* columns, const float* importance) noexcept;

  // One row: s = 1 / sqrt(sum(x^2) / n + epsilon), the sum in 16 lanes, then
  //   rms_norm      out[i]  = (x[i] * s) * weight[i];  a null weight leaves the last factor out
  //   rms_norm_add  out[i] += (x[i] * s) * weight[i]   (plain multiply, multiply, add: no fma)
  // n > 0; out may be x in rms_norm.
  void (*rms_norm)(float* out, const float* x, const float* weight, size_t n,
                   float epsilon) noexcept;
  void (*rms_norm_add)(float* out, const float* x, const float* weight, size_t n,
                       float epsilon) noexcept;

  // One head in place: for i < pairs, with a = x[i], b = x[i + head_dim / 2]:
  //   x[i] = a * cos[i] - b * sin[i];  x[i + head_dim / 2] = b * cos[i] + a * sin[i]  (no fma)
  void (*rope)(float* x, const float* cos, const float* sin, size_t head_dim,
               size_t pairs) noexcept;

  // out[i] = gelu(gate[i]) * up[i]; out may be gate or up.
  //   gelu(x) = x / (1 + exp(-2u)), u = sqrt(2 / pi) * (x + 0.044715 x^3): the tanh form, exactly
  //   rearranged so that nothing cancels. Steps: activation.cc.
  void (*gelu_multiply)(float* out, const float* gate, const float* up, size_t n) noexcept;

  // x[i] = cap * tanh(x[i] / cap); cap > 0.
  void (*softcap)(float* x, float cap, size_t n) noexcept;

  // Returns sum of exp(x[i] - max) in 16 lanes (padding adds +0); where out is not null, out[i] is
  // the i-th term. out may be x. exp below -87 is +0, above 88 it is exp(88).
  float (*exp_sum)(float* out, const float* x, float max, size_t n) noexcept;

  // Element by element, no fma but where written.
  void (*scale)(float* out, const float* x, float factor, size_t n) noexcept;  // x * factor
  void (*add)(float* out, const float* x, size_t n) noexcept;                  // out + x
  void (*add_scaled)(float* out, const float* x, float factor, size_t n) noexcept;
  //                                                       ^ fma(factor, x, out)
  // out[i] = (out[i] + x[i] * x_factor) * factor
  void (*add_scaled_then_scale)(float* out, const float* x, float x_factor, float factor,
                                size_t n) noexcept;
  void (*widen_bf16)(float* out, const uint16_t* x, size_t n) noexcept;   // exact
  void (*narrow_bf16)(uint16_t* out, const float* x, size_t n) noexcept;  // round half to even;
  //                                            NaN becomes the quiet NaN 0x7fc0 with its sign

  // One row: absmax, scale and code as in quantize_rows, but one granule of n columns, any n > 0.
  // Returns the scale.
  float (*round_row)(int8_t* codes, const float* x, size_t n) noexcept;

  // Takes one block into the running softmax of each query: states [count], attended
  // [count, head_dim]. For each of them alone, whatever the others are:
  //   term[i]  = dot(query, key i) in 16 lanes;          for int8 keys
  //              float(exact integer dot) * (query scale * key scale[i])
  //   score[i] = scale * (first term [+ second term])    for visible i
  //   max'     = max(max, score[first..last)) + 0, so never -0; a NaN does not enter it
  //   factor   = max == max' ? 1 : exp(max - max')       (exp(-infinity) is +0)
  //   p[i]     = exp(score[i] - max') for visible i, +0 for the others
  //   sum      = fma(sum, factor, sum of p in 16 lanes over the whole block of 64)
  //   w[i]     = p[i]; for int8 values p[i] * value scale[i]
  //   attended[d] = attended[d] * factor, then for visible keys ascending
  //   attended[d] = fma(w[i], value i[d], attended[d])
  void (*attend_f32)(SoftmaxState* states, float* attended, const AttentionBlock* block) noexcept;
  void (*attend_bf16)(SoftmaxState* states, float* attended, const AttentionBlock* block) noexcept;
  void (*attend_int8)(SoftmaxState* states, float* attended, const AttentionBlock* block) noexcept;

  // Takes the running softmax of a later partition into that of all before it:
  //   max' = max(max, part max) + 0; a = exp(max - max'), b = exp(part max - max') (1 where equal)
  //   sum  = fma(part sum, b, sum * a);  attended[d] = fma(part[d], b, attended[d] * a)
  // part max is finite; state may be in its first form.
  void (*merge_attention)(SoftmaxState* state, float* attended, const SoftmaxState* part_state,
                          const float* part, size_t head_dim) noexcept;
};

// Each writes its entries into the table; scalar fills all of them but matmul_bf16_pairs, and
// avx512bf16 is no tier: it adds that one.
void install_scalar(Kernels& kernels) noexcept;
void install_avx2(Kernels& kernels) noexcept;
void install_avx512(Kernels& kernels) noexcept;
void install_avx512bf16(Kernels& kernels) noexcept;

}  // namespace cabochon::cpu
