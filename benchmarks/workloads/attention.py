"""Attention alone: whole sequences, causal or not, and one query against a cache."""

from typing import Any

from benchmarks.workload import Workload, normal

DIM = 64


def attention(
    name: str, title: str, heads: int, queries: int, keys: int, causal: bool = False
) -> Workload:
    def call(xp: Any, nn: Any, q: Any, k: Any, v: Any) -> Any:
        return nn.attention(q, k, v, causal=causal)

    seen = heads * queries * keys * (0.5 if causal else 1)
    return Workload(
        name,
        f"{title}, {heads} heads, {keys} keys of {DIM}",
        lambda rng: {
            "q": normal(rng, 1, heads, queries, DIM),
            "k": normal(rng, 1, heads, keys, DIM),
            "v": normal(rng, 1, heads, keys, DIM),
        },
        {"layers": call},
        flops=4.0 * seen * DIM,
        bytes=8.0 * heads * (queries + keys) * DIM,
        tags=frozenset({"memory"} if name == "attention_1024" else ()),
    )


WORKLOADS = (
    attention("attention_512", "attention", 8, 512, 512),
    attention("attention_512_causal", "causal attention", 8, 512, 512, causal=True),
    attention("attention_1024", "attention", 12, 1024, 1024),
    attention("attention_1024_causal", "causal attention", 12, 1024, 1024, causal=True),
    attention("attention_token_256", "attention of one query", 12, 1, 256),
    attention("attention_token_2048", "attention of one query", 12, 1, 2048),
    attention("attention_token_4096", "attention of one query", 12, 1, 4096),
    attention("attention_grouped_4096", "one query of 12 heads that share keys", 2, 6, 4096),
    attention("attention_queries_8", "attention of eight queries", 12, 8, 1024),
)
