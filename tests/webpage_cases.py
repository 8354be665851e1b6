"""What the tests of the page ask: colours instead of a CLIP, and a photograph of two halves."""

import numpy as np

from lexiseg.inference.protocol import InferenceProtocol
from segmenter_fakes import colour_pipeline

PROTOCOL = InferenceProtocol(short_side=22, window=13, stride=7, activation="linear", logit_scale=9.0)


class Colours(dict):
    """Stands for readers: any title is a pipeline of its own."""

    def __missing__(self, title):
        self[title] = colour_pipeline(PROTOCOL)
        return self[title]


def halves(height=31, width=47):
    """Red on the left, blue on the right."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    return image
