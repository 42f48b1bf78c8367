# SPDX-License-Identifier: Apache-2.0
"""The words of the captions, as a model file tells them (include/mobilediffusion/io/known_words.hpp): programs then say which words
of a prompt the model never saw."""
import unicodedata

MOST_WORDS = 5000  # of captions with more a file says nothing: they are no list that anyone reads


def words_of(text):
    """In lower case. White space and ASCII's signs, other than those inside of words, stand between them."""
    words = [""]
    for c in unicodedata.normalize("NFC", text):
        sign = c < "\x80" and not (c.isalnum() or c in "-'")
        if not sign and not c.isspace():
            words[-1] += "'" if c == "\u2019" else c.lower()
        elif words[-1]:
            words.append("")
    return [w for w in words if w.strip("-'")]


def known_words(captions):
    """Entries of a model's metadata."""
    pairs, words = {}, set()
    for caption in captions:
        before = "^"
        for word in words_of(caption):
            pairs.setdefault(before, set()).add(word)
            words.add(word)
            before = word
        if len(words) > MOST_WORDS:
            return {}
    by_bytes = lambda ws: sorted(ws, key=lambda w: w.encode())
    return {"training.pairs": "; ".join(f"{a}: {' '.join(by_bytes(pairs[a]))}" for a in by_bytes(pairs))} if pairs else {}
