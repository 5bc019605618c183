from __future__ import annotations

import pytest
import torch
from small_models import PROMPT, SENTENCES, gap
from transformers import AutoTokenizer, Qwen2Tokenizer

from zhihui.encoder import SHAPES, EncoderSettings, build
from zhihui.encoder.attention import PACKED
from zhihui.encoder.fresh import token_weights, train_tokenizer
from zhihui.encoder.probe import check_direction, is_packable
from zhihui.errors import InputError

# --------------------------------------------------------------------------- shapes

HEADS_7B = 152064 * 3584
"""Entries of the output layer, which the published count of Qwen2-7B includes and a backbone does not have."""
PUBLISHED = {"qwen2-0.5b": 494_032_768, "qwen2-1.5b": 1_543_714_304, "qwen2-7b": 7_615_616_512 - HEADS_7B}


@pytest.mark.parametrize(("shape", "count"), PUBLISHED.items())
def test_the_published_sizes_of_qwen2(shape, count):
    encoder = build(shape, SENTENCES, seed=0, device="meta", dtype=torch.bfloat16)
    assert sum(p.numel() for p in encoder.parameters()) == count
    assert {p.device.type for p in encoder.parameters()} == {"meta"}
    assert encoder.dtype == torch.bfloat16
    assert encoder.dimension == SHAPES[shape].hidden


def test_the_7b_shape_is_gte_qwen2_but_for_the_unused_rows_of_its_embedding():
    encoder = build("qwen2-7b", SENTENCES, seed=0, device="meta")
    assert encoder.dimension == 3584
    unused = 152064 - 151646  # gte-Qwen2-7B-instruct cut its embedding to the tokens there are
    assert sum(p.numel() for p in encoder.parameters()) - unused * 3584 == 7_069_121_024


@pytest.mark.parametrize("shape", ["tiny", "nano"])
def test_small_shapes_have_no_more_embeddings_than_tokens(shape):
    encoder = build(shape, SENTENCES, seed=0)
    size, rows = SHAPES[shape], encoder.backbone.config.vocab_size
    assert rows % 64 == 0
    assert rows - 64 < len(encoder.tokenizer) <= rows
    layer = 4 * size.hidden**2 + 3 * size.hidden + 3 * size.hidden * size.inner + 2 * size.hidden
    expected = rows * size.hidden + size.layers * layer + size.hidden
    assert sum(p.numel() for p in encoder.parameters()) == expected


# --------------------------------------------------------------------------- building


def test_the_seed_decides_the_weights():
    first, same, other = (build("tiny", SENTENCES, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["backbone.embed_tokens.weight"], other["backbone.embed_tokens.weight"])
    assert not torch.equal(first["backbone.layers.1.mlp.up_proj.weight"], other["backbone.layers.1.mlp.up_proj.weight"])


def test_building_leaves_the_callers_randomness_and_default_dtype_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build("tiny", SENTENCES, seed=1, dtype=torch.bfloat16)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_fresh_model_is_what_it_says(bidirectional, dtype):
    encoder = build("tiny", SENTENCES, seed=1, bidirectional=bidirectional, dtype=dtype)
    assert encoder.is_causal is not bidirectional
    assert {p.dtype for p in encoder.parameters()} == {dtype}
    assert not encoder.training
    assert encoder.backbone.config._attn_implementation == PACKED
    encoder.backbone.set_attn_implementation("sdpa")
    check_direction(encoder.backbone, claimed_open=bidirectional, name="fresh")
    assert is_packable(encoder.backbone)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("qwen3-8b", SENTENCES), "shape 'qwen3-8b' is unknown; choose one of tiny, micro, nano, qwen2-0.5b"),
        (("tiny", []), "needs texts to train its tokenizer on"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build(*arguments, seed=0)


def test_a_vocabulary_has_room_for_all_bytes():
    with pytest.raises(InputError, match=r"vocabulary 256 is too small: .* take 257"):
        build("tiny", SENTENCES, seed=0, vocabulary=256)
    assert len(build("tiny", SENTENCES, seed=0, vocabulary=257).tokenizer) == 257
    assert len(build("tiny", SENTENCES, seed=0, vocabulary=300).tokenizer) == 300


# --------------------------------------------------------------------------- tokenizer


def test_the_tokenizer_is_qwen2s_kind_and_loads_as_one(tiny, tmp_path):
    assert isinstance(tiny.tokenizer, Qwen2Tokenizer)
    tiny.tokenizer.save_pretrained(tmp_path)
    text = "泡绿茶的水温，😀 Python 3"
    ids = tiny.tokenizer(text)["input_ids"]
    assert ids[-1] == tiny.tokenizer.eos_token_id
    for loader in (Qwen2Tokenizer, AutoTokenizer):
        again = loader.from_pretrained(tmp_path)
        assert isinstance(again, Qwen2Tokenizer)
        assert again(text)["input_ids"] == ids
        assert again.model_max_length == 32768


def test_the_tokenizer_knows_every_byte_and_has_no_unknown():
    tokenizer = train_tokenizer(["天"], 257)
    text = "从未见过的字：龘😀\x00é"
    assert tokenizer.decode(tokenizer(text)["input_ids"][:-1]) == text
    assert len(tokenizer("龘")["input_ids"]) == 4  # three bytes and EOS


def test_the_prompt_becomes_few_tokens():
    with_prompt, without = (train_tokenizer(SENTENCES, 700, prompt=p) for p in (PROMPT, ""))
    assert len(with_prompt(PROMPT)["input_ids"]) * 2 < len(without(PROMPT)["input_ids"])


# --------------------------------------------------------------------------- bag of tokens


def test_weights_are_inverse_document_frequencies_by_hand():
    texts = ["aab", "ac", "a"]
    tokenizer = train_tokenizer(["x"], 257)
    weights = token_weights(tokenizer, texts, prompt="z", size=300)
    of = {letter: weights[tokenizer(letter)["input_ids"][0]].item() for letter in "abcdz"}
    # ln(1 + 3 / df); a token in no text counts as if in one.
    assert of == pytest.approx({"a": 0.6931472, "b": 1.3862944, "c": 1.3862944, "d": 1.3862944, "z": 1e-3})
    assert weights[tokenizer.eos_token_id] == pytest.approx(1e-3)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("shape", ["tiny", "nano"])
def test_the_last_state_is_the_weighted_mean_of_token_vectors(shape, bidirectional):
    settings = EncoderSettings(prompts={"query": PROMPT}, max_length=300)
    encoder = build(shape, SENTENCES, seed=3, settings=settings, bidirectional=bidirectional)
    texts = [*SENTENCES, "雨伞" * 140]
    weights = token_weights(encoder.tokenizer, SENTENCES, prompt=PROMPT, size=encoder.backbone.config.vocab_size)
    table = encoder.backbone.embed_tokens.weight.detach().double()
    # Rows scaled to the norm that the model gives them; channel 0 carries the weight and is no part of the vector.
    rows = table / table.square().mean(1, keepdim=True).sqrt()
    rows[:, 0] = 0
    for role in ("query", "document"):
        vectors = encoder.encode(texts, role=role)
        for vector, ids in zip(vectors, encoder.tokenize(texts, role=role), strict=True):
            mean = (weights[ids].double()[:, None] * rows[ids]).sum(0)
            cosine = float(torch.nn.functional.cosine_similarity(torch.tensor(vector).double(), mean, dim=0))
            assert cosine > 0.9995, ids
            assert abs(vector[0]) < 1e-6


def test_a_fresh_model_already_retrieves():
    encoder = build("nano", SENTENCES, seed=3)
    queries = ["泡绿茶水温多少度", "自行车链条生锈怎么办", "雨伞发霉", "发烧喝温水", "押金什么时候退还"]
    answers = [1, 2, 17, 4, 11]
    scores = encoder.encode_queries(queries) @ encoder.encode_documents(SENTENCES).T
    assert scores.argmax(1).tolist() == answers


def test_vectors_ignore_the_prompt_in_a_fresh_model():
    encoder = build("tiny", SENTENCES, seed=3)
    queries, documents = encoder.encode_queries(SENTENCES), encoder.encode_documents(SENTENCES)
    assert gap((queries * documents).sum(1), torch.ones(len(SENTENCES))) < 0.15
