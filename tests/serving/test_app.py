"""A real server on loopback: its answers are the pipeline's, whoever asks at the same time."""

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.segmenter import Segmenter
from lexiseg.ops.run_length import decode_rle, expand_counts
from lexiseg.serving.app import create_app
from lexiseg.serving.limits import Limits
from serving_cases import WORDS, bad_requests, form, photograph, served

TOKEN = base64.b64encode(b"a token for tests").decode()
MOST_BYTES = 2**17


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.load(clip="toy", device="cpu", method="maskclip")


@pytest.fixture(scope="module")
def client(pipeline):
    with served(create_app(pipeline, Limits(gather_seconds=0.2))) as there:
        yield there


def labels_of(told):
    """The label map that the run lengths of an answer make."""
    labels = np.full((told["height"], told["width"]), -1)
    for found in told["found"]:
        mask = decode_rle(expand_counts(found["rle"]["counts"]), tuple(found["rle"]["size"]))
        assert mask.sum() == found["pixels"]
        labels[mask] = found["id"]
    return labels


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def same(told, result):
    assert (labels_of(told) == result.labels).all()
    assert told["id2label"] == {str(index): name for index, name in result.id2label.items()}
    for found in told["found"]:
        assert found["mean_score"] == result.mean_scores[found["name"]]  # to the bit


def sharp(height, width, seed):
    """A picture in which several words are found."""
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[:, : width // 2] = (200, 30, 30)
    picture[: height // 2, width // 2 :] = np.random.default_rng(seed).integers(0, 256, (3,))
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def test_clients_who_ask_at_once_are_answered_together_and_each_as_alone(client, pipeline):
    images = [sharp(61, 61, 0), sharp(61, 67, 1), photograph(53, 71), sharp(61, 61, 3)]
    segmenter = pipeline.segmenter(WORDS)
    with ThreadPoolExecutor(len(images)) as pool:
        answers = list(pool.map(lambda image: client.ask("/segment", form(image, words=WORDS)), images))
    for image, answer in zip(images, answers, strict=True):
        assert answer.status == 200, answer.content
        same(answer.json, segmenter.segment(image))
    assert max(len(answer.json["found"]) for answer in answers) > 1
    counts = client.ask("/metrics").content.decode()
    assert 'lexiseg_batch_size_bucket{kind="segment",le="1.0"} 0.0' in counts
    assert 'lexiseg_requests_total{route="/segment",status="200"} 4.0' in counts


def test_every_rule_reaches_the_segmenter(client, pipeline):
    image, rules = sharp(41, 59, 5), {"background": "water, grass", "threshold": 0.4, "refine": 2}
    expected = pipeline.segmenter("bricks, sand", **rules).segment(image)
    texts = {name: str(value) for name, value in rules.items()} | {"words": "bricks, sand"}
    same(client.ask("/segment", form(image, **texts)).json, expected)
    plain = pipeline.segmenter("bricks, sand").segment(image)
    assert (plain.labels != expected.labels).any() or plain.id2label != expected.id2label
    name = client.ask("/encode", form(image)).json["encoding"]
    same(client.ask("/segment_encoded", form(encoding=name, **texts)).json, expected)


def test_a_refinement_that_would_hold_up_everybody_is_refused(pipeline):
    image = sharp(41, 59, 5)
    most = 41 * 59 * 2 * 3
    with served(create_app(pipeline, Limits(refinement=most))) as client:
        name = client.ask("/encode", form(image)).json["encoding"]
        for route, what in (("/segment", {"image": image}), ("/segment_encoded", {"encoding": name})):
            assert client.ask(route, form(**what, words="red; rose", refine="3")).status == 200
            answer = client.ask(route, form(**what, words="red; rose", background="sand", refine="3"))
            assert answer.status == 422
            assert (
                "refine: 3 rounds for 3 words on 2419 pixels are more than is done here"
                in answer.json["error"]
            )


def test_words_that_a_small_clip_has_never_read_are_told(client):
    image = photograph()
    told = client.ask("/segment", form(image, words="sand, a gnu", background="a zebu")).json["warning"]
    assert "gnu" in told
    assert "zebu" in told
    assert client.ask("/segment", form(image, words="sand, water")).json["warning"] is None


def test_pictures_come_back_where_they_are_asked_for(client, pipeline):
    image = sharp(31, 43, 7)
    result = pipeline.segmenter(WORDS).segment(image)
    for output in ("labels", "overlay", "scores"):
        answer = client.ask("/segment", form(image, words=WORDS, output=output))
        assert answer.headers["content-type"] == "image/png"
        assert (pixels(answer.content) == pixels(result.to_bytes(output, image=image))).all(), output


def test_a_photograph_is_turned_upright(client):
    file = io.BytesIO()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (37, 23)).save(file, "JPEG", exif=turned)
    told = client.ask("/segment", form(file.getvalue(), words=WORDS)).json
    assert (told["height"], told["width"]) == (37, 23)


def test_words_of_strangers_touch_no_disk(client, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path))
    assert client.ask("/segment", form(photograph(), words="a word, and another")).status == 200
    assert not list(tmp_path.iterdir())


def test_the_page_and_the_health_need_no_token_and_all_else_does(pipeline):
    with served(create_app(pipeline, token=TOKEN)) as stranger:
        for path in ("/health", "/docs", "/openapi.json"):
            assert stranger.ask(path).status == 200
        body = form(photograph(), words=WORDS)
        for path, sent in (("/metrics", None), ("/segment", body), ("/encode", body), ("/no", None)):
            for wrong in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
                answer = stranger.ask(path, sent, **wrong)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert "token" in answer.json["error"]
        friend = replace(stranger, token=TOKEN)
        assert friend.ask("/segment", body).status == 200
        assert friend.ask("/metrics").status == 200


def test_who_finds_no_room_is_told_when_to_come_again(pipeline, monkeypatch):
    free, busy, original = threading.Event(), threading.Event(), Segmenter.segment_batch

    def slow(*args, **kwargs):
        busy.set()
        assert free.wait(20)
        return original(*args, **kwargs)

    monkeypatch.setattr(Segmenter, "segment_batch", slow)
    body = form(photograph(), words=WORDS)
    with served(create_app(pipeline, Limits(requests=1, retry_seconds=7))) as client:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.ask, "/segment", body)
            assert busy.wait(20)
            refused = client.ask("/segment", body)
            assert (refused.status, refused.headers["retry-after"]) == (503, "7")
            assert "come again" in refused.json["error"]
            assert client.ask("/health").status == 200  # it answers while the model works
            free.set()
            assert first.result().status == 200
        assert client.ask("/segment", body).status == 200  # there is room again


def test_an_answer_that_takes_too_long_is_given_up(pipeline, monkeypatch):
    free, original = threading.Event(), Segmenter.segment_batch
    monkeypatch.setattr(Segmenter, "segment_batch", lambda *a, **k: free.wait(20) and original(*a, **k))
    with served(create_app(pipeline, Limits(seconds=0.2))) as client:
        answer = client.ask("/segment", form(photograph(), words=WORDS))
        assert answer.status == 503
        assert "within 0.2 seconds" in answer.json["error"]
        assert "retry-after" in answer.headers
        free.set()


def test_a_failure_of_ours_is_told_without_its_trace(pipeline, monkeypatch):
    monkeypatch.setattr(Segmenter, "segment_batch", lambda *_, **__: 1 / 0)
    with served(create_app(pipeline)) as client:
        answer = client.ask("/segment", form(photograph(), words=WORDS))
        assert (answer.status, answer.json) == (500, {"error": "the server failed at this; its log says how"})
        assert 'status="500"} 1.0' in client.ask("/metrics").content.decode()


def test_an_encoding_that_is_dropped_or_too_large(pipeline):
    with served(create_app(pipeline, Limits(cache_bytes=1000))) as client:
        answer = client.ask("/encode", form(photograph()))
        assert answer.status == 413
        assert "at most 1000 are kept" in answer.json["error"]


def test_a_hundred_bad_requests_and_the_server_is_right_afterwards(pipeline):
    limits = Limits(bytes=MOST_BYTES, upload_seconds=0.5, pixels=10**6)
    body = form(photograph(), words=WORDS)
    with served(create_app(pipeline, limits)) as client:
        before = client.ask("/segment", body)
        cases = bad_requests(MOST_BYTES)
        assert len(cases) >= 100
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda case: case[1](client), cases))
        for (told, _), answer in zip(cases, answers, strict=True):
            assert 400 <= answer.status < 500, (told, answer)
            assert list(answer.json) == ["error"], told
            sentence = answer.json["error"]
            assert 20 < len(sentence) < 400, (told, sentence)
            assert "\n" not in sentence, (told, sentence)
            assert "Traceback" not in sentence, (told, sentence)
        assert client.ask("/segment", body).content == before.content
        assert "lexiseg_requests_under_way 0.0" in client.ask("/metrics").content.decode()


def test_the_page_tells_of_every_part(client):
    page = client.ask("/openapi.json").json
    for path in ("/segment", "/encode", "/segment_encoded"):
        post = page["paths"][path]["post"]
        schema = post["requestBody"]["content"]["multipart/form-data"]["schema"]
        body = form(**dict.fromkeys(schema["properties"], "x"), unknown="")
        assert "'image' came as text" in (told := client.ask(path, body).json["error"]) or "unknown" in told
        assert {"200", "413", "422", "503"} <= post["responses"].keys()


def test_a_model_that_reads_inside_masks_is_refused():
    with pytest.raises(ConfigError, match="mask"):
        create_app(Pipeline.load(clip="toy", device="cpu", method="lavg"))
