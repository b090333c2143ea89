#include "rev/kernels/low_bits.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <algorithm>
#include <type_traits>

#include "cuda/low_bits.h"
#include "cuda/low_bits_math.h"
#include "kernels/device.h"
#include "kernels/rows.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::kPlaneCells;

// Whole bytes of packed cells; kCount is 1, 2, 4 or 8.
template <int kCount>
[[gnu::always_inline]] inline void pack_bytes(uint8_t* packed, const int32_t* cells,
                                              int64_t bytes) {
  constexpr int kEach = 8 / kCount;
  for (int64_t b = 0; b < bytes; ++b) {
    uint32_t byte = 0;
    for (int j = 0; j < kEach; ++j) {
      byte |= (static_cast<uint32_t>(cells[b * kEach + j]) & ((1u << kCount) - 1u)) << (j * kCount);
    }
    packed[b] = static_cast<uint8_t>(byte);
  }
}

REV_VECTOR_WIDTHS void pack_1(uint8_t* packed, const int32_t* cells, int64_t bytes) {
  pack_bytes<1>(packed, cells, bytes);
}
REV_VECTOR_WIDTHS void pack_2(uint8_t* packed, const int32_t* cells, int64_t bytes) {
  pack_bytes<2>(packed, cells, bytes);
}
REV_VECTOR_WIDTHS void pack_4(uint8_t* packed, const int32_t* cells, int64_t bytes) {
  pack_bytes<4>(packed, cells, bytes);
}
REV_VECTOR_WIDTHS void pack_8(uint8_t* packed, const int32_t* cells, int64_t bytes) {
  pack_bytes<8>(packed, cells, bytes);
}
REV_VECTOR_WIDTHS void pack_16(uint16_t* packed, const int32_t* cells, int64_t n) {
  for (int64_t i = 0; i < n; ++i) packed[i] = static_cast<uint16_t>(cells[i]);
}

template <int kCount>
[[gnu::always_inline]] inline void select_bytes(int32_t* x, const int32_t* near,
                                                const uint8_t* packed, int64_t bytes) {
  constexpr int kEach = 8 / kCount;
  for (int64_t b = 0; b < bytes; ++b) {
    for (int j = 0; j < kEach; ++j) {
      const int64_t i = b * kEach + j;
      x[i] = cuda::nearest_cell(near[i], static_cast<uint32_t>(packed[b]) >> (j * kCount), kCount);
    }
  }
}

REV_VECTOR_WIDTHS void select_1(int32_t* x, const int32_t* near, const uint8_t* packed,
                                int64_t bytes) {
  select_bytes<1>(x, near, packed, bytes);
}
REV_VECTOR_WIDTHS void select_2(int32_t* x, const int32_t* near, const uint8_t* packed,
                                int64_t bytes) {
  select_bytes<2>(x, near, packed, bytes);
}
REV_VECTOR_WIDTHS void select_4(int32_t* x, const int32_t* near, const uint8_t* packed,
                                int64_t bytes) {
  select_bytes<4>(x, near, packed, bytes);
}
REV_VECTOR_WIDTHS void select_8(int32_t* x, const int32_t* near, const uint8_t* packed,
                                int64_t bytes) {
  select_bytes<8>(x, near, packed, bytes);
}
REV_VECTOR_WIDTHS void select_16(int32_t* x, const int32_t* near, const uint16_t* packed,
                                 int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = cuda::nearest_cell(near[i], packed[i], 16);
}

// The functions above for a count, which work on whole bytes.
struct Packing {
  int64_t each;  // cells of a byte; 0: the count is 16, two bytes a cell
  void (*pack)(uint8_t*, const int32_t*, int64_t);
  void (*select)(int32_t*, const int32_t*, const uint8_t*, int64_t);
};

Packing packing_of(int64_t count) {
  switch (count) {
    case 1:
      return {8, pack_1, select_1};
    case 2:
      return {4, pack_2, select_2};
    case 4:
      return {2, pack_4, select_4};
    case 8:
      return {1, pack_8, select_8};
    default:
      return {0, nullptr, nullptr};
  }
}

// The selected cells of elements [begin, end), which need not start at a byte's.
void select_range(int32_t* x, const int32_t* near, const uint8_t* packed, int64_t begin,
                  int64_t end, int count) {
  const Packing packing = packing_of(count);
  const auto one_by_one = [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      x[i] = cuda::nearest_cell(near[i], cuda::packed_at(packed, i, count), count);
    }
  };
  if (packing.each == 0) {
    if (reinterpret_cast<uintptr_t>(packed) % alignof(uint16_t) != 0) {
      return one_by_one(begin, end);  // a view of bytes
    }
    select_16(x + begin, near + begin, reinterpret_cast<const uint16_t*>(packed) + begin,
              end - begin);
    return;
  }
  const int64_t first = std::min((begin + packing.each - 1) / packing.each * packing.each, end);
  const int64_t last = std::max(end / packing.each * packing.each, first);
  one_by_one(begin, first);
  packing.select(x + first, near + first, packed + first / packing.each,
                 (last - first) / packing.each);
  one_by_one(last, end);
}

// The words of s planes of 32 cells.
[[gnu::always_inline]] inline void keep_low_bits(uint32_t* words, const int32_t* cells, int s) {
  for (int p = 0; p < s; ++p) {
    uint32_t word = 0;
    for (int j = 0; j < kPlaneCells; ++j) word |= (static_cast<uint32_t>(cells[j]) >> p & 1u) << j;
    words[p] = word;
  }
}

[[gnu::always_inline]] inline uint32_t up_group(int32_t* cells, const uint32_t* words, int s,
                                                bool negative) {
  uint32_t low[kPlaneCells] = {}, out = 0;
  for (int p = 0; p < s; ++p) {
    for (int j = 0; j < kPlaneCells; ++j) low[j] |= (words[p] >> j & 1u) << p;
  }
  for (int j = 0; j < kPlaneCells; ++j) {
    cells[j] = cuda::shift_up(cells[j], low[j], s, negative, out);
  }
  return out;
}

// Calls body(cells, words) for the groups of a row; those of a last, shorter one are cells of zeros
// behind its end.
template <class Body>
[[gnu::always_inline]] inline void for_groups(int32_t* y, int64_t n, int s, const Body& body) {
  const int64_t whole = n / kPlaneCells;
  for (int64_t g = 0; g < whole; ++g) body(y + g * kPlaneCells, g * s);
  const int64_t rest = n - whole * kPlaneCells;
  if (rest == 0) return;
  int32_t cells[kPlaneCells] = {};
  std::copy_n(y + whole * kPlaneCells, rest, cells);
  body(cells, whole * s);
  std::copy_n(cells, rest, y + whole * kPlaneCells);
}

REV_VECTOR_WIDTHS void down_row(int32_t* y, uint32_t* planes, int64_t n, int s, bool negative) {
  for_groups(y, n, s, [=](int32_t* cells, int64_t words) {
    keep_low_bits(planes + words, cells, s);
    for (int j = 0; j < kPlaneCells; ++j) cells[j] = cuda::shift_down(cells[j], s, negative);
  });
}

REV_VECTOR_WIDTHS uint32_t up_row(int32_t* y, const uint32_t* planes, int64_t n, int s,
                                  bool negative) {
  uint32_t out = 0;
  for_groups(y, n, s, [=, &out](int32_t* cells, int64_t words) {
    out |= up_group(cells, planes + words, s, negative);
  });
  return out;
}

void check_count(const char* op, const Tensor& cells, int64_t count) {
  check_type_of_device(op, cells.device());
  TORCH_CHECK(cells.scalar_type() == at::kInt, op, ": expected int32 cells, got ",
              cells.scalar_type());
  TORCH_CHECK(count == 1 || count == 2 || count == 4 || count == 8 || count == 16, op,
              ": the count of low bits must be 1, 2, 4, 8 or 16, got ", count);
}

void check_places(const char* op, int64_t places) {
  TORCH_CHECK(places >= 1 && places <= cuda::kMostPlanes, op,
              ": |a| must be 2^-s with s from 1 to ", cuda::kMostPlanes, ", got s = ", places);
}

template <bool kUp>
void shift_any_(const char* op, Tensor& y, const Tensor& planes, const Shift& a,
                const Probe& probe) {
  check_state(op, y);
  check_probe(op, y, probe);
  check_places(op, a.places);
  if (y.scalar_type() != at::kInt) {
    if (probe.before.defined()) probe.before.copy_(row_sums(y));
    y.mul_(kUp ? 1.0 / a.value() : a.value());
    if (probe.after.defined()) probe.after.copy_(row_sums(y));
    return;
  }
  const int64_t groups = cuda::plane_groups(row_length(y));
  TORCH_CHECK(planes.defined() && planes.scalar_type() == at::kInt && planes.is_contiguous() &&
                  planes.numel() == row_count(y) * groups * a.places &&
                  planes.device() == y.device(),
              op, ": the bit planes must be contiguous int32 [", row_count(y), ", ", groups, ", ",
              a.places, "] on ", y.device(), ", as bit_planes gives them");
  int32_t* cells = y.data_ptr<int32_t>();
  auto* words = reinterpret_cast<uint32_t*>(planes.data_ptr<int32_t>());
  const auto s = static_cast<int>(a.places);
  const auto launch = [&](auto stream) {
    if constexpr (kUp) {
      cuda::launch_shift_up(cells, words, {s, a.negative}, rows_of(y), pointers(probe), stream);
    } else {
      cuda::launch_shift_down(cells, words, {s, a.negative}, rows_of(y), pointers(probe), stream);
    }
  };
  if (on_device(op, y, launch)) return;
  for_rows(y, probe, [&](int64_t row, int64_t offset, int64_t n) -> uint32_t {
    uint32_t* of_row = words + row * groups * s;
    if constexpr (kUp) return up_row(cells + offset, of_row, n, s, a.negative);
    down_row(cells + offset, of_row, n, s, a.negative);
    return 0;
  });
}

}  // namespace

Tensor pack_low_bits(const Tensor& cells, int64_t count) {
  check_count("pack_low_bits", cells, count);
  const Tensor from = cells.contiguous();
  const int64_t n = from.numel();
  const auto bits = static_cast<int>(count);
  Tensor packed = at::empty({cuda::packed_bytes(n, bits)}, from.options().dtype(at::kByte));
  auto* bytes = packed.data_ptr<uint8_t>();
  const int32_t* values = from.const_data_ptr<int32_t>();
  const auto launch = [&](auto stream) {
    cuda::launch_pack_low_bits(bytes, values, n, bits, stream);
  };
  if (on_device("pack_low_bits", from, launch)) return packed;
  const Packing packing = packing_of(count);
  if (packing.each == 0) {
    auto* halves = reinterpret_cast<uint16_t*>(bytes);
    at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
      pack_16(halves + begin, values + begin, end - begin);
    });
    return packed;
  }
  const int64_t whole = n / packing.each;
  at::parallel_for(0, whole, kGrain / packing.each, [&](int64_t begin, int64_t end) {
    packing.pack(bytes + begin, values + begin * packing.each, end - begin);
  });
  if (whole < packed.numel()) {
    int32_t rest[8] = {};
    std::copy(values + whole * packing.each, values + n, rest);
    packing.pack(bytes + whole, rest, 1);
  }
  return packed;
}

Tensor select_by_low_bits(const Tensor& near, const Tensor& packed, int64_t count,
                          const Tensor& sums) {
  constexpr const char* kOp = "select_by_low_bits";
  check_count(kOp, near, count);
  check_state(kOp, near);
  const auto bits = static_cast<int>(count);
  TORCH_CHECK(packed.scalar_type() == at::kByte && packed.is_contiguous() &&
                  packed.numel() == cuda::packed_bytes(near.numel(), bits) &&
                  packed.device() == near.device(),
              kOp, ": for ", near.sizes(), " and ", count, " bits a cell expected ",
              cuda::packed_bytes(near.numel(), bits), " contiguous bytes on ", near.device(),
              ", got ", packed.sizes(), " of ", packed.scalar_type(), " on ", packed.device());
  if (sums.defined()) check_sums(kOp, near, sums);
  Tensor x = at::empty(near.sizes(), near.options());
  int32_t* cells = x.data_ptr<int32_t>();
  const int32_t* from = near.const_data_ptr<int32_t>();
  const auto* bytes = packed.const_data_ptr<uint8_t>();
  const auto launch = [&](auto stream) {
    cuda::launch_select_by_low_bits(cells, from, bytes, bits, rows_of(near),
                                    pointer_or_null<int64_t>(sums), stream);
  };
  if (on_device(kOp, near, launch)) return x;
  Probe probe;
  probe.after = sums;
  for_rows(x, probe, [&](int64_t, int64_t offset, int64_t n) {
    select_range(cells, from, bytes, offset, offset + n, bits);
    return 0u;
  });
  return x;
}

Tensor bit_planes(const Tensor& y, int64_t places) {
  check_places("bit_planes", places);
  return at::empty({row_count(y), cuda::plane_groups(row_length(y)), places},
                   y.options().dtype(at::kInt));
}

void shift_down_(Tensor& y, const Tensor& planes, const Shift& a, const Probe& probe) {
  shift_any_<false>("shift_down_", y, planes, a, probe);
}

void shift_up_(Tensor& y, const Tensor& planes, const Shift& a, const Probe& probe) {
  shift_any_<true>("shift_up_", y, planes, a, probe);
}

}  // namespace rev::kernels
