"""Prompt templates as the methods publish them: part of their settings, word for word."""

from collections.abc import Sequence

from lexiseg.errors import ConfigError

PLAIN = ("{}",)
"""The bare word."""

SINGLE = ("a photo of a {}",)
"""ZegCLIP and Cascade-CLIP on PASCAL VOC."""

MULTI15 = (
    "a photo of a {}.",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "a {} in the scene.",
    "a photo of a {} in the scene.",
    "There is a {} in the scene.",
    "There is the {} in the scene.",
    "This is a {} in the scene.",
    "This is the {} in the scene.",
    "This is one {} in the scene.",
)
"""ZegCLIP's and Cascade-CLIP's COCO-Stuff and Context."""

IMAGENET80 = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
"""ImageNet templates of CLIP's authors: SCLIP, ClearCLIP, NACLIP, SC-CLIP, ResCLIP, ProxyCLIP."""

SURGERY85 = (
    *IMAGENET80,
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
"""CLIP Surgery and MaskCLIP."""

PIXELCLIP_TRAIN = ("A photo of a {} in the scene",)
"""PixelCLIP, training."""

PIXELCLIP_TEST8 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    "A photo of a {} in the scene",
)
"""PixelCLIP, testing."""

GEM = ("a photo of a {}.",)
"""GEM."""

ZEGFORMER_CROPS = (
    "a bad photo of the {}.",
    "a photo of the large {}.",
    "a photo of the small {}.",
    "a cropped photo of a {}.",
    "This is a photo of a {}",
    "This is a photo of a small {}",
    "This is a photo of a medium {}",
    "This is a photo of a large {}",
    "This is a masked photo of a {}",
    "This is a masked photo of a small {}",
    "This is a masked photo of a medium {}",
    "This is a masked photo of a large {}",
    "This is a cropped photo of a {}",
    "This is a cropped photo of a small {}",
    "This is a cropped photo of a medium {}",
    "This is a cropped photo of a large {}",
    "A photo of a {} in the scene",
    "a bad photo of the {} in the scene",
    "a photo of the large {} in the scene",
    "a photo of the small {} in the scene",
    "a cropped photo of a {} in the scene",
    "a photo of a masked {} in the scene",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "This is a {} in the scene",
    "This is the {} in the scene",
    "This is one {} in the scene",
    "There is a masked {} in the scene",
    "There is the masked {} in the scene",
    "This is a masked {} in the scene",
    "This is the masked {} in the scene",
    "This is one masked {} in the scene",
)
"""ZegFormer, for CLIP's look at regions; their own embeddings are compared with ``pixelclip_train`` or ``pixelclip_test8``."""

VILD14 = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)
"""ViLD's, as SAN, FC-CLIP and OVSeg take them; four have no full stop."""

TEMPLATE_SETS: dict[str, tuple[str, ...]] = {
    "plain": PLAIN,
    "single": SINGLE,
    "multi15": MULTI15,
    "imagenet80": IMAGENET80,
    "surgery85": SURGERY85,
    "pixelclip_train": PIXELCLIP_TRAIN,
    "pixelclip_test8": PIXELCLIP_TEST8,
    "gem": GEM,
    "zegformer_crops": ZEGFORMER_CROPS,
    "vild14": VILD14,
}
"""Template sets by the name that configurations and result files use."""


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """A set's name, one template or several templates, as a tuple of templates.

    Raises:
        ConfigError: An unknown name, or a template without exactly one ``{}``.
    """
    if isinstance(templates, str):
        if templates in TEMPLATE_SETS:
            return TEMPLATE_SETS[templates]
        if "{}" not in templates:
            known = ", ".join(TEMPLATE_SETS)
            raise ConfigError(
                f"no template set '{templates}'; expected one of {known}, or a text with {{}} in it"
            )
        templates = (templates,)
    if not isinstance(templates, list | tuple) or not all(
        isinstance(template, str) for template in templates
    ):
        raise ConfigError(
            f"templates: expected a set's name, or a list of templates with {{}} in each, got {templates!r}"
        )
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        raise ConfigError(
            f"every template needs exactly one {{}} for the class name; got {wrong or 'no template'}"
        )
    return tuple(templates)
