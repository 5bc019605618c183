"""Whether a device multiplies bfloat16 matrices itself; emulated, they are hundreds of times slower than float32."""

from __future__ import annotations

import torch


def is_native(device: torch.device | str) -> bool:
    """Tell whether bfloat16 products are faster than float32 ones on a device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.device(device).type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"))
