#include "rev/io/gguf.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <torch/torch.h>
#include <vector>

#include "io/gguf_bytes.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::io {
namespace {

using support::TempFolder;
using support::write_bytes;
using Strings = std::vector<std::string>;

/// A file of these bytes, opened.
GgufFile open(const TempFolder& folder, const std::string& bytes) {
  write_bytes(folder / "t.gguf", bytes);
  return GgufFile(folder / "t.gguf");
}

/// A file with one tensor and its data.
std::string with_tensor(const std::vector<std::uint64_t>& dims, std::uint32_t type,
                        const std::string& data) {
  return padded(header(1, 0) + tensor("a", dims, type, 0)) + data;
}

TEST(GgufTest, KeepsTheTypeOfEveryValue) {
  TempFolder folder;
  const GgufFile file = open(folder, whole_gguf(1));
  const auto expect = [&](const char* key, const auto& expected) {
    using T = std::decay_t<decltype(expected)>;
    const T* value = std::get_if<T>(&file.metadata().at(key).value);
    ASSERT_NE(value, nullptr) << key;
    EXPECT_EQ(*value, expected) << key;
  };
  EXPECT_EQ(file.metadata().size(), 19u);
  expect("a.uint8", std::uint8_t{255});
  expect("a.int8", std::int8_t{-128});
  expect("a.uint16", std::uint16_t{65535});
  expect("a.int16", std::int16_t{-32768});
  expect("a.uint32", std::uint32_t{4294967295});
  expect("a.int32", std::int32_t{-5});
  expect("a.float32", 0.1f);
  expect("a.bool", true);
  expect("a.string", std::string("gr\xc3\xbc\xc3\x9f"));
  expect("a.uint64", std::uint64_t{18446744073709551615u});
  expect("a.int64", std::int64_t{-9223372036854775807});
  expect("a.float64", 0.1);
  expect("b.numbers", std::vector<std::int16_t>{-1, 0, 7});
  expect("b.floats", std::vector<float>{0.5f, -2.0f});
  expect("b.bools", std::vector<bool>{true, false, true});
  expect("b.strings", Strings{"a", "", "ccc"});
  expect("b.empty", std::vector<std::uint32_t>{});
  const auto& nested = std::get<std::vector<GgufValue>>(file.metadata().at("b.nested").value);
  ASSERT_EQ(nested.size(), 2u);
  EXPECT_EQ(std::get<std::vector<std::uint8_t>>(nested[0].value),
            (std::vector<std::uint8_t>{1, 2}));
  EXPECT_EQ(std::get<Strings>(nested[1].value), Strings{"x"});
}

TEST(GgufTest, GivesValuesAsTheTypeThatIsAskedFor) {
  TempFolder folder;
  const GgufFile file = open(folder, whole_gguf(1));
  EXPECT_EQ(file.get<std::int64_t>("a.uint8"), 255);
  EXPECT_EQ(file.get<std::int64_t>("a.int64"), -9223372036854775807);
  EXPECT_EQ(file.get<double>("a.float32"), double{0.1f});
  EXPECT_EQ(file.get<double>("a.int32"), -5.0);
  EXPECT_EQ(file.get<bool>("a.bool"), true);
  EXPECT_EQ(file.get<std::string>("a.string"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(file.get<std::vector<std::int64_t>>("b.numbers"),
            (std::vector<std::int64_t>{-1, 0, 7}));
  EXPECT_EQ(file.get<std::vector<double>>("b.floats"), (std::vector<double>{0.5, -2}));
  EXPECT_EQ(file.get<std::vector<bool>>("b.bools"), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(file.get<Strings>("b.strings"), (Strings{"a", "", "ccc"}));
  EXPECT_EQ(file.find<std::int64_t>("none"), std::nullopt);
  EXPECT_EQ(file.find<std::int64_t>("a.int32"), -5);

  EXPECT_THROW_WITH(file.get<bool>("none"), "t.gguf: has no metadata \"none\", expected bool");
  EXPECT_THROW_WITH(file.find<std::int64_t>("a.string"),
                    "metadata \"a.string\" has the type string, expected integer below 2^63");
  EXPECT_THROW_WITH(file.get<std::int64_t>("a.uint64"), "the type uint64, expected integer below");
  EXPECT_THROW_WITH(file.get<std::int64_t>("a.bool"), "the type bool, expected integer");
  EXPECT_THROW_WITH(file.get<std::int64_t>("a.float64"), "the type float64, expected integer");
  EXPECT_THROW_WITH(file.get<bool>("a.uint8"), "the type uint8, expected bool");
  EXPECT_THROW_WITH(file.get<std::string>("b.strings"),
                    "the type array of type string, expected string");
  EXPECT_THROW_WITH(file.get<Strings>("b.nested"),
                    "the type array of type array, expected array of type string");
}

TEST(GgufTest, ReversesDimensions) {
  TempFolder folder;
  const GgufFile file =
      open(folder,
           with_tensor({3, 2}, 25,
                       padded(raw<std::int16_t>(0) + raw<std::int16_t>(1) + raw<std::int16_t>(2) +
                              raw<std::int16_t>(3) + raw<std::int16_t>(4) + raw<std::int16_t>(5))));
  EXPECT_EQ(file.tensors().at("a").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.tensors().at("a").type, "I16");
  EXPECT_TRUE(at::equal(file.load("a"), torch::arange(6).to(at::kShort).view({2, 3})));
  const GgufFile scalar = open(folder, with_tensor({}, 0, raw(2.5f)));
  EXPECT_TRUE(at::equal(scalar.load("a"), torch::tensor(2.5f)));
}

TEST(GgufTest, LoadsEveryTypeAndNamesOthers) {
  TempFolder folder;
  const std::string bytes = whole_gguf(1);
  const GgufFile file = open(folder, bytes);
  ASSERT_EQ(file.tensors().size(), std::size(kBlockTypes));
  for (const BlockType& type : kBlockTypes) {
    SCOPED_TRACE(type.name);
    EXPECT_EQ(file.tensors().at(type.name).type, type.name);
    const at::Tensor loaded = file.load(type.name);
    EXPECT_EQ(loaded.sizes(), (std::vector<std::int64_t>{2, 256}));
    if (type.elements == 1) {
      EXPECT_EQ(loaded.element_size(), static_cast<std::int64_t>(type.bytes));
      EXPECT_EQ(std::memcmp(loaded.data_ptr(), &bytes[file.tensors().at(type.name).offset],
                            loaded.nbytes()),
                0);
    } else {
      EXPECT_EQ(loaded.scalar_type(), at::kFloat);
    }
  }
  const GgufFile others =
      open(folder, padded(header(2, 0) + tensor("a", {256}, 23, 0) + tensor("b", {7, 9}, 99, 32)) +
                       std::string(200, '\0'));
  EXPECT_THROW_WITH(others.load("a"),
                    "tensor \"a\" is of the type IQ4_XS, expected one of F64 F32 F16 BF16 I64 I32 "
                    "I16 I8 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K");
  EXPECT_THROW_WITH(others.load("b"), "tensor \"b\" is of the type number 99, expected one of F64");
  EXPECT_THROW_WITH(others.load("c"),
                    "t.gguf: has no tensor \"c\" (2 tensors, the first is \"a\")");
}

TEST(GgufTest, DequantisesByTheFormulas) {
  TempFolder folder;
  std::string nibbles;  // numbers 0 to 15 low, 15 to 0 high
  for (int j = 0; j < 16; ++j) nibbles += static_cast<char>(j | (15 - j) << 4);
  const std::string half = raw<std::uint16_t>(0x3800);   // 0.5
  const std::string three = raw<std::uint16_t>(0x4200);  // 3
  const at::Tensor q = torch::cat({torch::arange(16), torch::arange(15, -1, -1)}).to(at::kFloat);
  EXPECT_TRUE(at::equal(open(folder, with_tensor({32}, 2, half + nibbles)).load("a"),
                        (q - 8) * 0.5));  // Q4_0
  EXPECT_TRUE(at::equal(open(folder, with_tensor({32}, 3, half + three + nibbles)).load("a"),
                        q * 0.5 + 3));  // Q4_1
  std::string bytes;
  for (int j = 0; j < 32; ++j) bytes += static_cast<char>(8 * j - 128);
  EXPECT_TRUE(at::equal(open(folder, with_tensor({32}, 8, half + bytes)).load("a"),
                        (torch::arange(32) * 8 - 128) * 0.5f));  // Q8_0
}

TEST(GgufTest, TensorsShareTheMappingAndKeepItAlive) {
  TempFolder folder;
  at::Tensor loaded;
  {
    const GgufFile file = open(folder, with_tensor({4}, 0, std::string(16, '\0')));
    loaded = file.load("a");
    EXPECT_EQ(file.load("a").data_ptr(), loaded.data_ptr());
  }
  std::filesystem::remove(folder / "t.gguf");
  EXPECT_TRUE(at::equal(loaded, torch::zeros({4})));
}

TEST(GgufTest, WritingIntoATensorLeavesTheFile) {
  TempFolder folder;
  open(folder, with_tensor({4}, 0, std::string(16, '\0'))).load("a").fill_(1);
  EXPECT_TRUE(at::equal(GgufFile(folder / "t.gguf").load("a"), torch::zeros({4})));
}

TEST(GgufTest, HonoursTheAlignment) {
  TempFolder folder;
  for (const std::uint32_t alignment : {1u, 2u, 64u, 4096u}) {
    SCOPED_TRACE(alignment);
    const std::string start = header(2, 1) + key("general.alignment", kUInt32, u32(alignment)) +
                              tensor("first", {1}, 24, 0) + tensor("second", {2}, 28, alignment);
    const GgufFile file =
        open(folder, padded(start, alignment) + padded("\7", alignment) + raw(0.5) + raw(2.0));
    EXPECT_TRUE(at::equal(file.load("first"), torch::tensor({7}, at::kChar)));
    const at::Tensor second = file.load("second");
    EXPECT_TRUE(at::equal(second, torch::tensor({0.5, 2.0}, at::kDouble)));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(second.data_ptr()) % 8, 0u);
  }
}

TEST(GgufTest, ReadsVersionsTwoAndThree) {
  TempFolder folder;
  EXPECT_TRUE(open(folder, header(0, 0, 2)).metadata().empty());
  EXPECT_TRUE(open(folder, header(0, 0, 3)).tensors().empty());
  EXPECT_THROW_WITH(open(folder, header(0, 0, 1)), "t.gguf: GGUF version 1, expected 2 or 3");
  EXPECT_THROW_WITH(open(folder, header(0, 0, 4)), "GGUF version 4, expected 2 or 3");
  EXPECT_THROW_WITH(open(folder, header(0, 0, 0)), "GGUF version 0, expected 2 or 3");
  EXPECT_THROW_WITH(open(folder, header(0, 0, 3u << 24)),
                    "t.gguf: a big-endian GGUF file, expected a little-endian one");
  EXPECT_THROW_WITH(open(folder, "ggjt" + u32(3)), "t.gguf: not a GGUF file");
  EXPECT_THROW_WITH(open(folder, "GGU"), "not a GGUF file");
  EXPECT_THROW_WITH(open(folder, ""), "not a GGUF file");
  EXPECT_THROW_WITH(GgufFile(folder / "none"), "none: cannot be read: No such file");
}

struct BadFile {
  const char* what;
  std::string bytes;
  const char* message;
};

TEST(GgufTest, RefusesBadHeaders) {
  const std::uint64_t huge = std::uint64_t{1} << 63;
  const auto one_key = [](std::uint32_t type, const std::string& value) {
    return header(0, 1) + key("k", type, value);
  };
  const auto two_tensors = [](const std::string& infos) {
    return padded(header(2, 0) + infos) + std::string(256, '\0');
  };
  std::string nested = array(kUInt8, 0, "");
  for (int depth = 1; depth < 9; ++depth) nested = array(kArrayOf, 1, nested);
  const std::vector<BadFile> cases = {
      {"no counts", "GGUF" + u32(3), "the header is truncated: at byte 8 it goes on for 8 bytes"},
      {"2^63 keys", header(0, huge), "metadata key 1 of 9223372036854775808 is truncated"},
      {"2^63 tensors", header(huge, 0), "tensor 1 of 9223372036854775808 is truncated"},
      {"long key", header(0, 1) + u64(huge) + "k", "metadata key 1 of 1 is truncated"},
      {"65536 bytes of key", header(0, 1) + text(std::string(65536, 'k')),
       "key 1 of 1 has 65536 bytes, expected at most 65535"},
      {"long string", one_key(kString, u64(huge) + "abc"),
       "metadata \"k\" is truncated: at byte 45 it goes on for 9223372036854775808 bytes, the file "
       "for 3"},
      {"unknown type", one_key(13, u64(0)), "metadata \"k\" has the unknown type 13"},
      {"half a number", one_key(kUInt64, u32(0)), "metadata \"k\" is truncated"},
      {"bool of 2", one_key(kBool, "\2"), "metadata \"k\" is a bool but holds the byte 2"},
      {"bool of 2 in an array", one_key(kArrayOf, array(kBool, 2, "\1\2")),
       "metadata \"k\" is a bool but holds the byte 2"},
      {"unknown type of elements", one_key(kArrayOf, array(77, 0, "")), "has the unknown type 77"},
      {"2^63 numbers", one_key(kArrayOf, array(kUInt64, huge, "")),
       "at byte 49 it has 9223372036854775808 elements, the file 0 bytes"},
      {"2^61 numbers of 8 bytes", one_key(kArrayOf, array(kUInt64, huge / 4, u64(0))),
       "has 2305843009213693952 elements, the file 8 bytes"},
      {"2^63 strings", one_key(kArrayOf, array(kString, huge, text("a"))),
       "has 922337203685477580"},
      {"2^63 arrays", one_key(kArrayOf, array(kArrayOf, huge, "")), "has 9223372036854775808"},
      {"arrays in arrays", one_key(kArrayOf, nested), "metadata \"k\" nests arrays deeper than 8"},
      {"a key twice", header(0, 2) + key("k", kBool, "\1") + key("k", kBool, "\1"),
       "metadata \"k\" comes twice"},
      {"alignment 0", header(0, 1) + key("general.alignment", kUInt32, u32(0)),
       "metadata \"general.alignment\" is not a uint32 that is a power of 2"},
      {"alignment 24", header(0, 1) + key("general.alignment", kUInt32, u32(24)),
       "is not a uint32 that is a power of 2"},
      {"alignment of 64 bits", header(0, 1) + key("general.alignment", kUInt64, u64(32)),
       "is not a uint32 that is a power of 2"},
      {"alignment 2^31",
       header(1, 1) + key("general.alignment", kUInt32, u32(1u << 31)) + tensor("a", {1}, 24, 0),
       "tensor \"a\" has 1 bytes from byte 0 of the data, which are truncated to 0 bytes"},
      {"5 dimensions", with_tensor({1, 1, 1, 1, 1}, 24, "\0"),
       "tensor \"a\" has 5 dimensions, expected at most 4"},
      {"2^32 - 1 dimensions", header(1, 0) + text("a") + u32(4294967295),
       "tensor \"a\" has 4294967295 dimensions"},
      {"size 0", with_tensor({4, 0}, 24, ""), "tensor \"a\" has a dimension of size 0"},
      {"size 2^63", with_tensor({huge}, 24, ""), "a dimension of size 9223372036854775808"},
      {"overflow", with_tensor({1u << 31, 1u << 31, 4}, 24, ""),
       "tensor \"a\" has a shape of more than 2^63 bytes"},
      {"overflow by the type", with_tensor({1u << 31, 1u << 30}, 28, ""), "more than 2^63 bytes"},
      {"overflow to a small number",
       with_tensor({1ull << 32, 1ull << 32}, 0, std::string(64, '\0')), "more than 2^63 bytes"},
      {"no whole block", with_tensor({48, 2}, 2, std::string(64, '\0')),
       "tensor \"a\" has rows of 48 elements, but Q4_0 has blocks of 32"},
      {"no block at all", with_tensor({}, 14, std::string(256, '\0')),
       "has rows of 1 elements, but Q6_K has blocks of 256"},
      {"data cut short", with_tensor({8}, 0, std::string(31, '\0')),
       "tensor \"a\" has 32 bytes from byte 0 of the data, which are truncated to 31 bytes"},
      {"offset beyond the end",
       padded(header(1, 0) + tensor("a", {1}, 24, 64)) + std::string(32, '\0'),
       "has 1 bytes from byte 64 of the data, which are truncated to 32"},
      {"offset near 2^64", padded(header(1, 0) + tensor("a", {32}, 24, UINT64_MAX - 31)),
       "from byte 18446744073709551584 of the data"},
      {"offset of an unknown type", padded(header(1, 0) + tensor("a", {32}, 99, 32)),
       "from byte 32 of the data, which are truncated to 0"},
      {"misaligned", padded(header(1, 0) + tensor("a", {1}, 24, 8)) + std::string(32, '\0'),
       "tensor \"a\" lies at byte 8 of the data, not on a multiple of 32"},
      {"overlap", two_tensors(tensor("b", {40}, 24, 0) + tensor("a", {8}, 24, 32)),
       "tensor \"a\" begins at byte 32 of the data, inside of \"b\""},
      {"the same bytes", two_tensors(tensor("a", {8}, 24, 0) + tensor("b", {8}, 24, 0)),
       "tensor \"b\" begins at byte 0 of the data, inside of \"a\""},
      {"a tensor twice", two_tensors(tensor("a", {8}, 24, 0) + tensor("a", {8}, 24, 32)),
       "tensor \"a\" comes twice"},
  };
  TempFolder folder;
  for (const BadFile& bad : cases) {
    SCOPED_TRACE(bad.what);
    const std::string message = support::message_of([&] { open(folder, bad.bytes); });
    EXPECT_PRED_FORMAT2(::testing::IsSubstring, bad.message, message);
    EXPECT_EQ(message.rfind((folder / "t.gguf").string() + ": ", 0), 0u) << message;
  }
}

TEST(GgufTest, EveryTruncationIsRefused) {
  TempFolder folder;
  const std::string whole = whole_gguf(1);
  const std::size_t header_bytes = open(folder, whole).tensors().at("F32").offset;
  ASSERT_LT(header_bytes, whole.size());
  for (std::size_t n = 0; n < whole.size(); n += n < header_bytes ? 1 : 61) {
    EXPECT_THROW(open(folder, whole.substr(0, n)), c10::Error) << n << " bytes";
  }
}

TEST(GgufTest, ShowsHostileNamesInOneShortLine) {
  TempFolder folder;
  const std::string name = "a\n\a\xff" + std::string(10'000, 'x');
  const std::string message =
      support::message_of([&] { open(folder, header(0, 1) + key(name, 99, "")); });
  EXPECT_PRED_FORMAT2(::testing::IsSubstring, "unknown type 99", message);
  EXPECT_LT(message.size(), 400u);
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST(GgufTest, ReadsTheVocabulariesOfLlamaCpp) {
  const char* data = std::getenv("REV_DATA_DIR");
  const std::filesystem::path folder =
      std::filesystem::path(data == nullptr ? "" : data) / "tokenizers/llama.cpp";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "REV_DATA_DIR has no tokenizers/llama.cpp";
  const GgufFile gpt2(folder / "ggml-vocab-gpt-2.gguf");
  const auto tokens = gpt2.get<Strings>("tokenizer.ggml.tokens");
  ASSERT_EQ(tokens.size(), 50257u);
  EXPECT_EQ(tokens[50256], "<|endoftext|>");
  EXPECT_EQ(gpt2.get<Strings>("tokenizer.ggml.merges").size(), 50000u);
  EXPECT_EQ(gpt2.get<std::int64_t>("tokenizer.ggml.eos_token_id"), 50256);
  EXPECT_TRUE(gpt2.tensors().empty());
  const GgufFile llama(folder / "ggml-vocab-llama-spm.gguf");
  EXPECT_EQ(llama.get<Strings>("tokenizer.ggml.tokens").at(3), "<0x00>");
  EXPECT_EQ(llama.get<std::vector<double>>("tokenizer.ggml.scores").size(), 32000u);
  EXPECT_EQ(llama.get<std::vector<std::int64_t>>("tokenizer.ggml.token_type").at(0), 2);
  EXPECT_EQ(llama.get<bool>("tokenizer.ggml.add_bos_token"), true);
}

}  // namespace
}  // namespace rev::io
