# SPDX-License-Identifier: Apache-2.0
"""Writes what tests/io/test_clip_ids.cpp compares with: CLIP's real merges, and prompts with the ids that transformers gives.

    pip install transformers==5.24.0 open-clip-torch   # of the second only the vocabulary is used
    python3 tests/twin/clip_ids.py tests/golden
    python3 tests/twin/clip_ids.py FOLDER --count 20000 --seed 2   # more, for a test program built with that folder

Prompts are ordinary ones, odd ones, and random ones over all of Unicode. transformers' tables are of several versions of Unicode
(its normalizer's are older than 11, its classes of characters newer than 15), the library's are those of the utf8proc it is
built with. So random prompts hold only characters that were in Unicode 11 and have since kept what matters here; Python's own
tables say which those are. --all takes every character, to count what is left out otherwise.
"""
import argparse
import gzip
import importlib.util
import json
import os
import pathlib
import random
import shutil
import tempfile
import unicodedata

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
BEGIN, END = "<|startoftext|>", "<|endoftext|>"

ORDINARY = """a red apple
a photo of an astronaut riding a horse on mars
A Red  Apple\t on a TABLE\n
it's, it’s, IT'S, they'll we've I'm he'd you're don't rock'n'roll 'twas
a cat—a dog – a bird… “quoted” ‘single’ «bonjour» ¿qué? ¡hola!
O’Neill's café, naïve façade, Ærøskøbing, Straße STRASSE
90° 3½ №5 x² a·b H₂O 10⁻⁶ ①②③ Ⅷ
R&amp;B &lt;b&gt; <b>bold</b> (masterpiece:1.2), [worst quality]
4k, 8K, HDR10+, f/1.8, 35mm, 1920x1080, 2024-05-01
portrait of a woman, oil on canvas, by Jan van Eyck, highly detailed, artstation
❤️ heart 🦊 fox 👩‍🚀 astronaut 👨‍👩‍👧 🇫🇷 🏳️‍🌈 👍🏽
東京、夜 日本語。英語 中文，测试！ 서울의 밤 ｶﾀｶﾅ ﾊﾝｶｸ がぎぐ
ПРИВЕТ СОБАКА собака Ёлка Київ
ΑΒΓ ΣΊΣΥΦΟΣ Ελληνικά ὈΔΥΣΣΕΎΣ ᾼ
ŁÓDŹ KŮŇ ŞİŞ İstanbul ığüşöç ĳ Ǆ ǅ ǆ ẞ ŉ
שלום עולם مرحبا بالعالم ١٢٣ हिन्दी ไทย ខ្មែរ አማርኛ ქართული Հայերեն
e\u0301 é A\u030a Å \u212b \u2126 \u212a \u0344 \u0958 \ufb1d \u1100\u1161\u11a8 각
a\u00a0b a\u2003b a\u3000b a\u200bb a\u200db a\ufeffb a\u0085b a\u2028b a\u180eb a\u0000b a\u007fb a\ufffdb a\u00adb
\u0301 \u0301\u0301 \u0345\u0301 a\u0315\u0300\u05ae\u0300\u0062 \u1dce\u0315\u031b
''s !'s 's's 'S 'LL 'rE 'vex 'mm 'dd '' ''' `s ’s
!!!???... --- *** ### @@@ $$$ ^^^ ~~~ <<<>>> |||
<|startoftext|> <|endoftext|> <|StartOfText|>!! x<|ENDOFTEXT|>y !<|startoftext|>! <|startoftext <|endoftext|
</w> a</w> </W>
\ue000 \U000f0000 \U0010ffff \ufdd0 \u0378
supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa abababababababababababab
https://example.com/?q=a+b&c=%20#top C:\\path\\file.txt user@example.com""".split("\n")


def prompts(count, seed, every):
    rnd = random.Random(seed)
    old = unicodedata.ucd_3_2_0

    def usual(c):  # assigned long ago, and since then the same in what decides
        if every:
            return True
        if unicodedata.category(c) in ("Cn", "Co"):
            return unicodedata.category(c) == "Co" or 0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE
        if unicodedata.combining(c):  # marks of which the old tables know the order
            return old.category(c) != "Cn" and old.combining(c) == unicodedata.combining(c)
        return True

    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    if not every:
        characters = [c for c in characters if usual(c)]
    categories = {}
    for c in characters:
        categories.setdefault(unicodedata.category(c), []).append(c)
    names = sorted(categories)
    near = [c for c in characters if 0xA0 <= ord(c) < 0x590 or 0x1E00 <= ord(c) < 0x2C00 or 0x3000 <= ord(c) < 0x3100 or 0xFF00 <= ord(c)
            < 0xFFF0 or 0x1100 <= ord(c) < 0x1200 or 0x1F300 <= ord(c) < 0x1F700]
    spaces = [c for c in characters if c.isspace()] + ["\u200b", "\ufeff", "\u180e"]
    words = [w.strip() for line in ORDINARY[:12] for w in line.split()]
    texts = list(ORDINARY)
    for word in dict.fromkeys(w for line in ORDINARY for w in line.split()):
        texts.append(word)
    while len(texts) < count:
        text = ""
        for _ in range(rnd.randint(1, 12)):
            kind = rnd.random()
            if kind < 0.2:
                text += rnd.choice(words)
            elif kind < 0.3:
                text += "".join(rnd.choice("abcdefghijklmnopqrstuvwxyzABCDEFGH") for _ in range(rnd.randint(1, 9)))
            elif kind < 0.4:
                text += chr(rnd.randint(32, 126)) * rnd.choice([1, 1, 2, 3])
            elif kind < 0.5:
                text += rnd.choice(spaces) * rnd.choice([1, 1, 2])
            elif kind < 0.65:
                text += rnd.choice(near)
            elif kind < 0.7:
                text += rnd.choice(["'s", "'S", "'re", "'LL", "'d", "’s", "'", BEGIN, END, "<|ENDOFTEXT|>", "!", "<|"])
            elif kind < 0.8:
                text += rnd.choice(categories["Mn"])
            else:
                text += rnd.choice(categories[rnd.choice(names)])
        texts.append(text)
    return texts[:max(count, len(ORDINARY))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--vocabulary", type=pathlib.Path, help="bpe_simple_vocab_16e6.txt.gz; default: of open-clip-torch")
    o = parser.parse_args()
    from transformers import CLIPTokenizer

    if o.vocabulary is None:
        o.vocabulary = pathlib.Path(importlib.util.find_spec("open_clip").origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    # As openai/CLIP's simple_tokenizer.py reads it.
    merges = gzip.open(o.vocabulary).read().decode().split("\n")[1:49152 - 256 - 2 + 1]
    byte_order = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in byte_order] + [chr(256 + i) for i in range(256 - len(byte_order))]
    tokens = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges] + [BEGIN, END]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)

        def tokenizer(name, specials):
            folder = scratch / name
            folder.mkdir()
            (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
            (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
            if specials is not None:
                (folder / "special_tokens_map.json").write_text(json.dumps(specials))
            return CLIPTokenizer.from_pretrained(folder)

        def entry(text):
            return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

        # The folders of Stable Diffusion 1 and 2 declare their special tokens so.
        published = {"bos_token": entry(BEGIN), "eos_token": entry(END), "unk_token": entry(END)}
        folders = {"plain": None, "sd1": {**published, "pad_token": END}, "sd2": {**published, "pad_token": "!"}}
        out = {}
        for name, specials in folders.items():
            texts = prompts(o.count, o.seed, o.all)
            if specials is not None:  # where they differ
                texts = [t for t in texts if "<|" in t or "!" in t]
            ids = tokenizer(name, specials)(texts, add_special_tokens=False)["input_ids"]
            out[name] = {"specials": specials, "prompts": list(zip(texts, ids))}
        shutil.copy(scratch / "plain" / "merges.txt", pathlib.Path(__file__).parents[2] / "examples/clip/merges.txt")
    with open(o.folder / "clip_ids.json", "w") as file:
        file.write("{\n")
        for i, (name, part) in enumerate(out.items()):
            file.write(f'"{name}": {{"specials": {json.dumps(part["specials"])}, "prompts": [\n')
            file.write(",\n".join(json.dumps(p, separators=(",", ":"), ensure_ascii=False) for p in part["prompts"]))
            file.write("\n]}" + (",\n" if i + 1 < len(out) else "\n"))
        file.write("}\n")
    print({name: len(part["prompts"]) for name, part in out.items()})


if __name__ == "__main__":
    main()
