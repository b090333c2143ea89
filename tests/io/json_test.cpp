#include "io/json.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::io {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

TEST(JsonTest, ReadsAnObjectFromAFile) {
  support::TempFolder folder;
  support::write_bytes(folder / "a.json", "{\"a\": {\"b\": [1, 2.5, null]}}\n");
  EXPECT_EQ(read_json(folder / "a.json"), (json{{"a", {{"b", {1, 2.5, nullptr}}}}}));
  EXPECT_THROW_WITH(read_json(folder / "none.json"), "none.json: cannot be read");
}

TEST(JsonTest, SaysWhereTextIsNotJson) {
  EXPECT_THROW_WITH(parse_json("", "f"), "f: not JSON at line 1, column 1");
  EXPECT_THROW_WITH(parse_json("{\"a\": 1,\n  \"b\": x}", "f"), "f: not JSON at line 2, column 8");
  EXPECT_THROW_WITH(parse_json("{\n\n\"a\": \"\xff\"}", "f"), "f: not JSON at line 3, column 7");
  EXPECT_THROW_WITH(parse_json("{}\n{}", "f"), "f: not JSON at line 2, column 1");
  EXPECT_THROW_WITH(parse_json("{\"a\": NaN}", "f"), "f: not JSON at line 1, column 7");
}

TEST(JsonTest, RefusesWhatIsNoPlainObject) {
  EXPECT_THROW_WITH(parse_json("[1]", "f"), "f: expected a JSON object");
  EXPECT_THROW_WITH(parse_json("{\"a\": 1e999}", "f"), "f: holds a number out of range");
  EXPECT_THROW_WITH(parse_json(R"({"a": 1, "a": 1})", "f"), "f: names \"a\" twice");
  EXPECT_THROW_WITH(parse_json(R"({"b": {"a": 1, "c": {"a": 2}, "a": 1}})", "f"), "names \"a\" tw");
  EXPECT_THROW_WITH(parse_json(R"({"a": {"b": [[1]]}})", "f", 3), "f: nested deeper than 3 levels");
  EXPECT_NO_THROW(parse_json(R"({"a": {"b": [1]}})", "f", 3));
  EXPECT_THROW_WITH(parse_json("{\"a\":" + std::string(1'000'000, '['), "f"), "deeper than 64");
}

TEST(JsonTest, GivesValuesOfTheExpectedKind) {
  const json object = parse_json(
      R"({"bool": true, "int": -3, "float": 0.5, "string": "x", "list": ["a", "b"], "object": {}})",
      "f");
  EXPECT_EQ(get_json<bool>(object, "bool", "f"), true);
  EXPECT_EQ(get_json<std::int64_t>(object, "int", "f"), -3);
  EXPECT_EQ(get_json<double>(object, "float", "f"), 0.5);
  EXPECT_EQ(get_json<double>(object, "int", "f"), -3.0);
  EXPECT_EQ(get_json<std::string>(object, "string", "f"), "x");
  EXPECT_EQ(get_json<Strings>(object, "list", "f"), (Strings{"a", "b"}));
  EXPECT_TRUE(get_json<json::object_t>(object, "object", "f").empty());
}

TEST(JsonTest, SaysWhatWasExpectedAndWhatCame) {
  const json object = parse_json(
      R"({"bool": true, "big": 9223372036854775808, "float": 1.0, "mixed": ["a", 1]})", "f");
  EXPECT_THROW_WITH(get_json<std::string>(object, "no", "f"),
                    "f: has no \"no\", expected a string");
  EXPECT_THROW_WITH(get_json<std::string>(object, "bool", "f"),
                    "f: expected \"bool\" to be a string, got true");
  EXPECT_THROW_WITH(get_json<std::int64_t>(object, "big", "f"),
                    "\"big\" to be a whole number below 2^63, got 9223372036854775808");
  EXPECT_THROW_WITH(get_json<std::int64_t>(object, "float", "f"), "a whole number below 2^63, got");
  EXPECT_THROW_WITH(get_json<double>(object, "bool", "f"), "to be a number, got true");
  EXPECT_THROW_WITH(get_json<bool>(object, "float", "f"), "to be true or false, got 1.0");
  EXPECT_THROW_WITH(get_json<Strings>(object, "mixed", "f"),
                    "to be a list of strings, got [\"a\",1]");
  EXPECT_THROW_WITH(get_json<json::object_t>(object, "mixed", "f"), "to be an object, got [");
}

TEST(JsonTest, ShowsHostileValuesInOneShortLine) {
  const std::string key = "k\n" + std::string(1000, 'k');
  const json object = {{key, "v\n" + std::string(1000, 'v')}};
  const std::string message = support::message_of([&] { get_json<bool>(object, key, "f"); });
  EXPECT_LT(message.size(), 300u);
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace rev::io
