"""Makes tokenizers of every kind and says what they make of ten thousand lines of mixed Unicode, by the libraries that
define them: Hugging Face's transformers and tokenizers, sentencepiece, tiktoken.

tokenizer_oracle.py DATA OUT [SMOLLM2]: DATA holds corpora/ and tokenizers/, SMOLLM2 is a GGUF file of that model. Writes OUT/texts.json (a list of strings) and
for each case a folder with the tokenizer's file and expected.json: {"file", "parse": whether special tokens are read from the
text, "ids": tokens of each text, "special": the same of the first ones with what is added around them, "lossless":
whether decoding gives the text}.
"""
import json
import random
import shutil
import sys
import unicodedata
from pathlib import Path

import sentencepiece
import tiktoken
import tiktoken.load
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import AutoTokenizer, GPT2TokenizerFast, LlamaTokenizerFast, T5TokenizerFast

N_SPECIAL = 200  # texts that are encoded with special tokens too
N_VARIANT = 2000  # texts for what no model has quite so

SCRIPTS = [
    (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x250, 0x2AF), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x586),
    (0x5D0, 0x5EA), (0x621, 0x64A), (0x904, 0x939), (0x985, 0x9B9), (0xA05, 0xA39), (0xB85, 0xBB9), (0xE01, 0xE2E),
    (0xF40, 0xF6C), (0x10A0, 0x10C5), (0x1200, 0x1248), (0x1780, 0x17B3), (0x1100, 0x11FF), (0x3041, 0x3096),
    (0x30A1, 0x30FA), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x20000, 0x2A6DF),
    (0x10400, 0x1044F), (0x1D400, 0x1D7FF), (0xF900, 0xFAD9), (0xFB00, 0xFB06), (0xFF01, 0xFF9F), (0x1F170, 0x1F189),
]
MARKS = [(0x300, 0x36F), (0x591, 0x5BD), (0x64B, 0x65F), (0x93E, 0x94D), (0xE31, 0xE3A), (0x1AB0, 0x1ABE), (0x20D0, 0x20F0),
         (0x3099, 0x309A), (0xFE00, 0xFE0F)]
SYMBOLS = [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x2027), (0x2030, 0x205E),
           (0x20A0, 0x20BF), (0x2100, 0x214F), (0x2190, 0x23FF), (0x2500, 0x27BF), (0x3001, 0x303F), (0x1D100, 0x1D126)]
EMOJI = ["😀", "🚀", "🦙", "✅", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "🇫🇷🇯🇵", "😶‍🌫️", "❤️", "🧑🏿‍💻", "1️⃣", "©️", "🫠"]
DIGITS = [(0x30, 0x39), (0x660, 0x669), (0x966, 0x96F), (0xFF10, 0xFF19), (0x2150, 0x218B), (0xB2, 0xB3), (0x2460, 0x249B),
          (0x1D7CE, 0x1D7FF), (0x3007, 0x3007), (0x4E00, 0x4E03)]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\r", "\v", "\f", "\x1c", "\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u2009",
          "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", " " * 7, "\t\t", " \n ", "\u2581", "\u2581\u2581"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "'Ve", "'lL", "'\u017f", "’s", "''s", "'", "'x", "' s"]
ODD = ["\0", "\x01", "\x1b[0m", "\x7f", "!\x1d!", "a\x04b", "\x13the\x14", "\u200b", "\u200c", "\u200d", "\u200e", "\ufeff", "\ufffd", "\ufffe", "\U0010ffff", "\ue000",
       "\xad", "\u0378", "\u0130", "\u0131", "\xdf", "\u1e9e", "\u03c2", "\u212a", "\u01c5", "\u0345", "\u1fbe", "\u2126", "\u0344", "\u0958", "\u2adc",
       "<0x41>", "<unk", "< s>", "<|", "|>", "##a", "[UNK]", "\\n", "%20", "://", "Ġ", "Ċ", "\u0340", "\u1100\u1161\u11a8", "\uac00\u11a8"]


def pick(rng, ranges):
    low, high = rng.choice(ranges)
    return chr(rng.randint(low, high))


def is_settled(c):
    """Whether the versions of Unicode in use agree on it."""
    return unicodedata.category(c) != "Cn" or c in "\u0378\ufffe\U0010ffff"


def make_word(rng, words):
    kind = rng.randrange(14)
    if kind < 4:
        return rng.choice(words)
    if kind == 4:
        script = [rng.choice(SCRIPTS)]
        return "".join(pick(rng, script) for _ in range(rng.randint(1, 9)))
    if kind == 5:
        return "".join(pick(rng, SCRIPTS) + "".join(pick(rng, MARKS) for _ in range(rng.choice([0, 1, 1, 2, 4])))
                       for _ in range(rng.randint(1, 4)))
    if kind == 6:
        return "".join(pick(rng, DIGITS[:1] * 6 + DIGITS) for _ in range(rng.choice([1, 2, 3, 4, 5, 7, 12])))
    if kind == 7:
        return "".join(pick(rng, SYMBOLS) for _ in range(rng.choice([1, 1, 2, 3, 6])))
    if kind == 8:
        return rng.choice(EMOJI) * rng.choice([1, 1, 2])
    if kind == 9:
        return rng.choice(words) + rng.choice(CONTRACTIONS)
    if kind == 10:
        return rng.choice(ODD)
    if kind == 11:
        return rng.choice(words).upper() if rng.random() < 0.5 else rng.choice(words).title()
    if kind == 12:
        return rng.choice("abcxyz!.-=_ é日🙂") * rng.choice([2, 3, 8, 17, 70, 140])
    return pick(rng, MARKS) + rng.choice(words)


def make_texts(data, n):
    rng = random.Random(20240229)
    words = (data / "corpora/tinyshakespeare.txt").read_text().split()[:20000]
    texts = ["", " ", "\n", "  ", "Hello world", " Hello", "Hello ", "\u2581", "e\u0301", "<s>", "</s> a", "a<|endoftext|>b"]
    for file in sorted((data / "tokenizers/llama.cpp").glob("*.inp")):
        texts += file.read_text().split("\n__ggml_vocab_test__\n")
    while len(texts) < n:
        parts = []
        for _ in range(rng.choice([1, 2, 4, 8, 16])):
            parts.append(make_word(rng, words))
            parts.append(rng.choice(["", " ", " ", " ", " ", rng.choice(SPACES)]))
        if rng.random() < 0.5:
            parts.pop()
        texts.append("".join(c for c in "".join(parts) if is_settled(c)))
    return texts


class Cases:
    def __init__(self, out, texts):
        self.out, self.texts = out, texts

    def write(self, name, encode, file="tokenizer.json", special=None, lossless=False, parse=True, n=None):
        expected = {"file": file, "parse": parse, "ids": [encode(t) for t in self.texts[:n]],
                    "special": [special(t) for t in self.texts[:N_SPECIAL]] if special else [], "lossless": lossless}
        (self.out / name / "expected.json").write_text(json.dumps(expected))

    def folder(self, name):
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def variant(self, name, tokenizer, **how):
        self.hugging_face(name, tokenizer, n=N_VARIANT, **how)

    def hugging_face(self, name, tokenizer, **how):
        tokenizer.save(str(self.folder(name) / "tokenizer.json"))
        self.write(name, lambda t: tokenizer.encode(t, add_special_tokens=False).ids,
                   special=lambda t: tokenizer.encode(t).ids, **how)

    def sentencepiece(self, name, file, **how):
        shutil.copy(file, self.folder(name) / "tokenizer.model")
        processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
        # To SentencePiece special tokens that are spelled out are ordinary text.
        self.write(name, lambda t: processor.encode(t), file="tokenizer.model", parse=False, **how)


def bytes_to_letters():
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in codes}
    for i, b in enumerate(b for b in range(256) if b not in codes):
        letters[b] = chr(256 + i)
    return letters


def merges_of_ranks(ranks):
    """Every split of a token into two tokens, by the token's rank: what tiktoken does, as merges."""
    letters = bytes_to_letters()
    spell = lambda piece: "".join(letters[b] for b in piece)
    merges = []
    for piece, rank in ranks.items():
        local = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in ranks and piece[i:] in ranks]
        merges += [(spell(a), spell(b)) for a, b in sorted(local, key=lambda p: (ranks[p[0]], ranks[p[1]]))]
    return {spell(piece): rank for piece, rank in ranks.items()}, merges


GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def add_gpt2(cases, data):
    files = data / "tokenizers/gpt2"
    folder = cases.folder("gpt2_files")
    shutil.copy(files / "encoder.json", folder)
    shutil.copy(files / "vocab.bpe", folder)
    gpt2 = GPT2TokenizerFast(vocab_file=str(files / "encoder.json"), merges_file=str(files / "vocab.bpe"))
    cases.write("gpt2_files", gpt2.encode, file="encoder.json", lossless=True)
    cases.hugging_face("gpt2", gpt2.backend_tokenizer, lossless=True)

    shutil.copy(files / "gpt2.tiktoken", cases.folder("gpt2_ranks"))
    ranks = tiktoken.load.load_tiktoken_bpe(str(files / "gpt2.tiktoken"))
    encoding = tiktoken.Encoding("gpt2", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})
    cases.write("gpt2_ranks", lambda t: encoding.encode(t, allowed_special="all"), file="gpt2.tiktoken", lossless=True)

    def variant(normalizer, pre_tokenizer, **settings):
        bpe = BPE.from_file(str(files / "encoder.json"), str(files / "vocab.bpe"), **settings)
        tokenizer = Tokenizer(bpe)
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    sequence = pre_tokenizers.Sequence
    cases.hugging_face("smollm", variant(None, sequence([pre_tokenizers.Digits(True), byte_level])), lossless=True)
    cases.variant("digits", variant(None, sequence([pre_tokenizers.Digits(False), byte_level])), lossless=True)
    roberta = variant(None, pre_tokenizers.ByteLevel(add_prefix_space=True))
    roberta.add_special_tokens([AddedToken("<s>"), AddedToken("</s>"), AddedToken("<mask>", lstrip=True)])
    roberta.add_tokens([AddedToken("thou", single_word=True), AddedToken("Hello", rstrip=True, normalized=False)])
    roberta.post_processor = processors.RobertaProcessing(("</s>", 50258), ("<s>", 50257), add_prefix_space=True)
    cases.variant("roberta", roberta)
    for name, normalizer in [
            ("nfc", normalizers.NFC()), ("nfd", normalizers.NFD()), ("nfkc", normalizers.NFKC()), ("nfkd", normalizers.NFKD()),
            ("lowercase", normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])),
            ("strip", normalizers.Sequence([normalizers.Strip(), normalizers.Replace("e", "ee")])),
            ("replace", normalizers.Sequence([normalizers.Replace(Regex(r"\s{2,}|l"), "-"), normalizers.Prepend("x")]))]:
        cases.variant(name, variant(normalizer, byte_level))
    for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
        for invert in [False, True]:
            split = pre_tokenizers.Split(Regex(r"\p{L}+|\d"), behavior, invert)
            cases.variant(f"split_{behavior}_{invert}", variant(None, sequence([split, plain])))
    cases.variant("split_text", variant(None, sequence([pre_tokenizers.Split(" ", "merged_with_previous"), plain])))
    cases.variant("split_spaces", variant(None, sequence([pre_tokenizers.WhitespaceSplit(), byte_level])))


def add_qwen(cases, data):
    file = data / "tokenizers/qwen/qwen.tiktoken"
    shutil.copy(file, cases.folder("qwen_ranks"))
    ranks = tiktoken.load.load_tiktoken_bpe(str(file))
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    special = {name: len(ranks) + i for i, name in enumerate(names)}
    encoding = tiktoken.Encoding("qwen", pat_str=QWEN2, mergeable_ranks=ranks, special_tokens=special)
    normal = lambda t: unicodedata.normalize("NFC", t)
    cases.write("qwen_ranks", lambda t: encoding.encode(normal(t), allowed_special="all"), file="qwen.tiktoken")

    vocab, merges = merges_of_ranks(ranks)
    for name, pattern, normalizer, ignore in [("qwen2", QWEN2, normalizers.NFC(), False), ("llama3", LLAMA3, None, True)]:
        tokenizer = Tokenizer(BPE(vocab, merges, ignore_merges=ignore))
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(names)
        if name == "llama3":
            first = processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", len(ranks) + 1)])
            tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), first])
        cases.hugging_face(name, tokenizer, lossless=name == "llama3")


def add_llama(cases, data):
    file = data / "tokenizers/llama/tokenizer.model"
    cases.sentencepiece("llama_model", file, lossless=True)  # but for U+2581
    fast = LlamaTokenizerFast.from_pretrained(str(file.parent), legacy=True, from_slow=True)
    cases.hugging_face("llama", fast.backend_tokenizer)
    for scheme in ["always", "first", "never"]:
        tokenizer = Tokenizer.from_str(fast.backend_tokenizer.to_str())
        tokenizer.normalizer = normalizers.Sequence([])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        cases.variant(f"llama_{scheme}", tokenizer)


def add_smollm2(cases, file):
    spec = json.loads(AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name).backend_tokenizer.to_str())
    # transformers takes the end of a text for an unknown token, which the model's own tokenizer.json has not; and it passes
    # over what the file says of splitting: digits one by one.
    spec["model"].update(unk_token=None, byte_fallback=False)
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    folder = cases.folder("smollm2")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), tokenizer.pre_tokenizer])
    cases.write(folder.name, lambda t: tokenizer.encode(t, add_special_tokens=False).ids, file=str(file))


def add_trained(cases, data):
    """Small SentencePiece models of every setting, trained here."""
    corpus = data / "corpora/tinyshakespeare.txt"
    folder = cases.folder("trained")
    base = dict(input=str(corpus), vocab_size=1500, character_coverage=0.999, num_threads=1, minloglevel=2)
    settings = {
        "unigram_nfkc": dict(model_type="unigram", byte_fallback=False),
        "unigram_bytes": dict(model_type="unigram", byte_fallback=True, normalization_rule_name="identity",
                              remove_extra_whitespaces=False),
        "unigram_user": dict(model_type="unigram", user_defined_symbols=["thou art", "<sep>", "\u2581the", "ﬁ"], byte_fallback=True),
        "unigram_lower": dict(model_type="unigram", normalization_rule_name="nmt_nfkc_cf", add_dummy_prefix=False),
        "bpe_nfkc": dict(model_type="bpe", byte_fallback=False),
        "bpe_bytes": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
        "bpe_user": dict(model_type="bpe", user_defined_symbols=["thou art", "<sep>", "ell"], byte_fallback=True, split_digits=True),
        "bpe_suffix": dict(model_type="bpe", treat_whitespace_as_suffix=True, byte_fallback=True),
        "bpe_across": dict(model_type="bpe", split_by_whitespace=False, byte_fallback=True),
    }
    for name, setting in settings.items():
        sentencepiece.SentencePieceTrainer.train(model_prefix=str(folder / name), **base, **setting)
        cases.sentencepiece(name, folder / f"{name}.model", n=N_VARIANT)
    t5 = T5TokenizerFast(vocab_file=str(folder / "unigram_nfkc.model"), extra_ids=5, from_slow=True)
    cases.variant("t5", t5.backend_tokenizer)


def main():
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    texts = make_texts(data, 10000)
    out.mkdir(parents=True, exist_ok=True)
    (out / "texts.json").write_text(json.dumps(texts))
    cases = Cases(out, texts)
    add_gpt2(cases, data)
    add_qwen(cases, data)
    add_llama(cases, data)
    add_trained(cases, data)
    if len(sys.argv) > 3:
        add_smollm2(cases, Path(sys.argv[3]))


main()
