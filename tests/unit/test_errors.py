"""What an error may say."""

from __future__ import annotations

import pickle

import pytest

from pairwise_rm.errors import InputError, StageError


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "the hub at https://me:s3cret@hub.example/hf is out of reach",
            "the hub at https://hub.example/hf is out of reach",
        ),
        ("proxy http://token@10.0.0.1:3128: refused", "proxy http://10.0.0.1:3128: refused"),
        ("https://mirror.example/a@b: no such file", "https://mirror.example/a@b: no such file"),
        ("mail me@example.com", "mail me@example.com"),
        ("abfs://container@account.example/x: refused", "abfs://container@account.example/x: refused"),
    ],
)
def test_an_error_holds_no_credentials_of_a_url(message: str, said: str) -> None:
    assert str(InputError(message)) == said


def test_an_error_comes_back_from_a_ray_worker_as_it_was() -> None:
    error = pickle.loads(pickle.dumps(StageError("a full disk")))
    assert (type(error), str(error)) == (StageError, "a full disk")
