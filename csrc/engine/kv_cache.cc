#include "engine/kv_cache.h"

#include <algorithm>

namespace cabochon {
namespace {

KvLayer layout(const LayerPlan& layer, Dtype dtype, int64_t offset) {
  return kv_layer(dtype, layer.kv_heads, layer.head_dim, layer.turned_columns(), offset);
}

}  // namespace

KvSizes kv_sizes(const ModelPlan& plan, Dtype dtype) {
  KvSizes sizes;
  for (int index = 0; index < plan.layer_count(); ++index) {
    const LayerPlan& layer = plan.layers[static_cast<size_t>(index)];
    sizes.longest_window = std::max<int64_t>(sizes.longest_window, layer.window);
    if (!plan.owns_kv(index)) continue;
    int64_t& page = layer.window > 0 ? sizes.sliding_page_bytes : sizes.global_page_bytes;
    page += layout(layer, dtype, 0).bytes;
  }
  return sizes;
}

KvCache::KvCache(const ModelPlan& plan, Dtype dtype, int64_t global_pages, int64_t sliding_pages)
    : global_pages_(global_pages), sliding_pages_(sliding_pages), sizes_(kv_sizes(plan, dtype)) {
  const auto bytes = [](int64_t pages, int64_t page_bytes) {
    int64_t product = 0;
    if (!__builtin_mul_overflow(pages, page_bytes, &product)) return product;
    throw OutOfMemory(text(pages, " pages of ", page_bytes, " bytes are more than can be counted"));
  };
  global_ = Buffer(bytes(global_pages, sizes_.global_page_bytes));
  sliding_ = Buffer(bytes(sliding_pages, sizes_.sliding_page_bytes));
  int64_t global_offset = 0, sliding_offset = 0;
  for (int index = 0; index < plan.layer_count(); ++index) {
    const LayerPlan& layer = plan.layers[static_cast<size_t>(index)];
    KvLayer view;
    if (plan.owns_kv(index)) {
      const bool is_sliding = layer.window > 0;
      int64_t& offset = is_sliding ? sliding_offset : global_offset;
      view = layout(layer, dtype, offset);
      view.pages = is_sliding ? sliding_.data() : global_.data();
      view.page_bytes = is_sliding ? sizes_.sliding_page_bytes : sizes_.global_page_bytes;
      offset += view.bytes;
    }
    layers_.push_back(view);
  }
}

std::span<std::byte> KvCache::page(PageKind kind, int64_t index) {
  const bool is_global = kind == PageKind::kGlobal;
  const int64_t count = is_global ? global_pages_ : sliding_pages_;
  if (index < 0 || index >= count) {
    throw InvalidArgument(text(is_global ? "global" : "sliding", " page ", index,
                               " is not there, the cache has ", count));
  }
  const int64_t size = page_bytes(kind);
  std::byte* first = (is_global ? global_ : sliding_).data() + index * size;
  return {first, static_cast<size_t>(size)};
}

}  // namespace cabochon
