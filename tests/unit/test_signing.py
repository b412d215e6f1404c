"""A signature says who wrote what; nothing of it can be changed or moved."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqd.exceptions import ConfigurationError
from rqd.model.signing import JOB, META, RESULT, Keyring, Verdict
from rqd.store.signing_keys import keyring_of

OLD, NEW = "an-old-key-of-some-length", "a-new-key-of-some-length"
FACTS = (b"rqd", b"id", b"low")


def test_what_was_signed_is_good() -> None:
    signature = Keyring([OLD]).sign(JOB, FACTS, b"body")

    assert Keyring([OLD]).verify(signature, JOB, FACTS, b"body") is Verdict.GOOD


def test_the_first_key_signs_and_all_verify() -> None:
    ring = Keyring([NEW, OLD])

    assert ring.sign(JOB, FACTS, b"").startswith(Keyring([NEW]).key_ids[0])
    assert ring.verify(Keyring([OLD]).sign(JOB, FACTS, b""), JOB, FACTS, b"") is Verdict.GOOD


def test_another_key_is_unknown_and_no_key_is_unsigned() -> None:
    signature = Keyring([NEW]).sign(JOB, FACTS, b"")

    assert Keyring([OLD]).verify(signature, JOB, FACTS, b"") is Verdict.UNKNOWN_KEY
    assert Keyring([OLD]).verify("", JOB, FACTS, b"") is Verdict.UNSIGNED


@pytest.mark.parametrize(
    ("domain", "facts", "body"),
    [
        (RESULT, FACTS, b"body"),
        (META, FACTS, b"body"),
        (JOB, (b"rqd", b"other", b"low"), b"body"),
        (JOB, (b"rq", b"did", b"low"), b"body"),
        (JOB, (b"rqd", b"idlow"), b"body"),
        (JOB, (b"rqd", b"id", b"low", b""), b"body"),
        (JOB, (b"rqd", b"id"), b"lowbody"),
        (JOB, FACTS, b"body "),
        (JOB, FACTS, b""),
    ],
)
def test_nothing_can_be_changed_or_moved_from_part_to_part(
    domain: bytes, facts: tuple[bytes, ...], body: bytes
) -> None:
    ring = Keyring([OLD])
    signature = ring.sign(JOB, FACTS, b"body")

    assert ring.verify(signature, domain, facts, body) is Verdict.WRONG


@given(st.text())
def test_no_text_passes_as_a_signature(text: str) -> None:
    ring = Keyring([OLD])

    for forged in (text, f"{ring.key_ids[0]}:{text}"):
        assert ring.verify(forged, JOB, FACTS, b"") is not Verdict.GOOD


def test_a_keyring_shows_no_secret_and_is_not_pickled() -> None:
    ring = Keyring([OLD, NEW])

    assert OLD not in repr(ring)
    assert NEW not in repr(ring)
    with pytest.raises(TypeError, match="holds secrets"):
        pickle.dumps(ring)


@pytest.mark.parametrize(
    ("secrets", "why"),
    [
        ([], "there are 0 signing keys"),
        (["short-secret"], "has 12 characters: give 16 to 1,024"),
        (["x" * 2000], "has 2000 characters"),
        (["with a space in the middle"], "a space or a comma"),
        (["with,a,comma,in,the,middle"], "a space or a comma"),
        (["sécret-of-enough-characters"], "not printable ASCII"),
        (["secret-of-enough\nwith-a-line"], "not printable ASCII"),
        ([f"{n:032}" for n in range(17)], "there are 17 signing keys"),
        ("secret-of-enough-characters", "is one string: write a list"),
    ],
)
def test_what_is_no_key_is_refused_without_showing_it(secrets: list[str], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as refusal:
        Keyring(secrets)

    assert not any(secret in str(refusal.value) for secret in secrets if len(secret) > 1)


def test_keys_come_from_the_variable_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# rotated in May\n{NEW}\n\n  {OLD}\n")
    file.chmod(0o600)
    both, named = Keyring([NEW, OLD]).key_ids, {"RQD_SIGNING_KEY_FILE": str(file)}

    assert keyring_of({}) is None
    assert keyring_of({"RQD_SIGNING_KEY": ""}) is None
    for given_keys in (named, {"RQD_SIGNING_KEY": f"{NEW}, {OLD}"}):
        ring = keyring_of(given_keys)
        assert ring is not None
        assert ring.key_ids == both
    ring = keyring_of({"RQD_SIGNING_KEY": OLD, **named})
    assert ring is not None
    assert ring.key_ids == both[1:]


@pytest.mark.parametrize(
    ("mode", "text", "why"),
    [
        (0o604, NEW, "others have access: chmod 600"),
        (0o620, NEW, "others have access"),
        (0o600, "", "there are 0 signing keys"),
        (0o600, "x" * 100_000, "too large"),
    ],
)
def test_a_file_of_keys_that_cant_be_trusted_is_refused(
    tmp_path: Path, mode: int, text: str, why: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    file.chmod(mode)

    with pytest.raises(ConfigurationError, match=why) as refusal:
        keyring_of({"RQD_SIGNING_KEY_FILE": str(file)})
    assert str(file) in str(refusal.value)


@pytest.mark.parametrize("path", ["/no/such/file", "/", "/dev/null"])
def test_what_is_no_file_of_keys_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=f"RQD_SIGNING_KEY_FILE {path}: "):
        keyring_of({"RQD_SIGNING_KEY_FILE": path})


def test_without_keys_nobody_loads_what_signs() -> None:
    program = (
        "import sys; import rqd.daemon.zygote.boot, rqd.model.trust;"
        " assert not {'hmac', 'hashlib', '_hashlib'} & sys.modules.keys(), 'loaded'"
    )
    fresh = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert fresh.returncode == 0, fresh.stderr
