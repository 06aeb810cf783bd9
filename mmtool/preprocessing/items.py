"""What token sets hold of one modality, by key: read from them whenever it is asked for, so that memory does not grow with the tokens."""

from collections.abc import Iterator, Mapping

from mmtool.common.errors import DataError
from mmtool.data.identity import VARIANT_OF
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet

NUMBERED_ROWS = "numbered_rows"  # metadata: modality -> rows of its file, where the key is the number of one of them


class Items(Mapping[str, Sample]):
    """The samples of modality `name`, of that modality alone, by key.

    originals: key of each augmented variant -> that of its original. numbered: each key that is a row number -> rows of its file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.originals: dict[str, str] = {}
        self.numbered: dict[str, int] = {}
        self._parts: list[tuple[TokenSet, int]] = []
        self._indices: dict[str, tuple[int, int]] = {}  # key -> number of the part, and of the sample in it

    def add(self, token_set: TokenSet, number: int, where: object) -> None:
        """Take in the items of a token set, which is the input `number`. Raises DataError for a key that is here already."""
        if not token_set.counts().get(self.name):
            return
        part = token_set.only([self.name])
        for index, key in enumerate(part.keys):
            if key in self._indices:
                fix = "A key may stand once in each modality: leave one out, or rename."
                raise DataError(f"the key {key!r} is given twice for {self.name}.", where=where, fix=fix)
            self._indices[key] = len(self._parts), index
            metadata = part.record(index)["metadata"]
            if VARIANT_OF in metadata:
                self.originals[key] = str(metadata[VARIANT_OF] or key)
            if self.name in metadata.get(NUMBERED_ROWS, {}):
                self.numbered[key] = metadata[NUMBERED_ROWS][self.name]
        self._parts.append((part, number))

    def __getitem__(self, key: str) -> Sample:
        part, index = self._indices[key]
        return self._parts[part][0][index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __contains__(self, key: object) -> bool:
        return key in self._indices

    def input_of(self, key: str) -> int:
        """The number of the input that a key comes from."""
        return self._parts[self._indices[key][0]][1]

    def original_of(self, key: str) -> str:
        """The key of the sample that this one is a variant of; its own where it is none."""
        return self.originals.get(key, key)
