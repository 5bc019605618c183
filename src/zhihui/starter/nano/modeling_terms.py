"""A text as its terms, tokens and pairs of them, sketched into a dense vector. Standalone: it travels with the model.

A vector has three parts: a learned sum of term embeddings (the semantic part), one number that lengthens passages, and
a count sketch of weighted terms (Charikar, Chen and Farach-Colton 2002). Cosines of the last two are those of term
vectors, up to noise of 1/√dimensions; the number plays the part that document length has in BM25.
"""

import math

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

ZERO, STEPS = 8, 32
"""Four bits hold -7/32 to 7/32, exact in any float and the size of trained embeddings; emphasis says how much it is."""


class TermsConfig(PretrainedConfig):
    """The size of a term model."""

    model_type = "zhihui_terms"

    def __init__(
        self,
        vocab_size=0,
        buckets=0,
        rows=0,
        hidden_size=8192,
        semantic_size=384,
        semantic_share=0.1,
        signs=4,
        saturation=1.0,
        packed=False,
        passage_token_id=2,
        unknown_token_id=1,
        pad_token_id=0,
        max_position_embeddings=8192,
        **more,
    ):
        self.vocab_size = vocab_size
        self.buckets = buckets  # a power of two: hashed pairs of neighbouring tokens
        self.rows = rows  # term embeddings; row 0 is that of terms too rare for one
        self.hidden_size = hidden_size
        self.semantic_size = semantic_size
        self.semantic_share = semantic_share  # of the cosine
        self.signs = signs  # places of the sketch that a term is added to
        self.saturation = saturation  # k1 of BM25
        self.packed = packed  # embeddings are stored in four bits a number, two in a byte
        self.passage_token_id = passage_token_id  # stands before a passage
        self.unknown_token_id = unknown_token_id
        self.max_position_embeddings = max_position_embeddings
        super().__init__(pad_token_id=pad_token_id, **more)


class TermsModel(PreTrainedModel):
    """Every state of a text is the vector of the whole text, so that any pooling gives it."""

    config_class = TermsConfig
    base_model_prefix = "terms"
    _supports_sdpa = True  # there is no attention to choose

    def __init__(self, config):
        super().__init__(config)
        terms = config.vocab_size + config.buckets
        self.register_buffer("folded", torch.zeros(config.vocab_size, dtype=torch.int32))  # 0: says nothing
        self.register_buffer("row", torch.zeros(terms, dtype=torch.int16))
        self.weight = nn.Parameter(torch.zeros(terms))  # logarithms of term weights
        self.emphasis = nn.Parameter(torch.zeros(config.rows))  # of a term in the semantic part, a logarithm too
        if config.packed:
            self.register_buffer("embedding", torch.zeros(config.rows, config.semantic_size // 2, dtype=torch.uint8))
        else:
            self.embedding = nn.Parameter(torch.zeros(config.rows, config.semantic_size))
        # The logarithm of what lengthens passages. Not trained: in a batch of many sources its use does not show.
        self.register_buffer("length", torch.zeros(1))
        self.post_init()

    def _init_weights(self, module):
        """Leave what was read or built as it is."""

    def get_input_embeddings(self):
        return None

    def forward(self, input_ids=None, attention_mask=None, **ignored):
        """Return `last_hidden_state` `[B, L, D]`, each text's states all alike."""
        vectors = self.vectors(input_ids, attention_mask)
        return BaseModelOutput(last_hidden_state=vectors[:, None].expand(-1, input_ids.shape[1], -1))

    def vectors(self, input_ids, attention_mask=None):
        """Return the vectors `[B, D]`, fp32, of unit norm (less where no term has an embedding: that part is zero)."""
        config, count = self.config, len(input_ids)
        k1, share = config.saturation, config.semantic_share
        term, text = self.terms(input_ids, attention_mask)
        _, inverse, counts = torch.unique(text * len(self.weight) + term, return_inverse=True, return_counts=True)
        weight = self.weight[term].float().exp() * ((1 + k1) / (counts[inverse] + k1))
        semantic = self.semantic(term, text, weight, count)
        passage = (input_ids == config.passage_token_id).any(1, keepdim=True)
        lexical = torch.cat([passage * self.length.float().exp(), self.sketch(term, text, weight, count)], 1)
        parts = [nn.functional.normalize(part, dim=-1) for part in (semantic, lexical)]
        return torch.cat([math.sqrt(share) * parts[0], math.sqrt(1 - share) * parts[1]], 1)

    def terms(self, input_ids, attention_mask=None):
        """Return the terms of all texts `[N]` and which text each is of `[N]`: tokens, then pairs of neighbours."""
        config = self.config
        ids = self.folded[input_ids].long()
        if attention_mask is not None:
            ids = ids * attention_mask.long()
        silent = (ids == 0).all(1)
        ids[:, 0] = torch.where(silent, config.unknown_token_id, ids[:, 0])  # a text of no terms still has a vector
        text, place = ids.nonzero(as_tuple=True)
        pair_text, left = (ids[:, :-1] * ids[:, 1:]).nonzero(as_tuple=True)  # whatever is silent stands between
        pair = scatter(ids[pair_text, left] * 1_000_003 + ids[pair_text, left + 1], 0) % config.buckets
        return torch.cat([ids[text, place], config.vocab_size + pair]), torch.cat([text, pair_text])

    def semantic(self, term, text, weight, count):
        """Return the sum of term embeddings of each text `[B, S]`."""
        row = self.row[term].long()
        known = row.nonzero()[:, 0]
        row, text = row[known], text[known]
        weight = weight[known] * self.emphasis[row].float().exp()
        order = text.argsort(stable=True)
        ends = torch.bincount(text, minlength=count).cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        table, row = self.embedding, row[order]
        if table.dtype != torch.float32:  # only what is used is widened
            table, row = unpacked(table[row]).float(), torch.arange(len(row), device=row.device)
        # A bag sums without ever holding an embedding for every term.
        return nn.functional.embedding_bag(row, table, starts, mode="sum", per_sample_weights=weight[order])

    def sketch(self, term, text, weight, count):
        """Return the count sketch of each text `[B, D - S - 1]`: each term is added to a few places, with signs."""
        config = self.config
        signs, size = config.signs, config.hidden_size - config.semantic_size - 1
        hashed = scatter(term[:, None], torch.arange(1, 1 + signs, device=term.device))
        sign = (hashed & 1).to(weight.dtype) * 2 - 1
        place = (hashed >> 1) % size + text[:, None] * size
        values = weight[:, None] * sign / math.sqrt(signs)
        return values.new_zeros(count * size).index_add(0, place.flatten(), values.flatten()).view(count, size)


def unpacked(table):
    """Return embeddings `[..., S]` of those packed in bytes `[..., S / 2]`; others as they are."""
    if table.dtype != torch.uint8:
        return table
    return (torch.cat([table & 15, table >> 4], -1).float() - ZERO) / STEPS


def scatter(number, seed):
    """Return a hash `[...]` of whole numbers, 31 bits, never negative; the same on every machine.

    Shift, xor and multiply twice, as finalisers of hashes do; 32 bits times 27 fit a signed word of 64.
    """
    mask, factor = 0xFFFFFFFF, 0x45D9F3B
    x = (number + (seed + 1) * 0x9E3779B9) & mask
    x = ((x ^ (x >> 16)) * factor) & mask
    x = ((x ^ (x >> 16)) * factor) & mask
    return (x ^ (x >> 16)) >> 1
