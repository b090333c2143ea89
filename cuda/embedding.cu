// Tokens are sorted by their digits of eight bits, the lowest first, each digit by a counting sort
// that keeps the order of equals: a block counts the digits of a tile of tokens, then all tiles'
// counts say where each of its tokens goes. Then a warp adds the rows of a token.
#include <utility>

#include "cuda/embedding.h"
#include "cuda/launch.h"
#include "cuda/row.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kOfWarp = 8 * kWarp;  // consecutive tokens of a tile, which one warp sorts
constexpr int kTile = kWarpsOfBlock * kOfWarp;
constexpr int kRowsAtOnce = 4;  // rows of a token that a warp has in flight

static_assert(kDigits == kBlock, "a thread stands for a digit");

int64_t tiles_of(int64_t n) { return (n + kTile - 1) / kTile; }

// A token as its sort key; the first pass reads tokens, the others keys.
__device__ __forceinline__ int32_t key_of(int64_t token, int32_t vocabulary) {
  return token >= 0 && token < vocabulary ? static_cast<int32_t>(token) : vocabulary;
}
__device__ __forceinline__ int32_t key_of(int32_t key, int32_t) { return key; }

__device__ __forceinline__ int digit_of(int32_t key, int shift) {
  return key >> shift & (kDigits - 1);
}

// counts[tile, d] = how many of the tile's keys have digit d. A block has a tile.
template <class K>
__global__ void __launch_bounds__(kBlock)
    count_digits_kernel(int32_t* counts, const K* keys, int64_t n, int32_t vocabulary, int shift) {
  __shared__ int count[kDigits];
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t tile = blockIdx.x;
  count[thread] = 0;
  __syncthreads();
  for (int j = thread; j < kTile; j += kBlock) {
    const int64_t i = tile * kTile + j;
    if (i < n) atomicAdd(&count[digit_of(key_of(keys[i], vocabulary), shift)], 1);
  }
  __syncthreads();
  counts[tile * kDigits + thread] = count[thread];
}

// The sum of what the threads before this one hold.
__device__ __forceinline__ int sum_before(int value) {
  __shared__ int warps[kWarpsOfBlock];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  int sum = sum_up_to_lane(value);
  if (lane == kWarp - 1) warps[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += warps[w];
  return sum - value;
}

// Moves each key, and the place that it comes from, to where the digit puts it. places: null in the
// first pass.
template <class K>
__global__ void __launch_bounds__(kBlock)
    move_digits_kernel(int32_t* moved_keys, int32_t* moved_places, const K* keys,
                       const int32_t* places, const int32_t* counts, int64_t n, int32_t vocabulary,
                       int shift) {
  // How many a warp has of a digit, then where its next goes.
  __shared__ int next[kWarpsOfBlock][kDigits];
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp, warp = thread / kWarp;
  const int64_t tile = blockIdx.x;
  const int64_t first = tile * kTile + warp * kOfWarp;

  for (int d = lane; d < kDigits; d += kWarp) next[warp][d] = 0;
  __syncwarp();
  for (int64_t at = first; at < min(first + kOfWarp, n); at += kWarp) {
    const int64_t i = at + lane;
    const bool exists = i < n;
    const int digit = exists ? digit_of(key_of(keys[i], vocabulary), shift) : 0;
    const unsigned peers = lanes_with(digit, kDigits, exists);
    if (exists && lane == __ffs(static_cast<int>(peers)) - 1) {
      next[warp][digit] += __popc(peers);
    }
    __syncwarp();
  }

  // This thread's digit: after all smaller digits, and after the earlier tiles' tokens with it.
  int earlier = 0, total = 0;
  for (int64_t t = 0; t * kTile < n; ++t) {
    const int count = counts[t * kDigits + thread];
    earlier += t < tile ? count : 0;
    total += count;
  }
  int start = sum_before(total) + earlier;  // waits for all warps' counts, too
  for (int w = 0; w < kWarpsOfBlock; ++w) {
    const int count = next[w][thread];
    next[w][thread] = start;
    start += count;
  }
  __syncthreads();

  for (int64_t at = first; at < min(first + kOfWarp, n); at += kWarp) {
    const int64_t i = at + lane;
    const bool exists = i < n;
    const int32_t key = exists ? key_of(keys[i], vocabulary) : 0;
    const int digit = digit_of(key, shift);
    const unsigned peers = lanes_with(digit, kDigits, exists);
    const int to = next[warp][digit] + __popc(peers & ((1u << lane) - 1u));
    __syncwarp();
    if (exists && lane == __ffs(static_cast<int>(peers)) - 1) {
      next[warp][digit] += __popc(peers);
    }
    __syncwarp();
    if (exists) {
      moved_keys[to] = key;
      moved_places[to] = places != nullptr ? places[i] : static_cast<int32_t>(i);
    }
  }
}

template <bool kWide, class W, class G>
__global__ void __launch_bounds__(kBlock)
    add_rows_kernel(W* dweight, const G* grad, SortedTokens sorted, int64_t n, int64_t channels,
                    int32_t vocabulary) {
  constexpr int kStrip = kWarp * kLaneSums;  // columns of a warp
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t strips = (channels + kStrip - 1) / kStrip;
  for (int64_t w = first_row(); w < n * strips; w += rows_apart()) {
    const int64_t head = w / strips, column = w % strips * kStrip + lane * kLaneSums;
    const int32_t token = sorted.tokens[head];
    if (token == vocabulary || (head > 0 && sorted.tokens[head - 1] == token)) continue;
    float sum[kLaneSums] = {};
    int count = kWarp;
    for (int64_t i = head; count == kWarp; i += kWarp) {  // a lane looks up a row for all of them
      const bool same = i + lane < n && sorted.tokens[i + lane] == token;
      const int32_t place = same ? sorted.places[i + lane] : 0;
      count = __popc(__ballot_sync(kAll, same));
      for (int row = 0; row < count; row += kRowsAtOnce) {
        float values[kRowsAtOnce][kLaneSums];
#pragma unroll
        for (int r = 0; r < kRowsAtOnce; ++r) {
          const int64_t from = __shfl_sync(kAll, place, (row + r) % kWarp);
          if (row + r < count && column < channels) {
            load_floats<kWide>(grad + from * channels, column, channels, values[r]);
          }
        }
#pragma unroll
        for (int r = 0; r < kRowsAtOnce; ++r) {
#pragma unroll
          for (int k = 0; k < kLaneSums; ++k) {
            if (row + r < count && column < channels) sum[k] += values[r][k];
          }
        }
      }
    }
    if (column < channels) store_floats<kWide>(dweight + token * channels, column, channels, sum);
  }
}

}  // namespace

int64_t sort_tokens_words(int64_t n) { return 4 * n + tiles_of(n) * kDigits; }

SortedTokens launch_sort_tokens(const int64_t* tokens, int64_t n, int64_t vocabulary,
                                int32_t* memory, Stream stream) {
  int32_t *keys = memory, *places = keys + n, *moved_keys = places + n,
          *moved_places = moved_keys + n;
  int32_t* counts = moved_places + n;
  if (n == 0) return {keys, places};
  const auto v = static_cast<int32_t>(vocabulary);
  const auto tiles = static_cast<unsigned>(tiles_of(n));
  for (int shift = 0; shift == 0 || vocabulary >> shift != 0; shift += kDigitBits) {
    if (shift == 0) {
      launch(count_digits_kernel<int64_t>, tiles, stream, counts, tokens, n, v, shift);
      launch(move_digits_kernel<int64_t>, tiles, stream, moved_keys, moved_places, tokens, nullptr,
             counts, n, v, shift);
    } else {
      launch(count_digits_kernel<int32_t>, tiles, stream, counts, keys, n, v, shift);
      launch(move_digits_kernel<int32_t>, tiles, stream, moved_keys, moved_places, keys, places,
             counts, n, v, shift);
    }
    std::swap(keys, moved_keys);
    std::swap(places, moved_places);
  }
  return {keys, places};
}

template <class W, class G>
void launch_embedding_backward(W* dweight, const G* grad, const SortedTokens& sorted, int64_t n,
                               int64_t channels, int64_t vocabulary, Stream stream) {
  if (n == 0 || channels == 0) return;
  const int64_t strips = (channels + kWarp * kLaneSums - 1) / (kWarp * kLaneSums);
  const unsigned blocks = blocks_for(n * strips, kWarpsOfBlock);
  const bool wide = aligned_16(dweight, grad) && wide_rows(channels);
  launch(wide ? add_rows_kernel<true, W, G> : add_rows_kernel<false, W, G>, blocks, stream, dweight,
         grad, sorted, n, channels, static_cast<int32_t>(vocabulary));
}

#define REV_EMBEDDING(W, G)                                                                    \
  template void launch_embedding_backward(W*, const G*, const SortedTokens&, int64_t, int64_t, \
                                          int64_t, Stream);
REV_EMBEDDING(float, float)
REV_EMBEDDING(float, BFloat16)
REV_EMBEDDING(BFloat16, float)
REV_EMBEDDING(BFloat16, BFloat16)
#undef REV_EMBEDDING

}  // namespace rev::cuda
