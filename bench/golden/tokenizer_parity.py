"""Asks the official `tokenizers` for the ids of many strings, for experts/bert's tests to compare with.

    python tokenizer_parity.py TOKENIZER.json OUT.jsonl [--small] [TEXT_FILE ...]

writes one JSON object a line: {"text": …, "ids": […]}, with "pair" and "limit" where the case has them. Without --small: every Unicode scalar between
letters, random Unicode, joined vocabulary, the lines of the text files (several hundred thousand strings; run the test with TOKENIZER_CASES=OUT.jsonl).
--small: the 2,000 that are committed as experts/bert/testdata/tokens.jsonl.gz, with a scalar from each range where the library's Unicode is not today's.
"""
import argparse
import gzip
import json
import pathlib
import random
import unicodedata

from tokenizers import Tokenizer

HARD = [
    "", " ", "\t\n\r", "What is Deep Learning?", "unaffable", "naïve café ÀÉÎÕÜ", "İstanbul ISTANBUL ıI", "ΑΣ ΟΔΟΣ ς σ Σ", "ﬁ ﬂ ﬃ", "ẞ ß",
    "a\x00b\x01c\x7fd\u0085e\u00adf\u200bg\ufeffh\ufffdi", "a\u00a0b\u2028c\u2029d\u3000e\u1680f\u205fg\u202fh\x0bi\x0cj", "漢字kanji漢字", "カタカナ ガギグ ｶﾞ ﾊﾟ",
    "한국어 한글 각", "हिन्दी தமிழ் ไทย العربية עִבְרִית", "👩‍👩‍👧‍👦 🇩🇪 ❤️ 1️⃣", "$100 + 5% = 10^2 <a>|`b`~ €5 £3 ©®™ ¿qué? «x» — … “q” ‘s’", "[CLS] [SEP][MASK] [PAD]x[UNK] [cls] [ SEP]",
    "##ing ## # #a a#", "a" * 100, "a" * 101, "é" * 100, "é" * 101, "я" * 60, "가" * 33 + "a", "가" * 34, "x" * 400, "e" + "\u0301" * 200, "\u0301", "a \u0301 b", "中\u0302a",
    "\u037e\u0387\u1fef\u2260\u226e", "A\u030a Å Å \u212b \u2126 \u00b5", "𝐀𝕬 Ⅷ ² ½ ǅ ﷺ", "\U0002f800\U0002b81d\U0002b820\U0002b91f\U0002b920\ufa0e\uf900", "\ud7a3\ud7b0\uac00\uabff",
]


def random_text(rng, words):
    out = []
    for _ in range(rng.randint(1, 12)):
        k = rng.randrange(8)
        if k == 0:
            c = rng.randrange(0x110000)
            out.append(chr(c) if not 0xD800 <= c <= 0xDFFF else "?")
        elif k == 1:
            out.append(chr(rng.randrange(1, 0x3000)))
        elif k == 2:
            out.append(chr(rng.randrange(1, 0x250)))
        elif k == 3:
            out.append(chr(rng.randrange(0x300, 0x370)))
        elif k == 4:
            out.append(" ")
        else:
            w = rng.choice(words)
            out.append(rng.choice([w, w.upper(), w.capitalize(), w + " "]))
    return "".join(out)


def unusual():
    """One scalar of each range whose category in Python's Unicode is not what the official library acts on, and of each kind of block."""
    from tokenizers import normalizers, pre_tokenizers
    fold = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=True, lowercase=False).normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    last = -2
    for c in range(0x80, 0x110000):
        if 0xD800 <= c <= 0xDFFF:
            continue
        category = unicodedata.category(chr(c))
        s = "a" + chr(c) + "b"
        kept = fold(s) != "ab"
        if kept == (category in ("Mn", "Cf", "Cc", "Co")) and c not in (0xFFFD,) or kept and (len(split(s)) == 3) != (category[0] == "P"):
            if category[0] != "Z":
                if c != last + 1:
                    yield chr(c)
                last = c


def main():
    args = argparse.ArgumentParser()
    args.add_argument("tokenizer")
    args.add_argument("out")
    args.add_argument("--small", action="store_true")
    args.add_argument("texts", nargs="*")
    args = args.parse_args()
    tokenizer = Tokenizer.from_file(args.tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    words = [w[2:] if w.startswith("##") else w for w in sorted(tokenizer.get_vocab()) if "[" not in w]
    rng = random.Random(1)
    texts = list(HARD)
    if args.small:
        texts += ["a" + c + "b" + c for c in unusual()]
        print(len(texts) - len(HARD), "ranges with an unusual category")
        texts += [random_text(rng, words) for _ in range(1950 - len(texts))]
    else:
        texts += ["a" + chr(c) + "b" for c in range(1, 0x323B0) if not 0xD800 <= c <= 0xDFFF]
        texts += [" ".join("a" + chr(k) + "b" for k in range(c, min(c + 16, 0x110000))) for c in range(0x323B0, 0x110000, 16)]
        texts += [random_text(rng, words) for _ in range(100000)]
        for name in args.texts:
            texts += pathlib.Path(name).read_text(encoding="utf-8", errors="replace").splitlines()

    cases = [{"text": t, "ids": e.ids} for t, e in zip(texts, tokenizer.encode_batch(texts))]
    for _ in range(50):
        a, b = (" ".join(rng.choice(words) for _ in range(rng.randrange(12))) for _ in range(2))
        limit = rng.randrange(4, 24)
        tokenizer.enable_truncation(limit)
        cases.append({"text": a, "pair": b, "limit": limit, "ids": tokenizer.encode(a, b).ids, "types": tokenizer.encode(a, b).type_ids})
        cases.append({"text": a, "limit": limit, "ids": tokenizer.encode(a).ids})
    data = "".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) + "\n" for c in cases).encode()
    out = pathlib.Path(args.out)
    out.write_bytes(gzip.compress(data, 9, mtime=0) if out.suffix == ".gz" else data)
    print(len(cases), "cases,", out.stat().st_size, "bytes")


main()
