from __future__ import annotations

import numpy as np
import pytest

from zhihui.errors import RunFailure
from zhihui.mining.vectors import encode_in_blocks

TEXTS = [f"第{number}句" for number in range(10)]


def test_blocks_change_nothing(encoder, tmp_path):
    whole = encoder.encode_documents(TEXTS)
    for block in (1, 3, 10, 99):
        for folder in (None, tmp_path / str(block)):
            found = encode_in_blocks(TEXTS, encoder.encode_documents, folder=folder, role="x", block=block)
            np.testing.assert_array_equal(found, whole)
            assert found.dtype == np.float32


def test_a_killed_run_goes_on_where_it_was(encoder, tmp_path):
    def killed(texts):
        if "第6句" in texts:
            raise KeyboardInterrupt
        return encoder.encode_documents(texts)

    with pytest.raises(KeyboardInterrupt):
        encode_in_blocks(TEXTS, killed, folder=tmp_path, role="passages", block=3)
    encoder.calls.clear()
    found = encode_in_blocks(TEXTS, encoder.encode_documents, folder=tmp_path, role="passages", block=3)
    assert encoder.calls == [TEXTS[6:9], TEXTS[9:]]
    np.testing.assert_array_equal(found, encoder.encode_documents(TEXTS))


def test_roles_have_blocks_of_their_own(encoder, tmp_path):
    encode_in_blocks(TEXTS, encoder.encode_documents, folder=tmp_path, role="a")
    other = encode_in_blocks(TEXTS[::-1], encoder.encode_documents, folder=tmp_path, role="b")
    np.testing.assert_array_equal(other, encoder.encode_documents(TEXTS[::-1]))


@pytest.mark.parametrize("shape", [(4, 8), (5, 7)])
def test_a_wrong_number_of_vectors_is_told(shape):
    shapes = iter([(5, 8), shape])
    with pytest.raises(RunFailure, match=rf"vectors \[{shape[0]}, {shape[1]}\] for x, expected \[5, 8\]"):
        encode_in_blocks(TEXTS, lambda _: np.zeros(next(shapes)), folder=None, role="x", block=5)
