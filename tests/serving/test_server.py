"""The process as it is started: what it says, and that SIGTERM finishes what began."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from serving_cases import WORDS, form, photograph, started, stopped_under_load

COUNT = 7


@pytest.mark.slow
def test_sigterm_finishes_what_began():
    with started("--limit", "batch=1") as (process, client):
        body = form(photograph(131, 173), words=WORDS)
        expected = client.ask("/segment", body)
        assert expected.status == 200
        answers = stopped_under_load(process, client, body, COUNT)
        assert [answer.content for answer in answers] == [expected.content] * COUNT
        _, told = process.communicate(timeout=30)
        assert process.returncode == 143
        assert "every request that had begun is answered" in told
        assert "lexiseg serve --clip toy" in told
        assert len(told.strip().splitlines()) == 1
        with pytest.raises(ConnectionRefusedError):
            client.ask("/health")
