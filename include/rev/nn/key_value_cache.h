// Keys and values of the tokens that a model has read, so that it goes on with the next ones alone.
//
// In evaluation a token's states depend on those of earlier tokens through attention's keys and
// values and nothing else, whatever scheme couples the layers. So a model evaluated on new tokens,
// whose attention also sees the keys and values kept, gives what it would have given for them at
// the end of the whole text.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace rev::nn {

/// Empty at first. Each evaluation of attention within a `Scope` has keys and values of its own, in
/// the order in which they come, which must be the same in every scope.
class KeyValueCache {
 public:
  /// Tokens held; those to come stand at positions from here on.
  int64_t size() const { return size_; }

  /// While one lives, `causal_attention` on this thread goes by way of the cache. What it adds
  /// counts when `commit` is called, and is forgotten otherwise (where something throws).
  class Scope {
   public:
    explicit Scope(KeyValueCache& cache);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    void commit();

   private:
    KeyValueCache* outer_;
  };

  /// The cache of this thread's innermost scope, or null.
  static KeyValueCache* current();

  /// The position of the first token that is read now: the cache's size within a scope, else 0.
  static int64_t position();

  /// Keys and values [B,K,T,D] of T new tokens -> those of all tokens, [B,K,size() + T,D], which
  /// stay valid until the next call. For `causal_attention`. Throws c10::Error where a graph is
  /// recorded or sizes are not those of the tokens before.
  std::pair<at::Tensor, at::Tensor> extend(const at::Tensor& k, const at::Tensor& v);

 private:
  struct Kept {
    at::Tensor k, v;  // [B,K,capacity,D]
  };

  std::vector<Kept> kept_;  // of each evaluation
  std::size_t next_ = 0;    // evaluation in this scope
  int64_t size_ = 0;
  int64_t added_ = 0;
};

}  // namespace rev::nn
