"""Texts that are nearly the same: MinHash proposes them, the Jaccard index of their 5-grams decides."""

from __future__ import annotations

import unicodedata

import numpy as np

from lidr.errors import ConfigError

SHINGLE = 5  # characters; the usual choice for short texts (Leskovec et al., Mining of Massive Datasets, 3.2)
_VALUES = 128  # of a MinHash signature; the share of equal ones estimates a Jaccard index of 0.8 within 0.035 (1 sd)
_MAX_BANDS = 20  # each costs a key per text in memory, about 0.2 KB
_FOUND = 0.995  # of the pairs at the threshold the bands propose at least this share
_MARGIN = 0.18  # four standard deviations of an estimate: candidates further below the threshold are not compared
_COMPARED = 20  # of many candidates the likeliest are compared, so that texts from one template cost little
_LOWEST = 0.3  # below it texts that have little in common would count as nearly equal
_MULTIPLIERS = np.random.default_rng(0).integers(1, 2**63, size=(_VALUES, 1), dtype=np.uint64) | np.uint64(1)
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the multiplier of Fibonacci hashing (Knuth, TAOCP 3, 6.4)


class NearDuplicates:
    """Finds texts that share most of their character 5-grams with one seen before.

    MinHash with banding (Broder 1997) proposes, the Jaccard index of the sets of 5-grams decides. It is our own, since
    the libraries depend on SciPy. Raises ConfigError for a threshold out of range.
    """

    def __init__(self, threshold: float) -> None:
        if not _LOWEST <= threshold <= 1:
            raise ConfigError(f"--near {threshold}: a Jaccard index from {_LOWEST} to 1; 0 keeps near duplicates")
        self.threshold = threshold
        self._rows, self._bands = banding(threshold)
        self._texts: list[str] = []
        self._signatures = np.empty((1024, _VALUES), dtype=np.uint32)
        self._buckets: dict[int, list[int]] = {}

    def seen(self, text: str) -> bool:
        """Whether a text is nearly equal to an earlier one; if not, it is kept to compare later ones with."""
        text = normalized(text)
        shingles = _shingles(text)
        signature = _signature(shingles)
        keys = self._keys(signature)
        candidates = {number for key in keys for number in self._buckets.get(key, ())}
        if candidates and self._has_near(shingles, signature, np.array(sorted(candidates))):
            return True
        if len(self._texts) == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[len(self._texts)] = signature
        for key in keys:
            self._buckets.setdefault(key, []).append(len(self._texts))
        self._texts.append(text)
        return False

    def _keys(self, signature: np.ndarray) -> list[int]:
        """One integer per band, made of the band's number and values."""
        bands = signature[: self._bands * self._rows].reshape(self._bands, self._rows).astype(np.uint64)
        keys = np.arange(1, self._bands + 1, dtype=np.uint64) * _MIX
        for column in range(self._rows):
            keys = (keys ^ bands[:, column]) * _MIX
            keys ^= keys >> np.uint64(29)
        return [int(key) for key in keys]

    def _has_near(self, shingles: np.ndarray, signature: np.ndarray, candidates: np.ndarray) -> bool:
        estimates = (self._signatures[candidates] == signature).mean(axis=1)
        order = np.argsort(-estimates, kind="stable")[:_COMPARED]
        likeliest = candidates[order[estimates[order] >= self.threshold - _MARGIN]]
        return any(_jaccard(shingles, _shingles(self._texts[number])) >= self.threshold for number in likeliest)


def banding(threshold: float) -> tuple[int, int]:
    """(rows, bands): as many rows per band as still propose 99.5 % of the pairs at the threshold (1 - (1 - t^r)^b)."""
    return next(
        (rows, bands)
        for rows in range(_VALUES, 0, -1)
        for bands in range(1, min(_MAX_BANDS, _VALUES // rows) + 1)
        if 1 - (1 - threshold**rows) ** bands >= _FOUND
    )


def _signature(shingles: np.ndarray) -> np.ndarray:
    """The MinHash values of a set, uint32 (128,)."""
    lowest: np.ndarray = ((_MULTIPLIERS * shingles[None, :]) >> np.uint64(32)).min(axis=1)
    return lowest.astype(np.uint32)


def normalized(text: str) -> str:
    """A text without differences in width and composition of characters (NFKC), case and spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _shingles(text: str) -> np.ndarray:
    """The distinct 5-grams as sorted uint64 hashes; a shorter text is one shingle."""
    points = np.frombuffer(text.ljust(SHINGLE).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(points, SHINGLE)
    hashes = np.zeros(len(windows), dtype=np.uint64)
    for column in range(SHINGLE):
        hashes = (hashes ^ windows[:, column]) * _MIX
        hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes)


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)
