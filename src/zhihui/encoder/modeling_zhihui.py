"""A decoder whose tokens see one another, in every transformers since 4.40. Standalone: it travels with the model.

transformers 5.2 and later honour `"is_causal": false` in config.json, and this class then adds nothing. Earlier ones
ignore it without a word; here the mask is opened on its way into each layer.
"""

import torch
import transformers
from packaging.version import Version
from transformers import Qwen2Model as Base

VERSION = Version(transformers.__version__).release
HONOURED = VERSION >= (5, 2)
SCALES_ROTARY = VERSION >= (4, 51)  # before, some of the families ignore a scaled rotary embedding without a word


class BidirectionalModel(Base):
    """The stock model, except that with `config.is_causal` false every token sees every other."""

    def __init__(self, config):
        if getattr(config, "rope_scaling", None) and not SCALES_ROTARY:
            raise ValueError("this model scales its rotary embedding: update to transformers 4.51 or later")
        super().__init__(config)
        self.opened = not HONOURED and getattr(config, "is_causal", True) is False
        if self.opened:
            for layer in self.layers:
                layer.self_attn.is_causal = False  # what flash attention goes by
                layer.register_forward_pre_hook(open_mask, with_kwargs=True)

    def forward(self, input_ids=None, attention_mask=None, *args, **kwargs):
        if self.opened:
            if attention_mask is not None and attention_mask.dim() != 2:
                raise ValueError(f"attention_mask must be [B, L], not {list(attention_mask.shape)}")
            length = max(x.shape[1] for x in (input_ids, kwargs.get("inputs_embeds")) if x is not None)
            window = getattr(self.config, "sliding_window", None)
            if window is not None and getattr(self.config, "use_sliding_window", True) and length > window:
                raise ValueError(f"texts of {length} tokens exceed the window of {window}: update to transformers 5.2")
            kwargs["use_cache"] = False
        return super().forward(input_ids, attention_mask, *args, **kwargs)


def open_mask(layer, args, kwargs):
    """Give a layer a bidirectional mask in place of the causal one.

    Masks are additive or boolean, by version; in either, the last row of a causal mask hides the padding and nothing
    else, which is what every row of a bidirectional mask does.
    """
    if "flash" in layer.self_attn.config._attn_implementation:
        return None  # it goes by is_causal, and takes the padding as [B, L]
    states = args[0] if args else kwargs["hidden_states"]
    mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
    length = states.shape[1]
    if mask is None:
        mask = states.new_zeros(1, 1, 1, length)  # None would let some versions hide the future
    elif not isinstance(mask, torch.Tensor):
        raise ValueError("this attn_implementation needs transformers 5.2; choose sdpa, eager or flash_attention_2")
    mask = mask[:, :, -1:, :length].expand(len(states), 1, length, length)
    if len(args) > 1:
        return (states, mask, *args[2:]), kwargs
    return args, {**kwargs, "attention_mask": mask}
