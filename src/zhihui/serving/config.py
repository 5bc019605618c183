"""Settings of a server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from zhihui.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """All that a server does besides its models and keys."""

    host: str = "127.0.0.1"
    """Address to listen at; others than loopback are reached from other machines."""
    port: int = 8080
    """0 takes a free one."""
    token_budget: int | None = None
    """Tokens computed together; None suits the device."""
    queue_tokens: int = 262_144
    """Calls are taken while fewer tokens than this wait or are computed; the last tenth is kept for small calls."""
    small_call_tokens: int = 1024
    """A call of at most this many tokens, such as a query, goes ahead of larger ones."""
    max_calls: int = 1024
    """Most calls under way, those included whose answers are not yet read."""
    max_inputs: int = 4096
    """Most texts of one call."""
    max_characters: int = 1_000_000
    """Longest text, before it is cut to the model's tokens."""
    max_body_bytes: int = 32 * 2**20
    """Largest body of a call."""
    max_held_bytes: int = 256 * 2**20
    """Bodies of all calls under way."""
    timeout: float = 60.0
    """Seconds from a call's arrival until it is given up; the header X-Request-Timeout shortens it."""
    drain_seconds: float = 30.0
    """Seconds that calls under way are given when the server is told to end."""
    requests_per_minute: int | None = None
    """Calls of one key; None sets no limit."""
    tokens_per_minute: int | None = None
    """Tokens of one key; None sets no limit."""
    token_ids: bool = False
    """Whether token ids of the model's own tokenizer are taken for texts."""
    log_texts: bool = False
    """Whether texts are written into the log."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"port {self.port} does not exist; use 1 to 65535, or 0 for a free one")
        for name in ("token_budget", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value} is too few; use at least 1")
        for name in ("queue_tokens", "max_calls", "max_inputs", "max_characters", "max_body_bytes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is too few; use at least 1")
        if self.small_call_tokens < 0:
            raise InputError(f"small_call_tokens {self.small_call_tokens} is negative; use 0 to have no small calls")
        if self.max_held_bytes < self.max_body_bytes:
            raise InputError(
                f"max_held_bytes {self.max_held_bytes} is less than one body may have ({self.max_body_bytes}); raise it"
            )
        if not self.timeout > 0 or not self.drain_seconds > 0:
            raise InputError(f"timeout {self.timeout} and drain_seconds {self.drain_seconds} must be above 0")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
