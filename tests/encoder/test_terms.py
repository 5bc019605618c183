"""The term model: its vectors against sums over dictionaries, its tokenizer, and what its weights begin with."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_models import SENTENCES, gap

from zhihui.encoder import Encoder, EncoderSettings
from zhihui.encoder.pooling import pool_padded
from zhihui.encoder.stage import BuildConfig
from zhihui.encoder.terms import PASSAGE, PROMPTS, UNKNOWN, _latin_pieces, build
from zhihui.errors import InputError
from zhihui.training.gradient_cache import CacheConfig, cached_backward

TEXTS = [*SENTENCES, "邻居送来一篮刚摘的枇杷，又甜又多汁。"] * 3
"""Every character occurs three times, which is what it takes to be known."""
MIXED = [*SENTENCES, "", "雨", "茶茶茶，茶茶茶", "龘龘", "。！", "".join(SENTENCES[:5])]
SEMANTIC = 384


@pytest.fixture(scope="module")
def model() -> Encoder:
    """A term model, moved off the zeros it begins with; tests must leave it as they found it."""
    encoder = build(TEXTS, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        encoder.backbone.emphasis.copy_(0.5 * torch.randn(encoder.backbone.emphasis.shape, generator=generator))
    return encoder


def vectors(encoder, texts, role="query"):
    return torch.from_numpy(encoder.encode(texts, role=role))


# --------------------------------------------------------------------------- vectors


def hashed(number: int, seed: int) -> int:
    x = (number + (seed + 1) * 0x9E3779B9) % 2**32
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) % 2**32
    return (x ^ (x >> 16)) >> 1


def terms_of(backbone, ids):
    """Return the terms of a text: tokens in simplified form, and pairs of those that stand side by side."""
    config = backbone.config
    tokens = [int(backbone.folded[i]) for i in ids]
    if not any(tokens):
        tokens = [config.unknown_token_id]
    pairs = [(a, b) for a, b in pairwise(tokens) if a and b]
    return [t for t in tokens if t], [
        config.vocab_size + hashed(a * 1_000_003 + b, 0) % config.buckets for a, b in pairs
    ]


def reference(backbone, ids):
    """Return a text's vector in fp64, a term at a time."""
    config, state = backbone.config, {name: p.double().numpy() for name, p in backbone.state_dict().items()}
    tokens, pairs = terms_of(backbone, ids)
    semantic = np.zeros(config.semantic_size)
    lexical = np.zeros(config.hidden_size - config.semantic_size)
    if config.passage_token_id in ids:
        lexical[0] = math.exp(state["length"][0])
    for term, count in Counter(tokens + pairs).items():
        weight = math.exp(state["weight"][term]) * count * (1 + config.saturation) / (count + config.saturation)
        row = int(state["row"][term])
        if row:
            semantic += weight * math.exp(state["emphasis"][row]) * state["embedding"][row]
        for number in range(config.signs):
            bits = hashed(term, 1 + number)
            sign = 1 if bits % 2 else -1
            lexical[1 + (bits >> 1) % (len(lexical) - 1)] += sign * weight / math.sqrt(config.signs)
    parts = [part / max(np.linalg.norm(part), 1e-12) for part in (semantic, lexical)]
    share = config.semantic_share
    return np.concatenate([math.sqrt(share) * parts[0], math.sqrt(1 - share) * parts[1]])


@pytest.mark.parametrize("role", ["query", "document"])
def test_vectors_are_sums_over_terms(model, role):
    found = model.encode(MIXED, role=role)
    assert found.dtype == np.float32
    for text, ids, vector in zip(MIXED, model.tokenize(MIXED, role=role), found, strict=True):
        expected = reference(model.backbone, ids)
        assert gap(vector, expected / np.linalg.norm(expected)) < 1e-6, text


@pytest.mark.parametrize("pooling", ["lasttoken", "mean", "cls"])
def test_alone_in_a_batch_and_padded_on_either_side_by_any_pooling(model, pooling):
    expected = vectors(model, MIXED, "document")
    own = Encoder(model.backbone, model.tokenizer, replace(model.settings, pooling=pooling), name="m", packable=False)
    assert gap(torch.cat([vectors(own, [text], "document") for text in MIXED]), expected) < 1e-6
    assert gap(vectors(own, MIXED, "document"), expected) < 1e-6
    for side in ("left", "right"):
        inputs = model.tokenizer([PASSAGE + t for t in MIXED], padding=True, padding_side=side, return_tensors="pt")
        padding = inputs["attention_mask"] == 0
        inputs["input_ids"][padding] = model.tokenizer.convert_tokens_to_ids("茶")  # the mask counts, not the id
        with torch.no_grad():
            states = model.backbone(**inputs).last_hidden_state
            found = torch.nn.functional.normalize(pool_padded(states, inputs["attention_mask"], pooling))
            assert gap(found, expected) < 1e-6


def test_a_text_of_nothing_known_has_a_vector(model):
    found = vectors(model, ["", "龘", "！。", "  \n", "😀"])
    assert torch.isfinite(found).all()
    assert gap(found.norm(dim=1), torch.ones(5)) < 1e-6
    assert gap(found, found[:1].expand(5, -1)) == 0
    assert model.tokenize(["", "龘"], role="query") == [[1], [1]]
    assert model.tokenizer.convert_tokens_to_ids(UNKNOWN) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("邻居送来一篮刚摘的枇杷", "鄰居送來一籃剛摘的枇杷"),
        ("Python 里怎样把列表倒序", "PYTHON 里怎样把列表倒序"),
        ("用 reversed 或者切片3.14", "用 ｒｅｖｅｒｓｅｄ 或者切片３．１４"),
        ("泡绿茶的水温", "泡绿茶的水温。"),
        ("泡绿茶，茶汤会发苦", "泡绿茶；茶汤会发苦！"),
    ],
    ids=["traditional", "case", "width", "final-stop", "punctuation"],
)
def test_texts_that_differ_in_form_alone_are_one(model, one, other):
    assert one != other
    for role in ("query", "document"):
        assert gap(*vectors(model, [one, other], role)) == 0


def test_no_pair_crosses_punctuation(model):
    def terms(text):
        (ids,) = model.tokenize([text], role="query")
        return model.backbone.terms(torch.tensor([ids]))[0].tolist()

    size = model.backbone.config.vocab_size
    together, apart = terms("茶汤"), terms("茶，汤")
    assert [term < size for term in together] == [True, True, False]
    assert apart == together[:2]
    assert terms("茶 汤") == together  # a space says as little, and is no token


def test_the_prompt_marks_passages_alone(model):
    query, passage = vectors(model, SENTENCES, "query"), vectors(model, SENTENCES, "document")
    assert model.settings.prompts == PROMPTS
    assert (query[:, SEMANTIC] == 0).all()
    assert (passage[:, SEMANTIC] > 0.1).all()
    assert gap(query[:, :SEMANTIC], passage[:, :SEMANTIC]) < 1e-7
    rests = [part[:, SEMANTIC + 1 :] / part[:, SEMANTIC + 1 :].norm(dim=1, keepdim=True) for part in (query, passage)]
    assert gap(*rests) < 1e-6
    longer = vectors(model, ["".join(SENTENCES)], "document")
    assert longer[0, SEMANTIC] < passage[:, SEMANTIC].min()  # what is added matters less to a long passage


def test_a_prefix_is_the_semantic_part_alone(model):
    before = vectors(model, SENTENCES, "document")
    share = torch.full((len(SENTENCES),), model.backbone.config.semantic_share)
    assert gap(before[:, :SEMANTIC].norm(dim=1) ** 2, share) < 1e-6
    with torch.no_grad():
        model.backbone.length += 1
        after = vectors(model, SENTENCES, "document")
        model.backbone.length -= 1
    assert gap(before[:, :SEMANTIC], after[:, :SEMANTIC]) < 1e-7
    assert gap(before[:, SEMANTIC:], after[:, SEMANTIC:]) > 0.01


def test_a_text_is_cut_at_max_length(model):
    own = replace(model.settings, max_length=7)
    short = Encoder(model.backbone, model.tokenizer, own, name="m", packable=False)
    for role, room in (("query", 7), ("document", 6)):  # the mark of a passage takes one
        text = "清晨的湖面上飘着一层薄薄的雾气"
        assert gap(vectors(short, [text], role), vectors(model, [text[:room]], role)) == 0
        assert gap(vectors(short, [text], role), vectors(model, [text], role)) > 0.01


def test_gradients_reach_every_part_and_do_not_depend_on_chunks(model):
    backbone = model.backbone
    sequences = model.tokenize(SENTENCES[:6], role="query") + model.tokenize(SENTENCES[6:12], role="document")

    def loss(found):
        leaf = found.detach().requires_grad_()
        scores = leaf[:6] @ leaf[6:].T / 0.05
        value = torch.nn.functional.cross_entropy(scores, torch.arange(6))
        value.backward()
        return value.detach(), leaf.grad

    found = {}
    for chunk in (8, 100_000):
        model.zero_grad()
        cache = CacheConfig(chunk_tokens=chunk, graph_tokens=chunk)
        cached_backward(model, sequences, loss, cache, device=torch.device("cpu"), padded=True)
        found[chunk] = {name: parameter.grad.clone() for name, parameter in backbone.named_parameters()}
    model.zero_grad()
    assert set(found[8]) == {"weight", "emphasis", "embedding"}
    for name, whole in found[100_000].items():
        assert whole.abs().max() > 1e-4, name
        assert gap(found[8][name], whole) < 1e-5 * float(whole.abs().max()), name


# --------------------------------------------------------------------------- what it begins with


def test_latin_pieces_are_the_same_in_every_run():
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 9))) for _ in range(2000)]
    # Most pairs of letters here are as frequent as others, so that what comes first among equals shows.
    found = {tuple(_latin_pieces([" ".join(words)] * 6)) for _ in range(4)}
    assert len(found) == 1


def test_weights_are_inverse_document_frequencies_by_hand():
    encoder = build(TEXTS, seed=0)
    backbone, texts = encoder.backbone, len(TEXTS)
    size = backbone.config.vocab_size
    frequency = np.zeros(len(backbone.weight))
    distinct = []
    for ids in encoder.tokenize(TEXTS, role="query"):
        distinct.append({term for part in terms_of(backbone, ids) for term in part})
        frequency[sorted(distinct[-1])] += 1
    idf = np.log(1 + (texts - frequency + 0.5) / (frequency + 0.5))
    weight = idf / idf[size:].mean()
    assert gap(backbone.weight.detach(), torch.from_numpy(np.log(weight)).float()) < 1e-5
    norms = [math.hypot(*weight[list(terms)]) for terms in distinct]
    assert math.exp(float(backbone.length)) == pytest.approx(np.mean(np.square(norms)) ** 0.5, abs=1e-5)
    assert ((backbone.row != 0).numpy() == (frequency > 0)).all()
    assert sorted(backbone.row[backbone.row != 0].tolist()) == list(range(1, (frequency > 0).sum() + 1))


def test_a_rare_term_weighs_more_than_a_frequent_one(model):
    frequent, rare = (model.tokenizer.convert_tokens_to_ids(char) for char in "的篮")
    assert model.backbone.folded[rare] == rare != 1
    assert model.backbone.weight[frequent] < model.backbone.weight[rare]
    both = vectors(model, ["的篮", "的", "篮"])[:, SEMANTIC:]
    assert both[0] @ both[1] < both[0] @ both[2]


def test_the_seed_decides_the_embeddings_alone():
    first, same, other = (build(TEXTS, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == same.fingerprint
    states = first.backbone.state_dict(), other.backbone.state_dict()
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == ["embedding"]
    assert first.tokenizer.get_vocab() == other.tokenizer.get_vocab()


def test_a_character_seen_twice_is_unknown_and_a_vocabulary_is_bounded():
    few = build(["清清清清", "晨晨晨", "湖湖"], seed=0).tokenizer.get_vocab()
    assert {"清", "晨"} <= set(few)
    assert "湖" not in few
    assert "晨" not in build(["清清清清", "晨晨晨", "湖湖"], seed=0, vocabulary=1).tokenizer.get_vocab()


def test_prompts_of_other_words_are_kept():
    own = {"query": "问：", "document": PASSAGE}
    assert build(TEXTS, seed=0, settings=EncoderSettings(prompts=own)).settings.prompts == own


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "terms", "attention": "causal"}, "attention causal: a model of terms has none"),
        ({"shape": "term"}, "shape 'term' is unknown; choose tiny, micro, .*, terms"),
        ({"shape": "terms", "vocabulary": 0}, "vocabulary 0 has room for no character; use at least 1"),
    ],
    ids=["causal", "unknown", "vocabulary"],
)
def test_what_cannot_be_built_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        BuildConfig(**settings).build(TEXTS)


def test_no_text_is_refused():
    with pytest.raises(InputError, match="needs texts to count terms in; none were given"):
        BuildConfig(shape="terms").build([])
