from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

from zhihui.encoder import CachedEncoder, Encoder, EncoderSettings, build, cache, query_prompt
from zhihui.encoder.packing import pack
from zhihui.errors import InputError, RunFailure

TEXTS = [f"第{number}句：红茶用九十度的水泡，绿茶用八十度。" for number in range(10)]
QUERIES = ["红茶怎么泡", "绿茶用多热的水"]


class Counting:
    """An encoder with a vector for each text, that tells what it was asked for."""

    name = "counting"

    def __init__(self, fingerprint: str = "one", *, dimension: int = 4) -> None:
        self.fingerprint = fingerprint
        self.dimension = dimension
        self.calls: list[list[str]] = []

    def encode_queries(self, texts, *, instruction=None):
        return self.encode_documents([f"{instruction}：{text}" for text in texts])

    def encode_documents(self, texts):
        self.calls.append(list(texts))
        rows = [np.random.default_rng([len(self.fingerprint), *text.encode()]) for text in texts]
        return np.array([r.standard_normal(self.dimension) for r in rows], np.float32).reshape(-1, self.dimension)


@pytest.fixture(scope="module")
def model() -> Encoder:
    encoder = build("tiny", TEXTS, seed=0, settings=EncoderSettings(max_length=64), vocabulary=300)
    with torch.no_grad():  # a bag of tokens would not notice order, attention and the like
        generator = torch.Generator().manual_seed(1)
        for weight in encoder.backbone.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return encoder


def variant(model: Encoder, **settings: object) -> Encoder:
    """A copy with weights and tokenizer of its own."""
    return Encoder(
        copy.deepcopy(model.backbone),
        copy.deepcopy(model.tokenizer),
        replace(model.settings, **settings),
        name=model.name,
    ).eval()


# --------------------------------------------------------------------------- what is kept


def test_vectors_are_those_of_the_encoder_bit_for_bit_and_computed_once(tmp_path):
    encoder = Counting()
    first = CachedEncoder(encoder, tmp_path, block=3).encode_documents(TEXTS)
    assert [len(call) for call in encoder.calls] == [3, 3, 3, 1]
    np.testing.assert_array_equal(first, Counting().encode_documents(TEXTS))
    assert first.dtype == np.float32
    for cached in (CachedEncoder(encoder, tmp_path), CachedEncoder(encoder, tmp_path, block=1)):
        np.testing.assert_array_equal(cached.encode_documents(TEXTS[::-1]), first[::-1])
    assert len(encoder.calls) == 4


def test_repeated_texts_are_computed_once_and_returned_each_time(tmp_path):
    encoder = Counting()
    found = CachedEncoder(encoder, tmp_path).encode_documents([*TEXTS[:2], *TEXTS[:3], TEXTS[1]])
    assert encoder.calls == [TEXTS[:3]]
    np.testing.assert_array_equal(found, Counting().encode_documents([*TEXTS[:2], *TEXTS[:3], TEXTS[1]]))


def test_only_new_texts_are_computed(tmp_path):
    encoder = Counting()
    cached = CachedEncoder(encoder, tmp_path)
    cached.encode_documents(TEXTS[:4])
    found = cached.encode_documents(TEXTS[2:7])
    assert encoder.calls == [TEXTS[:4], TEXTS[4:7]]
    np.testing.assert_array_equal(found, Counting().encode_documents(TEXTS[2:7]))


def test_no_texts_give_no_vectors_of_the_right_length(tmp_path):
    assert CachedEncoder(Counting(), tmp_path).encode_documents([]).shape == (0, 4)


def test_texts_that_utf8_cannot_hold_are_told_apart(tmp_path):
    encoder = Counting()
    encoder.encode_documents = lambda texts: np.array([[float(ord(text))] for text in texts], np.float32)
    cached = CachedEncoder(encoder, tmp_path)
    assert cached.encode_documents(["\ud83d", "\ude00", "?"]).ravel().tolist() == [0xD83D, 0xDE00, ord("?")]


def test_a_real_encoder_and_its_cache_agree(model, tmp_path):
    cached = CachedEncoder(model, tmp_path)
    first = cached.encode_queries(QUERIES)
    np.testing.assert_array_equal(first, model.encode_queries(QUERIES))
    # Alone, a text is computed in another batch: only the stored vector has the same last bit.
    np.testing.assert_array_equal(cached.encode_queries(QUERIES[1:]), first[1:])
    assert (cached.name, cached.fingerprint) == (model.name, model.fingerprint)


@pytest.mark.parametrize("shape", [(9, 4), (10,), (10, 4, 1)])
def test_wrong_vectors_are_told_and_not_kept(tmp_path, shape):
    encoder = Counting()
    encoder.encode_documents = lambda texts: np.zeros(shape, np.float32)
    with pytest.raises(RunFailure, match=r"counting returned vectors .* for document texts, expected \[10, D\]"):
        CachedEncoder(encoder, tmp_path).encode_documents(TEXTS)
    assert list(tmp_path.rglob("*.block")) == []


def test_vectors_of_another_length_are_told(tmp_path):
    encoder = Counting()
    CachedEncoder(encoder, tmp_path).encode_documents(TEXTS[:5])
    encoder.dimension = 5
    with pytest.raises(RunFailure, match=r"vectors \[5, 5\] .* expected \[5, 4\]"):
        CachedEncoder(encoder, tmp_path).encode_documents(TEXTS)


def test_bad_settings_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; an embedding cache is a folder"):
        CachedEncoder(Counting(), tmp_path / "file")
    with pytest.raises(InputError, match="block 0 is not positive"):
        CachedEncoder(Counting(), tmp_path, block=0)
    with pytest.raises(ValueError, match="single string"):
        CachedEncoder(Counting(), tmp_path).encode_documents("一句")


# --------------------------------------------------------------------------- what a vector depends on


def assert_no_stale_vectors(model: Encoder, other: Encoder, folder, encode) -> None:
    """The cache was filled by `model`; `other` must get its own vectors, and they must differ, or nothing is shown."""
    filled = encode(CachedEncoder(model, folder))
    found = encode(CachedEncoder(other, folder))
    np.testing.assert_array_equal(found, encode(other))
    assert np.abs(found - filled).max() > 1e-4
    np.testing.assert_array_equal(encode(CachedEncoder(model, folder)), filled)


def documents(encoder):
    return encoder.encode_documents(TEXTS)


def queries(encoder):
    return encoder.encode_queries(QUERIES)


def test_key_has_the_weights(model, tmp_path):
    retrained = variant(model)
    with torch.no_grad():
        retrained.backbone.layers[0].mlp.down_proj.weight[3] += 1
    assert_no_stale_vectors(model, retrained, tmp_path, documents)


@pytest.mark.parametrize("kind", ["plain", "foreach", "fused", "data"])
def test_key_has_the_weights_as_they_are_now(model, tmp_path, kind):
    trained = variant(model)
    cached = CachedEncoder(trained, tmp_path)
    before = cached.encode_documents(TEXTS)
    if kind == "data":
        for weight in trained.parameters():
            weight.data.mul_(torch.linspace(0.5, 1.5, weight.shape[-1]))
    else:
        optimizer = torch.optim.AdamW(trained.parameters(), lr=0.1, **({} if kind == "plain" else {kind: True}))
        trained(pack(trained.tokenize(TEXTS, role="document"))).sum().backward()
        optimizer.step()
    after = cached.encode_documents(TEXTS)
    np.testing.assert_array_equal(after, trained.encode_documents(TEXTS))
    assert np.abs(after - before).max() > 1e-3


def test_key_has_the_tokenizer(model, tmp_path):
    other = variant(model)
    other.tokenizer.add_tokens(["红茶"])
    other.tokenizer.backend_tokenizer.normalizer = None
    other.backbone.resize_token_embeddings(model.backbone.config.vocab_size)
    assert_no_stale_vectors(model, other, tmp_path, documents)


def test_key_has_the_prompts(model, tmp_path):
    other = variant(model, prompts={"query": query_prompt("找出说同一件事的句子")})
    assert_no_stale_vectors(model, other, tmp_path, queries)


def test_key_has_the_instruction(model, tmp_path):
    cached = CachedEncoder(model, tmp_path)
    own, bare = cached.encode_queries(QUERIES), cached.encode_queries(QUERIES, instruction="")
    asked = cached.encode_queries(QUERIES, instruction="找出答案")
    np.testing.assert_array_equal(asked, model.encode_queries(QUERIES, instruction="找出答案"))
    np.testing.assert_array_equal(bare, model.encode_queries(QUERIES, instruction=""))
    assert min(np.abs(own - bare).max(), np.abs(own - asked).max(), np.abs(bare - asked).max()) > 1e-4


def test_key_has_the_role(model, tmp_path):
    cached = CachedEncoder(model, tmp_path)
    as_queries, as_documents = cached.encode_queries(QUERIES), cached.encode_documents(QUERIES)
    np.testing.assert_array_equal(as_documents, model.encode_documents(QUERIES))
    assert np.abs(as_documents - as_queries).max() > 1e-4


def test_key_has_the_pooling(model, tmp_path):
    assert_no_stale_vectors(model, variant(model, pooling="mean"), tmp_path, documents)


def test_key_has_the_normalisation(model, tmp_path):
    assert_no_stale_vectors(model, variant(model, normalize=False), tmp_path, documents)


def test_key_has_the_length(model, tmp_path):
    assert_no_stale_vectors(model, variant(model, max_length=8), tmp_path, documents)


def test_key_has_the_dtype(model, tmp_path):
    assert_no_stale_vectors(model, variant(model).to(torch.bfloat16), tmp_path, documents)


def test_key_has_the_attention(model, tmp_path):
    other = variant(model)
    other.backbone.config.is_causal = True
    assert_no_stale_vectors(model, other, tmp_path, documents)


def test_key_has_the_configuration(model, tmp_path):
    other = variant(model)
    for norm in [layer.input_layernorm for layer in other.backbone.layers]:
        norm.variance_epsilon = 0.5
    other.backbone.config.rms_norm_eps = 0.5
    assert_no_stale_vectors(model, other, tmp_path, documents)


def test_key_has_the_text(tmp_path):
    cached = CachedEncoder(Counting(), tmp_path)
    found = cached.encode_documents(["红茶", "红茶 ", "紅茶"])
    assert len(np.unique(found, axis=0)) == 3


# --------------------------------------------------------------------------- killed, torn, shared


def blocks(folder):
    return sorted(folder.rglob("*.block"))


@pytest.mark.parametrize("damage", ["empty", "header", "half", "one byte short", "one byte long", "noise"])
def test_a_torn_block_is_ignored_and_computed_again(tmp_path, damage):
    whole = CachedEncoder(Counting(), tmp_path, block=5).encode_documents(TEXTS)
    torn = blocks(tmp_path)[0]
    content = torn.read_bytes()
    torn.write_bytes(
        {
            "empty": b"",
            "header": content[:100],
            "half": content[: len(content) // 2],
            "one byte short": content[:-1],
            "one byte long": content + b"\0",
            "noise": bytes(len(content)),
        }[damage]
    )
    encoder = Counting()
    cached = CachedEncoder(encoder, tmp_path, block=5)
    np.testing.assert_array_equal(cached.encode_documents(TEXTS), whole)
    assert sum(map(len, encoder.calls)) == 5
    assert torn.read_bytes() == content
    CachedEncoder(encoder, tmp_path).encode_documents(TEXTS)
    assert sum(map(len, encoder.calls)) == 5


KILLED = """
    import os, signal, sys
    import numpy as np
    from pathlib import Path
    from zhihui import runs
    from zhihui.encoder.cache import CachedEncoder

    class Encoder:
        name = fingerprint = "one"
        def encode_documents(self, texts):
            return np.array([[float(text), 1.0] for text in texts], np.float32)

    replace, written = Path.replace, []
    def killed(self, target):
        # Killed with the third block on disk under its hidden name, whole or half.
        if len(written) == 2:
            if sys.argv[2] == "half":
                os.truncate(self, self.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(target)
        return replace(self, target)
    Path.replace = killed
    CachedEncoder(Encoder(), Path(sys.argv[1]), block=4).encode_documents([str(n) for n in range(20)])
"""


@pytest.mark.parametrize("state", ["whole", "half"])
def test_a_killed_process_leaves_what_it_had_finished(tmp_path, state):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), state]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert len(blocks(tmp_path)) == 2
    encoder = Counting()
    encoder.encode_documents = lambda texts: (
        encoder.calls.append(texts) or np.array([[float(text), 1.0] for text in texts], np.float32)
    )
    found = CachedEncoder(encoder, tmp_path, block=4).encode_documents([str(n) for n in range(20)])
    assert found[:, 0].tolist() == list(range(20))
    assert sum(map(len, encoder.calls)) == 12


def test_what_another_process_finished_meanwhile_is_not_computed_again(tmp_path):
    other = Counting()

    class Slow(Counting):
        def encode_documents(self, texts):
            if not self.calls:
                CachedEncoder(other, tmp_path, block=2).encode_documents(TEXTS[2:6])
            return super().encode_documents(texts)

    slow = Slow()
    found = CachedEncoder(slow, tmp_path, block=2).encode_documents(TEXTS)
    np.testing.assert_array_equal(found, Counting().encode_documents(TEXTS))
    assert slow.calls == [TEXTS[:2], TEXTS[6:8], TEXTS[8:]]


def test_two_that_computed_the_same_agree_on_one_vector_afterwards(tmp_path, monkeypatch):
    """The last bits may differ, as those of two batches do; whoever reads later always reads the same."""
    first, second = Counting(), Counting()
    second.encode_documents = lambda texts: first.encode_documents(texts) + np.float32(1e-3)
    with monkeypatch.context() as patch:
        patch.setattr(cache._Shelf, "refresh", lambda self: None)  # neither sees the other at work
        CachedEncoder(first, tmp_path).encode_documents(TEXTS)
        CachedEncoder(second, tmp_path).encode_documents(TEXTS)
    assert len(blocks(tmp_path)) == 2
    unused = Counting()
    later = [CachedEncoder(unused, tmp_path).encode_documents(part) for part in (TEXTS, TEXTS[::-1])]
    np.testing.assert_array_equal(later[0], later[1][::-1])
    assert unused.calls == []
    with blocks(tmp_path)[0].open("rb") as stream:  # the first by name, however the folder is listed
        np.load(stream)
        np.testing.assert_array_equal(later[0], np.load(stream))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")
def test_memory_stays_at_the_result(tmp_path):
    """40,000 vectors of 256 numbers are 41 MB; a second copy, or all blocks mapped at once, would show."""
    code = """
        import sys
        import numpy as np
        from pathlib import Path
        from zhihui.encoder.cache import CachedEncoder

        class Encoder:
            name = fingerprint = "one"
            def encode_documents(self, texts):
                if len(sys.argv) > 2:
                    raise SystemExit("computed again")
                return np.ones((len(texts), 256), np.float32) * np.arange(len(texts))[:, None]

        def peak():
            return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

        texts = [str(n) for n in range(40_000)]
        before = peak()
        CachedEncoder(Encoder(), Path(sys.argv[1])).encode_documents(texts)
        print(peak() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    for extra in ([], ["again"]):
        done = subprocess.run([*command, *extra], capture_output=True, text=True, check=True, timeout=120)
        assert 35 < float(done.stdout) < 70
