# SPDX-License-Identifier: Apache-2.0
"""Captions to token ids, as include/mobilediffusion/io/tokenizer.hpp has it: begin, tokens, end, then what fills up."""
import io
from pathlib import Path
import re


class SentencepieceTokenizer:
    """model: the bytes of a sentencepiece model whose first ids are pad, unknown, begin and end."""
    is_clip = False
    pad, begin, end = 0, 2, 3

    def __init__(self, model):
        import sentencepiece
        self.model = bytes(model)
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        found = [f() for f in (self.processor.pad_id, self.processor.unk_id, self.processor.bos_id, self.processor.eos_id)]
        if found != [0, 1, 2, 3]:
            raise ValueError(f"tokenizer model: expected pad, unknown, begin and end to be 0, 1, 2, 3, found {found}")

    @property
    def vocabulary(self):
        return self.processor.get_piece_size()

    def encode(self, caption, length):
        ids = [self.begin, *self.processor.encode(caption)[:length - 2], self.end]
        return ids + [self.pad] * (length - len(ids))


class ClipTokenizer:
    """folder: with vocab.json and merges.txt, or tokenizer.json, as transformers saves it."""
    is_clip = True

    def __init__(self, folder):
        from transformers import CLIPTokenizer
        self.folder = Path(folder)
        self.tokenizer = CLIPTokenizer.from_pretrained(self.folder)

    @property
    def vocabulary(self):
        return len(self.tokenizer)

    def encode(self, caption, length):
        return self.tokenizer(caption, padding="max_length", max_length=length, truncation=True).input_ids


def train_tokenizer(captions, vocabulary):
    """As train/tokenizer.hpp trains it: byte pairs over the captions, of `vocabulary` pieces, or of as many as the captions give.
    Raises ValueError where their characters alone are more."""
    import sentencepiece

    def train(size):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(captions), model_writer=model, model_type="bpe", vocab_size=size, character_coverage=1.0,
            normalization_rule_name="nmt_nfkc_cf", max_sentence_length=65537, num_threads=1, pad_id=0, unk_id=1, bos_id=2, eos_id=3,
            minloglevel=3)
        return model.getvalue()

    try:
        return train(vocabulary)
    except RuntimeError as e:
        fewer = re.search(r"value <= (\d+)", str(e))
        if not fewer:
            raise ValueError(f"tokenizer: a vocabulary of {vocabulary} pieces cannot be learnt from {len(captions)} captions: {e}") from None
        return train(int(fewer.group(1)))
