// Arguments of the operations in ops.h: named fields, shapes beside them.
//
// Tensors are views that the caller owns; all activations are float32. "rows" are tokens of a step,
// of any sequences, in any order: an operation treats each row by itself.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>

#include "base/tensor.h"
#include "weights/format.h"

namespace cabochon {

// What rounding rows of activations to int8 takes at most: a code a value, a float32 scale for each
// 32 columns, an int32 sum for each 32.
inline int64_t rounded_bytes(int64_t tokens, int64_t cols) {
  return tokens * (cols + 4 * (cols / kFineGranule) + 4 * (cols / 32));
}

// gated_matmul: from so many tokens on, so many columns of gate and up at a time.
inline constexpr int64_t kGatedTokens = 16, kGatedColumns = 64;

// Float32 values that gated_matmul works in for up to so many tokens: all of up for few, a block of
// gate and up on each thread for many.
inline int64_t gated_scratch(int64_t tokens, int64_t ffn, int threads) {
  return std::max(std::min(tokens, kGatedTokens - 1) * ffn,
                  (tokens < kGatedTokens ? 0 : tokens) * 2 * kGatedColumns * threads);
}

// Queries that attention takes at once, and float32 values that it works in for as many of them.
inline constexpr int64_t kAttentionQueries = 24;
inline int64_t attention_slot(int64_t queries, int64_t head_dim, int64_t turned) {
  return queries * (2 * head_dim + turned + 4);
}

// Float32 values that attention works in: room for 64 partitions, and the running softmax of each
// query. A step of any length fits: it is computed in as many rounds as it takes.
inline int64_t attention_scratch(int64_t tokens, int64_t heads, int64_t head_dim, int64_t turned) {
  return 2 * tokens * heads + 64 * attention_slot(kAttentionQueries, head_dim, turned);
}

struct EmbedArgs {
  Tensor out;  // [tokens, hidden]
  std::span<const int32_t> ids;
  PackedWeight table;  // [vocab, hidden]
  float scale;         // out = widened row * scale
};

struct NormArgs {
  Tensor out;     // [..., n]
  Tensor x;       // the same shape
  Tensor weight;  // [n] float32, or empty: no weight
  float epsilon;
};

struct RopeArgs {
  Tensor x;         // [tokens, heads, head_dim], turned in place
  Tensor cos, sin;  // [tokens, pairs]; pairs <= head_dim / 2, the other pairs stay
};

struct MatmulArgs {
  Tensor out;  // [tokens, rows]
  Tensor x;    // [tokens, cols]; rounded to int8 first where the weight is int8 or int4
  PackedWeight weight;
};

// Several matrices over the same x: as that many matmuls, but x is rounded once, so those in panels
// have one granule; and all of it is one region.
struct ProjectArgs {
  struct Part {
    Tensor out;  // [tokens, rows of weight]
    PackedWeight weight;
  };
  Tensor x;  // [tokens, cols]
  std::span<const Part> parts;
};

struct GatedMatmulArgs {
  Tensor out;             // [tokens, ffn]: gelu(gate x) * (up x)
  Tensor x;               // [tokens, hidden]
  PackedWeight gate, up;  // [ffn, hidden]
};

struct PerLayerGateArgs {
  Tensor out;         // [tokens, width]: gelu(gate x) * input
  Tensor x;           // [tokens, hidden], the raw residual
  PackedWeight gate;  // [width, hidden]
  Tensor input;       // [tokens, columns]; this layer's slice begins at `offset`
  int64_t offset;
};

// out = (rms(out * projection_scale) * norm + stored * stored_scale) * result_scale, for each run
// of `width` values: the context projection of a token and its row of the table make one input a
// layer.
struct PerLayerSumArgs {
  Tensor out;     // [tokens, columns], whole runs of width; computed in place
  Tensor norm;    // [width]
  Tensor stored;  // [tokens, all columns] bf16 or float32: rows of the table
  int64_t begin;  // column of stored that column 0 of out belongs to
  float projection_scale, stored_scale, result_scale, epsilon;
};

// Where one layer's keys and values stand in a page. Two parts, each of one row for every position
// and kv head: [kv_heads, 64, width], and of an int8 cache a float32 scale a row, [kv_heads, 64].
// What an int8 row of keys holds is mixed first (docs/numerics.md, "Arithmetic").
//   turned == 0   keys and values, of head_dim columns each
//   turned > 0    the values (head_dim), and of the keys the `turned` columns that a rope of
//                 turned / 2 pairs turns; the others are value * key_norm (AttentionArgs)
struct KvLayer {
  struct Part {
    int64_t offset = 0, scale_offset = 0;  // bytes from the start of a page
    int64_t width = 0;
  };
  Dtype dtype = Dtype::kF32;  // float32, bf16 or int8
  std::byte* pages = nullptr;
  int64_t page_bytes = 0;
  int64_t kv_heads = 0, head_dim = 0, turned = 0;
  Part parts[2] = {};
  int64_t bytes = 0;  // of this layer in a page, a multiple of 64

  const Part& values() const { return parts[turned > 0 ? 0 : 1]; }
};

// A layer whose bytes begin at `offset` of a page; pages and page_bytes are the caller's to set.
inline KvLayer kv_layer(Dtype dtype, int64_t kv_heads, int64_t head_dim, int64_t turned,
                        int64_t offset) {
  KvLayer layer{.dtype = dtype, .kv_heads = kv_heads, .head_dim = head_dim, .turned = turned};
  const int64_t rows = 64 * kv_heads;
  for (int i = 0; i < 2; ++i) {
    const int64_t width = i == 1 && turned > 0 ? turned : head_dim;
    const int64_t codes = rows * width * byte_size(dtype);
    layer.parts[i] = {offset + layer.bytes, offset + layer.bytes + codes, width};
    layer.bytes += codes + (dtype == Dtype::kI8 ? rows * byte_size(Dtype::kF32) : 0);
  }
  return layer;
}

inline constexpr int64_t kMaxPosition = int64_t{1} << 31;

// The pages of one sequence. Page of position p: pages[p / 64], or of a ring pages[p / 64 % size].
struct PageTable {
  std::span<const int32_t> pages;
  bool is_ring = false;

  int32_t page_of(int64_t position) const {
    const size_t index = static_cast<size_t>(position / 64);
    return pages[is_ring ? index % pages.size() : index];
  }
};

// Which sequence a row belongs to and where it stands in it.
struct RowPlaces {
  std::span<const int32_t> sequences;  // [tokens], index into tables
  std::span<const int64_t> positions;  // [tokens]
  std::span<const PageTable> tables;
};

struct StoreKvArgs {
  KvLayer kv;
  Tensor keys, values;  // [tokens, kv_heads, head_dim]; rounded to the cache's type here. Where
                        // kv.turned > 0, values are the keys before their norm's weight and rope
  RowPlaces places;
};

struct AttentionArgs {
  Tensor out;      // [tokens, heads, head_dim]
  Tensor queries;  // [tokens, heads, head_dim]
  KvLayer kv;      // reads the cache alone, never fresh keys
  RowPlaces places;
  int64_t window;  // keys a query sees, itself included; 0: all before it
  float scale;
  Tensor key_norm;  // [head_dim] where kv.turned > 0: score = turned query . turned key
                    //   + (query * key_norm) . value over the columns that do not turn
  Tensor scratch;   // [at least attention_scratch(tokens, heads, head_dim, kv.turned)]
};

struct RouteArgs {
  Tensor ids;               // [tokens, top] int32, largest first, ties to the lowest id
  Tensor weights;           // [tokens, top]
  Tensor x;                 // [tokens, hidden], the raw residual
  PackedWeight weight;      // [experts, hidden]
  Tensor scale;             // [hidden]
  Tensor per_expert_scale;  // [experts]
  Tensor normed;            // [tokens, hidden] scratch
  Tensor scores;            // [tokens, experts] scratch
  float epsilon;
};

struct ExpertsArgs {
  Tensor out;             // [tokens, hidden]: sum over a token's experts, ascending by id
  Tensor x;               // [tokens, hidden], normed
  Tensor ids, weights;    // [tokens, top]
  PackedWeight gate, up;  // [ffn, hidden] of each expert
  PackedWeight down;      // [hidden, ffn] of each expert
  // Scratch. Each (token, choice) has a slot: ordered by expert, then by token.
  Tensor slots;       // [tokens, top] int32
  Tensor used, ends;  // [experts] int32: those with a token; one past the last slot of each
  Tensor activated;   // [2, tokens * top, ffn], in slots
  Tensor results;     // [tokens * top, hidden], in slots
};

// Ids whose largest logit is noted, so that the first few of a vocabulary are found without reading
// all of it; and ids whose exponentials are summed in float32.
inline constexpr int64_t kLogitBlock = 256, kLogitChunk = 4096;

struct HeadArgs {
  Tensor logits;               // [tokens, vocab]
  Tensor largest;              // [tokens, ceil(vocab / kLogitBlock)]: largest_of each block
  std::span<double> log_sums;  // [tokens]: natural log of the sum of exp(logit): not finite where a
                               // logit is NaN or +infinity
  Tensor chunk_sums;           // [tokens, ceil(vocab / kLogitChunk)] scratch
  Tensor x;                    // [tokens, hidden], normed
  PackedWeight weight;         // [vocab, hidden]
  float softcap;               // cap * tanh(logit / cap); 0: none
};

// -infinity where there is none; a NaN is passed over.
inline float largest_of(std::span<const float> values) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  const auto take = [&](size_t lane, float value) {
    lanes[lane] = value > lanes[lane] ? value : lanes[lane];
  };
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) take(lane, values[i + lane]);
  }
  for (; i < values.size(); ++i) take(0, values[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

}  // namespace cabochon
