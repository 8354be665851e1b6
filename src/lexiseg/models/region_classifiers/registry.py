"""Region classifiers by name: how a composed model says which one names its regions."""

from lexiseg.models.region_classifiers.adapters import (
    ByMaskedCrops,
    ByMaskPooling,
    ByPooledQueries,
    BySegmentEmbedding,
    ByShadowTokens,
    BySoftPooling,
    MaskedCropsSettings,
    MaskPoolingSettings,
    PooledQueriesSettings,
    SegmentEmbeddingSettings,
    ShadowTokensSettings,
    SoftPoolingSettings,
)
from lexiseg.models.region_parts import Part

CLASSIFIERS: dict[str, Part] = {
    "segment_embedding": Part(BySegmentEmbedding, SegmentEmbeddingSettings),
    "pooled_queries": Part(ByPooledQueries, PooledQueriesSettings),
    "masked_crops": Part(ByMaskedCrops, MaskedCropsSettings),
    "mask_pooling": Part(ByMaskPooling, MaskPoolingSettings),
    "soft_pooling": Part(BySoftPooling, SoftPoolingSettings),
    "shadow_tokens": Part(ByShadowTokens, ShadowTokensSettings),
}
"""Every region classifier; it keeps the contract of :class:`~lexiseg.models.region_parts.RegionClassifier`."""
