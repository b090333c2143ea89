// Launchers of the gradient of an embedding (embedding.cu).
//
// All pointers are device pointers to contiguous memory, all work is queued on `stream`. Nothing is
// checked here: the callers in src/kernels did. Throws std::runtime_error where a launch fails.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// Tokens in order, each with its place among those given: what `launch_sort_tokens` writes.
struct SortedTokens {
  const int32_t* tokens;  ///< [N], growing; V stands for those that are not in 0..V-1
  const int32_t* places;  ///< [N], growing where tokens are equal
};

/// How many int32 `launch_sort_tokens` needs to work in, for N tokens.
int64_t sort_tokens_words(int64_t n);

/// Sorts tokens int64 [N] in a stable way. N and V below 2^31; memory: `sort_tokens_words(N)`
/// int32, where the result lies.
SortedTokens launch_sort_tokens(const int64_t* tokens, int64_t n, int64_t vocabulary,
                                int32_t* memory, Stream stream);

/// dweight[v] = sum of grad[n] over the n with token v, in float32 and in the order of n, for every
/// v that comes; other rows of dweight [V,C] are left alone. grad [N,C]. W, G: float or BFloat16.
template <class W, class G>
void launch_embedding_backward(W* dweight, const G* grad, const SortedTokens& sorted, int64_t n,
                               int64_t channels, int64_t vocabulary, Stream stream);

}  // namespace rev::cuda
