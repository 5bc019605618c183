"""Model folders as others write them: plain decoders and encoders, and sentence-transformers around them."""

from __future__ import annotations

import json

from small_models import PROMPT, SENTENCES, small_model
from transformers import BertTokenizer, XLMRobertaTokenizer

from zhihui.encoder.tokens import ensure_eos

TEXTS = [*SENTENCES[:8], "", "".join(SENTENCES) * 2]
CHARACTERS = sorted({c for sentence in SENTENCES for c in sentence if not c.isspace()})


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def edit(path, **changes):
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    write(path, {key: value for key, value in content.items() if value is not None})


def plain_decoder(folder, tokenizer, family="qwen2", *, causal=False, **options):
    """Write a folder as a language-model project would: weights, config and a tokenizer without EOS."""
    small_model(family, causal=causal, vocabulary=704, **options).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def wrap(folder, pooling, *, length=60, prompts=None, kinds=("Transformer", "Pooling", "Normalize")):
    """Make a transformers folder one of sentence-transformers."""
    paths = [("" if n == 0 else f"{n}_{kind}", kind) for n, kind in enumerate(kinds)]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(paths)
    ]
    write(folder / "modules.json", modules)
    write(folder / "1_Pooling" / "config.json", pooling)
    write(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    write(folder / "config_sentence_transformers.json", {"prompts": prompts or {}, "similarity_fn_name": "cosine"})
    return folder


def decoder_folder(folder, tokenizer, family="qwen2", *, causal=False, prompts=None, length=60, **options):
    ensure_eos(tokenizer)
    plain_decoder(folder, tokenizer, family, causal=causal, **options)
    # The families' own tokenizer classes would rebuild the template, and lose EOS.
    edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    pooling = {"embedding_dimension": 32, "pooling_mode": "lasttoken", "include_prompt": True}
    return wrap(folder, pooling, length=length, prompts={"query": PROMPT} if prompts is None else prompts)


def plain_bert(folder, **options):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS]
    small_model("bert", vocabulary=len(words), **options).save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return folder


def plain_xlmr(folder):
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁", *CHARACTERS, "<mask>"]
    small_model("xlm-roberta", vocabulary=len(words)).save_pretrained(folder)
    XLMRobertaTokenizer(vocab=[(word, -1.0) for word in words]).save_pretrained(folder)
    return folder


def legacy(mode, **others):
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return {"word_embedding_dimension": 32, **{f"pooling_mode_{m}": m == mode for m in modes}, **others}
