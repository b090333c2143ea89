// Each format cuts a row into blocks of 32 or 256 numbers: whole numbers q of a few bits, and
// scales in half precision. Of 32 (Q4_0 to Q8_0): x = d q, or d q + m. Of 256 (Q2_K to Q6_K):
// groups of 16 or 32 have a scale and perhaps a minimum of their own, themselves whole numbers s
// and m: x = (d s) q, or (d s) q - (dmin m). The products are exact in float32 (11 bits of a scale,
// at most 13 of s and q), so that only the sum is rounded: the bits are those of ggml
// (ggml-quants.c, dequantize_row_*), whatever the compiler makes of it.
#include "io/dequantize.h"

#include <algorithm>
#include <array>
#include <c10/util/Half.h>
#include <cstring>
#include <iterator>

namespace rev::io {
namespace {

using std::int64_t;
using std::uint32_t;
using std::uint8_t;

constexpr int kSmall = 32;   // numbers in a block of Q4_0 to Q8_0
constexpr int kLarge = 256;  // and in one of Q2_K to Q6_K

template <class T>
T read(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

float half(const uint8_t* bytes) {
  return c10::detail::fp16_ieee_to_fp32_value(read<uint16_t>(bytes));
}

// ---- blocks of 32: byte j holds the low four bits of numbers j and j + 16

void q4_0(const uint8_t* block, float* out) {
  const float d = half(block);
  const uint8_t* low = block + 2;
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((low[j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((low[j] >> 4) - 8);
  }
}

void q4_1(const uint8_t* block, float* out) {
  const float d = half(block);
  const float m = half(block + 2);
  const uint8_t* low = block + 4;
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(low[j] & 15) + m;
    out[j + 16] = d * static_cast<float>(low[j] >> 4) + m;
  }
}

// The fifth bits are one word: bit j is number j's.
int fifth(uint32_t high, int j) { return static_cast<int>(high >> j & 1) << 4; }

void q5_0(const uint8_t* block, float* out) {
  const float d = half(block);
  const auto high = read<uint32_t>(block + 2);
  const uint8_t* low = block + 6;
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(((low[j] & 15) | fifth(high, j)) - 16);
    out[j + 16] = d * static_cast<float>(((low[j] >> 4) | fifth(high, j + 16)) - 16);
  }
}

void q5_1(const uint8_t* block, float* out) {
  const float d = half(block);
  const float m = half(block + 2);
  const auto high = read<uint32_t>(block + 4);
  const uint8_t* low = block + 8;
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((low[j] & 15) | fifth(high, j)) + m;
    out[j + 16] = d * static_cast<float>((low[j] >> 4) | fifth(high, j + 16)) + m;
  }
}

void q8_0(const uint8_t* block, float* out) {
  const float d = half(block);
  for (int j = 0; j < 32; ++j) {
    out[j] = d * static_cast<float>(static_cast<std::int8_t>(block[2 + j]));
  }
}

// ---- blocks of 256, in two halves of 128 (n) with two bits a number in 32 bytes: byte l holds
// numbers l, 32 + l, 64 + l and 96 + l; groups of 16 with a scale each

void q2_k(const uint8_t* block, float* out) {
  const uint8_t* scales = block;  // four bits of s, four of m
  const uint8_t* low = block + 16;
  const float d = half(block + 80);
  const float dmin = half(block + 82);
  for (int n = 0; n < 2; ++n) {
    for (int part = 0; part < 4; ++part) {
      for (int group = 0; group < 2; ++group) {
        const uint8_t scale = *scales++;
        const float s = d * static_cast<float>(scale & 15);
        const float m = dmin * static_cast<float>(scale >> 4);
        const uint8_t* bytes = low + 32 * n + 16 * group;
        for (int l = 0; l < 16; ++l) {
          *out++ = s * static_cast<float>(bytes[l] >> (2 * part) & 3) - m;
        }
      }
    }
  }
}

/// The six-bit scale of one of Q3_K's 16 groups: four bits in the first 8 bytes, two in the last 4.
int q3_k_scale(const uint8_t* scales, int group) {
  const int low = scales[group % 8] >> (4 * (group / 8)) & 15;
  const int high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
  return (low | (high << 4)) - 32;
}

void q3_k(const uint8_t* block, float* out) {
  const uint8_t* high = block;  // the third bit: 1 stands for 0, 0 for -4
  const uint8_t* low = block + 32;
  const uint8_t* scales = block + 96;
  const float d = half(block + 108);
  for (int group = 0; group < 16; ++group) {
    const float s = d * static_cast<float>(q3_k_scale(scales, group));
    const int part = group / 2;  // of 32 numbers
    const uint8_t* low_bytes = low + 32 * (part / 4) + 16 * (group % 2);
    const uint8_t* high_bytes = high + 16 * (group % 2);
    for (int l = 0; l < 16; ++l) {
      const int q = (low_bytes[l] >> (2 * (part % 4)) & 3) + 4 * (high_bytes[l] >> part & 1) - 4;
      *out++ = s * static_cast<float>(q);
    }
  }
}

/// The six-bit scale and minimum of one of the eight groups of Q4_K and Q5_K. Of the last four
/// groups the upper two bits lie above the six of the first four.
struct ScaleAndMin {
  float scale, min;

  ScaleAndMin(const uint8_t* bytes, int group) {
    int s = bytes[group] & 63;
    int m = bytes[group + 4] & 63;
    if (group >= 4) {
      s = (bytes[group + 4] & 15) | (bytes[group - 4] >> 6 << 4);
      m = (bytes[group + 4] >> 4) | (bytes[group] >> 6 << 4);
    }
    scale = static_cast<float>(s);
    min = static_cast<float>(m);
  }
};

/// Q4_K and Q5_K: groups of 32; two of them share 32 bytes of low four bits. `high` (Q5_K): byte l
/// holds the fifth bits of number l of each group.
template <bool five_bits>
void q4_or_q5_k(const uint8_t* block, float* out) {
  const float d = half(block);
  const float dmin = half(block + 2);
  const uint8_t* scales = block + 4;
  const uint8_t* high = block + 16;
  const uint8_t* low = high + (five_bits ? 32 : 0);
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMin own(scales, group);
    const float s = d * own.scale;
    const float m = dmin * own.min;
    const uint8_t* bytes = low + 32 * (group / 2);
    for (int l = 0; l < 32; ++l) {
      int q = bytes[l] >> (4 * (group % 2)) & 15;
      if constexpr (five_bits) q |= (high[l] >> group & 1) << 4;
      *out++ = s * static_cast<float>(q) - m;
    }
  }
}

void q4_k(const uint8_t* block, float* out) { q4_or_q5_k<false>(block, out); }
void q5_k(const uint8_t* block, float* out) { q4_or_q5_k<true>(block, out); }

void q6_k(const uint8_t* block, float* out) {
  const uint8_t* low = block;         // 64 bytes a half: four bits of numbers l and 64 + l
  const uint8_t* high = block + 128;  // 32 bytes a half: two bits of l, 32 + l, 64 + l and 96 + l
  const uint8_t* scales = block + 192;
  const float d = half(block + 208);
  for (int group = 0; group < 16; ++group) {
    const float s = d * static_cast<float>(static_cast<std::int8_t>(scales[group]));
    const int part = group / 2 % 4;  // of 32 numbers
    const uint8_t* low_bytes = low + 64 * (group / 8) + 32 * (part % 2) + 16 * (group % 2);
    const uint8_t* high_bytes = high + 32 * (group / 8) + 16 * (group % 2);
    for (int l = 0; l < 16; ++l) {
      const int q = (low_bytes[l] >> (4 * (part / 2)) & 15) | (high_bytes[l] >> (2 * part) & 3)
                                                                  << 4;
      *out++ = s * static_cast<float>(q - 32);
    }
  }
}

template <void (*block)(const uint8_t*, float*), int elements, int bytes>
void run(const std::byte* blocks, float* out, int64_t begin, int64_t end) {
  const auto* in = reinterpret_cast<const uint8_t*>(blocks);
  for (int64_t i = begin; i < end; ++i) block(in + bytes * i, out + elements * i);
}

template <void (*block)(const uint8_t*, float*), int elements, int bytes>
constexpr GgmlType quantised(uint32_t id, const char* name) {
  return {id, name, at::ScalarType::Float, elements, bytes, run<block, elements, bytes>};
}

constexpr GgmlType plain(uint32_t id, const char* name, at::ScalarType dtype, int bytes) {
  return {id, name, dtype, 1, bytes, nullptr};
}

constexpr GgmlType kTypes[] = {
    plain(28, "F64", at::ScalarType::Double, 8), plain(0, "F32", at::ScalarType::Float, 4),
    plain(1, "F16", at::ScalarType::Half, 2),    plain(30, "BF16", at::ScalarType::BFloat16, 2),
    plain(27, "I64", at::ScalarType::Long, 8),   plain(26, "I32", at::ScalarType::Int, 4),
    plain(25, "I16", at::ScalarType::Short, 2),  plain(24, "I8", at::ScalarType::Char, 1),
    quantised<q4_0, kSmall, 18>(2, "Q4_0"),      quantised<q4_1, kSmall, 20>(3, "Q4_1"),
    quantised<q5_0, kSmall, 22>(6, "Q5_0"),      quantised<q5_1, kSmall, 24>(7, "Q5_1"),
    quantised<q8_0, kSmall, 34>(8, "Q8_0"),      quantised<q2_k, kLarge, 84>(10, "Q2_K"),
    quantised<q3_k, kLarge, 110>(11, "Q3_K"),    quantised<q4_k, kLarge, 144>(12, "Q4_K"),
    quantised<q5_k, kLarge, 176>(13, "Q5_K"),    quantised<q6_k, kLarge, 210>(14, "Q6_K"),
};

struct Name {
  uint32_t id;
  const char* name;
};

/// Types of ggml that cannot be loaded, also those that it has given up.
constexpr Name kOthers[] = {
    {4, "Q4_2"},        {5, "Q4_3"},     {9, "Q8_1"},   {15, "Q8_K"},       {16, "IQ2_XXS"},
    {17, "IQ2_XS"},     {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"},     {21, "IQ3_S"},
    {22, "IQ2_S"},      {23, "IQ4_XS"},  {29, "IQ1_M"}, {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},
    {33, "Q4_0_8_8"},   {34, "TQ1_0"},   {35, "TQ2_0"}, {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"},
    {38, "IQ4_NL_8_8"}, {39, "MXFP4"},   {40, "NVFP4"}, {41, "Q1_0"},
};

template <class Fits>
const GgmlType* find_if(Fits&& fits) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes), fits);
  return found == std::end(kTypes) ? nullptr : found;
}

}  // namespace

const GgmlType* find_ggml_type(uint32_t id) {
  return find_if([&](const GgmlType& type) { return type.id == id; });
}

const GgmlType* find_ggml_type(const std::string& name) {
  return find_if([&](const GgmlType& type) { return type.name == name; });
}

std::string ggml_type_name(uint32_t id) {
  if (const GgmlType* type = find_ggml_type(id)) return type->name;
  for (const Name& other : kOthers) {
    if (other.id == id) return other.name;
  }
  return "number " + std::to_string(id);
}

std::string supported_ggml_types() {
  std::string names;
  for (const GgmlType& type : kTypes) {
    if (!names.empty()) names += ' ';
    names += type.name;
  }
  return names;
}

}  // namespace rev::io
