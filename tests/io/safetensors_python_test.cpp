// The same tensors through Python's safetensors package: REV_TEST_PYTHON names a Python that has
// it.
#include <cstdlib>
#include <gtest/gtest.h>
#include <string>
#include <torch/torch.h>

#include "rev/io/safetensors.h"
#include "support/temp_folder.h"

namespace rev::io {
namespace {

// Tensors of 0, 1, 2, ... in three dtypes; written by one side, checked by the other.
constexpr const char* kScript = R"(
import sys
import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
theirs, ours = sys.argv[1:]
expected = {
    "wide": numpy.arange(6, dtype=numpy.float64).reshape(2, 3),
    "layer.10.weight": numpy.arange(5, dtype=numpy.float32),
    "layer.9.weight": numpy.arange(4, dtype=numpy.float32).reshape(2, 2),
    "half": numpy.arange(3, dtype=numpy.float16),
    "short": numpy.arange(3, dtype=numpy.uint16),
    "bytes": numpy.arange(7, dtype=numpy.uint8),
    "flags": numpy.array([True, False, True]),
    "scalar": numpy.array(3, dtype=numpy.int64),
    "none": numpy.zeros((0, 4), dtype=numpy.int32),
}
save_file(expected, theirs, metadata={"format": "pt"})
loaded = load_file(ours)
assert loaded.keys() == expected.keys(), loaded.keys()
for name, array in expected.items():
    assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape, name
    assert (loaded[name] == array).all(), name
with safe_open(ours, "numpy") as file:
    assert file.metadata() == {"format": "pt"}, file.metadata()
)";

base::NamedTensors make_tensors() {
  return {{"wide", torch::arange(6, at::kDouble).view({2, 3})},
          {"layer.10.weight", torch::arange(5, at::kFloat)},
          {"layer.9.weight", torch::arange(4, at::kFloat).view({2, 2})},
          {"half", torch::arange(3).to(at::kHalf)},
          {"short", torch::arange(3).to(at::kUInt16)},
          {"bytes", torch::arange(7, at::kByte)},
          {"flags", torch::tensor({true, false, true})},
          {"scalar", torch::tensor(3, at::kLong)},
          {"none", torch::zeros({0, 4}, at::kInt)}};
}

TEST(SafetensorsPythonTest, BothSidesWriteTheSameBytes) {
  const char* python = std::getenv("REV_TEST_PYTHON");
  if (python == nullptr || *python == 0) GTEST_SKIP() << "REV_TEST_PYTHON is not set";
  support::TempFolder folder;
  save_safetensors(folder / "ours", make_tensors(), {{"format", "pt"}});
  support::write_bytes(folder / "check.py", kScript);
  const std::string command = std::string("'") + python + "' '" + (folder / "check.py").string() +
                              "' '" + (folder / "theirs").string() + "' '" +
                              (folder / "ours").string() + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);

  EXPECT_EQ(support::read_bytes(folder / "ours"), support::read_bytes(folder / "theirs"));
  const auto theirs = load_safetensors(folder / "theirs");
  for (const auto& [name, tensor] : make_tensors()) {
    EXPECT_EQ(theirs.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(theirs.at(name).to(at::kDouble), tensor.to(at::kDouble))) << name;
  }
}

}  // namespace
}  // namespace rev::io
