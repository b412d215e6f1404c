"""The keys and the allowlist of a daemon, for its zygote, and so for each child.

Without keys or an allowlist nothing of theirs is loaded: every fork would pay for it.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rqd.model.allowlist import Allowlist
    from rqd.model.signing import Keyring


class Trust:
    """The keys that sign results, and the names that may be called; None for neither."""

    __slots__ = ("_namespace", "allowlist", "keyring")

    def __init__(
        self,
        namespace: bytes = b"",
        keyring: Keyring | None = None,
        allowlist: Allowlist | None = None,
    ) -> None:
        self._namespace = namespace
        self.keyring = keyring
        self.allowlist = allowlist

    def sign_result(self, job_id: bytes, token: bytes, serializer: bytes, result: bytes) -> bytes:
        """Returns the signature of an attempt's result; only where there are keys."""
        from rqd.model.signing import RESULT, result_facts  # noqa: PLC0415 - loaded with the keys

        assert self.keyring is not None
        facts = result_facts(self._namespace, job_id, token, serializer)
        return self.keyring.sign(RESULT, facts, result).encode()


def read_trust(fields: Sequence[bytes]) -> Trust:
    """Reads the trust from a frame's fields: namespace, number of keys, the keys, patterns."""
    namespace, count, *texts = fields
    secrets = [text.decode() for text in texts[: int(count)]]
    patterns = [text.decode() for text in texts[int(count) :]]
    keyring = allowlist = None
    if secrets:
        from rqd.model.signing import Keyring  # noqa: PLC0415 - see the module's docstring

        keyring = Keyring(secrets)
    if patterns:
        from rqd.model.allowlist import Allowlist  # noqa: PLC0415 - see the module's docstring

        allowlist = Allowlist(patterns)
    return Trust(namespace, keyring, allowlist)
