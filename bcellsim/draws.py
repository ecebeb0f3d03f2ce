"""Random numbers that depend only on (seed, purpose, replicate, subject, index).

Philox 4x32-10 (Salmon et al., SC11, doi:10.1145/2063384.2063405) evaluated for all subjects at
once: enlarging, re-ordering or chunking a population changes nobody's draws.
"""

from __future__ import annotations

import secrets
from numbers import Integral

import numpy as np
from scipy.special import ndtri

#: What a draw is for; the number is part of the counter, so it must never change.
PURPOSES = {
    "eta": 1, "covariate": 2, "residual": 3, "uncertainty": 4, "start": 5, "occasion": 6,
    "assay": 7, "missed": 8,
}  # fmt: skip

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_SHIFT, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Apply ten rounds of Philox 4x32 to counters (4, n) under keys (2, n) or (2, 1); uint32."""
    c0, c1, c2, c3 = (word.astype(np.uint64) for word in counter)
    k0, k1 = (word.astype(np.uint32) for word in key)
    with np.errstate(over="ignore"):
        for _ in range(10):
            product0, product1 = _M0 * c0, _M1 * c2
            c0, c1, c2, c3 = (
                (product1 >> _SHIFT) ^ c1 ^ k0.astype(np.uint64),
                product1 & _LOW,
                (product0 >> _SHIFT) ^ c3 ^ k1.astype(np.uint64),
                product0 & _LOW,
            )
            k0, k1 = k0 + _W0, k1 + _W1
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def check_seed(seed: int | None) -> int:
    """Return the seed to use and to record: the one given, or a fresh one.

    Raises
    ------
    ValueError
        If it is not a whole number from 0 to 2^63 - 1.
    """
    if seed is None:
        return secrets.randbits(31)
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**63:
        raise ValueError(f"seed = {seed}: a whole number from 0 to 2^63 - 1 is wanted")
    return int(seed)


def uniforms(
    seed: int, purpose: str, subjects: np.ndarray, count: int, *, replicate: int = 0
) -> np.ndarray:
    """Return uniform draws in (0, 1), shape (n_subjects, count).

    Parameters
    ----------
    seed : int
        The one seed of the run.
    purpose : str
        A key of `PURPOSES`.
    subjects : array of int (n_subjects,)
        Subject numbers; the draws of a subject depend on its number only.
    count : int
        Draws per subject.
    replicate : int
        Replicate number.
    """
    subjects = np.asarray(subjects, dtype=np.uint64)
    n = len(subjects)
    counter = np.empty((4, n, count), dtype=np.uint64)
    counter[0] = np.arange(count, dtype=np.uint64)
    counter[1] = subjects[:, None] & _LOW
    counter[2] = ((subjects >> _SHIFT) << np.uint64(8))[:, None] + np.uint64(PURPOSES[purpose])
    counter[3] = np.uint64(replicate)
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint64)
    words = philox(counter.reshape(4, -1), key.reshape(2, 1)).astype(np.uint64)
    bits = (words[0] << np.uint64(20)) ^ (words[1] >> np.uint64(12))  # 52, so that none rounds to 1
    return ((bits.astype(np.float64) + 0.5) * 2.0**-52).reshape(n, count)


def normals(
    seed: int, purpose: str, subjects: np.ndarray, count: int, *, replicate: int = 0
) -> np.ndarray:
    """Return standard normal draws, shape (n_subjects, count), by the inverse distribution."""
    return ndtri(uniforms(seed, purpose, subjects, count, replicate=replicate))
