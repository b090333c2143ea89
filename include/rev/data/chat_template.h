// Conversations as the text that chat models were trained on. Models say how by a template in
// Jinja; those of the kinds below are known here and written without an interpreter.
#pragma once

#include <string>
#include <vector>

#include "rev/data/tokenizer.h"

namespace rev::data {

struct Message {
  std::string role;  ///< system, user or assistant
  std::string content;
};

/// A known template; `name` is one of
///
/// - `chatml`: `<|im_start|>ROLE\nCONTENT<|im_end|>\n` for each message.
/// - `smollm2`, `qwen2`, `qwen2.5`: the same, with a system message of the model's own where the
///   conversation begins with none.
/// - `llama2`: `<s>[INST] <<SYS>>\nSYSTEM\n<</SYS>>\n\nUSER [/INST] ASSISTANT </s>`. Roles
/// alternate.
/// - `llama3`: `<|begin_of_text|>`, then
///   `<|start_header_id|>ROLE<|end_header_id|>\n\nCONTENT<|eot_id|>` for each message.
class ChatTemplate {
 public:
  /// Throws c10::Error for another name, with those that are known.
  explicit ChatTemplate(const std::string& name);

  /// The kind that a model's Jinja template is of (Tokenizer::chat_template). Throws c10::Error
  /// where it is of none: a template that also knows tools or dates is another one.
  static ChatTemplate recognise(const std::string& jinja);

  const std::string& name() const { return name_; }

  /// The text of a conversation, to be encoded with EncodeOptions::parse_special and without
  /// add_special: what begins it is in the text. add_generation_prompt: end it with what precedes
  /// the assistant's answer.
  ///
  /// Contents are taken as they are: one that spells a special token makes one. Throws c10::Error
  /// for a conversation that the template has no place for.
  std::string apply(const std::vector<Message>& messages, bool add_generation_prompt = false) const;

 private:
  std::string name_;
};

/// The same by the template that the tokenizer's file has.
std::string apply_chat_template(const Tokenizer& tokenizer, const std::vector<Message>& messages,
                                bool add_generation_prompt = false);

}  // namespace rev::data
