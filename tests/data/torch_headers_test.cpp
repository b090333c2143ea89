#include "rev/data/torch_headers.h"

#include <filesystem>
#include <gtest/gtest.h>

#include "data/tokens.h"
#include "rev/data/open_tokens.h"

namespace rev::data {
namespace {

TEST(TorchHeadersTest, AreFoundAndHoldMegabytesOfText) {
  const std::filesystem::path folder = torch_headers_dir();
  EXPECT_TRUE(std::filesystem::exists(folder / "ATen/core/Tensor.h")) << folder;
  const TokenSource tokens = open_tokens({folder});
  EXPECT_GT(tokens.size(), 20'000'000);
  EXPECT_EQ(tokens.skipped_files(), 0);
}

TEST(TorchHeadersTest, AreTheSameTextEachTime) {
  const TokenSource a = open_tokens({torch_headers_dir()});
  const TokenSource b = open_tokens({torch_headers_dir()});
  EXPECT_TRUE(read_text(a) == read_text(b));
}

}  // namespace
}  // namespace rev::data
