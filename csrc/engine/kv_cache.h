// The bytes of KV pages. Python owns page numbers; this owns what they hold.
//
// A global page holds 64 positions of all global layers that own keys and values, a sliding page
// the same of all sliding layers. Inside a page: layer after layer, each as KvLayer says
// (ops/args.h). Shared layers store nothing.
#pragma once

#include <span>
#include <vector>

#include "base/buffer.h"
#include "model/plan.h"
#include "ops/args.h"

namespace cabochon {

inline constexpr int64_t kPagePositions = 64;

struct KvSizes {
  int64_t global_page_bytes = 0, sliding_page_bytes = 0;
  int64_t longest_window = 0;  // of the sliding layers, 0 without any

  // Pages of the ring of one sequence: the window, the longest chunk, and one page more, since a
  // chunk may begin inside a page.
  int64_t ring_pages(int64_t longest_chunk) const {
    if (longest_window == 0) return 0;
    return (longest_window + longest_chunk + kPagePositions - 1) / kPagePositions + 1;
  }

  // Pages of a ring that a token sees, wherever it stands, and those of 64 tokens before it: what
  // is kept of one at the end of a prompt.
  int64_t kept_pages() const {
    if (longest_window == 0) return 0;
    return (longest_window + 2 * kPagePositions - 3) / kPagePositions + 1;
  }
};

KvSizes kv_sizes(const ModelPlan& plan, Dtype dtype);

enum class PageKind : uint8_t { kGlobal, kSliding };

class KvCache {
 public:
  // dtype: float32, bf16 or int8. Memory is touched page by page, as pages are written to.
  KvCache(const ModelPlan& plan, Dtype dtype, int64_t global_pages, int64_t sliding_pages);

  // One view a layer; those of shared layers are empty. They live as long as the cache.
  const std::vector<KvLayer>& layers() const { return layers_; }
  int64_t global_pages() const { return global_pages_; }
  int64_t sliding_pages() const { return sliding_pages_; }
  int64_t bytes() const { return global_.bytes() + sliding_.bytes(); }

  int64_t page_bytes(PageKind kind) const {
    return kind == PageKind::kGlobal ? sizes_.global_page_bytes : sizes_.sliding_page_bytes;
  }
  // The bytes of one page. Throws InvalidArgument for one that there is not.
  std::span<std::byte> page(PageKind kind, int64_t index);

 private:
  int64_t global_pages_, sliding_pages_;
  KvSizes sizes_;
  Buffer global_, sliding_;
  std::vector<KvLayer> layers_;
};

}  // namespace cabochon
