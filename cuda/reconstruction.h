// Launchers of the reconstruction check's kernels (reconstruction.cu). They add to a record on the
// device and never make the host wait. Pointers and streams as in grid.h.
#pragma once

#include <cstdint>

#include "cuda/stream.h"

namespace rev::cuda {

/// Blocks at most, as each ends in atomics to one place. What they write does not depend on it.
constexpr unsigned kMostReducers = 1024;

constexpr int kFirstRows = 8;               // differing rows that a record names
constexpr int kRowRecord = 2 + kFirstRows;  // length of a record
constexpr uint64_t kNoRow = ~uint64_t{0};   // in place of a row that is not there: -1 as int64

/// Adds the comparison of the row sums a and b, [n], to a record [kRowRecord]: rows compared += n,
/// rows differing += |{i: a_i != b_i}|, then the least kFirstRows rows i that differed, those that
/// it held already among them, each once, ascending, kNoRow after the last.
void launch_compare_rows(int64_t* record, const int64_t* a, const int64_t* b, int64_t n,
                         Stream stream, unsigned most_blocks = kMostReducers);

/// Raises a record [2] of nonnegative floats or NaN: record_0 to max |a_i - b_i|, record_1 to
/// max |a_i| over n elements. NaN is above infinity here.
void launch_drift(float* record, const float* a, const float* b, int64_t n, Stream stream,
                  unsigned most_blocks = kMostReducers);

}  // namespace rev::cuda
