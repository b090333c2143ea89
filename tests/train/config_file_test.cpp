#include "rev/train/config_file.h"

#include <gtest/gtest.h>

#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::train {
namespace {

const Settings kSettings = {{"lr", 0.1},
                            {"steps", int64_t{5}},
                            {"bias", true},
                            {"scheme", std::string("midpoint")},
                            {"data", std::vector<std::string>{"a", "b"}},
                            {"h", 1.0},
                            {"eos_token_id", std::vector<int64_t>{3, -4}},
                            {"rope_scaling.factor", 8.0},
                            {"rope_scaling.rope_type", std::string("llama3")},
                            {"n_inner", std::monostate()}};

TEST(ConfigFileTest, ReadsWhatItWrote) {
  support::TempFolder folder;
  write_config(folder / "config.json", {{{"n_layer", int64_t{3}}}, kSettings});
  const ConfigFile config = read_config(folder / "config.json");
  EXPECT_EQ(config.run, kSettings);
  EXPECT_EQ(config.model, (Settings{{"n_layer", int64_t{3}}}));
  EXPECT_EQ(from_json(to_json(kSettings), "here"), kSettings);
}

TEST(ConfigFileTest, NamesWithPointsAreThoseOfObjects) {
  EXPECT_EQ(to_json({{"a", int64_t{1}}, {"b.c", true}, {"b.d.e", int64_t{2}}}),
            "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": true,\n    \"d\": {\n      \"e\": 2\n    }\n  "
            "}\n}\n");
}

TEST(ConfigFileTest, ReadsFilesOfOthersAndPassesOverWhatItDoesNotKnow) {
  support::TempFolder folder;
  support::write_bytes(
      folder / "config.json",
      R"({"n_layer": 3, "a": {"b": 1, "c": {"d": true}, "e": {}}, "x": [1, "2"], "y": [1.5]})");
  const ConfigFile config = read_config(folder / "config.json");
  EXPECT_TRUE(config.run.empty());
  EXPECT_EQ(config.model,
            (Settings{{"n_layer", int64_t{3}}, {"a.b", int64_t{1}}, {"a.c.d", true}}));
  support::write_bytes(folder / "list.json", "[1]");
  EXPECT_THROW_WITH(read_config(folder / "list.json"), "list.json: expected a JSON object");
  EXPECT_THROW_WITH(read_config(folder / "none.json"), "none.json");
  support::write_bytes(folder / "odd.json", R"({"rev": 1})");
  EXPECT_THROW_WITH(read_config(folder / "odd.json"), "odd.json: expected \"rev\" to be an object");
}

TEST(ConfigFileTest, NamesEverySettingThatDiffers) {
  Settings now = kSettings;
  EXPECT_NO_THROW(check_same_settings(kSettings, now, {}, "run"));
  now["lr"] = 0.2;
  now["scheme"] = std::string("leapfrog");
  now["new"] = int64_t{1};
  EXPECT_THROW_WITH(check_same_settings(kSettings, now, {"lr"}, "run"),
                    "run: saved by a run with other settings: new was not there and is now 1, "
                    "scheme was midpoint and is now leapfrog");
}

TEST(ConfigFileTest, SaysSettingsAsAPersonWould) {
  EXPECT_EQ(to_text(0.0003), "0.0003");
  EXPECT_EQ(to_text(true), "true");
  EXPECT_EQ(to_text(std::string("grid")), "grid");
  EXPECT_EQ(to_text(std::vector<std::string>{"a", "b"}), "a b");
}

TEST(ConfigFileTest, ListsSettingsInShortLines) {
  EXPECT_EQ(list_settings({{"h", 0.5}, {"steps", int64_t{5}}}), "settings: h 0.5; steps 5.");
  const std::string text =
      list_settings({{"a", std::string(60, 'a')}, {"b", std::string(60, 'b')}});
  EXPECT_EQ(text, "settings: a " + std::string(60, 'a') + ";\n  b " + std::string(60, 'b') + ".");
}

}  // namespace
}  // namespace rev::train
