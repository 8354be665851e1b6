"""The best matches among very many vectors, exact, with a part of them in memory at a time."""

from collections.abc import Iterable

import torch
from torch import Tensor


def top_matches(queries: Tensor, parts: Iterable[Tensor], count: int) -> tuple[Tensor, Tensor]:
    """The keys of the highest inner products with each query, as FAISS's flat index finds them.

    Memory is that of one part and its ``(Q, n)`` products, however many parts there are. Of keys whose products are equal
    any may be taken.

    Args:
        queries: ``(Q, C)`` float32.
        parts: The keys, ``(n, C)`` each, of any number type and on any device, in their order.
        count: How many; fewer come back where there are fewer keys.

    Returns:
        Products ``(Q, count)`` float32, descending, and the places of these keys ``(Q, count)`` int64 among all.
    """
    products = queries.new_empty(len(queries), 0)
    places = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    first = 0
    for part in parts:
        own = queries @ part.to(queries.device, queries.dtype).T
        best, own_places = own.topk(min(count, len(part)), dim=1)
        products = torch.cat([products, best], dim=1)
        places = torch.cat([places, own_places + first], dim=1)
        products, kept = products.topk(min(count, products.shape[1]), dim=1)
        places = places.gather(1, kept)
        first += len(part)
    return products, places
