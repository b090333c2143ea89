#include "rev/data/tokenizer.h"

#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

#include "data/bpe.h"
#include "data/byte_alphabet.h"
#include "data/charsmap.h"
#include "data/splitter.h"
#include "data/tokenizer_spec.h"
#include "data/word_cache.h"
#include "rev/data/utf8.h"
#include "support/throws.h"

namespace rev::data {
namespace {

using Kind = NormalStep::Kind;

/// All bytes, and words of them by merges: tokens 0 to 255 are the bytes.
TokenizerSpec make_byte_level(const std::vector<std::pair<std::string, std::string>>& merges) {
  TokenizerSpec spec;
  spec.name = "spec";
  for (int b = 0; b < 256; ++b) {
    spec.pieces.push_back(to_letters(std::string(1, static_cast<char>(b))));
  }
  for (const auto& [left, right] : merges) spec.pieces.push_back(left + right);
  spec.merges = merges;
  set_words(spec, "gpt2");
  return spec;
}

AddedToken added(const std::string& text, std::int64_t id, bool special = true) {
  AddedToken token;
  token.text = text;
  token.id = id;
  token.special = special;
  return token;
}

TEST(TokenizerTest, BytesAreTheirNumbers) {
  const TokenizerPtr bytes = byte_tokenizer();
  const std::string text("a\0\xff\n", 4);
  EXPECT_EQ(bytes->encode(text), (TokenIds{'a', 0, 255, '\n'}));
  EXPECT_EQ(bytes->decode_bytes(bytes->encode(text)), text);
  EXPECT_EQ(bytes->decode({'a', 255}), "a\xEF\xBF\xBD");
  EXPECT_EQ(bytes->vocab(), 256);
  EXPECT_EQ(bytes->find("\xff"), 255);
  EXPECT_FALSE(bytes->bos() || bytes->eos() || bytes->is_special(0));
  EXPECT_THROW_WITH(bytes->decode({256}), "token 256 is outside of the vocabulary of 256");
}

TEST(TokenizerTest, MergesJoinByRankThenFromTheLeft) {
  const TokenizerPtr t = make_tokenizer(make_byte_level({{"b", "c"}, {"a", "b"}, {"a", "a"}}));
  EXPECT_EQ(t->encode("abc"), (TokenIds{'a', 256}));  // bc before ab
  EXPECT_EQ(t->encode("aaa"), (TokenIds{258, 'a'}));  // the left of two equals
  EXPECT_EQ(t->encode("aab"), (TokenIds{'a', 257}));  // ab before aa
  EXPECT_EQ(t->encode("a bc"), (TokenIds{'a', ' ', 256}));
}

TEST(TokenizerTest, AWordThatIsAPieceNeedsNoMergesWhereTheyAreIgnored) {
  TokenizerSpec spec = make_byte_level({{"b", "c"}});
  spec.pieces.push_back("abd");
  EXPECT_EQ(make_tokenizer(spec)->encode("abd"), (TokenIds{'a', 'b', 'd'}));
  spec.ignore_merges = true;
  EXPECT_EQ(make_tokenizer(spec)->encode("abd"), (TokenIds{257}));
}

TEST(TokenizerTest, NeighboursOfAByteWithoutAPieceMeet) {
  TokenizerSpec spec = make_byte_level({{"!", "?"}});  // one word, as no letter would be
  spec.pieces['#'].clear();
  EXPECT_EQ(make_tokenizer(spec)->encode("!#?#"), (TokenIds{256}));
}

TEST(TokenizerTest, OfEqualMergesTheLastCounts) {
  const TokenizerPtr t = make_tokenizer(make_byte_level({{"a", "b"}, {"b", "c"}, {"a", "b"}}));
  EXPECT_EQ(t->encode("abc"), (TokenIds{'a', 257}));
}

// As SentencePiece has it: they stand for themselves and are no part of another.
TEST(TokenizerTest, UserDefinedPiecesJoinWithNothing) {
  TokenizerSpec spec;
  spec.name = "spec";
  spec.pieces = {"<unk>", "h", "e", "l", "o", "\u2581", "ell", "ello", "h\u2581e"};
  spec.types.assign(spec.pieces.size(), PieceType::Normal);
  spec.types[0] = PieceType::Unknown;
  spec.types[6] = spec.types[8] = PieceType::UserDefined;
  spec.unknown = 0;
  spec.join_pieces = true;
  EXPECT_EQ(make_tokenizer(spec)->encode("hello"), (TokenIds{1, 6, 4}));
  EXPECT_EQ(make_tokenizer(spec)->encode("h\u2581e"), (TokenIds{8}));  // and are not cut
}

TEST(TokenizerTest, PiecesJoinByTokenOrScore) {
  TokenizerSpec spec = make_byte_level({});
  for (const char* piece : {"ab", "bc", "abc"}) spec.pieces.emplace_back(piece);
  EXPECT_EQ(make_tokenizer(spec)->encode("abc"), (TokenIds{'a', 'b', 'c'}));  // no merges are none
  spec.join_pieces = true;
  EXPECT_EQ(make_tokenizer(spec)->encode("abc"), (TokenIds{258}));
  EXPECT_EQ(make_tokenizer(spec)->encode("bcab"), (TokenIds{257, 256}));
  spec.scores.assign(spec.pieces.size(), 0.0);
  spec.scores[256] = 1;
  spec.scores[257] = 2;  // bc first, and then abc, whose parts are a and bc
  EXPECT_EQ(make_tokenizer(spec)->encode("abc"), (TokenIds{258}));
  EXPECT_EQ(make_tokenizer(spec)->encode("abcd"), (TokenIds{258, 'd'}));
}

// Long words are merged by a heap, short ones by looking at all pairs.
TEST(TokenizerTest, LongWordsAreMergedAsShortOnesAre) {
  const std::vector<std::pair<std::string, std::string>> merges = {
      {"a", "b"},     {"b", "a"}, {"ab", "ab"}, {"a", "a"},
      {"abab", "ab"}, {"b", "b"}, {"aa", "bb"}, {"ba", "ab"}};
  const TokenizerSpec spec = make_byte_level(merges);
  std::vector<std::string> texts;
  for (const std::string& piece : spec.pieces) texts.push_back(*from_letters(piece));
  const Bpe bpe(spec, texts);
  const auto naive = [&](const std::string& word) {
    std::vector<std::string> parts;
    for (const char c : word) parts.emplace_back(1, c);
    for (;;) {
      std::size_t best = merges.size(), place = 0;
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        for (std::size_t rank = 0; rank < best; ++rank) {
          if (merges[rank].first != parts[i] || merges[rank].second != parts[i + 1]) continue;
          best = rank;
          place = i;
        }
      }
      if (best == merges.size()) return parts;
      parts[place] += parts[place + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(place) + 1);
    }
  };
  std::uint32_t state = 7;
  for (const std::size_t n : {1, 2, 3, 10, 63, 64, 65, 66, 200, 1000}) {
    std::string word;
    while (word.size() < n) {
      state = state * 1664525u + 1013904223u;
      word += "ab"[state >> 31];
    }
    Bpe::Scratch scratch;
    TokenIds ids;
    bpe.encode_word(word, scratch, ids);
    std::vector<std::string> parts;
    for (const std::int64_t id : ids) parts.push_back(texts[static_cast<std::size_t>(id)]);
    EXPECT_EQ(parts, naive(word)) << word;
  }
}

TEST(TokenizerTest, TextThatIsNotUtf8KeepsItsBytes) {
  const TokenizerPtr t = make_tokenizer(make_byte_level({{"a", "b"}, {"\u00ff", "\u00ff"}}));
  const std::string text = "ab\xff\xff ab\xe2\x82 \xed\xa0\x80\xf5";
  EXPECT_EQ(t->encode("\xff\xff"), (TokenIds{257}));
  EXPECT_EQ(t->encode(text).front(), 256);
  EXPECT_EQ(t->decode_bytes(t->encode(text)), text);
  EXPECT_EQ(t->decode(t->encode("a\xe2\x82z")), "a\xEF\xBF\xBDz");
}

TEST(TokenizerTest, SpecialTokensAreReadAddedAndLeftOut) {
  TokenizerSpec spec = make_byte_level({});
  spec.pieces.insert(spec.pieces.end(), {"<s>", "</s>", "<s><s>", "new"});
  spec.added = {added("<s>", 256), added("</s>", 257), added("<s><s>", 258),
                added("new", 259, false)};
  spec.before = {256};
  spec.after = {257};
  const TokenizerPtr t = make_tokenizer(spec);
  EXPECT_EQ(t->encode("a<s>b"), (TokenIds{'a', 256, 'b'}));
  EXPECT_EQ(t->encode("<s><s><s>"), (TokenIds{258, 256}));  // the longest first
  EXPECT_EQ(t->encode("a", {true, true}), (TokenIds{256, 'a', 257}));
  EXPECT_EQ(t->encode("<s>new", {false, false}), (TokenIds{'<', 's', '>', 259}));
  EXPECT_EQ(t->decode({256, 'a', 259, 257}), "<s>anew</s>");
  EXPECT_EQ(t->decode({256, 'a', 259, 257}, true), "anew");
  EXPECT_TRUE(t->is_special(256));
  EXPECT_FALSE(t->is_special(259));
  EXPECT_EQ(t->find("</s>"), 257);
  EXPECT_EQ(t->piece(32), "\u0120");
  EXPECT_FALSE(t->find("nothing"));
}

TEST(TokenizerTest, UnknownCharactersAreSaidOnceOrAsBytes) {
  TokenizerSpec spec;
  spec.name = "spec";
  spec.pieces = {"<unk>", "a", "b", "ab"};
  spec.merges = {{"a", "b"}};
  spec.unknown = 0;
  EXPECT_EQ(make_tokenizer(spec)->encode("ab\u00e9\u00e9b"), (TokenIds{3, 0, 2}));
  spec.fuse_unknown = false;
  EXPECT_EQ(make_tokenizer(spec)->encode("ab\u00e9\u00e9b"), (TokenIds{3, 0, 0, 2}));
  EXPECT_EQ(make_tokenizer(spec)->encode("\xff"), (TokenIds{0}));
  spec.byte_fallback = true;
  EXPECT_THROW_WITH(make_tokenizer(spec), "byte 0 has no piece");
  const char* digits = "0123456789ABCDEF";
  for (int b = 0; b < 256; ++b) {
    spec.pieces.push_back(std::string("<0x") + digits[b / 16] + digits[b % 16] + ">");
  }
  const TokenizerPtr t = make_tokenizer(spec);
  EXPECT_EQ(t->encode("\u00e9"), (TokenIds{4 + 0xc3, 4 + 0xa9}));
  EXPECT_EQ(t->decode_bytes({4 + 0xc3, 4 + 0xa9, 1}),
            "\u00e9"
            "a");
  EXPECT_EQ(t->decode({4 + 0xc3}), "\uFFFD");
}

TEST(TokenizerTest, UnigramTakesTheLikeliestCut) {
  TokenizerSpec spec;
  spec.name = "spec";
  spec.algorithm = TokenizerSpec::Algorithm::Unigram;
  spec.pieces = {"<unk>", "a", "b", "ab", "aba"};
  spec.scores = {0, -2, -2, -3, -3.5};
  spec.unknown = 0;
  const TokenizerPtr t = make_tokenizer(spec);
  EXPECT_EQ(t->encode("ab"), (TokenIds{3}));
  EXPECT_EQ(t->encode("abab"), (TokenIds{4, 2}));  // -5.5 against -6
  EXPECT_EQ(t->encode("a\u00e9\u00e9"), (TokenIds{1, 0}));
  spec.unknown.reset();
  EXPECT_THROW_WITH(make_tokenizer(spec), "needs an unknown token");
}

TEST(TokenizerTest, KnownWaysOfSplitting) {
  const auto split = [](const std::string& model, const std::string& text) {
    TokenizerSpec spec;
    set_words(spec, model);
    std::string out;
    PatternScratch scratch;
    const Splitter splitter(spec);
    splitter(text, true, scratch, [&](std::string_view word) { out += std::string(word) + "|"; });
    return out;
  };
  EXPECT_EQ(split("gpt2", "it's  1234 ok\n\n"), "it|'s| | 1234| ok|\n\n|");
  EXPECT_EQ(split("smollm", "it's  12 ok"), "it|'s|  |1|2| ok|");
  EXPECT_EQ(split("llama3", "IT'S  12345 ok!\n\n x"), "IT|'S| | |123|45| ok|!\n\n| x|");
  EXPECT_EQ(split("qwen2", "IT'S 123"), "IT|'S| |1|2|3|");
  EXPECT_EQ(split("gpt2", "a\u180e b"), "a|\u180e| b|");  // no white space since Unicode 6.3
  TokenizerSpec spec;
  spec.name = "spec";
  EXPECT_THROW_WITH(set_words(spec, "gpt5"), "\"gpt5\"; there are gpt2, smollm, llama3 and qwen2");
}

TEST(TokenizerTest, DigestsTellWhatMakesOtherTokens) {
  const TokenizerSpec spec = make_byte_level({{"a", "b"}, {"b", "c"}});
  const auto digest_of = [&](const auto& change) {
    TokenizerSpec changed = spec;
    change(changed);
    return make_tokenizer(changed)->digest();
  };
  const std::uint64_t same = make_tokenizer(spec)->digest();
  EXPECT_EQ(digest_of([](auto& s) { s.name = "another file"; }), same);
  EXPECT_EQ(digest_of([](auto& s) { s.chat_template = "x"; }), same);
  EXPECT_NE(digest_of([](auto& s) { std::swap(s.merges[0], s.merges[1]); }), same);
  EXPECT_NE(digest_of([](auto& s) { std::swap(s.pieces[256], s.pieces[257]); }), same);
  EXPECT_NE(digest_of([](auto& s) { s.eos = 0; }), same);
  EXPECT_NE(digest_of([](auto& s) { s.split[0].invert = true; }), same);
  EXPECT_NE(digest_of([](auto& s) { s.added = {added("ab", 256, false)}; }), same);
  EXPECT_NE(digest_of([](auto& s) { s.after = {0}; }), digest_of([](auto& s) { s.before = {0}; }));
}

TEST(TokenizerTest, ThreadsShareATokenizer) {
  const TokenizerPtr t = make_tokenizer(make_byte_level({{"a", "b"}, {"ab", "ab"}}));
  std::string text;
  for (int i = 0; i < 2000; ++i) text += std::string(static_cast<std::size_t>(i % 7), 'a') + "bab ";
  const TokenIds expected = t->encode(text);
  std::vector<TokenIds> got(4);
  std::vector<std::thread> threads;
  for (TokenIds& ids : got) threads.emplace_back([&] { ids = t->encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const TokenIds& ids : got) EXPECT_EQ(ids, expected);
}

TEST(TokenizerTest, TheCacheOfWordsTellsThemApartAndForgets) {
  WordCache cache;
  const auto word = [](int i) {
    return std::to_string(i).append(static_cast<std::size_t>(i % 40), 'x');
  };
  for (int i = 0; i < 100'000; ++i) {
    TokenIds out = {7};
    ASSERT_FALSE(cache.append(word(i), out)) << i;
    const TokenIds tokens(static_cast<std::size_t>(i % 3), i);
    cache.insert(word(i), tokens.data(), tokens.size());
    ASSERT_TRUE(cache.append(word(i), out));
    ASSERT_EQ(TokenIds(out.begin() + 1, out.end()), tokens);
  }
  TokenIds out;
  EXPECT_FALSE(cache.append(word(0), out));
  EXPECT_TRUE(cache.append(word(99'998), out));
  EXPECT_EQ(out, TokenIds(99'998 % 3, 99'998));
}

TEST(TokenizerTest, RefusesWhatCannotBe) {
  TokenizerSpec spec = make_byte_level({{"a", "b"}});
  const auto expect_refused = [&](const auto& change, const std::string& sentence) {
    TokenizerSpec changed = spec;
    change(changed);
    EXPECT_THROW_WITH(make_tokenizer(changed), sentence);
  };
  expect_refused([](auto& s) { s.pieces.clear(); }, "spec: expected from 1 to");
  expect_refused([](auto& s) { s.merges.emplace_back("a", "c"); },
                 "spec: merge 1 (\"a\" and \"c\") needs the piece \"ac\", which is not there");
  expect_refused([](auto& s) { s.scores = {1}; }, "there are 257 pieces but 1 scores of pieces");
  expect_refused([](auto& s) { s.bos = 257; },
                 "the beginning of a text is token 257, there are 257");
  expect_refused([](auto& s) { s.added = {added("<s>", -1)}; },
                 "\"<s>\" is token -1, there are 257");
  expect_refused([](auto& s) { s.split[0].pattern = "(a"; },
                 "spec: pattern of words: not a regular expression");
  expect_refused(
      [](auto& s) {
        s.normalise = {{Kind::Replace, "", "x"}};
      },
      "a normaliser replaces nothing");
  expect_refused(
      [](auto& s) {
        s.normalise = {{Kind::Charsmap, "abcdefgh", ""}};
      },
      "not a compiled map of characters");
  expect_refused([](auto& s) { s.replace = {{"", "x"}}; }, "a decoder replaces nothing");
  const std::string longest = std::string("\4\0\0\0\0\0\0\0", 8).append(257, 'x').append(1, '\0');
  expect_refused(
      [&](auto& s) {
        s.normalise = {{Kind::Charsmap, longest, ""}};
      },
      "a character would become 257 bytes, expected at most 256");
  const std::string unended("\4\0\0\0\0\0\0\0x", 9);
  expect_refused(
      [&](auto& s) {
        s.normalise = {{Kind::Charsmap, unended, ""}};
      },
      "its trie would have 4 of 5 bytes");
  const TokenizerPtr t = make_tokenizer(spec);
  EXPECT_THROW_WITH(t->decode({257}), "token 257 is outside of the vocabulary of 257");
  EXPECT_THROW_WITH(t->piece(-1), "token -1 is outside");
}

TEST(TokenizerTest, APatternThatNeverEndsGivesUp) {
  TokenizerSpec spec = make_byte_level({});
  spec.split[0].pattern = "(?:a|aa)+$";
  const TokenizerPtr t = make_tokenizer(spec);
  EXPECT_THROW_WITH(t->encode(std::string(100, 'a').append("b")),
                    "pattern of words: gives up at byte 0");
}

TEST(TokenizerTest, MillionsOfEqualCharactersAreOneWordAmongOthers) {
  const TokenizerPtr t =
      make_tokenizer(make_byte_level({{"a", "a"}, {"aa", "aa"}, {"\u0120", "\u0120"}}));
  for (const char c : {'a', ' ', '\n', '!', '1'}) {
    const std::string text = std::string(1'000'000, c) + "b";
    EXPECT_EQ(t->decode_bytes(t->encode(text)), text);
  }
}

TEST(TokenizerTest, ReplacesWhatIsNotUtf8) {
  const std::string fffd = "\xEF\xBF\xBD";
  EXPECT_EQ(replace_non_utf8("a\xe2\x82z", Replace::Subpart), "a" + fffd + "z");
  EXPECT_EQ(replace_non_utf8("a\xe2\x82z", Replace::Byte), "a" + fffd + fffd + "z");
  EXPECT_EQ(replace_non_utf8("\xf0\x80\x80", Replace::Subpart), fffd + fffd + fffd);
  EXPECT_EQ(replace_non_utf8("\xed\xa0\x80", Replace::Subpart), fffd + fffd + fffd);
  EXPECT_EQ(replace_non_utf8(std::string("a\0b", 3), Replace::Byte), std::string("a\0b", 3));
  EXPECT_EQ(find_non_utf8(std::string("a\0b\xff", 4)), 3u);
  EXPECT_EQ(count_non_utf8("\xff\xfe\xe2\x82g"), 4u);
  for (const char32_t c : {U'\0', U'a', U'\u00e9', U'\u2581', U'\U0001F600', U'\U0010FFFF'}) {
    std::string text;
    append_character(c, text);
    EXPECT_EQ(text.size(), character_bytes(text[0]));
    EXPECT_EQ(read_character(text), c);
  }
}

}  // namespace
}  // namespace rev::data
