"""Known slips: what somebody might write by mistake, what that would break, and the tests that must notice.

Most sit at joints, where one fact passes through several objects and each of them is right by itself. A slip changes what
is computed, never whether the code runs at all. ``scripts/check_mutants.py`` tries them; a slip that nobody would notice
belongs here together with the test that does.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Slip:
    """One deliberate mistake.

    Attributes:
        name: What reports call it.
        told: What it breaks.
        file: Where, from the top of the checkout.
        before: The sound text, which stands in the file exactly once.
        after: What stands there instead.
        tests: Files or test ids of pytest that guard the fact; one of them must fail.
    """

    name: str
    told: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The file's text with the slip in it.

        Raises:
            ValueError: The sound text does not stand there exactly once, so that nobody knows what would be tested.
        """
        found = text.count(self.before)
        if found != 1:
            raise ValueError(f"expected once in {self.file}, found {found} times: {self.before!r}")
        return text.replace(self.before, self.after)


_WORDS_AND_RULES = (
    Slip(
        "templates-of-checkpoint",
        "a trained model's words are spoken in the default templates, not in those of its training",
        "src/lexiseg/inference/pipeline.py",
        "InferenceProtocol.from_dict(info.protocol), info.templates, info)",
        'InferenceProtocol.from_dict(info.protocol), "single", info)',
        ("tests/inference/test_pipeline.py",),
    ),
    Slip(
        "templates-of-method",
        "a training-free method's words are spoken in the default templates, not in the published ones",
        "src/lexiseg/inference/pipeline.py",
        "chosen = templates or published_templates(method.name)",
        'chosen = templates or "single"',
        ("tests/evaluation/test_benchmark.py::test_each_method_takes_its_published_settings",),
    ),
    Slip(
        "templates-of-other-words",
        "set_classes, with_words and segment_encoded forget the templates",
        "src/lexiseg/inference/segmenter.py",
        "return self._embed(words, templates)",
        'return self._embed(words, "single")',
        ("tests/inference/test_pipeline.py",),
    ),
    Slip(
        "templates-in-the-cache",
        "embedded words are kept without their templates, so that another set reads them",
        "src/lexiseg/clip/vocabulary.py",
        "json.dumps([fingerprint, self._resolved(), flat], ensure_ascii=False)",
        "json.dumps([fingerprint, flat], ensure_ascii=False)",
        ("tests/clip/test_vocabulary.py",),
    ),
    Slip(
        "templates-of-a-folder",
        "a published folder brings its classes in other templates than it was trained with",
        "src/lexiseg/checkpoints/model_folder.py",
        "vocabulary = Vocabulary.from_names(info.split.classes, info.templates)",
        'vocabulary = Vocabulary.from_names(info.split.classes, "single")',
        ("tests/checkpoints/test_model_folder.py",),
    ),
    Slip(
        "padding-that-is-read",
        "a sentence loses its end marker where the padding has the same id",
        "src/lexiseg/clip/towers/text.py",
        "return ids[:, : int(told[-1]) + 2] if len(told) else ids",
        "return ids[:, : int(told[-1]) + 1] if len(told) else ids",
        ("tests/clip/test_vocabulary.py",),
    ),
    Slip(
        "penalty-of-other-words",
        "words that are not the model's own bear no seen penalty",
        "src/lexiseg/inference/pipeline.py",
        "seen_ids = seen_class_ids(vocabulary, self.split, judged)",
        "seen_ids = seen_class_ids(vocabulary, self.split, judged) if words is None else ()",
        ("tests/inference/test_pipeline.py",),
    ),
    Slip(
        "penalty-of-unseen",
        "the penalty is taken from the classes that training had no label for",
        "src/lexiseg/inference/words.py",
        'labelled = trained.classes if trained.setting == "supervised" else trained.seen',
        "labelled = trained.unseen",
        ("tests/inference/test_words.py",),
    ),
    Slip(
        "penalty-of-synonyms",
        "a class whose synonym was trained bears no penalty",
        "src/lexiseg/inference/words.py",
        "if any(_plain(word) in seen for word in group))",
        "if _plain(group[0]) in seen)",
        ("tests/inference/test_words.py",),
    ),
    Slip(
        "penalty-of-another-split",
        "a model judged on other groups of its classes pays for the judged groups, not for those of training",
        "src/lexiseg/inference/words.py",
        "if judged is not None and not (judged.unseen and judged.classes == trained.classes):",
        "if judged is not None and not judged.unseen:",
        ("tests/inference/test_words.py",),
    ),
    Slip(
        "penalty-sign",
        "the penalty is added to seen classes",
        "src/lexiseg/inference/decision.py",
        "bias = None if penalty is None else -penalty[words]",
        "bias = None if penalty is None else penalty[words]",
        ("tests/inference/test_segmenter.py",),
    ),
    Slip(
        "penalty-after-refinement",
        "the penalty is added to seen classes where scores are refined by colours",
        "src/lexiseg/inference/decision.py",
        "of_part = None if penalty is None else -penalty[part]",
        "of_part = None if penalty is None else penalty[part]",
        ("tests/inference/test_segmenter_views.py",),
    ),
    Slip(
        "penalty-in-the-vote",
        "masks that vote forget the penalty",
        "src/lexiseg/inference/decision.py",
        "best = (means if penalty is None else means - penalty[:, None]).argmax(dim=0)",
        "best = means.argmax(dim=0)",
        ("tests/inference/test_segmenter_views.py",),
    ),
    Slip(
        "penalty-after-self-training",
        "a transductive run keeps the penalty of inductive ones",
        "src/lexiseg/recipes/training.py",
        'protocol = self.protocol if setting == "inductive" else replace(self.protocol, seen_penalty=0.0)',
        "protocol = self.protocol",
        ("tests/recipes/test_training.py::test_only_inductive_models_bear_the_penalty",),
    ),
    Slip(
        "stale-record-of-a-photograph",
        "a result written anew keeps the JSON of the old one until the end",
        "src/lexiseg/inference/result.py",
        'remove_file(paths["json"])',
        "pass",
        ("tests/inference/test_result.py::test_where_the_json_stands_the_others_do",),
    ),
    Slip(
        "record-of-what-was-asked",
        "config.yaml says the protocol before model and split changed it",
        "src/lexiseg/recipes/training.py",
        'merged(asked, {"protocol": suits})',
        "asked",
        ("tests/recipes/test_training.py::test_the_record_says_the_protocol_that_the_run_takes",),
    ),
    Slip(
        "penalty-of-a-program",
        "an exported program's card says no penalty",
        "src/lexiseg/recipes/export_program.py",
        'protocol={**info.protocol, "precision": "float32"}',
        'protocol={**info.protocol, "precision": "float32", "seen_penalty": 0.0}',
        ("tests/inference/test_exported.py::test_the_same_labels_and_scores_as_the_live_model",),
    ),
    Slip(
        "background-in-front",
        "the background's words come last, though the protocol looks for them at class 0",
        "src/lexiseg/inference/background.py",
        "words=((BACKGROUND, *unique), *vocabulary.words)",
        "words=(*vocabulary.words, (BACKGROUND, *unique))",
        ("tests/inference/test_background.py",),
    ),
    Slip(
        "background-of-predict",
        "`predict --background` is read and dropped",
        "src/lexiseg/cli/predict.py",
        "vocabulary, background=args.background, threshold=args.threshold, refine=args.refine",
        "vocabulary, threshold=args.threshold, refine=args.refine",
        ("tests/cli/test_predict.py",),
    ),
    Slip(
        "threshold-of-a-pretrained-model",
        "PretrainedSegmenter drops the threshold",
        "src/lexiseg/inference/pretrained.py",
        "words, background=background, threshold=threshold, refine=refine, masks=masks",
        "words, background=background, refine=refine, masks=masks",
        ("tests/inference/test_pretrained.py",),
    ),
    Slip(
        "synonyms-in-the-vote",
        "a mask takes the number of the best word for that of its class",
        "src/lexiseg/inference/decision.py",
        "chosen = class_ids[best]",
        "chosen = best",
        ("tests/inference/test_segmenter_views.py",),
    ),
)

_PHOTOGRAPH_TO_LABELS = (
    Slip(
        "bfloat16",
        "precision=bfloat16 computes in float32",
        "src/lexiseg/inference/encoding.py",
        "return torch.autocast(device.type, dtype=torch.bfloat16)",
        "return torch.autocast(device.type, dtype=torch.bfloat16, enabled=False)",
        ("tests/inference/test_segmenter.py",),
    ),
    Slip(
        "size-rounding",
        "sizes that keep the ratio are cut, not rounded",
        "src/lexiseg/ops/resize.py",
        "return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))",
        "return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))",
        ("tests/ops/test_resize.py",),
    ),
    Slip(
        "grey-level-rounding",
        "a resized photograph is a grey level off where OpenCV rounds",
        "src/lexiseg/ops/resize.py",
        "return (upper.add_(lower).add_(2) >> 2).clamp_(0, 255).to(torch.uint8)",
        "return (upper.add_(lower) >> 2).clamp_(0, 255).to(torch.uint8)",
        ("tests/ops/test_resize.py",),
    ),
    Slip(
        "label-centres",
        "labels are resized by the centres of pixels, where OpenCV looks at their corners",
        "src/lexiseg/ops/resize.py",
        "torch.arange(new, device=label.device) * old // new",
        "(2 * torch.arange(new, device=label.device) + 1) * old // (2 * new)",
        ("tests/ops/test_resize.py",),
    ),
    Slip(
        "window-stride",
        "windows lie side by side, whatever the protocol's stride",
        "src/lexiseg/inference/layout.py",
        "window_grid(view.size, protocol.window, protocol.stride)",
        "window_grid(view.size, protocol.window)",
        ("tests/inference/test_layout.py",),
    ),
    Slip(
        "padding-side",
        "zeros pad a window at its top and left instead of at its bottom and right",
        "src/lexiseg/ops/window_merge.py",
        'return (padded - window) // 2 if padding == "centre" else 0',
        'return (padded - window) // 2 if padding == "centre" else padded - window',
        ("tests/inference/test_segmenter.py",),
    ),
    Slip(
        "padding-before-normalising",
        "windows are padded with black instead of with the mean colour",
        "src/lexiseg/inference/encoding.py",
        """window = self.model.normalize(rendered[None, :, top:bottom, left:right])
                    yield (index, number), _pad(window, of_view)[0]""",
        """window = _pad(rendered[None, :, top:bottom, left:right], of_view)
                    yield (index, number), self.model.normalize(window)[0]""",
        ("tests/inference/test_segmenter.py",),
    ),
    Slip(
        "logit-scale",
        "the protocol's logit scale is ignored",
        "src/lexiseg/inference/decision.py",
        "logits, protocol.activation, protocol.logit_scale, protocol.combine",
        "logits, protocol.activation, 1.0, protocol.combine",
        ("tests/inference/test_segmenter.py",),
    ),
    Slip(
        "threshold-direction",
        "the threshold rejects what is sure and keeps what is not",
        "src/lexiseg/inference/decision.py",
        "labels[values < protocol.probability_threshold]",
        "labels[values > protocol.probability_threshold]",
        ("tests/inference/test_segmenter.py",),
    ),
    Slip(
        "area-of-the-background",
        "the area rule measures classes against all pixels, the background's included",
        "src/lexiseg/inference/decision.py",
        "kept = counts > protocol.area_threshold * counts[first:].sum()",
        "kept = counts > protocol.area_threshold * counts.sum()",
        ("tests/inference/test_segmenter.py",),
    ),
    Slip(
        "ties",
        "among equal scores the last word wins, not the first",
        "src/lexiseg/ops/class_chunks.py",
        "better = best > old",
        "better = best >= old",
        ("tests/ops/test_class_chunks.py",),
    ),
    Slip(
        "mirror-back",
        "logits of the mirrored view are not mirrored back",
        "src/lexiseg/dense/multi_view.py",
        "return source.tile(rows, _mirrored(columns, self._size[1]), words).flip(-1)",
        "return source.tile(rows, _mirrored(columns, self._size[1]), words)",
        ("tests/dense/test_multi_view.py::test_tiles_equal_whole_maps",),
    ),
    Slip(
        "order-of-run-lengths",
        "run lengths of label maps are read row by row; COCO's go column by column",
        "src/lexiseg/ops/run_length.py",
        'flat = labels.ravel(order="F")',
        'flat = labels.ravel(order="C")',
        ("tests/ops/test_run_length.py",),
    ),
)

_TOWERS_AND_READINGS = (
    Slip(
        "colours-of-a-folder",
        "a CLIP is shown photographs in its family's colours, not in those that its folder names",
        "src/lexiseg/clip/model.py",
        "colors=colors_of(preparation, self.family.colors)",
        "colors=self.family.colors",
        ("tests/clip/test_families.py::test_colors_are_the_folders_else_the_familys",),
    ),
    Slip(
        "colours-of-pixelclip",
        "PixelCLIP tunes every tower in one and the same mean colour",
        "src/lexiseg/models/pixel_clip.py",
        '(("_mean", tower.mean), ("_std", tower.std))',
        '(("_mean", (0.481, 0.458, 0.408)), ("_std", tower.std))',
        ("tests/models/test_pixel_clip.py",),
    ),
    Slip(
        "groupvit-background",
        "a window of GroupViT without a certain group becomes background altogether",
        "src/lexiseg/ops/grouping.py",
        "return best < best.amax(dim=1, keepdim=True).clamp(max=threshold)",
        "return best < threshold",
        ("tests/ops/test_grouping.py",),
    ),
    Slip(
        "groupvit-sentences",
        "GroupViT's sentences become unit vectors before they are averaged, as CLIP's do",
        "src/lexiseg/clip/towers/groupvit.py",
        "unit_sentences = False",
        "unit_sentences = True",
        ("tests/clip/towers/test_groupvit.py::test_sentences_are_averaged_before_they_have_unit_length",),
    ),
    Slip(
        "stretched-in-two-steps",
        "logits of a stretched photograph reach its pixels by way of the square",
        "src/lexiseg/inference/layout.py",
        "if self.stretched_from is not None:",
        "if self.stretched_from is not None and self.by_way_of is not None:",
        ("tests/dense/test_pixelclip.py",),
    ),
    Slip(
        "position-offset",
        "position embeddings of training-free readings lose the offset that their releases have",
        "src/lexiseg/ops/grid.py",
        "_SCALE_OFFSET = 0.1",
        "_SCALE_OFFSET = 0.0",
        ("tests/golden/test_small.py::test_outputs_have_not_moved[reading-sclip]",),
    ),
    Slip(
        "sclip-keys",
        "SCLIP attends by queries alone, without the keys",
        "src/lexiseg/dense/sclip.py",
        'projections: Sequence[Projection] = ("query", "key"),',
        'projections: Sequence[Projection] = ("query",),',
        ("tests/dense/test_dense_readings.py",),
    ),
    Slip(
        "naclip-sigma",
        "NACLIP's neighbourhood has one width, whatever sigma says",
        "src/lexiseg/dense/naclip.py",
        "near = neighborhood_bias(grid, sigma=self.sigma,",
        "near = neighborhood_bias(grid, sigma=5.0,",
        ("tests/dense/test_dense_readings.py",),
    ),
    Slip(
        "recalibration-sign",
        "text-guided recalibration pushes patches away from the words that they resemble",
        "src/lexiseg/ops/recalibration.py",
        "return (logits + strength * pull) * squared.clamp_min(_SHORTEST).rsqrt()",
        "return (logits - strength * pull) * squared.clamp_min(_SHORTEST).rsqrt()",
        ("tests/ops/test_recalibration.py",),
    ),
    Slip(
        "settings-of-sc-clip",
        "TG-CLIP takes a benchmark's common settings instead of SC-CLIP's",
        "src/lexiseg/evaluation/benchmark.py",
        'return self.methods.get(method) or (self.methods.get("sc-clip", {}) if method == TG_CLIP else {})',
        "return self.methods.get(method) or {}",
        ("tests/evaluation/test_benchmark.py::test_each_method_takes_its_published_settings",),
    ),
    Slip(
        "templates-in-a-cell",
        "a benchmark takes a kept score for one of other templates",
        "src/lexiseg/evaluation/benchmark.py",
        '        "templates": segmenter.vocabulary.templates,\n',
        "",
        (
            "tests/evaluation/test_benchmark.py::test_keys_change_with_what_decides_a_score",
            "tests/evaluation/test_benchmark.py::test_a_key_knows_the_templates_themselves",
        ),
    ),
)

_MODELS = (
    Slip(
        "prompt-bound",
        "prompts start from a range that forgets the three colours of a patch",
        "src/lexiseg/models/visual_prompts.py",
        "bound = math.sqrt(6 / (3 * patch_size**2 + width))",
        "bound = math.sqrt(6 / (patch_size**2 + width))",
        ("tests/models/test_cascade_clip.py::test_prompts_start_within_their_bound",),
    ),
    Slip(
        "prompts-of-each-block",
        "every block gets the prompts of the first",
        "src/lexiseg/models/visual_prompts.py",
        "self.projection(self.tokens[index])",
        "self.projection(self.tokens[0])",
        ("tests/models/test_cascade_clip.py::test_prompts_by_hand",),
    ),
    Slip(
        "colours-of-a-trained-model",
        "a trained model is shown photographs in ImageNet's colours, whatever its settings say",
        "src/lexiseg/models/cascade_clip.py",
        'own = settings.normalization == "clip"',
        'own = settings.normalization == "tower"',
        ("tests/models/test_cascade_clip.py::test_colours_are_imagenets_or_the_towers_own",),
    ),
    Slip(
        "class-embedding-twice",
        "the class embedding enters the trained tower once",
        "src/lexiseg/models/cascade_clip.py",
        'position_mode="bilinear", class_embedding_twice=True',
        'position_mode="bilinear", class_embedding_twice=False',
        ("tests/golden/test_small.py::test_outputs_have_not_moved[zegclip]",),
    ),
    Slip(
        "bilinear-positions",
        "trained models resize position embeddings by cubes, where the release is bilinear",
        "src/lexiseg/models/cascade_clip.py",
        'position_mode="bilinear", class_embedding_twice=True',
        'position_mode="bicubic", class_embedding_twice=True',
        ("tests/golden/test_small.py::test_outputs_have_not_moved[zegclip]",),
    ),
    Slip(
        "aggregation-sigma",
        "the width of the neighbourhood aggregation does not reach the stages",
        "src/lexiseg/models/cascade_stage.py",
        "sigma=settings.aggregation_sigma,",
        "sigma=1.0,",
        ("tests/models/test_cascade_clip.py::test_settings_of_the_aggregation_reach_every_stage",),
    ),
    Slip(
        "aggregation-trained",
        "aggregation weights train although the settings say that they do not",
        "src/lexiseg/models/cascade_stage.py",
        "trained=settings.aggregation_trained,",
        "trained=True,",
        ("tests/models/test_cascade_clip.py::test_settings_of_the_aggregation_reach_every_stage",),
    ),
    Slip(
        "nearest-block",
        "the shallowest block of a stage weighs most, not the deepest",
        "src/lexiseg/ops/gaussian.py",
        "distance = torch.arange(blocks - 1, -1, -1, dtype=torch.float32) + nearest",
        "distance = torch.arange(blocks, dtype=torch.float32) + nearest",
        ("tests/models/test_cascade_clip.py::test_gaussian_weights_by_hand",),
    ),
    Slip(
        "rate-of-prompts",
        "the norm beside the prompts learns at the prompts' rate",
        "src/lexiseg/models/cascade_clip.py",
        'prompts="prompts.")',
        'prompts="prompt")',
        ("tests/models/test_cascade_clip.py::test_the_prompts_alone_learn_at_the_rate_of_prompts",),
    ),
    Slip(
        "decay-of-norms",
        "norms and biases are decayed where the settings exempt them",
        "src/lexiseg/models/parameter_groups.py",
        "decays = optim.decay_norms or parameter.ndim > 1",
        "decays = optim.decay_norms or parameter.ndim > 0",
        ("tests/models/test_parameter_groups.py",),
    ),
    Slip(
        "roles-of-the-average",
        "the teacher all but becomes the student at each step",
        "src/lexiseg/models/momentum_teacher.py",
        "mine.mul_(self.momentum).add_(theirs, alpha=1 - self.momentum)",
        "mine.mul_(1 - self.momentum).add_(theirs, alpha=self.momentum)",
        ("tests/models/test_momentum_teacher.py",),
    ),
    Slip(
        "sinkhorn-iterations",
        "masks are balanced over clusters by the published number of rounds, whatever the settings say",
        "src/lexiseg/models/pixel_clip.py",
        "iterations=settings.assignment_iterations,",
        "iterations=3,",
        ("tests/models/test_pixel_clip.py",),
    ),
    Slip(
        "view-of-the-teacher",
        "the teacher pools its masks from the strong view",
        "src/lexiseg/models/pixel_clip.py",
        "self._features(self.teacher or self.student, batch.weak[images])",
        "self._features(self.teacher or self.student, batch.strong[images])",
        ("tests/models/test_pixel_clip.py",),
    ),
)

_LOSS_AND_SCHEDULE = (
    Slip(
        "rate-of-new-parts",
        "LSeg's decoder, which starts from scratch, learns at the encoder's rate",
        "src/lexiseg/models/lseg.py",
        '_SCRATCH = ("decoder.", "head.", "block.")',
        '_SCRATCH = ("head.", "block.")',
        ("tests/models/test_lseg.py::test_what_starts_from_scratch_learns_faster_and_all_of_it_trains",),
    ),
    Slip(
        "block-that-repeats",
        "LSeg's block is applied once, whatever its depth",
        "src/lexiseg/models/spatial_regularization.py",
        "max(depth, 1), activation",
        "1, activation",
        ("tests/models/test_lseg.py::test_the_block_by_loops",),
    ),
    Slip(
        "axis-of-grounding",
        "a word looks for its best word among words, not for its regions",
        "src/lexiseg/losses/region_word_grounding.py",
        "(cosines / attention_temperature).softmax(1)",
        "(cosines / attention_temperature).softmax(-1)",
        ("tests/losses/test_region_word_grounding.py::test_scores_by_loops",),
    ),
    Slip(
        "best-label-of-a-proposal",
        "each proposal takes its best label, not each label its best proposal",
        "src/lexiseg/losses/best_proposal_dice.py",
        "(1 - dice_coefficients(own, label).amax(0)).mean()",
        "(1 - dice_coefficients(own, label).amax(1)).mean()",
        ("tests/losses/test_best_proposal_dice.py::test_by_loops",),
    ),
    Slip(
        "dice-weight",
        "dice's gradient forgets its weight",
        "src/lexiseg/losses/fused.py",
        "scale = self.weights.dice / self.num_masks * present",
        "scale = present / self.num_masks",
        ("tests/losses/test_fused.py",),
    ),
    Slip(
        "focal-gamma",
        "the focal gradient has the published exponent, whatever gamma says",
        "src/lexiseg/losses/fused.py",
        "full = s.mul_(q).mul_(w.gamma).add_(p).mul_(self.power)",
        "full = s.mul_(q).mul_(2.0).add_(p).mul_(self.power)",
        ("tests/losses/test_fused.py",),
    ),
    Slip(
        "area-of-ignored-pixels",
        "ignored pixels add nothing to the loss but still divide it",
        "src/lexiseg/losses/fused.py",
        "self.area = max(int((~self.ignored).sum()), 1)",
        "self.area = len(labels)",
        ("tests/losses/test_fused.py",),
    ),
    Slip(
        "ignored-pixels-of-ssim",
        "SPT-SEG's loss counts pixels that focal and dice ignore",
        "src/lexiseg/losses/criterion.py",
        "mask_ssim_loss(logits, labels, ignored=self.weights.ignored)",
        "mask_ssim_loss(logits, labels)",
        ("tests/losses/test_structural_similarity.py",),
    ),
    Slip(
        "poly-power",
        "the learning rate falls in a line",
        "src/lexiseg/training/optim.py",
        "left**settings.power",
        "left",
        ("tests/training/test_optim.py",),
    ),
    Slip(
        "warm-up",
        "the warm-up scales the peak rate, not the polynomial's value",
        "src/lexiseg/training/optim.py",
        "return regular * _warmed_up(step, settings)",
        "return min(regular, settings.lr * _warmed_up(step, settings))",
        ("tests/training/test_optim.py",),
    ),
    Slip(
        "schedule-of-two-stages",
        "the inductive stage of self-training decays its rate over its own steps, not over both stages'",
        "src/lexiseg/training/task.py",
        "steps = self.optim.schedule_steps or self.trainer.max_steps",
        "steps = self.trainer.max_steps",
        ("tests/training/test_task.py",),
    ),
    Slip(
        "pseudo-label-confidence",
        "self-training takes unsure labels, whatever the settings say",
        "src/lexiseg/training/task.py",
        "confidence = self.self_training.confidence\n",
        "confidence = 0.0\n",
        ("tests/training/test_task.py",),
    ),
    Slip(
        "pseudo-labels-of-the-teacher",
        "self-training takes its labels from the model that is trained, though there is a teacher",
        "src/lexiseg/training/task.py",
        "logits = self.teacher(images, self.text).logits",
        "self.teacher(images, self.text)",
        ("tests/training/test_task.py",),
    ),
    Slip(
        "steps-of-the-teacher",
        "the self-training teacher follows after every batch, not after every optimiser step",
        "src/lexiseg/training/task.py",
        "if self.teacher is not None and self.trainer.global_step != self._followed:",
        "if self.teacher is not None:",
        ("tests/training/test_task.py",),
    ),
    Slip(
        "best-checkpoint",
        "best.ckpt is the last validation's model",
        "src/lexiseg/training/checkpointing.py",
        "        self.best_score = float(score)\n",
        "",
        ("tests/training/test_checkpointing.py",),
    ),
)

_DATA_AND_RUNS = (
    Slip(
        "seed-of-data",
        "runs of all seeds see the same data order",
        "src/lexiseg/recipes/training.py",
        "data = run.data.module(split, run.seed)",
        "data = run.data.module(split, 0)",
        ("tests/recipes/test_seeds.py::test_a_run_hands_its_seed_to_data_and_weights",),
    ),
    Slip(
        "seed-of-weights",
        "runs of all seeds start from the same weights",
        "src/lexiseg/recipes/training.py",
        "pl.seed_everything(run.seed, verbose=False)",
        "pl.seed_everything(0, verbose=False)",
        ("tests/recipes/test_seeds.py::test_a_run_hands_its_seed_to_data_and_weights",),
    ),
    Slip(
        "seed-of-augmentation",
        "runs of all seeds augment alike",
        "src/lexiseg/data/resuming.py",
        "np.random.default_rng((self.seed, index if self.fixed else position))",
        "np.random.default_rng((0, index if self.fixed else position))",
        ("tests/recipes/test_seeds.py",),
    ),
    Slip(
        "order-of-epochs",
        "every epoch has the order of the first",
        "src/lexiseg/data/sampler.py",
        "return np.random.default_rng((seed, epoch)).permutation(size)",
        "return np.random.default_rng((seed, 0)).permutation(size)",
        ("tests/data/test_sampler.py",),
    ),
    Slip(
        "shares-of-processes",
        "all processes draw the same samples",
        "src/lexiseg/data/sampler.py",
        "position, epoch, order = self.start + self.rank, -1,",
        "position, epoch, order = self.start, -1,",
        ("tests/data/test_sampler.py",),
    ),
    Slip(
        "resumed-position",
        "a resumed run with gradient accumulation sees samples again",
        "src/lexiseg/data/resuming.py",
        "return self.batch_size * trainer.accumulate_grad_batches * trainer.world_size",
        "return self.batch_size * trainer.world_size",
        ("tests/data/test_datamodule.py::test_resuming_continues_at_the_next_unused_sample",),
    ),
    Slip(
        "resumed-random-state",
        "a resumed run draws other dropout than one that was never stopped",
        "src/lexiseg/training/resumable_task.py",
        "restore_random_state(self._pending_rng)\n",
        "pass\n",
        ("tests/training/test_runs.py::test_resuming_is_exact[after]",),
    ),
    Slip(
        "flip-of-mask",
        "a training image is mirrored and its labels are not",
        "src/lexiseg/data/transforms.py",
        "return image[:, ::-1], label[:, ::-1]",
        "return image[:, ::-1], label",
        ("tests/data/test_transforms.py",),
    ),
    Slip(
        "flip-of-class-agnostic-masks",
        "PixelCLIP's photograph is mirrored and its masks are not",
        "src/lexiseg/data/mask_views.py",
        "place = 1 - place",
        "place = place.copy()",
        ("tests/data/test_mask_views.py",),
    ),
    Slip(
        "unseen-labels",
        "inductive training sees labels of unseen classes",
        "src/lexiseg/data/splits.py",
        'if split.setting == "supervised" else split.seen_ids',
        'if split.setting != "transductive" else split.seen_ids',
        ("tests/data/test_splits.py",),
    ),
    Slip(
        "unseen-labels-steer-crops",
        "labels are hidden after the crop, so that unseen classes help to choose it",
        "src/lexiseg/data/datamodule.py",
        """image, label = self._transformed(sample.image, self.table[sample.label], rng)
        return Sample(image, label, sample.name)""",
        """image, label = self._transformed(sample.image, sample.label, rng)
        return Sample(image, self.table[label], sample.name)""",
        ("tests/data/test_datamodule.py::test_unseen_labels_are_hidden_before_the_crop_is_chosen",),
    ),
    Slip(
        "harmonic-mean",
        "the harmonic mean is the arithmetic one",
        "src/lexiseg/metrics/functional.py",
        "2 * seen * unseen / (seen + unseen)",
        "(seen + unseen) / 2",
        ("tests/metrics/test_functional.py",),
    ),
    Slip(
        "rejected-pixels",
        "pixels that were given no class are no misses of their class",
        "src/lexiseg/metrics/functional.py",
        "hit, true = square.diagonal(), confusion.sum(1).double()",
        "hit, true = square.diagonal(), square.sum(1)",
        ("tests/metrics/test_functional.py",),
    ),
    Slip(
        "absent-classes",
        "a class that only predictions name enters the mean as 0",
        "src/lexiseg/metrics/functional.py",
        "return torch.where(true > 0, hit / union, torch.nan)",
        "return torch.where(union > 0, hit / union, torch.nan)",
        ("tests/metrics/test_functional.py",),
    ),
    Slip(
        "protocol-of-eval",
        "`eval protocol.KEY=VALUE` is read and dropped",
        "src/lexiseg/recipes/evaluate.py",
        "InferenceProtocol.from_dict(own | dict(task.protocol))",
        "InferenceProtocol.from_dict(dict(task.protocol) | own)",
        ("tests/recipes/test_evaluate.py::test_what_the_task_names_wins_over_the_checkpoint",),
    ),
    Slip(
        "photographs-of-processes",
        "every process scores all photographs, so that each counts several times",
        "src/lexiseg/evaluation/evaluate.py",
        "indices = range(rank, total, world)",
        "indices = range(total)",
        ("tests/evaluation/test_evaluate.py",),
    ),
    Slip(
        "order-of-named-masks",
        "the classes of given masks are told largest mask first, whatever order the masks came in",
        "src/lexiseg/inference/decision.py",
        "touches.vote.as_given(chosen).long()",
        "chosen.long()",
        ("tests/evaluation/test_naming.py", "tests/inference/test_region_models.py"),
    ),
    Slip(
        "masks-without-truth",
        "a mask of mostly unlabelled pixels is judged by the few that have a label",
        "src/lexiseg/metrics/mask_naming.py",
        "(most > 0) & (most >= counts[:, num_classes])",
        "(most > 0)",
        ("tests/metrics/test_mask_naming.py",),
    ),
    Slip(
        "area-rule-of-named-masks",
        "a benchmark's area rule keeps small given masks from their names",
        "src/lexiseg/evaluation/benchmark.py",
        "**({} if masks is None else NAMING_PROTOCOL)",
        "**({} if masks is None else {})",
        ("tests/evaluation/test_benchmark.py::test_given_masks_lift_the_area_rule_unless_it_is_asked_for",),
    ),
    Slip(
        "weights-in-a-cell",
        "a benchmark takes the kept score of a trained model for one of other weights",
        "src/lexiseg/evaluation/benchmark.py",
        '{"weights": choice.fingerprint, "model": choice.info.model}',
        '{"model": choice.info.model}',
        ("tests/evaluation/test_trained_row.py::test_a_cell_knows_the_weights",),
    ),
    Slip(
        "checkpoint-of-another-run",
        "a run started anew and stopped early names the checkpoint of the run before it",
        "src/lexiseg/recipes/run_folder.py",
        "foreign = None if resume_from == last else _stamp(last)",
        "foreign = None",
        ("tests/recipes/test_run_folder.py",),
    ),
    Slip(
        "workers-hear-ctrl-c",
        "worker processes hear Ctrl-C while they import, and fill the terminal with tracebacks",
        "src/lexiseg/interruption.py",
        "before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})",
        "before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})",
        ("tests/test_interruption.py::test_children_started_without_interrupts_never_hear_one",),
    ),
)

_FC_CLIP = (
    Slip(
        "fc-clip-shares",
        "the frozen classifier counts for seen classes as much as it should for unseen ones",
        "src/lexiseg/models/fc_clip.py",
        "torch.where(words.seen, self.settings.seen_share, self.settings.unseen_share)",
        "torch.where(words.seen, self.settings.unseen_share, self.settings.seen_share)",
        ("tests/models/test_fc_clip.py::test_scores_are_the_released_formula_region_by_region",),
    ),
    Slip(
        "fc-clip-unseen-region",
        "what a frozen classifier says of a region that it cannot see is mixed in",
        "src/lexiseg/models/fc_clip.py",
        "share * state.visible[..., None])",
        "share * torch.ones_like(state.visible)[..., None])",
        ("tests/models/test_fc_clip.py::test_an_image_without_a_single_region",),
    ),
    Slip(
        "ensemble-reads-what-has-no-share",
        "a number that is none reaches the scores though its share is 0",
        "src/lexiseg/ops/score_ensemble.py",
        "frozen = torch.where(share > 0, frozen, 0.0)",
        "frozen = torch.where(share >= 0, frozen, 0.0)",
        ("tests/ops/test_score_ensemble.py",),
    ),
    Slip(
        "panoptic-outside-of-its-mask",
        "a pixel belongs to the strongest region even where its mask is below one half",
        "src/lexiseg/ops/mask_classification.py",
        "int(inside.sum()), own & inside",
        "int(inside.sum()), own",
        ("tests/ops/test_mask_classification.py::test_panoptic_map",),
    ),
    Slip(
        "resnet-batch-statistics",
        "a ResNet that is tuned normalises by its batch, and changes the statistics it was trained with",
        "src/lexiseg/clip/towers/resnet.py",
        "training=False",
        "training=self.training",
        ("tests/clip/towers/test_resnet.py",),
    ),
)

_COMPOSED = (
    Slip(
        "overlap-by-intersection",
        "a given region takes the embedding of the largest proposal that covers it",
        "src/lexiseg/ops/given_regions.py",
        "(shared / union.clamp(min=1)).argmax(1)",
        "shared.argmax(1)",
        ("tests/ops/test_given_regions.py",),
    ),
    Slip(
        "bare-masks-open-everything",
        "shadow tokens of bare masks see every patch",
        "src/lexiseg/ops/shadow_attention.py",
        "masked_fill(~touched, _CLOSED)",
        "masked_fill(~touched, 0.0)",
        ("tests/models/region_classifiers/test_shadow_tokens.py::test_bare_masks_are_the_bias",),
    ),
    Slip(
        "nothing-beside-one-class",
        "whether a region is a thing is weighed against no class's logit",
        "src/lexiseg/ops/region_scores.py",
        "nothing = logits.logsumexp(-1) - things",
        "nothing = -things",
        ("tests/ops/test_region_scores.py::test_things_by_hand",),
    ),
    Slip(
        "invisible-regions-count",
        "a region that a composed model's classifier cannot see has scores all the same",
        "src/lexiseg/models/two_stage.py",
        "scores if embedded.visible is None else scores * embedded.visible[..., None]",
        "scores",
        ("tests/models/test_two_stage.py::test_a_region_that_the_classifier_cannot_see_adds_nothing",),
    ),
)

_CUT_OUT_REGIONS = (
    Slip(
        "fusion-exponents",
        "seen classes get the exponents that the paper of ZegFormer prints, not those of its code",
        "src/lexiseg/ops/region_scores.py",
        "return geometric_mean(segment, mean, 1 - weight).where(seen, unseen_scores)",
        "return geometric_mean(segment, mean, weight).where(seen, unseen_scores)",
        ("tests/ops/test_region_scores.py", "tests/models/test_zegformer.py"),
    ),
    Slip(
        "box-of-a-flat-mask",
        "a mask of one row keeps its box without height instead of the whole picture",
        "src/lexiseg/ops/region_crops.py",
        "(boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])",
        "(boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])",
        ("tests/ops/test_region_crops.py",),
    ),
    Slip(
        "samples-of-a-bin",
        "a crop reads one sample per bin, however large the box",
        "src/lexiseg/ops/region_crops.py",
        "samples = max(math.ceil(extent / bins), 1)",
        "samples = 1",
        ("tests/ops/test_region_crops.py",),
    ),
    Slip(
        "blank-before-the-crop",
        "what surrounds a region stays in its crop",
        "src/lexiseg/ops/region_crops.py",
        "roi_align(image * mask if blank else image, tuple(box), side)",
        "roi_align(image, tuple(box), side)",
        ("tests/ops/test_region_crops.py",),
    ),
    Slip(
        "content-before-the-box",
        "OVSeg's regions reach into the padding",
        "src/lexiseg/models/region_classifiers/masked_crops.py",
        'if self.style == "region" and content is not None:',
        'if self.style == "mask" and content is not None:',
        ("tests/models/region_classifiers/test_masked_crops.py", "tests/models/test_ovseg.py"),
    ),
    Slip(
        "padding-is-not-black",
        "padding is recoloured like the picture",
        "src/lexiseg/ops/region_crops.py",
        "raw = images[..., :height, :width] * given[1] + given[0]",
        "raw = images[..., :height, :width] * given[1] + 0 * given[0]",
        ("tests/ops/test_region_crops.py::test_change_colors",),
    ),
    Slip(
        "prompts-after-the-block",
        "mask prompt tokens of depth d are put in one block too early",
        "src/lexiseg/models/region_classifiers/mask_prompts.py",
        "patched(index + 1, tokens[:, 1:])",
        "patched(index, tokens[:, 1:])",
        ("tests/models/region_classifiers/test_mask_prompts.py",),
    ),
    Slip(
        "queries-passed-on-without-norm",
        "the next layer of MaskFormer's decoder gets the queries normed",
        "src/lexiseg/models/proposers/maskformer.py",
        "            layers.append(transformer.decoder.layernorm(queries))\n",
        "            queries = transformer.decoder.layernorm(queries)\n            layers.append(queries)\n",
        ("tests/models/proposers/test_maskformer.py::test_decoder_layer_by_layer",),
    ),
    Slip(
        "not-shown-counts-as-one",
        "in the released ensemble of OVSeg a region that CLIP was not shown has its own score for CLIP's",
        "src/lexiseg/models/ovseg.py",
        'self.settings.not_shown == "one"',
        'self.settings.not_shown != "one"',
        ("tests/models/test_ovseg.py",),
    ),
)

_SIDE_ADAPTER = (
    Slip(
        "last-layer-of-the-set-criterion",
        "the first layer is judged twice and the last never",
        "src/lexiseg/losses/segment_criterion.py",
        "last = predictions[-1]",
        "last = predictions[0]",
        ("tests/losses/test_segment_criterion.py",),
    ),
    Slip(
        "weight-of-nothing",
        "queries without a target weigh as much as the others",
        "src/lexiseg/losses/segment_criterion.py",
        "weight[-1] = nothing",
        "weight[-1] = 1.0",
        ("tests/losses/test_segment_criterion.py",),
    ),
    Slip(
        "masks-of-all-processes",
        "every process divides by its own number of masks",
        "src/lexiseg/losses/shared_count.py",
        "count = count / dist.get_world_size()",
        "count = count / 1",
        ("tests/losses/test_segment_criterion.py::test_two_processes_divide_by_their_mean",),
    ),
    Slip(
        "shadow-sees-itself",
        "a shadow token does not see itself",
        "src/lexiseg/ops/shadow_attention.py",
        "_CLOSED * (1 - torch.eye(",
        "_CLOSED * (1 - 0 * torch.eye(",
        (
            "tests/ops/test_shadow_attention.py",
            "tests/models/region_classifiers/test_shadow_tokens.py::test_equals_every_region_alone",
        ),
    ),
    Slip(
        "first-shadow-block",
        "the shadow tokens leave out the first of CLIP's last blocks",
        "src/lexiseg/models/region_classifiers/shadow_tokens.py",
        "range(early.last, tower.depth)",
        "range(early.last + 1, tower.depth)",
        ("tests/models/region_classifiers/test_shadow_tokens.py",),
    ),
    Slip(
        "positions-before-every-block",
        "the side adapter adds positions before its first block alone",
        "src/lexiseg/models/proposers/side_adapter.py",
        "            tokens = tokens + positions\n",
        "            tokens = tokens + 0 * positions\n",
        ("tests/models/proposers/test_side_adapter.py",),
    ),
    Slip(
        "factor-of-clips-image",
        "CLIP's image is sampled by the ratio of the rounded sizes, not by the factor",
        "src/lexiseg/models/early_blocks.py",
        "images, scale_factor=self.resolution, mode",
        "images, size=[int(s * self.resolution) for s in images.shape[-2:]], mode",
        ("tests/models/test_early_blocks.py",),
    ),
    Slip(
        "trained-positions-of-clip",
        "the position embedding that CLIP's first blocks read is the frozen one",
        "src/lexiseg/models/early_blocks.py",
        "positions=self.positions)",
        "positions=None)",
        ("tests/models/test_early_blocks.py",),
    ),
    Slip(
        "late-blocks-of-published-files",
        "the blocks after the shadow tokens join keep CLIP's numbers in the published layout",
        "src/lexiseg/checkpoints/layouts/san.py",
        "int(number) - early * late",
        "int(number)",
        ("tests/checkpoints/layouts/test_san_layout.py",),
    ),
)

_CAPTIONS_AND_PAIRS = (
    Slip(
        "words-of-a-caption",
        "regions are grounded in the names of their masks, which have none, instead of the caption's words",
        "src/lexiseg/types.py",
        "(self.classes if self.caption is None else self.caption).unique()",
        "self.classes.unique()",
        ("tests/losses/test_open_seg_criterion.py::test_words_of_a_caption_in_the_place_of_classes",),
    ),
    Slip(
        "region-of-a-word",
        "a word takes the region that is least like it",
        "src/lexiseg/recipes/region_pairs.py",
        "best = cosines.max(1)",
        "best = cosines.min(1)",
        ("tests/recipes/test_region_pairs.py",),
    ),
    Slip(
        "cosine-after-the-warm-up",
        "the cosine is laid out for all steps, warm-up included, and does not reach its end",
        "src/lexiseg/training/optim.py",
        "after = max(max_steps - settings.warmup_steps, 1)",
        "after = max_steps",
        ("tests/training/test_optim.py::test_cosine_after_a_warm_up_by_hand",),
    ),
    Slip(
        "tokens-beside-a-clip",
        "OVSeg ignores the mask prompt tokens that were tuned on its CLIP",
        "src/lexiseg/recipes/training.py",
        "(tokens := read_mask_prompts(clip)) is not None",
        '(tokens := read_mask_prompts("")) is not None',
        ("tests/cli/test_maskadapt.py",),
    ),
)

SLIPS = (
    _WORDS_AND_RULES
    + _PHOTOGRAPH_TO_LABELS
    + _TOWERS_AND_READINGS
    + _MODELS
    + _LOSS_AND_SCHEDULE
    + _DATA_AND_RUNS
    + _FC_CLIP
    + _SIDE_ADAPTER
    + _COMPOSED
    + _CUT_OUT_REGIONS
    + _CAPTIONS_AND_PAIRS
)
"""Every slip."""
