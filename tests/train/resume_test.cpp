// A run that is cut and goes on ends with the bits of one that was not.
#include <fstream>
#include <nlohmann/json.hpp>

#include "rev/base/remove_folder.h"
#include "rev/io/checkpoint.h"
#include "train/program.h"

namespace rev::train {
namespace {

namespace fs = std::filesystem;

class ResumeTest : public RevGpt2Test {
 protected:
  // Long enough to be cut anywhere, with all that a checkpoint must hold: dropout's generator,
  // moments, a schedule.
  Arguments long_run(const std::string& out, const Arguments& more = {}) const {
    return tiny(out, take_last({"--steps", "60", "--dropout", "0.1", "--save-every", "5",
                                "--eval-every", "20", "--channels", "32", "--batch", "8"},
                               more));
  }
  Arguments resumed(const std::string& out) const {
    return {"train", "--out", path(out).string(), "--resume"};
  }
  std::vector<int64_t> steps(const std::string& out) const {
    std::vector<int64_t> found;
    std::ifstream file(path(out) / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      found.push_back(nlohmann::json::parse(line).at("step").get<int64_t>());
    }
    return found;
  }
  static std::vector<int64_t> one_to(int64_t n) {
    std::vector<int64_t> all(static_cast<size_t>(n));
    std::iota(all.begin(), all.end(), 1);
    return all;
  }
  // Kills runs at moments that are spread over the time that one takes, and lets them go on.
  void expect_same_bits_after_kills(int moments, const Arguments& options);
  // A run that was stopped after step 10, with checkpoints of steps 5 and 10.
  void cut_run(const std::string& out) {
    Program program(long_run(out), path("log"));
    ASSERT_TRUE(program.wait_for(path(out) / "checkpoints/step-10/manifest.json"));
    program.send(SIGKILL);
    ASSERT_EQ(program.wait(), -SIGKILL) << program.output();
    for (const auto& entry : fs::directory_iterator(path(out) / "checkpoints")) {
      const std::string name = entry.path().filename().string();
      if (name != "step-5" && name != "step-10") base::remove_folder(entry.path());
    }
    ASSERT_TRUE(fs::exists(path(out) / "checkpoints/step-5")) << "the run was too fast to be cut";
  }
};

void ResumeTest::expect_same_bits_after_kills(int moments, const Arguments& options) {
  const auto now = std::chrono::steady_clock::now;
  Program whole(long_run("whole", options), path("log"));
  ASSERT_TRUE(whole.wait_for(path("whole") / "config.json"));
  const auto began = now();
  ASSERT_EQ(whole.wait(), 0) << whole.output();
  const std::chrono::duration<double> seconds = now() - began;
  const std::string expected = support::read_bytes(path("whole") / "model.safetensors");
  ASSERT_FALSE(expected.empty());

  for (int moment = 0; moment < moments; ++moment) {
    const std::string out = "run" + std::to_string(moment);
    double delay = seconds.count() * (moment + 0.5) / moments;
    int code = 0;
    // A run that was faster than the whole one is cut earlier.
    for (int attempt = 0; attempt < 10 && code != -SIGKILL; ++attempt, delay *= 0.8) {
      base::remove_folder(path(out));
      Program program(long_run(out, options), path("log"));
      ASSERT_TRUE(program.wait_for(path(out) / "config.json")) << program.output();
      ::usleep(static_cast<useconds_t>(1e6 * delay));
      program.send(SIGKILL);
      code = program.wait();
    }
    ASSERT_EQ(code, -SIGKILL) << "moment " << moment;
    EXPECT_TRUE(weights(out, resumed(out)) == expected) << "killed at moment " << moment;
    EXPECT_EQ(steps(out), one_to(60)) << "killed at moment " << moment;
  }
}

TEST_F(ResumeTest, KilledAtTenMomentsEndsWithTheSameBits) { expect_same_bits_after_kills(10, {}); }

TEST_F(ResumeTest, SoDoesRevFFNInBfloat16) {
  expect_same_bits_after_kills(3, {"--scheme", "revffn", "--dtype", "bfloat16"});
}

TEST_F(ResumeTest, ADamagedCheckpointIsRefusedByNameAndTheOneBeforeUsed) {
  const std::string expected = weights("whole", long_run("whole"));
  const auto expect_step_5 = [&](const std::string& out, const std::string& file,
                                 const std::string& reason) {
    const Result result = run(resumed(out));
    EXPECT_EQ(result.code, 0) << result.output;
    EXPECT_NE(result.output.find("refused: " + (path(out) / "checkpoints/step-10").string() + ": " +
                                 file + reason),
              std::string::npos)
        << result.output;
    EXPECT_NE(result.output.find("; renamed to step-10.damaged\n"), std::string::npos)
        << result.output;
    EXPECT_TRUE(fs::exists(path(out) / "checkpoints/step-10.damaged" / file)) << result.output;
    EXPECT_NE(result.output.find("going on from " + (path(out) / "checkpoints/step-5").string()),
              std::string::npos)
        << result.output;
    EXPECT_TRUE(support::read_bytes(path(out) / "model.safetensors") == expected);
  };

  ASSERT_NO_FATAL_FAILURE(cut_run("truncated"));
  const fs::path model = path("truncated") / "checkpoints/step-10/model.safetensors";
  fs::resize_file(model, fs::file_size(model) / 2);
  expect_step_5("truncated", "model.safetensors", " has ");

  ASSERT_NO_FATAL_FAILURE(cut_run("flipped"));
  const fs::path moments = path("flipped") / "checkpoints/step-10/optimizer.safetensors";
  std::string bytes = support::read_bytes(moments);
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 1);
  support::write_bytes(moments, bytes);
  expect_step_5("flipped", "optimizer.safetensors", " is damaged");
}

TEST_F(ResumeTest, ADamagedCheckpointIsNotKeptInPlaceOfAWholeOne) {
  const std::string expected = weights("whole", long_run("whole"));
  ASSERT_NO_FATAL_FAILURE(cut_run("run"));
  const fs::path checkpoints = path("run") / "checkpoints";
  fs::rename(checkpoints / "step-10", checkpoints / "step-60");  // its manifest tells
  Program program(resumed("run") + Arguments{"--keep", "1"}, path("log"));
  ASSERT_TRUE(program.wait_for(checkpoints / "step-60.damaged")) << program.output();
  program.send(SIGTERM);
  EXPECT_EQ(program.wait(), 0) << program.output();
  const io::FoundCheckpoint found = io::find_latest_checkpoint(path("run"));
  EXPECT_FALSE(found.folder.empty());
  EXPECT_TRUE(found.refused.empty());
  EXPECT_TRUE(weights("run", resumed("run")) == expected);
}

TEST_F(ResumeTest, WithoutAnyWholeCheckpointIsRefused) {
  ASSERT_NO_FATAL_FAILURE(cut_run("run"));
  for (const char* step : {"step-5", "step-10"}) {
    fs::remove(path("run") / "checkpoints" / step / "state.json");
  }
  const Result result = run(resumed("run"));
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.output.find("no checkpoint is whole"), std::string::npos) << result.output;
}

TEST_F(ResumeTest, ARunWhoseCheckpointsAreGoneIsNotStartedOver) {
  const std::string expected = weights("run", tiny("run"));
  const fs::path checkpoints = path("run") / "checkpoints", aside = path("aside");
  fs::rename(checkpoints, aside);
  const auto expect_refused = [&](const std::string& sentence) {
    const Result result = run(resumed("run"));
    EXPECT_EQ(result.code, 2);
    EXPECT_NE(result.output.find(sentence), std::string::npos) << result.output;
    EXPECT_TRUE(support::read_bytes(path("run") / "model.safetensors") == expected);
    EXPECT_EQ(steps("run"), one_to(5));
  };
  expect_refused("model.safetensors is there, but no checkpoint in " + checkpoints.string());
  support::write_bytes(checkpoints, "a file");
  expect_refused("checkpoints: cannot be read: Not a directory");
  fs::remove(checkpoints);
  fs::rename(aside, checkpoints);
  EXPECT_TRUE(weights("run", resumed("run")) == expected);
}

TEST_F(ResumeTest, ASignalFinishesTheStepSavesAndExitsWith0) {
  const std::string expected = weights("whole", long_run("whole"));
  for (const int signal : {SIGTERM, SIGINT}) {
    const std::string out = "run" + std::to_string(signal);
    Program program(long_run(out, {"--save-every", "0"}), path("log"));
    ASSERT_TRUE(program.wait_for(path(out) / "metrics.jsonl"));
    ::usleep(50000);
    program.send(signal);
    EXPECT_EQ(program.wait(), 0) << program.output();
    const auto done = static_cast<int64_t>(steps(out).size());
    ASSERT_LT(done, 60) << "the run was too fast to be stopped";
    EXPECT_TRUE(
        fs::exists(path(out) / "checkpoints" / ("step-" + std::to_string(done)) / "manifest.json"));
    EXPECT_TRUE(fs::exists(path(out) / "model.safetensors"));
    EXPECT_NE(program.output().find("stopped after step"), std::string::npos);
    EXPECT_TRUE(weights(out, resumed(out)) == expected);
  }
}

TEST_F(ResumeTest, LayersThatWereGivenUpOnStayGivenUpOn) {
  const Arguments grown = {"--scheme", "revffn",  "--lr", "0.1",        "--clip",
                           "0",        "--steps", "40",   "--channels", "16"};
  const std::string expected = weights("whole", long_run("whole", grown));
  Program program(long_run("run", grown), path("log"));
  ASSERT_TRUE(program.wait_for(path("run") / "checkpoints/step-35/manifest.json"));
  program.send(SIGKILL);
  program.wait();
  ASSERT_NE(program.output().find("it is checkpointed from now on"), std::string::npos);
  EXPECT_TRUE(weights("run", resumed("run")) == expected);
}

TEST_F(ResumeTest, AnotherMemoryPolicyMayGoOn) {
  const std::string expected = weights("whole", long_run("whole"));
  ASSERT_NO_FATAL_FAILURE(cut_run("run"));
  EXPECT_TRUE(weights("run", resumed("run") + Arguments{"--memory", "store"}) == expected);
}

TEST_F(ResumeTest, OffTheGridAnotherMemoryPolicyIsRefused) {
  weights("run", tiny("run", {"--state", "float32"}));
  const Result result = run(resumed("run") + Arguments{"--memory", "store"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.output.find("saved by a run with other settings: memory was invert and is now "
                               "store"),
            std::string::npos)
      << result.output;
}

TEST_F(ResumeTest, AFinishedRunHasNothingLeftToDo) {
  const std::string expected = weights("run", tiny("run"));
  const fs::path state = path("run") / "checkpoints/step-5/state.json";
  const auto written = fs::last_write_time(state);
  const Result result = run(resumed("run"));
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(fs::last_write_time(state), written);  // the checkpoint was not replaced
  EXPECT_NE(result.output.find("0 steps in 0 s"), std::string::npos) << result.output;
  EXPECT_TRUE(support::read_bytes(path("run") / "model.safetensors") == expected);
  EXPECT_EQ(steps("run"), one_to(5));
}

TEST_F(ResumeTest, KeepsTheNewestCheckpoints) {
  weights("run", tiny("run", {"--steps", "7", "--save-every", "2", "--keep", "3"}));
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator(path("run") / "checkpoints")) {
    found.insert(entry.path().filename().string());
  }
  EXPECT_EQ(found, (std::set<std::string>{"step-4", "step-6", "step-7"}));
}

}  // namespace
}  // namespace rev::train
