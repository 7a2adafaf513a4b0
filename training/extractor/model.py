"""The network: a MiniLM encoder, tags over words, and scores over pairs of spans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from actors.extraction.sequence import TOKEN_TYPES
from actors.extraction.spans import DISTANCES


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network: the encoder's are those of its base weights."""

    tags: int
    node_types: int
    predicates: int
    statuses: int
    vocabulary: int = 30522
    width: int = 384
    layers: int = 6
    heads: int = 12
    positions: int = 512
    pair_width: int = 256
    key_width: int = 64
    dropout: float = 0.1
    pair_dropout: float = 0.3


class Layer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, shape.dropout
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.norm_attention = nn.LayerNorm(shape.width, eps=1e-12)
        self.up = nn.Linear(shape.width, 4 * shape.width)
        self.down = nn.Linear(4 * shape.width, shape.width)
        self.norm_out = nn.LayerNorm(shape.width, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """x [B, T, D] and a mask added to the scores [B, 1, 1, T] -> x and attention [B, heads, T, T]."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
        attention = (scores if mask is None else scores + mask).softmax(-1)
        mixed = attention @ v
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        x = self.norm_attention(x + F.dropout(mixed, self.dropout, self.training))
        fed = self.down(F.gelu(self.up(x)))
        return self.norm_out(x + F.dropout(fed, self.dropout, self.training)), attention


class Encoder(nn.Module):
    """Token ids and types to what the heads read."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        # Half the weights, and too little data to learn them better than their pre-training did.
        self.tokens = nn.Embedding(shape.vocabulary, shape.width).requires_grad_(requires_grad=False)
        self.positions = nn.Embedding(shape.positions, shape.width)
        self.types = nn.Embedding(TOKEN_TYPES, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.tag = nn.Linear(shape.width, shape.tags)
        self.correction = nn.Linear(shape.width, 1)

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """ids, types [B, T] -> tags [B, T, tags], correction [B], hidden [B, T, D], last attention [B, heads, T, T]."""
        at = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.tokens(ids) + self.positions(at) + self.types(types))
        attention = x
        for layer in self.layers:
            x, attention = layer(x, mask)
        read = F.dropout(x, self.shape.dropout, self.training)
        return self.tag(read), self.correction(read[:, :1]).flatten(), x, attention

    def load_base(self, weights: Path) -> None:
        """Take the weights of a BERT of this shape from its safetensors file."""
        base = {name.removeprefix("bert."): tensor for name, tensor in load_file(weights).items()}

        def pair(name: str) -> dict[str, Tensor]:
            return {part: base[f"{name}.{part}"] for part in ("weight", "bias")}

        with torch.no_grad():
            self.tokens.weight.copy_(base["embeddings.word_embeddings.weight"])
            self.positions.weight.copy_(base["embeddings.position_embeddings.weight"])
            self.types.weight.copy_(base["embeddings.token_type_embeddings.weight"][:1].expand(TOKEN_TYPES, -1))
        self.norm.load_state_dict(pair("embeddings.LayerNorm"))
        for number, layer in enumerate(self.layers):
            at = f"encoder.layer.{number}"
            assert isinstance(layer, Layer)  # noqa: S101 - tells mypy
            qkv = [pair(f"{at}.attention.self.{part}") for part in ("query", "key", "value")]
            layer.qkv.load_state_dict({part: torch.cat([one[part] for one in qkv]) for part in ("weight", "bias")})
            layer.out.load_state_dict(pair(f"{at}.attention.output.dense"))
            layer.norm_attention.load_state_dict(pair(f"{at}.attention.output.LayerNorm"))
            layer.up.load_state_dict(pair(f"{at}.intermediate.dense"))
            layer.down.load_state_dict(pair(f"{at}.output.dense"))
            layer.norm_out.load_state_dict(pair(f"{at}.output.LayerNorm"))


class Pairs(nn.Module):
    """Scores every pair of nodes: roles, mentions and pronouns.

    A pair is read off its two spans and off the tokens that both attend to (localized context pooling, as in
    ATLOP, Zhou et al. 2021).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        wide, keys = shape.pair_width, shape.key_width
        self.node_type = nn.Embedding(shape.node_types, 32)
        self.distance = nn.Embedding(DISTANCES, wide)
        ends = 2 * shape.width + 32
        self.subject, self.object = nn.Linear(ends, wide), nn.Linear(ends, wide)
        self.subject_context = nn.Linear(shape.width, wide, bias=False)
        self.object_context = nn.Linear(shape.width, wide, bias=False)
        self.mix = nn.Linear(3 * wide, wide)
        self.relation = nn.Linear(wide, shape.predicates)
        self.related = nn.Linear(wide, 1)
        self.status = nn.Linear(wide, shape.statuses)
        self.time_query, self.time_key = nn.Linear(wide, keys), nn.Linear(ends, keys)
        self.link_query = nn.Linear(ends, 2 * keys)
        self.link_key = nn.Linear(shape.width, 2 * keys)
        nn.init.normal_(self.distance.weight, std=0.02)
        nn.init.constant_(self.relation.bias, -3.0)
        nn.init.constant_(self.related.bias, -3.0)

    def forward(
        self, hidden: Tensor, attention: Tensor, first: Tensor, last: Tensor, types: Tensor, distance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """hidden [B, T, D], attention [B, heads, T, T], nodes' tokens and types [B, N], distance [B, N, N].

        Returns relation logits [B, N, N, predicates], status logits [B, N, N, statuses], time logits [B, N, N, N]
        (subject, object, dating node) and link logits [B, N, 2, T] (where the antecedent begins and ends).
        """
        batch, nodes = first.shape
        drop = self.shape.pair_dropout

        def rows(of: Tensor, at: Tensor) -> Tensor:
            return of.gather(1, at.unsqueeze(-1).expand(-1, -1, of.shape[-1]))

        ends = torch.cat([rows(hidden, first), rows(hidden, last), self.node_type(types)], -1)
        ends = F.dropout(ends, self.shape.dropout, self.training)

        # [B, T, heads, T] makes each token's attention one row.
        heads, length = attention.shape[1], attention.shape[2]
        looks = attention.transpose(1, 2).reshape(batch, length, heads * length)
        look = (0.5 * (rows(looks, first) + rows(looks, last))).view(batch, nodes, heads, length)
        by_token = look.permute(0, 3, 1, 2)
        both = (by_token @ by_token.transpose(-1, -2)).permute(0, 2, 3, 1)
        both = both / (both.sum(-1, keepdim=True) + 1e-9)
        flat = both.reshape(batch, nodes * nodes, length)

        def context(project: nn.Linear) -> Tensor:
            return (flat @ project(hidden)).view(batch, nodes, nodes, -1)

        subject = torch.tanh(self.subject(ends).unsqueeze(2) + context(self.subject_context) + self.distance(distance))
        object_ = torch.tanh(self.object(ends).unsqueeze(1) + context(self.object_context))
        pair = F.gelu(self.mix(torch.cat([subject * object_, subject, object_], -1)))
        pair = F.dropout(pair, drop, self.training)

        relation = self.relation(pair) + self.related(pair)
        time = self.time_query(pair) @ self.time_key(ends).transpose(-1, -2).unsqueeze(1)
        keys = self.link_key(hidden).view(batch, length, 2, -1).permute(0, 2, 3, 1)
        queries = self.link_query(ends).view(batch, nodes, 2, -1).transpose(1, 2)
        links = (queries @ keys).transpose(1, 2) * self.shape.key_width**-0.5
        return relation, self.status(pair), time * self.shape.key_width**-0.5, links


class Network(nn.Module):
    """Encoder and pair scorer together."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder, self.pairs = Encoder(shape), Pairs(shape)
