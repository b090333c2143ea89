#include "rev/io/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <torch/torch.h>
#include <vector>

#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::io {
namespace {

using support::read_bytes;
using support::TempFolder;
using support::write_bytes;

const std::vector<at::ScalarType> kDtypes = {
    at::kDouble, at::kFloat,         at::kHalf,        at::kBFloat16,      at::kLong,   at::kInt,
    at::kShort,  at::kChar,          at::kUInt64,      at::kUInt32,        at::kUInt16, at::kByte,
    at::kBool,   at::kFloat8_e4m3fn, at::kFloat8_e5m2, at::kFloat8_e8m0fnu};

/// A tensor of random bits, NaNs and infinities among them.
at::Tensor random_bits(at::IntArrayRef shape, at::ScalarType dtype) {
  if (dtype == at::kBool) return torch::randint(0, 2, shape, at::kByte).to(at::kBool);
  at::Tensor tensor = torch::empty(shape, dtype);
  const at::Tensor bytes = torch::randint(0, 256, {int64_t(tensor.nbytes())}, at::kByte);
  if (tensor.nbytes() > 0) std::memcpy(tensor.data_ptr(), bytes.data_ptr(), tensor.nbytes());
  return tensor;
}

void expect_same_bits(const at::Tensor& a, const at::Tensor& b) {
  ASSERT_EQ(a.scalar_type(), b.scalar_type());
  ASSERT_EQ(a.sizes(), b.sizes());
  if (a.numel() == 0) return;
  const at::Tensor x = a.contiguous();
  const at::Tensor y = b.contiguous();
  EXPECT_EQ(std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()), 0);
}

/// A file of this header and so many bytes of data, whatever sense it makes.
std::string make_file(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(data_bytes, '\1');
}

TEST(SafetensorsTest, ReadsBackTheBitsOfEveryDtypeAndShape) {
  TempFolder folder;
  torch::manual_seed(1);
  base::NamedTensors tensors;
  for (const at::ScalarType dtype : kDtypes) {
    for (const auto& shape :
         std::vector<std::vector<int64_t>>{{}, {0}, {3}, {2, 3}, {2, 0, 3}, {1, 2, 1, 3, 5}}) {
      std::string name = std::string(c10::toString(dtype)) + std::to_string(tensors.size());
      tensors.emplace_back(std::move(name), random_bits(shape, dtype));
    }
  }
  for (const TensorOrder order : {TensorOrder::ByDtype, TensorOrder::AsGiven}) {
    save_safetensors(folder / "t", tensors, {}, order);
    const auto loaded = load_safetensors(folder / "t");
    ASSERT_EQ(loaded.size(), tensors.size());
    for (const auto& [name, tensor] : tensors) {
      SCOPED_TRACE(name);
      expect_same_bits(loaded.at(name), tensor);
    }
  }
}

TEST(SafetensorsTest, WritesTheBytesOfTheFormat) {
  TempFolder folder;
  save_safetensors(folder / "t",
                   {{"b", torch::tensor({1, 2}, at::kByte)}, {"a", torch::tensor({1.0f})}},
                   {{"format", "pt"}});
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
      R"("b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})";
  const std::string padded = header + std::string(7 - (header.size() + 7) % 8, ' ');
  ASSERT_EQ(padded.size() % 8, 0u);
  std::string expected = make_file(padded, 0);
  expected += std::string("\x00\x00\x80\x3f\x01\x02", 6);
  EXPECT_EQ(read_bytes(folder / "t"), expected);
}

TEST(SafetensorsTest, BytesDoNotDependOnTheOrderGiven) {
  TempFolder folder;
  base::NamedTensors tensors;
  for (int i = 0; i < 12; ++i)
    tensors.emplace_back("t" + std::to_string(i), torch::arange(i).to(kDtypes[i % 4]));
  save_safetensors(folder / "a", tensors);
  std::reverse(tensors.begin(), tensors.end());
  save_safetensors(folder / "b", tensors);
  EXPECT_EQ(read_bytes(folder / "a"), read_bytes(folder / "b"));
  save_safetensors(folder / "c", tensors, {}, TensorOrder::AsGiven);
  EXPECT_LT(read_bytes(folder / "c").find("t11"), read_bytes(folder / "c").find("t10"));
}

TEST(SafetensorsTest, EveryTensorLiesAligned) {
  TempFolder folder;
  base::NamedTensors tensors;
  for (const at::ScalarType dtype : kDtypes) {
    tensors.emplace_back(c10::toString(dtype), random_bits({3}, dtype));
  }
  save_safetensors(folder / "t", tensors);
  const auto loaded = load_safetensors(folder / "t");
  std::uintptr_t first = UINTPTR_MAX;
  std::uintptr_t last = 0;
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : loaded) {
    const auto at = reinterpret_cast<std::uintptr_t>(tensor.data_ptr());
    EXPECT_EQ(at % tensor.element_size(), 0u) << name;
    first = std::min(first, at);
    last = std::max(last, at + tensor.nbytes());
    bytes += tensor.nbytes();
  }
  EXPECT_EQ(last - first, bytes) << "tensors do not alias one mapping";
}

TEST(SafetensorsTest, CopiesATensorThatLiesUnaligned) {
  TempFolder folder;
  const at::Tensor wide = torch::randn({5}, at::kDouble);
  save_safetensors(folder / "t", {{"narrow", torch::zeros({1}, at::kByte)}, {"wide", wide}}, {},
                   TensorOrder::AsGiven);
  const at::Tensor loaded = load_safetensors(folder / "t").at("wide");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(loaded.data_ptr()) % 8, 0u);
  EXPECT_TRUE(at::equal(loaded, wide));
}

TEST(SafetensorsTest, TensorsKeepTheMappingAlive) {
  TempFolder folder;
  const at::Tensor a = torch::randn({1000});
  save_safetensors(folder / "t", {{"a", a}});
  at::Tensor view = load_safetensors(folder / "t").at("a").slice(0, 500);
  std::filesystem::remove(folder / "t");
  EXPECT_TRUE(at::equal(view, a.slice(0, 500)));
}

TEST(SafetensorsTest, WritingIntoATensorLeavesTheFile) {
  TempFolder folder;
  const at::Tensor a = torch::randn({1000});
  save_safetensors(folder / "t", {{"a", a}});
  at::Tensor loaded = load_safetensors(folder / "t").at("a");
  loaded.zero_();
  EXPECT_TRUE(at::equal(load_safetensors(folder / "t").at("a"), a));
}

TEST(SafetensorsTest, AFileMayBeReplacedByItsOwnTensors) {
  TempFolder folder;
  const at::Tensor a = torch::randn({1000});
  save_safetensors(folder / "t", {{"a", a}});
  const auto loaded = load_safetensors(folder / "t");
  save_safetensors(folder / "t", {{"b", loaded.at("a")}});
  EXPECT_TRUE(at::equal(load_safetensors(folder / "t").at("b"), a));
}

TEST(SafetensorsTest, WritesTheValuesOfViewsAndParameters) {
  TempFolder folder;
  const at::Tensor base = torch::randn({6, 7});
  const at::Tensor parameter = torch::randn({3}).requires_grad_();
  const at::Tensor negated = torch::_neg_view(base);
  save_safetensors(folder / "t", {{"transposed", base.t()},
                                  {"strided", base.slice(1, 0, 7, 2)},
                                  {"expanded", base.slice(0, 0, 1).expand({4, 7})},
                                  {"negated", negated},
                                  {"parameter", parameter}});
  const auto loaded = load_safetensors(folder / "t");
  EXPECT_TRUE(at::equal(loaded.at("transposed"), base.t()));
  EXPECT_TRUE(at::equal(loaded.at("strided"), base.slice(1, 0, 7, 2)));
  EXPECT_TRUE(at::equal(loaded.at("expanded"), base.slice(0, 0, 1).expand({4, 7})));
  EXPECT_TRUE(at::equal(loaded.at("negated"), -base));
  EXPECT_TRUE(at::equal(loaded.at("parameter"), parameter));
  EXPECT_FALSE(loaded.at("parameter").requires_grad());
}

TEST(SafetensorsTest, KeepsMetadata) {
  TempFolder folder;
  const Metadata metadata = {{"format", "pt"}, {"quotes \" and \n", "\xc3\xa4\xf0\x9f\x8c\xb3"}};
  save_safetensors(folder / "t", {}, metadata);
  EXPECT_EQ(load_safetensors_metadata(folder / "t"), metadata);
  EXPECT_TRUE(load_safetensors(folder / "t").empty());
}

struct BadFile {
  const char* bytes;
  std::size_t data_bytes;
  const char* message;
};

TEST(SafetensorsTest, RefusesBadHeaders) {
  const std::vector<BadFile> cases = {
      {"", 0, "header: not JSON at line 1, column 1"},
      {"{", 0, "header: not JSON at line 1, column 2"},
      {"[]", 0, "header: expected a JSON object"},
      {"{}", 1, "the tensors end at byte 0 of the data, the file at 1"},
      {R"({"a":1})", 0, "tensor \"a\" is not described by a JSON object"},
      {R"({"a":{"shape":[],"data_offsets":[0,1]}})", 1,
       "tensor \"a\" has no dtype that is a string"},
      {R"({"a":{"dtype":"X9","shape":[],"data_offsets":[0,1]}})", 1, "the unknown dtype \"X9\""},
      {R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", 1, "no shape that is a list"},
      {R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "no shape that is a list"},
      {R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "no shape that is a list"},
      {R"({"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,1]}})", 1,
       "no shape"},
      {R"({"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}})", 1, "a number out of range"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1,
       "no data_offsets that is a pair"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1,
       "lies at bytes 1 to 0, outside"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1,
       "lies at bytes 0 to 2, outside of the file's 1 bytes"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4,
       "tensor \"a\" has 4 bytes, but dtype and shape ask for 8"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
       "a shape of more than 2^63 bytes"},
      {R"({"a":{"dtype":"F32","shape":[9223372036854775807,0,9223372036854775807],"data_offsets":[0,0]}})",
       0, "a shape of more than 2^63 bytes"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "tensor \"b\" begins at byte 1 of the data, inside of the one before it"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       3, "bytes 1 to 2 of the data belong to no tensor"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "header: names \"a\" twice"},
      {R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1,
       "header: names \"dtype\" twice"},
      {R"({"__metadata__":1})", 0, "__metadata__ is not a JSON object"},
      {R"({"__metadata__":{"n":1}})", 0, "metadata \"n\" is not a string"},
      {R"({"__metadata__":{"n":[[[]]]}})", 0, "header: nested deeper than 3 levels"},
  };
  TempFolder folder;
  for (const BadFile& bad : cases) {
    SCOPED_TRACE(bad.bytes);
    write_bytes(folder / "bad.safetensors", make_file(bad.bytes, bad.data_bytes));
    EXPECT_THROW_WITH(load_safetensors(folder / "bad.safetensors"), bad.message);
    EXPECT_THROW_WITH(load_safetensors_metadata(folder / "bad.safetensors"),
                      (folder / "bad.safetensors").string());
  }
}

TEST(SafetensorsTest, RefusesHostileLengths) {
  TempFolder folder;
  EXPECT_THROW_WITH(load_safetensors(folder / "none"), "none: cannot be read: No such file");
  write_bytes(folder / "t", "");
  EXPECT_THROW_WITH(load_safetensors(folder / "t"),
                    "truncated: 0 bytes hold no safetensors header");
  write_bytes(folder / "t", "1234567");
  EXPECT_THROW_WITH(load_safetensors(folder / "t"), "truncated: 7 bytes");
  write_bytes(folder / "t", std::string("\x03\0\0\0\0\0\0\0{}", 10));
  EXPECT_THROW_WITH(load_safetensors(folder / "t"),
                    "truncated: the header has 3 bytes, the file 10");
  write_bytes(folder / "t", "\xff\xff\xff\xff\xff\xff\xff\xff{}");
  EXPECT_THROW_WITH(load_safetensors(folder / "t"),
                    "its header would have 18446744073709551615 bytes");
}

TEST(SafetensorsTest, RefusesDeepNestingAndManyDimensions) {
  TempFolder folder;
  write_bytes(folder / "t", make_file(std::string(1'000'000, '['), 0));
  EXPECT_THROW_WITH(load_safetensors(folder / "t"), "nested deeper");
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  write_bytes(folder / "t",
              make_file(R"({"a":{"dtype":"U8","data_offsets":[0,1],"shape":[)" + ones + "]}}", 1));
  EXPECT_THROW_WITH(load_safetensors(folder / "t"), "has 65 dimensions, expected at most 64");
}

TEST(SafetensorsTest, RefusesBytesThatAreNoBool) {
  TempFolder folder;
  std::string file = make_file(R"({"a":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})", 3);
  file.back() = '\7';
  write_bytes(folder / "t", file);
  EXPECT_THROW_WITH(load_safetensors(folder / "t"), "tensor \"a\" is BOOL but holds the byte 7");
}

TEST(SafetensorsTest, ShowsHostileNamesInOneShortLine) {
  TempFolder folder;
  const std::string name = "a\\n\\u0007" + std::string(10'000, 'x');
  write_bytes(folder / "t", make_file("{\"" + name + "\":1}", 0));
  const std::string message = support::message_of([&] { load_safetensors(folder / "t"); });
  EXPECT_LT(message.size(), 300u);
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST(SafetensorsTest, RefusesTensorsThatItCannotWrite) {
  TempFolder folder;
  const at::Tensor x = torch::ones({2});
  const auto save = [&](const base::NamedTensors& tensors) {
    save_safetensors(folder / "t", tensors);
  };
  EXPECT_THROW_WITH(save({{"a", x}, {"a", x}}), "tensor \"a\" comes twice");
  EXPECT_THROW_WITH(save({{"__metadata__", x}}), "the name that is kept for metadata");
  EXPECT_THROW_WITH(save({{"a", at::Tensor()}}), "tensor \"a\" is undefined");
  EXPECT_THROW_WITH(save({{"a", x.to_sparse()}}),
                    "tensor \"a\" has no strided data: layout Sparse");
  EXPECT_THROW_WITH(save({{"a", x.to(at::kMeta)}}), "has no strided data");
  EXPECT_THROW_WITH(save({{"a", x.to(at::kComplexFloat)}}),
                    "a dtype that safetensors lacks: ComplexFloat");
  EXPECT_THROW_WITH(save({{"\xff", x}}), "not UTF-8");
  EXPECT_FALSE(std::filesystem::exists(folder / "t"));
}

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  TempFolder folder;
  save_safetensors(folder / "t", {{"a", torch::ones({5})}, {"b", torch::ones({3}, at::kByte)}});
  const std::string whole = read_bytes(folder / "t");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    write_bytes(folder / "t", whole.substr(0, n));
    EXPECT_THROW(load_safetensors(folder / "t"), c10::Error) << n << " bytes";
  }
}

}  // namespace
}  // namespace rev::io
