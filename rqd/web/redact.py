"""Hides secrets in the texts of jobs."""

from __future__ import annotations

import re

# `password='x'`, `"token": "x"`, `Authorization: x`; a URL's password.
_NAMED = re.compile(
    r"""(?ix)
    ( (?:pass(?:word|wd|phrase)|secret|token|api_?key|authorization|credentials?)\w{0,20}
      ['"]? \s{0,3} [=:] \s{0,3} )
    ( '[^'\n]*' | "[^"\n]*" | [^\s,)}\]]+ )
    """
)
_IN_URL = re.compile(r"(\w{1,20}://[^\s:/@]{0,100}:)[^\s@/]{1,200}(?=@)")


def hide_secrets(text: str) -> str:
    """Returns the text with the values of passwords, tokens and keys as `***`."""
    return _IN_URL.sub(r"\1***", _NAMED.sub(r"\1***", text))
