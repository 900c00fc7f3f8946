"""Strings that tokenizers disagree about. Written for this project; deterministic."""

import random

WORDS = """a I the hello Hello HELLO world reasoning parallel branch don't it's naïve café résumé
Zürich straße ΑΒΓ αβγδ ΣΊΣΥΦΟΣ Привет мир здравствуйте שלום עולם مرحبا بالعالم नमस्ते दुनिया
தமிழ் สวัสดีครับ こんにちは世界 カタカナ 漢字かな交じり文 안녕하세요 你好世界 繁體中文 ქართული
հայերեն አማርኛ ខ្មែរ မြန်မာ ᏣᎳᎩ ᚠᚢᚦ Việt Nam ǅungla ﬁ ﬃ Ǆ ŉ ẞ İstanbul ıI""".split()

CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]

WHITESPACE = [" ", "  ", "   ", " " * 7, " " * 63, "\t", "\t\t", " \t ", "\n", "\n\n", "\n\n\n", "\r\n",
              "\r\n\r\n", "\r", "\n ", " \n", " \n ", "\n\t", "\u00a0", "\u00a0\u00a0", " \u00a0 ",
              "\u1680", "\u180e", "\u2000\u2001\u2002", "\u2003", "\u2009", "\u200a", "\u200b",
              "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\u3000\u3000", "\ufeff",
              "\x0b", "\x0c", "\x1c\x1d\x1e\x1f", "\x85", "\n" * 40]

EMOJI = ["😀", "😀😃😄", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "❤", "1️⃣2️⃣", "🧑🏿‍🚀", "🫠🫥🫶",
         "a😀b", " 😀 ", "😀\n😀", "☃︎☃️", "©®™", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]

COMBINING = ["e\u0301", "a\u0300\u0301\u0302\u0303\u0304", "\u0301", " \u0301", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢", "क्षि",
             "ก็", "n\u0303o", "\u1100\u1161\u11a8", "각", "이\u11bc", "a\u20dd", "\u094d", "\u0e33",
             "مُحَمَّد", "שָׁלוֹם", "\u0651", "é é"]

DIGITS = ["0", "7", "42", "123", "1234", "12345", "1234567890", "3.14159", "1,000,000", "1e-9", "0x1F",
          " 7", "  7", "   42", "a1b2c3", "x 1 y", "12 34", "-5", "+5", "5%", "$5.00", "1/2", "½ ¼ ¾",
          "²³¹", "x²", "Ⅷ ⅷ", "①②③", "٣٤٥", "१२३", "𝟘𝟙𝟚", "၁၂", "一二三", "〇", "1st 2nd",
          "2024-01-31", "10:30", "1\u00a0000", "1\n2", " 1 2  3   4", "9" * 100, "४ ५", "㊿", "𑇡",
          "1'd 2's", "7\u0301", "12\u200b34", "\t7", "\n7", "\r\n7", "\u3000７", "１２３"]

RTL = ["\u202bשלום\u202c", "abc שלום def", "السلام عليكم", "\u200fabc\u200e", "123 مرحبا 456",
       "،؛؟", "\u2067abc\u2069", "ܫܠܡܐ", "ދިވެހި"]

CODE = ["int main(void) {\n    return 0;\n}\n", "def f(x):\n\treturn x**2  # square\n",
        "for (i = 0; i < n; i++) a[i] += b[i];", "if (a && b || !c) { x ^= ~y; }", "a->b.c::d",
        "#include <stdio.h>", "/* comment */ // more", "\"quoted\\\"string\\n\"", "'x'", "`ls -la`",
        "SELECT * FROM t WHERE a='b';", "<div class=\"x\">&nbsp;</div>", "{\"k\": [1, 2.5, null]}",
        "x = y if z else w", "C:\\path\\to\\file", "/usr/lib/x86_64", "http://a.b/c?d=e&f=g#h",
        "user@example.org", "__init__", "camelCaseName", "snake_case_name", "kebab-case", "λx.x+1",
        "!@#$%^&*()", "...", "....", "---", "===>", "<=>", "??!", "~~~", "||", ";;", "::", "//",
        "'''", "\"\"\"", "''", "'", "\"", "\\", "\\\\", "print('it''s')", "a'b'c", "-----\n-----"]

MATH = ["$x^2 + y^2 = z^2$", "\\frac{a}{b}", "\\sum_{i=0}^{n} x_i", "∀x∈ℝ: x²≥0", "∫₀^∞ e^{-x}dx",
        "≤≥≠≈±×÷", "∑∏√∞∂∇", "ℕℤℚℝℂ", "𝔸𝔹ℂ", "𝒳𝒴", "α→β", "⟨ψ|φ⟩", "\\[ E = mc^2 \\]", "\\(a\\)",
        "10 + 5 = 15; 15 * 8 = 120", "f'(x) = 2x", "x₁,x₂", "∴ ∵", "¬p ∨ q", "‖v‖₂", "90°", "µm Ω Å"]

SPECIALS = ["<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_start|>", "<|im_end|>",
            "<|endoftext|>", "<|endoftext|><|endoftext|>", "a<|im_end|>b", " <|im_end|> ",
            "<|im_end|", "|im_end|>", "<|im_end |>", "<|IM_END|>", "<<|im_end|>>", "<|im_<|im_end|>",
            "<repo_name>x<reponame>y", "<file_sep>a.c<filename>b.c", "<gh_stars>10", "<issue_start>",
            "<issue_comment>ok<issue_closed>", "<jupyter_start><jupyter_text>t<jupyter_code>c",
            "<jupyter_output>o<jupyter_script>s", "<empty_output>", "<|im_end|>7", "7<|im_end|>",
            "  <|im_end|>  x", "\n\n<|im_end|>\n\n", "don'<|im_end|>t", "<|im_end|>'s",
            "<Parallel>\n<Goal>\n<Outline>1: a</Outline>\n</Goal>\n<Path>\n1: b</Path>\n</Parallel>"]

CONTROLS = ["\x00", "a\x00b", "\x01\x02\x03", "\x05", "\x07\x08", "\x0e\x0f\x10", "\x1b[31mred\x1b[0m",
            "\x7f", "\x80", "\x9f\xa0", "\xad", "\u200d", "\ufffd", "\ufffe", "\uffff", "\ue000",
            "\U000e0001", "\U0001f0a1", "\U00010000", "\u0378"]

# The vocabulary of SmolLM2 has no token for these bytes: 04 06 13 14 16 1D F1..FF and C0, C1.
UNKNOWN = ["\x04", "a\x04b", "th\x06e", "\x13\x14", " \x16 x", "\U00040000", "a\U0010ffffb",
           "\U000f0000\U00100000"]

NEWER = ["\U000323af\U00031350字", "a\U00011f50b", "\U0001e4d0\U0001e4f0", "\U0002ebf0龍", "\U00016d40x",
         "\U000105c0\U0001d2c0", "\u1c89a", "\ua7cb\ua7da", "\U00011de0x", "\U00016ff4 y", "\u180ea",
         "a\u180e b", "!\u180e!", "!\U00011de0\U00011de1!", "+\U00016ff4+", "\u0870\u08a0", "\U0001df25z"]


def contractions():
    for suffix in CONTRACTIONS:
        for form in (suffix, suffix.upper(), suffix[0] + suffix[1:].capitalize()):
            yield "it" + form
        yield "IT" + suffix + "x"
        yield "it" + suffix.upper() + "x"
        yield suffix + suffix
        yield " " + suffix
        yield "7" + suffix
        yield "’" + suffix[1:]
    yield from ["'S'T", "'ſ", "x'ſ", "o'clock", "'twas", "'ſx", "a'ſa", "'K", "'Kx", "'ﬆ", "'ﬅx", "y'all'd've", "rock'n'roll", "'rE'vE'lL", "''s",
                "'\u017f'\u212a", "'LL'l", "a ' s", "'s\n't"]


def words():
    for word in WORDS:
        yield word
    for a, b in zip(WORDS, WORDS[1:]):
        yield a + " " + b
    yield from [" leading", "trailing ", "two  spaces", "Mixed漢字and kana かな", "日本語 と English",
                "a-b", "a_b", "a.b.c", "ÀÉÎ õü", "ĳ Œ æ", "Ǣ\u0304", "한국어 띄어쓰기", "ไม่มีช่องว่าง",
                "The quick brown fox jumps over the lazy dog.", "¿Qué?", "«guillemets»", "“quotes”",
                "em—dash", "en–dash", "…", "a…b", "x\u00b7y", "№ 5", "ªº", "㈱", "ﷺ", "ＡＢＣ", "ｱｲｳ"]


def whitespace():
    for space in WHITESPACE:
        yield space
        yield "a" + space + "b"
        yield space + "x"
        yield "x" + space
        yield "1" + space + "2"
    yield from ["    if x:\n        y\n\n\n    z", "a \n b\t\n\tc", "x\r\ny\r\n\r\nz", ". \n", "!\n\n?",
                "a\u00a0 b \u00a0c", "\u3000、\u3000。", "\n\n \n\n  \n", "end.\r\n\r\n  next"]


def long_texts():
    yield "a" * 3000
    yield "ab" * 1500
    yield " ".join(["word"] * 200)
    yield "é" * 700
    yield "漢" * 500
    yield "=" * 1000
    yield " " * 1000 + "x"
    yield "Antidisestablishmentarianism" * 20
    yield "😀" * 200
    yield "\n " * 300 + "y"


def random_mixes(count, seed):
    parts = (WORDS + CONTRACTIONS + WHITESPACE[:22] + EMOJI + COMBINING + DIGITS[:40] + RTL + CODE +
             MATH + SPECIALS[1:12] + [" "] * 40)
    draw = random.Random(seed)
    for _ in range(count):
        yield "".join(draw.choice(parts) for _ in range(draw.randint(2, 9)))


def random_characters(count, seed):
    """Any assigned or unassigned character of the planes whose bytes the vocabulary has."""
    draw = random.Random(seed)
    for _ in range(count):
        text = ""
        while len(text) < 12:
            code = draw.choice([draw.randrange(0x20, 0x250), draw.randrange(0x250, 0xd800),
                                draw.randrange(0xe000, 0x10000), draw.randrange(0x10000, 0x40000)])
            text += chr(code)
        yield text


def all_texts():
    seen = dict.fromkeys([""])
    for source in (words(), contractions(), whitespace(), EMOJI, COMBINING, DIGITS, RTL, CODE, MATH,
                   SPECIALS, CONTROLS, UNKNOWN, NEWER, long_texts(), random_mixes(60, 1),
                   random_characters(30, 2)):
        seen.update(dict.fromkeys(source))
    return list(seen)
