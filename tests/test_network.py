"""Whether a host answers: an answer of any kind counts, silence costs one short wait."""

import pytest

from lightune import network


@pytest.fixture(autouse=True)
def nothing_asked_yet(monkeypatch):
    monkeypatch.setattr(network, "_answers", {})
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_no_address():
    assert "not an http(s) address" in network.why_unreachable("ftp://somewhere")


def test_nobody_listens(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    reason = network.why_no_hub()
    assert reason.startswith("offline: 127.0.0.1:9: ")
    assert "refused" in reason


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_environment_says_offline(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(network, "why_unreachable", lambda endpoint: pytest.fail("asked"))
    assert "HF_HUB_OFFLINE" in network.why_no_hub()


def test_the_hub_is_asked_once(monkeypatch):
    asked = []

    def knock(endpoint: str, result: list[str]) -> None:
        asked.append(endpoint)
        result.append("")

    monkeypatch.setattr(network, "_knock", knock)
    assert [network.why_no_hub(), network.why_no_hub()] == ["", ""]
    assert asked == ["https://huggingface.co"]
