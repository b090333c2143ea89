#include "rev/data/chat_template.h"

#include <algorithm>
#include <array>
#include <c10/util/Exception.h>
#include <initializer_list>
#include <string_view>

#include "data/character.h"
#include "io/json.h"

namespace rev::data {
namespace {

struct ChatMl {
  const char* name;
  const char* system;  // where a conversation begins with none; null: nothing
};
constexpr std::array<ChatMl, 4> kChatMl = {{
    {"chatml", nullptr},
    {"smollm2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {"qwen2", "You are a helpful assistant."},
    {"qwen2.5", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
}};
constexpr const char* kNames = "chatml, smollm2, qwen2, qwen2.5, llama2 and llama3";

const ChatMl* find_chat_ml(const std::string& name) {
  for (const ChatMl& kind : kChatMl) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// Jinja's trim.
std::string trimmed(const std::string& text) { return std::string(strip_left(strip_right(text))); }

std::string chat_ml(const ChatMl& kind, const std::vector<Message>& messages, bool prompt) {
  std::string out;
  const auto add = [&](const std::string& role, const std::string& content) {
    out += "<|im_start|>" + role + "\n" + content + "<|im_end|>\n";
  };
  if (kind.system != nullptr && !messages.empty() && messages[0].role != "system") {
    add("system", kind.system);
  }
  for (const Message& message : messages) add(message.role, message.content);
  return prompt ? out + "<|im_start|>assistant\n" : out;
}

std::string llama3(const std::vector<Message>& messages, bool prompt) {
  std::string out = messages.empty() ? "" : "<|begin_of_text|>";
  const auto header = [](const std::string& role) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n";
  };
  for (const Message& message : messages) {
    out += header(message.role) + trimmed(message.content) + "<|eot_id|>";
  }
  return prompt ? out + header("assistant") : out;
}

std::string llama2(const std::vector<Message>& messages) {
  std::string out;
  std::string system;
  std::size_t first = 0;
  if (!messages.empty() && messages[0].role == "system") {
    system = "<<SYS>>\n" + messages[0].content + "\n<</SYS>>\n\n";
    first = 1;
  }
  for (std::size_t i = first; i < messages.size(); ++i) {
    const Message& message = messages[i];
    const bool user = (i - first) % 2 == 0;
    TORCH_CHECK(message.role == (user ? "user" : "assistant"), "chat template llama2: message ", i,
                " is of the role ", io::quoted(message.role), ", expected ",
                user ? "user" : "assistant", ": they take turns");
    if (user) {
      out.append("<s>[INST] ");
      out.append(trimmed((i == first ? system : "") + message.content)).append(" [/INST]");
    } else {
      out.append(1, ' ').append(trimmed(message.content)).append(" </s>");
    }
  }
  TORCH_CHECK(first == 0 || messages.size() > 1,
              "chat template llama2: a system message needs one of the user after it");
  return out;
}

}  // namespace

ChatTemplate::ChatTemplate(const std::string& name) : name_(name) {
  TORCH_CHECK(find_chat_ml(name) != nullptr || name == "llama2" || name == "llama3",
              "no chat template is called ", io::quoted(name), "; there are ", kNames);
}

ChatTemplate ChatTemplate::recognise(const std::string& jinja) {
  TORCH_CHECK(!jinja.empty(), "the tokenizer has no chat template; name one of ", kNames);
  // What a template prints beside messages makes it another one, whatever its marks; what
  // Qwen2.5's does with tools a conversation without them does not meet.
  const auto has_any = [&](std::initializer_list<const char*> parts) {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const char* part) { return contains(jinja, part); });
  };
  const bool plain = !has_any({"strftime", "date_string", "<think>"});
  const bool knows_tools = has_any({"tool"});
  // A line's end as the file has it, or as Jinja writes it.
  const auto has_system = [&](const std::string& text) {
    return has_any(
        {("system\n" + text + "<|im_end|>").c_str(), ("system\\n" + text + "<|im_end|>").c_str()});
  };
  std::string name;
  if (contains(jinja, "<|im_start|>")) {
    for (const ChatMl& kind : kChatMl) {
      const bool fits = kind.system != nullptr ? has_system(kind.system)
                                               : !has_any({"You are", "<|im_start|>system"});
      const bool may_know_tools = kind.name == std::string_view("qwen2.5");
      if (fits && plain && (!knows_tools || may_know_tools)) name = kind.name;
    }
  } else if (plain && !knows_tools && contains(jinja, "<|start_header_id|>")) {
    name = "llama3";
  } else if (plain && !knows_tools && contains(jinja, "<<SYS>>\\n") &&
             contains(jinja, "' [/INST]'")) {
    name = "llama2";
  }
  TORCH_CHECK(!name.empty(), "the tokenizer's chat template is of no known kind (it begins with ",
              io::quoted(jinja.substr(0, 60)), "); known are ", kNames);
  return ChatTemplate(name);
}

std::string ChatTemplate::apply(const std::vector<Message>& messages,
                                bool add_generation_prompt) const {
  if (const ChatMl* kind = find_chat_ml(name_))
    return chat_ml(*kind, messages, add_generation_prompt);
  return name_ == "llama3" ? llama3(messages, add_generation_prompt) : llama2(messages);
}

std::string apply_chat_template(const Tokenizer& tokenizer, const std::vector<Message>& messages,
                                bool add_generation_prompt) {
  return ChatTemplate::recognise(tokenizer.chat_template()).apply(messages, add_generation_prompt);
}

}  // namespace rev::data
