"""The models of table 10 of Cascade-CLIP: other papers' models as choices of the same parts.

``stages=((6, 7, 8), (9, 10, 11), (12,))`` puts the cascade on any of them, the table's "+ Ours".
"""

from lexiseg.models.cascade_settings import CascadeSettings

CASCADE_CLIP = CascadeSettings()
"""Cascade-CLIP (ICML 2024) as released for PASCAL VOC."""

ZEGCLIP = CascadeSettings(name="zegclip", stages=((12,),))
"""ZegCLIP (CVPR 2023), Cascade-CLIP's base: the same prompts, descriptor and decoder with one stage of the last block.

Prompts: VOC 10, Context 35, COCO-Stuff 100. With the cascade it is Cascade-CLIP.
"""

FROZEN_CLIP = CascadeSettings(name="frozen_clip", stages=((12,),), prompts="none")
"""The table's Frozen CLIP: a decoder trained on a tower that nothing is added to.

Neither prompts nor the norm that comes with them: the last block's tokens reach the text's space by CLIP's own norm and
projection. No code of this row was released; the class embedding still enters twice, as in ZegCLIP's tower without prompts.
"""

SPT_SEG = CascadeSettings(name="spt_seg", stages=((12,),), prompts="spectral", decoder="spectral")
"""SPT-SEG (Xu et al., 2024): ZegCLIP with a filter on the patches' spectrum and a decoder that splits their frequencies.

Trained with focal and SSIM loss (``loss=ssim``). Neither configurations nor training code were released; prompt lengths and
schedule are taken from ZegCLIP.
"""
