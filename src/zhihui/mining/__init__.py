"""Mining: hard negatives by several methods over several rank windows, without the false ones."""

from __future__ import annotations

from zhihui.mining.config import Miner, MiningConfig
from zhihui.mining.negatives import Mined, mine

__all__ = ["Mined", "Miner", "MiningConfig", "mine"]
