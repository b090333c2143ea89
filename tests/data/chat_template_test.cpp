#include "rev/data/chat_template.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "support/throws.h"

namespace rev::data {
namespace {

const std::vector<Message> kQuestion = {{"user", "Hi"}};
const std::vector<Message> kConversation = {
    {"system", "Be brief."}, {"user", " Hi "}, {"assistant", "Yes? "}, {"user", "No."}};

TEST(ChatTemplateTest, ChatMl) {
  EXPECT_EQ(ChatTemplate("chatml").apply(kQuestion, true),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(ChatTemplate("smollm2").apply(kQuestion),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
  EXPECT_EQ(ChatTemplate("smollm2").apply(kConversation),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
            "<|im_start|>assistant\nYes? <|im_end|>\n<|im_start|>user\nNo.<|im_end|>\n");
  EXPECT_EQ(ChatTemplate("qwen2").apply({}, true), "<|im_start|>assistant\n");
}

TEST(ChatTemplateTest, Llama2) {
  const ChatTemplate llama2("llama2");
  EXPECT_EQ(llama2.apply(kQuestion, true), "<s>[INST] Hi [/INST]");
  EXPECT_EQ(llama2.apply(kConversation),
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Yes? </s><s>[INST] No. [/INST]");
  EXPECT_THROW_WITH(llama2.apply({{"user", "a"}, {"user", "b"}}),
                    "message 1 is of the role \"user\", expected assistant");
  EXPECT_THROW_WITH(llama2.apply({{"system", "a"}}), "needs one of the user after it");
}

TEST(ChatTemplateTest, Llama3) {
  EXPECT_EQ(ChatTemplate("llama3").apply(kConversation, true),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nYes?<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nNo.<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(ChatTemplateTest, IsRecognisedByTheModelsTemplate) {
  const std::string loop =
      "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n'}}{% endfor %}";
  const auto name = [](const std::string& jinja) { return ChatTemplate::recognise(jinja).name(); };
  EXPECT_EQ(name(loop), "chatml");
  for (const char* newline : {"\n", "\\n"}) {  // as a file's parser may leave it
    EXPECT_EQ(name("{{ '<|im_start|>system" + std::string(newline) +
                   "You are a helpful AI assistant named SmolLM, trained by Hugging "
                   "Face<|im_end|>' }}" +
                   loop),
              "smollm2");
  }
  EXPECT_EQ(name("{% if tools %}{% endif %}'<|im_start|>system\\nYou are Qwen, created by Alibaba "
                 "Cloud. You are a helpful assistant.<|im_end|>\\n'"),
            "qwen2.5");
  EXPECT_EQ(name("{{'<|start_header_id|>' + message['role'] + '<|end_header_id|>'}}"), "llama3");
  EXPECT_EQ(name("'<<SYS>>\\n' + s; bos_token + '[INST] ' + content.strip() + ' [/INST]'"),
            "llama2");
  EXPECT_THROW_WITH(name(loop + "{% if tools %}"),
                    "is of no known kind (it begins with \"{% for m");
  EXPECT_THROW_WITH(name("{{'<|start_header_id|>' + date_string}}"), "known are chatml");
  EXPECT_THROW_WITH(name("{{ '<|im_start|>system\nYou are Bob.<|im_end|>' }}" + loop),
                    "no known kind");
  EXPECT_THROW_WITH(name("<|user|>"), "no known kind");
  EXPECT_THROW_WITH(name("'<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a "
                         "helpful assistant.<|im_end|>\\n' + '<think>'"),
                    "no known kind");
  EXPECT_THROW_WITH(name(""), "has no chat template");
  EXPECT_THROW_WITH(ChatTemplate("alpaca"),
                    "no chat template is called \"alpaca\"; there are chatml");
  EXPECT_THROW_WITH(apply_chat_template(*byte_tokenizer(), kQuestion), "has no chat template");
}

}  // namespace
}  // namespace rev::data
