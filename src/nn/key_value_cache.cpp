#include "rev/nn/key_value_cache.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <algorithm>
#include <c10/util/Exception.h>

namespace rev::nn {

using at::Tensor;

namespace {

thread_local KeyValueCache* current_cache = nullptr;

// t [B,K,T,D] written behind the first `size` tokens of `kept`, which grows by doubling.
Tensor append(Tensor& kept, const Tensor& t, int64_t size) {
  const int64_t total = size + t.size(2);
  if (!kept.defined() || total > kept.size(2)) {
    std::vector<int64_t> sizes = t.sizes().vec();
    sizes[2] = std::max<int64_t>(64, 2 * total);
    const Tensor larger = at::empty(sizes, t.options());
    if (size > 0) larger.narrow(2, 0, size).copy_(kept.narrow(2, 0, size));
    kept = larger;
  }
  kept.narrow(2, size, t.size(2)).copy_(t);
  return kept.narrow(2, 0, total);
}

}  // namespace

KeyValueCache::Scope::Scope(KeyValueCache& cache) : outer_(current_cache) {
  cache.next_ = 0;
  cache.added_ = 0;
  current_cache = &cache;
}

KeyValueCache::Scope::~Scope() { current_cache = outer_; }

void KeyValueCache::Scope::commit() {
  current_cache->size_ += current_cache->added_;
  current_cache->added_ = 0;
}

KeyValueCache* KeyValueCache::current() { return current_cache; }

int64_t KeyValueCache::position() { return current_cache ? current_cache->size_ : 0; }

std::pair<Tensor, Tensor> KeyValueCache::extend(const Tensor& k, const Tensor& v) {
  TORCH_CHECK(!at::GradMode::is_enabled(),
              "key/value cache: it is for evaluation without gradients, which are on");
  if (next_ == kept_.size() && size_ == 0) kept_.emplace_back();
  TORCH_CHECK(next_ < kept_.size(), "key/value cache: attention is evaluated more than ",
              kept_.size(), " times, as often as for the tokens before");
  Kept& kept = kept_[next_++];
  TORCH_CHECK(size_ == 0 || kept.k.size(0) == k.size(0), "key/value cache: a batch of ", k.size(0),
              " after one of ", kept.k.size(0));
  added_ = k.size(2);
  if (size_ == 0) kept = Kept();
  return {append(kept.k, k, size_), append(kept.v, v, size_)};
}

}  // namespace rev::nn
