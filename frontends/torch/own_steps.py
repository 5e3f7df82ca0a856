"""Decompositions of operators that torch takes whole where it runs, and has no steps for.

`nn.TransformerEncoderLayer` and `nn.MultiheadAttention` call one operator each in evaluation if
there are no gradients. The steps here are those of their other path: layers, attention, norms.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from npu_dialect.frontends.torch.package import torch


@cache
def table() -> dict[Any, Any]:
    """The steps by operator."""
    aten = torch().ops.aten
    return {
        aten._transformer_encoder_layer_fwd.default: encoder_layer,
        aten._native_multi_head_attention.default: multi_head_attention,
    }


def encoder_layer(
    src: Any, embed_dim: int, num_heads: int,
    qkv_weight: Any, qkv_bias: Any, proj_weight: Any, proj_bias: Any,
    use_gelu: bool, norm_first: bool, eps: float,
    norm_weight_1: Any, norm_bias_1: Any, norm_weight_2: Any, norm_bias_2: Any,
    ffn_weight_1: Any, ffn_bias_1: Any, ffn_weight_2: Any, ffn_bias_2: Any,
    mask: Any = None, mask_type: int | None = None,
) -> Any:  # fmt: skip
    """Attention and two linear layers, each with a residual and a norm before or after it."""
    functions = torch().nn.functional

    def attention(x: Any) -> Any:
        return multi_head_attention(
            x, x, x, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias,
            mask, False, True, mask_type,
        )[0]  # fmt: skip

    def feed_forward(x: Any) -> Any:
        wide = functions.linear(x, ffn_weight_1, ffn_bias_1)
        wide = functions.gelu(wide) if use_gelu else functions.relu(wide)
        return functions.linear(wide, ffn_weight_2, ffn_bias_2)

    def norm_1(x: Any) -> Any:
        return functions.layer_norm(x, [embed_dim], norm_weight_1, norm_bias_1, eps)

    def norm_2(x: Any) -> Any:
        return functions.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps)

    if norm_first:
        src = src + attention(norm_1(src))
        return src + feed_forward(norm_2(src))
    src = norm_1(src + attention(src))
    return norm_2(src + feed_forward(src))


def multi_head_attention(
    query: Any, key: Any, value: Any, embed_dim: int, num_head: int,
    qkv_weight: Any, qkv_bias: Any, proj_weight: Any, proj_bias: Any,
    mask: Any = None, need_weights: bool = True, average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """The projected attention, and its weights [batch, (heads,) query, key] or an empty tensor."""
    functions = torch().nn.functional
    weights = qkv_weight.chunk(3)
    biases = qkv_bias.chunk(3)
    q, k, v = (
        _heads(functions.linear(x, w, b), num_head)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    bias = None if mask is None else _additive(mask, mask_type, query)
    if not need_weights:
        mixed = functions.scaled_dot_product_attention(q, k, v, bias)
        return functions.linear(_merged(mixed), proj_weight, proj_bias), query.new_empty(0)
    scores = q @ k.transpose(-2, -1) * (embed_dim // num_head) ** -0.5
    shares = torch().softmax(scores if bias is None else scores + bias, -1)
    result = functions.linear(_merged(shares @ v), proj_weight, proj_bias)
    return result, shares.mean(1) if average_attn_weights else shares


def _heads(x: Any, count: int) -> Any:
    batch, length, width = x.shape
    return x.reshape(batch, length, count, width // count).transpose(1, 2)


def _merged(x: Any) -> Any:
    batch, heads, length, width = x.shape
    return x.transpose(1, 2).reshape(batch, length, heads * width)


def _additive(mask: Any, kind: int | None, like: Any) -> Any:
    """-inf where a mask of truths holds. Kinds: 0 [query, key], 1 [batch, key], 2 all four."""
    if kind == 1:
        mask = mask[:, None, None, :]
    if mask.dtype != torch().bool:
        return mask
    nothing = torch().zeros((), dtype=like.dtype)
    return torch().where(mask, torch().full((), float("-inf"), dtype=like.dtype), nothing)
