// Files through Python's gguf package: REV_TEST_PYTHON names a Python that has it, REV_SMOLLM2 a
// quantised model of 135 million parameters.
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include <torch/torch.h>

#include "rev/io/gguf.h"
#include "rev/io/safetensors.h"
#include "support/temp_folder.h"

namespace rev::io {
namespace {

// Random blocks of every quantisation, infinities and NaNs among their scales, and what they are
// dequantised to; then values of every type.
constexpr const char* kWrite = R"(
import sys
import numpy
from gguf import GGMLQuantizationType as Type, GGML_QUANT_SIZES, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quant_shape_to_byte_shape
from safetensors.numpy import save_file
ours, expected_file, alignment = sys.argv[1], sys.argv[2], int(sys.argv[3])
numpy.seterr(all="ignore")
random = numpy.random.default_rng(20251202)
writer = GGUFWriter(ours, "llama")
writer.add_custom_alignment(alignment)
writer.add_uint8("uint8", 200)
writer.add_int8("int8", -100)
writer.add_uint16("uint16", 60000)
writer.add_int16("int16", -30000)
writer.add_uint32("uint32", 4000000000)
writer.add_int32("int32", -2000000000)
writer.add_float32("float32", 0.1)
writer.add_bool("bool", True)
writer.add_string("string", "Grüße")
writer.add_uint64("uint64", 2**63)
writer.add_int64("int64", -2**62)
writer.add_float64("float64", 0.1)
writer.add_array("strings", ["a", "", "ß"])
writer.add_array("integers", [1, -2, 3])
writer.add_array("floats", [0.5, -1.5])
writer.add_array("nested", [[1, 2], [3]])
expected = {}
for name in "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K".split():
    shape = (3, 5, 512)
    data = random.integers(0, 256, quant_shape_to_byte_shape(shape, Type[name]), dtype=numpy.uint8)
    writer.add_tensor(name, data, raw_dtype=Type[name])
    expected[name] = dequantize(data, Type[name])
    assert expected[name].shape == shape and expected[name].dtype == numpy.float32
for name in "float64 float32 float16 int64 int32 int16 int8".split():
    data = random.integers(0, 256, (7, 3, 8), dtype=numpy.uint8).view(name).copy()
    writer.add_tensor(name, data)
    expected[name] = data
data = random.integers(0, 256, (7, 6), dtype=numpy.uint8)
writer.add_tensor("bfloat16", data, raw_dtype=Type.BF16)
expected["bfloat16"] = dequantize(data, Type.BF16)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file({name: numpy.ascontiguousarray(data) for name, data in expected.items()}, expected_file)
)";

// Some tensors of a file, dequantised.
constexpr const char* kRead = R"(
import sys
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file
file, expected_file, names = sys.argv[1], sys.argv[2], sys.argv[3:]
tensors = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
save_file({name: dequantize(tensors[name].data, tensors[name].tensor_type) for name in names}, expected_file)
)";

/// Runs a script with the Python of the tests; false where it fails.
bool run(const char* python, const support::TempFolder& folder, const char* script,
         const std::string& arguments) {
  support::write_bytes(folder / "script.py", script);
  const std::string command =
      std::string("'") + python + "' '" + (folder / "script.py").string() + "' " + arguments;
  return std::system(command.c_str()) == 0;
}

std::string quoted(const std::filesystem::path& path) { return c10::str("'", path.string(), "' "); }

/// Expects the same bits, but of NaNs only that they are such: which operand's payload goes on is
/// the processor's choice.
void expect_same(const at::Tensor& ours, const at::Tensor& theirs) {
  ASSERT_EQ(ours.scalar_type(), theirs.scalar_type());
  ASSERT_EQ(ours.sizes(), theirs.sizes());
  at::Tensor a = ours.contiguous();
  at::Tensor b = theirs.contiguous();
  if (a.is_floating_point()) {
    const at::Tensor nan = a.isnan();
    EXPECT_TRUE(at::equal(nan, b.isnan()));
    a = a.masked_fill(nan, 0);
    b = b.masked_fill(nan, 0);
  }
  EXPECT_EQ(std::memcmp(a.data_ptr(), b.data_ptr(), a.nbytes()), 0);
}

const char* test_python() {
  const char* python = std::getenv("REV_TEST_PYTHON");
  return python == nullptr || *python == 0 ? nullptr : python;
}

TEST(GgufPythonTest, ReadsWhatPythonWroteToTheSameBits) {
  const char* python = test_python();
  if (python == nullptr) GTEST_SKIP() << "REV_TEST_PYTHON is not set";
  support::TempFolder folder;
  for (const char* alignment : {"32", "128"}) {
    SCOPED_TRACE(alignment);
    ASSERT_TRUE(run(python, folder, kWrite,
                    quoted(folder / "t.gguf") + quoted(folder / "expected") + alignment));
    const GgufFile file(folder / "t.gguf");
    const auto expected = load_safetensors(folder / "expected");
    ASSERT_EQ(file.tensors().size(), expected.size());
    for (const auto& [name, tensor] : expected) {
      SCOPED_TRACE(name);
      const at::Tensor loaded = file.load(name);
      const bool brain = name == "bfloat16";  // which numpy has not
      EXPECT_EQ(loaded.scalar_type(), brain ? at::kBFloat16 : tensor.scalar_type());
      expect_same(brain ? loaded.to(at::kFloat) : loaded, tensor);
    }
    EXPECT_EQ(std::get<std::uint8_t>(file.metadata().at("uint8").value), 200);
    EXPECT_EQ(std::get<std::int8_t>(file.metadata().at("int8").value), -100);
    EXPECT_EQ(std::get<std::uint16_t>(file.metadata().at("uint16").value), 60000);
    EXPECT_EQ(std::get<std::int16_t>(file.metadata().at("int16").value), -30000);
    EXPECT_EQ(std::get<std::uint32_t>(file.metadata().at("uint32").value), 4000000000);
    EXPECT_EQ(std::get<std::int32_t>(file.metadata().at("int32").value), -2000000000);
    EXPECT_EQ(std::get<float>(file.metadata().at("float32").value), 0.1f);
    EXPECT_EQ(std::get<bool>(file.metadata().at("bool").value), true);
    EXPECT_EQ(std::get<std::string>(file.metadata().at("string").value), "Gr\xc3\xbc\xc3\x9f\x65");
    EXPECT_EQ(std::get<std::uint64_t>(file.metadata().at("uint64").value), 1ull << 63);
    EXPECT_EQ(std::get<std::int64_t>(file.metadata().at("int64").value), -(1ll << 62));
    EXPECT_EQ(std::get<double>(file.metadata().at("float64").value), 0.1);
    EXPECT_EQ(file.get<std::vector<std::string>>("strings"),
              (std::vector<std::string>{"a", "", "\xc3\x9f"}));
    EXPECT_EQ(file.get<std::vector<std::int64_t>>("integers"),
              (std::vector<std::int64_t>{1, -2, 3}));
    EXPECT_EQ(file.get<std::vector<double>>("floats"), (std::vector<double>{0.5, -1.5}));
    const auto& nested = std::get<std::vector<GgufValue>>(file.metadata().at("nested").value);
    EXPECT_EQ(std::get<std::vector<std::int32_t>>(nested.at(1).value),
              (std::vector<std::int32_t>{3}));
    EXPECT_EQ(file.get<std::string>("general.architecture"), "llama");
  }
}

TEST(GgufPythonTest, ReadsSmolLm2ToTheSameBits) {
  const char* path = std::getenv("REV_SMOLLM2");
  if (path == nullptr || *path == 0) GTEST_SKIP() << "REV_SMOLLM2 is not set";
  const GgufFile file(path);
  EXPECT_EQ(file.get<std::string>("general.architecture"), "llama");
  EXPECT_EQ(file.get<std::int64_t>("llama.block_count"), 30);
  EXPECT_EQ(file.get<double>("llama.rope.freq_base"), 100000);
  EXPECT_EQ(file.get<std::vector<std::string>>("tokenizer.ggml.tokens").size(), 49152u);
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    const at::Tensor loaded = file.load(name);
    EXPECT_EQ(loaded.scalar_type(), at::kFloat) << name;
    EXPECT_TRUE(at::isfinite(loaded.sum()).item<bool>()) << name;
    parameters += loaded.numel();
  }
  EXPECT_EQ(parameters, 134'515'008);

  const char* python = test_python();
  if (python == nullptr) GTEST_SKIP() << "REV_TEST_PYTHON is not set: only read, not compared";
  support::TempFolder folder;
  ASSERT_TRUE(run(python, folder, kRead,
                  quoted(path) + quoted(folder / "expected") +
                      "token_embd.weight output_norm.weight blk.0.attn_q.weight "
                      "blk.0.ffn_down.weight blk.17.attn_norm.weight blk.29.ffn_up.weight"));
  for (const auto& [name, tensor] : load_safetensors(folder / "expected")) {
    SCOPED_TRACE(name);
    expect_same(file.load(name), tensor);
  }
}

}  // namespace
}  // namespace rev::io
