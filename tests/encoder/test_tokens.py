from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import PROMPT, TASK
from tokenizers import Tokenizer, models, processors
from transformers import BertTokenizer, PreTrainedTokenizerFast

from zhihui.encoder import EncoderSettings
from zhihui.encoder.tokens import ending_token, ensure_eos, tokenize
from zhihui.errors import InputError

EOS = 0
SETTINGS = EncoderSettings(prompts={"query": PROMPT, "document": ""}, max_length=64)


@pytest.fixture
def ready(tokenizer):
    ensure_eos(tokenizer)
    return tokenizer


# --------------------------------------------------------------------------- golden ids

GOLDEN = {
    "": [0],
    "泡绿茶的水温": [354, 453, 556, 265, 336, 426, 0],
    "小猫第一次洗澡要注意什么？": [375, 580, 487, 492, 263, 574, 514, 552, 438, 370, 367, 0],
    "鄰居送來枇杷": [602, 503, 624, 617, 571, 628, 116, 0],
    "ＡＢ１２３，。": [259, 95, 259, 96, 259, 240, 259, 241, 259, 242, 260, 314, 0],
    "😀👍🏽": [173, 254, 247, 223, 173, 254, 240, 236, 173, 254, 238, 122, 0],
    " 空 格\n换行\t": [221, 584, 221, 357, 121, 199, 163, 236, 96, 344, 235, 198, 0],
    "é̈ 3.14": [128, 103, 137, 231, 221, 19, 14, 17, 20, 0],
    "龘": [166, 123, 247, 0],
}


@pytest.mark.parametrize(("text", "ids"), GOLDEN.items())
def test_golden_ids(ready, text, ids):
    assert tokenize(ready, SETTINGS, [text], role="document") == [ids]


def test_golden_ids_of_a_query(ready):
    (ids,) = tokenize(ready, SETTINGS, ["小猫"], role="query")
    assert ids == [309, 26, 310, 312, 199, 300, 26, 221, 375, 580, 105, 0]
    assert ready.decode(ids) == f"{PROMPT}小猫<|endoftext|>"


@given(st.text(max_size=30))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_from_its_ids(ready, text):
    (ids,) = tokenize(ready, EncoderSettings(max_length=2000), [text], role="document")
    # NFC is Qwen2's normalisation; a text that spells the special token out is that token.
    assert ready.decode(ids) == f"{ready.backend_tokenizer.normalizer.normalize_str(text)}<|endoftext|>"


def test_canonically_equal_texts_have_equal_ids_and_full_width_stays_apart(ready):
    composed, decomposed, full, half = tokenize(ready, SETTINGS, ["é", "e\u0301", "ＡＢ", "AB"], role="document")
    assert composed == decomposed
    assert full != half


# --------------------------------------------------------------------------- length and EOS


@pytest.mark.parametrize("role", ["query", "document"])
def test_length_counts_prompt_and_eos_and_eos_is_always_last(ready, role):
    text = "泡绿茶的水温不要超过八十五度。" * 20
    whole = tokenize(ready, EncoderSettings(prompts=SETTINGS.prompts, max_length=5000), [text], role=role)[0]
    assert len(whole) > 100
    for length in (60, 61, 90):
        (ids,) = tokenize(ready, EncoderSettings(prompts=SETTINGS.prompts, max_length=length), [text], role=role)
        assert ids == [*whole[: length - 1], EOS]  # cut at the end of the text, nowhere else
    assert whole.count(EOS) == 1


def test_a_text_that_just_fits_is_not_cut(ready):
    text = "小猫第一次洗澡要注意什么"
    (whole,) = tokenize(ready, SETTINGS, [text], role="document")
    (same,) = tokenize(ready, EncoderSettings(max_length=len(whole)), [text], role="document")
    (cut,) = tokenize(ready, EncoderSettings(max_length=len(whole) - 1), [text], role="document")
    assert same == whole
    assert cut == [*whole[:-2], EOS]


def test_texts_are_not_padded_and_do_not_depend_on_their_neighbours(ready):
    texts = ["小猫", "", "泡绿茶的水温不要超过八十五度" * 9, "繁體", "😀"]
    together = tokenize(ready, SETTINGS, texts, role="document")
    assert together == [tokenize(ready, SETTINGS, [text], role="document")[0] for text in texts]
    assert len({len(ids) for ids in together}) == 5


def test_what_a_tokenizer_was_used_for_before_does_not_matter(ready):
    first = tokenize(ready, SETTINGS, ["小猫", "雨伞" * 99], role="document")
    ready(["小猫", "一"], truncation=True, max_length=3, padding="max_length")
    assert tokenize(ready, SETTINGS, ["小猫", "雨伞" * 99], role="document") == first


def test_a_prompt_that_leaves_nothing_of_a_text_is_refused(ready):
    alone = len(ready(PROMPT)["input_ids"])
    tight = EncoderSettings(prompts=SETTINGS.prompts, max_length=alone)
    message = rf"takes {alone} tokens with EOS and max_length is {alone}: .* raise max_length or shorten the prompt"
    with pytest.raises(InputError, match=message):
        tokenize(ready, tight, ["小猫"], role="query")
    with pytest.raises(InputError, match="nothing of a text"):
        tokenize(ready, tight, ["小猫", "小狗"], role="query", instruction=["", "长" * 99])
    tokenize(ready, tight, ["小猫"], role="document")
    tokenize(ready, tight, ["小猫"], role="query", instruction="")
    wider = EncoderSettings(prompts=SETTINGS.prompts, max_length=alone + 1)
    first, second = tokenize(ready, wider, ["小猫", "雨伞"], role="query")
    assert first != second


# --------------------------------------------------------------------------- prompts


def test_the_prompt_stands_once_before_queries_and_not_before_documents(ready):
    query, document = (tokenize(ready, SETTINGS, ["小猫"], role=role)[0] for role in ("query", "document"))
    assert query == tokenize(ready, SETTINGS, [PROMPT + "小猫"], role="document")[0]
    assert ready.decode(query).count("Instruct") == 1
    assert "Instruct" not in ready.decode(document)


def test_an_instruction_for_all_or_for_each(ready):
    one = tokenize(ready, SETTINGS, ["小猫", "小狗"], role="query", instruction="找相似的句子")
    assert [ready.decode(ids).count("找相似的句子") for ids in one] == [1, 1]
    assert tokenize(ready, SETTINGS, ["小猫"], role="query", instruction=TASK) == tokenize(
        ready, SETTINGS, ["小猫"], role="query"
    )
    own = tokenize(ready, SETTINGS, ["小猫", "小狗", "小鸟"], role="query", instruction=["找", None, ""])
    assert [ready.decode(ids) for ids in own] == [
        "Instruct: 找\nQuery: 小猫<|endoftext|>",
        f"{PROMPT}小狗<|endoftext|>",
        "小鸟<|endoftext|>",
    ]


def test_instructions_must_match_the_texts_and_the_role(ready):
    with pytest.raises(ValueError, match="1 instructions for 2 texts; give one for all, or one for each"):
        tokenize(ready, SETTINGS, ["小猫", "小狗"], role="query", instruction=["找"])
    with pytest.raises(ValueError, match="belongs to queries"):
        tokenize(ready, SETTINGS, ["小猫"], role="document", instruction="找")
    with pytest.raises(ValueError, match="belongs to queries"):
        tokenize(ready, SETTINGS, ["小猫", "小狗"], role="document", instruction=[None, "找"])


def test_no_texts_no_ids(ready):
    assert tokenize(ready, SETTINGS, [], role="query") == []
    assert tokenize(ready, SETTINGS, [], role="query", instruction=[]) == []


# --------------------------------------------------------------------------- ensure_eos


def test_eos_is_appended_by_the_tokenizers_own_template(tokenizer, tmp_path):
    assert ending_token(tokenizer) is None
    ensure_eos(tokenizer)
    assert ending_token(tokenizer) == EOS
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again("小猫")["input_ids"][-1] == EOS
    assert again("小猫", "小狗")["input_ids"].count(EOS) == 2
    before = again.backend_tokenizer.to_str()
    ensure_eos(again)
    assert [ids.count(EOS) for ids in again(["小猫", ""])["input_ids"]] == [1, 1]
    assert again.backend_tokenizer.post_processor is not None
    assert before.count("SpecialToken") == again.backend_tokenizer.to_str().count("SpecialToken")


def test_a_leading_bos_is_kept(tokenizer):
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    ensure_eos(tokenizer)
    ids = tokenizer("小猫")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id != EOS
    assert ids[-1] == EOS
    assert all(a != b for a, b in pairwise(ids))


def test_a_template_with_its_own_ending_is_left_alone():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"信息检索模型小猫"]
    bert = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    before = bert("小猫")["input_ids"]
    assert before[0] == 2
    ensure_eos(bert)
    assert bert("小猫")["input_ids"] == before
    assert ending_token(bert) == 3


def test_a_tokenizer_without_eos_is_refused(tokenizer):
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="names no EOS token"):
        ensure_eos(tokenizer)


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(InputError, match=r"no tokenizer.json .* convert it once"):
        ensure_eos(object())


def test_a_tokenizer_blind_to_chinese_is_no_accident():
    blind = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"</s>": 0, "a": 1}, unk_token="a")), eos_token="</s>"
    )
    with pytest.raises(InputError, match="does not keep EOS"):
        ensure_eos(blind)
