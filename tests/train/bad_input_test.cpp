// Bad input: one sentence that names the thing, exit code 2, nothing overwritten.
#include <fstream>

#include "rev/base/remove_folder.h"
#include "rev/io/checkpoint.h"
#include "rev/io/safetensors.h"
#include "support/small_disk.h"
#include "train/program.h"

namespace rev::train {
namespace {

namespace fs = std::filesystem;

class BadInputTest : public RevGpt2Test {
 protected:
  void expect_refused(const Arguments& arguments, const std::string& sentence) {
    const Result result = run(arguments);
    EXPECT_EQ(result.code, 2) << result.output;
    EXPECT_NE(result.output.find(sentence), std::string::npos) << result.output;
    EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 1) << result.output;
    EXPECT_EQ(result.output.rfind("rev-gpt2: ", 0), 0u) << result.output;
  }
  // For a new run: its folder does not come into being.
  void expect_train_refused(const Arguments& options, const std::string& sentence) {
    expect_refused(tiny("out", options), sentence);
    EXPECT_FALSE(fs::exists(path("out")));
    base::remove_folder(path("out"));
  }
  // A shard of 2000 tokens below 512.
  std::string numbers_file() {
    std::string bytes;
    for (int i = 0; i < 2000; ++i) {
      bytes += {static_cast<char>(i * 7 % 251), static_cast<char>(i % 11 == 0)};
    }
    support::write_bytes(path("tokens.bin"), bytes);
    return path("tokens.bin").string();
  }
  Arguments with_data(const std::string& name, const std::string& bytes) {
    support::write_bytes(path(name), bytes);
    return {"--data", path(name).string()};
  }
};

TEST_F(BadInputTest, Options) {
  expect_train_refused({"--stepz", "5"}, "unknown option --stepz; did you mean --steps?");
  expect_train_refused({"--weight-decya=1"},
                       "unknown option --weight-decya; did you mean --weight-decay?");
  expect_train_refused({"extra"}, "unexpected argument extra");
  expect_train_refused({"--steps", "many"},
                       "--steps: expected a whole number of at least 1, got many");
  expect_train_refused({"--steps", "0"}, "--steps: expected a whole number of at least 1, got 0");
  expect_train_refused({"--lr", "-1"}, "--lr: expected a number of at least 0, got -1");
  expect_train_refused({"--dropout", "1"}, "--dropout: expected a number below 1, got 1");
  expect_train_refused({"--scheme", "midpont"}, "--scheme: expected one of residual|midpoint|");
  expect_train_refused({"--lr", "inf"}, "--lr: expected a finite number of at least 0, got inf");
  expect_train_refused({"--dropout", "nan"},
                       "--dropout: expected a finite number from 0 to 1, got nan");
  expect_train_refused({"--steps"}, "--steps: expected N, got nothing");
  expect_train_refused({"--warmup", "010", "--steps", "9"},
                       "--warmup: 10 is more than the 9 steps of the run");
  expect_train_refused({"--threads", "4294967297"},
                       "--threads: expected a whole number from 1 to 1024, got 4294967297");
  const std::string huge = "99999999999999999999";
  expect_train_refused(
      {"--steps", huge},
      "--steps: expected a whole number from 1 to 9223372036854775807, got " + huge);
  expect_train_refused({"--bias", "--no-bias"}, "--bias: expected once, got 2 times");
  expect_train_refused({"--bias=banana"}, "--bias: expected one of true|false, got banana");
  expect_train_refused({"--xyzzy", "5"}, "rev-gpt2: unknown option --xyzzy\n");
  expect_train_refused({"--seed", "1", "--seed", "2"}, "--seed: expected once, got 2 times");
  expect_refused({"train"}, "--out DIR is needed");
  expect_refused({"sample"}, "--model DIR is needed");
  expect_refused({"trian"}, "unknown command trian; did you mean train?");
  expect_refused({"xyzzy"}, "rev-gpt2: unknown command xyzzy; expected train or sample\n");
  expect_refused({}, "a command is needed");
}

TEST_F(BadInputTest, SettingsThatDoNotGoTogether) {
  expect_train_refused({"--heads", "3"}, "3 heads do not divide 16 channels");
  expect_train_refused({"--scheme", "revffn", "--channels", "15", "--heads", "3"},
                       "revffn splits the channels in two, but there are 15");
  expect_train_refused({"--scheme", "residual", "--memory", "invert"},
                       "--memory invert: the residual scheme cannot be inverted");
  expect_train_refused({"--scheme", "midpoint-a", "--layers", "1000"}, "midpoint-a");
  expect_train_refused({"--h", "0"}, "h must be a number other than 0");
  expect_train_refused({"--state", "float64", "--dtype", "bfloat16"}, "--state float64");
  expect_train_refused({"--scheme", "hamiltonian", "--h", "0.5"},
                       "--h has no meaning here: the scheme hamiltonian has no step h");
  expect_train_refused({"--a-seed", "3"},
                       "--a-seed has no meaning here: the scheme midpoint draws no weights a");
  expect_train_refused({"--a-pairs"},
                       "--a-pairs has no meaning here: the scheme midpoint draws no weights a");
  expect_train_refused({"--scheme", "midpoint-a", "--a-pairs", "--a", "1", "1", "1"},
                       "--a-pairs has no meaning here: --a gives the weights");
  expect_train_refused({"--scheme", "midpoint-a", "--a", "1", "0.5"},
                       "3 layers need as many weights a, got 2");
  expect_train_refused({"--scheme", "midpoint-a", "--a", "1", "0.5", "x"},
                       "--a: expected a number from -65536 to 65536, got x");
  expect_train_refused({"--scheme", "hamiltonian", "--a", "1", "0.5"},
                       "hamiltonian takes one a, got 2");
  expect_train_refused({"--inner", "1"},
                       "--inner has no meaning here: the scheme midpoint does not iterate");
  expect_train_refused({"--scheme", "retrofit", "--a", "0.5", "0.5"},
                       "retrofit: 3 layers need one weight a or as many, got 2");
  expect_train_refused({"--a", "1"}, "--a has no meaning here: the scheme midpoint has no weights");
  expect_train_refused({"--low-bits", "4"},
                       "--low-bits has no meaning here: the scheme midpoint keeps no low bits");
  expect_train_refused({"--scheme", "revffn", "--low-bits", "4", "--state", "float32"},
                       "--low-bits has no meaning here: states are float32");
  expect_train_refused({"--scheme", "revffn", "--low-bits", "3"},
                       "--low-bits: expected one of 2|4|8|16, got 3");
  expect_train_refused({"--scheme", "revffn", "--low-bits", "4", "--memory", "store"},
                       "--low-bits has no meaning here: nothing is inverted");
  expect_train_refused({"--scheme", "residual", "--grid-bits", "20"},
                       "--grid-bits has no meaning here: states are float32");
  expect_train_refused({"--valid", "x", "--valid-fraction", "0.5"},
                       "--valid-fraction has no meaning here: --valid names the data");
  expect_train_refused({"--warmup", "6"}, "--warmup: 6 is more than the 5 steps of the run");
  expect_train_refused({"--min-lr", "1"}, "--min-lr: 1 is above --lr 0.01");
  expect_train_refused({"--vocab", "100"}, "expected a vocabulary of at least 256 for text");
  expect_train_refused({"--device", "cpu", "--tf32"}, "--tf32 has no meaning here");
  expect_train_refused({"--device", "cpu", "--cuda-graph"}, "--cuda-graph has no meaning here");
  if (!torch::cuda::is_available()) {
    expect_train_refused({"--device", "cuda"}, "--device cuda: LibTorch finds no CUDA device");
  }
}

TEST_F(BadInputTest, Data) {
  const std::string missing = path("missing.txt").string();
  expect_train_refused({"--data", missing}, missing + ": no such file or folder");
  expect_train_refused({"--data", ""}, "--data: expected a path, got nothing");
  expect_train_refused(with_data("empty.txt", ""), "empty.txt: empty file");
  expect_train_refused(with_data("short.txt", std::string(60, 'a')),
                       "the validation data have 6 tokens; a sequence of --seq 16 needs");
  expect_train_refused(with_data("binary.txt", std::string(100, '\xff')), "not UTF-8 text");
  expect_train_refused(with_data("odd.bin", "abc"), "odd.bin: expected 16-bit tokens");
  expect_train_refused(with_data("wide.bin", std::string("\x01\0\0\0\x02\0\0\0", 8)),
                       "wide.bin: looks like 32-bit tokens");
  expect_train_refused(with_data("outside.bin", "\xff\xff\x01\x02") + Arguments{"--vocab", "1000"},
                       "token 65535 at byte offset 0 is outside of the vocabulary of 1000");
  fs::create_directories(path("nothing"));
  expect_train_refused({"--data", path("nothing").string()}, "holds no UTF-8 text");
  expect_train_refused({"--valid", missing}, missing + ": no such file or folder");
  expect_train_refused({"--valid-fraction", "0"},
                       "--valid-fraction: expected a number above 0 and below 1, got 0");
  support::write_bytes(path("valid.txt"), "short");
  expect_train_refused({"--valid", path("valid.txt").string()},
                       "the validation data have 5 tokens");
  support::write_bytes(path("valid.bin"), "\x01\x01\x02\x01");
  expect_train_refused({"--vocab", "300", "--valid", path("valid.bin").string()},
                       "--valid holds numbers of tokens, --data text");
}

TEST_F(BadInputTest, FoldersThatHoldARun) {
  const std::string before = weights("run", tiny("run"));
  const std::string config = support::read_bytes(path("run") / "config.json");
  expect_refused(tiny("run"), "config.json is there already: --resume goes on with a run");
  expect_refused({"train", "--out", path("none").string(), "--resume"},
                 (path("none") / "config.json").string());
  EXPECT_FALSE(fs::exists(path("none")));

  const Arguments resume = {"train", "--out", path("run").string(), "--resume"};
  const std::string other = "saved by a run with other settings: ";
  expect_refused(resume + Arguments{"--layers", "2"}, other + "layers was 3 and is now 2");
  expect_refused(resume + Arguments{"--scheme", "leapfrog"},
                 other + "scheme was midpoint and is now leapfrog");
  expect_refused(resume + Arguments{"--steps", "6"}, other + "steps was 5 and is now 6");
  expect_refused(resume + with_data("other.txt", text(30000)),
                 other + "train-data was 18000 tokens");
  support::write_bytes(path("notes.txt"), "Notes\n");
  expect_refused(resume + Arguments{"--metrics", path("notes.txt").string()},
                 "notes.txt: expected the metrics of a run, got a first line \"Notes\"");
  EXPECT_EQ(support::read_bytes(path("notes.txt")), "Notes\n");
  const std::string missing = path("missing/m.jsonl").string();
  expect_refused(resume + Arguments{"--metrics", missing}, missing + ": cannot be written");
  // A checkpoint of another run, put among this one's.
  weights("wide", tiny("wide", {"--channels", "32"}));
  base::remove_folder(path("run") / "checkpoints/step-5");
  fs::copy(path("wide") / "checkpoints/step-5", path("run") / "checkpoints/step-5");
  expect_refused(resume, "checkpoints/step-5: " + other + "channels was 32 and is now 16");

  EXPECT_TRUE(support::read_bytes(path("run") / "model.safetensors") == before);
  EXPECT_EQ(support::read_bytes(path("run") / "config.json"), config);
}

TEST_F(BadInputTest, FoldersThatCannotBeWritten) {
  support::write_bytes(path("file"), "kept");
  expect_refused(tiny("file/run"), "folder cannot be made");
  EXPECT_EQ(support::read_bytes(path("file")), "kept");

  // Root is stopped by no permission, only by a disk that is not to be written.
  const support::SmallDisk disk(path("locked"), 4096);
  if (disk.mounted()) {
    ASSERT_EQ(::mount(nullptr, path("locked").c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr),
              0);
  } else {
    fs::permissions(path("locked"), fs::perms::owner_read | fs::perms::owner_exec);
  }
  expect_refused(tiny("locked"), "locked is not writable");
  expect_refused(tiny("locked/run"), "folder cannot be made");
  const std::string metrics = path("m.jsonl").string();
  expect_refused(tiny("locked", {"--metrics", metrics}), "locked is not writable");
  EXPECT_FALSE(fs::exists(metrics));
  if (!disk.mounted()) fs::permissions(path("locked"), fs::perms::owner_all);
}

TEST_F(BadInputTest, MetricsThatCannotBeWrittenBlockNoRun) {
  const std::string missing = path("missing/m.jsonl").string();
  expect_train_refused({"--metrics", missing}, missing + ": cannot be written: " +
                                                   path("missing").string() + " does not exist");
  expect_train_refused({"--metrics", path("text.txt").string()}, "text.txt is there already");
  support::write_bytes(path("m.jsonl"), "");
  weights("out", tiny("out", {"--metrics", path("m.jsonl").string()}));
  EXPECT_FALSE(support::read_bytes(path("m.jsonl")).empty());
}

TEST_F(BadInputTest, MetricsInTheRunsOwnFiles) {
  for (const char* own : {"config.json", "model.safetensors", "checkpoints", "x/../config.json"}) {
    expect_train_refused({"--metrics", (path("out") / own).string()},
                         "is a file of the run itself");
  }
}

TEST_F(BadInputTest, AFolderInWhichAnotherProcessTrains) {
  Program first(tiny("run", {"--steps", "100000", "--save-every", "1"}), path("first"));
  ASSERT_TRUE(first.wait_for(path("run") / "checkpoints/step-1/manifest.json")) << first.output();
  expect_refused({"train", "--out", path("run").string(), "--resume"},
                 "another process is training in this folder");
  first.send(SIGTERM);
  EXPECT_EQ(first.wait(), 0) << first.output();
  EXPECT_FALSE(support::read_bytes(path("run") / "config.json").empty());
}

TEST_F(BadInputTest, SettingsThatNoOptionCouldHaveMade) {
  weights("run", tiny("run"));
  const std::string config = support::read_bytes(path("run") / "config.json");
  const auto expect_setting_refused = [&](const std::string& was, const std::string& is,
                                          const std::string& sentence) {
    std::string text = config;
    const size_t at = text.find(was);
    ASSERT_NE(at, std::string::npos) << config;
    support::write_bytes(path("run") / "config.json", text.replace(at, was.size(), is));
    expect_refused({"train", "--out", path("run").string(), "--resume"}, sentence);
    expect_refused({"sample", "--model", path("run").string()}, sentence);
  };
  expect_setting_refused(
      "\"dtype\": \"float32\"", "\"dtype\": \"bfloat61\"",
      "config.json: setting dtype: expected one of float32|bfloat16, got bfloat61");
  expect_setting_refused(
      "\"steps\": 5", "\"steps\": -5",
      "config.json: setting steps: expected a whole number of at least 1, got -5");
}

TEST_F(BadInputTest, OutputThatCannotBeWritten) {
  weights("run", tiny("run"));
  const std::string command = find_program().string() + " sample --model " + path("run").string() +
                              " >/dev/full 2>" + path("log").string();
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 1);
  EXPECT_EQ(support::read_bytes(path("log")), "rev-gpt2: standard output cannot be written\n");
}

// Only a mapped text can lose its pages: small ones are copied.
TEST_F(BadInputTest, ATextThatIsShortenedWhileItIsRead) {
  support::write_bytes(path("text.txt"), text(4 << 20));
  Program program(tiny("run", {"--steps", "100000", "--save-every", "1"}), path("log"));
  ASSERT_TRUE(program.wait_for(path("run") / "checkpoints/step-1")) << program.output();
  fs::resize_file(path("text.txt"), 100);
  EXPECT_EQ(program.wait(), 1);
  EXPECT_NE(program.output().find("a file was shortened while it was read"), std::string::npos)
      << program.output();
}

TEST_F(BadInputTest, PromptsThatAreNoTokens) {
  weights("run", tiny("run", {"--data", numbers_file(), "--vocab", "512"}));
  for (const char* prompt : {"99999999999999999999", "7 99999999999999999999", "7 -", "seven"}) {
    expect_refused({"sample", "--model", path("run").string(), "--prompt", prompt},
                   "--prompt: the model's tokens are not bytes");
  }
}

TEST_F(BadInputTest, NoSpaceLeft) {
  const support::SmallDisk disk(path("disk"), 1024);
  if (!disk.mounted()) GTEST_SKIP() << "mounting needs root";
  expect_refused(tiny("disk/large", {"--channels", "64"}), "MB are free");

  // Enough for the run, until others take it.
  Program program(tiny("disk/run", {"--steps", "100000", "--save-every", "20"}), path("log"));
  ASSERT_TRUE(program.wait_for(path("disk/run") / "checkpoints/step-20")) << program.output();
  support::write_bytes(path("disk/others"), std::string(1 << 20, 'x'));
  EXPECT_EQ(program.wait(), 1);  // the input was good
  EXPECT_NE(program.output().find("cannot be written: No space left on device"), std::string::npos)
      << program.output();
  EXPECT_FALSE(io::find_latest_checkpoint(path("disk/run")).folder.empty());
}

TEST_F(BadInputTest, Models) {
  expect_refused({"sample", "--model", path("none").string()},
                 (path("none") / "config.json").string());
  weights("run", tiny("run"));
  const Arguments sample = {"sample", "--model", path("run").string(), "--tokens", "3"};
  expect_refused(sample + Arguments{"--temprature", "1"}, "did you mean --temperature?");
  const std::string bytes = support::read_bytes(path("run") / "model.safetensors");
  support::write_bytes(path("run") / "model.safetensors", bytes.substr(0, bytes.size() / 2));
  expect_refused(sample, (path("run") / "model.safetensors").string());
  io::save_safetensors(path("run") / "model.safetensors", {});
  expect_refused(sample, "model.safetensors: expected the weights of a GPT-2, got a file without");
  fs::remove(path("run") / "model.safetensors");
  expect_refused(sample, "model.safetensors is not there yet: the run has not ended, rev-gpt2");
  base::remove_folder(path("run") / "checkpoints");
  expect_refused(sample, (path("run") / "model.safetensors").string());
  const std::string config = support::read_bytes(path("run") / "config.json");
  const std::string few = "\"layers\": 3";
  ASSERT_NE(config.find(few), std::string::npos) << config;
  std::string many = config;
  support::write_bytes(path("run") / "config.json",
                       many.replace(many.find(few), few.size(), "\"layers\": 3000000000000"));
  expect_refused(sample, "they take");
  support::write_bytes(path("run") / "config.json", "{ not json");
  expect_refused(sample, "config.json: not JSON at line 1, column 4");
}

TEST_F(BadInputTest, ModelsThatDoNotFit) {
  for (const char* size : {"--layers", "--channels", "--vocab", "--batch"}) {
    expect_refused(tiny("run", {size, "4000000000000"}), "machine has");
  }
  EXPECT_FALSE(fs::exists(path("run")));
}

// Not bad input: the run itself cannot go on.
TEST_F(BadInputTest, ARunThatLeavesTheGridEndsWithItsNumbersAndExitCode1) {
  const Result result = run(tiny("run", {"--lr", "1e6", "--clip", "0", "--steps", "20",
                                         "--grid-bits", "28", "--save-every", "1"}));
  EXPECT_EQ(result.code, 1) << result.output;
  EXPECT_NE(result.output.find("left the grid's range of +-2^3 or is not a number"),
            std::string::npos)
      << result.output;
  EXPECT_TRUE(fs::exists(path("run") / "checkpoints/step-1")) << result.output;
}

TEST_F(BadInputTest, ARunThatFailsBeforeAnythingWasSavedLeavesNothing) {
  const Arguments fails = {"--lr", "1e6", "--clip", "0", "--steps", "20", "--grid-bits", "28"};
  EXPECT_EQ(run(tiny("run", fails)).code, 1);
  EXPECT_FALSE(fs::exists(path("run")));

  // A folder that was there stays, and what else is in it.
  support::write_bytes(path("mine/notes.txt"), "kept");
  EXPECT_EQ(run(tiny("mine", fails)).code, 1);
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(path("mine"))) {
    left.push_back(entry.path().filename());
  }
  EXPECT_EQ(left, (std::vector<std::string>{"notes.txt"}));
}

TEST_F(BadInputTest, KeepingMoreCheckpointsThanARunWillSaveNeedsNoMoreSpace) {
  weights("run", tiny("run", {"--keep", "1000000"}));
}

}  // namespace
}  // namespace rev::train
